/** Offload while the daemon can open nothing more: what could not be made then is made later, and is told for what it was. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { OffloadInfo } from '../src/daemon/client.ts';
import { must, until, World } from './daemon-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
  for (const [i, name] of ['a', 'b'].entries()) {
    // Nothing is sent before it is asked for: no flow wants a program too early.
    const quiet = 'for each in all default; do echo 1 > /proc/sys/net/ipv6/conf/$each/disable_ipv6; done';
    must('ip', 'netns', 'exec', world.namespace(name), 'sh', '-c', quiet);
    world.host(name, `10.7.0.${i + 1}/24`);
  }
});
afterEach(() => world.end());

test('programs that could not be loaded for want of descriptors are no fault of the verifier, and are loaded when there are some', async () => {
  world.up('ports: { a: {}, b: {} }\n');
  const pid = String(world.pid());
  const usual = /Max open files\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
  const limit = (most: string) => must('prlimit', '--pid', pid, `--nofile=${most}:`);
  const said = () => world.log().match(/flows of learning: .*EMFILE/g)?.length ?? 0;
  // What it needs to begin is given back first: programs would be loaded with that.
  let open = '';
  await until('it opens and closes nothing any more', async () => {
    const before = open;
    await sleep(500);
    open = readdirSync(`/proc/${pid}/fd`).join(' ');
    return open === before;
  });
  const isOpen = new Set(open.split(' ').map(Number));
  const free = Array.from({ length: isOpen.size + 20 }, (_, fd) => fd).filter((fd) => !isOpen.has(fd));
  // With each descriptor more it gets a step further.
  for (let spared = 0; spared < 12; spared += 1) {
    limit(String(free[spared]));
    world.pings('a', '10.7.0.2', 3);
    await sleep(700);
  }
  expect(said()).toBeGreaterThan(0);
  limit(`${usual}`);
  await until('the kernel carries them', () => {
    world.pings('a', '10.7.0.2', 3);
    const { tables } = world.json<OffloadInfo>('offload', 'show');
    return tables.some(({ flowsInKernel }) => flowsInKernel > 0);
  });
  expect(world.log()).not.toContain('verifier');
});
