/** For this room's tests and benchmark only: small frames with right checksums, packets around them, repeatable random numbers. */
import { internetChecksum, type Packet, PacketPool, sctpChecksum } from '../../net/index.ts';

/** Numbers below `limit` from a 32-bit xorshift generator: the same seed gives the same run. */
export function randomNumbers(seed: number): (limit: number) => number {
  let state = seed | 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** Fuzz rounds: MILLRACE_FUZZ when it is set, else a number that keeps a test file short. */
export function fuzzRounds(normally: number): number {
  const asked = Number(process.env.MILLRACE_FUZZ);
  return Number.isInteger(asked) && asked > 0 ? asked : normally;
}

/** Bytes from hexadecimal text; spaces are ignored. */
export function hex(text: string): number[] {
  const digits = text.replaceAll(/\s/g, '');
  return Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
}

const pool = new PacketPool({ packets: 512, bufferBytes: 2048, headroomBytes: 128 });

/** A packet that holds these bytes, in a buffer with 128 bytes of headroom. */
export function packetOf(bytes: readonly number[] | Uint8Array, from: PacketPool = pool): Packet {
  const packet = from.allocate();
  if (packet === null) throw new Error('the test pool is empty: packets were not released');
  packet.bytes.set(bytes, packet.offset);
  packet.length = bytes.length;
  return packet;
}

/** Packets of the test pool that nobody holds. */
export function freePackets(): number {
  return pool.available;
}

export const SOURCE_MAC = hex('020000000001');
export const TARGET_MAC = hex('020000000002');

const u16 = (value: number) => [(value >>> 8) & 0xff, value & 0xff];
const ip4 = (text: string) => text.split('.').map(Number);

/** Ethernet with tags (each TPID and TCI), then an EtherType and a payload. */
export function ethernet(type: number, payload: readonly number[], tags: readonly [number, number][] = []): number[] {
  const tagBytes = tags.flatMap(([tpid, tci]) => [...u16(tpid), ...u16(tci)]);
  return [...TARGET_MAC, ...SOURCE_MAC, ...tagBytes, ...u16(type), ...payload];
}

export interface Ipv4Options {
  src?: string;
  dst?: string;
  ttl?: number;
  tos?: number;
  /** Flags and offset as one 16-bit word. */
  fragment?: number;
  options?: number[];
}

export function ipv4(protocol: number, payload: readonly number[], given: Ipv4Options = {}): number[] {
  const options = given.options ?? [];
  const headerLength = 20 + options.length;
  const header = [
    0x40 | (headerLength / 4),
    given.tos ?? 0,
    ...u16(headerLength + payload.length),
    ...u16(0x1234),
    ...u16(given.fragment ?? 0),
    given.ttl ?? 64,
    protocol,
    0,
    0,
    ...ip4(given.src ?? '10.0.0.1'),
    ...ip4(given.dst ?? '10.0.0.2'),
    ...options,
  ];
  const sum = internetChecksum(Uint8Array.from(header), 0, header.length);
  header[10] = sum >>> 8;
  header[11] = sum & 0xff;
  return [...header, ...payload];
}

/** TCP, UDP, ICMP, SCTP or ICMPv6 with the checksum over the given pseudo-header addresses. */
function withChecksum(header: number[], at: number, protocol: number, addresses: readonly number[]): number[] {
  const pseudo = [...addresses, ...u16(protocol), ...u16(header.length)];
  const all = Uint8Array.from(addresses.length > 0 ? [...pseudo, ...header] : header);
  const sum = internetChecksum(all, 0, all.length);
  header[at] = sum >>> 8;
  header[at + 1] = sum & 0xff;
  return header;
}

export interface TransportOptions {
  src?: number;
  dst?: number;
  flags?: number;
  payload?: readonly number[];
  addresses?: readonly number[];
}

/** Source and destination that {@link ipv4} takes when nothing else is said. */
export const ADDRESSES4 = [...ip4('10.0.0.1'), ...ip4('10.0.0.2')];
export const ADDRESSES6 = [...hex('20010db8000000000000000000000001'), ...hex('20010db8000000000000000000000002')];

export function tcp(given: TransportOptions = {}): number[] {
  const header = [
    ...u16(given.src ?? 1000),
    ...u16(given.dst ?? 80),
    ...hex('00000001 00000002'),
    0x50,
    given.flags ?? 0x10,
    ...hex('0100 0000 0000'),
    ...(given.payload ?? [1, 2, 3]),
  ];
  return withChecksum(header, 16, 6, given.addresses ?? ADDRESSES4);
}

export function udp(given: TransportOptions = {}): number[] {
  const payload = given.payload ?? [1, 2, 3, 4];
  const header = [...u16(given.src ?? 1000), ...u16(given.dst ?? 53), ...u16(8 + payload.length), 0, 0, ...payload];
  return withChecksum(header, 6, 17, given.addresses ?? ADDRESSES4);
}

export function sctp(given: TransportOptions = {}): number[] {
  const header = [
    ...u16(given.src ?? 1000),
    ...u16(given.dst ?? 2000),
    ...hex('11223344 00000000'),
    ...hex('00010004'),
  ];
  const sum = sctpChecksum(Uint8Array.from(header), 0, header.length);
  for (let i = 0; i < 4; i += 1) header[8 + i] = (sum >>> (8 * i)) & 0xff;
  return header;
}

export function icmp(type: number, code: number): number[] {
  return withChecksum([type, code, 0, 0, 0, 1, 0, 2, 9, 9], 2, 1, []);
}

export function icmpv6(type: number, code: number, body: readonly number[]): number[] {
  return withChecksum([type, code, 0, 0, ...body], 2, 58, ADDRESSES6);
}

export interface Ipv6Options {
  hopLimit?: number;
  /** The whole first word behind the version: traffic class and flow label. */
  classAndLabel?: number;
}

export function ipv6(next: number, payload: readonly number[], given: Ipv6Options = {}): number[] {
  const first = (0x6000_0000 | (given.classAndLabel ?? 0)) >>> 0;
  return [
    ...u16(first >>> 16),
    ...u16(first & 0xffff),
    ...u16(payload.length),
    next,
    given.hopLimit ?? 64,
    ...ADDRESSES6,
    ...payload,
  ];
}

/** ARP request for IPv4 over Ethernet. */
export function arp(operation = 1): number[] {
  return [
    ...hex('0001 0800 06 04'),
    ...u16(operation),
    ...SOURCE_MAC,
    ...ip4('10.0.0.1'),
    ...hex('000000000000'),
    ...ip4('10.0.0.2'),
  ];
}
