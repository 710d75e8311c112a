/**
 * The table of connections in memory, driven by packets: look-ups among 10,000 and 1,000,000 connections, one-packet connections made a second with and without NAT, memory of a connection, a dump of a million and the
 * flush of a zone of 100,000. Figures are by processor time of the process, so that others' load does not count. Short runs: they are for comparing with themselves.
 */
import { performance } from 'node:perf_hooks';
import { PrivilegeError } from '../src/bpf/index.ts';
import {
  ConnectionAction,
  ConnectionTable,
  describeConnection,
  kindOf,
  type NatTarget,
  plainMemory,
  Tracked,
  Tracker,
  Tuple,
  TupleWord,
} from '../src/connections/index.ts';
import { HeaderOffsets, IpProtocol, Packet, Region } from '../src/net/index.ts';
import { median } from './statistics.ts';
import { benchTracking, type TrackingCost } from './tracking.ts';

/** Figures of connections. */
export interface ConnectionBench {
  /** Packets a second of connections that are there, each of another one than the packet before: headers read, connection looked up, state gone on. */
  packetsOfFewPerSecond: number;
  packetsOfManyPerSecond: number;
  /** The same without packets: tuples are looked up. */
  lookUpsOfFewPerSecond: number;
  lookUpsOfManyPerSecond: number;
  /** Connections a second, each of one packet. */
  createdPerSecond: number;
  createdWithNatPerSecond: number;
  /** Connections a second that take the place of others in a full table. */
  createdInFullTablePerSecond: number;
  bytesPerConnection: number;
  /** Seconds that a walk over the many takes, and one that makes plain data of each. */
  walkSeconds: number;
  dumpSeconds: number;
  flushOfZoneSeconds: number;
  /** Seconds that another process needs until the table is its own. */
  adoptSeconds: number;
  /** Packets in programs at tc and xdp; null where programs cannot be loaded. */
  tracking: Readonly<Record<'tc' | 'xdp', TrackingCost>> | null;
}

const FEW = 10_000;
const MANY = 1_000_000;
const IN_ZONE = 100_000;
/** A prime number: neighbours in time are no neighbours in memory. */
const STEP = 7919;
const SECRET = [0x243f_6a88, 0x85a3_08d3 | 0] as const;
/** Where the source address and the ports of the frame are. */
const ADDRESS = 26;
const PORTS = 34;

class World {
  nowMs = 1;
  readonly table: ConnectionTable;
  readonly tracker: Tracker;
  readonly memory: ReturnType<typeof plainMemory>;
  readonly #packet: Packet;
  readonly #headers = new HeaderOffsets();
  readonly #tracked = new Tracked();

  constructor(capacity: number) {
    this.memory = plainMemory(capacity);
    this.table = ConnectionTable.format(this.memory, capacity, SECRET, { nowMs: () => this.nowMs });
    this.tracker = new Tracker({ table: this.table });
    const bytes = new Uint8Array(64);
    bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0]);
    bytes.set([10, 0, 0, 0, 172, 16, 0, 1, 0x10, 0, 0, 53, 0, 30, 0, 0], ADDRESS);
    this.#packet = new Packet({ recycle: () => {} }, new Region(bytes.buffer), 0);
    this.#packet.length = bytes.length;
    this.#packet.limit = bytes.length;
  }

  /** Track the packet of a connection's number. @returns whether it may go on */
  send(number: number, action: ConnectionAction): boolean {
    const { bytes } = this.#packet;
    bytes[ADDRESS] = 10;
    bytes[ADDRESS + 1] = number >>> 16;
    bytes[ADDRESS + 2] = number >>> 8;
    bytes[ADDRESS + 3] = number;
    bytes[PORTS] = 0x10;
    bytes[PORTS + 1] = number >>> 20;
    this.#headers.parse(this.#packet);
    this.#tracked.state = 0;
    return this.tracker.track(this.#packet, this.#headers, action, this.#tracked, 1) === 0;
  }

  /** The record of the packet that was sent last. */
  get record(): number {
    return this.#tracked.record;
  }
}

/** Calls a second by processor time. */
function rate(seconds: number, each: number, run: (count: number) => void): number {
  let done = 0;
  const start = performance.now();
  const cpu = process.cpuUsage();
  while (performance.now() - start < seconds * 1000) {
    run(each);
    done += each;
  }
  const used = process.cpuUsage(cpu);
  return done / ((used.user + used.system) / 1e6);
}

function secondsOf(run: () => void): number {
  const times: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    const cpu = process.cpuUsage();
    run();
    const used = process.cpuUsage(cpu);
    times.push((used.user + used.system) / 1e6);
  }
  return median(times);
}

function filled(connections: number): World {
  // The last sixteenth of a table is for others.
  const world = new World(Math.ceil((connections * 16) / 15) + 1);
  const plain = new ConnectionAction({ commit: true });
  const inZone = new ConnectionAction({ commit: true, zone: 7 });
  for (let number = 0; number < connections; number += 1) {
    const isInZone = connections === MANY && number >= MANY - IN_ZONE;
    if (!world.send(number, isInZone ? inZone : plain)) throw new Error(`connection ${number} was not made`);
  }
  return world;
}

function lookUps(world: World, connections: number, seconds: number): { packets: number; finds: number } {
  const action = new ConnectionAction({});
  const numbers = connections === MANY ? MANY - IN_ZONE : connections;
  let number = 0;
  const packets = (count: number) => {
    for (let i = 0; i < count; i += 1) {
      world.send(number, action);
      if (world.record === 0) throw new Error(`connection ${number} was not found`);
      number = (number + STEP) % numbers;
    }
  };
  rate(seconds / 2, 10_000, packets);
  const packetsPerSecond = rate(seconds, 10_000, packets);
  const { table } = world;
  const tuple = new Tuple();
  tuple.kind = kindOf(0, IpProtocol.UDP, false);
  tuple.words[TupleWord.DESTINATION] = 0xac10_0001 | 0;
  const finds = (count: number) => {
    for (let i = 0; i < count; i += 1) {
      tuple.words[TupleWord.SOURCE] = 0x0a00_0000 | number;
      tuple.words[TupleWord.PORTS] = 0x1000_0035 | ((number >>> 20) << 16);
      if (table.find(tuple, 1) === 0) throw new Error(`connection ${number} was not found`);
      number = (number + STEP) % numbers;
    }
  };
  rate(seconds / 2, 10_000, finds);
  const findsPerSecond = rate(seconds, 10_000, finds);
  return { packets: packetsPerSecond, finds: findsPerSecond };
}

function creations(seconds: number, nat?: { readonly source: NatTarget }): number {
  const capacity = 200_000;
  const action = new ConnectionAction({ commit: true, ...(nat === undefined ? {} : { nat }) });
  const world = new World(capacity);
  let number = 0;
  const run = (count: number) => {
    for (let i = 0; i < count; i += 1) {
      if (!world.send(number, action)) throw new Error(`connection ${number} was not made`);
      number = (number + 1) % 16_000_000;
    }
    // Time goes on by as much as keeps half of the table in use.
    world.nowMs += (30_000 * count) / (capacity / 2);
    world.table.sweep(count * 2);
  };
  rate(seconds, 1000, run);
  return rate(seconds, 1000, run);
}

function creationsInFullTable(seconds: number): number {
  const world = new World(100_000);
  const action = new ConnectionAction({ commit: true });
  let number = 0;
  const run = (count: number) => {
    for (let i = 0; i < count; i += 1) {
      if (!world.send(number, action)) throw new Error(`connection ${number} was not made`);
      number = (number + 1) % 16_000_000;
    }
  };
  rate(seconds, 1000, run);
  return rate(seconds, 1000, run);
}

function trackingCosts(): ConnectionBench['tracking'] {
  try {
    return { tc: benchTracking('tc'), xdp: benchTracking('xdp') };
  } catch (error) {
    if (error instanceof PrivilegeError) return null;
    throw error;
  }
}

/** @param options.seconds length of each measurement */
export function benchConnections(options: { seconds?: number } = {}): ConnectionBench {
  const seconds = options.seconds ?? 1;
  const few = lookUps(filled(FEW), FEW, seconds);
  const world = filled(MANY);
  const many = lookUps(world, MANY, seconds);
  const { memory, table } = world;
  let visited = 0;
  const walkAll = (visit: (record: number) => void) => {
    for (let from = 1; from !== 0; ) from = table.walk(from, 10_000, visit);
  };
  const walkSeconds = secondsOf(() => {
    walkAll(() => {
      visited += 1;
    });
  });
  const dumpSeconds = secondsOf(() => {
    walkAll((record) => {
      visited += describeConnection(table, record).zone === 7 ? 1 : 0;
    });
  });
  if (visited !== 3 * (MANY + IN_ZONE)) throw new Error(`${visited} connections were visited`);
  table.sweep(1);
  const adoptSeconds = secondsOf(() => {
    const { report } = ConnectionTable.adopt(memory, { nowMs: () => world.nowMs });
    if (report.connections !== MANY) throw new Error(`${report.connections} connections were adopted`);
  });
  const cpu = process.cpuUsage();
  const flushed = table.flush((record) => table.records[table.at(record)] >>> 16 === 7);
  const used = process.cpuUsage(cpu);
  if (flushed !== IN_ZONE) throw new Error(`${flushed} connections were flushed`);
  const source: NatTarget = { addresses: ['198.51.100.1', '198.51.100.8'] };
  return {
    packetsOfFewPerSecond: few.packets,
    packetsOfManyPerSecond: many.packets,
    lookUpsOfFewPerSecond: few.finds,
    lookUpsOfManyPerSecond: many.finds,
    createdPerSecond: creations(seconds),
    createdWithNatPerSecond: creations(seconds, { source }),
    createdInFullTablePerSecond: creationsInFullTable(seconds),
    bytesPerConnection: (memory.index.byteLength + memory.records.byteLength) / table.capacity,
    walkSeconds,
    dumpSeconds,
    flushOfZoneSeconds: (used.user + used.system) / 1e6,
    adoptSeconds,
    tracking: trackingCosts(),
  };
}
