/**
 * Random frames of the formats that flow/ knows, mostly sound, sometimes cut off, with options, fragments, extension headers or wrong
 * checksums. A frame can be varied: the same headers with other numbers, which the same flows are likely to match.
 */
import { pseudoHeaderSum4, pseudoHeaderSum6, sumBytes } from '../../net/index.ts';
import type { RandomSource } from './random.ts';

const half = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];

/** Values that matter in checksum arithmetic come often. */
function anyHalf(random: RandomSource): number {
  return random.once(4) ? random.pick([0, 1, 0xff, 0xff00, 0xffff]) : random.below(0x1_0000);
}

const address = (random: RandomSource): number[] => [...half(anyHalf(random)), ...half(anyHalf(random))];

/** What a frame is made of, so that it can be made again with other numbers. */
export interface FrameKind {
  readonly tags: number;
  readonly snap: boolean;
  readonly network: 'ipv4' | 'ipv6' | 'arp' | 'mpls' | 'other';
  readonly protocol: number;
  readonly fragment: number;
  readonly options: boolean;
  readonly labels: number;
  /** Bytes behind the transport header; random and few when left out. */
  readonly payloadBytes?: number;
  /** Never cut off. */
  readonly whole?: boolean;
}

/** A kind of frame. IP with TCP or UDP comes most often. */
export function randomKind(random: RandomSource): FrameKind {
  return {
    tags: random.pick([0, 0, 0, 1, 1, 2]),
    snap: random.once(25),
    network: random.pick(['ipv4', 'ipv4', 'ipv4', 'ipv6', 'ipv6', 'arp', 'mpls', 'other'] as const),
    protocol: random.pick([6, 6, 6, 17, 17, 17, 1, 58, 132, 47]),
    fragment: random.pick([0, 0, 0, 0, 0, 0x2000, 0x2010, 0x0010]),
    options: random.once(12),
    labels: 1 + random.below(3),
  };
}

function transport(random: RandomSource, { protocol, payloadBytes }: FrameKind): number[] {
  const payload = random.bytes(payloadBytes ?? random.below(40));
  const ports = [...half(anyHalf(random)), ...half(anyHalf(random))];
  if (protocol === 6) {
    const numbers = random.bytes(8);
    return [...ports, ...numbers, 0x50, random.below(64), ...half(anyHalf(random)), 0, 0, 0, 0, ...payload];
  }
  if (protocol === 17) return [...ports, ...half(8 + payload.length), 0, 0, ...payload];
  if (protocol === 132) return [...ports, ...random.bytes(8), ...payload];
  if (protocol === 58 || protocol === 1) {
    const type = random.pick([8, 128, 135, 136]);
    const body = type >= 135 && payloadBytes === undefined ? neighbourDiscovery(random) : payload;
    return [type, random.once(12) ? 1 : 0, 0, 0, ...random.bytes(4), ...body];
  }
  return payload;
}

/** A target, and options: of both link-layer addresses, sometimes twice, and of others. */
function neighbourDiscovery(random: RandomSource): number[] {
  const body = random.bytes(16);
  for (let i = random.below(4); i > 0; i -= 1) {
    const units = random.pick([1, 1, 1, 2]);
    body.push(random.pick([1, 2, 2, 5]), units, ...random.bytes(units * 8 - 2));
  }
  return body;
}

/** Extension headers of IPv6 in front of a protocol. @returns the first one's number, and their bytes */
function extensions(random: RandomSource, protocol: number): { readonly next: number; readonly bytes: number[] } {
  let next = protocol;
  let bytes: number[] = [];
  for (let i = random.below(random.once(8) ? 40 : 4); i >= 0; i -= 1) {
    const kind = random.pick([0, 43, 44, 51, 60]);
    const units = random.pick([0, 0, 1]);
    if (kind === 44) bytes = [next, 0, ...random.pick([half(0), half(0), half(1), half(6)]), 0, 0, 0, 7, ...bytes];
    else if (kind === 51) bytes = [next, units, 0, 0, ...random.bytes(4 + units * 4), ...bytes];
    else bytes = [next, units, 1, 4, 0, 0, 0, 0, ...random.bytes(units * 8), ...bytes];
    next = kind;
  }
  return { next, bytes };
}

/** Where a protocol's checksum lies; -1 when it has none over a pseudo header. */
function sumOffset(protocol: number): number {
  return protocol === 6 ? 16 : protocol === 17 ? 6 : protocol === 58 ? 2 : -1;
}

/** Fill in the transport checksum; UDP may go without. */
function seal(random: RandomSource, ip: number[], start: number, protocol: number, isIpv6: boolean): void {
  const offset = sumOffset(protocol);
  if (offset === -1 || start + offset + 2 > ip.length) return;
  if (protocol === 17 && random.once(5)) return;
  const bytes = Uint8Array.from(ip);
  const length = ip.length - start;
  const pseudo = isIpv6 ? pseudoHeaderSum6(bytes, 8, protocol, length) : pseudoHeaderSum4(bytes, 12, protocol, length);
  let sum = ~sumBytes(bytes, start, length, pseudo) & 0xffff;
  if (random.once(20)) sum = random.pick([0, 0xffff, 0xfffe, 1]);
  if (protocol === 17 && sum === 0) sum = 0xffff;
  ip[start + offset] = sum >>> 8;
  ip[start + offset + 1] = sum & 0xff;
}

function ipv4(random: RandomSource, kind: FrameKind): number[] {
  const options = kind.options ? [1, 1, 1, 0] : [];
  const body = transport(random, kind);
  const headerBytes = 20 + options.length;
  const ip = [
    0x40 | (headerBytes >>> 2),
    random.below(256),
    ...half(headerBytes + body.length),
    ...half(anyHalf(random)),
    ...half(kind.fragment),
    random.pick([0, 1, 2, 3, 64, 255, random.below(256)]),
    kind.protocol,
    0,
    0,
    ...address(random),
    ...address(random),
    ...options,
  ];
  const sum = ~sumBytes(Uint8Array.from(ip), 0, ip.length) & 0xffff;
  ip[10] = sum >>> 8;
  ip[11] = sum & 0xff;
  const packet = [...ip, ...body];
  if ((kind.fragment & 0x1fff) === 0) seal(random, packet, headerBytes, kind.protocol, false);
  return packet;
}

function ipv6(random: RandomSource, kind: FrameKind): number[] {
  const body = transport(random, kind);
  let next = kind.protocol;
  let extension: number[] = [];
  if (kind.options) {
    ({ next, bytes: extension } = extensions(random, next));
  } else if (kind.fragment !== 0 && random.once(2)) {
    extension = [next, 0, ...half(((kind.fragment & 0x1fff) << 3) | (kind.fragment >>> 13)), 0, 0, 0, 7];
    next = 44;
  }
  const ip = [
    0x60 | random.below(16),
    random.below(256),
    ...half(anyHalf(random)),
    ...half(extension.length + body.length),
    next,
    random.pick([0, 1, 2, 3, 64, 255, random.below(256)]),
  ];
  for (let i = 0; i < 8; i += 1) ip.push(...address(random));
  const packet = [...ip, ...extension, ...body];
  seal(random, packet, 40 + extension.length, kind.protocol, true);
  return packet;
}

function arp(random: RandomSource): number[] {
  return [0, 1, 8, 0, 6, 4, 0, 1 + random.below(3), ...random.bytes(20)];
}

function mpls(random: RandomSource, kind: FrameKind): number[] {
  const stack: number[] = [];
  for (let i = 1; i <= kind.labels; i += 1) {
    stack.push(...half(anyHalf(random)), (random.below(128) << 1) | (i === kind.labels ? 1 : 0), random.below(256));
  }
  return [...stack, ...ipv4(random, { ...kind, options: false })];
}

const ETHER_TYPES = { ipv4: 0x0800, ipv6: 0x86dd, arp: 0x0806, mpls: 0x8847, other: 0x88b5 } as const;

/** A kind of TCP or UDP packet without fragments and options, as hosts make them. */
export function hostKind(random: RandomSource, payloadBytes: number): FrameKind {
  const kind = { ...randomKind(random), snap: false, fragment: 0, options: false, whole: true, payloadBytes };
  return { ...kind, network: random.pick(['ipv4', 'ipv6'] as const), protocol: random.pick([6, 17]) };
}

/** Where layer 3 of a frame of {@link hostKind} lies, and where its transport header. */
export function hostOffsets(kind: FrameKind): { readonly layer3: number; readonly layer4: number } {
  const layer3 = 14 + kind.tags * 4;
  return { layer3, layer4: layer3 + (kind.network === 'ipv4' ? 20 : 40) };
}

/** Make the checksum of a frame of {@link hostKind} a partial one: the pseudo header's sum, not inverted. */
export function makePartial(frame: number[], kind: FrameKind): void {
  const { layer3, layer4 } = hostOffsets(kind);
  const bytes = Uint8Array.from(frame);
  const length = frame.length - layer4;
  const sum =
    kind.network === 'ipv4'
      ? pseudoHeaderSum4(bytes, layer3 + 12, kind.protocol, length)
      : pseudoHeaderSum6(bytes, layer3 + 8, kind.protocol, length);
  const field = layer4 + sumOffset(kind.protocol);
  frame[field] = sum >>> 8;
  frame[field + 1] = sum & 0xff;
}

/** A frame of a kind, with random numbers; once in a while cut off. At least 15 bytes. */
export function randomFrame(random: RandomSource, kind: FrameKind): number[] {
  const network =
    kind.network === 'ipv4'
      ? ipv4(random, kind)
      : kind.network === 'ipv6'
        ? ipv6(random, kind)
        : kind.network === 'arp'
          ? arp(random)
          : kind.network === 'mpls'
            ? mpls(random, kind)
            : random.bytes(random.below(60));
  const tags: number[] = [];
  for (let i = kind.tags; i > 0; i -= 1) {
    tags.push(...half(i === 2 ? 0x88a8 : random.pick([0x8100, 0x8100, 0x88a8])), ...half(anyHalf(random)));
  }
  const type = half(ETHER_TYPES[kind.network]);
  const inner = kind.snap ? [...half(8 + network.length), 0xaa, 0xaa, 3, 0, 0, 0, ...type] : type;
  const frame = [2, ...random.bytes(5), 2, ...random.bytes(5), ...tags, ...inner, ...network];
  if (kind.whole !== true && random.once(12)) frame.length = Math.min(frame.length, 15 + random.below(60));
  while (frame.length < 15 + kind.tags * 4) frame.push(0);
  return frame;
}

/**
 * Where lengths, versions and the like lie from layer 3 on: IPv4 and IPv6, then transport behind either; extension headers, and options of
 * neighbour discovery. Before it SNAP.
 */
const TELLING_BYTES = [
  ...[0, 2, 3, 4, 5, 6, 7, 9, 20, 24, 25, 32, 40, 44, 45, 52],
  ...[2, 3, 4, 5, 40, 41, 42, 43, 48, 49, 64, 65, 72, 73, -8, -6, -3, -2, -1],
];

/**
 * A frame as somebody hostile would send it: a length, a version or a type that does not fit, bytes that are missing, or that nobody told
 * of. At least 15 bytes.
 */
export function hostileFrame(random: RandomSource, frame: readonly number[], kind: FrameKind): number[] {
  const hostile = frame.slice();
  const layer3 = 14 + kind.tags * 4 + (kind.snap ? 8 : 0);
  for (let i = random.below(2); i >= 0; i -= 1) {
    const place = random.once(8) ? random.below(hostile.length) : layer3 + random.pick(TELLING_BYTES);
    if (place >= hostile.length) continue;
    const byte = hostile[place];
    hostile[place] =
      random.pick([byte + 1, byte - 1, byte ^ 0x10, byte ^ 0xf0, 0, 0x45, 0x60, 0xff, random.below(256)]) & 0xff;
  }
  if (random.once(3)) hostile.push(...random.bytes(random.below(12)));
  if (random.once(3)) hostile.length = Math.max(15, hostile.length - random.below(40));
  // A tag too many.
  if (random.once(10)) hostile.splice(12, 0, ...random.pick([half(0x8100), half(0x88a8)]), 0, 1);
  return hostile;
}
