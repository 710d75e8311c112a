import { expect, test } from 'vitest';
import { Timers } from '../../host/index.ts';
import type { KeeperHost } from '../contract.ts';
import type { Takeover } from '../left/takeover.ts';
import type { PuntPath } from '../punts/punt-path.ts';
import { Condition, STEADY_MS } from './condition.ts';
import type { PortPrograms } from './port.ts';
import { PortUpkeep } from './port-upkeep.ts';

test('what keeps a port from being looked after is said when it changes, and not with each look', () => {
  const timers = new Timers();
  let nowMs = performance.now();
  let refusal: string | null = 'EPERM';
  const one = {
    port: { name: 'p' },
    upkeepTrouble: new Condition(),
    asksForXdp: false,
    get isInNeed(): boolean {
      if (refusal !== null) throw new Error(refusal);
      return false;
    },
  };
  const said: string[] = [];
  const host = {
    loop: { timers },
    nowMs: () => nowMs,
    warn: (message: string) => said.push(message),
    say: (message: string) => said.push(message),
  } as unknown as KeeperHost;
  const ports = [one as unknown as PortPrograms];
  const upkeep = new PortUpkeep(host, {} as unknown as Takeover, {} as unknown as PuntPath, ports);
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
