/** Options of Neighbor Discovery messages (icmpv6.ts): type, length in units of eight bytes, data. */
import { formatIpv6, formatMac } from './address.ts';
import { u32 } from './bytes.ts';
import type { Emitter } from './emitter.ts';
import { WireError } from './error.ts';

/** One option; those that are unknown or of a wrong length stay as they are. */
export type NdOption =
  | { kind: 'source-link-address' | 'target-link-address'; mac: string }
  | {
      kind: 'prefix';
      prefixLength: number;
      onLink: boolean;
      autonomous: boolean;
      validLifetimeSeconds: number;
      preferredLifetimeSeconds: number;
      prefix: string;
    }
  /** The packet that made the router send a redirect, as much of it as fits: a multiple of eight bytes. */
  | { kind: 'redirected'; packet: Uint8Array }
  /** In bytes. */
  | { kind: 'mtu'; mtu: number }
  /** `data` fills the option up to a multiple of eight bytes, its type and length counted. */
  | { kind: 'unknown'; type: number; data: Uint8Array };

const TYPE = { SOURCE_LINK_ADDRESS: 1, TARGET_LINK_ADDRESS: 2, PREFIX: 3, REDIRECTED: 4, MTU: 5 } as const;

/** @throws WireError when an option's length is zero or leads out of the message */
export function parseNdOptions(bytes: Uint8Array, offset: number, end: number): NdOption[] {
  const options: NdOption[] = [];
  let at = offset;
  while (at < end) {
    const length = at + 1 < end ? bytes[at + 1] << 3 : 0;
    if (length === 0) throw new WireError('icmpv6', `option ${bytes[at]} has no length`, at);
    if (at + length > end) throw new WireError('icmpv6', `option ${bytes[at]} leads out of the message`, at);
    options.push(readOption(bytes, at, length));
    at += length;
  }
  return options;
}

function readOption(bytes: Uint8Array, at: number, length: number): NdOption {
  const type = bytes[at];
  if (type === TYPE.SOURCE_LINK_ADDRESS && length === 8) {
    return { kind: 'source-link-address', mac: formatMac(bytes, at + 2) };
  }
  if (type === TYPE.TARGET_LINK_ADDRESS && length === 8) {
    return { kind: 'target-link-address', mac: formatMac(bytes, at + 2) };
  }
  if (type === TYPE.PREFIX && length === 32) {
    return {
      kind: 'prefix',
      prefixLength: bytes[at + 2],
      onLink: (bytes[at + 3] & 0x80) !== 0,
      autonomous: (bytes[at + 3] & 0x40) !== 0,
      validLifetimeSeconds: u32(bytes, at + 4),
      preferredLifetimeSeconds: u32(bytes, at + 8),
      prefix: formatIpv6(bytes, at + 16),
    };
  }
  if (type === TYPE.REDIRECTED) return { kind: 'redirected', packet: bytes.slice(at + 8, at + length) };
  if (type === TYPE.MTU && length === 8) return { kind: 'mtu', mtu: u32(bytes, at + 4) };
  return { kind: 'unknown', type, data: bytes.slice(at + 2, at + length) };
}

/** Length of all options in bytes. */
export function ndOptionsLength(options: readonly NdOption[]): number {
  return options.reduce((length, option) => length + optionLength(option), 0);
}

function optionLength(option: NdOption): number {
  switch (option.kind) {
    case 'prefix':
      return 32;
    case 'redirected':
      return 8 + option.packet.length;
    case 'unknown':
      return 2 + option.data.length;
    default:
      return 8;
  }
}

/** Write options. Refuses lengths that are no multiple of eight bytes. */
export function emitNdOptions(out: Emitter, options: readonly NdOption[]): void {
  for (const option of options) {
    const length = optionLength(option);
    if (length % 8 !== 0) out.fail(`an option of ${length} bytes is not a multiple of 8 long`);
    const begin = (type: number): void => {
      out.u8('option type', type);
      out.u8('option length', length >>> 3);
    };
    switch (option.kind) {
      case 'source-link-address':
      case 'target-link-address':
        begin(option.kind === 'source-link-address' ? TYPE.SOURCE_LINK_ADDRESS : TYPE.TARGET_LINK_ADDRESS);
        out.mac('mac', option.mac);
        break;
      case 'prefix':
        begin(TYPE.PREFIX);
        out.u8('prefixLength', option.prefixLength);
        out.u8('flags', (option.onLink ? 0x80 : 0) | (option.autonomous ? 0x40 : 0));
        out.u32('validLifetimeSeconds', option.validLifetimeSeconds);
        out.u32('preferredLifetimeSeconds', option.preferredLifetimeSeconds);
        out.zeros(4);
        out.ipv6('prefix', option.prefix);
        break;
      case 'redirected':
        begin(TYPE.REDIRECTED);
        out.zeros(6);
        out.data(option.packet);
        break;
      case 'mtu':
        begin(TYPE.MTU);
        out.zeros(2);
        out.u32('mtu', option.mtu);
        break;
      case 'unknown':
        begin(option.type);
        out.data(option.data);
    }
  }
}
