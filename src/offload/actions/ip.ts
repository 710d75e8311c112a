/**
 * set of IPv4 and IPv6 as eBPF, with all checksums that cover the addresses. One code changes the header for both hooks: in the packet at
 * xdp, in a copy on the stack at tc, which is stored back with a helper that knows the state of the packet's checksum.
 */
import { at, R1, R2, R3, R4, R5, R6, R8, R9 } from '../../bpf/index.ts';
import { EtherType, Fragment, IpProtocol } from '../../net/index.ts';
import { header, loadWindow } from './checks.ts';
import { type Compilation, half, type PacketState, word } from './compilation.ts';
import type { ListCompiler } from './compile.ts';
import { formWords, type StepCode, type Transport, type WordForm } from './shape.ts';
import { fold32, MANGLED_0, PSEUDO_HEADER, replaceSum, setHalf, setWord, TRANSPORT, updateSum } from './sums.ts';
import { RECOMPUTE, type ShapeWriter } from './writer.ts';

/** tos and ttl are one parameter each: value and bits that stay of the 16 bits that they lie in. */
export interface Ipv4Step {
  readonly kind: 'ipv4';
  readonly tos: boolean;
  readonly ttl: boolean;
  readonly words: readonly WordForm[];
  readonly transport: Transport;
}

/** The first word (class and label) in part, the hop limit as for IPv4, eight words of addresses. */
export interface Ipv6Step {
  readonly kind: 'ipv6';
  readonly first: boolean;
  readonly ttl: boolean;
  readonly words: readonly WordForm[];
  readonly transport: Transport;
}

/** The transport checksum that addresses are under, and the checks that it takes. */
function transportOf({ all, state }: ListCompiler, version: 4 | 6): Transport {
  const { checks } = all;
  const headerBytes = version === 4 ? 20 : 40;
  if (state.fragment === Fragment.LATER) return 'none';
  const transport = TRANSPORTS.get(state.protocol) ?? (state.protocol === -1 ? 'any' : 'none');
  if (transport === 'none') return transport;
  if (version === 4 && state.fragment === -1) checks.notLater = true;
  needPlain(all, version, state.protocol);
  if (transport === 'any') checks.anyTransport = true;
  else checks.layer3Bytes = Math.max(checks.layer3Bytes, headerBytes + (transport === 'tcp' ? 20 : 8));
  return transport;
}

const TRANSPORTS: ReadonlyMap<number, Transport> = new Map([
  [IpProtocol.TCP as number, 'tcp'],
  [IpProtocol.UDP, 'udp'],
  [IpProtocol.ICMPV6, 'icmp6'],
]);

/** The transport header lies right behind that of IP. */
export function needPlain(all: Compilation, version: 4 | 6, protocol: number): void {
  all.checks.plain = version;
  if (version === 6 && protocol !== -1) all.checks.plainProtocol = protocol;
}

function noteTtl(state: PacketState, value: number, mask: number): void {
  const bits = (mask >>> 8) & 0xff;
  if (bits === 0xff) state.ttl = (value >>> 8) & 0xff;
  else if (bits !== 0) state.ttl = -2;
}

/** @param pairs the IP word, source and destination, each with its mask */
export function compileSetIpv4(list: ListCompiler, pairs: Int32Array): boolean {
  const { state, piece } = list;
  if (!state.keyHolds) return list.refuse('set behind MPLS');
  if (state.etherType !== EtherType.IPV4) return list.refuse('set of IPv4 without a match on the EtherType');
  if (!list.needLayer3(20)) return false;
  const tosMask = (pairs[1] >>> 16) & 0xff;
  const tos = half(piece, (pairs[0] >>> 16) & 0xff, tosMask);
  const ttl = half(piece, pairs[0] & 0xff00, pairs[1] & 0xff00);
  const words = [2, 4].map((at) => word(piece, pairs[at], pairs[at + 1]));
  const addresses = words.some((form) => form !== '-');
  if (!tos && !ttl && !addresses) return true;
  noteTtl(state, pairs[0], pairs[1]);
  const transport = addresses ? transportOf(list, 4) : 'none';
  return list.change({ kind: 'ipv4', tos, ttl, words, transport });
}

/** @param pairs the IP word, four words of source, four of destination, the flow label, each with its mask */
export function compileSetIpv6(list: ListCompiler, pairs: Int32Array): boolean {
  const { state, piece } = list;
  if (!state.keyHolds) return list.refuse('set behind MPLS');
  if (state.etherType !== EtherType.IPV6) return list.refuse('set of IPv6 without a match on the EtherType');
  if (!list.needLayer3(40)) return false;
  const firstMask = (((pairs[1] >>> 16) & 0xff) << 20) | (pairs[19] & 0xf_ffff);
  const firstValue = (((pairs[0] >>> 16) & 0xff) << 20) | (pairs[18] & 0xf_ffff);
  const first = word(piece, firstValue, firstMask) !== '-';
  const ttl = half(piece, (pairs[0] >>> 8) & 0xff, (pairs[1] >>> 8) & 0xff);
  const words = Array.from({ length: 8 }, (_, i) => word(piece, pairs[2 + i * 2], pairs[3 + i * 2]));
  const addresses = words.some((form) => form !== '-');
  if (!first && !ttl && !addresses) return true;
  noteTtl(state, pairs[0], pairs[1]);
  const transport = addresses ? transportOf(list, 6) : 'none';
  return list.change({ kind: 'ipv6', first, ttl, words, transport });
}

export const ipv4: StepCode<Ipv4Step> = {
  name: ({ tos, ttl, words, transport }) =>
    `ipv4(${tos ? 'tos,' : ''}${ttl ? 'ttl,' : ''}${words.join('')},${transport})`,
  parameters: ({ tos, ttl, words }) => words.reduce((sum, form) => sum + formWords(form), Number(tos) + Number(ttl)),
  emit(writer, step) {
    const { b } = writer;
    loadWindow(writer, 4);
    const hasTransport = step.transport !== 'none';
    b.mov(R5, 0);
    if (hasTransport) b.mov(R4, 0);
    if (step.tos) setHalf(writer, header(writer, 0), [R5]);
    if (step.ttl) setHalf(writer, header(writer, 8), [R5]);
    step.words.forEach((form, i) => {
      setWord(writer, header(writer, 12 + i * 4), form, hasTransport ? [R5, R4] : [R5]);
    });
    updateSum(b, header(writer, 10), R5, false);
    storeHeader(writer, 20, 0, hasTransport);
    writer.changed = true;
    transportSum(writer, step.transport, 20, 9);
  },
};

export const ipv6: StepCode<Ipv6Step> = {
  name: ({ first, ttl, words, transport }) =>
    `ipv6(${first ? 'first,' : ''}${ttl ? 'ttl,' : ''}${words.join('')},${transport})`,
  parameters: ({ first, ttl, words }) =>
    words.reduce((sum, form) => sum + formWords(form), Number(first) * 2 + Number(ttl)),
  emit(writer, step) {
    const { b } = writer;
    loadWindow(writer, 6);
    const hasTransport = step.transport !== 'none';
    if (hasTransport) b.mov(R4, 0);
    if (step.first) setWord(writer, header(writer, 0), 'm', []);
    if (step.ttl) setHalf(writer, header(writer, 6), []);
    step.words.forEach((form, i) => {
      setWord(writer, header(writer, 8 + i * 4), form, hasTransport ? [R4] : []);
    });
    storeHeader(writer, 40, RECOMPUTE, hasTransport);
    writer.changed = true;
    transportSum(writer, step.transport, 40, 6);
  },
};

/** tc: store the copy of the header back. The transport's difference moves from R4 to R9, which outlives the call. */
export function storeHeader(writer: ShapeWriter, lengthBytes: number, flags: number, hasTransport: boolean): void {
  const { b, window } = writer;
  if (!writer.isTc || window === null) return;
  if (hasTransport) {
    b.mov(R9, R4);
    fold32(b, R9, R1);
  }
  b.call('skb_store_bytes', R6, R8, window, lengthBytes, flags);
  writer.mustBeZero();
}

/** Addresses have changed: the transport checksum follows. */
function transportSum(writer: ShapeWriter, transport: Transport, headerBytes: number, protocolAt: number): void {
  if (transport === 'none') return;
  if (transport !== 'any') {
    oneTransportSum(writer, transport, headerBytes);
    return;
  }
  const { b } = writer;
  b.load(R1, 'u8', header(writer, protocolAt));
  const bounded = (of: 'tcp' | 'udp' | 'icmp6') => () => {
    if (!writer.isTc) {
      // Checked before the first change already; the verifier wants to see it where it is used.
      b.load(R2, 'u32', at(R6, 4));
      b.needBytes(R8, R2, headerBytes + TRANSPORT[of].bytes, R3, writer.emit.failed);
    }
    oneTransportSum(writer, of, headerBytes);
  };
  b.switch(R1, [
    [IpProtocol.TCP, bounded('tcp')],
    [IpProtocol.UDP, bounded('udp')],
    [IpProtocol.ICMPV6, bounded('icmp6')],
  ]);
}

function oneTransportSum(writer: ShapeWriter, transport: 'tcp' | 'udp' | 'icmp6', headerBytes: number): void {
  const { b } = writer;
  const field = headerBytes + TRANSPORT[transport].field;
  const isUdp = transport === 'udp';
  if (!writer.isTc) {
    updateSum(b, at(R8, field), R4, isUdp);
    return;
  }
  b.if(R9, '!=', 0, () => replaceSum(writer, field, R9, PSEUDO_HEADER | (isUdp ? MANGLED_0 : 0)));
}
