/** Decisions that go by connections: what is looked at of a packet whose connection is known, and what is decided about one whose is not. */
import { expect, test } from 'vitest';
import { ConnectionState, formatActions, Word } from '../flow/index.ts';
import { arp, ethernet, ipv4, tcp } from '../flow/testing/frames.ts';
import { toPortId } from '../net/index.ts';
import { keyOf } from '../offload/testing/packets.ts';
import { connectionStateOf, connectionWord } from './connection.ts';
import { FlowCounter } from './counter.ts';
import type { Decision } from './decision.ts';
import type { PacketView } from './packet-view.ts';
import { Pass, PassKind } from './pass.ts';
import type { DecisionRecord } from './record.ts';
import { ObservedPorts } from './state/ports.ts';

const FRAME = ethernet(0x0800, ipv4(6, tcp()));
const ESTABLISHED = ConnectionState.TRACKED | ConnectionState.ESTABLISHED;

/** @param state bits of ConnectionState; 0 for a packet that was not tracked */
function decide(
  ask: (packet: PacketView, decision: Decision) => void,
  { frame = FRAME, state = 0, tracks = false },
): DecisionRecord {
  const ports = new ObservedPorts();
  for (const port of [1, 2]) ports.set(toPortId(port), `p${port}`);
  const { words } = keyOf(frame, 1);
  words[Word.CT] = state === 0 ? 0 : connectionWord(state);
  return new Pass(ports, () => tracks).run(
    words,
    [
      { name: 'wall', type: 'filtering', decider: { decide: ask } },
      { name: 'hub', type: 'forwarding', decider: { decide: (_, decision) => void decision.flood() } },
    ],
    PassKind.RECALL,
  );
}

test.each([
  [0, null],
  [ConnectionState.TRACKED, null],
  [ConnectionState.TRACKED | ConnectionState.NEW, 'new'],
  [ESTABLISHED | ConnectionState.REPLY, 'established'],
  [ESTABLISHED | ConnectionState.RELATED, 'established'],
  [ConnectionState.TRACKED | ConnectionState.NEW | ConnectionState.RELATED, 'related'],
  [ConnectionState.TRACKED | ConnectionState.RELATED | ConnectionState.REPLY, 'related'],
  [ConnectionState.TRACKED | ConnectionState.INVALID, 'invalid'],
])('a packet with the bits %s is %s', (bits, name) => {
  expect(connectionStateOf(connectionWord(bits))).toBe(name);
});

test('of a connection that is known the state is looked at, and the direction by itself', () => {
  let seen: unknown;
  const { mask } = decide(
    ({ connection }) => {
      seen = connection?.state;
    },
    { state: ESTABLISHED },
  );
  expect(seen).toBe('established');
  expect(mask[Word.CT] >>> 0).toBe(0x3700_0000);
  const direction = decide(({ connection }) => void connection?.isReply, { state: ESTABLISHED });
  expect(direction.mask[Word.CT] >>> 0).toBe(0x2800_0000);
});

test('what is not IP has no connection, and only its type is looked at', () => {
  const { mask, tracks } = decide(({ connection }) => expect(connection).toBeNull(), {
    frame: ethernet(0x0806, arp()),
    tracks: true,
  });
  expect(tracks).toBe(false);
  expect(mask[Word.CT]).toBe(0);
});

test('where it can be tracked, a packet whose connection is asked for is tracked and looked up again, whatever is said without knowing it', () => {
  const counter = new FlowCounter('counter', () => {});
  const record = decide(
    (packet, decision) => {
      decision.count(counter);
      const isKnown = packet.connection !== null;
      // Nothing of this counts.
      if (!isKnown && packet.tcp?.destinationPort === 80) decision.drop('UNKNOWN');
      decision.everyPacket('it does not know');
    },
    { tracks: true },
  );
  expect(formatActions(record.actions)).toBe('ct(zone=65535),recirc(0x7fffffff)');
  expect(record).toMatchObject({ tracks: true, drop: null, everyPacket: null, counters: [], excluded: [] });
  expect(record.mask[Word.PORTS]).toBe(0);
  expect(record.mask[Word.CT]).toBe(0x2000_0000);
});

test('what was dropped before is dropped without being tracked, and where nothing is tracked it is decided without', () => {
  const early = (packet: PacketView, decision: Decision) => {
    decision.drop('EARLY');
    expect(packet.connection).toBeNull();
  };
  expect(decide(early, { tracks: true })).toMatchObject({ tracks: false, drop: { reason: 'EARLY' } });
  const late = (packet: PacketView, decision: Decision) => {
    if (packet.connection === null) decision.drop('LATE');
  };
  expect(decide(late, { tracks: false })).toMatchObject({ tracks: false, drop: { reason: 'LATE' } });
});
