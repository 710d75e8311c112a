/** Hostile bytes: real messages, mutated, and pure noise. Whatever comes, the only thing thrown is NetlinkError. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseDone, parseError } from './acknowledgement.ts';
import { NetlinkError } from './error.ts';
import { parseFamily } from './generic.ts';
import { type Message, parseMessages } from './message.ts';
import { parseRouteEvent } from './rtnetlink/event.ts';
import { Transaction } from './transaction.ts';

const rounds = Number(process.env.MILLRACE_FUZZ ?? 20_000);
const seed = Number(process.env.MILLRACE_FUZZ_SEED ?? 20_240_607);

const kernel: Record<string, string> = JSON.parse(
  readFileSync(new URL('./fixtures/kernel.json', import.meta.url), 'utf8'),
);

/** xorshift32: the same numbers on every run with the same seed. */
function randomNumbers(start: number): (below: number) => number {
  let state = start >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

const types = [2, 3, 16, 17, 20, 24, 28, 36, 44];

function consume(message: Message): void {
  parseRouteEvent(message);
  parseError(message);
  parseDone(message);
  parseFamily(message);
  parseFamily(message, { strict: true });
}

test(`${rounds} mutated messages throw nothing but NetlinkError`, () => {
  const random = randomNumbers(seed);
  const samples = Object.values(kernel).map((hex) => new Uint8Array(Buffer.from(hex, 'hex')));
  const singles = samples.flatMap((datagram) => parseMessages(datagram).map((message) => message.bytes));
  let refused = 0;
  let read = 0;
  const attempt = (action: () => void): void => {
    try {
      action();
      read += 1;
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error;
      refused += 1;
    }
  };
  for (let round = 0; round < rounds; round += 1) {
    let bytes = singles[random(singles.length)].slice();
    if (round % 8 === 0) bytes = Uint8Array.from({ length: 16 + random(100) }, () => random(256));
    for (let edits = random(6); edits > 0; edits -= 1) {
      const at = random(bytes.length);
      const kind = random(4);
      if (kind === 0) bytes[at] = random(256);
      else if (kind === 1) bytes[at] ^= 1 << random(8);
      else if (kind === 2) bytes = bytes.slice(0, at);
      else bytes.copyWithin(at, random(bytes.length));
      if (bytes.length === 0) break;
    }
    attempt(() => parseMessages(bytes));
    // Past the header as well: with a true length and each type in turn, so that the objects' readers see the mutation.
    const type = types[random(types.length)];
    const message: Message = { type, flags: random(0x400), sequence: 1, port: 0, bytes };
    if (bytes.length < 16) continue;
    attempt(() => consume(message));
    attempt(() => {
      new Transaction({ type: 18, flags: 0, doing: 'fuzz', write: () => {} }, 1).offer(message);
    });
  }
  expect(refused).toBeGreaterThan(rounds / 10);
  expect(read).toBeGreaterThan(rounds / 10);
});
