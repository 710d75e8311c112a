/**
 * MAC, IPv4 and IPv6 addresses as text and as bytes. Parsing into bytes that are there already allocates no array;
 * formatting gives the one canonical form, so that equal addresses are equal text.
 */
import { u16 } from './bytes.ts';
import { WireError } from './error.ts';

/** `02:00:00:00:00:0a`, lower case. */
export function formatMac(bytes: Uint8Array, offset = 0): string {
  let text = '';
  for (let i = 0; i < 6; i += 1) text += (i === 0 ? '' : ':') + bytes[offset + i].toString(16).padStart(2, '0');
  return text;
}

/** The first two bytes of a MAC address, as tables keep it in two integers; {@link macLowAt} has the other. */
export function macHighAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

/** The last four bytes of a MAC address, signed. @param at where the address begins */
export function macLowAt(bytes: Uint8Array, at: number): number {
  return (bytes[at + 2] << 24) | (bytes[at + 3] << 16) | (bytes[at + 4] << 8) | bytes[at + 5];
}

/** The six bytes of a MAC address of two integers. */
export function macBytes(high: number, low: number): Uint8Array {
  return Uint8Array.of(high >>> 8, high, low >>> 24, low >>> 16, low >>> 8, low);
}

/** `192.0.2.1`. */
export function formatIpv4(bytes: Uint8Array, offset = 0): string {
  return `${bytes[offset]}.${bytes[offset + 1]}.${bytes[offset + 2]}.${bytes[offset + 3]}`;
}

/**
 * An IPv6 address in the form of RFC 5952: lower case, no leading zeros, `::` for the first of the longest runs of at
 * least two zero groups, and IPv4-mapped addresses with a dotted tail.
 */
export function formatIpv6(bytes: Uint8Array, offset = 0): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(u16(bytes, offset + i));
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0)) {
    return `::ffff:${formatIpv4(bytes, offset + 12)}`;
  }
  let bestStart = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i += 1) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length += 1;
    if (length > bestLength) {
      bestStart = i;
      bestLength = length;
    }
    i += length;
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart === -1) return hex.join(':');
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`;
}

const MAC_TEXT = /^[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}$/i;

/**
 * Write a MAC address given as six two-digit groups with colons or dashes.
 * @returns false, with nothing written, when the text is something else
 */
export function parseMacInto(text: string, bytes: Uint8Array, offset: number): boolean {
  if (!MAC_TEXT.test(text)) return false;
  for (let i = 0; i < 6; i += 1) bytes[offset + i] = Number.parseInt(text.slice(i * 3, i * 3 + 2), 16);
  return true;
}

const IPV4_TEXT = /^(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}$/;

/**
 * Write an IPv4 address given as four decimal numbers; leading zeros are refused, as they are octal to some.
 * @returns false, with nothing written, when the text is something else
 */
export function parseIpv4Into(text: string, bytes: Uint8Array, offset: number): boolean {
  if (!IPV4_TEXT.test(text)) return false;
  const numbers = text.split('.').map(Number);
  if (numbers.some((number) => number > 255)) return false;
  bytes.set(numbers, offset);
  return true;
}

const IPV6_GROUP = /^[0-9a-f]{1,4}$/i;

/**
 * Write an IPv6 address in any form of RFC 4291, section 2.2; zone identifiers are refused.
 * @returns false, with nothing written, when the text is something else
 */
export function parseIpv6Into(text: string, bytes: Uint8Array, offset: number): boolean {
  const halves = text.split('::');
  if (halves.length > 2) return false;
  const head = ipv6Groups(halves[0], halves.length === 1);
  const tail = halves.length === 2 ? ipv6Groups(halves[1], true) : [];
  if (head === null || tail === null) return false;
  const given = head.length + tail.length;
  if (halves.length === 1 ? given !== 8 : given > 7) return false;
  const groups = [...head, ...new Array<number>(8 - given).fill(0), ...tail];
  for (let i = 0; i < 8; i += 1) {
    bytes[offset + i * 2] = groups[i] >>> 8;
    bytes[offset + i * 2 + 1] = groups[i];
  }
  return true;
}

/** The 16-bit groups of one side of `::`; a dotted tail, allowed at the very end only, counts as two. Null when malformed. */
function ipv6Groups(text: string, mayEndDotted: boolean): number[] | null {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (let i = 0; i < parts.length; i += 1) {
    if (IPV6_GROUP.test(parts[i])) {
      groups.push(Number.parseInt(parts[i], 16));
    } else if (mayEndDotted && i === parts.length - 1) {
      const dotted = new Uint8Array(4);
      if (!parseIpv4Into(parts[i], dotted, 0)) return null;
      groups.push(u16(dotted, 0), u16(dotted, 2));
    } else {
      return null;
    }
  }
  return groups;
}

/** @throws WireError unless the text is a MAC address */
export function parseMac(text: string): Uint8Array {
  const bytes = new Uint8Array(6);
  if (!parseMacInto(text, bytes, 0)) throw new WireError('mac', `'${text}' is not a MAC address`, 0);
  return bytes;
}

/** @throws WireError unless the text is an IPv4 address */
export function parseIpv4Address(text: string): Uint8Array {
  const bytes = new Uint8Array(4);
  if (!parseIpv4Into(text, bytes, 0)) throw new WireError('ipv4', `'${text}' is not an IPv4 address`, 0);
  return bytes;
}

/** @throws WireError unless the text is an IPv6 address */
export function parseIpv6Address(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  if (!parseIpv6Into(text, bytes, 0)) throw new WireError('ipv6', `'${text}' is not an IPv6 address`, 0);
  return bytes;
}
