/** ICMP for IPv4: the eight bytes that every message begins with. What they quote or carry follows as payload. */
import { formatIpv4 } from './address.ts';
import { setU16, u16, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0      1      2          4                            8
 *  +------+------+----------+----------------------------+---------
 *  | type | code | checksum | depends on the type        | payload
 *  +------+------+----------+----------------------------+---------
 *      echo:                | identifier  | sequence     |
 *      unreachable:         | 0           | next-hop MTU |
 *      redirect:            | gateway address            |
 *      parameter problem:   | pointer | 0                |
 */
const FIELD = { TYPE: 0, CODE: 1, CHECKSUM: 2, REST: 4, LENGTH: 8 } as const;

/** Message types (IANA "ICMP type numbers"). */
export const Icmpv4Type = {
  ECHO_REPLY: 0,
  UNREACHABLE: 3,
  REDIRECT: 5,
  ECHO_REQUEST: 8,
  TIME_EXCEEDED: 11,
  PARAMETER_PROBLEM: 12,
} as const;

const TRUNCATED: Flaw = { reason: 'shorter than 8 bytes', at: 0 };

/** An ICMP header in bytes. */
export class Icmpv4View extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = end - offset < FIELD.LENGTH ? TRUNCATED : null;
    return this.flaw === null;
  }

  get type(): number {
    return this.bytes[this.offset];
  }

  set type(value: number) {
    this.bytes[this.offset] = value;
  }

  get code(): number {
    return this.bytes[this.offset + FIELD.CODE];
  }

  /** Over header and payload, with no pseudo header. */
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

  get payloadOffset(): number {
    return this.offset + FIELD.LENGTH;
  }
}

/** An ICMP header as data; `kind` says which message. */
export type Icmpv4Record =
  | { kind: 'echo-request' | 'echo-reply'; code: number; identifier: number; sequence: number }
  /** `mtu` in bytes where the code is 4 (fragmentation needed), else 0. */
  | { kind: 'unreachable'; code: number; mtu: number }
  | { kind: 'redirect'; code: number; gateway: string }
  | { kind: 'time-exceeded'; code: number }
  /** `pointer` is the index of the byte that was wrong. */
  | { kind: 'parameter-problem'; code: number; pointer: number }
  | { kind: 'other'; type: number; code: number; rest: number };

/** ICMP (RFC 792, RFC 1191). */
export const Icmpv4: Codec<Icmpv4Record> = {
  protocol: 'icmpv4',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new Icmpv4View(), this.protocol, bytes, offset, end);
    const { type, code, rest } = view;
    switch (type) {
      case Icmpv4Type.ECHO_REQUEST:
        return { kind: 'echo-request', code, identifier: view.identifier, sequence: view.sequence };
      case Icmpv4Type.ECHO_REPLY:
        return { kind: 'echo-reply', code, identifier: view.identifier, sequence: view.sequence };
      case Icmpv4Type.UNREACHABLE:
        return { kind: 'unreachable', code, mtu: rest & 0xffff };
      case Icmpv4Type.REDIRECT:
        return { kind: 'redirect', code, gateway: formatIpv4(bytes, offset + FIELD.REST) };
      case Icmpv4Type.TIME_EXCEEDED:
        return { kind: 'time-exceeded', code };
      case Icmpv4Type.PARAMETER_PROBLEM:
        return { kind: 'parameter-problem', code, pointer: rest >>> 24 };
      default:
        return { kind: 'other', type, code, rest };
    }
  },

  byteLength() {
    return FIELD.LENGTH;
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, FIELD.LENGTH);
    const begin = (type: number): void => {
      out.u8('type', type);
      out.u8('code', record.code);
      out.zeros(2);
    };
    switch (record.kind) {
      case 'echo-request':
      case 'echo-reply':
        begin(record.kind === 'echo-request' ? Icmpv4Type.ECHO_REQUEST : Icmpv4Type.ECHO_REPLY);
        out.u16('identifier', record.identifier);
        out.u16('sequence', record.sequence);
        break;
      case 'unreachable':
        begin(Icmpv4Type.UNREACHABLE);
        out.zeros(2);
        out.u16('mtu', record.mtu);
        break;
      case 'redirect':
        begin(Icmpv4Type.REDIRECT);
        out.ipv4('gateway', record.gateway);
        break;
      case 'time-exceeded':
        begin(Icmpv4Type.TIME_EXCEEDED);
        out.zeros(4);
        break;
      case 'parameter-problem':
        begin(Icmpv4Type.PARAMETER_PROBLEM);
        out.u8('pointer', record.pointer);
        out.zeros(3);
        break;
      case 'other':
        begin(record.type);
        out.u32('rest', record.rest);
    }
    return out.at;
  },
};
