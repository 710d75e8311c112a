import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/daemon/config/parse.ts';
import { portsOf, TestBench, tcp } from '../testing.ts';
import flowSpreader from './flow-spreader.ts';

const WORKERS = ['worker1', 'worker2', 'worker3'];
const CLIENT = '10.0.0.1';
const SERVER = '192.0.2.1';

function benchOf(...ports: string[]): TestBench {
  const bench = new TestBench(...ports);
  bench.virtualSwitch.enableExtension(flowSpreader, { uplink: 'uplink' }).result();
  return bench;
}

/** Send one packet of many flows and say where each went, by its source port. */
function spread(bench: TestBench, workers: readonly string[], flows = 300): Map<number, string> {
  const placed = new Map<number, string>();
  for (let port = 1; port <= flows; port += 1) bench.send('uplink', tcp(CLIENT, SERVER, [port, 443]));
  for (const worker of workers) {
    for (const frame of bench.take(worker)) placed.set(portsOf(frame)[0], worker);
  }
  return placed;
}

test('flows are spread evenly, each to one worker', () => {
  const bench = benchOf('uplink', ...WORKERS);
  const placed = spread(bench, WORKERS);
  expect(placed.size).toBe(300);
  for (const worker of WORKERS) {
    expect([...placed.values()].filter((where) => where === worker).length).toBeGreaterThan(60);
  }
  expect(bench.virtualSwitch.counters.copiesDelivered).toBe(300);
  expect(spread(bench, WORKERS)).toEqual(placed);
});

test('both directions of a flow meet at the same worker', () => {
  const bench = benchOf('uplink', ...WORKERS);
  for (let port = 1; port <= 50; port += 1) {
    bench.send('uplink', tcp(CLIENT, SERVER, [port, 443]), tcp(SERVER, CLIENT, [443, port]));
    expect(WORKERS.map((worker) => bench.take(worker).length).sort()).toEqual([0, 0, 2]);
  }
});

test('what workers send goes to the uplink, and ARP from there to every worker', () => {
  const bench = benchOf('uplink', ...WORKERS);
  bench.send('worker2', tcp(SERVER, CLIENT, [443, 1]));
  expect(bench.take('uplink')).toHaveLength(1);
  const arp = new Uint8Array(60).fill(255, 0, 6);
  arp.set([2, 0, 0, 0, 0, 1, 8, 6], 6);
  bench.send('uplink', arp);
  expect(WORKERS.map((worker) => bench.take(worker).length)).toEqual([1, 1, 1]);
});

test('when a worker goes, only its flows move; a new port becomes a worker', () => {
  const bench = benchOf('uplink', ...WORKERS);
  const before = spread(bench, WORKERS);
  bench.removePort('worker2');
  const after = spread(bench, WORKERS);
  for (const [flow, worker] of before) {
    if (worker !== 'worker2') expect(after.get(flow)).toBe(worker);
    else expect(['worker1', 'worker3']).toContain(after.get(flow));
  }
  bench.addPort('worker4');
  expect(bench.virtualSwitch.extensionStatus('flow-spreader')).toMatchObject({
    state: { uplink: 'uplink', workers: ['worker1', 'worker3', 'worker4'] },
  });
  expect(new Set(spread(bench, ['worker4']).values())).toEqual(new Set(['worker4']));
});

test('without an uplink or workers packets are dropped for that reason', () => {
  const bench = benchOf('worker1', 'worker2');
  bench.send('worker1', tcp(CLIENT, SERVER, [1, 2]));
  expect(bench.drops('worker1')).toEqual({ 'flow-spreader:NO_DESTINATION': 1 });
  const alone = benchOf('uplink');
  alone.send('uplink', tcp(CLIENT, SERVER, [1, 2]));
  expect(alone.drops('uplink')).toEqual({ 'flow-spreader:NO_DESTINATION': 1 });
});

test('a packet is decided about once, and only flows of the worker that goes are decided about again', () => {
  const bench = benchOf('uplink', ...WORKERS);
  const before = spread(bench, WORKERS);
  const flows = () => bench.virtualSwitch.extensionStatus('flow-spreader') as { flows: number; decisions: number };
  expect(flows()).toMatchObject({ flows: 300, decisions: 300 });
  spread(bench, WORKERS);
  expect(flows().decisions).toBe(300);
  bench.removePort('worker2');
  const left = [...before.values()].filter((worker) => worker !== 'worker2').length;
  expect(flows().flows).toBe(left);
});

test('fragments of one datagram stay together', () => {
  const bench = benchOf('uplink', ...WORKERS);
  for (let port = 1; port <= 20; port += 1) {
    const [first, later] = [tcp(CLIENT, SERVER, [port, 443]), tcp(CLIENT, SERVER, [port, 443])];
    first[20] = 0x20;
    later[20] = 0;
    later[21] = 3;
    bench.send('uplink', first, later);
    expect(WORKERS.map((worker) => bench.take(worker).length).sort()).toEqual([0, 0, 2]);
  }
});

test('the standard policies hold: a VLAN that a port does not carry does not reach it', () => {
  const bench = benchOf('uplink', 'worker1');
  const { virtualSwitch } = bench;
  virtualSwitch.setPortProperty(bench.portId('uplink'), { type: 'vlan', mode: 'access', vlanId: 10 }).result();
  virtualSwitch.setPortProperty(bench.portId('worker1'), { type: 'vlan', mode: 'access', vlanId: 20 }).result();
  bench.send('uplink', tcp(CLIENT, SERVER, [1, 2]));
  expect(bench.take('worker1')).toEqual([]);
  expect(bench.drops('worker1')).toEqual({ VLAN_NOT_ALLOWED: 1 });
});

test('its configuration is checked, and the one of the example is right', () => {
  expect(() => flowSpreader.parseConfiguration?.({})).toThrow('uplink: must be the name of a port');
  expect(() => flowSpreader.parseConfiguration?.({ uplink: 'a', workers: [] })).toThrow('unknown key "workers"');
  const file = `${import.meta.dirname}/millrace.yaml`;
  const [extension] = parseConfig(readFileSync(file, 'utf8'), file).extensions;
  expect(extension.module).toBe(`${import.meta.dirname}/flow-spreader.ts`);
  expect(flowSpreader.parseConfiguration?.(extension.config)).toEqual({ uplink: 'uplink' });
});
