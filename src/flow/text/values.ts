/** Values of fields as text: numbers, addresses, flags by name. Bytes in and out, so that a mask reads like a value. */
import { formatIpv4, formatIpv6, formatMac, parseIpv4Into, parseIpv6Into, parseMacInto } from '../../net/index.ts';
import type { FieldFormat, FlowField } from '../key/fields.ts';
import type { Scanner } from './scanner.ts';

/** Names of flag bits, the lowest first. */
const FLAG_NAMES: Partial<Record<FieldFormat, readonly string[]>> = {
  'tcp-flags': ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr', 'ns', '[200]', '[400]', '[800]'],
  'ct-state': ['new', 'est', 'rel', 'rpl', 'inv', 'trk', 'snat', 'dnat'],
  'tunnel-flags': ['df', 'csum', 'key', 'oam'],
};

const FRAGMENTS = ['no', 'first', 'later'];

const ADDRESS = /[0-9a-fA-F:.]+/y;
const FLAG = /[a-z]+|\[[0-9]+\]/y;
const WORD = /[a-z]+/y;

/** A field's bits that can be 1. */
export function fullMask(field: FlowField): Uint8Array {
  if (field.maximum === 0) return new Uint8Array(field.widthBytes).fill(0xff);
  return toBytes(BigInt(field.maximum), field.widthBytes);
}

export function toBytes(value: bigint, widthBytes: number): Uint8Array {
  return Uint8Array.from({ length: widthBytes }, (_, i) => Number((value >> BigInt(8 * (widthBytes - 1 - i))) & 0xffn));
}

export function toBigInt(bytes: Uint8Array): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Whether a mask covers all of a field. */
export function isFull(mask: Uint8Array, field: FlowField): boolean {
  return fullMask(field).every((byte, i) => (mask[i] & byte) === byte);
}

export function hexNumber(value: bigint | number): string {
  return value === 0n || value === 0 ? '0' : `0x${value.toString(16)}`;
}

/** Bytes as two digits each, and back. */
export function hexDigits(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const HEX_BYTES = /(?:[0-9a-fA-F]{2})*/y;

export function hexBytes(scanner: Scanner): Uint8Array {
  const digits = scanner.match(HEX_BYTES) ?? '';
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
}

/** A value under its mask; the mask is left out when it covers all. */
export function formatMasked(value: Uint8Array, mask: Uint8Array, field: FlowField): string {
  const flags = FLAG_NAMES[field.format];
  if (flags !== undefined) return formatFlags(value, mask, field, flags);
  const text = formatValue(value, field.format);
  return isFull(mask, field) ? text : `${text}/${formatMask(mask, field.format)}`;
}

function formatValue(bytes: Uint8Array, format: FieldFormat): string {
  switch (format) {
    case 'mac':
      return formatMac(bytes);
    case 'ipv4':
      return formatIpv4(bytes);
    case 'ipv6':
      return formatIpv6(bytes);
    case 'fragment':
      return FRAGMENTS[bytes[0]] ?? String(bytes[0]);
    case 'hex1':
      return `0x${toBigInt(bytes).toString(16)}`;
    case 'hex4':
      return `0x${toBigInt(bytes).toString(16).padStart(4, '0')}`;
    case 'hex':
      return hexNumber(toBigInt(bytes));
    default:
      return toBigInt(bytes).toString();
  }
}

function formatMask(bytes: Uint8Array, format: FieldFormat): string {
  if (format === 'mac' || format === 'ipv4' || format === 'ipv6') return formatValue(bytes, format);
  return `0x${toBigInt(bytes).toString(16)}`;
}

/** Flags that all count are joined with bars; else each that counts has a plus or a minus. States are always of that kind. */
function formatFlags(value: Uint8Array, mask: Uint8Array, field: FlowField, names: readonly string[]): string {
  const bits = Number(toBigInt(value));
  const wanted = Number(toBigInt(mask));
  if (field.format !== 'ct-state' && isFull(mask, field)) return joinedFlags(bits, field.format);
  let text = '';
  for (const [bit, name] of names.entries()) {
    if (((wanted >>> bit) & 1) === 1) text += (((bits >>> bit) & 1) === 1 ? '+' : '-') + name;
  }
  return text;
}

/** Flags that are set, joined with bars; '0' for none. */
export function joinedFlags(bits: number, format: FieldFormat): string {
  const names = FLAG_NAMES[format] ?? [];
  return names.filter((_, bit) => ((bits >>> bit) & 1) === 1).join('|') || '0';
}

/** A value with an optional mask behind a slash. */
export function parseMasked(scanner: Scanner, field: FlowField): [value: Uint8Array, mask: Uint8Array] {
  const flags = FLAG_NAMES[field.format];
  if (flags !== undefined) return parseFlags(scanner, field, flags);
  const value = parseValue(scanner, field);
  if (!scanner.eat('/')) return [value, fullMask(field)];
  const mask = field.format === 'fragment' ? toBytes(scanner.bigNumber(8), 1) : parseValue(scanner, field);
  return [value, mask];
}

function parseValue(scanner: Scanner, field: FlowField): Uint8Array {
  const bytes = new Uint8Array(field.widthBytes);
  const start = scanner.at;
  switch (field.format) {
    case 'mac':
      if (!parseMacInto(scanner.match(ADDRESS) ?? '', bytes, 0)) return scanner.failAt(start, 'a MAC address expected');
      return bytes;
    case 'ipv4':
      if (!parseIpv4Into(scanner.match(ADDRESS) ?? '', bytes, 0))
        return scanner.failAt(start, 'an IPv4 address expected');
      return bytes;
    case 'ipv6':
      if (!parseIpv6Into(scanner.match(ADDRESS) ?? '', bytes, 0))
        return scanner.failAt(start, 'an IPv6 address expected');
      return bytes;
    case 'fragment': {
      const word = scanner.match(WORD);
      if (word === null) return toBytes(scanner.bigNumber(8), 1);
      const number = FRAGMENTS.indexOf(word);
      return number === -1 ? scanner.failAt(start, "'no', 'first' or 'later' expected") : Uint8Array.of(number);
    }
    default: {
      const value = scanner.bigNumber(field.widthBytes * 8);
      if (field.maximum !== 0 && value > BigInt(field.maximum)) {
        return scanner.failAt(start, `${value} is more than ${field.maximum}`);
      }
      return toBytes(value, field.widthBytes);
    }
  }
}

/** `syn|ack`, `+syn-ack`, `0x12/0x12`, `0x12`, or nothing for no flags. */
function parseFlags(scanner: Scanner, field: FlowField, names: readonly string[]): [Uint8Array, Uint8Array] {
  const result = (value: number, mask: number): [Uint8Array, Uint8Array] => [
    toBytes(BigInt(value), field.widthBytes),
    toBytes(BigInt(mask), field.widthBytes),
  ];
  const all = 2 ** names.length - 1;
  const one = () => {
    const start = scanner.at;
    const bit = names.indexOf(scanner.match(FLAG) ?? '');
    return bit === -1 ? scanner.failAt(start, `one of ${names.join(', ')} expected`) : 1 << bit;
  };
  const next = scanner.text[scanner.at] ?? '';
  if (next === ')') return result(0, all);
  if (next >= '0' && next <= '9') {
    const value = scanner.number(names.length);
    const mask = scanner.eat('/') ? scanner.number(16) & all : all;
    return result(value, mask);
  }
  let value = 0;
  let mask = 0;
  if (next === '+' || next === '-') {
    while (scanner.text[scanner.at] === '+' || scanner.text[scanner.at] === '-') {
      const isSet = scanner.text[scanner.at] === '+';
      scanner.at += 1;
      const bit = one();
      if ((mask & bit) !== 0) scanner.fail('a flag given twice');
      mask |= bit;
      if (isSet) value |= bit;
    }
    return result(value, mask);
  }
  do value |= one();
  while (scanner.eat('|'));
  return result(value, all);
}
