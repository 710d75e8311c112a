/** Plain groups of fields as text: `ipv4(dst=10.0.0.0/255.0.0.0,proto=6)`. tunnel.ts and flow-key.ts hold those that are not plain. */
import { type FieldGroup, type FlowField, readField, writeField } from '../key/fields.ts';
import { KEY_WORDS } from '../key/layout.ts';
import type { Scanner } from './scanner.ts';
import { formatMasked, isZero, parseMasked } from './values.ts';

/** A key and a mask that text is read into or written from. */
export interface KeyAndMask {
  readonly key: Uint32Array;
  readonly mask: Uint32Array;
}

export function emptyKeyAndMask(): KeyAndMask {
  return { key: new Uint32Array(KEY_WORDS), mask: new Uint32Array(KEY_WORDS) };
}

/** `name=value/mask` of every field that the mask touches, with commas. */
export function formatFields(fields: readonly FlowField[], words: KeyAndMask): string {
  const parts: string[] = [];
  for (const field of fields) {
    const mask = readField(words.mask, field);
    if (isZero(mask)) continue;
    const text = formatMasked(readField(words.key, field), mask, field);
    parts.push(field.name === '' ? text : `${field.name}=${text}`);
  }
  return parts.join(',');
}

/** A whole group, or '' when the mask touches none of it. */
export function formatGroup(group: FieldGroup, words: KeyAndMask): string {
  const text = formatFields(group.fields, words);
  return text === '' ? '' : `${group.name}(${text})`;
}

/** The fields of a group up to its closing parenthesis; the opening one has been read. */
export function parseFields(scanner: Scanner, group: FieldGroup, into: KeyAndMask): void {
  if (group.fields[0].name === '') {
    parseField(scanner, group.fields[0], into);
    scanner.expect(')');
    return;
  }
  scanner.list(() => {
    const start = scanner.at;
    const name = scanner.name();
    // Open vSwitch writes the ports of ct_tuple6 in another way than it reads them.
    const wanted = name === 'src_port' ? 'tp_src' : name === 'dst_port' ? 'tp_dst' : name;
    const field = group.fields.find((each) => each.name === wanted);
    if (field === undefined) scanner.failAt(start, `${group.name} has no field '${name}'`);
    scanner.expect('=');
    parseField(scanner, field, into);
  });
}

export function parseField(scanner: Scanner, field: FlowField, into: KeyAndMask): void {
  const [value, mask] = parseMasked(scanner, field);
  writeField(into.key, field, value);
  writeField(into.mask, field, mask);
}
