/**
 * The packet while it is decided about: the words of its flow key as they came, with what the decision has set so far, and where its VLAN
 * tags are now. All reading and setting of fields goes through here, so that marks and actions follow from the same place.
 * Neighbours: packet-view.ts is what deciders see, decision.ts what they say.
 */
import { KEY_WORDS, Sound, TAG_PRESENT, Word } from '../flow/index.ts';
import { EtherType, IpProtocol, toKeyPort } from '../net/index.ts';
import { Marks } from './marks.ts';
import { asPortNumber, type PortNumber } from './port-number.ts';

const ETHER_TYPE_BITS = 0xffff_0000;
const PROTOCOL_BITS = 0xff00_0000;
const TTL_BITS = 0x0000_ff00;

/** A VLAN tag as it stands now. */
interface Tag {
  /** TPID 16 | TCI 16 with TAG_PRESENT. */
  value: number;
  /** The word of the key that it came in; -1 for one that the decision pushed. */
  origin: number;
  /** Bits of the value that the decision has set. */
  known: number;
}

export class PacketState {
  readonly marks = new Marks();
  /** The key as it is now. */
  readonly words = new Uint32Array(KEY_WORDS);
  /** Bits that the decision has set. */
  readonly #known = new Uint32Array(KEY_WORDS);
  #tags: Tag[] = [];
  /** Of time to live what depended on the packet when it was decremented, and the least that it was then. */
  #ttlBits = 0;
  #leastTtl = TTL_BITS;
  /** Called when a decision looks at what no flow can hold. */
  onBeyondFlows: (reason: string) => void = () => {};
  /** Called when a decision asks for the connection of a packet that was not tracked. */
  onUntracked: () => void = () => {};

  /** Begin with the key of a packet. */
  begin(key: Uint32Array, isTraced: boolean): void {
    this.marks.begin(isTraced);
    this.words.set(key);
    this.#known.fill(0);
    this.#ttlBits = 0;
    this.#leastTtl = TTL_BITS;
    this.#tags = [Word.VLAN, Word.INNER_VLAN].map((origin) => ({ value: key[origin], origin, known: 0 }));
  }

  /** Look at bits of a word. @returns these bits, in their place */
  look(word: number, bits: number): number {
    this.marks.add(word, bits & ~this.#known[word]);
    return this.words[word] & bits;
  }

  /** Look at the port that it came in by. */
  lookAtPort(): PortNumber {
    return asPortNumber(toKeyPort(this.look(Word.IN_PORT, 0xffff_ffff)));
  }

  /** Set bits of a word, which are known from now on. */
  set(word: number, bits: number, value: number): void {
    this.words[word] = (this.words[word] & ~bits) | (value & bits);
    this.#known[word] |= bits;
  }

  /** The time to live is one less. What it is still depends on the packet. */
  decrementTtl(): void {
    const word = this.words[Word.IP];
    if ((word & TTL_BITS) !== 0) this.words[Word.IP] = word - 0x100;
    this.#ttlBits |= TTL_BITS & ~this.#known[Word.IP];
    this.#leastTtl = Math.min(this.#leastTtl, this.words[Word.IP] & TTL_BITS);
  }

  /** Whether its time to live has run out when it was decremented. */
  isTimeUp(): boolean {
    this.marks.add(Word.IP, this.#ttlBits);
    return this.#leastTtl === 0;
  }

  /** EtherType behind all tags that a key holds. */
  etherType(): number {
    this.marks.note('ethernet.type', 16, 16);
    return this.look(Word.ETH_TYPE, ETHER_TYPE_BITS) >>> 16;
  }

  /** Whether the packet is of this EtherType, one of IPv4, IPv6 and ARP, and the header could be read. */
  isNetwork(type: number): boolean {
    return this.etherType() === type && this.look(Word.ETH_TYPE, Sound.NETWORK) !== 0;
  }

  /** Whether the packet is IP, and its header could be read. */
  isIp(): boolean {
    const type = this.etherType();
    return (type === EtherType.IPV4 || type === EtherType.IPV6) && this.look(Word.ETH_TYPE, Sound.NETWORK) !== 0;
  }

  /** IP protocol behind extension headers, of a packet that is IP. */
  protocol(): number {
    this.marks.note('ip.protocol', 8, 8);
    return this.look(Word.IP, PROTOCOL_BITS) >>> 24;
  }

  /** Whether the packet is of this protocol over IP, and its transport header is there. */
  isTransport(protocol: number): boolean {
    return this.isIp() && this.protocol() === protocol && this.look(Word.ETH_TYPE, Sound.TRANSPORT) !== 0;
  }

  /** Whether the packet is ICMP of its own IP version, and the header is there. */
  isIcmp(etherType: number): boolean {
    const protocol = etherType === EtherType.IPV4 ? IpProtocol.ICMPV4 : IpProtocol.ICMPV6;
    return this.isNetwork(etherType) && this.isTransport(protocol);
  }

  /** Whether there is a tag, the outermost being 0. Behind the two that a key holds none is seen. */
  hasTag(depth: number): boolean {
    return this.lookTag(depth, TAG_PRESENT) !== 0;
  }

  /** Look at bits of a tag. */
  lookTag(depth: number, bits: number): number {
    const tag = this.#tags[depth];
    if (tag === undefined) return 0;
    if (tag.origin !== -1) this.marks.add(tag.origin, bits & ~tag.known);
    return tag.value & bits;
  }

  /** Set bits of a tag that is there. */
  setTag(depth: number, bits: number, value: number): void {
    const tag = this.#tags[depth];
    if (tag === undefined) return;
    tag.value = (tag.value & ~bits) | (value & bits);
    tag.known |= bits;
  }

  pushTag(value: number): void {
    this.#tags.unshift({ value: value | TAG_PRESENT, origin: -1, known: 0xffff_ffff });
  }

  popTag(): void {
    this.#tags.shift();
  }

  /** Whether the decision has set anything so far. */
  get isChanged(): boolean {
    if (this.#tags.length !== 2 || this.#tags.some(({ origin, known }) => origin === -1 || known !== 0)) return true;
    return this.#leastTtl !== TTL_BITS || this.#known.some((bits) => bits !== 0);
  }

  /** What {@link restore} goes back to. */
  save(): SavedState {
    return {
      words: this.words.slice(),
      known: this.#known.slice(),
      tags: this.#tags.map((tag) => ({ ...tag })),
    };
  }

  restore(saved: SavedState): void {
    this.words.set(saved.words);
    this.#known.set(saved.known);
    this.#tags = saved.tags.map((tag) => ({ ...tag }));
  }
}

/** A packet as it was. */
export interface SavedState {
  readonly words: Uint32Array;
  readonly known: Uint32Array;
  readonly tags: readonly { readonly value: number; readonly origin: number; readonly known: number }[];
}
