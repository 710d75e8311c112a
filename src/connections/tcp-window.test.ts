/** Flags of a connection's two directions lie in one word, which programs on other CPUs change at the same time. */
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { Direction, RECORD_WORDS } from './layout.ts';
import { addFlags, dropFlags, flagsOf, OptionShift, SideFlag, TcpWord } from './tcp-window.ts';

/** Sets and clears a bit as a program does, and counts how often somebody else has undone that. */
const PROGRAM = `
  const { workerData, parentPort } = require('node:worker_threads');
  const { records, place, bit, turns } = workerData;
  let undone = 0;
  for (let turn = 0; turn < turns; turn += 1) {
    Atomics.or(records, place, bit);
    if ((Atomics.load(records, place) & bit) === 0) undone += 1;
    Atomics.and(records, place, ~bit);
    if ((Atomics.load(records, place) & bit) !== 0) undone += 1;
  }
  parentPort.postMessage(undone);
`;

test('flags that a program sets and clears stay as it has left them while the engine changes others', async () => {
  const records = new Int32Array(new SharedArrayBuffer(RECORD_WORDS * 4));
  const bit = SideFlag.UNACKNOWLEDGED << (OptionShift.FLAGS + OptionShift.FLAGS_BITS);
  const workerData = { records, place: TcpWord.OPTIONS, bit, turns: 3_000_000 };
  const program = new Worker(PROGRAM, { eval: true, workerData });
  let undone = -1;
  program.once('message', (count: number) => {
    undone = count;
  });
  const ended = new Promise((resolve) => program.once('exit', resolve));
  const own = SideFlag.UNACKNOWLEDGED | SideFlag.HIGHEST_ACK_SET;
  while (undone < 0) {
    for (let i = 0; i < 10_000; i += 1) {
      addFlags(records, 0, Direction.ORIGINAL, own);
      dropFlags(records, 0, Direction.ORIGINAL, SideFlag.UNACKNOWLEDGED);
    }
    await new Promise(setImmediate);
  }
  await ended;
  expect(undone).toBe(0);
  expect(flagsOf(records, 0, Direction.ORIGINAL)).toBe(SideFlag.HIGHEST_ACK_SET);
});
