import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Word } from '../key/layout.ts';
import { PutMode } from '../table/contract.ts';
import { FlowTable } from '../table/table.ts';
import { actionList, keyAndMask } from '../testing/arbitraries.ts';
import { fuzzRounds, randomNumbers } from '../testing/frames.ts';
import { formatActions, parseActions } from './actions.ts';
import { formatFlow, formatUfid, parseUfid } from './flow.ts';
import { formatFlowKey, parseFlowKey } from './flow-key.ts';
import { FlowTextError } from './scanner.ts';

/** Flows as ovs-vswitchd 3.1 takes and dumps them, letter by letter. */
const FLOWS = [
  'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)',
  'recirc_id(0),in_port(1),eth(dst=01:00:00:00:00:00/01:00:00:00:00:00),eth_type(0x1234)',
  'recirc_id(0),in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x8100),vlan(vid=10,pcp=3),encap(eth_type(0x0800),ipv4(tos=0x3,ttl=3,frag=later))',
  'recirc_id(0),in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x8100),vlan(vid=10),encap(eth_type(0x0806),arp(sip=1.2.3.4,tip=1.1.1.1/255.0.0.0,op=1,sha=00:00:00:00:00:01,tha=00:00:00:00:00:02))',
  'in_port(1),eth(),eth_type(0x0800),ipv4(proto=6,frag=no),tcp(src=1,dst=2),tcp_flags(syn|ack)',
  'in_port(1),eth(),eth_type(0x0800),ipv4(proto=6,frag=no),tcp_flags(+syn+ack)',
  'in_port(1),eth(),eth_type(0x0800),ipv4(proto=17,frag=no),udp(src=1/0xff00,dst=5)',
  'in_port(1),eth(),eth_type(0x86dd),ipv6(proto=58,frag=first),icmpv6(type=135,code=0),nd(target=::1,sll=00:00:00:00:00:01,tll=00:00:00:00:00:02)',
  'in_port(1),eth(),eth_type(0x8847),mpls(label=5,tc=1,ttl=3,bos=0)',
  'in_port(1),packet_type(ns=1,id=0x800),eth_type(0x0800),ipv4(frag=no)',
  'recirc_id(0x7),dp_hash(0x1/0xf),skb_priority(0x5),in_port(1),skb_mark(0x1/0xf),ct_state(+new-est+trk),ct_zone(0x5),ct_mark(0x5),ct_label(0x1234567890/0xffffffffff),eth(),eth_type(0x0800),ipv4(frag=no)',
  'in_port(1),ct_state(+new-est-rel-rpl-inv+trk-snat-dnat),ct_tuple4(src=1.2.3.4,dst=3.4.5.6,proto=6,tp_src=1,tp_dst=2),eth(),eth_type(0x0800),ipv4(frag=no)',
  'in_port(1),eth(),eth_type(0x0800),ipv4(src=1.2.3.4,dst=1.1.1.1/255.255.255.0,proto=132,tos=0/0xfc,ttl=64,frag=no),sctp(src=1,dst=2)',
  'skb_priority(0),tunnel(tun_id=0x5/0xff,src=1.1.1.1/255.0.0.0,dst=2.2.2.2,tos=0x1,tp_dst=4789,geneve({class=0x102,type=0x80,len=4,0xa/0xff}{class=0xffff,type=0,len=8,0x11223344aabbccdd}),flags(-df+csum+key)),in_port(1),eth(),eth_type(0x0800)',
  'tunnel(ipv6_src=::1,ipv6_dst=::2,vxlan(gbp(id=10,flags=0x8)),flags(+key)),in_port(1),eth(),eth_type(0/0xffff)',
  'tunnel(dst=2.2.2.2,erspan(ver=2,dir=1,hwid=0x7)),in_port(1),eth(),eth_type(0x894f),nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x10,si=255,c1=0x1/0xff,c2=0x2)',
  'in_port(1),eth(),eth_type(0x8847),mpls(lse0=0x5040,lse1=0x7140/0xfffff000)',
  'in_port(1),eth(),eth_type(0x88a8),vlan(vid=10/0xf,pcp=3),encap(eth_type(0x8100),vlan(vid=3,pcp=0),encap(eth_type(0x86dd),ipv6(src=::1,dst=fe80::/ffff::,label=0x5,proto=6,tclass=0x4,hlimit=3,frag=no),tcp(src=1/0xff,dst=2)))',
];

test.each(FLOWS)('the flow %s reads and writes the same', (text) => {
  const { key, mask } = parseFlowKey(text);
  // Values as a table keeps them: nothing outside of the mask.
  expect(formatFlowKey(key, mask)).toBe(text);
});

/** Actions as ovs-vswitchd 3.1 takes and dumps them, or writes without taking them. */
const ACTIONS = [
  '2',
  'drop',
  'set(ipv4(ttl=63)),push_vlan(vid=5,pcp=0),2,recirc(0x1)',
  'set(ipv4(src=1.2.3.0/255.255.255.0,ttl=63))',
  'set(eth(dst=00:00:00:00:00:09/00:00:00:00:00:0f))',
  'push_vlan(tpid=0x88a8,vid=5,pcp=3,cfi=0),pop_vlan',
  'sample(sample=50.0%,actions(2))',
  'clone(2,recirc(0x1)),clone(drop),1',
  'trunc(100),2',
  'check_pkt_len(size=200,gt(drop),le(1))',
  'meter(3),2',
  'ct',
  'ct(nat)',
  'ct(commit,zone=1,mark=0x5/0xf,label=0x1,nat(src=1.2.3.4-1.2.3.9:10-20,random))',
  'ct(commit,zone=65535,helper=ftp),ct(force_commit)',
  'ct(commit,timeout=abc),ct(commit,label=0x5/0xf)',
  'ct(commit,nat(src)),ct(commit,nat(dst=1.2.3.4:80))',
  'ct(commit,nat(src=::1-::2,persistent,hash)),ct(commit,nat(src=[::1]-[::2]:80-90))',
  'ct_clear,2',
  'userspace(pid=5,userdata(0a0b0c0000000000),tunnel_out_port=3)',
  'userspace(pid=4294967295,userdata(0a),actions)',
  'push_mpls(label=5,tc=3,ttl=64,bos=1,eth_type=0x8847),pop_mpls(eth_type=0x800)',
  'push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),pop_eth',
  'push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x10,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x4),pop_nsh()',
  'push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x10,si=255,md2=0x10000a041234567820001408fedcba9876543210fedcba9876543210fedcba98)',
  'dec_ttl(le_1(2)),hash(l4(5)),hash(sym_l4(5)),recirc(0x7)',
  'set(skb_mark(0x5)),set(skb_priority(0x5/0xff))',
  'set(tunnel(tun_id=0x5,src=1.1.1.1,dst=2.2.2.2,tos=0x1,ttl=64,tp_dst=4789,flags(df|csum|key)))',
  'set(tunnel(tun_id=0x5,ipv6_src=::1,ipv6_dst=::2,ttl=64,geneve({class=0x102,type=0x80,len=4,0xa}{class=0,type=0,len=0}),flags(key)))',
  'set(tunnel(dst=2.2.2.2,ttl=64,vxlan(gbp(id=5,flags=0x8)),flags(0)))',
  'set(tunnel(dst=2.2.2.2,ttl=64,erspan(ver=1,idx=0x7),flags(0)))',
  'set(tcp(src=80)),set(tcp(dst=8/0xff)),set(udp(src=1,dst=2))',
  'set(nd(target=::1,sll=00:00:00:00:00:01)),set(icmp(type=1)),set(icmpv6(type=1,code=2))',
  'set(arp(sip=1.2.3.4,op=2,sha=00:00:00:00:00:01)),set(mpls(label=3,tc=0,ttl=1,bos=1))',
  'set(ipv6(src=fe80::/ffff::,dst=::2,label=0x5,tclass=0x3,hlimit=4)),set(nsh(ttl=62,spi=0x5))',
];

test.each(ACTIONS)('the actions %s read and write the same', (text) => {
  expect(formatActions(parseActions(text))).toBe(text);
});

test('what Open vSwitch takes in another form than it writes is read too', () => {
  const same = (a: string, b: string) => expect(formatActions(parseActions(a))).toBe(b);
  same('recirc(1)', 'recirc(0x1)');
  same(' 1 , 2 ', '1,2');
  same('', 'drop');
  same('pop_nsh', 'pop_nsh()');
  same('hash(hash_l4(0))', 'hash(l4(0))');
  same('set(tunnel(dst=2.2.2.2,flags()))', 'set(tunnel(dst=2.2.2.2,flags(0)))');
  const flow = parseFlowKey('in_port(1),eth(),eth_type(0x800),ipv4(proto=6),tcp_flags(0x12/0x13)');
  expect(formatFlowKey(flow.key, flow.mask)).toBe(
    'in_port(1),eth(),eth_type(0x0800),ipv4(proto=6),tcp_flags(-fin+syn+ack)',
  );
});

test('untagged packets and an Ethernet header are matched without being named', () => {
  const { key, mask } = parseFlowKey('in_port(1),eth_type(0x0800)');
  expect([mask[Word.VLAN], mask[Word.INNER_VLAN], mask[Word.ETH_TYPE]]).toEqual([0xffff, 0xffff, 0xffff_00ff]);
  expect([key[Word.VLAN], key[Word.ETH_TYPE]]).toEqual([0, 0x0800_0000]);
});

test.each([
  ['in_port', 'an attribute'],
  ['in_port(1', "')' expected"],
  ['in_port(1),in_port(2)', 'given twice'],
  ['in_port(4294967296)', 'does not fit 32 bits'],
  ['frobnicate(1)', "unknown attribute 'frobnicate'"],
  ['eth(src=00:00:00:00:00)', 'a MAC address expected'],
  ['eth_type(0x0800),ipv4(dst=10.0.0)', 'an IPv4 address expected'],
  ['eth_type(0x0800),ipv4(frag=maybe)', "'no', 'first' or 'later' expected"],
  ['eth_type(0x0800),ipv4(colour=1)', "ipv4 has no field 'colour'"],
  ['ipv4(proto=6)', 'ipv4 without what must come before it'],
  ['eth_type(0x0800),tcp(src=1)', 'tcp without what must come before it'],
  ['eth_type(0x0800/0x0),ipv4(proto=6)', 'ipv4 without what must come before it'],
  ['eth_type(0x8100),vlan(vid=1,pcp=0)', 'vlan without encap'],
  ['eth_type(0x8100),vlan(vid=1,cfi=0),encap()', 'a tag without its CFI bit'],
  ['eth_type(0x86dd),ipv6(label=0x100000)', 'is more than 1048575'],
  ['ct_state(+new+new)', 'a flag given twice'],
  ['tunnel(src=1.1.1.1,ipv6_dst=::1)', 'IPv4 and IPv6 in one tunnel'],
  ['tunnel(geneve({class=1,type=1,len=3,0x1}))', 'a multiple of 4'],
])('the flow %s is refused: %s', (text, reason) => {
  expect(() => parseFlowKey(text)).toThrow(FlowTextError);
  expect(() => parseFlowKey(text)).toThrow(reason);
});

test.each([
  ['1,', 'an action expected'],
  ['drop,1', 'an action expected'],
  ['fly()', "unknown action 'fly'"],
  ['sample(sample=101%,actions(1))', 'more than 100 %'],
  ['set(recirc_id(1))', "'recirc_id' cannot be set"],
  ['ct(nat(up))', "nat has no argument 'up'"],
  ['ct(nat(src=1.2.3.4-::1))', 'from one IP version to the other'],
  [`${'clone('.repeat(40)}1${')'.repeat(40)}`, 'nested too deep'],
  ['ct(commit,mark=0x1/0x2)', '0x1/0x2 has bits set outside its mask (at character 16)'],
  ['ct(commit,mark=0x1/0x3/0x3)', "',' expected"],
  ['ct(commit,label=0x100000000/0xffffffff)', 'bits set outside its mask'],
])('the actions %s are refused: %s', (text, reason) => {
  expect(() => parseActions(text)).toThrow(FlowTextError);
  expect(() => parseActions(text)).toThrow(reason);
});

test('any key under any mask that the kernel could hold reads back from its text', () => {
  fc.assert(
    fc.property(keyAndMask, ({ key, mask }) => {
      const text = formatFlowKey(key, mask);
      const back = parseFlowKey(text);
      expect(formatFlowKey(back.key, back.mask)).toBe(text);
      expect(back.mask).toEqual(mask);
      expect(back.key.map((word, i) => word & back.mask[i])).toEqual(key.map((word, i) => word & mask[i]));
    }),
    { numRuns: fuzzRounds(500) },
  );
});

test('any action list reads back from its text', () => {
  fc.assert(
    fc.property(actionList, (actions) => {
      expect(parseActions(formatActions(actions))).toEqual(actions);
    }),
    { numRuns: fuzzRounds(500) },
  );
});

test('mutilated text throws nothing but FlowTextError', () => {
  const random = randomNumbers(3);
  const letters = '(),=/0x19af:.{}[]+-|%abc ';
  for (let round = fuzzRounds(4000); round > 0; round -= 1) {
    const isFlow = random(2) === 0;
    const from = isFlow ? FLOWS : ACTIONS;
    let text = from[random(from.length)];
    for (let change = 1 + random(3); change > 0; change -= 1) {
      const at = random(text.length + 1);
      const kind = random(3);
      if (kind === 0) text = text.slice(0, at) + text.slice(at + 1 + random(5));
      else if (kind === 1) text = text.slice(0, at) + letters[random(letters.length)] + text.slice(at);
      else text = text.slice(0, at) + from[random(from.length)].slice(random(20)) + text.slice(at);
    }
    try {
      if (isFlow) {
        const { key, mask } = parseFlowKey(text);
        formatFlowKey(key, mask);
      } else {
        formatActions(parseActions(text));
      }
    } catch (error) {
      expect(error).toBeInstanceOf(FlowTextError);
    }
  }
});

test('a flow of a table is a line as ovs-dpctl dumps it', () => {
  const table = new FlowTable();
  const ufid = parseUfid('ufid:00000000-0000-0000-0000-0000000000ff');
  const flow = parseFlowKey('in_port(1),eth(),eth_type(0x0800),ipv4(proto=6,frag=no)');
  const slot = table.put({ ...flow, actions: parseActions('2'), ufid, mode: PutMode.CREATE });
  const start = 'ufid:00000000-0000-0000-0000-0000000000ff, in_port(1),eth(),eth_type(0x0800),ipv4(proto=6,frag=no), ';
  expect(formatFlow(table, slot, 5000)).toBe(`${start}packets:0, bytes:0, used:never, actions:2`);
  table.count(slot, 60, 0x12, 4500);
  expect(formatFlow(table, slot, 5000)).toBe(`${start}packets:1, bytes:60, used:0.500s, flags:S., actions:2`);
});

test('identifiers of other lengths are plain hexadecimal', () => {
  expect(formatUfid(parseUfid('0aff'))).toBe('0aff');
  // Those of 16 bytes are four numbers, as ovs-dpctl and ovs-vswitchd's log show them.
  expect(formatUfid(Uint8Array.from({ length: 16 }, (_, i) => i))).toBe('03020100-0706-0504-0b0a-09080f0e0d0c');
  expect(parseUfid('ufid:03020100-0706-0504-0b0a-09080f0e0d0c')).toEqual(Uint8Array.from({ length: 16 }, (_, i) => i));
  expect(() => parseUfid('0af')).toThrow(FlowTextError);
  expect(() => parseUfid('00'.repeat(17))).toThrow(FlowTextError);
});
