/** Open vSwitch's own programs on connections of the datapath: dumped, counted, flushed and limited, with time-outs by zone, and among many. */
import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasOpenVSwitch, OvsWorld, until } from './ovs-world.ts';

const here = test.runIf(hasOpenVSwitch());
const MANY = 100_000;
const IN_ZONE = MANY / 10;

let world: OvsWorld;

beforeAll(async () => {
  if (!hasOpenVSwitch()) return;
  world = new OvsWorld();
  await world.startDatapath({ OVS_HARNESS_CONNECTIONS: String(MANY), OVS_HARNESS_KINDS: '1' });
  await world.startDatabase();
  await world.startVswitchd();
  world.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'fail-mode=secure');
});

afterAll(async () => {
  await world?.close();
});

/** Lines of a dump that hold no connection of the many. */
function few(zone = ''): string[] {
  const { stdout } = world.shimmed('sh', '-c', `ovs-dpctl dump-conntrack ${zone} | grep -v dst=172.16.0.1`);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}

/** How many lines a program prints, without keeping them. */
function countLines(command: string, ...args: string[]): Promise<number> {
  const child = spawn('ip', world.shimArguments(command, args));
  let lines = 0;
  child.stdout.on('data', (text: Buffer) => {
    for (const byte of text) if (byte === 10) lines += 1;
  });
  return new Promise((resolve) => child.on('close', () => resolve(lines)));
}

here('connections of every kind are printed with all that is known of them', () => {
  expect(few()).toEqual([
    'icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=77,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=77,type=0,code=0)',
    'sctp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4002,dport=36412),reply=(src=10.0.0.2,dst=10.0.0.1,sport=36412,dport=4002),protoinfo=(state=CLOSED,vtag_orig=0,vtag_reply=151587081)',
    'tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4001,dport=21),reply=(src=10.0.0.2,dst=10.0.0.1,sport=21,dport=4001),protoinfo=(state=SYN_SENT),helper=ftp',
    'tcp,orig=(src=10.0.0.1,dst=192.0.2.9,sport=4000,dport=80),reply=(src=192.0.2.9,dst=198.51.100.1,sport=80,dport=7),zone=5,protoinfo=(state=ESTABLISHED)',
    'udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=5000,dport=53),reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=5000),zone=6,mark=42,labels=0x1234',
    'udp,orig=(src=fd00::1,dst=fd00::2,sport=1,dport=53),reply=(src=fd00::2,dst=fd00::1,sport=53,dport=1)',
  ]);
  expect(few('zone=6').length).toBe(1);
  const verbose = world.shimmed('sh', '-c', 'ovs-dpctl dump-conntrack -m zone=5 | grep 198.51.100.1');
  expect(verbose.stdout).toMatch(
    /id=1,zone=5,status=SEEN_REPLY\|ASSURED\|CONFIRMED\|SRC_NAT\|SRC_NAT_DONE,protoinfo=\(state_orig=ESTABLISHED,/,
  );
  expect(world.log).not.toMatch(/netlink_conntrack|Could not parse/);
});

here('many are dumped whole, and counted', async () => {
  expect(await countLines('ovs-dpctl', 'dump-conntrack')).toBe(MANY + 6);
  expect(await countLines('ovs-dpctl', 'dump-conntrack', 'zone=3')).toBe(IN_ZONE);
  const counted = world.appctl('dpctl/ct-stats-show');
  expect(counted).toMatch(
    new RegExp(`Connections Stats:\\s+Total: ${MANY + 6}\\s+TCP: 2\\s+UDP: ${MANY + 2}\\s+SCTP: 1\\s+ICMP: 1`),
  );
});

here('a connection is flushed by its tuple, a zone whole, and in the end all', async () => {
  const tuple = 'ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=5000,ct_tp_dst=53';
  expect(
    world.run('ovs-appctl', ['-t', `${world.folder}/vswitchd.ctl`, 'dpctl/flush-conntrack', 'zone=5', tuple]).code,
  ).not.toBe(0);
  world.appctl('dpctl/flush-conntrack', 'zone=6', tuple);
  expect(few('zone=6')).toEqual([]);
  world.appctl('dpctl/flush-conntrack', 'zone=3');
  expect(await countLines('ovs-dpctl', 'dump-conntrack', 'zone=3')).toBe(0);
  expect(await countLines('ovs-dpctl', 'dump-conntrack', 'zone=4')).toBe(IN_ZONE);
  world.must('ovs-ofctl', 'ct-flush', `unix:${world.folder}/br0.mgmt`, 'zone=4');
  expect(await countLines('ovs-dpctl', 'dump-conntrack', 'zone=4')).toBe(0);
});

here('limits of zones are set, told with what is there, and taken back', () => {
  const told = (...args: string[]) =>
    world
      .appctl('dpctl/ct-get-limits', ...args)
      .trim()
      .split('\n');
  expect(told()).toEqual(['default limit=0']);
  world.appctl('dpctl/ct-set-limits', 'default=200', 'zone=7,limit=50000', 'zone=9,limit=0');
  expect(told()).toEqual([
    'default limit=200',
    `zone=7,limit=50000,count=${IN_ZONE}`,
    `zone=9,limit=0,count=${IN_ZONE}`,
  ]);
  expect(told('zone=1')).toEqual(['default limit=200', `zone=1,limit=200,count=${IN_ZONE}`]);
  world.appctl('dpctl/ct-del-limits', 'zone=7,9');
  world.appctl('dpctl/ct-set-limits', 'default=0');
  expect(told()).toEqual(['default limit=0']);
});

here('time-outs of a zone become policies, change and go', async () => {
  world.vsctl(
    '--',
    '--id=@d',
    'create',
    'Datapath',
    'datapath_version=0',
    '--',
    'set',
    'Open_vSwitch',
    '.',
    'datapaths:system=@d',
  );
  world.vsctl('add-zone-tp', 'system', 'zone=5', 'udp_first=11', 'udp_single=12', 'icmp_first=13', 'tcp_syn_sent=14');
  const policies = () => timeOutPolicies();
  await until('the policies are there', () => policies().length === 6);
  const [tcp4, udp4] = ['tcp4', 'udp4'].map((name) => policies().find((line) => line.includes(`_${name}`)));
  expect(tcp4).toMatch(/syn_sent=14/);
  expect(udp4).toMatch(/unreplied=12/);
  world.vsctl('del-zone-tp', 'system', 'zone=5');
  await until('the policies are gone', () => policies().length === 0);
});

/** Time-out policies as lines: name, then values by name. */
function timeOutPolicies(): string[] {
  const program = `
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12); s.bind((0, 0))
s.send(struct.pack('=IHHII', 20, 0x801, 0x301, 1, 0) + bytes(4))
states = {6: ('syn_sent',), 17: ('unreplied', 'replied'), 1: ('timeout',), 58: ('timeout',)}
def attributes(b):
    found, at = {}, 0
    while at + 4 <= len(b):
        length, type = struct.unpack_from('=HH', b, at)
        found[type & 0x3fff] = b[at + 4:at + length]; at += (length + 3) & ~3
    return found
over = False
while not over:
    d = s.recv(65536); at = 0
    while at < len(d):
        length, type = struct.unpack_from('=IH', d, at)
        if type == 3: over = True
        else:
            found = attributes(d[at + 20:at + length]); values = attributes(found[4])
            print(found[1][:-1].decode(), *['%s=%d' % (n, struct.unpack('>I', values[i + 1])[0]) for i, n in enumerate(states[found[3][0]])])
        at += (length + 3) & ~3
`;
  return world
    .shimmed('python3', '-c', program)
    .stdout.split('\n')
    .filter((line) => line !== '');
}

here('a flush of everything leaves nothing', async () => {
  world.appctl('dpctl/flush-conntrack');
  expect(await countLines('ovs-dpctl', 'dump-conntrack')).toBe(0);
});
