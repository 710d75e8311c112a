/**
 * For tests of deciders and of extensions: two switches that get the same packets and the same orders. One has nobody who runs flows;
 * the other has a carrier that takes every packet for which there is a flow, as a kernel would, and tells of it only when asked.
 * What leaves must be the same, byte for byte.
 */
import { expect } from 'vitest';
import {
  Action,
  actionType,
  Ct,
  Datapath,
  Drop,
  extract,
  FlowKey,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  KEY_WORDS,
  type OfferedFlows,
  outcomeOf,
  Word,
} from '../../../flow/index.ts';
import {
  applyTagAction,
  Batch,
  ClonePool,
  exceedsMtu,
  HeaderOffsets,
  type KeyPort,
  type Packet,
  PacketPool,
  type PortId,
  toPortId,
} from '../../../net/index.ts';
import {
  createSwitch,
  type ExtensionFactory,
  type NicBackend,
  type PortPropertyType,
  type SwitchOptions,
  type VirtualSwitch,
} from '../../index.ts';

/** One frame that left a port, with its offload metadata. */
export interface Left {
  readonly port: number;
  readonly bytes: string;
}

/** Connections of a switch, and how those know them who run flows: KnownConnections of flow/testing/. */
export interface Tracking {
  readonly connections: unknown;
  /** @returns the state of a packet that they go on with; 0 for one that comes up */
  track(packet: Packet, zone: number): number;
  list(): readonly string[];
}

interface Pending {
  packets: number;
  bytes: number;
  usedMs: number;
}

/** A clock and timers that move only when told to. */
class Clock {
  nowMs = 1_000_000;
  #timers: { readonly dueMs: number; readonly callback: () => void }[] = [];

  readonly setTimer = (delayMs: number, callback: () => void): { cancel(): void } => {
    const timer = { dueMs: this.nowMs + delayMs, callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  };

  advance(ms: number): void {
    this.nowMs += ms;
    const due = this.#timers.filter((timer) => timer.dueMs <= this.nowMs);
    this.#timers = this.#timers.filter((timer) => timer.dueMs > this.nowMs);
    for (const timer of due) timer.callback();
  }
}

/** A NIC that notes every frame as it is on the wire. */
class WireNic implements NicBackend {
  readonly #portId: number;
  readonly #left: Left[];
  readonly #pool: PacketPool;

  constructor(portId: number, left: Left[], pool: PacketPool) {
    this.#portId = portId;
    this.#left = left;
    this.#pool = pool;
  }

  transmit(packet: Packet, tag: number): void {
    const out = filled(this.#pool, packet.frame());
    out.copyMetadata(packet);
    expect(applyTagAction(out, tag)).toBe(0);
    this.#left.push(leaving(this.#portId, out));
    out.release();
  }

  flush(): void {}
}

function filled(pool: PacketPool, bytes: Uint8Array): Packet {
  const packet = pool.allocate();
  if (packet === null) throw new Error('packets were lost');
  packet.bytes.set(bytes, packet.offset);
  packet.length = bytes.length;
  return packet;
}

/** Runs flows in memory. */
export class Carrier implements FlowRegistry {
  readonly strict: boolean;
  /** Tables that are offered. */
  readonly #sources = new Set<FlowSource>();
  carriedPackets = 0;
  /** It takes no packet: all come up. */
  isAway = false;
  readonly #clock: Clock;
  readonly #mtuBytes: (portId: number) => number;
  readonly #pending = new Map<FlowSource, Map<number, Pending>>();
  readonly #key = new FlowKey();
  readonly #headers = new HeaderOffsets();
  readonly #sent: Left[] = [];
  readonly #datapath: Datapath;
  readonly #tracking: Tracking | null;

  constructor(clock: Clock, mtuBytes: (portId: number) => number, strict: boolean, tracking: Tracking | null) {
    this.#tracking = tracking;
    this.strict = strict;
    this.#clock = clock;
    this.#mtuBytes = mtuBytes;
    this.#datapath = new Datapath({
      hooks: { output: (packet, port) => this.#sent.push(leaving(port, packet)) },
      nowMs: () => clock.nowMs,
      pool: new PacketPool({ packets: 16, bufferBytes: 4096, headroomBytes: 128 }),
      clones: new ClonePool(16),
    });
  }

  /** The table that has flows of ports: the last that was offered, when several do. */
  get source(): FlowSource | null {
    return [...this.#sources].at(-1) ?? null;
  }

  register(source: FlowSource): FlowRegistration {
    this.#sources.add(source);
    const stop = source.table.observe({
      flowAdded: () => {},
      flowModified: () => {},
      flowRemoved: (slot) => this.#bring(source, slot),
      flowsFlushed: () => this.#bring(source, -1),
      statisticsWanted: (slot) => this.#bring(source, slot),
    });
    return {
      portsChanged: () => {},
      close: () => {
        this.#bring(source, -1);
        stop();
        this.#sources.delete(source);
      },
    };
  }

  /** Tell of all that was carried. */
  bringAll(): void {
    for (const source of this.#sources) this.#bring(source, -1);
  }

  #bring(source: FlowSource, slot: number): void {
    const pending = this.#pending.get(source);
    for (const [one, { packets, bytes, usedMs }] of [...(pending ?? [])]) {
      if (slot !== -1 && one !== slot) continue;
      pending?.delete(one);
      source.table.addCounts(one, packets, bytes, 0, usedMs);
      source.carried?.(one, packets, bytes);
    }
  }

  /** What leaves by a flow, or null when there is none for the packet. */
  carry(packet: Packet, portId: PortId): readonly Left[] | null {
    if (this.isAway) return null;
    const source = [...this.#sources].find((one) => one.numberOf(portId) !== -1);
    if (source === undefined || !isOpen(source, portId)) return null;
    const number = source.numberOf(portId);
    if (number === -1) return null;
    const key = this.#key;
    key.begin(number);
    if (extract(packet, key) !== 0 || !this.#isSound(packet, portId)) return null;
    const first = source.table.match(key.words);
    const slot = first === -1 ? -1 : this.#trackedSlot(source, packet, first);
    if (slot === -1) return null;
    const isDeep = source.table.maskOf(slot).words[Word.IP] !== 0;
    if (isDeep) expect(this.strict).toBe(true);
    if (isDeep && this.#headers.parse(packet) !== 0) return null;
    const actions = source.table.actionsOf(slot);
    // What leads somewhere else with each packet could not be counted, and nothing is looked up again here.
    const outcome = outcomeOf(actions, 0, actions.length);
    if (outcome === null || outcome.isSentOn || !outcome.outputs.every((to) => this.#mayLeave(packet, source, to)))
      return null;
    this.#sent.length = 0;
    const { drops } = this.#datapath;
    const before = drops.of(Drop.TIME_EXCEEDED);
    packet.hold();
    this.#datapath.execute(packet, key, actions);
    // Whose time is up comes up.
    if (drops.of(Drop.TIME_EXCEEDED) !== before) return null;
    for (const each of new Set([first, slot])) this.#count(source, each, packet.length);
    this.carriedPackets += 1;
    return [...this.#sent];
  }

  #count(source: FlowSource, slot: number, bytes: number): void {
    const all = this.#pending.get(source) ?? new Map<number, Pending>();
    this.#pending.set(source, all);
    const pending = all.get(slot) ?? { packets: 0, bytes: 0, usedMs: 0 };
    all.set(slot, pending);
    pending.packets += 1;
    pending.bytes += bytes;
    pending.usedMs = this.#clock.nowMs;
  }

  /** The flow that packets of a flow fall to, if that has them tracked and looked up again; else that flow. @returns -1 for a packet that comes up */
  #trackedSlot(source: FlowSource, packet: Packet, slot: number): number {
    const actions = source.table.actionsOf(slot);
    if (actions.length === 0 || actionType(actions[0]) !== Action.CT) return slot;
    expect(source.beginsAnew).toBeDefined();
    const state = this.#tracking?.track(packet, actions[Ct.ZONE]) ?? 0;
    if (state === 0) return -1;
    const { words } = this.#key;
    words[Word.CT] = (state << 24) | actions[Ct.ZONE];
    words[Word.RECIRC_ID] = actions[actions.length - 1];
    const found = source.table.match(words);
    // A packet that has come so far counts where it was tracked, and comes in anew.
    if (found === -1) this.#count(source, slot, packet.length);
    return found;
  }

  /** Frames that are too long for a port come up, and so do those for a port that is not open. */
  #mayLeave(packet: Packet, source: FlowSource, number: KeyPort): boolean {
    const portId = source.portIdOf(number);
    if (portId === -1) return false;
    const mtuBytes = this.#mtuBytes(portId);
    return isOpen(source, portId) && (mtuBytes === 0 || !exceedsMtu(packet, mtuBytes));
  }

  /** What holds for all flows: no 802.3, and nothing that is too long for its port. */
  #isSound(packet: Packet, portId: number): boolean {
    let at = packet.offset + 12;
    let type = 0x8100;
    for (; type === 0x8100 || type === 0x88a8; at += 4) type = (packet.bytes[at] << 8) | packet.bytes[at + 1];
    const mtuBytes = this.#mtuBytes(portId);
    return type >= 0x600 && (mtuBytes === 0 || !exceedsMtu(packet, mtuBytes));
  }
}

/** Whether flows of a table may take packets of a port, and send there. */
function isOpen(source: FlowSource, portId: PortId): boolean {
  return source.isOpen?.(portId) ?? true;
}

function leaving(port: number, packet: Packet): Left {
  const { checksum, checksumStart, checksumOffset, gsoType } = packet;
  const meta = checksum === 1 ? ` ${checksumStart} ${checksumOffset}` : '';
  return { port, bytes: `${Buffer.from(packet.frame()).toString('hex')}${meta} ${gsoType}` };
}

/** Makes what {@link Tracking} is of one switch, by its clock. */
export type MakeTracking = (nowMs: () => number) => Tracking;

/** A switch of the pair. */
class Side {
  readonly clock = new Clock();
  readonly pool = new PacketPool({ packets: 64, bufferBytes: 4096, headroomBytes: 128 });
  readonly left: Left[] = [];
  readonly sw: VirtualSwitch;
  readonly tracking: Tracking | null;
  /** What its extensions find beside it; others may be added before these are enabled. */
  readonly services: Record<string, unknown>;

  constructor(services: Record<string, unknown>, options: Partial<SwitchOptions>, track: MakeTracking | null) {
    this.services = services;
    const { clock } = this;
    this.tracking = track === null ? null : track(() => clock.nowMs);
    if (this.tracking !== null) services.connections = this.tracking.connections;
    const host = {
      nowMs: () => clock.nowMs,
      log: () => {},
      setTimer: clock.setTimer,
      services,
    };
    this.sw = createSwitch({ name: 'side', host, verifyData: true, ...options });
    this.sw.onEvent((event) => {
      if (event.type === 'extension-failed') throw event.error;
    });
    this.sw.activate().result();
  }

  nic(portId: number): NicBackend {
    return new WireNic(portId, this.left, this.pool);
  }

  /** Let the switch have a packet. */
  receive(packet: Packet, portId: number): Left[] {
    const batch = new Batch();
    batch.push(packet);
    this.sw.receive(portId, 0, batch);
    return this.left.splice(0).sort(byPort);
  }
}

function byPort(a: Left, b: Left): number {
  return a.port - b.port || (a.bytes < b.bytes ? -1 : Number(a.bytes > b.bytes));
}

/** Two switches that must not differ. */
export class Twins {
  readonly carrier: Carrier;
  /** Without and with a carrier. */
  readonly plain: Side;
  readonly quick: Side;
  /** Packets that flows carried, of all that were sent, and those of them that went nowhere. */
  carried = 0;
  dropped = 0;

  /**
   * @param strict the carrier looks at headers closely
   * @param track left out, nobody tracks packets but the switches themselves
   */
  constructor(options: Partial<SwitchOptions> = {}, strict = true, track: MakeTracking | null = null) {
    this.plain = new Side({}, options, track);
    this.quick = new Side({}, options, track);
    this.carrier = new Carrier(this.quick.clock, (portId) => this.#mtuOf(portId), strict, this.quick.tracking);
    this.quick.services.flows = this.carrier;
  }

  #mtuOf(portId: number): number {
    return this.quick.sw.ports().find((port) => port.portId === portId)?.nics[0]?.mtuBytes ?? 0;
  }

  /** The same order for both; it must end alike. */
  both<T>(order: (sw: VirtualSwitch, side: Side) => T): T {
    const outcome = (side: Side): { value?: T; error?: string } => {
      try {
        return { value: order(side.sw, side) };
      } catch (error) {
        return { error: String(error) };
      }
    };
    const plain = outcome(this.plain);
    const quick = outcome(this.quick);
    expect(quick.error).toBe(plain.error);
    if (quick.error !== undefined) throw new Error(quick.error);
    return quick.value as T;
  }

  enable(factory: ExtensionFactory, configuration: unknown = {}): void {
    this.both((sw) => sw.enableExtension(factory, configuration).result());
  }

  addPort(portId: number, options: { mtuBytes?: number; type?: 'external'; macAddress?: Uint8Array } = {}): void {
    const { type, ...nic } = options;
    this.both((sw, side) => {
      sw.createPort({ portId, name: `p${portId}`, ...(type === undefined ? {} : { type }) }).result();
      sw.createNic(portId, { name: `n${portId}`, backend: side.nic(portId), ...nic }).result();
      sw.connectNic(portId).result();
    });
  }

  /** A port has a property from now on. */
  set(portId: number, property: object): void {
    this.both((sw) => sw.setPortProperty(portId, property).result());
  }

  unset(portId: number, type: PortPropertyType): void {
    this.both((sw) => sw.deletePortProperty(portId, type).result());
  }

  /** A frame comes in at both; what leaves must be the same. @returns the ports it left through */
  send(portId: number, bytes: Uint8Array, change: (packet: Packet) => void = () => {}): number[] {
    const [plain, packet] = [this.plain, this.quick].map(({ pool }) => filled(pool, bytes));
    change(plain);
    change(packet);
    const expected = this.plain.receive(plain, portId);
    const carried = this.carrier.carry(packet, toPortId(portId));
    if (carried === null) {
      expect(this.quick.receive(packet, portId)).toEqual(expected);
    } else {
      packet.release();
      this.carried += 1;
      if (carried.length === 0) this.dropped += 1;
      expect([...carried].sort(byPort)).toEqual(expected);
    }
    this.checkPools();
    return expected.map((left) => left.port);
  }

  checkPools(): void {
    for (const { pool } of [this.plain, this.quick]) expect(pool.available).toBe(pool.capacity);
  }

  advance(ms: number): void {
    this.plain.clock.advance(ms);
    this.quick.clock.advance(ms);
  }

  /** Flows in the table now. */
  get flows(): number {
    return this.carrier.source?.table.size ?? 0;
  }

  /** Those of them that drop. */
  get dropFlows(): number {
    return this.#countFlows((table, slot) => table.actionsOf(slot).length === 0);
  }

  /** Those of them that go from one host to another. */
  get unicastFlows(): number {
    const key = new Uint32Array(KEY_WORDS);
    return this.#countFlows((table, slot) => {
      table.readKey(slot, key);
      return (key[Word.MAC] & 0x0100_0000) === 0 && table.actionsOf(slot).length > 0;
    });
  }

  #countFlows(counts: (table: OfferedFlows, slot: number) => boolean): number {
    const table = this.carrier.source?.table;
    let count = 0;
    if (table === undefined) return 0;
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) if (counts(table, slot)) count += 1;
    return count;
  }

  /**
   * What both say of addresses, ports and extensions, after everything that was carried has been told.
   * @param ages addresses have aged; when one that has is seen again, it is at random whether it counts as learned anew
   * @param sums of the switch must agree, too: false where packets are changed, which counts as consumed and originated on one side alone, and
   *   changes their length
   */
  compare({ ages = false, sums = true }: { readonly ages?: boolean; readonly sums?: boolean } = {}): void {
    this.carrier.bringAll();
    const view = (sw: VirtualSwitch): unknown => ({
      entries: sw.extensions().some((one) => one.name === 'learning')
        ? sw.extensionCommand('learning', 'show', null)
        : null,
      ports: sw.ports().map((port) => ({
        // Elsewhere bytes are counted as they came in.
        counters: sums ? port.counters : { ...port.counters, transmittedBytes: 0 },
        // Numbers of reasons follow the order in which they came up.
        drops: sw
          .drops(port.portId)
          .map(({ name, packets }) => `${name} ${packets}`)
          .sort(),
      })),
      counters: sums ? sw.counters : null,
      extensions: sw
        .extensions()
        .map(({ name, counters: { learned, ...rest } }) => ({ name, learned: ages ? 0 : learned, rest })),
      filter: sw.extensions().some((one) => one.name === 'filter') ? sw.extensionStatus('filter') : null,
    });
    expect(view(this.quick.sw)).toEqual(view(this.plain.sw));
    expect(this.quick.tracking?.list()).toEqual(this.plain.tracking?.list());
  }
}

/** Twins with ports 1 to 4. @param factories extensions, each on top of its kind */
export function twins(...factories: ExtensionFactory[]): Twins {
  const pair = new Twins();
  for (const factory of factories) pair.enable(factory);
  for (let port = 1; port <= 4; port += 1) pair.addPort(port);
  return pair;
}
