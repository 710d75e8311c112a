/**
 * The words of SET and SET_MASKED: the attribute of the key that is set, then for each of its words the value and the mask, whole where
 * all of it is set; of a tunnel the key's tunnel words, up to the end of its options.
 */
import { KeyAttribute } from '../../key/fields.ts';
import { TUNNEL_BASE_WORDS, tunnelOptionsBytes, Word } from '../../key/layout.ts';
import { packedWords } from '../encoding.ts';

/** A word of the key that a set action covers. */
export interface SetWord {
  readonly word: number;
  /** The bits that belong to the attribute. */
  readonly bits: number;
  /** The bits that may be changed. */
  readonly writable: number;
}

const ALL = 0xffff_ffff;

function whole(first: number, count = 1): SetWord[] {
  return Array.from({ length: count }, (_, i) => ({ word: first + i, bits: ALL, writable: ALL }));
}

/** The key words of each attribute that can be set, in the order of the encoding. */
const SET_LAYOUTS: ReadonlyMap<number, readonly SetWord[]> = new Map([
  [KeyAttribute.PRIORITY as number, whole(Word.PRIORITY)],
  [KeyAttribute.SKB_MARK, whole(Word.MARK)],
  [KeyAttribute.ETHERNET, whole(Word.MAC, 3)],
  [
    KeyAttribute.IPV4,
    [{ word: Word.IP, bits: ALL, writable: 0x00ff_ff00 }, ...whole(Word.IPV4_SOURCE), ...whole(Word.IPV4_DESTINATION)],
  ],
  [
    KeyAttribute.IPV6,
    [
      { word: Word.IP, bits: ALL, writable: 0x00ff_ff00 },
      ...whole(Word.IPV6_SOURCE, 4),
      ...whole(Word.IPV6_DESTINATION, 4),
      { word: Word.IPV6_LABEL, bits: 0xf_ffff, writable: 0xf_ffff },
    ],
  ],
  [KeyAttribute.TCP, whole(Word.PORTS)],
  [KeyAttribute.UDP, whole(Word.PORTS)],
  [KeyAttribute.SCTP, whole(Word.PORTS)],
  [KeyAttribute.ICMP, [{ word: Word.PORTS, bits: 0x00ff_00ff, writable: 0x00ff_00ff }]],
  [KeyAttribute.ICMPV6, [{ word: Word.PORTS, bits: 0x00ff_00ff, writable: 0x00ff_00ff }]],
  [
    KeyAttribute.ARP,
    [
      { word: Word.IP, bits: 0xff00_0000, writable: 0xff00_0000 },
      ...whole(Word.IPV4_SOURCE),
      ...whole(Word.IPV4_DESTINATION),
      ...whole(Word.ARP_MAC, 3),
    ],
  ],
  [KeyAttribute.ND, [...whole(Word.ND_TARGET, 4), ...whole(Word.ND_MAC, 3)]],
  [KeyAttribute.MPLS, whole(Word.MPLS)],
  [
    KeyAttribute.NSH,
    [{ word: Word.NSH_BASE, bits: ALL, writable: 0xffff_0000 }, ...whole(Word.NSH_PATH), ...whole(Word.NSH_CONTEXT, 4)],
  ],
]);

/** The words that a set of an attribute covers; undefined when the attribute cannot be set, or is the tunnel. */
export function setLayout(attribute: number): readonly SetWord[] | undefined {
  return SET_LAYOUTS.get(attribute);
}

/** How many words of a tunnel with this word of flags are set. */
export function tunnelWords(flagsWord: number): number {
  return TUNNEL_BASE_WORDS + packedWords(tunnelOptionsBytes(flagsWord));
}

/** The words behind a head. @throws RangeError when the attribute cannot be set */
export function setWords(attribute: number, value: Uint32Array, mask?: Uint32Array): number[] {
  if (attribute === KeyAttribute.TUNNEL) {
    return [attribute, ...value.subarray(Word.TUNNEL, Word.TUNNEL + tunnelWords(value[Word.TUNNEL_FLAGS]))];
  }
  const layout = setLayout(attribute);
  if (layout === undefined) throw new RangeError(`attribute ${attribute} cannot be set`);
  const words = [attribute];
  for (const { word, bits } of layout) {
    const wanted = mask === undefined ? bits : mask[word] & bits;
    words.push(value[word] & wanted, wanted);
  }
  return words;
}

/** What an action sets, in a key and a mask whose words are 0; of a tunnel the mask stays 0. @param end the word behind it */
export function readSet(words: Int32Array, at: number, end: number, key: Uint32Array, mask: Uint32Array): void {
  const attribute = words[at + 1];
  if (attribute === KeyAttribute.TUNNEL) {
    key.set(words.subarray(at + 2, end), Word.TUNNEL);
    return;
  }
  const layout = setLayout(attribute) ?? [];
  for (let i = 0; i < layout.length; i += 1) {
    key[layout[i].word] = words[at + 2 + i * 2];
    mask[layout[i].word] = words[at + 3 + i * 2];
  }
}
