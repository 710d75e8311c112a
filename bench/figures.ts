/** The figures that the project holds itself to, each beside what this run measured. */
import type { InMemoryResult } from './in-memory.ts';
import type { BpfFigures, FlowFigures } from './libraries.ts';
import type { Idle } from './measure/idle.ts';
import type { PeerResult } from './report.ts';

/** One figure. */
export interface Figure {
  what: string;
  wanted: string;
  measured: string;
  reached: boolean;
}

/** All that a run measured; null where it was left out. */
export interface Measurements {
  peers: PeerResult[];
  memory: InMemoryResult | null;
  idle: Idle | null;
  bpf: BpfFigures | null;
  flow: FlowFigures | null;
}

function atLeast(what: string, value: number, wanted: number, unit: string, digits = 2): Figure {
  const text = (n: number) => `${n.toFixed(digits)} ${unit}`;
  return { what, wanted: `>= ${text(wanted)}`, measured: text(value), reached: value >= wanted };
}

function below(what: string, value: number, wanted: number, unit: string, digits = 2): Figure {
  const text = (n: number) => `${n.toFixed(digits)} ${unit}`;
  return { what, wanted: `< ${text(wanted)}`, measured: text(value), reached: value < wanted };
}

/** "At least `factor` times the other's value"; nothing when one of the two was not measured. */
function ratio(what: string, ours: number | undefined, theirs: number | undefined, factor: number): Figure[] {
  if (ours === undefined || theirs === undefined || theirs === 0) return [];
  return [atLeast(what, ours / theirs, factor, 'x')];
}

/** Compare what was measured with what is wanted. */
export function figures(m: Measurements): Figure[] {
  const of = (id: string) => m.peers.find((peer) => peer.id === id);
  const [ours, bridge, ovs, ovsTso] = ['millrace', 'bridge', 'ovs', 'ovs-tso'].map(of);
  const all = [
    ...ratio('TCP, one stream, to Linux bridge', ours?.tcpOneBps, bridge?.tcpOneBps, 0.75),
    ...ratio('TCP, one stream, to OVS userspace with TSO', ours?.tcpOneBps, ovsTso?.tcpOneBps, 1.1),
    ...ratio('TCP, one stream, to OVS userspace as installed', ours?.tcpOneBps, ovs?.tcpOneBps, 10),
    ...ratio('Small packets delivered, to OVS userspace', ours?.smallDeliveredPps, ovs?.smallDeliveredPps, 1.7),
  ];
  if (m.memory !== null) {
    const million = `${m.memory.packets / 1e6} million packets`;
    all.push(atLeast('In memory, learning, 64-byte frames', m.memory.packetsPerSecond / 1e6, 3, 'Mpps'));
    // What the collector leaves differs by some pages from one collection to the next.
    all.push(below(`Heap growth over ${million}`, m.memory.heapGrowthBytes / 1024, 256, 'KiB', 0));
  }
  if (m.idle !== null) {
    all.push(below('Idle processor', m.idle.cpuPercent, 1, '%'));
    all.push(below('Idle resident memory', m.idle.residentBytes / 1e6, 150, 'MB', 0));
  }
  if (m.bpf !== null) {
    all.push(atLeast('Generator over veth into a receiver', m.bpf.generator.packetsPerSecond / 1e6, 4, 'Mpps'));
    all.push(atLeast('Reads of a mapped array', m.bpf.reads.plainPerSecond / 1e6, 20, 'M/s', 0));
    all.push(below('Batch update of 100,000 hash entries', m.bpf.batch.medianMs, 100, 'ms', 1));
    all.push(below('Assemble and load 500 instructions', m.bpf.load.medianMs, 5, 'ms'));
  }
  if (m.flow !== null) {
    const { eightMasks } = m.flow;
    all.push(atLeast('100,000 megaflows, 8 masks: look-ups', eightMasks.lookupsPerSecond / 1e6, 1.5, 'Mpps'));
    all.push(below('Memory of a megaflow', eightMasks.bytesPerFlow, 1024, 'bytes', 0));
  }
  return all;
}
