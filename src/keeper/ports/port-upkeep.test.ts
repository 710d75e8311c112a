import { expect, test } from 'vitest';
import { Timers } from '../../../../host/index.ts';
import type { PortOffload } from '../port-offload.ts';
import { Condition, STEADY_MS } from './condition.ts';
import { PortUpkeep, type UpkeepSurroundings } from './port-upkeep.ts';

test('what keeps a port from being looked after is said when it changes, and not with each look', () => {
  const timers = new Timers();
  let nowMs = performance.now();
  let refusal: string | null = 'EPERM';
  const one = {
    port: { name: 'p' },
    upkeepTrouble: new Condition(),
    asksForXdp: false,
    lacksProgram: false,
    wantsNews: false,
    get isStripped(): boolean {
      if (refusal !== null) throw new Error(refusal);
      return false;
    },
  };
  const said: string[] = [];
  const upkeep = new PortUpkeep({
    loop: { timers },
    ports: () => [one as unknown as PortOffload],
    nowMs: () => nowMs,
    warn: (message: string) => said.push(message),
    say: (message: string) => said.push(message),
  } as unknown as UpkeepSurroundings);
  const pass = (milliseconds: number): void => {
    const untilMs = nowMs + milliseconds;
    while (nowMs < untilMs) {
      nowMs += 100;
      timers.run(nowMs);
    }
  };
  pass(20_000);
  expect(said).toEqual(['port p cannot be looked after: EPERM']);
  refusal = 'ENOMEM';
  pass(20_000);
  expect(said.splice(0)).toEqual(['port p cannot be looked after: EPERM', 'port p cannot be looked after: ENOMEM']);
  // What comes and goes is no news either.
  for (let turn = 0; turn < 10; turn += 1) {
    refusal = turn % 2 === 0 ? null : 'ENOMEM';
    pass(1_000);
  }
  expect(said).toEqual([]);
  refusal = null;
  pass(STEADY_MS + 3_000);
  expect(said).toEqual(['port p is looked after again']);
  upkeep.close();
});
