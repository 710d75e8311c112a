/** MPLS label stack entries as text: `label=5,tc=0,ttl=64,bos=1` for one, `lse0=0x5040,lse1=0x7140` for several. */
import { MPLS_DEPTH, Word } from '../key/layout.ts';
import type { KeyAndMask } from './groups.ts';
import type { Scanner } from './scanner.ts';
import { hexNumber } from './values.ts';

/** The parts of an entry: bits and shift (RFC 3032). */
const PARTS = [
  { name: 'label', bits: 20, shift: 12 },
  { name: 'tc', bits: 3, shift: 9 },
  { name: 'ttl', bits: 8, shift: 0 },
  { name: 'bos', bits: 1, shift: 8 },
] as const;

/** One entry; a mask that does not cover all of it is written with every part. */
export function formatEntry(entry: number, mask: number): string {
  const isFull = mask >>> 0 === 0xffff_ffff;
  return PARTS.map(({ name, bits, shift }) => {
    const full = 2 ** bits - 1;
    const value = (entry >>> shift) & full;
    // Open vSwitch writes the masks of the short parts without '0x'.
    const prefix = bits < 8 ? '' : '0x';
    return isFull ? `${name}=${value}` : `${name}=${value}/${prefix}${((mask >>> shift) & full).toString(16)}`;
  }).join(',');
}

/** `mpls(...)` with so many entries, or '' for none. */
export function formatMpls(words: KeyAndMask, count: number): string {
  if (count === 0) return '';
  if (count === 1) return `mpls(${formatEntry(words.key[Word.MPLS], words.mask[Word.MPLS])})`;
  const entries = Array.from({ length: count }, (_, i) => {
    const mask = words.mask[Word.MPLS + i];
    const suffix = mask === 0xffff_ffff ? '' : `/0x${mask.toString(16)}`;
    return `lse${i}=${hexNumber(words.key[Word.MPLS + i])}${suffix}`;
  });
  return `mpls(${entries.join(',')})`;
}

/** The inside of `mpls(`, up to and with its closing parenthesis. */
export function parseMpls(scanner: Scanner, into: KeyAndMask): void {
  let count = 0;
  if (scanner.text.startsWith('lse', scanner.at)) {
    scanner.list(() => {
      if (count === MPLS_DEPTH) scanner.fail(`more than ${MPLS_DEPTH} labels`);
      scanner.expect(`lse${count}=`);
      into.key[Word.MPLS + count] = scanner.number(32);
      into.mask[Word.MPLS + count] = scanner.eat('/') ? scanner.number(32) : 0xffff_ffff;
      count += 1;
    });
  } else {
    const [entry, mask] = parseEntry(scanner, () => scanner.fail('unknown part of a label stack entry'));
    into.key[Word.MPLS] = entry;
    into.mask[Word.MPLS] = mask;
    count = 1;
  }
  into.key[Word.MPLS_LABELS] = (1 << count) - 1;
  into.mask[Word.MPLS_LABELS] = (1 << count) - 1;
}

/**
 * The parts of one entry up to and with a closing parenthesis.
 * @param other called for a name that is not a part, behind its '='
 */
export function parseEntry(scanner: Scanner, other: (name: string) => void): [entry: number, mask: number] {
  let entry = 0;
  let mask = 0;
  scanner.arguments((name) => {
    const part = PARTS.find((each) => each.name === name);
    if (part === undefined) return other(name);
    entry |= scanner.number(part.bits) << part.shift;
    mask |= (scanner.eat('/') ? scanner.number(part.bits) : 2 ** part.bits - 1) << part.shift;
  });
  return [entry >>> 0, mask >>> 0];
}
