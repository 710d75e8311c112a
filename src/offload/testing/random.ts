/** Random numbers of the differential test: repeatable, so that a seed is all that a failure needs to be seen again. */

/** A 32-bit generator (xorshift, its state first mixed so that neighbouring seeds differ). */
export class RandomSource {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) | 1;
    for (let i = 0; i < 8; i += 1) this.word();
  }

  /** 32 bits, unsigned. */
  word(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state >>> 0;
  }

  /** A whole number below `limit`. */
  below(limit: number): number {
    return this.word() % limit;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }

  bytes(count: number): number[] {
    return Array.from({ length: count }, () => this.below(256));
  }
}

/** The seed of this run: MILLRACE_SEED, or one of the clock's. */
export function runSeed(): number {
  const asked = Number(process.env.MILLRACE_SEED);
  return Number.isInteger(asked) && asked > 0 ? asked : Date.now() % 0x7fff_ffff;
}
