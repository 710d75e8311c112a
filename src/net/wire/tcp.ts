/** The TCP header; its options are in tcp-options.ts. Its checksum runs over a pseudo header too: checksum.ts, compose.ts. */
import { setU16, setU32, u16, u32 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { emitRawOptions, parseRawOptions } from './options.ts';
import { PortsView } from './ports-view.ts';
import { readTcpOption, type TcpOption, tcpOptionLength, writeTcpOption } from './tcp-options.ts';
import { type Codec, type Flaw, overOrThrow } from './view.ts';

/*
 *   0               1               2               3
 *  +-------------------------------+-------------------------------+
 *  |          source port          |       destination port        |
 *  +-------------------------------+-------------------------------+ 4
 *  |                        sequence number                        |
 *  +---------------------------------------------------------------+ 8
 *  |                     acknowledgment number                     |
 *  +-------+-----+-+---------------+-------------------------------+ 12
 *  | words |  0  |A|C E U A P R S F|            window             |
 *  +-------+-----+-+---------------+-------------------------------+ 16
 *  |           checksum            |        urgent pointer         |
 *  +-------------------------------+-------------------------------+ 20
 *  |                  options, up to 40 bytes                      |
 *  +---------------------------------------------------------------+
 */
const FIELD = {
  SEQUENCE: 4,
  ACKNOWLEDGMENT: 8,
  DATA_OFFSET: 12,
  WINDOW: 14,
  CHECKSUM: 16,
  URGENT: 18,
  OPTIONS: 20,
} as const;

/** Bits of the flags, the twelve bits behind the data offset. */
export const TcpFlag = {
  FIN: 0x001,
  SYN: 0x002,
  RST: 0x004,
  PSH: 0x008,
  ACK: 0x010,
  URG: 0x020,
  ECE: 0x040,
  CWR: 0x080,
  /** Accurate ECN; NS in older texts. */
  AE: 0x100,
} as const;

const TRUNCATED: Flaw = { reason: 'shorter than 20 bytes', at: 0 };
const DATA_OFFSET: Flaw = { reason: 'data offset is under 20 bytes or beyond the end', at: FIELD.DATA_OFFSET };

/** A TCP header in bytes. */
export class TcpView extends PortsView {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(bytes, offset, end);
    return this.flaw === null;
  }

  get sequence(): number {
    return u32(this.bytes, this.offset + FIELD.SEQUENCE);
  }

  set sequence(value: number) {
    setU32(this.bytes, this.offset + FIELD.SEQUENCE, value);
  }

  get acknowledgment(): number {
    return u32(this.bytes, this.offset + FIELD.ACKNOWLEDGMENT);
  }

  set acknowledgment(value: number) {
    setU32(this.bytes, this.offset + FIELD.ACKNOWLEDGMENT, value);
  }

  /** Header and options in bytes. */
  get headerLength(): number {
    return (this.bytes[this.offset + FIELD.DATA_OFFSET] >>> 4) << 2;
  }

  /** Bits of {@link TcpFlag} and the reserved ones: 12 bits. */
  get flags(): number {
    return u16(this.bytes, this.offset + FIELD.DATA_OFFSET) & 0xfff;
  }

  set flags(value: number) {
    const at = this.offset + FIELD.DATA_OFFSET;
    setU16(this.bytes, at, (u16(this.bytes, at) & 0xf000) | (value & 0xfff));
  }

  /** Not scaled. */
  get window(): number {
    return u16(this.bytes, this.offset + FIELD.WINDOW);
  }

  set window(value: number) {
    setU16(this.bytes, this.offset + FIELD.WINDOW, value);
  }

  get checksum(): number {
    return u16(this.bytes, this.offset + FIELD.CHECKSUM);
  }

  set checksum(value: number) {
    setU16(this.bytes, this.offset + FIELD.CHECKSUM, value);
  }

  get urgentPointer(): number {
    return u16(this.bytes, this.offset + FIELD.URGENT);
  }

  get payloadOffset(): number {
    return this.offset + this.headerLength;
  }
}

function flawOf(bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.OPTIONS) return TRUNCATED;
  const headerLength = (bytes[offset + FIELD.DATA_OFFSET] >>> 4) << 2;
  return headerLength < FIELD.OPTIONS || headerLength > end - offset ? DATA_OFFSET : null;
}

/** A TCP header as data. */
export interface TcpRecord {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  /** Bits of {@link TcpFlag}. */
  flags: number;
  window: number;
  urgentPointer: number;
  /** Up to 40 bytes of them. */
  options: TcpOption[];
}

/** TCP (RFC 9293). */
export const Tcp: Codec<TcpRecord> = {
  protocol: 'tcp',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new TcpView(), this.protocol, bytes, offset, end);
    return {
      sourcePort: view.sourcePort,
      destinationPort: view.destinationPort,
      sequence: view.sequence,
      acknowledgment: view.acknowledgment,
      flags: view.flags,
      window: view.window,
      urgentPointer: view.urgentPointer,
      options: parseRawOptions(this.protocol, bytes, offset + FIELD.OPTIONS, view.payloadOffset).map(readTcpOption),
    };
  },

  byteLength(record) {
    const options = record.options.reduce((length, option) => length + tcpOptionLength(option), 0);
    return FIELD.OPTIONS + ((options + 3) & ~3);
  },

  emit(record, bytes, offset = 0) {
    const length = this.byteLength(record);
    const out = new Emitter(this.protocol, bytes, offset, length);
    if (length > 60) out.fail(`${length - FIELD.OPTIONS} bytes of options are more than 40`);
    out.u16('sourcePort', record.sourcePort);
    out.u16('destinationPort', record.destinationPort);
    out.u32('sequence', record.sequence);
    out.u32('acknowledgment', record.acknowledgment);
    out.u16('flags', (length << 10) | out.bits('flags', record.flags, 12));
    out.u16('window', record.window);
    out.zeros(2);
    out.u16('urgentPointer', record.urgentPointer);
    const raw = record.options.map((option) =>
      writeTcpOption(option, (name, value, width) => out.bits(name, value, width)),
    );
    emitRawOptions(out, raw, offset + length);
    return out.at;
  },
};
