/** A forwarding decider on ports with policies: VLAN tags, rules and guards are carried out in the kernel, and count there; flows outlive a daemon that is killed. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { DropCount, OffloadFlow, OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until, World } from './daemon-world.ts';

const CABLE = join(import.meta.dirname, '../examples/prefix-wall/cable.ts');
let world: World;
beforeEach(() => {
  world = new World({ outlives: true });
  world.host('trunk', '10.7.0.1/24');
  world.host('leaf', '10.7.0.2/24');
  // What the hosts would say of themselves counts as well.
  for (const host of ['trunk', 'leaf'])
    must('ip', 'netns', 'exec', world.namespace(host), 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
  for (const host of ['trunk', 'leaf']) world.completesChecksums(host);
  // Nobody at the trunk answers questions that have a tag.
  must('ip', '-n', world.namespace('leaf'), 'neigh', 'replace', '10.7.0.1', 'lladdr', mac('trunk'), 'dev', 'eth0');
});
afterEach(() => world.end());

const flows = () => world.json<{ flows: OffloadFlow[] }>('offload', 'show', '--flows').flows;
const carried = (name: string) =>
  world.json<OffloadInfo>('offload', 'show').ports.find(({ port }) => port === name)?.carriedPackets ?? 0;
const drops = (port: string, reason: string) =>
  world.json<DropCount[]>('drops').find((drop) => drop.port === port && drop.reason === reason)?.packets ?? 0;

const mac = (host: string) =>
  JSON.parse(must('ip', '-j', '-n', world.namespace(host), 'link', 'show', 'eth0'))[0].address as string;

function python(host: string, program: string): void {
  const { code, stderr } = run('ip', ['netns', 'exec', world.namespace(host), 'python3', '-c', program]);
  if (code !== 0) throw new Error(stderr);
}

/** Datagrams from trunk to a port of leaf, with a tag of VLAN 5. */
function sendTagged(port: number, count: number): void {
  const ethernet = `${mac('leaf')}${mac('trunk')}81000005`.replaceAll(':', '');
  python(
    'trunk',
    `
import socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
ip = bytearray.fromhex("4500002000000000401100000a0700010a070002")
total = sum(ip[i] << 8 | ip[i + 1] for i in range(0, 20, 2))
total = (total & 0xffff) + (total >> 16)
ip[10:12] = ((~total) & 0xffff).to_bytes(2, "big")
udp = (7000).to_bytes(2, "big") + (${port}).to_bytes(2, "big") + (12).to_bytes(2, "big") + bytes(6)
for _ in range(${count}):
    s.send(bytes.fromhex("${ethernet}0800") + ip + udp)
    time.sleep(0.001)
`,
  );
}

/** Datagrams from leaf to trunk. */
function send(count: number): void {
  python(
    'leaf',
    `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(${count}):
    s.sendto(b"x" * 100, ("10.7.0.1", 5000))
    time.sleep(0.001)
`,
  );
}

/** Datagrams that came to leaf, though nobody listens there. */
function arrived(): number {
  const lines = must('ip', 'netns', 'exec', world.namespace('leaf'), 'cat', '/proc/net/snmp').split('\n');
  const [names, values] = lines.filter((line) => line.startsWith('Udp:')).map((line) => line.split(' '));
  return Number(values[names.indexOf('NoPorts')]);
}

/** Frames that came to trunk. */
const received = () =>
  JSON.parse(must('ip', '-s', '-j', '-n', world.namespace('trunk'), 'link', 'show', 'eth0'))[0].stats64.rx
    .packets as number;

test('a trunk and an access port: tags come and go in the kernel, and what a rule denies ends there', async () => {
  world.up(`
ports:
  trunk: { vlan: { mode: trunk }, acl: [{ action: deny, direction: in, protocol: udp, remotePort: 5002 }] }
  leaf: { vlan: { mode: access, id: 5 }, dhcpGuard: true }
offload: require
extensions:
  - { name: cable, module: ${CABLE}, config: { ends: [trunk, leaf] } }
`);
  const inKernel = () =>
    flows().filter(({ table, reason, drop }) => table === 'cable' && reason === null && drop === null);
  await until('both ways are in the kernel', () => {
    sendTagged(5001, 3);
    send(3);
    const actions = inKernel().map((flow) => flow.actions);
    return actions.some((text) => text.startsWith('pop_vlan')) && actions.some((text) => text.startsWith('push_vlan'));
  });
  expect(inKernel()[0].deciders).toEqual(['port policies', 'cable']);
  const [before, arrivedBefore] = [carried('trunk'), arrived()];
  sendTagged(5001, 100);
  await until('the kernel has carried them', () => carried('trunk') - before >= 90);
  expect(arrived() - arrivedBefore).toBe(100);
  const receivedBefore = received();
  send(100);
  expect(received() - receivedBefore).toBeGreaterThanOrEqual(100);

  sendTagged(5002, 200);
  await until('denied packets are counted', () => drops('trunk', 'ACL_DENIED') === 200);
  expect(flows().find(({ drop }) => drop === 'port policies:ACL_DENIED')).toMatchObject({
    actions: 'drop',
    reason: null,
  });

  // The daemon dies: its flows go on, and the next one takes them up.
  const pid = world.pid();
  must('kill', '-9', String(pid));
  await until('the process is gone', () => !existsSync(`/proc/${pid}`));
  const orphaned = arrived();
  sendTagged(5001, 50);
  expect(arrived() - orphaned).toBe(50);
  world.ok('up', '--daemon', '-f', join(world.folder, 'millrace.yaml'));
  sendTagged(5001, 50);
  expect(arrived() - orphaned).toBe(100);
  expect(inKernel().some(({ actions, packets }) => actions.startsWith('pop_vlan') && packets >= 50)).toBe(true);

  world.ok('port', 'set', 'leaf', 'vlan.id=6');
  sendTagged(5001, 20);
  expect(arrived() - orphaned).toBe(100);
  await until('what may not go there is counted there', () => drops('leaf', 'VLAN_NOT_ALLOWED') === 20);
});
