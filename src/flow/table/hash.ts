/**
 * HalfSipHash-1-3 over the words of keys, as Linux uses it for tables whose keys strangers choose: without the secret nobody
 * can make keys that fall together. The functions differ only in where they take their words from; each is one flat loop, since
 * it runs several times for every packet.
 * @see Aumasson and Bernstein, "SipHash: a fast short-input PRF"; linux/siphash.h, hsiphash
 */
import { randomFillSync } from 'node:crypto';

/** The secret of one table. */
export class HashSecret {
  readonly low: number;
  readonly high: number;

  /** @param seed for tests that must repeat: two 32-bit numbers; random when left out */
  constructor(seed?: readonly [number, number]) {
    const random = new Int32Array(2);
    randomFillSync(random);
    this.low = seed === undefined ? random[0] : seed[0] | 0;
    this.high = seed === undefined ? random[1] : seed[1] | 0;
  }
}

const INITIAL_2 = 0x6c79_6765;
const INITIAL_3 = 0x7465_6462;

/**
 * Hash of a key under a mask.
 * @param index which words of the key count
 * @param values the mask's words, in the order of `index`
 */
export function hashMasked(
  key: Uint32Array,
  index: Int32Array,
  values: Int32Array,
  count: number,
  secret: HashSecret,
): number {
  let v0 = secret.low;
  let v1 = secret.high;
  let v2 = INITIAL_2 ^ secret.low;
  let v3 = INITIAL_3 ^ secret.high;
  for (let i = 0; i < count; i += 1) {
    const word = key[index[i]] & values[i];
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return finish(v0, v1, v2, v3, count);
}

/** Hash of consecutive words, such as a flow identifier. */
export function hashWords(words: Uint32Array, from: number, count: number, secret: HashSecret): number {
  let v0 = secret.low;
  let v1 = secret.high;
  let v2 = INITIAL_2 ^ secret.low;
  let v3 = INITIAL_3 ^ secret.high;
  for (let i = 0; i < count; i += 1) {
    const word = words[from + i] | 0;
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return finish(v0, v1, v2, v3, count);
}

function finish(a: number, b: number, c: number, d: number, count: number): number {
  let v0 = a;
  let v1 = b;
  let v2 = c;
  let v3 = d;
  const last = count << 26;
  v3 ^= last;
  for (let round = 0; round < 4; round += 1) {
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    if (round === 0) {
      v0 ^= last;
      v2 ^= 0xff;
    }
  }
  return v1 ^ v3;
}
