/** What questions mark: no more bits than their answers need. */
import { beforeEach, expect, test } from 'vitest';
import { Sound, TAG_PRESENT, Word } from '../flow/index.ts';
import { arp, ethernet, icmp, ipv4, ipv6, packetOf, tcp, udp } from '../flow/testing/frames.ts';
import { toPortId } from '../net/index.ts';
import { keyOf } from '../offload/testing/packets.ts';
import type { OutputDecision } from './decider.ts';
import type { Decision } from './decision.ts';
import type { PacketView } from './packet-view.ts';
import { Pass, PassKind } from './pass.ts';
import type { DecisionRecord } from './record.ts';
import { ObservedPorts } from './state/ports.ts';
import { ObservedPrefixes } from './state/prefixes.ts';

let ports: ObservedPorts;
beforeEach(() => {
  ports = new ObservedPorts();
  for (let portId = 1; portId <= 3; portId += 1) ports.set(toPortId(portId), `p${portId}`);
});

function decide(
  frame: readonly number[],
  ask: (packet: PacketView, decision: Decision) => void,
  kind: number = PassKind.RECALL,
): DecisionRecord {
  const placed = { name: 'it', type: 'forwarding', decider: { decide: ask } } as const;
  return new Pass(ports).run(keyOf(frame, 1).words, [placed], kind);
}

/** What a decider in JavaScript may give in the place of what is asked for. */
function foreign(value: unknown): never {
  return value as never;
}

/** The words that were looked at, besides port and recirculation. */
function looked(frame: readonly number[], ask: (packet: PacketView) => unknown): Record<number, string> {
  const { mask } = decide(frame, (packet) => void ask(packet));
  const found: Record<number, string> = {};
  mask.forEach((bits, word) => {
    if (bits !== 0 && word !== Word.IN_PORT && word !== Word.RECIRC_ID) found[word] = bits.toString(16);
  });
  return found;
}

const TYPE = 'ffff0000';
const ipv4Type = ((0xffff_0000 | Sound.NETWORK) >>> 0).toString(16);
const tcpType = ((0xffff_0000 | Sound.NETWORK | Sound.TRANSPORT) >>> 0).toString(16);
const frame = ethernet(0x0800, ipv4(6, tcp({ src: 1000, dst: 443 }), { src: '10.1.2.3', dst: '192.168.0.9' }));

test('nothing is looked at that nobody asks for', () => {
  expect(looked(frame, () => {})).toEqual({});
});

test('a header that is not there is told by what showed it', () => {
  expect(looked(ethernet(0x0806, arp()), (packet) => expect(packet.ipv4).toBe(null))).toEqual({
    [Word.ETH_TYPE]: TYPE,
  });
  expect(looked(frame, (packet) => expect(packet.udp).toBe(null))).toEqual({
    [Word.ETH_TYPE]: ipv4Type,
    [Word.IP]: 'ff000000',
  });
  const later = ethernet(0x0800, ipv4(17, udp(), { fragment: 3 }));
  expect(looked(later, (packet) => expect(packet.udp).toBe(null))).toEqual({
    [Word.ETH_TYPE]: tcpType,
    [Word.IP]: 'ff000000',
  });
  const cut = ethernet(0x0800, ipv4(6, tcp()).slice(0, 18));
  expect(looked(cut, (packet) => expect(packet.ipv4).toBe(null))).toEqual({ [Word.ETH_TYPE]: ipv4Type });
  expect(looked(frame, (packet) => expect(packet.vlan).toBe(null))).toEqual({ [Word.VLAN]: TAG_PRESENT.toString(16) });
});

test('a constant marks the field, or up to the first bit that differs', () => {
  const base = { [Word.ETH_TYPE]: ipv4Type };
  expect(looked(frame, (packet) => expect(packet.ipv4?.source.is('10.1.2.3')).toBe(true))).toEqual({
    ...base,
    [Word.IPV4_SOURCE]: 'ffffffff',
  });
  expect(looked(frame, (packet) => expect(packet.ipv4?.source.is('10.1.2.2')).toBe(false))).toEqual({
    ...base,
    [Word.IPV4_SOURCE]: 'ffffffff',
  });
  expect(looked(frame, (packet) => expect(packet.ipv4?.source.is('138.1.2.3')).toBe(false))).toEqual({
    ...base,
    [Word.IPV4_SOURCE]: '80000000',
  });
  expect(looked(frame, (packet) => expect(packet.ethernet.destination.is('03:00:00:00:00:02')).toBe(false))).toEqual({
    [Word.MAC]: 'ff000000',
  });
  expect(looked(frame, (packet) => expect(packet.ethernet.source.is('02:00:00:00:00:01')).toBe(true))).toEqual({
    [Word.MAC + 1]: 'ffff',
    [Word.MAC + 2]: 'ffffffff',
  });
});

test('a prefix marks the prefix, and a range what settles it', () => {
  const base = { [Word.ETH_TYPE]: ipv4Type };
  expect(looked(frame, (packet) => expect(packet.ipv4?.source.within('10.0.0.0/8')).toBe(true))).toEqual({
    ...base,
    [Word.IPV4_SOURCE]: 'ff000000',
  });
  expect(looked(frame, (packet) => expect(packet.ipv4?.source.within('0.0.0.0/0')).toBe(true))).toEqual(base);
  const ofTcp = { [Word.ETH_TYPE]: tcpType, [Word.IP]: 'ff000000' };
  expect(looked(frame, (packet) => expect(packet.tcp?.destination.between(0, 1023)).toBe(true))).toEqual({
    ...ofTcp,
    [Word.PORTS]: 'fc00',
  });
  expect(looked(frame, (packet) => expect(packet.tcp?.source.between(0, 1023)).toBe(true))).toEqual({
    ...ofTcp,
    [Word.PORTS]: 'fc000000',
  });
  expect(looked(frame, (packet) => expect(packet.tcp?.destination.between(0x8000, 0xffff)).toBe(false))).toEqual({
    ...ofTcp,
    [Word.PORTS]: '8000',
  });
  expect(looked(frame, (packet) => expect(packet.tcp?.destinationPort).toBe(443))).toEqual({
    ...ofTcp,
    [Word.PORTS]: 'ffff',
  });
  expect(looked(frame, (packet) => expect(packet.tcp?.hasFlags(2)).toBe(0))).toEqual({
    ...ofTcp,
    [Word.TCP_FLAGS]: '20000',
  });
});

test('a table of prefixes marks what tells the answer from every other', () => {
  const table = new ObservedPrefixes<number>('table');
  const base = { [Word.ETH_TYPE]: ipv4Type };
  expect(looked(frame, (packet) => packet.ipv4 && expect(table.longest(packet.ipv4.source)).toBe(undefined))).toEqual(
    base,
  );
  table.set('10.0.0.0/8', 1);
  table.set('10.64.0.0/16', 2);
  expect(looked(frame, (packet) => packet.ipv4 && expect(table.longest(packet.ipv4.source)).toBe(1))).toEqual({
    ...base,
    [Word.IPV4_SOURCE]: 'ffc00000',
  });
  expect(
    looked(frame, (packet) => packet.ipv4 && expect(table.longest(packet.ipv4.destination)).toBe(undefined)),
  ).toEqual({ ...base, [Word.IPV4_DESTINATION]: '80000000' });
  table.set('2001:db8::/32', 3);
  const six = ethernet(0x86dd, ipv6(17, udp()));
  expect(
    looked(six, (packet) => packet.ipv6 && expect(table.longest(packet.ipv6.source)).toBe(3))[Word.IPV6_SOURCE],
  ).toBe('ffffffff');
});

test('what was set reads as it was set, and marks nothing', () => {
  const { mask, actions } = decide(frame, (packet, decision) => {
    decision.ipv4.destination = '10.9.9.9';
    expect(packet.ipv4?.destination.text).toBe('10.9.9.9');
    decision.tcp.destinationPort = 8080;
    expect(packet.tcp?.destinationPort).toBe(8080);
    decision.pushVlan({ id: 12, priority: 3 });
    expect([packet.vlan?.id, packet.vlan?.priority, packet.innerVlan]).toEqual([12, 3, null]);
    decision.output(2);
  });
  expect(mask[Word.IPV4_DESTINATION]).toBe(0);
  expect(mask[Word.PORTS]).toBe(0);
  expect(mask[Word.VLAN]).toBe(TAG_PRESENT);
  expect(actions.length).toBeGreaterThan(0);
});

test('what is set twice, or before a drop, costs nothing', () => {
  const once = decide(frame, (_, decision) => {
    decision.ethernet.destination = '02:00:00:00:00:09';
    decision.output(2);
  });
  const twice = decide(frame, (_, decision) => {
    decision.ethernet.destination = '02:00:00:00:00:07';
    decision.ethernet.destination = '02:00:00:00:00:09';
    decision.output(2);
    decision.ethernet.destination = '02:00:00:00:00:05';
  });
  expect(twice.actions).toEqual(once.actions);
  expect(
    decide(frame, (_, decision) => {
      decision.ethernet.source = '02:00:00:00:00:07';
      decision.drop('NO');
    }).actions,
  ).toHaveLength(0);
});

test('an answer to ARP is what the asker expects', () => {
  const { actions } = decide(ethernet(0x0806, arp()), (packet, decision) => {
    const { arp: request } = packet;
    if (request === null || request.operation !== 1) return;
    const asked = request.targetAddress.bytes;
    decision.arp.targetAddress = request.senderAddress.bytes;
    decision.arp.targetMac = request.senderMac.bytes;
    decision.ethernet.destination = request.senderMac.bytes;
    decision.arp.senderAddress = asked;
    decision.arp.senderMac = '02:00:00:00:00:99';
    decision.ethernet.source = '02:00:00:00:00:99';
    decision.arp.operation = 2;
    decision.output(packet.inPort);
  });
  expect(actions.length).toBeGreaterThan(0);
});

test('raw bytes and who asks for it make a decision for one packet', () => {
  expect(decide(frame, (packet) => void packet.bytes).everyPacket).toBe('it: it looks at raw bytes');
  expect(decide(frame, (_, decision) => decision.everyPacket('it counts')).everyPacket).toBe('it: it counts');
});

test('a trace tells every look once, what it rests on, and what is said', () => {
  const table = new ObservedPrefixes<string>('denied');
  table.set('10.1.0.0/16', 'by hand');
  const { trace, drop } = decide(
    frame,
    (packet, decision) => {
      if (packet.ipv4 === null || packet.ipv4 === null) return;
      const found = table.find(packet.ipv4.source);
      decision.drop('DENIED', () => `on the list: ${found?.value}`);
    },
    PassKind.TRACE,
  );
  expect(drop).toEqual({ by: 'it', reason: 'DENIED' });
  expect(trace?.looks).toEqual([
    { by: 'it', field: 'ethernet.type', bits: 16, width: 16 },
    { by: 'it', field: 'ipv4.source', bits: 16, width: 32 },
  ]);
  expect(trace?.restsOn).toEqual(['denied']);
  expect(trace?.notes).toEqual([{ by: 'it', text: 'on the list: by hand' }]);
});

test.each<[string, readonly number[], (packet: PacketView, decision: Decision) => void, string]>([
  [
    'a field of a header that is not there',
    frame,
    (_, decision) => {
      decision.udp.sourcePort = 1;
    },
    'it sets a field of UDP, and the packet is no UDP',
  ],
  ['a tag where there is none', frame, (_, decision) => decision.popVlan(), 'no tagged frame'],
  [
    'a port that is too large',
    frame,
    (_, decision) => {
      decision.tcp.sourcePort = 70_000;
    },
    '70000 is no port number',
  ],
  [
    'an address that is none',
    frame,
    (_, decision) => {
      decision.ipv4.source = '10.0.0';
    },
    '10.0.0 is no IPv4 address or prefix',
  ],
  [
    'a prefix',
    frame,
    (_, decision) => {
      decision.ipv4.source = '10.0.0.0/8';
    },
    'cannot be set to a prefix',
  ],
  ['a time that is over', frame, (_, decision) => decision.until(0), 'cannot hold for 0 milliseconds'],
  ['a chance beyond all', frame, (_, decision) => decision.sample(2, () => {}), '2 is no probability'],
  [
    'a value beyond its field',
    ethernet(0x0800, ipv4(1, icmp(8, 0))),
    (_, decision) => {
      decision.ipv4.dscp = 64;
    },
    'dscp cannot be 64: it is 0 to 63',
  ],
  ['a port that is no number', frame, (_, decision) => decision.output(Number.NaN), 'it: output to NaN: a port is'],
  ['a port below zero', frame, (_, decision) => decision.output(-1), 'it: output to -1'],
  ['half a port', frame, (_, decision) => decision.output(1.5), 'it: output to 1.5'],
  ['a port beyond all', frame, (_, decision) => decision.output(2 ** 53), 'it: output to 9007199254740992'],
  ['a port as text', frame, (_, decision) => decision.output(foreign('1')), 'it: output to "1"'],
  ['a port that was not found', frame, (_, decision) => decision.output(foreign(null)), 'it: output to null'],
  ['a NIC that is none', frame, (_, decision) => decision.output(1, 256), 'it: output to NIC 256'],
  ['a flood to no function', frame, (_, decision) => decision.flood(foreign([1])), 'it: what chooses'],
  ['a reason that is a number', frame, (_, decision) => decision.drop(foreign(7)), 'it: 7 is no name of a reason'],
  ['a reason that is none', frame, (_, decision) => decision.drop(foreign(undefined)), 'it: undefined is no name'],
  ['a sentence that is no function', frame, (_, decision) => decision.drop('NO', foreign('no')), 'it: the sentence'],
  [
    'a counter that is none',
    frame,
    (_, decision) => decision.count(foreign({ add: 1 })),
    'it: it counts into an object',
  ],
  ['a note that is a text', frame, (_, decision) => decision.note(foreign('so')), 'it: what is noted is a function'],
  ['a time that is a text', frame, (_, decision) => decision.until(foreign('5')), 'it: a decision cannot hold for "5"'],
  [
    'a time that is no number',
    frame,
    (_, decision) => decision.until(Number.NaN),
    'it: a decision cannot hold for NaN',
  ],
  ['an effect that is none', frame, (_, decision) => decision.effect(foreign(null)), 'it: an effect is a function'],
  ['what recalls and does not', frame, (_, decision) => decision.recall(foreign(1)), 'it: what recalls is a function'],
  ['a reason that is an object', frame, (_, decision) => decision.everyPacket(foreign({})), 'it: the reason to decide'],
  ['no tag', frame, (_, decision) => decision.pushVlan(foreign(undefined)), 'it: undefined is no VLAN tag'],
  [
    'a tag with half an id',
    frame,
    (_, decision) => decision.pushVlan({ id: 1.5 }),
    'it: there is no VLAN tag of id 1.5',
  ],
  ['a chance as text', frame, (_, decision) => decision.sample(foreign('1'), () => {}), 'it: "1" is no probability'],
  ['a sample of nothing', frame, (_, decision) => decision.sample(1, foreign(0)), 'it: what is sampled'],
  ['an address that is an object', frame, (view) => view.ipv4?.source.is(foreign({})), 'it: an object is no IPv4'],
  ['flags that are none', frame, (view) => view.tcp?.hasFlags(foreign(undefined)), 'undefined are no TCP flags'],
  ['a promise', frame, async () => {}, 'it decides with a promise'],
])('%s is refused with a sentence', (_, bytes, act, text) => {
  expect(() => decide(bytes, act)).toThrow(text);
});

test('a decision that somebody has kept takes nothing more', () => {
  const kept: Decision[] = [];
  decide(frame, (_, decision) => {
    kept.push(decision);
    decision.output(1);
  });
  for (const late of [
    () => kept[0].output(2),
    () => kept[0].drop('LATE'),
    () => kept[0].until(5),
    () => kept[0].note(() => ''),
  ]) {
    expect(late).toThrow('it: it said something about a packet after the decision was made');
  }
});

test('of a port that refuses a packet the reason is checked, too', () => {
  const placed = [
    {
      name: 'guard',
      type: 'filtering',
      decider: { decideOutput: (_p: PacketView, _id: number, o: OutputDecision) => o.drop('no good') },
    },
    { name: 'it', type: 'forwarding', decider: { decide: (_p: PacketView, decision: Decision) => decision.output(2) } },
  ] as const;
  const run = () => new Pass(ports).run(keyOf(frame, 1).words, placed, PassKind.RECALL);
  expect(run).toThrow('guard: "no good" is no name of a reason');
});

test('a note that cannot be made spoils no trace', () => {
  const { trace } = decide(
    frame,
    (_, decision) => {
      decision.note(() => {
        throw new Error('no');
      });
      decision.note(foreign(() => 7));
      decision.output(1);
    },
    PassKind.TRACE,
  );
  expect(trace?.notes.map(({ text }) => text)).toEqual(['its note cannot be read: making it has failed', '7']);
});

test('the frame is at hand for who asks', () => {
  const packet = packetOf(frame);
  const placed = {
    name: 'it',
    type: 'forwarding',
    decider: { decide: (view: PacketView) => expect(view.bytes).toEqual(Uint8Array.from(frame)) },
  } as const;
  new Pass(ports).run(keyOf(frame, 1).words, [placed], PassKind.TRANSLATE, () => packet.frame());
  packet.release();
});
