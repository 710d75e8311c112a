/** Set actions for compile.ts: which words they change, whole or in part, what of the packet they need, and their parameters. */
import { isMpls } from '../../flow/index.ts';
import { EtherType, Fragment, IpProtocol } from '../../net/index.ts';
import type { Compilation, PacketState, Piece } from './compilation.ts';
import { network16, network32 } from './order.ts';
import type { Transport, WordForm } from './shape.ts';

/** The form of one word, its parameters added. */
function word(piece: Piece, value: number, mask: number): WordForm {
  if (mask === 0) return '-';
  piece.parameters.push(network32(value & mask));
  if (mask === -1) return 'f';
  piece.parameters.push(network32(~mask));
  return 'm';
}

/** A field within 16 bits: value and the bits that stay, in one parameter. */
function half(piece: Piece, value: number, mask: number): boolean {
  if (mask === 0) return false;
  piece.parameters.push(((network16(~mask & 0xffff) << 16) | network16(value & mask)) >>> 0);
  return true;
}

/** @param pairs three words of value and mask */
export function setEthernet(_all: Compilation, state: PacketState, piece: Piece, pairs: Int32Array): boolean {
  const words = [0, 2, 4].map((at) => word(piece, pairs[at], pairs[at + 1]));
  if (words.every((form) => form === '-')) return true;
  piece.steps.push({ kind: 'ethernet', words });
  state.changed = true;
  return true;
}

function needLayer3(all: Compilation, state: PacketState, bytes: number): boolean {
  if (!state.layer3Known) return all.refuse('set behind a tag on packets of which the flow does not know the tags');
  all.checks.layer3Bytes = Math.max(all.checks.layer3Bytes, bytes);
  all.needsLayer3 = true;
  return true;
}

/** The transport checksum that addresses are under, and the checks that it takes. */
function transportOf(all: Compilation, state: PacketState, version: 4 | 6): Transport {
  const { checks } = all;
  const headerBytes = version === 4 ? 20 : 40;
  if (state.fragment === Fragment.LATER) return 'none';
  const transport = TRANSPORTS.get(state.protocol) ?? (state.protocol === -1 ? 'any' : 'none');
  if (transport === 'none') return transport;
  if (version === 4 && state.fragment === -1) checks.notLater = true;
  plain(all, version, state.protocol);
  if (transport === 'any') checks.anyTransport = true;
  else checks.layer3Bytes = Math.max(checks.layer3Bytes, headerBytes + (transport === 'tcp' ? 20 : 8));
  return transport;
}

const TRANSPORTS: ReadonlyMap<number, Transport> = new Map([
  [IpProtocol.TCP as number, 'tcp'],
  [IpProtocol.UDP, 'udp'],
  [IpProtocol.ICMPV6, 'icmp6'],
]);

function plain(all: Compilation, version: 4 | 6, protocol: number): void {
  all.checks.plain = version;
  if (version === 6 && protocol !== -1) all.checks.plainProtocol = protocol;
}

function noteTtl(state: PacketState, value: number, mask: number): void {
  const bits = (mask >>> 8) & 0xff;
  if (bits === 0xff) state.ttl = (value >>> 8) & 0xff;
  else if (bits !== 0) state.ttl = -2;
}

/** @param pairs the IP word, source and destination, each with its mask */
export function setIpv4(all: Compilation, state: PacketState, piece: Piece, pairs: Int32Array): boolean {
  if (state.etherType !== EtherType.IPV4) return all.refuse('set of IPv4 without a match on the EtherType');
  if (!needLayer3(all, state, 20)) return false;
  const tosMask = (pairs[1] >>> 16) & 0xff;
  const tos = half(piece, (pairs[0] >>> 16) & 0xff, tosMask);
  const ttl = half(piece, pairs[0] & 0xff00, pairs[1] & 0xff00);
  const words = [2, 4].map((at) => word(piece, pairs[at], pairs[at + 1]));
  const addresses = words.some((form) => form !== '-');
  if (!tos && !ttl && !addresses) return true;
  noteTtl(state, pairs[0], pairs[1]);
  const transport = addresses ? transportOf(all, state, 4) : 'none';
  piece.steps.push({ kind: 'ipv4', tos, ttl, words, transport });
  state.changed = true;
  return true;
}

/** @param pairs the IP word, four words of source, four of destination, the flow label, each with its mask */
export function setIpv6(all: Compilation, state: PacketState, piece: Piece, pairs: Int32Array): boolean {
  if (state.etherType !== EtherType.IPV6) return all.refuse('set of IPv6 without a match on the EtherType');
  if (!needLayer3(all, state, 40)) return false;
  const firstMask = (((pairs[1] >>> 16) & 0xff) << 20) | (pairs[19] & 0xf_ffff);
  const firstValue = (((pairs[0] >>> 16) & 0xff) << 20) | (pairs[18] & 0xf_ffff);
  const first = word(piece, firstValue, firstMask) !== '-';
  const ttl = half(piece, (pairs[0] >>> 8) & 0xff, (pairs[1] >>> 8) & 0xff);
  const words = Array.from({ length: 8 }, (_, i) => word(piece, pairs[2 + i * 2], pairs[3 + i * 2]));
  const addresses = words.some((form) => form !== '-');
  if (!first && !ttl && !addresses) return true;
  noteTtl(state, pairs[0], pairs[1]);
  const transport = addresses ? transportOf(all, state, 6) : 'none';
  piece.steps.push({ kind: 'ipv6', first, ttl, words, transport });
  state.changed = true;
  return true;
}

/** @param pairs the ports with their mask */
export function setPorts(
  all: Compilation,
  state: PacketState,
  piece: Piece,
  isTcp: boolean,
  pairs: Int32Array,
): boolean {
  const protocol = isTcp ? IpProtocol.TCP : IpProtocol.UDP;
  if (state.protocol !== protocol) return all.refuse('set of ports without a match on the protocol');
  const version = state.etherType === EtherType.IPV4 ? 4 : state.etherType === EtherType.IPV6 ? 6 : 0;
  if (version === 0) return all.refuse('set of ports without a match on the EtherType');
  // A later fragment has no ports, and stays as it is.
  if (state.fragment === Fragment.LATER) return true;
  if (!needLayer3(all, state, (version === 4 ? 20 : 40) + (isTcp ? 20 : 8))) return false;
  if (version === 4 && state.fragment === -1) all.checks.notLater = true;
  plain(all, version, protocol);
  const form = word(piece, pairs[0], pairs[1]);
  if (form === '-') return true;
  piece.steps.push({ kind: 'ports', version, word: form, transport: isTcp ? 'tcp' : 'udp' });
  state.changed = true;
  return true;
}

/** @param pairs the outermost label stack entry with its mask */
export function setMpls(all: Compilation, state: PacketState, piece: Piece, pairs: Int32Array): boolean {
  if (!isMpls(state.etherType)) return all.refuse('set of MPLS without a match on the EtherType');
  if (!needLayer3(all, state, 4 * (state.popped + 1))) return false;
  const form = word(piece, pairs[0], pairs[1]);
  if (form === '-') return true;
  piece.steps.push({ kind: 'setMpls', word: form });
  state.changed = true;
  return true;
}

/** @param pairs value and mask of the mark or the priority */
export function setMetadata(
  all: Compilation,
  state: PacketState,
  piece: Piece,
  field: 'mark' | 'priority',
  pairs: Int32Array,
): boolean {
  if (all.context.hook === 'xdp') return all.refuse(`set of the packet's ${field}`);
  if (pairs[1] === 0) return true;
  piece.parameters.push((pairs[0] & pairs[1]) >>> 0, ~pairs[1] >>> 0);
  piece.steps.push({ kind: 'metadata', field });
  state.changed = true;
  return true;
}
