/** `millrace connections` and Open vSwitch's own programs on the connections that flows of a bridge have made. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConnectionChange, ConnectionInfo, ConnectionLimits, ConnectionStatistics } from '../src/daemon/client.ts';
import { OvsLab, udp, until } from './ovs-lab.ts';
import { hasOpenVSwitch } from './ovs-world.ts';

const here = test.runIf(hasOpenVSwitch());
const bin = join(import.meta.dirname, '../bin/millrace.js');

let lab: OvsLab;

beforeAll(async () => {
  if (!hasOpenVSwitch()) return;
  lab = new OvsLab();
  await lab.start('off', ['a', 'b']);
  lab.rules(
    'table=0,priority=10,udp,ct_state=-trk,in_port=a,actions=ct(zone=5,table=1,nat)',
    'table=0,priority=10,udp,ct_state=-trk,in_port=b,actions=ct(zone=5,table=1,nat)',
    'table=1,udp,ct_state=+new+trk,in_port=a,actions=ct(commit,zone=5,nat(src=10.0.0.77),exec(load:0x2a->NXM_NX_CT_MARK[])),output:b',
    'table=1,udp,ct_state=+est+trk,in_port=a,actions=output:b',
    'table=1,udp,ct_state=+est+trk,in_port=b,actions=output:a',
  );
});

afterAll(async () => {
  await lab?.close();
});

const list = (...filter: string[]) => lab.world.json<ConnectionInfo[]>('connections', 'list', ...filter);

/** Send from a to b. @returns how many came */
async function send(...ports: number[]): Promise<number> {
  await lab.host('a').send(...ports.map((sourcePort) => udp({ from: 1, to: 2, sourcePort })));
  return (await lab.told(ports.length)).b?.length ?? 0;
}

here('what a flow commits is listed, picked, shown and dumped, with its translation', async () => {
  expect(await send(1001, 1002)).toBe(2);
  const all = list();
  expect(all.map(({ zone, protocol, flags, mark }) => [zone, protocol, flags, mark])).toEqual([
    [5, 'udp', ['source-nat'], 42],
    [5, 'udp', ['source-nat'], 42],
  ]);
  expect(all[0]?.original).toEqual({
    source: '10.0.0.1',
    destination: '10.0.0.2',
    sourcePort: 1001,
    destinationPort: 2000,
  });
  expect(all[0]?.reply).toMatchObject({ source: '10.0.0.2', destination: '10.0.0.77' });
  for (const filter of [
    ['--source-port', '1002'],
    ['--port', '1002', '--nat', 'source', '--zone', '5', '--mark', '0x2a/0xff'],
    ['--address', '10.0.0.77', '-n', '1'],
  ])
    expect(list(...filter).length).toBe(1);
  expect(list('--nat', 'destination')).toEqual([]);
  const lines = lab.world.ok('connections').trim().split('\n');
  expect(lines[0]).toMatch(
    /^udp {5}- {12}10\.0\.0\.1:1001 > 10\.0\.0\.2:2000 {2}back 10\.0\.0\.2:2000 > 10\.0\.0\.77:1001 {2}zone 5 {2}unreplied {2}mark 0x2a {2}expires in \d+ s {2}id \d+$/,
  );
  expect(lab.world.ok('connections', 'show', String(all[0]?.id))).toMatch(
    /^original +10\.0\.0\.1:1001 > 10\.0\.0\.2:2000$/m,
  );
  expect(lab.appctl('dpctl/dump-conntrack', 'zone=5')).toContain(
    'udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1001,dport=2000),reply=(src=10.0.0.2,dst=10.0.0.77,sport=2000,dport=1001),zone=5,mark=42',
  );
  expect(lab.world.ok('status')).toMatch(/^connections +2 of 65,536$/m);
});

here('who watches sees connections begin, change and end', async () => {
  const child = spawn(
    process.execPath,
    [bin, '--socket', lab.world.socket, '--json', 'connections', '--watch', '--source-port', '1003'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let printed = '';
  child.stdout.on('data', (text) => {
    printed += text;
  });
  const seen = () =>
    printed
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as ConnectionChange);
  try {
    // It has to be listening before something happens that it is to see.
    await until('the watch sees a connection', async () => {
      if (seen().some(({ type }) => type === 'new')) return true;
      lab.world.ok('connections', 'flush', '--source-port', '1003');
      await lab.host('a').send(udp({ from: 1, to: 2, sourcePort: 1003 }));
      return false;
    });
    await until('it sees the answer', async () => {
      await lab.host('b').send(udp({ from: 2, to: 77, sourcePort: 2000, destinationPort: 1003 }));
      return seen().some(({ what }) => what.includes('replied'));
    });
    lab.world.ok('connections', 'flush', '--source-port', '1003');
    await until('it sees the end', () => seen().some(({ type, what }) => type === 'ended' && what[0] === 'flushed'));
    expect(new Set(seen().map(({ connection }) => connection.original.sourcePort))).toEqual(new Set([1003]));
  } finally {
    child.kill();
    await lab.arrived();
  }
});

here('limits set here and by ovs-appctl are the same, hold, and are told', async () => {
  lab.world.ok('connections', 'flush', '--all');
  lab.world.ok('connections', 'limits', 'set', '5', '3');
  expect(lab.appctl('dpctl/ct-get-limits', 'zone=5')).toContain('zone=5,limit=3,count=0');
  expect(await send(1, 2, 3, 4, 5)).toBe(3);
  lab.appctl('dpctl/ct-set-limits', 'zone=5,limit=4');
  expect(lab.world.json<ConnectionLimits>('connections', 'limits')).toEqual({
    default: null,
    zones: [{ zone: 5, limit: 4, connections: 3 }],
  });
  const statistics = lab.world.json<ConnectionStatistics>('connections', 'stats');
  expect(statistics.refused['zone-limit']).toBeGreaterThanOrEqual(2);
  expect(statistics.zones).toEqual([{ zone: 5, connections: 3, unreplied: 3, limit: 4 }]);
  await until('it is told', () => lab.world.ok('events').includes('because their zone has as many as it may'));
  lab.world.ok('connections', 'limits', 'del', '5');
  expect(await send(4, 5)).toBe(2);
});

here('flushes of Open vSwitch and of millrace end the same connections', async () => {
  lab.ofctl(
    'ct-flush',
    'br0',
    'zone=5',
    'ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=4,ct_tp_dst=2000',
  );
  expect(list('--source-port', '4')).toEqual([]);
  expect(list('--zone', '5').length).toBe(4);
  expect(lab.world.json('connections', 'flush', '--zone', '5', '--port', '5')).toEqual({ ended: 1 });
  lab.appctl('dpctl/flush-conntrack', 'zone=5');
  expect(list()).toEqual([]);
  expect(lab.world.ok('connections', 'flush', '--all')).toBe('Ended 0 connections.\n');
});
