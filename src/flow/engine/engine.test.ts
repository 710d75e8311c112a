import { expect, test } from 'vitest';
import { Checksum, Gso, type Packet } from '../../net/index.ts';
import {
  ADDRESSES6,
  arp,
  ethernet,
  hex,
  icmp,
  icmpv6,
  ipv4,
  ipv6,
  SOURCE_MAC,
  sctp,
  TARGET_MAC,
  tcp,
  udp,
} from '../testing/frames.ts';
import { FlowLab } from '../testing/lab.ts';

const TCP = 'in_port(1),eth_type(0x0800),ipv4(proto=6,frag=no)';
const UDP = 'in_port(1),eth_type(0x0800),ipv4(proto=17,frag=no)';
const frame = ethernet(0x0800, ipv4(6, tcp()));
const addresses = (src: number[], dst: number[]) => [...src, ...dst];

test('outputs go to every port in turn, with the packet as it is by then', () => {
  const lab = new FlowLab();
  const sent = lab.run(TCP, '2,set(eth(src=02:00:00:00:00:99)),3', frame);
  expect(lab.sent.map((each) => each.port)).toEqual([2, 3]);
  expect(sent[0]).toEqual(frame);
  expect(sent[1]).toEqual([...TARGET_MAC, ...hex('020000000099'), ...frame.slice(12)]);
  expect(lab.held).toBe(0);
});

test('setting IPv4 fields keeps the header checksum and the transport checksum right', () => {
  const lab = new FlowLab();
  const [out] = lab.run(TCP, 'set(ipv4(src=192.168.7.9,dst=10.9.8.7,tos=0x20,ttl=7)),1', frame);
  const wanted = tcp({ addresses: addresses([192, 168, 7, 9], [10, 9, 8, 7]) });
  expect(out).toEqual(ethernet(0x0800, ipv4(6, wanted, { src: '192.168.7.9', dst: '10.9.8.7', tos: 0x20, ttl: 7 })));
});

test('a masked set changes only the bits of its mask', () => {
  const lab = new FlowLab();
  const [out] = lab.run(TCP, 'set(ipv4(dst=0.0.0.77/0.0.0.255)),set(tcp(dst=1/0x1)),1', frame);
  const wanted = tcp({ dst: 81, addresses: addresses([10, 0, 0, 1], [10, 0, 0, 77]) });
  expect(out).toEqual(ethernet(0x0800, ipv4(6, wanted, { dst: '10.0.0.77' })));
});

test('UDP without a checksum stays without, and one that becomes zero is sent as 0xffff', () => {
  const lab = new FlowLab();
  const bare = udp();
  bare[6] = 0;
  bare[7] = 0;
  const [out] = lab.run(UDP, 'set(ipv4(src=1.2.3.4)),set(udp(src=9)),1', ethernet(0x0800, ipv4(17, bare)));
  expect(out.slice(40, 42)).toEqual([0, 0]);
  // Choose the source port so that the sum comes to all ones.
  const seen = udp({ src: 0 });
  const sum = (seen[6] << 8) | seen[7];
  const [mangled] = lab.run(UDP, `set(udp(src=${sum})),1`, ethernet(0x0800, ipv4(17, seen)));
  expect(mangled.slice(40, 42)).toEqual([0xff, 0xff]);
});

test('a partial checksum is left to be completed, but its pseudo header follows the addresses', () => {
  const lab = new FlowLab();
  const partial = tcp();
  const pseudo = (from: number[]) => {
    let total = 6 + partial.length;
    for (let i = 0; i < from.length; i += 2) total += (from[i] << 8) | from[i + 1];
    return (total & 0xffff) + (total >>> 16);
  };
  const before = pseudo([10, 0, 0, 1, 10, 0, 0, 2]);
  partial[16] = before >>> 8;
  partial[17] = before & 0xff;
  lab.run(
    TCP,
    'set(ipv4(src=192.168.7.9)),set(tcp(dst=9)),push_vlan(vid=5,pcp=0),1',
    ethernet(0x0800, ipv4(6, partial)),
    (packet) => {
      packet.checksum = Checksum.PARTIAL;
      packet.checksumStart = 34;
      packet.checksumOffset = 16;
      packet.gsoType = Gso.TCPV4;
      packet.gsoSizeBytes = 1448;
    },
  );
  const [out] = lab.sent;
  const after = pseudo([192, 168, 7, 9, 10, 0, 0, 2]);
  expect(out.bytes.slice(54, 56)).toEqual([after >>> 8, after & 0xff]);
  expect([out.checksum, out.checksumStart, out.gsoType]).toEqual([Checksum.PARTIAL, 38, Gso.TCPV4]);
});

test('later fragments keep their payload when ports or addresses are set', () => {
  const lab = new FlowLab();
  const payload = udp();
  const later = ethernet(0x0800, ipv4(17, payload, { fragment: 3 }));
  const [out] = lab.run('in_port(1),eth_type(0x0800),ipv4(proto=17)', 'set(ipv4(ttl=9)),set(udp(src=5)),1', later);
  expect(out).toEqual(ethernet(0x0800, ipv4(17, payload, { fragment: 3, ttl: 9 })));
});

test('SCTP ports change with the CRC, padding aside', () => {
  const lab = new FlowLab();
  const flow = 'in_port(1),eth_type(0x0800),ipv4(proto=132)';
  const padding = [1, 2, 3, 4, 5];
  const [out] = lab.run(flow, 'set(sctp(src=7,dst=8)),1', [...ethernet(0x0800, ipv4(132, sctp())), ...padding]);
  expect(out).toEqual([...ethernet(0x0800, ipv4(132, sctp({ src: 7, dst: 8 }))), ...padding]);
});

test('ICMP type and code change with the checksum', () => {
  const lab = new FlowLab();
  const flow = 'in_port(1),eth_type(0x0800),ipv4(proto=1)';
  expect(lab.run(flow, 'set(icmp(type=0,code=3)),1', ethernet(0x0800, ipv4(1, icmp(8, 0))))).toEqual([
    ethernet(0x0800, ipv4(1, icmp(0, 3))),
  ]);
});

test('IPv6 fields and neighbour discovery change with the ICMPv6 checksum', () => {
  const lab = new FlowLab();
  const target = hex('20010db8000000000000000000000009');
  const body = (address: number[], mac: number[]) => [0, 0, 0, 0, ...address, 1, 1, ...mac, 2, 1, ...mac];
  const before = ethernet(0x86dd, ipv6(58, icmpv6(135, 0, body(target, SOURCE_MAC))));
  const flow = 'in_port(1),eth_type(0x86dd),ipv6(proto=58),icmpv6(type=135,code=0),nd()';
  const actions =
    'set(nd(target=2001:db8::7,sll=02:00:00:00:00:02,tll=02:00:00:00:00:02)),set(ipv6(hlimit=255,tclass=0x12,label=0x345)),1';
  const changed = hex('20010db8000000000000000000000007');
  expect(lab.run(flow, actions, before)).toEqual([
    ethernet(
      0x86dd,
      ipv6(58, icmpv6(135, 0, body(changed, TARGET_MAC)), { hopLimit: 255, classAndLabel: 0x0120_0345 }),
    ),
  ]);
});

test('an IPv6 destination behind a routing header does not count in the checksum', () => {
  const lab = new FlowLab();
  const inner = udp({ addresses: ADDRESSES6 });
  const routed = ethernet(0x86dd, ipv6(43, [...hex('1100000000000000'), ...inner]));
  const [out] = lab.run('in_port(1),eth_type(0x86dd)', 'set(ipv6(dst=2001:db8::99)),1', routed);
  expect(out.slice(62)).toEqual(inner);
  const plain = ethernet(0x86dd, ipv6(17, inner));
  const [changed] = lab.run('in_port(1),eth_type(0x86dd)', 'set(ipv6(dst=2001:db8::99)),1', plain);
  const moved = [...ADDRESSES6.slice(0, 31), 0x99];
  expect(changed.slice(54)).toEqual(udp({ addresses: moved }));
});

test('ARP fields are written where they belong', () => {
  const lab = new FlowLab();
  const actions = 'set(arp(sip=9.8.7.6,tip=5.4.3.2,op=2,sha=aa:bb:cc:dd:ee:01,tha=aa:bb:cc:dd:ee:02)),1';
  const [out] = lab.run('in_port(1),eth_type(0x0806)', actions, ethernet(0x0806, arp()));
  expect(out.slice(14)).toEqual([
    ...hex('0001080006040002'),
    ...hex('aabbccddee01'),
    9,
    8,
    7,
    6,
    ...hex('aabbccddee02'),
    5,
    4,
    3,
    2,
  ]);
});

test('VLAN tags of both kinds are pushed and popped', () => {
  const lab = new FlowLab();
  const tags: [number, number][] = [
    [0x88a8, 0x6005],
    [0x8100, 7],
  ];
  const double = ethernet(0x0800, ipv4(6, tcp()), tags);
  const out = lab.run(
    TCP,
    'push_vlan(vid=7,pcp=0),push_vlan(tpid=0x88a8,vid=5,pcp=3),1,pop_vlan,2,pop_vlan,3,pop_vlan,4',
    frame,
  );
  expect(out).toEqual([double, ethernet(0x0800, ipv4(6, tcp()), [[0x8100, 7]]), frame, frame]);
});

test('MPLS labels are pushed behind the Ethernet header and popped again', () => {
  const lab = new FlowLab();
  const push = 'push_mpls(label=5,tc=1,ttl=64,bos=1,eth_type=0x8847)';
  const labelled = ethernet(0x8847, [...hex('00005340'), ...ipv4(6, tcp())]);
  expect(lab.run(TCP, `${push},1`, frame)).toEqual([labelled]);
  expect(lab.run(TCP, `${push},set(mpls(ttl=9)),1`, frame)[0].slice(14, 18)).toEqual(hex('00005309'));
  const flow = 'in_port(1),eth_type(0x8847),mpls(label=5/0x0,tc=0/0,ttl=0/0,bos=1)';
  expect(lab.run(flow, 'pop_mpls(eth_type=0x0800),1', labelled)).toEqual([frame]);
});

test('add_mpls puts a label before the whole frame, and a popped one gives the frame back', () => {
  const lab = new FlowLab();
  const actions =
    'add_mpls(label=5,tc=1,ttl=64,bos=1,eth_type=0x8847),push_eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),1';
  const [out] = lab.run(TCP, actions, frame);
  expect(out).toEqual(ethernet(0x8847, [...hex('00005340'), ...frame]));
  const flow = 'in_port(1),eth_type(0x8847),mpls(label=5/0x0,tc=0/0,ttl=0/0,bos=1)';
  expect(lab.run(flow, 'pop_eth,pop_mpls(eth_type=0x6558),1', out)).toEqual([frame]);
});

test('Ethernet headers are taken off and put on', () => {
  const lab = new FlowLab();
  const flow = 'in_port(1),packet_type(ns=1,id=0x0800)';
  const bare = ipv4(6, tcp());
  expect(lab.run(TCP, 'pop_eth,1', frame)).toEqual([bare]);
  expect(lab.run(flow, 'push_eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),1', bare)).toEqual([frame]);
});

test('NSH headers of both metadata types are put on and taken off', () => {
  const lab = new FlowLab();
  const md1 = 'push_nsh(flags=1,ttl=62,mdtype=1,np=0,spi=0x10,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x4)';
  const eth = 'push_eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)';
  const [out] = lab.run(TCP, `${md1},${eth},1`, frame);
  expect(out).toEqual(ethernet(0x894f, [...hex('1f86 01 03 000010ff 00000001 00000002 00000003 00000004'), ...frame]));
  const flow = 'in_port(1),eth_type(0x894f),nsh(np=3)';
  expect(lab.run(flow, 'set(nsh(ttl=5,si=254,c2=0xff)),1,pop_nsh(),2', out)).toEqual([
    ethernet(0x894f, [...hex('1146 01 03 000010fe 00000001 000000ff 00000003 00000004'), ...frame]),
    frame,
  ]);
  const md2 = 'push_nsh(flags=0,ttl=63,mdtype=2,np=0,spi=0x1,si=1,md2=0x0102030405060708)';
  expect(lab.run(TCP, `${md2},1`, frame)[0].slice(0, 16)).toEqual(hex('0fc4 02 03 00000101 0102030405060708'));
});

test('dec_ttl counts down with the checksum, and at the end runs its own actions alone', () => {
  const lab = new FlowLab();
  expect(lab.run(TCP, 'dec_ttl(le_1(9)),1', frame)).toEqual([ethernet(0x0800, ipv4(6, tcp(), { ttl: 63 }))]);
  lab.run(TCP, 'dec_ttl(le_1(9)),1', ethernet(0x0800, ipv4(6, tcp(), { ttl: 1 })));
  expect(lab.sent.map((each) => each.port)).toEqual([9]);
  lab.run(TCP, 'dec_ttl(le_1(drop)),1', ethernet(0x0800, ipv4(6, tcp(), { ttl: 1 })));
  expect(lab.datapath.drops.toRecord()).toEqual({ 'time-exceeded': 1 });
});

test('clone and sample work on copies, check_pkt_len chooses by length', () => {
  const lab = new FlowLab();
  const changed = [...TARGET_MAC, ...hex('020000000099'), ...frame.slice(12)];
  expect(lab.run(TCP, 'clone(set(eth(src=02:00:00:00:00:99)),5),6', frame)).toEqual([changed, frame]);
  expect(lab.run(TCP, 'sample(sample=100.0%,actions(set(eth(src=02:00:00:00:00:99)),5)),6', frame)).toEqual([
    changed,
    frame,
  ]);
  expect(lab.run(TCP, 'sample(sample=0.0%,actions(5)),6', frame)).toEqual([frame]);
  lab.run(
    TCP,
    `check_pkt_len(size=${frame.length},gt(1),le(2)),check_pkt_len(size=${frame.length - 1},gt(3),le(4))`,
    frame,
  );
  expect(lab.sent.map((each) => each.port)).toEqual([2, 3]);
  lab.run(
    TCP,
    'check_pkt_len(size=100,gt(1),le(2))',
    ethernet(0x0800, ipv4(6, tcp({ payload: new Array(900).fill(1) }))),
    (packet) => {
      packet.gsoType = Gso.TCPV4;
      packet.gsoSizeBytes = 40;
    },
  );
  expect(lab.sent.map((each) => each.port)).toEqual([2]);
  expect(lab.held).toBe(0);
});

test('sample takes about its share', () => {
  const lab = new FlowLab();
  lab.flow(TCP, 'sample(sample=25.0%,actions(1))');
  for (let i = 0; i < 2000; i += 1) lab.receive(frame);
  expect(lab.sent.length).toBeGreaterThan(400);
  expect(lab.sent.length).toBeLessThan(600);
});

test('what trunc leaves of a partial checksum is completed on egress, unless its field is cut off', () => {
  const lab = new FlowLab();
  lab.run(TCP, 'trunc(53),1,trunc(51),2,3', frame, (packet: Packet) => {
    packet.checksum = Checksum.PARTIAL;
    packet.checksumStart = 34;
    packet.checksumOffset = 16;
  });
  expect(lab.sent.map((each) => each.checksum)).toEqual([Checksum.PARTIAL, Checksum.UNKNOWN, Checksum.PARTIAL]);
});

test('trunc shortens the next output alone, and what userspace is told', () => {
  const lengths: number[] = [];
  const lab = new FlowLab({ userspace: (_packet, _key, _words, _at, _list, length) => lengths.push(length) });
  const sent = lab.run(TCP, 'trunc(20),1,2,trunc(30),userspace(pid=1),userspace(pid=1)', frame);
  expect(sent).toEqual([frame.slice(0, 20), frame]);
  expect(lengths).toEqual([30, frame.length]);
  expect(lab.held).toBe(0);
});

test('bytes are copied only when an output still holds them', () => {
  const lab = new FlowLab();
  lab.run(TCP, '1,set(ipv4(ttl=9)),2', frame);
  expect(lab.copies.available).toBe(32);
  lab.keepOutputs();
  lab.run(TCP, '1,2,set(ipv4(ttl=9)),3,set(ipv4(ttl=8)),4', frame);
  expect(lab.copies.available).toBe(30);
  const with9 = ethernet(0x0800, ipv4(6, tcp(), { ttl: 9 }));
  expect(lab.keptBytes()).toEqual([frame, frame, with9, ethernet(0x0800, ipv4(6, tcp(), { ttl: 8 }))]);
  lab.release();
  expect(lab.held).toBe(0);
});

test('without a buffer for a copy the packet is dropped by name, and what was sent stays as it was', () => {
  const lab = new FlowLab();
  lab.keepOutputs();
  for (let i = 0; i < 33; i += 1) lab.run(TCP, '1,set(ipv4(ttl=9)),2', frame);
  expect(lab.datapath.drops.toRecord()).toEqual({ 'no-buffer': 1 });
  expect(lab.keptBytes()[64]).toEqual(frame);
  lab.release();
  expect(lab.held).toBe(0);
});

test('a packet without headroom is moved to a buffer that has some', () => {
  const lab = new FlowLab();
  const [out] = lab.run(TCP, 'push_vlan(vid=7,pcp=0),1', frame, (packet: Packet) => {
    packet.headroomStart = packet.offset;
  });
  expect(out).toEqual(ethernet(0x0800, ipv4(6, tcp()), [[0x8100, 7]]));
  expect(lab.held).toBe(0);
});

test('a header that the flow did not promise is a named drop, not a change of other bytes', () => {
  const lab = new FlowLab();
  // A flow on EtherType alone lets a malformed IPv4 packet through to its set.
  lab.run('in_port(1),eth_type(0x0800)', 'set(ipv4(ttl=1)),1', ethernet(0x0800, ipv4(6, tcp()).slice(0, 10)));
  expect(lab.sent).toEqual([]);
  expect(lab.datapath.drops.toRecord()).toEqual({ 'header-missing': 1 });
});
