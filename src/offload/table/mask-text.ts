/**
 * Masks for people, in Open vSwitch's flow syntax without values: `in_port,eth(dst),eth_type(0x0800),ipv4(src/255.0.0.0,proto)`. Which fields
 * the bits of a mask are depends on the packets, so flows are asked that have it. show.ts prints it.
 */
import { formatFlowKey, KEY_WORDS, Word } from '../../flow/index.ts';
import type { MappedTables } from '../layout/mapped-tables.ts';
import { describeMask } from '../program/lookup.ts';
import type { HookState, MaskWords } from './hook-state.ts';
import type { Numbered } from './numbers.ts';

/** Kinds of packets that are told of one mask. */
const KINDS = 3;

/** What tells how a key reads: EtherType and tags, and the protocol. */
const TELLING: readonly (readonly [word: number, bits: number])[] = [
  [Word.ETH_TYPE, 0xffff_00ff],
  [Word.VLAN, 0xffff_1000],
  [Word.INNER_VLAN, 0xffff_1000],
  [Word.IP, 0xff00_0000],
];

/** The text of each mask in a hook's program, by its number. */
export function maskTexts(state: HookState, { entries, maps }: MappedTables): Map<number, string> {
  const masks = new Map(state.order.map((mask) => [mask.number, new MaskText(mask)]));
  for (let entry = 1; entry < maps.sizes.entries; entry += 1) {
    const number = entries.maskOf(entry);
    if (number !== -1) masks.get(number)?.see(entries.words, entries.keyAt(entry));
  }
  return new Map([...masks].map(([number, mask]) => [number, mask.text]));
}

class MaskText {
  readonly #mask: Numbered<MaskWords>;
  /** Places of telling words in the masked key, with their bits. */
  readonly #telling: readonly (readonly [place: number, bits: number])[];
  readonly #kinds = new Set<string>();
  readonly #texts: string[] = [];

  constructor(mask: Numbered<MaskWords>) {
    this.#mask = mask;
    this.#telling = TELLING.map(([word, bits]) => [mask.value.index.indexOf(word), bits] as const).filter(
      ([place]) => place !== -1,
    );
  }

  /** @param at where in `words` the masked key of a flow begins */
  see(words: Uint32Array, at: number): void {
    if (this.#texts.length > KINDS) return;
    let kind = '';
    for (const [place, bits] of this.#telling) kind += `${words[at + place] & bits} `;
    if (this.#kinds.has(kind)) return;
    this.#kinds.add(kind);
    const { index, values } = this.#mask.value;
    const key = new Uint32Array(KEY_WORDS);
    const mask = new Uint32Array(KEY_WORDS);
    index.forEach((word, i) => {
      key[word] = words[at + i];
      mask[word] = values[i];
    });
    const text = withoutValues(formatFlowKey(key, mask));
    if (!this.#texts.includes(text)) this.#texts.push(text);
  }

  get text(): string {
    const { number, value } = this.#mask;
    // A mask that no flow has any more.
    if (this.#texts.length === 0) return describeMask({ number, ...value });
    const shown = this.#texts.slice(0, KINDS).join(' or ');
    return this.#texts.length > KINDS ? `${shown} or others` : shown;
  }
}

/** What a flow looks at without what it wants there: values go, but EtherTypes, without which fields mean nothing. */
export function withoutValues(flow: string): string {
  return flow
    .replace(/\b(?!eth_type\b)([a-z_0-9]+)\(([^()=/,+-]+)(\/[^()]*)?\)/g, '$1$3')
    .replace(/([a-z_0-9]+)=[^,()/]*/g, '$1')
    .replace(/\b[a-z]+\(\),?/g, '');
}
