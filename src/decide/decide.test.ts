/** The one property of decisions: whatever agrees with a packet in what was looked at is decided alike, and is carried out as if it had been decided afresh. */
import { expect, test } from 'vitest';
import { type Datapath, type FlowKey, KEY_WORDS, Word } from '../flow/index.ts';
import { fuzzRounds } from '../flow/testing/frames.ts';
import { Batch, toKeyPort, toPortId } from '../net/index.ts';
import { type FrameKind, hostileFrame, randomFrame, randomKind } from '../offload/testing/frames.ts';
import { keyOf, packetOf } from '../offload/testing/packets.ts';
import { RandomSource, runSeed } from '../offload/testing/random.ts';
import { FlowCounter } from './counter.ts';
import { DecidedFlows } from './decided-flows.ts';
import type { PlacedDecider } from './decider.ts';
import { Pass, PassKind } from './pass.ts';
import type { DecisionRecord } from './record.ts';
import { ObservedPorts } from './state/ports.ts';
import { Afresh, datapath } from './testing/afresh.ts';
import { RandomState, randomDecider } from './testing/random-decider.ts';

const PORTS = 4;

function portsOf(count: number): ObservedPorts {
  const ports = new ObservedPorts();
  for (let portId = 1; portId <= count; portId += 1) ports.set(toPortId(portId), `port${portId}`);
  return ports;
}

/** Two filtering deciders and one that forwards, over one state. */
function stack(random: RandomSource, state: RandomState, counters: readonly FlowCounter[]): PlacedDecider[] {
  return [
    { name: 'first', type: 'filtering', decider: randomDecider(random, state, counters, false) },
    { name: 'second', type: 'filtering', decider: randomDecider(random, state, counters, false) },
    { name: 'forwarder', type: 'forwarding', decider: randomDecider(random, state, counters, true) },
  ];
}

function summary(record: DecisionRecord): unknown {
  const { mask, actions, drop, counters, everyPacket } = record;
  return { mask: [...mask], actions: [...actions], drop, counters: counters.map(({ name }) => name), everyPacket };
}

test('what was not looked at does not matter', () => {
  const seed = runSeed();
  for (let round = 0; round < fuzzRounds(60); round += 1) {
    const random = new RandomSource(seed + round);
    const state = new RandomState();
    for (let i = 0; i < 20; i += 1) state.change(random);
    const counters = [new FlowCounter('a', () => {}), new FlowCounter('b', () => {})];
    const deciders = stack(random, state, counters);
    const pass = new Pass(portsOf(PORTS));
    for (let i = 0; i < 40; i += 1) {
      const key = keyOf(randomFrame(random, randomKind(random)), 1 + random.below(PORTS)).words;
      const record = pass.run(key, deciders, PassKind.RECALL);
      for (let other = 0; other < 8; other += 1) {
        const changed = key.slice();
        for (let word = 0; word < KEY_WORDS; word += 1) {
          if (random.once(3)) changed[word] ^= random.word() & ~record.mask[word];
        }
        const again = pass.run(changed, deciders, PassKind.RECALL);
        expect(summary(again), `MILLRACE_SEED=${seed + round}`).toEqual(summary(record));
      }
    }
  }
}, 120_000);

/** Runs packets from the flows that were kept of decisions. */
class Kept {
  sent: string[] = [];
  dropped: string | null = null;
  readonly flows: DecidedFlows;
  readonly #datapath: Datapath;
  readonly #batch = new Batch();

  constructor(ports: ObservedPorts, deciders: readonly PlacedDecider[]) {
    this.flows = new DecidedFlows({ ports, deciders: () => deciders, nowMs: () => 1, maximumMasks: 1000 });
    const decide = (packet: { frame(): Uint8Array }, key: FlowKey) => this.flows.decide(key, () => packet.frame());
    this.#datapath = datapath((text) => this.sent.push(text), { decide }, this.flows.table);
  }

  run(frame: readonly number[], port: number): void {
    this.sent = [];
    this.#batch.push(packetOf(frame));
    this.#datapath.receive(this.#batch, toKeyPort(port));
    const { slot } = this.#datapath;
    const record = slot === -1 ? this.flows.onlyRecord : this.flows.recordOf(slot);
    this.dropped = record?.drop == null ? null : `${record.drop.by}:${record.drop.reason}`;
  }
}

test('kept flows do what deciding afresh for each packet does, whatever changes between packets', () => {
  const seed = runSeed();
  let decisions = 0;
  let packets = 0;
  for (let round = 0; round < fuzzRounds(60); round += 1) {
    const random = new RandomSource(seed + round);
    const state = new RandomState();
    const ports = portsOf(PORTS);
    const holder: { kept: Kept | null } = { kept: null };
    const counters = ['a', 'b'].map((name) => new FlowCounter(name, () => holder.kept?.flows.settle()));
    const deciders = stack(random, state, counters);
    const afresh = new Afresh(ports);
    const kept = new Kept(ports, deciders);
    holder.kept = kept;
    const kinds: FrameKind[] = Array.from({ length: 6 }, () => randomKind(random));
    for (let i = 0; i < 400; i += 1) {
      if (random.once(12)) state.change(random);
      if (random.once(60)) {
        const portId = 1 + random.below(PORTS);
        if (ports.has(portId)) ports.delete(toPortId(portId));
        else ports.set(toPortId(portId), `port${portId}`);
      }
      const kind = random.pick(kinds);
      let frame = randomFrame(random, kind);
      if (random.once(6)) frame = hostileFrame(random, frame, kind);
      if (frame.length < 14) continue;
      const port = 1 + random.below(PORTS);
      afresh.run(packetOf(frame), keyOf(frame, port), deciders);
      kept.run(frame, port);
      const where = `MILLRACE_SEED=${seed + round}, packet ${i}: port ${port} ${Buffer.from(frame).toString('hex')}`;
      expect(kept.sent, where).toEqual(afresh.sent);
      expect(kept.dropped, where).toEqual(afresh.dropped);
      packets += 1;
    }
    for (const counter of counters)
      expect(counter.packets, `MILLRACE_SEED=${seed + round}`).toBe(afresh.counts.get(counter.name) ?? 0);
    decisions += kept.flows.counters.decisions;
    const { table } = kept.flows;
    kept.flows.flush();
    expect(table.size).toBe(0);
  }
  // Otherwise nothing was kept, and nothing was tested.
  expect(decisions).toBeLessThan(packets * 0.9);
}, 120_000);

test('a flow is of one port', () => {
  const pass = new Pass(portsOf(2));
  const record = pass.run(keyOf(new Array(60).fill(0), 1).words, [], PassKind.RECALL);
  expect(record.mask[Word.IN_PORT]).toBe(0xffff_ffff);
  expect(record.drop).toEqual({ by: '', reason: 'NOT_FORWARDED' });
});
