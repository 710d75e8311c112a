import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KEY_WORDS } from '../key/layout.ts';
import { actionList } from '../testing/arbitraries.ts';
import { fuzzRounds, randomNumbers } from '../testing/frames.ts';
import { parseActions } from '../text/actions.ts';
import { parseFlowKey } from '../text/flow-key.ts';
import { ActionBuilder } from './builder.ts';
import { Ct } from './ct/words.ts';
import { Action, actionHead } from './encoding.ts';
import { ActionError, validateActions } from './validate.ts';

const TCP = 'in_port(1),eth(),eth_type(0x0800),ipv4(proto=6,frag=no),tcp()';
const IPV6_ND = 'in_port(1),eth(),eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=135,code=0),nd()';
const ARP = 'in_port(1),eth(),eth_type(0x0806)';
const TAGGED = 'in_port(1),eth(),eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x0800),ipv4(proto=17))';
const MPLS = 'in_port(1),eth(),eth_type(0x8847),mpls(label=5,tc=0,ttl=64,bos=1)';
const MPLS2 = 'in_port(1),eth(),eth_type(0x8847),mpls(lse0=0x5040,lse1=0x7140)';
const NSH = 'in_port(1),eth(),eth_type(0x894f),nsh(np=3)';
const L3 = 'in_port(1),packet_type(ns=1,id=0x0800),eth_type(0x0800),ipv4(proto=6)';
const ANY = 'in_port(1),eth()';

function flawOf(flow: string, actions: string, options = {}) {
  const { key, mask } = parseFlowKey(flow);
  return validateActions(
    parseActions(actions),
    key.map((word, i) => word & mask[i]),
    options,
  );
}

test.each([
  [TCP, ''],
  [TCP, '1,2,65534'],
  [TCP, 'set(eth(src=00:00:00:00:00:01)),set(ipv4(ttl=3)),set(tcp(dst=1)),push_vlan(vid=1,pcp=0),set(tcp(src=1)),1'],
  [TCP, 'set(ipv4(src=1.1.1.1,dst=2.2.2.2,proto=6,tos=0,ttl=64,frag=no))'],
  [TCP, 'push_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847),set(mpls(ttl=3)),pop_mpls(eth_type=0x0800)'],
  [TCP, 'pop_eth,push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),set(eth(src=00:00:00:00:00:09))'],
  [TCP, 'push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=1,si=1),push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),1'],
  [TCP, 'add_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847,tun_flags=0x1),1'],
  [TCP, 'sample(sample=1%,actions(1)),clone(2),check_pkt_len(size=1,gt(drop),le(1)),dec_ttl(le_1(1)),1'],
  [TCP, 'set(tunnel(dst=1.1.1.1,ttl=64,geneve({class=1,type=1,len=4,0x1})))'],
  [TCP, 'ct(commit,nat(src=1.1.1.1),mark=1/1),recirc(1)'],
  [TCP, 'ct(commit,helper=ftp,timeout=short),ct_clear,1'],
  [IPV6_ND, 'ct(commit,nat(dst=::1-::ffff:0))'],
  [TCP, 'userspace(pid=1),hash(l4(0)),recirc(1)'],
  [TCP, 'clone(pop_eth),pop_eth'],
  [TAGGED, 'pop_vlan,push_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847)'],
  [IPV6_ND, 'set(nd(target=::1)),set(ipv6(hlimit=3)),set(icmpv6(code=1))'],
  [ARP, 'set(arp(op=2))'],
  [MPLS2, 'pop_mpls(eth_type=0x8847),set(mpls(ttl=3)),pop_mpls(eth_type=0x800)'],
  [NSH, 'set(nsh(ttl=1)),pop_nsh(),set(eth(src=00:00:00:00:00:01))'],
  [L3, 'set(ipv4(ttl=1)),push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),1'],
  [ANY, 'set(skb_mark(1)),set(skb_priority(1)),drop(1)'],
])('for the flow %s the actions %s are allowed', (flow, actions) => {
  expect(flawOf(flow, actions)).toBe(null);
});

test.each([
  [ANY, '65535', Action.OUTPUT, 'not less than 65535'],
  [ANY, 'set(ipv4(ttl=3))', Action.SET_MASKED, 'not known to have that header'],
  [ARP, 'set(ipv4(ttl=3))', Action.SET_MASKED, 'not known to have that header'],
  [TCP, 'set(udp(src=1))', Action.SET_MASKED, 'not known to have that header'],
  [TCP, 'set(ipv4(proto=17))', Action.SET_MASKED, 'cannot be changed'],
  [TCP, 'set(ipv4(src=1.1.1.1,dst=2.2.2.2,proto=17,tos=0,ttl=64,frag=no))', Action.SET, "differs from the flow's key"],
  [TCP, 'push_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847),set(ipv4(ttl=3))', Action.SET_MASKED, 'not known'],
  [TCP, 'push_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x0800)', Action.PUSH_MPLS, 'not an EtherType of MPLS'],
  [TAGGED, 'push_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847)', Action.PUSH_MPLS, 'has a VLAN tag'],
  [ANY, 'push_mpls(label=1,tc=0,ttl=64,bos=1,eth_type=0x8847)', Action.PUSH_MPLS, 'is not known'],
  [TCP, 'pop_mpls(eth_type=0x0800)', Action.POP_MPLS, 'does not begin with MPLS'],
  [MPLS, 'pop_mpls(eth_type=0x0800),set(ipv4(ttl=3))', Action.SET_MASKED, 'not known'],
  [MPLS, 'pop_mpls(eth_type=0x8847),pop_mpls(eth_type=0x8847)', Action.POP_MPLS, 'does not begin with MPLS'],
  [TCP, 'push_vlan(tpid=0x1234,vid=1,pcp=0)', Action.PUSH_VLAN, 'not the TPID'],
  [TCP, 'push_vlan(vid=1,pcp=0,cfi=0)', Action.PUSH_VLAN, 'CFI bit'],
  [L3, 'push_vlan(vid=1,pcp=0)', Action.PUSH_VLAN, 'no Ethernet header'],
  [L3, 'set(eth(src=00:00:00:00:00:01))', Action.SET_MASKED, 'no Ethernet header'],
  [L3, 'pop_eth', Action.POP_ETH, 'no Ethernet header'],
  [TCP, 'push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02)', Action.PUSH_ETH, 'has an Ethernet header'],
  [TAGGED, 'pop_eth', Action.POP_ETH, 'has a VLAN tag'],
  [TCP, 'pop_nsh()', Action.POP_NSH, 'not known to be NSH'],
  [TCP, 'push_nsh(flags=0,ttl=63,mdtype=3,np=3,spi=1,si=1)', Action.PUSH_NSH, 'unknown metadata type 3'],
  [TCP, 'drop(),1', Action.DROP, 'actions behind it'],
  [TCP, 'trunc(13)', Action.TRUNC, 'fewer than 14'],
  [TCP, 'check_pkt_len(size=0,gt(1),le(2))', Action.CHECK_PKT_LEN, 'not within'],
  [TCP, 'userspace(pid=0)', Action.USERSPACE, 'nobody'],
  [TCP, 'ct(nat(src=1.1.1.1))', Action.CT, 'only a commit'],
  [TCP, 'ct(commit,nat(src,dst))', Action.CT, 'source and destination at once'],
  [TCP, 'ct(commit,nat(random))', Action.CT, 'neither source nor destination'],
  [TCP, 'ct(mark=1/1)', Action.CT, 'only a commit sets the mark'],
  [TCP, 'ct(commit,helper=averyverylongname)', Action.CT, 'too long'],
  [TCP, 'ct(commit,helper=tftp)', Action.CT, 'no helper tftp'],
  [TCP, 'ct(commit,helper=irc)', Action.CT, 'no helper irc'],
  [TCP, 'ct(commit,mark=0/0)', Action.CT, 'mask of 0'],
  [TCP, 'ct(commit,label=0/0)', Action.CT, 'mask of 0'],
  [TCP, 'ct(commit,nat(src=1.1.1.2-1.1.1.1))', Action.CT, 'below the lowest'],
  [TCP, 'ct(commit,nat(src=::1))', Action.CT, 'other version'],
  [ARP, 'ct', Action.CT, 'not known to be IP'],
  [ANY, 'ct(commit)', Action.CT, 'not known to be IP'],
  [TCP, 'set(tunnel(tun_id=1))', Action.SET, 'neither IPv4 nor IPv6'],
  [TCP, 'set(tunnel(src=1.1.1.1))', Action.SET, 'no destination'],
])('for the flow %s the actions %s are refused', (flow, actions, action, reason) => {
  const flaw = flawOf(flow, actions);
  expect(flaw?.message).toContain(reason);
  expect([flaw?.error, flaw?.action]).toEqual([ActionError.INVALID, action]);
});

test('a mark with bits outside of its mask, which no text says, is refused', () => {
  const { key } = parseFlowKey(TCP);
  const words = parseActions('ct(commit,mark=1/1)');
  words[Ct.MARK] = 3;
  expect(validateActions(words, key)?.message).toContain('outside of its mask');
});

test('a flaw says at which word the offending action begins, also inside another', () => {
  expect(flawOf(TCP, '1,2,clone(3,pop_mpls(eth_type=0x0800))')?.offset).toBe(7);
});

test('kernelOnly refuses what only the userspace datapath sets', () => {
  expect(flawOf(ARP, 'set(arp(op=2))', { kernelOnly: true })?.message).toContain('cannot be set');
  expect(flawOf(TCP, 'set(tcp(src=2))', { kernelOnly: true })).toBe(null);
});

test('lists may nest 16 deep and no deeper', () => {
  const nested = (depth: number) => {
    let list = parseActions('1');
    for (let i = 0; i < depth; i += 1) list = new ActionBuilder().clone(list).finish();
    return validateActions(list, new Uint32Array(KEY_WORDS));
  };
  expect(nested(16)).toBe(null);
  expect(nested(17)?.error).toBe(ActionError.TOO_DEEP);
});

test('a list may be as long as a netlink attribute can carry and no longer', () => {
  const list = new Int32Array(16_384);
  for (let i = 0; i < list.length; i += 2) list[i] = actionHead(Action.OUTPUT, 2);
  expect(validateActions(list, new Uint32Array(KEY_WORDS))?.error).toBe(ActionError.TOO_LONG);
  expect(validateActions(list.subarray(0, 16_382), new Uint32Array(KEY_WORDS))).toBe(null);
});

test('no words make the validator throw, and each flaw lies within the list', () => {
  const random = randomNumbers(11);
  const keys = [TCP, IPV6_ND, TAGGED, MPLS2, NSH, L3].map((text) => parseFlowKey(text).key);
  fc.assert(
    fc.property(actionList, (actions) => {
      const words = actions.slice();
      for (let change = random(4); change > 0 && words.length > 0; change -= 1) {
        const at = random(words.length);
        words[at] = [0, -1, words[at] ^ (1 << random(32)), random(0x10000) | (random(8) << 16)][random(4)];
      }
      const flaw = validateActions(words, keys[random(keys.length)]);
      if (flaw !== null) expect(flaw.offset).toBeLessThanOrEqual(words.length);
    }),
    { numRuns: fuzzRounds(1000) },
  );
});
