/** A bridge of Open vSwitch whose ports have policies, and a filtering decider above it: its flows run in the kernel, judged and counted by all who have a say. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DropCount, OffloadFlow, OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';
import { buildShim, hasOpenVSwitch } from './ovs-world.ts';

const here = test.runIf(hasOpenVSwitch());

let world: World;
const before = { ...process.env };

/** Counts everything, and drops what comes from the addresses that it is told. */
const WALL = `
import { defineDecider } from 'millrace/switch';
export default defineDecider({
  descriptor: { name: 'wall', type: 'filtering', version: '1.0.0' },
  create(handle) {
    const denied = handle.state.prefixes('denied');
    const all = handle.counter('all');
    return {
      decide(packet, decision) {
        if (packet.ipv4 === null) return;
        decision.count(all);
        if (denied.covers(packet.ipv4.source)) decision.drop('DENIED');
      },
      command(name, { prefix }) {
        if (name === 'deny') denied.set(prefix, true);
        else denied.delete(prefix);
        return null;
      },
    };
  },
});
`;

beforeAll(() => {
  if (!hasOpenVSwitch()) return;
  buildShim();
  world = new World();
  for (const name of ['OVS_RUNDIR', 'OVS_DBDIR', 'OVS_LOGDIR']) process.env[name] = world.folder;
  world.host('a', '10.8.0.1/24', '10.8.1.1/24');
  world.host('b', '10.8.0.2/24', '10.8.1.2/24');
});

afterAll(async () => {
  if (world === undefined) return;
  if (existsSync(world.socket)) world.millrace('ovs', 'stop');
  await world.end();
  process.env = before;
});

const inside = (...command: string[]) => must('ip', 'netns', 'exec', world.middle, ...command);
const vsctl = (...args: string[]) => inside('ovs-vsctl', '--timeout=20', ...args);
const exec = (host: string, ...command: string[]) => run('ip', ['netns', 'exec', world.namespace(host), ...command]);
const offload = () => world.json<OffloadInfo>('offload', 'show');
const flows = () => world.json<{ flows: OffloadFlow[] }>('offload', 'show', '--flows').flows;
/** Flows that run in the kernel and are the decision of these. */
const decidedBy = (...deciders: string[]) =>
  flows().filter((flow) => flow.reason === null && JSON.stringify(flow.deciders) === JSON.stringify(deciders));
const drops = (port: string, reason: string) =>
  world.json<DropCount[]>('drops').find((drop) => drop.port === port && drop.reason === reason)?.packets ?? 0;
const carried = (name: string) => offload().ports.find(({ port }) => port === name)?.carriedPackets ?? 0;

/** Datagrams from a to a port of b, which nobody answers. */
function send(port: number, count: number, source = '10.8.0.1'): void {
  const program = `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("${source}", 7000))
for _ in range(${count}):
    s.sendto(b"x" * 100, ("${source.replace(/1$/, '2')}", ${port}))
    time.sleep(0.001)
`;
  const { code, stderr } = exec('a', 'python3', '-c', program);
  if (code !== 0 && !stderr.includes('ConnectionRefusedError')) throw new Error(stderr);
}

here('with nothing that looks, megaflows are in the kernel as they are put', async () => {
  world.ok('ovs', 'start', '--pseudo-device', join(world.folder, 'nl.sock'));
  vsctl('add-br', 'br0', '--', 'add-port', 'br0', 'a', '--', 'add-port', 'br0', 'b');
  await until('the kernel carries pings', () => {
    world.pings('a', '10.8.0.2', 3);
    return decidedBy('ovs').length > 0;
  });
});

here('a port with access control and a guard keeps its flows in the kernel, and denied packets end there', async () => {
  const rules =
    '{action: meter, direction: in, protocol: udp}, {action: deny, direction: in, protocol: udp, remotePort: 5002}';
  world.ok('port', 'set', 'a', `acl=[${rules}]`, 'dhcpGuard=true');
  await until('flows of the port are decisions of all', () => {
    world.pings('a', '10.8.0.2', 3);
    return decidedBy('port policies', 'ovs').length > 0;
  });
  expect(world.ok('offload', 'show', '--flows')).toContain('decided by port policies, ovs');
  await until('denied packets have a flow in the kernel', () => {
    send(5002, 5);
    return flows().some(({ drop, reason }) => drop === 'port policies:ACL_DENIED' && reason === null);
  });
  const denied = drops('a', 'ACL_DENIED');
  const before = carried('a');
  send(5002, 300);
  await until('what is denied ends in the kernel, and counts there', () => drops('a', 'ACL_DENIED') === denied + 300);
  expect(carried('a') - before).toBeGreaterThan(200);
  const drop = flows().find((flow) => flow.drop === 'port policies:ACL_DENIED');
  expect(drop).toMatchObject({ deciders: ['port policies'], reason: null, actions: 'drop' });
});

here('what the kernel carries is in the statistics of megaflows', async () => {
  const counted = () =>
    [...world.ok('ovs', 'dpctl', 'dump-flows').matchAll(/src=02:57:00:00:00:61.*eth_type\(0x0800\).* packets:(\d+)/g)]
      .map(([, packets]) => Number(packets))
      .reduce((sum, packets) => sum + packets, 0);
  world.pings('a', '10.8.0.2', 2);
  await until('the kernel carries datagrams', () => {
    const before = carried('a');
    send(5003, 20);
    return carried('a') - before >= 20;
  });
  const before = carried('a');
  const flowsBefore = counted();
  send(5003, 400);
  await until('the kernel has carried them', () => carried('a') - before > 300);
  await until('the megaflow has counted them', () => counted() - flowsBefore >= 400);
});

here('a filtering decider above is asked along, and its list changes what runs', async () => {
  world.ok('extension', 'add', 'wall', '--module', world.file('wall.ts', WALL));
  await until('flows are decisions of the filter, too', () => {
    world.pings('a', '10.8.1.2', 3);
    return decidedBy('wall', 'port policies', 'ovs').length > 0;
  });
  expect(world.pings('a', '10.8.1.2', 3)).toBe(true);
  world.ok('extension', 'run', 'wall', 'deny', 'prefix=10.8.1.0/24');
  expect(world.pings('a', '10.8.1.2', 3)).toBe(false);
  expect(world.pings('a', '10.8.0.2', 3)).toBe(true);
  const before = drops('a', 'wall:DENIED');
  send(5003, 300, '10.8.1.1');
  await until('the filter counts what the kernel drops', () => drops('a', 'wall:DENIED') === before + 300);
  world.ok('extension', 'run', 'wall', 'allow', 'prefix=10.8.1.0/24');
  expect(world.pings('a', '10.8.1.2', 3)).toBe(true);
  world.ok('extension', 'del', 'wall');
});

here('a change of rules holds at once, and without them the port is plain again', async () => {
  world.ok('port', 'set', 'a', 'acl=[{action: deny, direction: in, protocol: udp, remotePort: 5004}]');
  const denied = drops('a', 'ACL_DENIED');
  send(5002, 50);
  expect(drops('a', 'ACL_DENIED')).toBe(denied);
  world.ok('port', 'set', 'a', 'acl=', 'dhcpGuard=');
  await until('megaflows are in the kernel as they are put', () => {
    world.pings('a', '10.8.0.2', 3);
    return decidedBy('ovs').length > 0 && flows().every(({ deciders }) => !deciders.includes('port policies'));
  });
});
