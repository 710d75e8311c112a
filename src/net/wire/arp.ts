/** ARP for IPv4 over Ethernet. Other hardware and protocol types are refused: nothing speaks them here. */
import { formatIpv4, formatMac } from './address.ts';
import { setU16, u16 } from './bytes.ts';
import { Emitter } from './emitter.ts';
import { EtherType } from './numbers.ts';
import { type Codec, type Flaw, overOrThrow, View } from './view.ts';

/*
 *   0          2          4     5     6            8            14          18           24          28
 *  +----------+----------+-----+-----+------------+------------+-----------+------------+-----------+
 *  | hw type  | protocol | 6   | 4   | operation  | sender MAC | sender IP | target MAC | target IP |
 *  +----------+----------+-----+-----+------------+------------+-----------+------------+-----------+
 */
const FIELD = {
  HARDWARE_TYPE: 0,
  PROTOCOL_TYPE: 2,
  HARDWARE_LENGTH: 4,
  PROTOCOL_LENGTH: 5,
  OPERATION: 6,
  SENDER_MAC: 8,
  SENDER_IP: 14,
  TARGET_MAC: 18,
  TARGET_IP: 24,
  LENGTH: 28,
} as const;

/** Values of the operation field. */
export const ArpOperation = { REQUEST: 1, REPLY: 2 } as const;

const HARDWARE_ETHERNET = 1;
const TRUNCATED: Flaw = { reason: 'shorter than 28 bytes', at: 0 };
const WRONG_TYPES: Flaw = { reason: 'not for IPv4 over Ethernet', at: FIELD.HARDWARE_TYPE };

/** An ARP packet in bytes. */
export class ArpView extends View {
  over(bytes: Uint8Array, offset: number, end: number): boolean {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
    this.flaw = flawOf(bytes, offset, end);
    return this.flaw === null;
  }

  /** One of {@link ArpOperation}, or another number. */
  get operation(): number {
    return u16(this.bytes, this.offset + FIELD.OPERATION);
  }

  set operation(value: number) {
    setU16(this.bytes, this.offset + FIELD.OPERATION, value);
  }

  get senderMacOffset(): number {
    return this.offset + FIELD.SENDER_MAC;
  }

  get senderIpOffset(): number {
    return this.offset + FIELD.SENDER_IP;
  }

  get targetMacOffset(): number {
    return this.offset + FIELD.TARGET_MAC;
  }

  get targetIpOffset(): number {
    return this.offset + FIELD.TARGET_IP;
  }
}

function flawOf(bytes: Uint8Array, offset: number, end: number): Flaw | null {
  if (end - offset < FIELD.LENGTH) return TRUNCATED;
  const isIpv4OverEthernet =
    u16(bytes, offset) === HARDWARE_ETHERNET &&
    u16(bytes, offset + FIELD.PROTOCOL_TYPE) === EtherType.IPV4 &&
    bytes[offset + FIELD.HARDWARE_LENGTH] === 6 &&
    bytes[offset + FIELD.PROTOCOL_LENGTH] === 4;
  return isIpv4OverEthernet ? null : WRONG_TYPES;
}

/** An ARP packet as data. */
export interface ArpRecord {
  operation: number;
  senderMac: string;
  senderIp: string;
  targetMac: string;
  targetIp: string;
}

/** ARP (RFC 826). */
export const Arp: Codec<ArpRecord> = {
  protocol: 'arp',

  parse(bytes, offset = 0, end = bytes.length) {
    const view = overOrThrow(new ArpView(), this.protocol, bytes, offset, end);
    return {
      operation: view.operation,
      senderMac: formatMac(bytes, view.senderMacOffset),
      senderIp: formatIpv4(bytes, view.senderIpOffset),
      targetMac: formatMac(bytes, view.targetMacOffset),
      targetIp: formatIpv4(bytes, view.targetIpOffset),
    };
  },

  byteLength() {
    return FIELD.LENGTH;
  },

  emit(record, bytes, offset = 0) {
    const out = new Emitter(this.protocol, bytes, offset, FIELD.LENGTH);
    out.u16('hardwareType', HARDWARE_ETHERNET);
    out.u16('protocolType', EtherType.IPV4);
    out.u8('hardwareLength', 6);
    out.u8('protocolLength', 4);
    out.u16('operation', record.operation);
    out.mac('senderMac', record.senderMac);
    out.ipv4('senderIp', record.senderIp);
    out.mac('targetMac', record.targetMac);
    out.ipv4('targetIp', record.targetIp);
    return out.at;
  },
};
