/** Offload while the daemon can open nothing more: what could not be made then is made later, and is told for what it was. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  world.host('a', '10.7.0.1/24');
  world.host('b', '10.7.0.2/24');
});
afterEach(() => world.end());

test('programs that could not be loaded for want of descriptors are no fault of the verifier, and are loaded when there are some', async () => {
  world.up('ports: { a: {}, b: {} }\n');
  const pid = String(world.pid());
  const usual = /Max open files\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
  const limit = (most: string) => must('prlimit', '--pid', pid, `--nofile=${most}:`);
  limit('1');
  await until('it is said what is missing', () => {
    world.pings('a', '10.7.0.2', 3);
    return /flows of learning: .*EMFILE/.test(world.log());
  });
  limit(`${usual}`);
  await until('the kernel carries them', () => {
    world.pings('a', '10.7.0.2', 3);
    const { tables } = world.json<OffloadInfo>('offload', 'show');
    return tables.some(({ flowsInKernel }) => flowsInKernel > 0);
  });
  expect(world.log()).not.toContain('verifier');
});
