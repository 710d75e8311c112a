/** A dump of 100,000 flows by ovs-dpctl: whole, in time, with packets and other programs served meanwhile. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasOpenVSwitch, OvsWorld } from './ovs-world.ts';
import { pingArguments, unanswered } from './support/ping.ts';

const here = test.runIf(hasOpenVSwitch());
const FLOWS = 100_000;
/** Under 3 seconds is the aim on a quiet machine, which the bench measures; nobody's machine may take minutes. */
const LIMIT_MS = 20_000;

let world: OvsWorld;
let daemonPid: number;

beforeAll(async () => {
  if (!hasOpenVSwitch()) return;
  world = new OvsWorld();
  const child = await world.startDatapath({ OVS_HARNESS_FLOWS: `${FLOWS}` });
  daemonPid = child.pid ?? 0;
});

afterAll(async () => {
  await world?.close();
});

interface Dumped {
  lines: number;
  ms: number;
}

/** Run ovs-dpctl dump-flows beside the test. */
function dump(...options: string[]): Promise<Dumped> {
  const begin = performance.now();
  const child = spawn('ip', world.shimArguments('ovs-dpctl', ['dump-flows', ...options, 'big']));
  let lines = 0;
  child.stdout.on('data', (text: Buffer) => {
    for (const byte of text) if (byte === 10) lines += 1;
  });
  return new Promise((resolve) => child.on('close', () => resolve({ lines, ms: performance.now() - begin })));
}

function residentBytes(): number {
  return Number(readFileSync(`/proc/${daemonPid}/statm`, 'utf8').split(' ')[1]) * 4096;
}

here('100,000 flows are dumped whole and in time', async () => {
  await dump();
  const { lines, ms } = await dump();
  expect(lines).toBe(FLOWS);
  expect(ms).toBeLessThan(LIMIT_MS);
});

here('packets and other programs are served while dumps run, and memory does not grow with them', async () => {
  const a = world.host('da', '10.9.9.1/24');
  world.host('db', '10.9.9.2/24');
  const ok = (...args: string[]) => expect(world.shimmed('ovs-dpctl', ...args)).toMatchObject({ code: 0 });
  ok('add-dp', 'dp');
  ok('add-if', 'dp', 'da');
  ok('add-if', 'dp', 'db');
  for (const type of ['0x0800),ipv4(', '0x0806),arp(']) {
    ok('add-flow', 'dp', `in_port(1),eth(),eth_type(${type})`, '2');
    ok('add-flow', 'dp', `in_port(2),eth(),eth_type(${type})`, '1');
  }
  const before = residentBytes();
  let running = true;
  const dumps = Promise.all([dump(), dump('-m')]).finally(() => {
    running = false;
  });
  const pings = spawn('ip', ['netns', 'exec', a, 'ping', ...pingArguments('10.9.9.2', 40, 0.02)]);
  let pinged = '';
  pings.stdout.on('data', (text) => {
    pinged += text;
  });
  const answered = new Promise((resolve) => pings.on('close', resolve));
  let asked = 0;
  while (running) {
    const begin = performance.now();
    const shown = spawn('ip', world.shimArguments('ovs-dpctl', ['show', 'dp']));
    expect(await new Promise((resolve) => shown.on('close', resolve))).toBe(0);
    expect(performance.now() - begin).toBeLessThan(2000);
    asked += 1;
  }
  for (const { lines } of await dumps) expect(lines).toBe(FLOWS);
  await answered;
  expect(asked).toBeGreaterThan(2);
  expect(unanswered(pinged, 40)).toEqual([]);
  expect(residentBytes() - before).toBeLessThan(64 << 20);
});
