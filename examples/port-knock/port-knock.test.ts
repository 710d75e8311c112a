import { readFileSync } from 'node:fs';
import { TcpFlag } from 'millrace/net';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/daemon/config/parse.ts';
import { portsOf, TestBench, tcp } from '../testing.ts';
import portKnock from './port-knock.ts';

const FRIEND = '192.0.2.1';
const STRANGER = '192.0.2.2';
const SERVER = '10.0.0.1';

function benchOfPorts(): TestBench {
  const bench = new TestBench('world', 'server');
  bench.virtualSwitch.enableExtension(portKnock, { protect: 22, knock: [7000, 8000, 9000], openSeconds: 60 }).result();
  return bench;
}

function knock(bench: TestBench, source: string, ...ports: number[]): void {
  for (const port of ports) bench.send('world', tcp(source, SERVER, [50_000, port]));
  bench.take('server');
}

function reaches(bench: TestBench, source: string): boolean {
  bench.send('world', tcp(source, SERVER, [50_000, 22]));
  return bench.take('server').length === 1;
}

test('the port is shut, and the drops have a name', () => {
  const bench = benchOfPorts();
  bench.send('world', tcp(FRIEND, SERVER, [1, 80]), tcp(FRIEND, SERVER, [1, 22]), tcp(FRIEND, SERVER, [1, 443]));
  expect(bench.take('server').map(portsOf)).toEqual([
    [1, 80],
    [1, 443],
  ]);
  expect(bench.drops('world')).toEqual({ 'port-knock:SHUT': 1 });
});

test('it opens for who has knocked, and for nobody else, for a time', () => {
  const bench = benchOfPorts();
  knock(bench, FRIEND, 7000, 8000, 9000);
  expect(reaches(bench, FRIEND)).toBe(true);
  expect(reaches(bench, STRANGER)).toBe(false);
  expect(bench.virtualSwitch.extensionStatus('port-knock')).toEqual({
    protect: 22,
    open: [{ address: FRIEND, remainingSeconds: 60 }],
  });
  bench.nowMs += 60_000;
  expect(reaches(bench, FRIEND)).toBe(false);
  expect(bench.log).toEqual([`info: ${FRIEND} has knocked`]);
});

test('a wrong order, a slow hand, and packets other than SYN do not open it', () => {
  const bench = benchOfPorts();
  knock(bench, FRIEND, 7000, 9000, 8000, 9000);
  expect(reaches(bench, FRIEND)).toBe(false);
  knock(bench, FRIEND, 7000, 8000);
  bench.nowMs += 11_000;
  knock(bench, FRIEND, 9000);
  expect(reaches(bench, FRIEND)).toBe(false);
  for (const port of [7000, 8000, 9000]) bench.send('world', tcp(FRIEND, SERVER, [1, port], TcpFlag.ACK));
  expect(reaches(bench, FRIEND)).toBe(false);
});

test('a knock that starts over may begin with the first port again', () => {
  const bench = benchOfPorts();
  knock(bench, FRIEND, 7000, 8000, 7000, 8000, 9000);
  expect(reaches(bench, FRIEND)).toBe(true);
});

test('a first fragment that hides the ports is dropped', () => {
  const bench = benchOfPorts();
  const frame = tcp(FRIEND, SERVER, [1, 22]).slice(0, 42);
  // Total length 28, more fragments.
  frame[17] = 28;
  frame[20] = 0x20;
  bench.send('world', frame);
  expect(bench.take('server')).toEqual([]);
});

test('knocks with forged addresses cannot push out who was let in', () => {
  const bench = benchOfPorts();
  knock(bench, FRIEND, 7000, 8000, 9000);
  for (let i = 0; i < 5000; i += 1) knock(bench, `10.${i >> 8}.${i & 255}.1`, 7000);
  expect(reaches(bench, FRIEND)).toBe(true);
});

test('its configuration is checked, and the one of the example is right', () => {
  expect(() => portKnock.parseConfiguration?.({ protect: 22, knock: [] })).toThrow('knock: must be a list');
  expect(() => portKnock.parseConfiguration?.({ protect: 22, knock: [22] })).toThrow(
    'must not contain the protected port',
  );
  expect(() => portKnock.parseConfiguration?.({ port: 22 })).toThrow('unknown key "port"');
  const file = `${import.meta.dirname}/millrace.yaml`;
  const [extension] = parseConfig(readFileSync(file, 'utf8'), file).extensions;
  expect(extension.module).toBe(`${import.meta.dirname}/port-knock.ts`);
  expect(portKnock.parseConfiguration?.(extension.config)).toMatchObject({ protect: 22, withinMs: 10_000 });
});
