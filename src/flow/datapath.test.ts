import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Connections, FragmentResult } from '../connections/index.ts';
import { Batch, type Packet, PacketPool, toKeyPort } from '../net/index.ts';
import { Action } from './actions/encoding.ts';
import { outcomeOf } from './actions/outcome.ts';
import { everyAction } from './actions/table.ts';
import { Drop, dropName, MAXIMUM_DEFERRED, MAXIMUM_RECIRCULATIONS } from './engine/drops.ts';
import { Extraction, extract } from './key/extract.ts';
import { FlowKey } from './key/key.ts';
import { TUNNEL_WORDS, Word } from './key/layout.ts';
import { actionList, validActions } from './testing/arbitraries.ts';
import {
  arp,
  ethernet,
  fuzzRounds,
  hex,
  icmpv6,
  ipv4,
  ipv6,
  packetOf,
  randomNumbers,
  sctp,
  tcp,
  udp,
} from './testing/frames.ts';
import { FlowLab } from './testing/lab.ts';
import { formatActions, parseActions } from './text/actions.ts';
import { formatFlow } from './text/flow.ts';
import { formatFlowKey, parseFlowKey } from './text/flow-key.ts';

const frame = ethernet(0x0800, ipv4(6, tcp({ flags: 0x12 })));
const IP = 'in_port(1),eth_type(0x0800)';

test('a packet that no flow matches goes to the miss hook; one nobody takes is lost by name', () => {
  const lab = new FlowLab();
  lab.receive(frame, 7);
  expect(lab.missed).toEqual([7]);
  const deaf = new FlowLab({ miss: () => false });
  deaf.receive(frame);
  expect(deaf.datapath.drops.toRecord()).toEqual({ 'upcall-lost': 1 });
  expect(deaf.datapath.statistics()).toMatchObject({ hits: 0, misses: 1, lost: 1 });
  expect([lab.held, deaf.held]).toEqual([0, 0]);
});

test('packets that are alike but for what is known of their connections fall to flows of their own', () => {
  let connection = 0;
  const lab = new FlowLab({ outputIgnoresKey: true, connectionOf: () => connection });
  lab.flow(`${IP},ct_state(-trk)`, '2');
  lab.flow(`${IP},ct_state(+trk+new)`, '3');
  lab.flow(`${IP},ct_state(+trk-new)`, '4');
  for (const state of [0, 0, 0x21, 0x22, 0x21, 0, 0x22]) {
    connection = state << 24;
    lab.receive(frame);
  }
  expect(lab.sent.map(({ port }) => port)).toEqual([2, 2, 3, 4, 3, 2, 4]);
});

test('a hit counts packet, bytes, time and TCP flags', () => {
  const lab = new FlowLab();
  const slot = lab.flow(IP, '2');
  lab.receive(frame);
  lab.nowMs = 1500;
  expect(formatFlow(lab.datapath.table, slot, 1500)).toBe(
    `in_port(1),eth(),eth_type(0x0800), packets:1, bytes:${frame.length}, used:0.500s, flags:S., actions:2`,
  );
});

test('an empty action list, a drop action and frames too short are drops by name', () => {
  const lab = new FlowLab();
  lab.flow('in_port(1),eth_type(0x0800)', '');
  lab.flow('in_port(2),eth_type(0x0800)', 'drop(0)');
  lab.flow('in_port(3),eth_type(0x0800)', '1,drop(5)');
  for (const port of [1, 2, 3]) lab.receive(frame, port);
  lab.receive([1, 2, 3]);
  lab.receive(ethernet(0x894f, [1, 2, 3]));
  lab.receive(ipv4(6, tcp()), 1, () => {}, 0x8100);
  expect(lab.datapath.drops.toRecord()).toEqual({
    flow: 1,
    explicit: 1,
    'explicit-error': 1,
    'ethernet-truncated': 1,
    'nsh-malformed': 1,
    'tag-without-ethernet': 1,
  });
});

test('recirculation looks the changed packet up under its new id', () => {
  const lab = new FlowLab();
  lab.flow(`recirc_id(0),${IP}`, 'push_mpls(label=5,tc=0,ttl=64,bos=1,eth_type=0x8847),recirc(7),1');
  lab.flow(
    'recirc_id(0x7),in_port(1),eth_type(0x8847),mpls(label=5,tc=0,ttl=64,bos=1)',
    'pop_mpls(eth_type=0x0800),recirc(8)',
  );
  lab.flow(`recirc_id(0x8),${IP},ipv4(proto=6)`, 'set(ipv4(ttl=9)),2');
  lab.receive(frame);
  expect(lab.sent.map((each) => each.port)).toEqual([1, 2]);
  expect(lab.sent[1].bytes).toEqual(ethernet(0x0800, ipv4(6, tcp({ flags: 0x12 }), { ttl: 9 })));
  expect(lab.held).toBe(0);
});

describe('packets that somebody else goes on with', () => {
  const id = (recirculation: number) => `recirc_id(${recirculation}),in_port(1),eth(),eth_type(0x0800),ipv4()`;
  const chain = (lab: FlowLab, last = '2') => {
    lab.flow(id(0), 'recirc(1)');
    lab.flow(id(1), 'recirc(2)');
    lab.flow(id(2), `set(ipv4(ttl=9)),${last}`);
  };

  test('are asked about before each look-up but the first, with its key, and have one end', () => {
    const asked: [slot: number, recirculation: number][] = [];
    const ended: number[] = [];
    const lab = new FlowLab({
      handDown: (slot, _packet, { recircId }) => {
        asked.push([slot, recircId]);
        return recircId === 2;
      },
      ended: (reason) => ended.push(reason),
    });
    chain(lab);
    lab.receive(frame);
    const { table } = lab.datapath;
    expect(asked).toEqual([
      [1, 1],
      [2, 2],
    ]);
    expect([0, 1, 2].map((slot) => table.packetsOf(slot))).toEqual([1, 1, 0]);
    expect([ended, lab.sent, lab.held]).toEqual([[0], [], 0]);
  });

  test('stay when a copy of theirs is looked up as well, and when nothing is found for them', () => {
    const asked: number[] = [];
    const lab = new FlowLab({
      handDown: (slot) => {
        asked.push(slot);
        return true;
      },
    });
    lab.flow(id(0), 'clone(recirc(1)),recirc(2)');
    lab.flow(id(1), 'drop');
    lab.receive(frame);
    lab.flow(id(2), '2');
    lab.receive(frame);
    expect([asked, lab.sent.length, lab.held]).toEqual([[], 1, 0]);
  });

  test('are given back when who is asked throws', () => {
    const lab = new FlowLab({
      handDown: () => {
        throw new Error('no way down');
      },
    });
    chain(lab);
    expect(() => lab.receive(frame)).toThrow('no way down');
    expect(lab.held).toBe(0);
  });

  test('it is told what going on has cost: look-ups, and whether the packet was copied', () => {
    const told: [slot: number, lookUps: number, isCopied: boolean][] = [];
    const lab = new FlowLab({
      handDown: () => false,
      wentOn: (slot, lookUps, isCopied) => told.push([slot, lookUps, isCopied]),
    });
    chain(lab);
    lab.receive(frame);
    expect(told.splice(0)).toEqual([
      [1, 2, false],
      [2, 1, false],
    ]);
    lab.receive(frame, 1, (packet) => packet.hold());
    expect(told.splice(0)).toEqual([
      [1, 2, true],
      [2, 1, true],
    ]);
    lab.flow(id(9), '2');
    lab.flow('recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4()', 'recirc(7)');
    lab.flow('recirc_id(7),in_port(2),eth(),eth_type(0x0800),ipv4()', 'recirc(8)');
    lab.receive(frame, 2);
    expect(told.map(([, lookUps]) => lookUps)).toEqual([0]);
  });
});

test('set on a later fragment, which has no ports, leaves none in the key of its recirculation', () => {
  const lab = new FlowLab();
  const later = `${IP},ipv4(proto=6)`;
  lab.flow(`recirc_id(0),${later}`, 'set(tcp(src=65535,dst=9)),recirc(7)');
  lab.flow(`recirc_id(0x7),${later},tcp(src=0,dst=0)`, '2');
  const bytes = ethernet(0x0800, ipv4(6, tcp(), { fragment: 3 }));
  lab.receive(bytes);
  expect(lab.sent.map((each) => each.bytes)).toEqual([bytes]);
});

test('a recirculation loop ends after its bound with a named drop', () => {
  const lab = new FlowLab();
  lab.flow(IP, '3,recirc(1)');
  lab.receive(frame);
  expect(lab.sent.length).toBe(MAXIMUM_RECIRCULATIONS + 1);
  expect(lab.datapath.drops.toRecord()).toEqual({ 'recirculation-limit': 1 });
  expect(lab.held).toBe(0);
});

test('a recirculation that doubles each time ends after its bound with a named drop', () => {
  const lab = new FlowLab();
  lab.flow(IP, 'recirc(1),recirc(2)');
  lab.receive(frame);
  expect(lab.datapath.statistics().hits).toBe(MAXIMUM_DEFERRED + 1);
  expect(lab.datapath.drops.toRecord()['deferred-limit']).toBeGreaterThan(0);
  expect(lab.held).toBe(0);
});

test('hash fills dp_hash, the same for one connection and, if symmetric, for both directions', () => {
  const seen: number[] = [];
  const lab = new FlowLab({ miss: (_packet, key) => seen.push(key.words[Word.DP_HASH]) > 0 });
  lab.flow('recirc_id(0),in_port(1)', 'hash(l4(5)),recirc(1)');
  lab.flow('recirc_id(0),in_port(2)', 'hash(sym_l4(5)),recirc(1)');
  const back = ethernet(0x0800, ipv4(6, tcp({ src: 80, dst: 1000 }), { src: '10.0.0.2', dst: '10.0.0.1' }));
  const other = ethernet(0x0800, ipv4(6, tcp({ src: 1001 })));
  for (const bytes of [frame, frame, back, other]) {
    lab.receive(bytes, 1);
    lab.receive(bytes, 2);
  }
  expect(seen[0]).not.toBe(0);
  expect([seen[2], seen[3]]).toEqual([seen[0], seen[1]]);
  expect(seen[4]).not.toBe(seen[0]);
  expect(seen[5]).toBe(seen[1]);
  expect(seen[6]).not.toBe(seen[0]);
});

test('a meter that refuses drops the packet; one that does not exist passes it', () => {
  const lab = new FlowLab({ meter: (id) => id !== 3 });
  lab.flow('in_port(1)', 'meter(3),1');
  lab.flow('in_port(2)', 'meter(4),1');
  lab.receive(frame, 1);
  lab.receive(frame, 2);
  expect(lab.sent.length).toBe(1);
  expect(lab.datapath.drops.toRecord()).toEqual({ meter: 1 });
  const without = new FlowLab();
  without.flow('in_port(1)', 'meter(3),1');
  without.receive(frame);
  expect(without.sent.length).toBe(1);
});

test('a packet from a tunnel is matched by it, and set(tunnel) tells the output where to send it', () => {
  const seen: string[] = [];
  const lab = new FlowLab({
    output: (_packet, port, key) => {
      const words = new FlowKey();
      words.words.set(key.egress, Word.TUNNEL);
      seen.push(`${port} ${key.hasEgress ? words.words[Word.TUNNEL_DESTINATION].toString(16) : 'none'}`);
    },
  });
  const set = 'set(tunnel(tun_id=0x7,dst=192.0.2.9,ttl=64,flags(key)))';
  lab.flow('recirc_id(0),tunnel(tun_id=0x5,src=192.0.2.1,dst=192.0.2.2),in_port(4)', `1,${set},2,recirc(1)`);
  lab.flow('recirc_id(0x1),tunnel(tun_id=0x5,src=192.0.2.1,dst=192.0.2.2),in_port(4)', '3');
  const tunnel = new Uint32Array(TUNNEL_WORDS);
  tunnel.set(parseFlowKey('tunnel(tun_id=0x5,src=192.0.2.1,dst=192.0.2.2)').key.subarray(Word.TUNNEL));
  lab.datapath.receiveOne(packetOf(frame, lab.pool), toKeyPort(4), tunnel);
  lab.datapath.receiveOne(packetOf(frame, lab.pool), toKeyPort(4), null);
  expect(seen).toEqual(['1 none', '2 c0000209', '3 c0000209']);
  expect(lab.missed).toEqual([4]);
  expect(lab.held).toBe(0);
});

test('a miss hook may put the flow and execute the packet at once', () => {
  const lab: FlowLab = new FlowLab({
    miss: (packet, key) => {
      lab.flow(`recirc_id(0),in_port(${key.inPort}),eth_type(0x0800)`, '9,recirc(3)');
      lab.flow(`recirc_id(0x3),in_port(${key.inPort}),eth_type(0x0800)`, '8');
      packet.hold();
      lab.datapath.execute(packet, key, parseActions('9,recirc(3)'));
      return true;
    },
  });
  lab.receive(frame);
  lab.receive(frame);
  expect(lab.sent.map((each) => each.port)).toEqual([9, 8, 9, 8]);
  expect(lab.datapath.statistics()).toMatchObject({ misses: 1, flows: 2 });
  expect(lab.held).toBe(0);
});

test('an output may delete the flow whose actions are being run, and put others in its place', () => {
  const lab: FlowLab = new FlowLab({
    output: (packet, port) => {
      lab.note(packet, port);
      lab.datapath.table.flush();
      for (let i = 0; i < 50; i += 1) lab.flow(`in_port(${100 + i})`, '77,77,77');
    },
  });
  lab.flow('in_port(1)', '1,2,3');
  lab.receive(frame);
  expect(lab.sent.map((each) => each.port)).toEqual([1, 2, 3]);
});

test('two datapaths that feed each other in a loop end with a named drop', () => {
  const lab: FlowLab = new FlowLab({
    output: (packet) => {
      packet.hold();
      const batch = new Batch();
      batch.push(packet);
      lab.datapath.receive(batch, toKeyPort(1));
    },
  });
  lab.flow('in_port(1)', '1');
  lab.receive(frame);
  expect(lab.datapath.drops.toRecord()).toEqual({ 'reentry-limit': 1 });
  expect(lab.held).toBe(0);
});

test('a hook that throws leaves no packet behind, and the next packet goes its way', () => {
  let broken = true;
  const lab: FlowLab = new FlowLab({
    output: (packet, port) => {
      if (broken) throw new Error('output is broken');
      lab.note(packet, port);
    },
  });
  lab.flow('recirc_id(0),in_port(1)', 'recirc(1),clone(trunc(20),2),3');
  lab.flow('recirc_id(0x1),in_port(1)', '4');
  const batch = new Batch();
  for (let i = 0; i < 3; i += 1) batch.push(packetOf(frame, lab.pool));
  expect(() => lab.datapath.receive(batch, toKeyPort(1))).toThrow('output is broken');
  expect(lab.held).toBe(0);
  broken = false;
  lab.receive(frame);
  expect(lab.sent.map((each) => each.port)).toEqual([2, 3, 4]);
  expect(lab.held).toBe(0);
});

/** Longer runs take their time. */
const FUZZ_TIMEOUT_MS = 30_000 + fuzzRounds(1000) * 10;

const ACTION_LISTS = fc.array(actionList, { minLength: 4, maxLength: 12 });

const LATER_PAYLOAD = Array.from({ length: 80 }, (_, i) => i + 1);

/** Frames of every kind that the key knows, well-formed. */
const FRAMES: readonly number[][] = [
  frame,
  ethernet(0x0800, ipv4(17, udp()), [[0x8100, 5]]),
  ethernet(0x0800, ipv4(132, sctp()), [
    [0x88a8, 5],
    [0x8100, 6],
  ]),
  ethernet(0x86dd, ipv6(6, tcp())),
  // Later fragments: what lies behind the IP header is no transport header.
  ...[1, 6, 17, 132].map((protocol) => ethernet(0x0800, ipv4(protocol, LATER_PAYLOAD, { fragment: 3 }))),
  ...[6, 17, 58].map((protocol) => ethernet(0x86dd, ipv6(44, [protocol, 0, 0, 24, 0, 0, 0, 7, ...LATER_PAYLOAD]))),
  ethernet(
    0x86dd,
    ipv6(58, icmpv6(135, 0, [0, 0, 0, 0, ...hex('20010db8000000000000000000000009'), ...hex('0101 020000000011')])),
  ),
  ethernet(0x0806, arp()),
  ethernet(0x8847, [...hex('00005040 00007140'), ...ipv4(6, tcp())]),
  ethernet(0x894f, [...hex('0fc6 01 03 000010ff 00000001 00000002 00000003 00000004'), ...frame]),
];

test('an output that does without keys gets the same packets', () => {
  const random = randomNumbers(21);
  const labs = [new FlowLab(), new FlowLab({ outputIgnoresKey: true })];
  for (const lab of labs) {
    lab.flow('in_port(1),eth(dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(proto=6,frag=no)', '2');
    lab.flow('in_port(1),eth(dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(proto=17,frag=no),udp()', '3,4');
    lab.flow('in_port(1),eth(dst=02:00:00:00:00:02),eth_type(0x86dd),ipv6(frag=no)', '5');
  }
  for (let round = 0; round < 400; round += 1) {
    const bytes = [...FRAMES[random(FRAMES.length)]];
    if (random(4) === 0) bytes[12 + random(12)] ^= 1 << random(8);
    for (const lab of labs) lab.receive(bytes);
  }
  const [usual, ignoring] = labs;
  expect(usual.sent.length).toBeGreaterThan(50);
  expect(ignoring.sent).toEqual(usual.sent);
  expect(ignoring.missed).toEqual(usual.missed);
  const table = (lab: FlowLab) =>
    Array.from({ length: 3 }, (_, slot) => [lab.datapath.table.packetsOf(slot), lab.datapath.table.bytesOf(slot)]);
  expect(table(ignoring)).toEqual(table(usual));
  expect([ignoring.held, usual.held]).toEqual([0, 0]);
});

/** For a lab in which connections are tracked. */
function tracking() {
  const connections = new Connections({ nowMs: () => 1000, maximum: 500 });
  return { connections, largePool: new PacketPool({ packets: 4, bufferBytes: 66_048 }) };
}

test('after any valid actions the key that an output sees is the one that its packet has', {
  timeout: FUZZ_TIMEOUT_MS,
}, () => {
  const own = new FlowKey();
  let compared = 0;
  const lab: FlowLab = new FlowLab(
    {
      output: (packet, _port, key) => {
        own.copyFrom(key);
        if (key.stale || packet.length < key.l3Offset + 60) return;
        expect(extract(packet, own)).toBe(Extraction.DONE);
        const from = key.words.slice(Word.L2, Word.TUNNEL);
        const text = `${formatFlowKey(key.words)}\n${formatFlowKey(own.words)}`;
        expect([text, own.words.slice(Word.L2, Word.TUNNEL)]).toEqual([text, from]);
        compared += 1;
      },
    },
    tracking(),
  );
  fc.assert(
    fc.property(ACTION_LISTS, fc.constantFrom(...FRAMES), (lists, bytes) => {
      const key = new FlowKey();
      key.begin(toKeyPort(1));
      const packet = packetOf(bytes, lab.pool);
      extract(packet, key);
      lab.datapath.execute(packet, key, validActions(lists, key.words));
      expect(lab.held).toBe(0);
    }),
    { numRuns: fuzzRounds(1000) },
  );
  expect(compared).toBeGreaterThan(fuzzRounds(1000));
});

/** Ports that outputs reach; an output to another is refused. */
const PORTS_THERE = [1, 2, 3];

test('of any valid actions every packet is sent, handed up or dropped for one reason, and each drop is counted once', {
  timeout: FUZZ_TIMEOUT_MS,
}, () => {
  const random = randomNumbers(23);
  let sent = 0;
  let wasTaken = 0;
  let missed = 0;
  const ended: number[] = [];
  const dropped: number[] = [];
  const { connections, ...buffers } = tracking();
  /** Fragments that were kept. */
  const waiting = () => connections.fragments?.counters.fragments[FragmentResult.WAITING] ?? 0;
  const lab: FlowLab = new FlowLab(
    {
      output: (packet, port) => {
        if (PORTS_THERE.includes(port)) sent += 1;
        else lab.datapath.refuse(packet, port === 4 ? Drop.TUNNEL_UNAVAILABLE : Drop.PORT_MISSING);
      },
      userspace: (packet) => {
        if (random(2) === 0) wasTaken += 1;
        else lab.datapath.refuse(packet, Drop.UPCALL_LOST);
      },
      miss: () => {
        missed += 1;
        return true;
      },
      dropped: (_packet, reason) => dropped.push(reason),
      ended: (reason) => ended.push(reason),
    },
    { connections, ...buffers },
  );
  let named = 0;
  fc.assert(
    fc.property(ACTION_LISTS, fc.nat({ max: 5 }), fc.constantFrom(...FRAMES), (lists, port, bytes) => {
      sent = 0;
      wasTaken = 0;
      missed = 0;
      ended.length = 0;
      dropped.length = 0;
      const before = lab.datapath.drops.counts.reduce((sum, count) => sum + count, 0);
      const waitingBefore = waiting();
      const key = new FlowKey();
      key.begin(toKeyPort(1));
      const packet = packetOf(bytes, lab.pool);
      extract(packet, key);
      // Every other list has no output of its own at its end.
      const actions = validActions(lists, key.words, port);
      lab.datapath.execute(packet, key, actions);
      expect(ended.length).toBe(1);
      const gone = sent + wasTaken + missed + (waiting() - waitingBefore);
      expect(ended[0] === 0, formatActions(actions)).toBe(gone > 0);
      if (ended[0] !== 0) {
        named += 1;
        expect(ended[0]).toBe(dropped.at(-1));
        expect(dropName(ended[0])).not.toMatch(/^drop-/);
      }
      const counted = lab.datapath.drops.counts.reduce((sum, count) => sum + count, 0) - before;
      expect(counted).toBe(dropped.length);
      expect(lab.held).toBe(0);
    }),
    { numRuns: fuzzRounds(1000) },
  );
  expect(named).toBeGreaterThan(fuzzRounds(1000) / 20);
});

/** Drops that an outcome tells. */
const TOLD: readonly number[] = [Drop.FLOW, Drop.EXPLICIT, Drop.EXPLICIT_ERROR];

test('where any valid actions are said to lead is where they lead every packet', { timeout: FUZZ_TIMEOUT_MS }, () => {
  const outputs: number[] = [];
  const dropped: number[] = [];
  let sentOn = 0;
  let fate = 0;
  const lab = new FlowLab({
    output: (_packet, port) => outputs.push(port),
    userspace: () => {
      sentOn += 1;
    },
    miss: () => {
      sentOn += 1;
      return true;
    },
    dropped: (_packet, reason) => dropped.push(reason),
    ended: (reason) => {
      fate = reason;
    },
  });
  let compared = 0;
  fc.assert(
    fc.property(ACTION_LISTS, fc.nat({ max: 2 }), fc.constantFrom(...FRAMES), (lists, port, bytes) => {
      outputs.length = 0;
      dropped.length = 0;
      sentOn = 0;
      const key = new FlowKey();
      key.begin(toKeyPort(1));
      const packet = packetOf(bytes, lab.pool);
      extract(packet, key);
      const actions = validActions(lists, key.words, port);
      const outcome = outcomeOf(actions, 0, actions.length);
      lab.datapath.execute(packet, key, actions);
      // A time to live that an action has set may be up.
      const isTimed = !everyAction(actions, 0, actions.length, ({ type }) => type !== Action.DEC_TTL);
      if (outcome === null || isTimed || dropped.some((reason) => !TOLD.includes(reason))) return;
      const text = formatActions(actions);
      expect([outputs, sentOn > 0, fate], text).toEqual([outcome.outputs, outcome.isSentOn, outcome.drop]);
      compared += 1;
    }),
    { numRuns: fuzzRounds(1000) },
  );
  expect(compared).toBeGreaterThan(fuzzRounds(1000) / 20);
});

test.each([
  ['1,2', [1, 2], 0],
  ['', [], Drop.FLOW],
  ['set(eth(dst=02:00:00:00:00:09))', [], Drop.FLOW],
  ['drop(0)', [], Drop.EXPLICIT],
  ['drop(3)', [], Drop.EXPLICIT_ERROR],
  ['1,drop(0)', [1], 0],
  ['clone(drop(0)),2', [2], 0],
  ['clone(drop(0))', [], Drop.EXPLICIT],
  ['sample(sample=100.0%,actions(1,2)),3', [1, 2, 3], 0],
  ['check_pkt_len(size=50,gt(3),le(3))', [3], 0],
  ['check_pkt_len(size=50,gt(push_vlan(vid=3,pcp=0),3),le(3)),1', [3, 1], 0],
  ['check_pkt_len(size=50,gt(clone(2),drop(0)),le(clone(2),drop(0)))', [2], 0],
] as const)('what a list does with every packet is known without one: %s', (text, outputs, drop) => {
  const ended: number[] = [];
  const lab = new FlowLab({ ended: (reason) => ended.push(reason) });
  lab.flow(IP, text);
  lab.receive(frame);
  const actions = parseActions(text);
  expect(outcomeOf(actions, 0, actions.length)).toEqual({ outputs, isSentOn: false, drop });
  expect([lab.sent.map(({ port }) => port), ended]).toEqual([outputs, [drop]]);
});

test.each([
  'sample(sample=50.0%,actions(1))',
  'check_pkt_len(size=50,gt(1),le(2))',
  'meter(1),1',
  'check_pkt_len(size=50,gt(drop(0)),le(1))',
])('what a list does with a packet may depend on it: %s', (text) => {
  const actions = parseActions(text);
  expect(outcomeOf(actions, 0, actions.length)).toBe(null);
});

test('garbage frames under any valid actions neither throw, leak, nor write outside their packet', {
  timeout: FUZZ_TIMEOUT_MS,
}, () => {
  const random = randomNumbers(9);
  const held: Packet[] = [];
  const lab = new FlowLab(
    {
      output: (packet) => {
        // Some outputs keep the packet for a while, as a transmit queue does.
        if (random(4) !== 0 || held.length > 12) return;
        packet.hold();
        held.push(packet);
      },
      userspace: () => {},
    },
    tracking(),
  );
  fc.assert(
    fc.property(ACTION_LISTS, fc.constantFrom(...FRAMES), (lists, bytes) => {
      const key = new FlowKey();
      key.begin(toKeyPort(1));
      const mutated = Uint8Array.from(bytes.slice(0, random(3) === 0 ? random(bytes.length + 1) : bytes.length));
      const whole = packetOf(bytes, lab.pool);
      extract(whole, key);
      whole.release();
      // Validated for the sound frame, run over the broken one.
      const actions = validActions(lists, key.words);
      for (let change = random(5); change > 0 && mutated.length > 0; change -= 1)
        mutated[random(mutated.length)] = random(256);
      const packet = packetOf(mutated, lab.pool);
      const end = packet.offset + packet.length;
      packet.bytes.fill(0xa5, end, packet.limit);
      const [region, limit] = [packet.bytes, packet.limit];
      lab.datapath.execute(packet, key, actions);
      for (let i = end; i < limit; i += 1)
        if (region[i] !== 0xa5) expect(`byte ${i - end} behind the frame`).toBe('as it was');
      while (held.length > random(12)) held.pop()?.release();
    }),
    { numRuns: fuzzRounds(1000) },
  );
  while (held.length > 0) held.pop()?.release();
  expect(lab.held).toBe(0);
});

test('nothing is allocated per packet in the steady state', () => {
  const lab = new FlowLab({ output: () => {} });
  lab.flow(
    'recirc_id(0),in_port(1),eth_type(0x0800),ipv4(proto=6)',
    'set(ipv4(ttl=9)),push_vlan(vid=3,pcp=0),2,clone(pop_vlan,3),recirc(1)',
  );
  lab.flow(
    'recirc_id(0x1),in_port(1),eth_type(0x8100),vlan(vid=3,pcp=0),encap(eth_type(0x0800),ipv4(proto=6))',
    'trunc(40),4,set(tcp(dst=9)),5',
  );
  const batch = new Batch();
  const packets = Array.from({ length: 16 }, () => packetOf(frame, lab.pool));
  const base = packets.map((packet) => packet.offset);
  const run = (rounds: number) => {
    for (let round = 0; round < rounds; round += 1) {
      for (let i = 0; i < packets.length; i += 1) {
        const packet = packets[i];
        packet.hold();
        packet.offset = base[i];
        packet.length = frame.length;
        batch.push(packet);
      }
      lab.datapath.receive(batch, toKeyPort(1));
    }
  };
  run(3000);
  const before = process.memoryUsage().heapUsed;
  run(3000);
  // 48,000 packets, each with two look-ups and two copies: a single object a packet would be over a megabyte.
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(600_000);
  expect(lab.copies.available).toBe(32);
});
