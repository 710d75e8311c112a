/**
 * Decisions in memory: how many a second, by a forwarder that learns addresses and a filter of 100 rules; what a packet costs whose decision is kept; how long after a
 * change the flows are gone that rest on it. Short runs: the figures are for comparing with themselves.
 */
import { performance } from 'node:perf_hooks';
import {
  DecidedFlows,
  type Decider,
  ObservedMap,
  ObservedPorts,
  ObservedPrefixes,
  type PlacedDecider,
} from '../src/decide/index.ts';
import { Datapath } from '../src/flow/index.ts';
import { Batch, ClonePool, PacketPool, toKeyPort, toPortId } from '../src/net/index.ts';
import { FRAME_BYTES, makeFrames } from './flow.ts';
import { median } from './statistics.ts';

/** Figures of deciding. */
export interface DecideBench {
  /** Packets a second of which each is of another flow and is decided about, in a table that is emptied now and then. */
  decisionsPerSecond: number;
  /** Packets a second whose decisions are kept, 1,000 flows in turn. */
  keptPerSecond: number;
  /** Microseconds from a change of one entry until the one flow that rests on it is gone, the median. */
  endOfOneP50Us: number;
  /** Milliseconds until all flows are gone that rest on one entry, and how many these are. */
  endOfManyMs: number;
  endedFlows: number;
}

const RULES = 100;
const FLOWS = 100_000;
const KEPT = 1000;

/** Rules by prefix and port; the last ones look at the whole source address, so that each packet is a flow. */
function filter(): { readonly decider: Decider; readonly denied: ObservedPrefixes<string> } {
  const denied = new ObservedPrefixes<string>('denied');
  for (let i = 0; i < RULES; i += 1) denied.set(`10.200.${i}.${i}`, 'a rule');
  return {
    denied,
    decider: {
      decide(packet, decision) {
        const { ipv4 } = packet;
        if (ipv4 === null) return;
        if (denied.covers(ipv4.source)) decision.drop('DENIED');
        else ipv4.source.mark(32);
      },
    },
  };
}

function learning(): { readonly decider: Decider; readonly addresses: ObservedMap<number> } {
  const addresses = new ObservedMap<number>('addresses');
  return {
    addresses,
    decider: {
      decide(packet, decision) {
        const source = packet.ethernet.source.text;
        const { inPort } = packet;
        if (addresses.get(source) !== inPort) decision.effect(() => addresses.set(source, inPort));
        const portId = packet.ethernet.isMulticast ? undefined : addresses.get(packet.ethernet.destination.text);
        if (portId === undefined) decision.flood();
        else decision.output(portId);
      },
    },
  };
}

/** @param options.seconds length of each measurement */
export function benchDecisions(options: { seconds?: number } = {}): DecideBench {
  const seconds = options.seconds ?? 1;
  const ports = new ObservedPorts();
  for (let portId = 1; portId <= 4; portId += 1) ports.set(toPortId(portId), `p${portId}`);
  const wall = filter();
  const forwarder = learning();
  const deciders: PlacedDecider[] = [
    { name: 'filter', type: 'filtering', decider: wall.decider },
    { name: 'learning', type: 'forwarding', decider: forwarder.decider },
  ];
  forwarder.addresses.set('02:00:00:00:00:02', 2);
  const flows = new DecidedFlows({ ports, deciders: () => deciders, nowMs: () => 1, maximumFlows: FLOWS });
  const packet = makeFrames(FLOWS);
  const datapath = new Datapath({
    table: flows.table,
    hooks: { output: () => {}, outputIgnoresKey: true, decide: (_, key) => flows.decide(key, null) },
    nowMs: () => 1,
    pool: new PacketPool({ packets: 16, bufferBytes: 2048 }),
    clones: new ClonePool(16),
  });
  const batch = new Batch();
  let next = 0;
  const run = (count: number, of: number) => {
    for (let i = 0; i < count; i += 1) {
      packet.offset = next * FRAME_BYTES;
      packet.references = 1;
      batch.push(packet);
      datapath.receive(batch, toKeyPort(1));
      next = (next + 1) % of;
    }
  };
  /** Packets a second. */
  const rate = (of: number, before: () => void): number => {
    let done = 0;
    let spent = 0;
    while (spent < seconds * 1000) {
      before();
      const begun = performance.now();
      run(10_000, of);
      spent += performance.now() - begun;
      done += 10_000;
    }
    return done / (spent / 1000);
  };
  const emptied = () => {
    if (flows.table.size > FLOWS / 2) flows.flush();
  };
  rate(FLOWS, emptied);
  const decisionsPerSecond = rate(FLOWS, emptied);
  flows.flush();
  next = 0;
  run(KEPT, KEPT);
  const keptPerSecond = rate(KEPT, () => {});

  flows.flush();
  next = 0;
  run(FLOWS, FLOWS);
  const times: number[] = [];
  for (let i = 0; i < 1000; i += 1) {
    const size = flows.table.size;
    const begun = performance.now();
    wall.denied.set(`10.0.${i >>> 8}.${i & 255}`, 'now');
    times.push((performance.now() - begun) * 1000);
    if (flows.table.size !== size - 1) throw new Error(`${size - flows.table.size} flows ended instead of one`);
  }
  const endedFlows = flows.table.size;
  const begun = performance.now();
  forwarder.addresses.set('02:00:00:00:00:02', 3);
  const endOfManyMs = performance.now() - begun;
  if (flows.table.size !== 0) throw new Error(`${flows.table.size} flows are left`);
  return { decisionsPerSecond, keptPerSecond, endOfOneP50Us: median(times), endOfManyMs, endedFlows };
}
