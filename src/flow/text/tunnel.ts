/** The tunnel part of keys, masks and set actions as text, with the options of Geneve, VXLAN and ERSPAN. */

import { keyByte, setKeyByte, TUNNEL_FIELDS, TUNNEL_FLAGS_FIELD } from '../key/fields.ts';
import { TunnelFlag, TunnelOptions, tunnelOptionsBytes, Word } from '../key/layout.ts';
import { formatFields, type KeyAndMask, parseField } from './groups.ts';
import type { Scanner } from './scanner.ts';
import { hexNumber, joinedFlags } from './values.ts';

const OPTIONS_AT = Word.TUNNEL_OPTIONS * 4;
const VERSION_AT = Word.TUNNEL_IP * 4;
const KIND_AT = Word.TUNNEL_IP * 4 + 3;
const OPTIONS_LENGTH_AT = Word.TUNNEL_FLAGS * 4 + 2;

/** Longest Geneve options that the text can hold: the length field counts words of 4 bytes. */
const GENEVE_MAXIMUM_BYTES = 252;

/** `tunnel(...)` of a key under its mask, or '' when the mask leaves the tunnel out, or the key is of packets without one. */
export function formatTunnel(words: KeyAndMask): string {
  if (words.mask.subarray(Word.TUNNEL).every((word) => word === 0)) return '';
  const version = keyByte(words.key, VERSION_AT);
  if (version === 0) return '';
  const parts = [formatFields(fieldsOf(version), words)].filter((text) => text !== '');
  const named = parts.some((text) => /(?:src|dst)=/.test(text.replaceAll(/tp_(?:src|dst)=/g, '')));
  // The version is told by the addresses; when none counts, one that matches all tells it.
  if (!named && version === 4) parts.push('dst=0.0.0.0/0.0.0.0');
  if (!named && version === 6) parts.push('ipv6_dst=::/::');
  const options = formatOptions(words.key, words.mask);
  if (options !== '') parts.push(options);
  const flags = formatFields([TUNNEL_FLAGS_FIELD], words);
  if (flags !== '') parts.push(`flags(${flags})`);
  return `tunnel(${parts.join(',')})`;
}

/** `tunnel(...)` of a set action: everything that is not 0, and the tunnel's id where it has one. */
export function formatSetTunnel(key: Uint32Array): string {
  const mask = new Uint32Array(key.length);
  const hasId = ((key[Word.TUNNEL_FLAGS] >>> 16) & TunnelFlag.KEY) !== 0;
  for (const field of fieldsOf(keyByte(key, VERSION_AT))) {
    const isNeeded = field.name === 'dst' || field.name === 'ipv6_dst' || (field.name === 'tun_id' && hasId);
    let isZero = true;
    for (let i = 0; i < field.widthBytes; i += 1) if (keyByte(key, field.byteOffset + i) !== 0) isZero = false;
    for (let i = 0; i < field.widthBytes; i += 1) if (isNeeded || !isZero) setKeyByte(mask, field.byteOffset + i, 0xff);
  }
  const parts = [formatFields(fieldsOf(keyByte(key, VERSION_AT)), { key, mask })];
  mask.fill(0xffff_ffff, Word.TUNNEL_IP);
  const options = formatOptions(key, mask);
  if (options !== '') parts.push(options);
  parts.push(`flags(${joinedFlags(key[Word.TUNNEL_FLAGS] >>> 16, 'tunnel-flags')})`);
  return `tunnel(${parts.filter((text) => text !== '').join(',')})`;
}

function fieldsOf(version: number) {
  return TUNNEL_FIELDS.filter((field) => {
    if (field.format === 'ipv4') return version === 4;
    if (field.format === 'ipv6') return version === 6;
    return true;
  });
}

function formatOptions(key: Uint32Array, mask: Uint32Array): string {
  if (keyByte(mask, KIND_AT) === 0) return '';
  const first = key[Word.TUNNEL_OPTIONS];
  const firstMask = mask[Word.TUNNEL_OPTIONS];
  const second = key[Word.TUNNEL_OPTIONS + 1];
  const secondMask = mask[Word.TUNNEL_OPTIONS + 1];
  switch (keyByte(key, KIND_AT)) {
    case TunnelOptions.VXLAN_GBP: {
      const id = masked(first & 0xffff, firstMask & 0xffff, 0xffff, String);
      const flags = masked((first >>> 16) & 0xff, (firstMask >>> 16) & 0xff, 0xff, hexNumber);
      return `vxlan(gbp(id=${id},flags=${flags}))`;
    }
    case TunnelOptions.ERSPAN:
      if (first === 1) return `erspan(ver=1,idx=${masked(second, secondMask, 0xffff_ffff, hexNumber)})`;
      return (
        `erspan(ver=2,dir=${masked((second >>> 8) & 0xff, (secondMask >>> 8) & 0xff, 0xff, String)},` +
        `hwid=${masked(second & 0xff, secondMask & 0xff, 0xff, hexNumber)})`
      );
    case TunnelOptions.GENEVE:
      return formatGeneve(key, mask);
    default:
      return '';
  }
}

function masked(value: number, mask: number, full: number, format: (value: number) => string): string {
  return mask === full ? format(value) : `${format(value)}/0x${mask.toString(16)}`;
}

function formatGeneve(key: Uint32Array, mask: Uint32Array): string {
  const end = OPTIONS_AT + tunnelOptionsBytes(key[Word.TUNNEL_FLAGS]);
  const number = (words: Uint32Array, from: number, count: number) => {
    let value = 0n;
    for (let i = 0; i < count; i += 1) value = (value << 8n) | BigInt(keyByte(words, from + i));
    return value;
  };
  const part = (from: number, count: number) => {
    const value = number(key, from, count);
    const wanted = number(mask, from, count);
    const isFull = wanted === (1n << BigInt(8 * count)) - 1n;
    return hexNumber(value) + (isFull ? '' : `/0x${wanted.toString(16)}`);
  };
  let text = '';
  for (let at = OPTIONS_AT; at + 4 <= end; ) {
    const length = Math.min((keyByte(key, at + 3) & 0x1f) * 4, end - at - 4);
    text += `{class=${part(at, 2)},type=${part(at + 2, 1)},len=${length}${length > 0 ? `,${part(at + 4, length)}` : ''}}`;
    at += 4 + length;
  }
  return `geneve(${text})`;
}

/** The inside of `tunnel(`, up to and with its closing parenthesis. */
export function parseTunnel(scanner: Scanner, into: KeyAndMask): void {
  scanner.list(() => {
    const start = scanner.at;
    const name = scanner.name();
    const field = TUNNEL_FIELDS.find((each) => each.name === name);
    if (field !== undefined) {
      scanner.expect('=');
      if (field.format === 'ipv4') setVersion(scanner, into, 4);
      if (field.format === 'ipv6') setVersion(scanner, into, 6);
      return parseField(scanner, field, into);
    }
    scanner.expect('(');
    switch (name) {
      case 'flags':
        parseField(scanner, TUNNEL_FLAGS_FIELD, into);
        return scanner.expect(')');
      case 'vxlan':
        return parseVxlan(scanner, into);
      case 'erspan':
        return parseErspan(scanner, into);
      case 'geneve':
        return parseGeneve(scanner, into);
      default:
        scanner.failAt(start, `tunnel has no field '${name}'`);
    }
  });
}

function setVersion(scanner: Scanner, into: KeyAndMask, version: number): void {
  const before = keyByte(into.key, VERSION_AT);
  if (before !== 0 && before !== version) scanner.fail('addresses of IPv4 and IPv6 in one tunnel');
  setKeyByte(into.key, VERSION_AT, version);
  setKeyByte(into.mask, VERSION_AT, 0xff);
}

function setOptions(scanner: Scanner, into: KeyAndMask, kind: number, lengthBytes: number): void {
  if (keyByte(into.key, KIND_AT) !== TunnelOptions.NONE) scanner.fail('options of two kinds in one tunnel');
  setKeyByte(into.key, KIND_AT, kind);
  setKeyByte(into.mask, KIND_AT, 0xff);
  setKeyByte(into.key, OPTIONS_LENGTH_AT, lengthBytes);
  setKeyByte(into.mask, OPTIONS_LENGTH_AT, 0xff);
}

function maskedNumber(scanner: Scanner, bits: number): [value: number, mask: number] {
  const value = scanner.number(bits);
  return [value, scanner.eat('/') ? scanner.number(bits) : 2 ** bits - 1];
}

function parseVxlan(scanner: Scanner, into: KeyAndMask): void {
  setOptions(scanner, into, TunnelOptions.VXLAN_GBP, 4);
  scanner.expect('gbp(id=');
  const id = maskedNumber(scanner, 16);
  scanner.expect(',flags=');
  const flags = maskedNumber(scanner, 8);
  scanner.expect('))');
  into.key[Word.TUNNEL_OPTIONS] = (flags[0] << 16) | id[0];
  into.mask[Word.TUNNEL_OPTIONS] = (flags[1] << 16) | id[1];
}

function parseErspan(scanner: Scanner, into: KeyAndMask): void {
  setOptions(scanner, into, TunnelOptions.ERSPAN, 8);
  scanner.expect('ver=');
  const version = scanner.number(8);
  into.key[Word.TUNNEL_OPTIONS] = version;
  into.mask[Word.TUNNEL_OPTIONS] = 0xffff_ffff;
  if (version === 1) {
    scanner.expect(',idx=');
    const index = maskedNumber(scanner, 32);
    into.key[Word.TUNNEL_OPTIONS + 1] = index[0];
    into.mask[Word.TUNNEL_OPTIONS + 1] = index[1];
  } else if (version === 2) {
    scanner.expect(',dir=');
    const direction = maskedNumber(scanner, 8);
    scanner.expect(',hwid=');
    const hardware = maskedNumber(scanner, 8);
    into.key[Word.TUNNEL_OPTIONS + 1] = (direction[0] << 8) | hardware[0];
    into.mask[Word.TUNNEL_OPTIONS + 1] = (direction[1] << 8) | hardware[1];
  } else {
    scanner.fail(`unknown version ${version} of ERSPAN`);
  }
  scanner.expect(')');
}

function parseGeneve(scanner: Scanner, into: KeyAndMask): void {
  let at = OPTIONS_AT;
  const put = (count: number) => {
    const bits = count * 8;
    const value = scanner.bigNumber(bits);
    const mask = scanner.eat('/') ? scanner.bigNumber(bits) : (1n << BigInt(bits)) - 1n;
    for (let i = 0; i < count; i += 1) {
      const shift = BigInt(8 * (count - 1 - i));
      setKeyByte(into.key, at + i, Number((value >> shift) & 0xffn));
      setKeyByte(into.mask, at + i, Number((mask >> shift) & 0xffn));
    }
    at += count;
  };
  while (scanner.eat('{')) {
    if (at - OPTIONS_AT + 4 > GENEVE_MAXIMUM_BYTES) scanner.fail('too many Geneve options');
    scanner.expect('class=');
    put(2);
    scanner.expect(',type=');
    put(1);
    scanner.expect(',len=');
    const length = scanner.number(8);
    if (length > 124 || (length & 3) !== 0)
      scanner.fail(`an option's length is a multiple of 4 up to 124, not ${length}`);
    if (at - OPTIONS_AT + 1 + length > GENEVE_MAXIMUM_BYTES) scanner.fail('too many Geneve options');
    setKeyByte(into.key, at, length / 4);
    setKeyByte(into.mask, at, 0xff);
    at += 1;
    if (length > 0) {
      scanner.expect(',');
      put(length);
    }
    scanner.expect('}');
  }
  setOptions(scanner, into, TunnelOptions.GENEVE, at - OPTIONS_AT);
  scanner.expect(')');
}
