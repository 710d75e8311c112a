/**
 * The limit on how many IP addresses a port may use as sources (security property, DynamicIPAddressLimit). The first
 * addresses seen take the places; a place is given back when its address has been silent for the hold time.
 */
import { EtherType, type HeaderOffsets, type Packet } from '../../net/index.ts';

/** How long a silent address keeps its place. */
const HOLD_MS = 300_000;

/** The addresses of one port. IPv4 addresses are kept in their IPv4-mapped form. */
export class AddressLimit {
  readonly #words: Uint32Array;
  readonly #seenMs: Float64Array;
  readonly limit: number;
  #count = 0;

  /** @param limit most addresses */
  constructor(limit: number) {
    this.limit = limit;
    this.#words = new Uint32Array(limit * 4);
    this.#seenMs = new Float64Array(limit);
  }

  /**
   * Whether the packet's source address has or gets a place. Packets without an address of their own (other protocols,
   * the unspecified address) pass.
   * @param commit false only looks
   */
  accepts(packet: Packet, headers: HeaderOffsets, nowMs: number, commit: boolean): boolean {
    const bytes = packet.bytes;
    const l3 = packet.offset + headers.l3Offset;
    if (headers.etherType === EtherType.ARP) {
      // ARP for IPv4 over Ethernet: the sender protocol address, RFC 826.
      const forIpv4 = packet.length >= headers.l3Offset + 28 && bytes[l3 + 2] === 8 && bytes[l3 + 3] === 0;
      const word = forIpv4 ? readWord(bytes, l3 + 14) : 0;
      return word === 0 || this.#accepts(0, 0, 0xffff, word, nowMs, commit);
    }
    if (headers.ipVersion === 4) {
      const word = readWord(bytes, l3 + 12);
      return word === 0 || this.#accepts(0, 0, 0xffff, word, nowMs, commit);
    }
    if (headers.ipVersion !== 6) return true;
    const a = readWord(bytes, l3 + 8);
    const b = readWord(bytes, l3 + 12);
    const c = readWord(bytes, l3 + 16);
    const d = readWord(bytes, l3 + 20);
    return (a | b | c | d) === 0 || this.#accepts(a, b, c, d, nowMs, commit);
  }

  #accepts(a: number, b: number, c: number, d: number, nowMs: number, commit: boolean): boolean {
    const words = this.#words;
    let oldest = -1;
    for (let i = 0; i < this.#count; i += 1) {
      const at = i * 4;
      if (words[at + 3] === d && words[at + 2] === c && words[at + 1] === b && words[at] === a) {
        if (commit) this.#seenMs[i] = nowMs;
        return true;
      }
      if (oldest === -1 && nowMs - this.#seenMs[i] > HOLD_MS) oldest = i;
    }
    let place = oldest;
    if (place === -1) {
      if (this.#count === this.limit) return false;
      place = this.#count;
      if (commit) this.#count += 1;
    }
    if (commit) {
      words[place * 4] = a;
      words[place * 4 + 1] = b;
      words[place * 4 + 2] = c;
      words[place * 4 + 3] = d;
      this.#seenMs[place] = nowMs;
    }
    return true;
  }
}

function readWord(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}
