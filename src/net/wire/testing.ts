/** For this room's tests only: how often fuzz loops run, a small repeatable random generator, and mutation of frames. */

/** Fuzz rounds: MILLRACE_FUZZ when it is set, else a number that keeps a test file short. */
export function fuzzRounds(normally: number): number {
  const asked = Number(process.env.MILLRACE_FUZZ);
  return Number.isInteger(asked) && asked > 0 ? asked : normally;
}

/** Numbers below `limit` from a 32-bit xorshift generator: the same seed gives the same run. */
export function randomNumbers(seed: number): (limit: number) => number {
  let state = seed | 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** A copy of the frame with a few bytes changed, and now and then its end cut off or stretched. */
export function mutate(frame: Uint8Array, random: (limit: number) => number): Uint8Array {
  const shape = random(8);
  let length = frame.length;
  if (shape === 0) length = random(frame.length + 1);
  else if (shape === 1) length = frame.length + random(64);
  const mutated = new Uint8Array(length);
  mutated.set(frame.subarray(0, length));
  for (let count = random(6); count > 0 && length > 0; count -= 1) {
    const at = random(length);
    const kind = random(4);
    if (kind === 0) mutated[at] = random(256);
    else if (kind === 1) mutated[at] ^= 1 << random(8);
    else if (kind === 2) mutated[at] = random(2) === 0 ? 0 : 0xff;
    else mutated[at] = mutated[at] + (random(2) === 0 ? 1 : -1);
  }
  return mutated;
}
