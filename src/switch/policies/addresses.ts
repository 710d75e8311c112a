/** Addresses as text to bytes, for properties: MAC addresses and IP prefixes. Control path only. */
import { isIP, isIPv4 } from 'node:net';

/**
 * Six bytes of `02:00:00:00:00:01` (or with dashes).
 * @throws TypeError naming the text
 */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)) {
    throw new TypeError(`"${text}" is not a MAC address such as 02:00:00:00:00:01`);
  }
  return Uint8Array.from(text.split(/[:-]/), (part) => Number.parseInt(part, 16));
}

/**
 * Bytes and length of an address or prefix such as `10.0.0.0/8`, `fe80::1` or `2001:db8::/32`.
 * @throws TypeError naming the text
 */
export function parseIpPrefix(text: string): { readonly bytes: Uint8Array; readonly prefixBits: number } {
  const [address = '', length, ...more] = text.split('/');
  const version = isIP(address);
  const bits = version === 4 ? 32 : 128;
  const prefixBits = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (version === 0 || address.includes('%') || more.length > 0 || prefixBits < 0 || prefixBits > bits) {
    throw new TypeError(`"${text}" is not an IP address or prefix such as 10.0.0.0/8 or 2001:db8::/32`);
  }
  return { bytes: isIPv4(address) ? ipv4Bytes(address) : ipv6Bytes(address), prefixBits };
}

function ipv4Bytes(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}

function ipv6Bytes(text: string): Uint8Array {
  let plain = text;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted !== null) {
    const [a, b, c, d] = ipv4Bytes(dotted[2]);
    plain = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...left, ...new Array<string>(8 - left.length - right.length).fill('0'), ...right];
  const bytes = new Uint8Array(16);
  groups.forEach((group, index) => {
    const value = Number.parseInt(group, 16);
    bytes[index * 2] = value >> 8;
    bytes[index * 2 + 1] = value & 0xff;
  });
  return bytes;
}
