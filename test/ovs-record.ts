/**
 * Makes src/extensions/ovs/testing/programs.hex: what Open vSwitch's own programs send to the datapath in a session of many kinds
 * of flows, a line of hexadecimal digits for each netlink datagram. Sequence numbers and port ids are 0, what differs in nothing
 * else is kept once, and the datapaths have the numbers of INDEXES. The tests of the families and the fuzzer play it.
 *
 *     node node_modules/jiti/lib/jiti-cli.mjs test/ovs-record.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OvsWorld, until } from './ovs-world.ts';

const INDEXES: Readonly<Record<string, number>> = { 'ovs-system': 1000, dp1: 1001 };
const output = join(import.meta.dirname, '../src/extensions/ovs/testing/programs.hex');

const FLOWS = [
  [
    'in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.1.0.0/255.255.0.0,proto=6,frag=no),tcp(dst=80/0xfff0)',
    'set(tcp(dst=8080)),1',
  ],
  [
    'in_port(1),eth(),eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x86dd),ipv6(src=fe80::/ffc0::,proto=58,frag=no),icmpv6(type=135,code=0),nd(target=fe80::3))',
    'pop_vlan,2',
  ],
  ['in_port(1),eth(),eth_type(0x0806),arp(op=1,tip=10.0.0.1)', 'push_vlan(vid=9,pcp=1),1,2'],
  ['in_port(1),eth(),eth_type(0x8847),mpls(label=100,tc=3,ttl=64,bos=1)', 'set(mpls(label=7,tc=1,ttl=3,bos=1)),1'],
  ['in_port(2),eth(),eth_type(0x0800),ipv4()', 'set(eth(src=00:01:02:03:04:05)),set(ipv4(src=1.1.1.1,dst=2.2.2.2)),1'],
  [
    'in_port(3),eth(),eth_type(0x0800),ipv4(proto=17,frag=first),udp()',
    'sample(sample=50.0%,actions(1)),clone(set(ipv4(ttl=1)),2),trunc(100),3',
  ],
  ['recirc_id(0x5),dp_hash(0x3/0xf),in_port(3),eth(),eth_type(0x0800),ipv4(proto=132),sctp(src=9)', 'recirc(0x6)'],
  ['in_port(4),eth(),eth_type(0x0800),ipv4(frag=later)', 'check_pkt_len(size=200,gt(1),le(2))'],
  [
    'tunnel(tun_id=0x5,src=1.1.1.1,dst=2.2.2.2,ttl=64,flags(df|key)),in_port(4),eth(),eth_type(0x0800),ipv4()',
    'set(tunnel(tun_id=0x9,dst=3.3.3.3,ttl=64,flags(df|key))),1',
  ],
  [
    'in_port(5),eth(),eth_type(0x894f),nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x123,si=5,c1=0x1,c2=0,c3=0,c4=0)',
    'pop_nsh(),1',
  ],
  [
    'in_port(6),eth(),eth_type(0x0800),ipv4(proto=1),icmp(type=8)',
    'userspace(pid=7,userdata(0102030405),actions),meter(3),4',
  ],
  [
    'in_port(7),skb_mark(0x9/0xf),skb_priority(0x3),eth(dst=01:00:00:00:00:00/01:00:00:00:00:00),eth_type(0x88cc)',
    'drop',
  ],
];

const world = new OvsWorld();
try {
  const trace = join(world.folder, 'trace');
  await world.startDatapath({ OVS_HARNESS_TRACE: trace });
  await world.startDatabase();
  await world.startVswitchd();
  const [a, b] = [world.host('va', '10.9.0.1/24'), world.host('vb', '10.9.0.2/24')];
  world.vsctl('add-br', 'br0', '--', 'add-port', 'br0', 'va', '--', 'add-port', 'br0', 'vb', 'tag=5');
  for (const type of ['vxlan', 'geneve', 'gre']) {
    world.vsctl('add-port', 'br0', type, '--', 'set', 'interface', type, `type=${type}`, 'options:remote_ip=10.9.0.99');
  }
  const ping = (from: string, to: string) =>
    world.run('ip', ['netns', 'exec', from, 'ping', '-c', '2', '-i', '0.2', '-W', '1', to]);
  ping(a, '10.9.0.2');
  world.vsctl('clear', 'port', 'vb', 'tag');
  const br0 = `unix:${world.folder}/br0.mgmt`;
  const ofctl = (...args: string[]) => world.must('ovs-ofctl', '-O', 'OpenFlow13', ...args);
  ofctl('add-meter', br0, 'meter=1 kbps burst bands=type=drop rate=100 burst_size=50');
  ofctl('add-group', br0, `group_id=1,type=select,bucket=actions=NORMAL`);
  ofctl('add-flow', br0, 'priority=9,icmp,actions=meter:1,group:1');
  ofctl('add-flow', br0, 'priority=8,arp,actions=controller,NORMAL');
  ping(a, '10.9.0.2');
  ping(b, '10.9.0.1');
  ofctl('meter-stats', br0);
  ofctl('del-meters', br0);
  for (const command of [
    'dpctl/show',
    'dpctl/dump-flows',
    'dpctl/dump-conntrack',
    'dpctl/flush-conntrack',
    'dpctl/ct-stats-show',
  ]) {
    world.run('ovs-appctl', ['-t', join(world.folder, 'vswitchd.ctl'), command]);
  }
  const dpctl = (...args: string[]) => world.shimmed('ovs-dpctl', ...args);
  dpctl('add-dp', 'dp1');
  dpctl('add-if', 'dp1', 'in1,type=internal');
  const numbers = new Map<number, number>();
  const list = JSON.parse(world.must('ip', '-n', world.namespace('sw'), '-j', 'link')) as {
    ifname: string;
    ifindex: number;
  }[];
  for (const { ifname, ifindex } of list) if (INDEXES[ifname] !== undefined) numbers.set(ifindex, INDEXES[ifname]);
  FLOWS.forEach(([match, actions], i) => {
    const named = i % 2 === 0 ? match : `ufid:${`${i}`.padStart(8, '0')}-0000-0000-0000-000000000001,${match}`;
    const added = dpctl('add-flow', 'dp1', named, actions);
    if (added.code !== 0) process.stderr.write(`not put: ${match}: ${added.stderr}`);
    dpctl('mod-flow', 'dp1', named, '1');
    dpctl('get-flow', 'dp1', `ufid:${`${i}`.padStart(8, '0')}-0000-0000-0000-000000000001`);
    dpctl('del-flow', 'dp1', named);
  });
  for (const args of [
    ['show', '-s'],
    ['dump-flows', '-m', 'dp1'],
    ['set-if', 'dp1', 'in1'],
    ['ct-get-limits', 'dp1'],
    ['ct-set-limits', 'dp1', 'default=7', 'zone=3,limit=9'],
    ['ct-del-limits', 'dp1', 'zone=3'],
    ['dump-conntrack'],
    ['del-flows', 'dp1'],
    ['del-if', 'dp1', 'in1'],
    ['del-dp', 'dp1'],
  ])
    dpctl(...args);
  world.vsctl('del-port', 'br0', 'vb');
  await until('the port has gone', () => !world.vsctl('list-ports', 'br0').includes('vb'));

  const seen = new Set<string>();
  for (const line of readFileSync(trace, 'utf8').trim().split('\n')) {
    const bytes = Buffer.from(line, 'hex');
    for (let at = 0; at + 16 <= bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      bytes.fill(0, at + 8, at + 16);
      const type = bytes.readUInt16LE(at + 4);
      if (type >= 0x7000 && length >= 24)
        bytes.writeUInt32LE(numbers.get(bytes.readUInt32LE(at + 20)) ?? bytes.readUInt32LE(at + 20), at + 20);
      at += (length + 3) & ~3;
    }
    seen.add(bytes.toString('hex'));
  }
  const text = `${[...seen].join('\n')}\n`;
  writeFileSync(output, text);
  process.stdout.write(`${seen.size} datagrams, ${text.length} bytes\n`);
} finally {
  await world.close();
}
