/** The figures that the project holds itself to, each beside what this run measured. */
import type { AttackFigures } from './attack.ts';
import type { ConnectionBench } from './connections.ts';
import type { DecideBench } from './decide.ts';
import type { HostTablesBench } from './host-tables.ts';
import type { InMemoryResult } from './in-memory.ts';
import type { LatencyFigures } from './latency.ts';
import type { BpfFigures, FlowFigures } from './libraries.ts';
import type { Idle } from './measure/idle.ts';
import type { OffloadFigures } from './offload.ts';
import type { OvsFigures } from './ovs.ts';
import { deliveredOf, type PeerResult, USUAL_FLOWS } from './report.ts';
import type { StallFigures, Work } from './stalls.ts';
import type { Kind } from './tracked/creation.ts';
import type { TrackedFigures } from './tracked/index.ts';
import type { TunnelBench } from './tunnels.ts';

/** One figure. */
export interface Figure {
  what: string;
  wanted: string;
  measured: string;
  /** Null when there is nothing to reach, or nothing was measured. */
  reached: boolean | null;
}

/** The learning extension in memory, as it comes and as a user's module, by processor time. */
export interface ModuleFigures {
  builtInPps: number;
  modulePps: number;
}

/** All that a run measured; null where it was left out. */
export interface Measurements {
  peers: PeerResult[];
  latency: LatencyFigures | null;
  ovs: OvsFigures | null;
  attack: AttackFigures | null;
  offload: OffloadFigures | null;
  stalls: StallFigures | null;
  memory: InMemoryResult | null;
  module: ModuleFigures | null;
  idle: Idle | null;
  bpf: BpfFigures | null;
  flow: FlowFigures | null;
  tables: HostTablesBench | null;
  decide: DecideBench | null;
  connections: ConnectionBench | null;
  tracked: TrackedFigures | null;
  tunnels: TunnelBench | null;
}

const thousands = (n: number) => Math.round(n).toLocaleString('en');

function atLeast(what: string, value: number, wanted: number, unit: string, digits = 2): Figure {
  const text = (n: number) => `${n.toFixed(digits)} ${unit}`;
  return { what, wanted: `>= ${text(wanted)}`, measured: text(value), reached: value >= wanted };
}

function below(what: string, value: number, wanted: number, unit: string, digits = 2): Figure {
  const text = (n: number) => `${n.toFixed(digits)} ${unit}`;
  return { what, wanted: `< ${text(wanted)}`, measured: text(value), reached: value < wanted };
}

/** Something that is told, and of which nothing is asked. */
function told(what: string, measured: string): Figure {
  return { what, wanted: '', measured, reached: null };
}

/** "At least `factor` times the other's value"; nothing when one of the two was not measured. */
function ratio(what: string, ours: number | undefined, theirs: number | undefined, factor: number): Figure[] {
  if (ours === undefined || theirs === undefined || theirs === 0) return [];
  return [atLeast(what, ours / theirs, factor, 'x')];
}

/** "At most `factor` times the other's value"; nothing when one of the two was not measured. */
function ratioBelow(what: string, ours: number | undefined, theirs: number | undefined, factor: number): Figure[] {
  if (ours === undefined || theirs === undefined || theirs === 0) return [];
  const value = ours / theirs;
  return [{ what, wanted: `<= ${factor.toFixed(2)} x`, measured: `${value.toFixed(2)} x`, reached: value <= factor }];
}

/** Compare what was measured with what is wanted. */
export function figures(m: Measurements): Figure[] {
  return [
    ...engineFigures(m.peers),
    ...openVSwitchFigures(m.peers, m.ovs),
    ...latencyFigures(m.latency),
    ...attackFigures(m.attack),
    ...offloadFigures(m.peers, m.offload),
    ...stallFigures(m.stalls),
    ...roomFigures(m),
    ...trackedFigures(m.tracked),
    ...connectionFigures(m.connections),
    ...tunnelFigures(m.tunnels),
  ];
}

/** The complete path, in TypeScript. */
function engineFigures(peers: readonly PeerResult[]): Figure[] {
  const of = (id: string) => peers.find((peer) => peer.id === id);
  const [ours, bridge, ovs, ovsTso] = ['millrace', 'bridge', 'ovs', 'ovs-tso'].map(of);
  const small = (peer: PeerResult | undefined) => deliveredOf(peer, USUAL_FLOWS);
  return [
    ...ratio('TCP, one stream, to Linux bridge', ours?.tcpOneBps, bridge?.tcpOneBps, 0.75),
    ...ratio('TCP, one stream, to OVS userspace with TSO', ours?.tcpOneBps, ovsTso?.tcpOneBps, 1.1),
    ...ratio('TCP, one stream, to OVS userspace as installed', ours?.tcpOneBps, ovs?.tcpOneBps, 10),
    ...ratio('Small packets delivered, to OVS userspace', small(ours), small(ovs), 1.7),
  ];
}

/** Open vSwitch in charge of Millrace. */
function openVSwitchFigures(peers: readonly PeerResult[], m: OvsFigures | null): Figure[] {
  const of = (id: string) => peers.find((peer) => peer.id === id);
  const [learning, normal] = ['millrace', 'millrace-ovs'].map(of);
  const small = (peer: PeerResult | undefined) => deliveredOf(peer, USUAL_FLOWS);
  const all = [
    ...ratio('ovs-vswitchd NORMAL, TCP, to learning', normal?.tcpOneBps, learning?.tcpOneBps, 0.9),
    ...ratio('ovs-vswitchd NORMAL, small packets, to learning', small(normal), small(learning), 0.9),
  ];
  if (m === null) return all;
  const { ovs, 'millrace-ovs': ours, 'millrace-ovs-tc': offloaded } = m.setUpPerSecond;
  all.push(...ratio('Flow set-up, to OVS userspace', ours, ovs, 0.5));
  all.push(...ratio('Flow set-up with offload tc, to OVS userspace', offloaded, ovs, 0.5));
  for (const [id, rate] of Object.entries(m.setUpPerSecond))
    all.push(told(`Flow set-up, ${id}`, `${thousands(rate)} /s`));
  for (const [id, { count, addSeconds, delSeconds }] of Object.entries(m.ports)) {
    const what = `${count} ports of Open vSwitch`;
    if (id === 'ovs') {
      all.push(told(`${what} added and removed, ovs`, `${addSeconds.toFixed(2)} s, ${delSeconds.toFixed(2)} s`));
      continue;
    }
    all.push(below(`${what} added, ${id}`, addSeconds, 1, 's'), below(`${what} removed, ${id}`, delSeconds, 1, 's'));
  }
  if (m.table !== undefined) {
    const flows = thousands(m.table.flows);
    all.push(below(`ovs-dpctl dump-flows of ${flows} flows`, m.table.dumpSeconds, 3, 's'));
    all.push(told(`ovs-dpctl add-flows of ${flows} flows`, `${thousands(m.table.putPerSecond)} /s`));
  }
  all.push(...missing(m.notAvailable));
  return all;
}

/** Other ports while one attacks. */
function attackFigures(m: AttackFigures | null): Figure[] {
  if (m === null) return [];
  const all = Object.entries(m.left).flatMap(([attack, { rate, pings, newFlows }]) => [
    atLeast(`Other ports while one makes new ${attack}: rate, to before`, rate, 0.9, 'x'),
    atLeast(`Other ports while one makes new ${attack}: pings, to before`, pings, 1, 'x'),
    atLeast(`Other ports while one makes new ${attack}: new flows, to before`, newFlows, 0.5, 'x'),
  ]);
  return [...all, ...missing(m.notAvailable)];
}

/** Round trips, side by side. */
function latencyFigures(m: LatencyFigures | null): Figure[] {
  if (m === null) return [];
  const { bridge, 'millrace-tc': learning, 'millrace-ovs-tc': ovs } = m.rtt;
  const times = Object.entries(m.rtt).map(([id, { p50Us, p99Us }]) =>
    told(`RTT side by side, ${id}`, `p50 ${p50Us.toFixed(1)} us, p99 ${p99Us.toFixed(1)} us`),
  );
  return [
    ...ratioBelow('Offload tc, RTT p99, to Linux bridge', learning?.p99Us, bridge?.p99Us, 1),
    ...ratioBelow('Offload tc under ovs-vswitchd, RTT p99, to Linux bridge', ovs?.p99Us, bridge?.p99Us, 1),
    ...times,
    ...missing(m.notAvailable),
  ];
}

/** Flows in the kernel. */
function offloadFigures(peers: readonly PeerResult[], m: OffloadFigures | null): Figure[] {
  const of = (id: string) => peers.find((peer) => peer.id === id);
  const [tc, xdp, bareTc, bareXdp] = ['millrace-tc', 'millrace-xdp', 'tc-redirect', 'xdp-redirect'].map(of);
  const [bridge, ovs, dpdk] = ['bridge', 'ovs', 'ovs-dpdk'].map(of);
  const small = (peer: PeerResult | undefined, flows = USUAL_FLOWS) => deliveredOf(peer, flows);
  const all = [
    ...ratio('Offload tc, TCP, one stream, to bare TC redirect', tc?.tcpOneBps, bareTc?.tcpOneBps, 0.95),
    ...ratio('Offload tc, small packets, to bare TC redirect', small(tc), small(bareTc), 0.8),
    ...ratio('Offload tc, small packets, to Linux bridge', small(tc), small(bridge), 1.5),
    ...ratio(
      'Offload xdp, 1 mask, 1,000 flows, to bare XDP redirect',
      small(of('flows-xdp-1x1000'), 1000),
      small(bareXdp, 1000),
      0.75,
    ),
    ...ratio(
      'Offload xdp, 8 masks, 100,000 flows, to bare XDP redirect',
      small(of('flows-xdp-8x100000'), 65_536),
      small(bareXdp, 65_536),
      0.55,
    ),
    ...ratio('Offload xdp, small packets, to OVS userspace', small(xdp), small(ovs), 12),
    ...ratio('Offload xdp, small packets, to OVS-DPDK', small(xdp), small(dpdk), 3),
  ];
  if (m === null) return all;
  for (const hook of ['tc', 'xdp'] as const) {
    const cost = m.cost[hook];
    if (cost !== undefined) {
      all.push(told(`Program at ${hook}, in memory`, `${cost.programNs} ns; empty one ${cost.emptyNs} ns`));
    }
    const puts = m.puts[hook];
    if (puts === undefined) continue;
    all.push(below(`Offload ${hook}: flow active after its put, p50`, puts.activeP50Us, 100, 'us', 0));
    all.push(told(`Offload ${hook}: flow active after its put, p99`, `${puts.activeP99Us.toFixed(0)} us`));
    all.push(atLeast(`Offload ${hook}: puts a second`, puts.putsPerSecond, 50_000, '/s', 0));
  }
  all.push(...missing(m.notAvailable));
  return all;
}

const WORK_TEXT: Readonly<Record<Exclude<Work, 'nothing'>, string>> = {
  programs: 'while programs change',
  tables: 'while tables grow',
  ports: 'while ports come and go',
};

/** What the datapath thread's other work does to packets. */
function stallFigures(m: StallFigures | null): Figure[] {
  if (m === null) return [];
  const { nothing, ...others } = m.longestMs;
  if (nothing === undefined) return missing(m.notAvailable);
  // What the machine itself does to them is no stall of the thread.
  const all = [told('Longest round trip, nothing else to do', `${nothing.toFixed(1)} ms`)];
  for (const work of ['programs', 'tables', 'ports'] as const) {
    const value = others[work];
    if (value === undefined) continue;
    const what = `Longest round trip ${WORK_TEXT[work]}, beyond that`;
    const moreMs = Math.max(0, value - nothing);
    all.push(work === 'ports' ? told(what, `${moreMs.toFixed(1)} ms`) : below(what, moreMs, 2, 'ms', 1));
  }
  return [...all, ...missing(m.notAvailable)];
}

function missing(notAvailable: Readonly<Record<string, string>>): Figure[] {
  return Object.entries(notAvailable).map(([what, reason]) => told(what, `not available: ${reason.slice(0, 80)}`));
}

/** Rooms by themselves. */
function roomFigures(m: Measurements): Figure[] {
  const all: Figure[] = [];
  if (m.memory !== null) {
    const million = `${m.memory.packets / 1e6} million packets`;
    all.push(atLeast('In memory, learning, 64-byte frames', m.memory.packetsPerSecond / 1e6, 3, 'Mpps'));
    // What the collector leaves differs by some pages from one collection to the next.
    all.push(below(`Heap growth over ${million}`, m.memory.heapGrowthBytes / 1024, 256, 'KiB', 0));
  }
  if (m.module !== null) {
    const { builtInPps, modulePps } = m.module;
    all.push(...ratio("In memory, learning as a user's module, to the same as it comes", modulePps, builtInPps, 0.9));
    all.push(told('The same in Mpps', `${(modulePps / 1e6).toFixed(2)}, ${(builtInPps / 1e6).toFixed(2)}`));
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
  if (m.decide !== null) {
    const { decide } = m;
    const ended = thousands(decide.endedFlows);
    all.push(
      atLeast('Decisions a second, learning behind a filter of 100 rules', decide.decisionsPerSecond, 100_000, '/s', 0),
    );
    all.push(told('Packets whose decision is kept, 1,000 flows', `${(decide.keptPerSecond / 1e6).toFixed(2)} Mpps`));
    all.push(below('End of a flow after a change, among 100,000, p50', decide.endOfOneP50Us, 100, 'us', 0));
    all.push(below(`End of ${ended} flows that rest on one address`, decide.endOfManyMs, 20, 'ms', 1));
  }
  if (m.tables !== null) all.push(...tableFigures(m.tables));
  return all;
}

/** The host's tables. */
function tableFigures(tables: HostTablesBench): Figure[] {
  const routes = thousands(tables.burstRoutes);
  return [
    below("Look-up in the host's tables, 1,000 destinations, IPv4", tables.lookupNs, 150, 'ns', 0),
    below("Look-up in the host's tables, 1,000 destinations, IPv6", tables.lookupIpv6Ns, 150, 'ns', 0),
    below('A new path, asked of Linux, p50', tables.newPathP50Us, 200, 'us', 0),
    below(`${routes} changed routes beside packets: of the thread's time`, tables.burstMs, 500, 'ms', 0),
    below(`${routes} changed routes beside packets: the longest pause`, tables.burstLongestMs, 20, 'ms', 1),
  ];
}

const KIND_TEXT: Readonly<Record<Kind, string>> = {
  udp: 'datagrams',
  tcp: 'SYNs',
  'udp-nat': 'datagrams, translated',
  'tcp-nat': 'SYNs, translated',
};

/** Connections end to end. */
function trackedFigures(m: TrackedFigures | null): Figure[] {
  if (m === null) return [];
  const { perSecond } = m.creation;
  const all: Figure[] = [];
  for (const kind of ['udp', 'tcp', 'udp-nat', 'tcp-nat'] as const) {
    const what = `New connections of ${KIND_TEXT[kind]}`;
    for (const id of ['millrace', 'millrace-tc']) {
      const how = id === 'millrace' ? '' : ', offload tc';
      all.push(...ratio(`${what}${how}, to OVS userspace`, perSecond[id]?.[kind], perSecond.ovs?.[kind], 1));
    }
    const rates = Object.entries(perSecond).flatMap(([id, rates]) => {
      const rate = rates[kind];
      return rate === undefined ? [] : [`${id} ${thousands(rate)}`];
    });
    if (rates.length > 0) all.push(told(`${what}, a second`, rates.join(', ')));
  }
  const of = (id: string) => m.established.find((peer) => peer.id === id);
  const small = (id: string) => deliveredOf(of(id), USUAL_FLOWS);
  all.push(
    ...ratio(
      'Established, offload tc: TCP, to the same without ct',
      of('ct-tc')?.tcpOneBps,
      of('plain-tc')?.tcpOneBps,
      0.95,
    ),
    ...ratio('Established, offload tc: small packets, to the same without ct', small('ct-tc'), small('plain-tc'), 0.8),
    ...ratio(
      'Established, offload xdp: small packets, to the same without ct',
      small('ct-xdp'),
      small('plain-xdp'),
      0.7,
    ),
    ...ratio(
      'Established, engine: TCP, to the same without ct',
      of('ct-off')?.tcpOneBps,
      of('plain-off')?.tcpOneBps,
      0.8,
    ),
  );
  const [engine, without] = [small('ct-off'), small('plain-off')];
  if (engine !== undefined && without !== undefined) {
    all.push(told('Established, engine: small packets, to the same without ct', `${(engine / without).toFixed(2)} x`));
  }
  for (const [id, many] of Object.entries(m.million.many)) {
    const what = `${thousands(many.connections)} connections, ${id}`;
    const aim = (name: string, value: number, wanted: number) =>
      id === 'ovs' ? told(name, `${value.toFixed(2)} s`) : below(name, value, wanted, 's');
    if (many.bytesPerConnection !== undefined) {
      all.push(below(`${what}: memory of each in the kernel`, many.bytesPerConnection, 193, 'bytes', 1));
    }
    all.push(aim(`${what}: ovs-appctl dpctl/dump-conntrack`, many.dumpSeconds, 5));
    if (many.listSeconds !== undefined)
      all.push(told(`${what}: millrace connections list`, `${many.listSeconds.toFixed(2)} s`));
    all.push(aim(`ovs-appctl dpctl/flush-conntrack of a zone of 100,000, ${id}`, many.zoneAloneSeconds, 1));
    all.push(told(`The same among all, ${id}`, `${many.zoneAmongAllSeconds.toFixed(2)} s`));
    if (many.flushSeconds !== undefined) {
      all.push(below(`millrace connections flush of a zone of 100,000 among all, ${id}`, many.flushSeconds, 1, 's'));
    }
  }
  return [...all, ...missing(m.creation.notAvailable), ...missing(m.million.notAvailable)];
}

/** Connections in memory. */
function connectionFigures(m: ConnectionBench | null): Figure[] {
  if (m === null) return [];
  const million = (rate: number) => `${(rate / 1e6).toFixed(2)} M/s`;
  return [
    below('Memory of a connection', m.bytesPerConnection, 193, 'bytes', 0),
    ...ratio('Packets of 1,000,000 connections, to 10,000', m.packetsOfManyPerSecond, m.packetsOfFewPerSecond, 0.7),
    told(
      'Packets of connections, of 10,000 and of 1,000,000',
      `${million(m.packetsOfFewPerSecond)}, ${million(m.packetsOfManyPerSecond)}`,
    ),
    told(
      'Look-ups among 10,000 and 1,000,000',
      `${million(m.lookUpsOfFewPerSecond)}, ${million(m.lookUpsOfManyPerSecond)}`,
    ),
    atLeast('Connections made a second', m.createdPerSecond, 130_000, '/s', 0),
    atLeast('Connections made a second, with NAT', m.createdWithNatPerSecond, 130_000, '/s', 0),
    told('Connections made in a full table', `${thousands(m.createdInFullTablePerSecond)} /s`),
    below('Dump of 1,000,000 connections', m.dumpSeconds, 5, 's'),
    told('Walk over 1,000,000 connections, adoption', `${m.walkSeconds.toFixed(2)} s, ${m.adoptSeconds.toFixed(2)} s`),
    below('Flush of a zone of 100,000 among 1,000,000', m.flushOfZoneSeconds, 1, 's'),
    ...(['tc', 'xdp'] as const).flatMap((hook) => {
      const cost = m.tracking?.[hook];
      if (cost === undefined) return [];
      const beyond = (ns: number) => `${Math.round(ns - cost.parsedNs)} ns`;
      return [
        told(
          `A packet of an established connection at ${hook}, beyond parsing`,
          `${beyond(cost.trackedNs)}, translated ${beyond(cost.translatedNs)}`,
        ),
      ];
    }),
  ];
}

/** Tunnels in memory. */
function tunnelFigures(m: TunnelBench | null): Figure[] {
  if (m === null) return [];
  const million = (rate: number) => (rate / 1e6).toFixed(2);
  const kinds = Object.entries(m.byKind).map(
    ([title, { encapsulatedPerSecond, decapsulatedPerSecond, bothPerSecond }]) =>
      told(
        `${title}: packets in, out, in and out`,
        `${million(encapsulatedPerSecond)}, ${million(decapsulatedPerSecond)}, ${million(bothPerSecond)} M/s`,
      ),
  );
  return [...kinds, told('Super-packets of 64 KB into VXLAN', `${(m.superPacketBps / 1e9).toFixed(1)} Gbit/s`)];
}
