import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ACTIONS,
  type ActionName,
  Drop,
  formatActions,
  outcomeOf,
  parseActions,
  parseFlowKey,
  validateActions,
} from '../../flow/index.ts';
import { listWith, validActions } from '../../flow/testing/arbitraries.ts';
import { toInterfaceIndex } from '../../net/index.ts';
import { TrackRequest } from '../connections/request.ts';
import { compileActions } from './compile.ts';
import type { CompileContext, OffloadHook } from './contract.ts';
import type { Step } from './shape.ts';
import { outputsOf, recirculates } from './steps.ts';

const TCP = 'in_port(1),recirc_id(0),eth(),eth_type(0x0800),ipv4(proto=6,frag=no),tcp()';
const ANY_IP = 'in_port(1),recirc_id(0),eth(),eth_type(0x0800),ipv4(frag=no)';
const TAGGED = 'in_port(1),recirc_id(0),eth(),eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x0800),ipv4(frag=no))';

function context(hook: OffloadHook): CompileContext {
  return {
    hook,
    port: (number) =>
      number > 9 ? null : { ifindex: toInterfaceIndex(100 + number), ingress: number === 9, xdp: number < 8 },
  };
}

function compile(flow: string, actions: string, hook: OffloadHook = 'tc', given: Partial<CompileContext> = {}) {
  const { key, mask } = parseFlowKey(flow);
  const list = parseActions(actions);
  const masked = key.map((word, i) => word & mask[i]);
  expect(validateActions(list, masked)).toBeNull();
  return compileActions(list, masked, mask, { ...context(hook), ...given });
}

function shape(flow: string, actions: string, hook: OffloadHook = 'tc') {
  const compiled = compile(flow, actions, hook);
  if ('reason' in compiled) throw new Error(compiled.reason);
  return compiled;
}

function reason(flow: string, actions: string, hook: OffloadHook = 'tc'): string {
  const compiled = compile(flow, actions, hook);
  return 'reason' in compiled ? compiled.reason : `carried as ${compiled.shape.id}`;
}

test('flows that differ in numbers alone share a shape', () => {
  const list = (mac: string, ttl: number, port: number) => `set(eth(dst=${mac})),set(ipv4(ttl=${ttl}/0xff)),${port}`;
  const one = shape(TCP, list('02:00:00:00:00:01', 63, 2));
  const other = shape(TCP, list('02:00:00:00:00:02', 7, 3));
  expect(other.shape.id).toBe(one.shape.id);
  expect(other.parameters).toHaveLength(one.shape.parameterWords);
  expect(other.parameters).not.toEqual(one.parameters);
});

test('a set in part is another shape than a whole one', () => {
  expect(shape(TCP, 'set(tcp(src=1,dst=2)),2').shape.id).toContain('tcp4(f)');
  expect(shape(TCP, 'set(tcp(src=1/0xffff)),2').shape.id).toContain('tcp4(m)');
});

test('the parameters of an output are interface and direction', () => {
  expect(Array.from(shape(TCP, '3').parameters)).toEqual([103, 0]);
  expect(Array.from(shape(TCP, '9').parameters)).toEqual([109, 1]);
});

test('all outputs but the last are copies, and only tc makes them', () => {
  expect(shape(TCP, '1,2,3').shape.id).toBe('tc | copy copy output');
  expect(reason(TCP, '1,2,3', 'xdp')).toBe('output to several ports');
});

test('what is done behind the last output is left out, but not its checks', () => {
  const { shape: found, parameters } = shape(TCP, '1,set(ipv4(src=10.0.0.1/255.255.255.255))');
  expect(found.steps).toEqual([{ kind: 'output', last: true }]);
  expect(parameters).toHaveLength(2);
  expect(found.checks.layer3Bytes).toBe(40);
});

test('addresses of packets of any protocol change whatever checksum there is', () => {
  expect(shape(ANY_IP, 'set(ipv4(src=10.0.0.1/255.255.255.255)),2').shape.id).toContain('any)');
  expect(shape(TCP, 'set(ipv4(src=10.0.0.1/255.255.255.255)),2').shape.id).toContain('tcp)');
});

test('a time to live that would run out goes up, and one that was set is counted down at once', () => {
  expect(shape(TCP, 'dec_ttl(le_1()),dec_ttl(le_1()),2').shape.checks.ttlAbove).toBe(2);
  const set = shape(TCP, 'set(ipv4(ttl=64/0xff)),dec_ttl(le_1()),2').shape;
  expect(set.checks.ttlAbove).toBe(0);
  expect(set.steps.map((step) => step.kind)).toEqual(['ipv4', 'ipv4', 'output']);
  expect(reason(TCP, 'set(ipv4(ttl=1/0xff)),dec_ttl(le_1()),2')).toBe('a time to live that runs out');
});

test('a tag that the flow knows of is popped', () => {
  expect(shape(TAGGED, 'pop_vlan,2').shape.id).toBe('tc need tags=one | pop_vlan output');
  expect(shape(TAGGED, 'pop_vlan,push_vlan(vid=7,pcp=0),2', 'xdp').shape.id).toBe(
    'xdp need tags=one | pop_vlan push_vlan output',
  );
});

test('an empty list drops, and so does a drop action, each under its reason', () => {
  expect(shape(TCP, 'drop').shape.steps).toEqual([{ kind: 'drop', reason: 5 }]);
  expect(shape(TCP, 'drop(7)').shape.steps).toEqual([{ kind: 'drop', reason: 7 }]);
});

test('recirculation that comes first is carried, with the hash of the engine where its secret is known', () => {
  expect(shape(TCP, 'recirc(0x5)').shape.steps).toEqual([{ kind: 'recirculate' }]);
  const hashed = compile(TCP, 'hash(hash_l4(3)),recirc(0x5)', 'tc', { hashSecret: { low: 1, high: 2 } });
  if ('reason' in hashed) throw new Error(hashed.reason);
  expect(hashed.shape.id).toBe('tc | hash0(ipv4) recirc');
  expect(hashed.shape.keyWords).toEqual([27, 26, 29, 30]);
});

test('a changed packet is looked up again at tc, where the engine can go on with it', () => {
  const resumes = { resumes: true, hashSecret: { low: 1, high: 2 } };
  const compiled = compile(TCP, 'hash(hash_l4(3)),set(eth(dst=02:00:00:00:00:01)),recirc(0x5)', 'tc', resumes);
  if ('reason' in compiled) throw new Error(compiled.reason);
  expect(compiled.shape.id).toBe('tc need resume | ethernet(fm-) hash0(ipv4) recirc');
  expect(shape(TCP, 'recirc(0x5)').shape.checks.resumes).toBe(false);
  for (const [actions, hook, why] of [
    ['set(eth(dst=02:00:00:00:00:01)),push_vlan(vid=5,pcp=0),recirc(0x5)', 'xdp', 'recirculation of a changed packet'],
    ['set(eth(dst=02:00:00:00:00:01)),hash(hash_l4(3)),recirc(0x5)', 'tc', 'hash of a changed packet'],
    ['set(skb_mark(0x1)),recirc(0x5)', 'tc', 'recirculation of a packet with a mark or a priority'],
    ['set(eth(dst=02:00:00:00:00:01)),2,recirc(0x5)', 'tc', 'recirculation behind an output'],
  ] as const) {
    expect(compile(TCP, actions, hook, resumes)).toEqual({ reason: why });
  }
});

test('XDP looks a changed packet up again where the change can be undone: bytes that stay in their places', () => {
  const list = 'set(eth(dst=02:00:00:00:00:01)),dec_ttl(le_1()),set(tcp(src=1,dst=2)),recirc(0x5)';
  expect(shape(TCP, list, 'xdp').shape.id).toBe(
    'xdp need l3=40,plain4=-1,ttl4>1,undo | ethernet(fm-) dec_ttl4 tcp4(f) recirc',
  );
  expect(shape(TCP, 'recirc(0x5)', 'xdp').shape.checks.undoes).toBe(false);
  expect(shape(TCP, 'set(eth(dst=02:00:00:00:00:01)),2', 'xdp').shape.checks.undoes).toBe(false);
  expect(reason(TAGGED, 'pop_vlan,recirc(0x5)', 'xdp')).toBe('recirculation of a changed packet');
});

const CONNECTIONS = { connections: true, resumes: true };

test.each([
  ['tc', 'ct(zone=5),2', 'tc need l3=20 | track() output'],
  ['tc', 'ct(commit,zone=5,mark=0x1/0xf),2', 'tc need l3=20 | track(mark) output'],
  ['tc', 'ct(zone=5,nat),recirc(0x1)', 'tc need l3=20,resume | track() translate recirc'],
  // What tracking does not see may come before it: the packet can still go up then.
  [
    'tc',
    'set(eth(dst=02:00:00:00:00:01)),ct(zone=5,nat),recirc(0x1)',
    'tc need l3=20,resume | track() ethernet(fm-) translate recirc',
  ],
  ['tc', 'ct_clear,ct(zone=5),recirc(0x1)', 'tc need l3=20,resume | track() recirc'],
  ['tc', 'ct_clear,2', 'tc | ct_clear output'],
  ['tc', 'ct(commit)', 'tc need l3=20 | track() drop(5)'],
  ['xdp', 'ct(zone=5),recirc(0x1)', 'xdp need l3=20 | track() recirc'],
  ['xdp', 'ct(commit,nat(src=10.0.0.9)),2', 'xdp need l3=20 | track() translate output'],
  ['xdp', 'ct(zone=5,nat),recirc(0x1)', 'xdp need l3=20,undo | track() translate recirc'],
  ['xdp', 'push_vlan(vid=5,pcp=0),ct(zone=5),recirc(0x1)', 'ct of a packet that was changed'],
  ['tc', 'set(tcp(src=1,dst=2)),ct(zone=5),2', 'ct of a packet that was changed'],
  ['tc', '2,ct(zone=5),3', 'ct behind an output'],
  ['tc', 'ct(commit,zone=5,helper=ftp),2', 'ct with a helper'],
  ['xdp', 'ct(force_commit,helper=ftp),2', 'ct with a helper'],
  // Several are tracked in turn, then comes what they and the steps between them change.
  ['tc', 'ct(zone=5),ct(zone=6),3', 'tc need l3=20 | track()() output'],
  ['xdp', 'ct(zone=5),ct_clear,ct(zone=6),ct_clear,3', 'xdp need l3=20 | track()() ct_clear output'],
  [
    'tc',
    'ct(commit,zone=1,mark=0x1/0xf,nat(src=10.0.0.9)),set(eth(dst=02:00:00:00:00:01)),ct(zone=2,nat),recirc(0x1)',
    'tc need l3=20,resume | track(mark)() translate ethernet(fm-) recirc',
  ],
  ['tc', 'ct(zone=5),set(tcp(src=1,dst=2)),ct(zone=6),3', 'ct of a packet that was changed'],
  ['tc', `${'ct(zone=5),'.repeat(4)}3`, 'tc need l3=20 | track()()()() output'],
  ['tc', `${'ct(zone=5),'.repeat(5)}3`, 'more than 4 ct before a recirculation'],
] as const)('connections at %s: %s is %s', (hook, actions, expected) => {
  const compiled = compile(TCP, actions, hook, CONNECTIONS);
  expect('reason' in compiled ? compiled.reason : compiled.shape.id).toBe(expected);
});

test('a flow that tracks has zone and request, and what mark and label are to be, in its parameters', () => {
  const compiled = compile(TCP, 'ct(commit,zone=5,mark=0x1/0xf,label=0x2/0xff,nat),2', 'tc', CONNECTIONS);
  if ('reason' in compiled) throw new Error(compiled.reason);
  expect([...compiled.parameters]).toEqual([0x0005_0003, 1, 15, 0, 0, 0, 2, 0, 0, 0, 255, 102, 0]);
});

test('of several ct each has its parameters in turn, and those behind the first say what they go on from', () => {
  const list =
    'set(eth(src=02:00:00:00:00:01)),ct(zone=5),ct(commit,zone=6,mark=0x1/0xf,nat),ct_clear,ct(zone=7,nat),2';
  const compiled = compile(TCP, list, 'tc', CONNECTIONS);
  if ('reason' in compiled) throw new Error(compiled.reason);
  const { LIBERAL, GOES_ON, TRANSLATES, ANEW, BEHIND } = TrackRequest;
  expect([...compiled.parameters.subarray(0, 5)]).toEqual([
    0x0005_0000 | LIBERAL,
    0x0006_0000 | LIBERAL | GOES_ON | TRANSLATES,
    1,
    15,
    0x0007_0000 | LIBERAL | TRANSLATES | ANEW | BEHIND,
  ]);
  expect(compiled.parameters).toHaveLength(compiled.shape.parameterWords);
  expect(outputsOf(compiled.shape, compiled.parameters)).toEqual([102]);
});

test.each([
  ['ct(commit),2', 'action ct'],
  ['meter(1),2', 'action meter'],
  ['userspace(pid=1)', 'action userspace'],
  ['sample(sample=50.0%,actions(2)),3', 'action sample'],
  ['set(tunnel(tun_id=0x1,src=1.1.1.1,dst=2.2.2.2,ttl=64,flags(key))),2', 'output to a tunnel'],
  ['10', 'output to port 10, which has no interface'],
  ['hash(hash_l4(3)),recirc(0x5)', 'action hash'],
  ['2,recirc(0x5)', 'recirculation behind an output'],
  ['set(tcp(src=1,dst=2)),recirc(0x5)', 'recirculation of a changed packet'],
  ['clone(set(eth(dst=02:00:00:00:00:01)),2),3', 'a clone that does more than output'],
  ['trunc(100),2,3', 'actions behind a truncated output'],
])('%s is refused: %s', (actions, expected) => {
  expect(reason(TCP, actions)).toBe(expected);
});

test('what XDP cannot do is refused there', () => {
  expect(reason(TCP, '8', 'xdp')).toBe('output to port 8, which XDP cannot send to');
  expect(reason(TCP, 'set(skb_mark(0x1)),2', 'xdp')).toBe("set of the packet's mark");
});

test('a flow that does not say what a packet is has no headers set', () => {
  const { key, mask } = parseFlowKey(TCP);
  mask[20] = 0;
  const actions = parseActions('set(ipv4(src=10.0.0.1/255.255.255.255)),2');
  expect(compileActions(actions, key, mask, context('tc'))).toEqual({
    reason: 'set of IPv4 without a match on the EtherType',
  });
});

test.each([
  ['3', `drop(${Drop.OUTPUT_REFUSED})`],
  ['push_vlan(vid=5,pcp=0),3', `drop(${Drop.OUTPUT_REFUSED})`],
  ['2,3', 'output'],
  ['3,2', 'output'],
  ['trunc(100),3,2', 'output'],
  ['', `drop(${Drop.FLOW})`],
  ['push_vlan(vid=5,pcp=0)', `drop(${Drop.FLOW})`],
])('an output to a port whose link is down is left out: %s', (actions, steps) => {
  const given: Partial<CompileContext> = {
    port: (number) => ({ ifindex: toInterfaceIndex(100 + number), ingress: false, xdp: true, isDown: number === 3 }),
  };
  const compiled = compile(ANY_IP, actions, 'tc', given);
  expect('reason' in compiled ? compiled.reason : compiled.shape.id.split(' | ')[1]).toBe(steps);
});

test('check_pkt_len is carried where both ways lead to the same ports', () => {
  expect(shape(TCP, 'check_pkt_len(size=100,gt(push_vlan(vid=5,pcp=0),2),le(2))').shape.id).toContain('length(');
  for (const ways of ['gt(2),le(3)', 'gt(2),le()', 'gt(2),le(drop(0))', 'gt(drop(0)),le(drop(1))', 'gt(2,3),le(3,2)']) {
    expect(reason(TCP, `check_pkt_len(size=100,${ways})`)).toBe('check_pkt_len whose ways lead to different ports');
  }
});

const IPV6 = 'in_port(1),recirc_id(0),eth(),eth_type(0x86dd),ipv6(proto=17,frag=no),udp()';
const LABELLED = 'in_port(1),recirc_id(0),eth(),eth_type(0x8847),mpls(label=5/0x0,tc=0/0,ttl=0/0,bos=1)';

/** What eBPF does for some packets at least. */
const CARRIED: readonly ActionName[] = [
  ...(['OUTPUT', 'SET', 'SET_MASKED', 'PUSH_VLAN', 'POP_VLAN', 'SAMPLE', 'RECIRC', 'HASH', 'PUSH_MPLS'] as const),
  ...(['POP_MPLS', 'TRUNC', 'CLONE', 'CHECK_PKT_LEN', 'ADD_MPLS', 'DEC_TTL', 'DROP'] as const),
];

test.each(Object.keys(ACTIONS) as ActionName[])(
  'of a carried flow with %s the parameters lead where its list does',
  (name) => {
    let carried = 0;
    const flows = fc.constantFrom(TCP, ANY_IP, TAGGED, IPV6, LABELLED);
    const port = (number: number) => ({ ifindex: toInterfaceIndex(100 + number), ingress: false, xdp: true });
    fc.assert(
      fc.property(listWith(name), flows, fc.constantFrom('tc', 'xdp'), fc.boolean(), (list, flow, hook, hasEnd) => {
        const { key, mask } = parseFlowKey(flow);
        const masked = key.map((word, i) => word & mask[i]);
        const actions = validActions([list.words], masked, hasEnd ? 1 : 0);
        const text = formatActions(actions);
        const compiled = compileActions(actions, masked, mask, { hook, port, hashSecret: { low: 1, high: 2 } });
        if ('reason' in compiled) {
          expect(compiled.reason, text).toMatch(/\w/);
          return;
        }
        const outcome = outcomeOf(actions, 0, actions.length);
        const outputs = outcome?.outputs.map((number) => 100 + number);
        expect(outputsOf(compiled.shape, compiled.parameters), text).toEqual(outputs);
        carried += text.includes(ACTIONS[name].text.name) ? 1 : 0;
      }),
      { numRuns: 300 },
    );
    if (CARRIED.includes(name)) expect(carried).toBeGreaterThan(0);
  },
);

test('where both ways of check_pkt_len lead, and where a flow that sets IPv6 addresses does, is read back from the parameters', () => {
  for (const [flow, actions] of [
    [TCP, '3,check_pkt_len(size=100,gt(push_vlan(vid=5,pcp=0),2),le(2))'],
    [IPV6, '3,set(ipv6(src=2001:db8::1,label=0x5/0xff,hlimit=7)),2'],
  ]) {
    const compiled = shape(flow, actions);
    expect(outputsOf(compiled.shape, compiled.parameters)).toEqual([103, 102]);
  }
});

test('whether packets are looked up again is told by the steps, those of either way of check_pkt_len and unknown ones too', () => {
  expect(recirculates(shape(TCP, 'recirc(0x1)').shape.steps)).toBe(true);
  expect(recirculates(shape(TCP, '3,2').shape.steps)).toBe(false);
  const output: readonly Step[] = [{ kind: 'output', last: true }];
  const again: readonly Step[] = [{ kind: 'recirculate' }];
  expect(recirculates([{ kind: 'length', longer: output, otherwise: output }])).toBe(false);
  expect(recirculates([{ kind: 'length', longer: output, otherwise: again }])).toBe(true);
  expect(recirculates([{ kind: 'length', longer: again, otherwise: output }])).toBe(true);
  // As an entry of another version may have it.
  const steps: readonly Step[] = JSON.parse('[{ "kind": "recirculate twice" }]');
  expect(recirculates(steps)).toBe(true);
});
