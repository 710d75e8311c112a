/** `millrace generate` and `millrace receive` as a user runs them. */
import { afterEach, expect, test } from 'vitest';
import type { GenerateResult, ReceiveResult } from '../src/bpf/index.ts';
import { eventually, type Host, Lab, type Running } from './support/index.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

const millrace = [process.execPath, 'bin/millrace.js'] as const;

function wired(): { a: Host; b: Host } {
  const [a, b] = lab.hosts(2);
  if (a === undefined || b === undefined) throw new Error('no hosts');
  lab.veth(a, 'eth0', b, 'eth0');
  return { a, b };
}

async function receiving(host: Host, ...args: string[]): Promise<Running> {
  const running = host.start(millrace[0], [millrace[1], 'receive', '--netdev', 'eth0', ...args]);
  await eventually('the receiver is attached', () => host.ip('link show dev eth0').includes('prog/xdp'), 20_000);
  return running;
}

test('what one sends the other counts, as JSON', async () => {
  const { a, b } = wired();
  const receiver = await receiving(b, '--count', '200', '--json');
  const generated = a.run(millrace[0], [
    millrace[1],
    'generate',
    '--netdev',
    'eth0',
    '--count',
    '200',
    '--flows',
    '5',
    '--vlan',
    '7',
    '--json',
  ]);
  expect(JSON.parse(generated) as GenerateResult).toMatchObject({ sent: 200, flows: 5, sizeBytes: 64 });
  const counted = JSON.parse(await receiver.result()) as ReceiveResult;
  expect(counted).toMatchObject({ received: 200, bytes: 12_800, lost: 0 });
  expect(counted.flows).toHaveLength(5);
});

test('Ctrl-C prints the totals of both', async () => {
  const { a, b } = wired();
  const receiver = await receiving(b, '--per-flow');
  const generator = a.start(millrace[0], [millrace[1], 'generate', '--netdev', 'eth0', '--pps', '1k']);
  await eventually('frames flow', () => /RX:.*\n\s+\d{4,} +\d{3,}/.test(b.ip('-s link show dev eth0')), 20_000);
  expect(await generator.stop('SIGINT')).toBe(0);
  expect(generator.output()).toMatch(/sent\s+[\d,]+ frames of 60 bytes in 1 flows\ntime .*interrupted\nrate /);
  expect(await receiver.stop('SIGINT')).toBe(0);
  expect(receiver.output()).toMatch(/received\s+[\d,]+ frames.*\nlost\s+[\d,]+ frames \(\d+\.\d+ %\)/);
  expect(receiver.output()).toMatch(/FLOW\s+RECEIVED\s+BYTES\s+LOST\s+LATE\n\s+0\s+/);
});

test('mistakes end with a sentence and a code', async () => {
  const { a } = wired();
  const attempt = async (...args: string[]) => {
    const running = a.start(millrace[0], [millrace[1], ...args]);
    const status = await running.ended;
    return `${status} ${running.output()}`;
  };
  expect(await attempt('generate', '--netdev', 'eth7')).toMatch(
    /^4 millrace: cannot send frames: there is no interface eth7/,
  );
  expect(await attempt('generate', '--netdev', 'eth0', '--count', '1')).toMatch(
    /^4 millrace: frames cannot be sent through eth0/,
  );
  expect(await attempt('generate', '--netdev', 'eth0', '--pps', 'many')).toMatch(/^2 millrace: "many" is not a rate/);
  expect(await attempt('generate', '--netdev', 'eth0', '--pps', '5', '--max')).toMatch(/^2 .*contradict/);
  expect(await attempt('receive', '--netdev', 'eth0', '--idle', 'soon')).toMatch(
    /^2 millrace: "soon" is not a length of time/,
  );
  expect(await attempt('generate')).toMatch(/^2 .*required option '--netdev/);
  expect(await attempt('receive', '--help')).toMatch(/^0 [\s\S]*Examples:[\s\S]*--per-flow/);
});
