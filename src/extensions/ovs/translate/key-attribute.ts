/**
 * One attribute of a flow key, between its structure in linux/openvswitch.h and the words of flow/'s keys. Both directions go by the
 * layouts here, so what is written can be read. key-decode.ts and key-encode.ts put whole keys together; actions use single ones.
 */
import { groupOf, KeyAttribute, setKeyByte, Word } from '../../../flow/index.ts';

/** Which byte of the key's byte string each byte of an attribute's structure is; -1 for padding. */
const BYTES = new Map<number, readonly number[]>();

/** Fields of flow/'s table in their order, which for these groups is that of the structure. */
for (const attribute of [
  KeyAttribute.ETHERNET,
  KeyAttribute.ETHERTYPE,
  KeyAttribute.IPV4,
  KeyAttribute.IPV6,
  KeyAttribute.TCP,
  KeyAttribute.UDP,
  KeyAttribute.SCTP,
  KeyAttribute.TCP_FLAGS,
  KeyAttribute.ND,
]) {
  BYTES.set(
    attribute,
    (groupOf(attribute)?.fields ?? []).flatMap((field) => range(field.byteOffset, field.widthBytes)),
  );
}
// Numbers in the host's order, which is little-endian: the last byte of the word comes first.
for (const [attribute, word] of [
  [KeyAttribute.RECIRC_ID, Word.RECIRC_ID],
  [KeyAttribute.DP_HASH, Word.DP_HASH],
  [KeyAttribute.PRIORITY, Word.PRIORITY],
  [KeyAttribute.IN_PORT, Word.IN_PORT],
  [KeyAttribute.SKB_MARK, Word.MARK],
  [KeyAttribute.CT_MARK, Word.CT_MARK],
] as const) {
  BYTES.set(attribute, range(word * 4, 4).reverse());
}
BYTES.set(KeyAttribute.CT_STATE, [Word.CT * 4, -1, -1, -1]);
BYTES.set(KeyAttribute.CT_ZONE, [Word.CT * 4 + 3, Word.CT * 4 + 2]);
BYTES.set(KeyAttribute.CT_LABELS, range(Word.CT_LABEL * 4, 16).reverse());
BYTES.set(KeyAttribute.IPV6_EXTHDRS, [Word.TCP_FLAGS * 4 + 3, Word.TCP_FLAGS * 4 + 2]);
BYTES.set(KeyAttribute.ICMP, [Word.PORTS * 4 + 1, Word.PORTS * 4 + 3]);
BYTES.set(KeyAttribute.ICMPV6, [Word.PORTS * 4 + 1, Word.PORTS * 4 + 3]);
BYTES.set(KeyAttribute.ARP, [
  ...range(Word.IPV4_SOURCE * 4, 8),
  // The operation has 16 bits, of which the key holds the lower 8.
  -1,
  Word.IP * 4,
  ...range(Word.ARP_MAC * 4, 12),
  -1,
  -1,
]);
BYTES.set(KeyAttribute.CT_ORIG_TUPLE_IPV4, [
  ...range(Word.CT_SOURCE * 4, 8),
  ...range(Word.CT_PORTS * 4, 4),
  Word.CT * 4 + 1,
  -1,
  -1,
  -1,
]);
BYTES.set(KeyAttribute.CT_ORIG_TUPLE_IPV6, [
  ...range(Word.CT_SOURCE * 4, 32),
  ...range(Word.CT_PORTS * 4, 4),
  Word.CT * 4 + 1,
  -1,
  -1,
  -1,
]);

function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

/** By attribute: its places, and an array of its length that is written again and again. */
const READERS: (Reader | undefined)[] = [];
for (const [attribute, places] of BYTES) {
  READERS[attribute] = { places: Int32Array.from(places), content: new Uint8Array(places.length) };
}

interface Reader {
  readonly places: Int32Array;
  readonly content: Uint8Array;
}

/** Length of an attribute's structure in bytes, or -1 for attributes of another kind (nests, tags, MPLS). */
export function structureBytes(attribute: number): number {
  return READERS[attribute]?.places.length ?? -1;
}

/** Put a structure into a key. The caller has checked its length. @param at where it begins */
export function writeStructure(attribute: number, bytes: Uint8Array, words: Uint32Array, at = 0): void {
  const places = READERS[attribute]?.places;
  if (places === undefined) return;
  for (let i = 0; i < places.length; i += 1) if (places[i] >= 0) setKeyByte(words, places[i], bytes[at + i]);
}

/** Whether the bytes that the key has no room for are 0. @param at where the structure begins */
export function paddingIsZero(attribute: number, bytes: Uint8Array, at = 0): boolean {
  const places = READERS[attribute]?.places;
  if (places === undefined) return true;
  for (let i = 0; i < places.length; i += 1) if (places[i] < 0 && bytes[at + i] !== 0) return false;
  return true;
}

const NOTHING = new Uint8Array(0);

/** A key's structure, in an array that the next call for the same attribute overwrites. */
export function readStructure(attribute: number, words: Uint32Array): Uint8Array {
  const reader = READERS[attribute];
  if (reader === undefined) return NOTHING;
  const { places, content } = reader;
  for (let i = 0; i < places.length; i += 1) {
    const place = places[i];
    if (place >= 0) content[i] = words[place >> 2] >>> (24 - ((place & 3) << 3));
  }
  return content;
}
