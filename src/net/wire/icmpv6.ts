/**
 * ICMPv6, Neighbor Discovery included. A record holds the whole of an ND message with its options (nd-options.ts), and of
 * the others the first eight bytes; what those quote or carry follows as payload.
 */
import { formatIpv6 } from './address.ts';
import { setU16, u16, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { emitNdOptions, type NdOption, ndOptionsLength, parseNdOptions } from './nd-options.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0      1      2          4                                8
 *  +------+------+----------+--------------------------------+
 *  | type | code | checksum | depends on the type            |
 *  +------+------+----------+--------------------------------+
 *      echo:                | identifier    | sequence       | payload
 *      packet too big:      | MTU                            | payload
 *      parameter problem:   | pointer                        | payload
 *      RS:                  | 0                              | options
 *      RA:                  | hops | M O 0  | lifetime (s)   | reachable (4, ms), retransmit (4, ms), options
 *      NS:                  | 0                              | target (16), options
 *      NA:                  | R S O 0                        | target (16), options
 *      redirect:            | 0                              | target (16), destination (16), options
 */
const FIELD = {
  TYPE: 0,
  CODE: 1,
  CHECKSUM: 2,
  REST: 4,
  LENGTH: 8,
  TARGET: 8,
  NEIGHBOR_OPTIONS: 24,
  REDIRECT_DESTINATION: 24,
  REDIRECT_OPTIONS: 40,
  ADVERTISEMENT_OPTIONS: 16,
} as const;

/** Message types (IANA "ICMPv6 parameters"). */
export const Icmpv6Type = {
  UNREACHABLE: 1,
  PACKET_TOO_BIG: 2,
  TIME_EXCEEDED: 3,
  PARAMETER_PROBLEM: 4,
  ECHO_REQUEST: 128,
  ECHO_REPLY: 129,
  LISTENER_QUERY: 130,
  LISTENER_REPORT: 131,
  LISTENER_DONE: 132,
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOR_SOLICITATION: 135,
  NEIGHBOR_ADVERTISEMENT: 136,
  REDIRECT: 137,
  LISTENER_REPORT_V2: 143,
} as const;

const TRUNCATED: Flaw = { reason: 'shorter than 8 bytes', at: 0 };
const MESSAGE_TRUNCATED: Flaw = { reason: 'shorter than the fixed part of its message', at: 0 };

/** The fixed part of a message; what follows is options for ND and payload for the others. */
function fixedLength(type: number): number {
  switch (type) {
    case Icmpv6Type.ROUTER_ADVERTISEMENT:
      return FIELD.ADVERTISEMENT_OPTIONS;
    case Icmpv6Type.NEIGHBOR_SOLICITATION:
    case Icmpv6Type.NEIGHBOR_ADVERTISEMENT:
      return FIELD.NEIGHBOR_OPTIONS;
    case Icmpv6Type.REDIRECT:
      return FIELD.REDIRECT_OPTIONS;
    default:
      return FIELD.LENGTH;
  }
}

/** An ICMPv6 message in bytes. */
export class Icmpv6View extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    if (end - offset < FIELD.LENGTH) this.flaw = TRUNCATED;
    else this.flaw = end - offset < fixedLength(bytes[offset]) ? MESSAGE_TRUNCATED : null;
    return this.flaw === null;
  }

  get type(): number {
    return this.bytes[this.offset];
  }

  get code(): number {
    return this.bytes[this.offset + FIELD.CODE];
  }

  /** Over a pseudo header, the message and its payload. */
  get checksum(): number {
    return u16(this.bytes, this.offset + FIELD.CHECKSUM);
  }

  set checksum(value: number) {
    setU16(this.bytes, this.offset + FIELD.CHECKSUM, value);
  }

  /** Of echo messages. */
  get identifier(): number {
    return u16(this.bytes, this.offset + FIELD.REST);
  }

  /** Of echo messages. */
  get sequence(): number {
    return u16(this.bytes, this.offset + FIELD.REST + 2);
  }

  /** The four bytes whose meaning depends on the type. */
  get rest(): number {
    return u32(this.bytes, this.offset + FIELD.REST);
  }

  /** Of NS, NA and redirect: where the target address is. */
  get targetOffset(): number {
    return this.offset + FIELD.TARGET;
  }

  /** Where the options of ND messages begin, and the payload of others. */
  get payloadOffset(): number {
    return this.offset + fixedLength(this.type);
  }
}

/** An ICMPv6 message as data; `kind` says which. */
export type Icmpv6Record =
  | { kind: 'echo-request' | 'echo-reply'; code: number; identifier: number; sequence: number }
  | { kind: 'unreachable' | 'time-exceeded'; code: number }
  /** `mtu` in bytes. */
  | { kind: 'packet-too-big'; code: number; mtu: number }
  /** `pointer` is the index of the byte that was wrong. */
  | { kind: 'parameter-problem'; code: number; pointer: number }
  | { kind: 'router-solicitation'; options: NdOption[] }
  | {
      kind: 'router-advertisement';
      hopLimit: number;
      managed: boolean;
      otherConfiguration: boolean;
      routerLifetimeSeconds: number;
      reachableTimeMs: number;
      retransmitTimerMs: number;
      options: NdOption[];
    }
  | { kind: 'neighbor-solicitation'; target: string; options: NdOption[] }
  | {
      kind: 'neighbor-advertisement';
      router: boolean;
      solicited: boolean;
      override: boolean;
      target: string;
      options: NdOption[];
    }
  | { kind: 'redirect'; target: string; destination: string; options: NdOption[] }
  | { kind: 'other'; type: number; code: number; rest: number };

const TYPE_OF_KIND = {
  unreachable: Icmpv6Type.UNREACHABLE,
  'packet-too-big': Icmpv6Type.PACKET_TOO_BIG,
  'time-exceeded': Icmpv6Type.TIME_EXCEEDED,
  'parameter-problem': Icmpv6Type.PARAMETER_PROBLEM,
  'echo-request': Icmpv6Type.ECHO_REQUEST,
  'echo-reply': Icmpv6Type.ECHO_REPLY,
  'router-solicitation': Icmpv6Type.ROUTER_SOLICITATION,
  'router-advertisement': Icmpv6Type.ROUTER_ADVERTISEMENT,
  'neighbor-solicitation': Icmpv6Type.NEIGHBOR_SOLICITATION,
  'neighbor-advertisement': Icmpv6Type.NEIGHBOR_ADVERTISEMENT,
  redirect: Icmpv6Type.REDIRECT,
} as const;

/** ICMPv6 (RFC 4443) with Neighbor Discovery (RFC 4861). */
export const Icmpv6: Codec<Icmpv6Record> = {
  protocol: 'icmpv6',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new Icmpv6View(), this.protocol, bytes, offset, end);
    const { type, code, rest } = view;
    const options = (): NdOption[] => parseNdOptions(bytes, view.payloadOffset, end);
    const target = (): string => formatIpv6(bytes, view.targetOffset);
    switch (type) {
      case Icmpv6Type.ECHO_REQUEST:
        return { kind: 'echo-request', code, identifier: view.identifier, sequence: view.sequence };
      case Icmpv6Type.ECHO_REPLY:
        return { kind: 'echo-reply', code, identifier: view.identifier, sequence: view.sequence };
      case Icmpv6Type.UNREACHABLE:
        return { kind: 'unreachable', code };
      case Icmpv6Type.TIME_EXCEEDED:
        return { kind: 'time-exceeded', code };
      case Icmpv6Type.PACKET_TOO_BIG:
        return { kind: 'packet-too-big', code, mtu: rest };
      case Icmpv6Type.PARAMETER_PROBLEM:
        return { kind: 'parameter-problem', code, pointer: rest };
      case Icmpv6Type.ROUTER_SOLICITATION:
        return { kind: 'router-solicitation', options: options() };
      case Icmpv6Type.ROUTER_ADVERTISEMENT:
        return {
          kind: 'router-advertisement',
          hopLimit: rest >>> 24,
          managed: (rest & 0x80_0000) !== 0,
          otherConfiguration: (rest & 0x40_0000) !== 0,
          routerLifetimeSeconds: rest & 0xffff,
          reachableTimeMs: u32(bytes, offset + 8),
          retransmitTimerMs: u32(bytes, offset + 12),
          options: options(),
        };
      case Icmpv6Type.NEIGHBOR_SOLICITATION:
        return { kind: 'neighbor-solicitation', target: target(), options: options() };
      case Icmpv6Type.NEIGHBOR_ADVERTISEMENT:
        return {
          kind: 'neighbor-advertisement',
          router: (rest & 0x8000_0000) !== 0,
          solicited: (rest & 0x4000_0000) !== 0,
          override: (rest & 0x2000_0000) !== 0,
          target: target(),
          options: options(),
        };
      case Icmpv6Type.REDIRECT:
        return {
          kind: 'redirect',
          target: target(),
          destination: formatIpv6(bytes, offset + FIELD.REDIRECT_DESTINATION),
          options: options(),
        };
      default:
        return { kind: 'other', type, code, rest };
    }
  },

  byteLength(record) {
    const type = record.kind === 'other' ? record.type : TYPE_OF_KIND[record.kind];
    return fixedLength(type) + ('options' in record ? ndOptionsLength(record.options) : 0);
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, this.byteLength(record));
    out.u8('type', record.kind === 'other' ? record.type : TYPE_OF_KIND[record.kind]);
    out.u8('code', 'code' in record ? record.code : 0);
    out.zeros(2);
    switch (record.kind) {
      case 'echo-request':
      case 'echo-reply':
        out.u16('identifier', record.identifier);
        out.u16('sequence', record.sequence);
        break;
      case 'packet-too-big':
        out.u32('mtu', record.mtu);
        break;
      case 'parameter-problem':
        out.u32('pointer', record.pointer);
        break;
      case 'router-advertisement':
        out.u8('hopLimit', record.hopLimit);
        out.u8('flags', (record.managed ? 0x80 : 0) | (record.otherConfiguration ? 0x40 : 0));
        out.u16('routerLifetimeSeconds', record.routerLifetimeSeconds);
        out.u32('reachableTimeMs', record.reachableTimeMs);
        out.u32('retransmitTimerMs', record.retransmitTimerMs);
        break;
      case 'neighbor-advertisement':
        out.u8('flags', (record.router ? 0x80 : 0) | (record.solicited ? 0x40 : 0) | (record.override ? 0x20 : 0));
        out.zeros(3);
        out.ipv6('target', record.target);
        break;
      case 'neighbor-solicitation':
        out.zeros(4);
        out.ipv6('target', record.target);
        break;
      case 'redirect':
        out.zeros(4);
        out.ipv6('target', record.target);
        out.ipv6('destination', record.destination);
        break;
      case 'other':
        if (fixedLength(record.type) !== FIELD.LENGTH) out.fail(`type ${record.type} has a kind of its own`);
        out.u32('rest', record.rest);
        break;
      default:
        out.zeros(4);
    }
    if ('options' in record) emitNdOptions(out, record.options);
    return out.at;
  },
};
