/**
 * The keyed hash of a tuple: HalfSipHash-1-3 with a secret of 64 bits, made for short inputs on 32-bit arithmetic, so that the same few instructions do in
 * TypeScript and in eBPF, and nobody who does not know the secret can make tuples that collide (Aumasson and Bernstein, "SipHash: a fast short-input PRF").
 */

/**
 * Hash a tuple.
 * @param kind the first word of its record: zone, protocol, version
 * @param words ports, source and destination at `at`, as in a record
 * @param isIpv6 whether addresses have four words or one
 * @returns an int32
 */
export function hashTuple(
  key0: number,
  key1: number,
  kind: number,
  words: Int32Array,
  at: number,
  isIpv6: boolean,
): number {
  let v0 = key0;
  let v1 = key1;
  let v2 = key0 ^ 0x6c79_6765;
  let v3 = key1 ^ 0x7465_6462;
  // Words 0, 1 to 4, 5 to 8 of the tuple, then the kind; of IPv4 only the first word of each address.
  const step = isIpv6 ? 1 : 4;
  for (let i = 0; i <= 9; i += i === 0 ? 1 : step) {
    const m = i === 9 ? kind : words[at + i];
    v3 ^= m;
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
    v0 ^= m;
  }
  v2 ^= 0xff;
  for (let round = 0; round < 3; round += 1) {
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
  }
  return v1 ^ v3;
}

/** The bucket in which a tuple is looked for first. */
export function firstBucket(hash: number, buckets: number): number {
  return ((hash >>> 0) * buckets * 2 ** -32) | 0;
}

/** The bucket in which it is looked for next; it may be the same one. */
export function secondBucket(hash: number, buckets: number): number {
  return ((Math.imul(hash, 0x9e37_79b1) >>> 0) * buckets * 2 ** -32) | 0;
}
