/**
 * The hash that the flow cache goes by: of the connection that a packet belongs to, with port and recirculation id. Packets of
 * one connection have the same, and most others another. It is computed for every packet, so it is a sum of products by secret
 * odd factors (multilinear hashing) and no cipher: what somebody who guessed the factors could do is to have packets walk the
 * masks, as they do without a cache.
 */
import { EtherType } from '../../net/index.ts';
import { Word } from '../key/layout.ts';
import { type HashSecret, hashWords } from './hash.ts';

const FACTORS = 17;

export class ConnectionHash {
  readonly #factors = new Int32Array(FACTORS);

  constructor(secret: HashSecret) {
    const counter = new Uint32Array(1);
    for (let i = 0; i < FACTORS; i += 1) {
      counter[0] = i;
      this.#factors[i] = hashWords(counter, 0, 1, secret) | 1;
    }
  }

  /** @param words a key */
  of(words: Uint32Array): number {
    const factors = this.#factors;
    const type = words[Word.ETH_TYPE];
    let hash = Math.imul(words[Word.IN_PORT], factors[0]);
    hash = (hash + Math.imul(words[Word.RECIRC_ID], factors[1])) | 0;
    hash = (hash + Math.imul(fold(type), factors[2])) | 0;
    hash = (hash + Math.imul(fold(words[Word.MAC]), factors[3])) | 0;
    hash = (hash + Math.imul(fold(words[Word.MAC + 1]), factors[4])) | 0;
    hash = (hash + Math.imul(fold(words[Word.MAC + 2]), factors[5])) | 0;
    hash = (hash + Math.imul(fold(words[Word.VLAN]), factors[6])) | 0;
    // Protocol and fragment: one connection may have packets of different hop limits.
    hash = (hash + Math.imul(fold(words[Word.IP] & 0xff00_0003), factors[7])) | 0;
    hash = (hash + Math.imul(fold(words[Word.PORTS]), factors[8])) | 0;
    hash = (hash + Math.imul(fold(words[Word.IPV4_SOURCE]), factors[9])) | 0;
    hash = (hash + Math.imul(fold(words[Word.IPV4_DESTINATION]), factors[10])) | 0;
    if (type >>> 16 === EtherType.IPV6) {
      for (let i = 0; i < 6; i += 1) {
        hash = (hash + Math.imul(fold(words[Word.IPV6_SOURCE + 2 + i]), factors[11 + i])) | 0;
      }
    }
    hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
    return hash ^ (hash >>> 13);
  }
}

/** High bits into low ones: the product of a factor that is not known keeps too little of what is only in the highest. */
function fold(word: number): number {
  return word ^ (word >>> 16);
}
