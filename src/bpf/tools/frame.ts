/**
 * The frame that the generator sends and the receiver knows: Ethernet, VLAN tags, IPv4, UDP, and 16 bytes of payload that say whose
 * frame it is and which. Neighbours: tools/generate-program.ts writes it, tools/receive-program.ts reads it.
 *
 *     payload   0       4       8                14
 *               | magic | run   | sequence (48)  | flow (16) |      all in network order
 *
 * `run` is when the generator started, in milliseconds of the clock modulo 2^32: it tells runs apart, and tells a receiver whether it
 * was there from the first frame on. `sequence` counts the frames of one flow from 0.
 */
import { BpfError } from '../errors.ts';

/** The first word of the payload. */
export const MAGIC = 0x4d4c5243;
/** Bytes from the start of an untagged frame to the payload. */
export const PAYLOAD_OFFSET = 42;
/** Bytes of payload that carry meaning. */
export const PAYLOAD_BYTES = 16;
/** The shortest frame, without its checksum: less is padded by the wire. */
export const MIN_FRAME_BYTES = 60;
/** The most flows: their number has 16 bits. */
export const MAX_FLOWS = 65536;

/** An 802.1Q or 802.1ad tag. */
export interface VlanTag {
  /** 1 to 4094. */
  readonly id: number;
  /** 0 to 7. */
  readonly priority?: number;
  /** 0x8100 by default, 0x88a8 for a service tag. */
  readonly tpid?: number;
}

/** What in a frame differs from flow to flow. */
export type Variation = 'port' | 'address' | 'mac';

/** Addresses of the frames. */
export interface FrameOptions {
  /** Length of the Ethernet frame in bytes, without checksum: 60 (64 with a tag, 68 with two) to about 3400. */
  readonly sizeBytes?: number;
  readonly sourceMac?: string;
  readonly destinationMac?: string;
  readonly sourceAddress?: string;
  readonly destinationAddress?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Tags from the outside in, at most two. */
  readonly vlan?: readonly VlanTag[];
}

/** A frame and where its parts are. */
export interface FrameTemplate {
  readonly bytes: Uint8Array;
  /** Offset of the IPv4 header. */
  readonly ip: number;
  readonly udp: number;
  readonly payload: number;
}

const ETHERTYPE_IPV4 = 0x0800;
const TPID = 0x8100;
const PROTOCOL_UDP = 17;

function refuse(message: string): never {
  throw new BpfError('value', message);
}

/** Read a MAC address. @throws BpfError */
export function parseMac(text: string): Uint8Array {
  const parts = text.split(':');
  if (parts.length !== 6 || !parts.every((part) => /^[0-9a-fA-F]{1,2}$/.test(part))) {
    refuse(`"${text}" is no MAC address; it is written 02:00:00:00:00:01`);
  }
  return Uint8Array.from(parts, (part) => Number.parseInt(part, 16));
}

/** Read an IPv4 address. @throws BpfError */
export function parseIpv4(text: string): Uint8Array {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) {
    refuse(`"${text}" is no IPv4 address; it is written 198.18.0.1`);
  }
  return Uint8Array.from(parts, Number);
}

function inRange(value: number, low: number, high: number, what: string): number {
  if (!Number.isInteger(value) || value < low || value > high) refuse(`${what} ${value} is outside ${low} to ${high}`);
  return value;
}

/**
 * Build the frame that all flows start from.
 * @throws BpfError for an address, port, tag or size that cannot be
 */
export function buildFrame(options: FrameOptions): FrameTemplate {
  const tags = options.vlan ?? [];
  if (tags.length > 2) refuse(`${tags.length} VLAN tags are more than the two that the receiver reads`);
  const ip = 14 + 4 * tags.length;
  const sizeBytes = options.sizeBytes ?? MIN_FRAME_BYTES + 4 * tags.length;
  inRange(sizeBytes, MIN_FRAME_BYTES + 4 * tags.length, 65535, 'frame size');
  const bytes = new Uint8Array(sizeBytes);
  const view = new DataView(bytes.buffer);
  bytes.set(parseMac(options.destinationMac ?? '02:00:00:00:00:02'), 0);
  bytes.set(parseMac(options.sourceMac ?? '02:00:00:00:00:01'), 6);
  tags.forEach((tag, index) => {
    view.setUint16(12 + 4 * index, inRange(tag.tpid ?? TPID, 0, 0xffff, 'VLAN protocol'));
    const priority = inRange(tag.priority ?? 0, 0, 7, 'VLAN priority');
    view.setUint16(14 + 4 * index, (priority << 13) | inRange(tag.id, 1, 4094, 'VLAN id'));
  });
  view.setUint16(ip - 2, ETHERTYPE_IPV4);
  view.setUint8(ip, 0x45);
  view.setUint16(ip + 2, sizeBytes - ip);
  view.setUint8(ip + 8, 64);
  view.setUint8(ip + 9, PROTOCOL_UDP);
  bytes.set(parseIpv4(options.sourceAddress ?? '198.18.0.1'), ip + 12);
  bytes.set(parseIpv4(options.destinationAddress ?? '198.19.0.1'), ip + 16);
  view.setUint16(ip + 10, ~headerSum(view, ip) & 0xffff);
  const udp = ip + 20;
  view.setUint16(udp, inRange(options.sourcePort ?? 1024, 0, 65535, 'source port'));
  view.setUint16(udp + 2, inRange(options.destinationPort ?? 9, 0, 65535, 'destination port'));
  view.setUint16(udp + 4, sizeBytes - udp);
  return { bytes, ip, udp, payload: udp + 8 };
}

/** The one's-complement sum of an IPv4 header, whose checksum field is taken as it is. */
export function headerSum(view: DataView, ip: number): number {
  let sum = 0;
  for (let offset = ip; offset < ip + 20; offset += 2) sum += view.getUint16(offset);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
