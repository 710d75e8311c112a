/**
 * FlowOffload: watches a flow table and keeps in the kernel what eBPF can carry of it. A put, a change or a removal is a few stores to
 * mapped memory; other programs are made only when the set of masks or shapes changes, and attached by the caller. flow-hooks.ts knows at
 * which hook a flow belongs, placement.ts tables, programs.ts programs, adopt.ts what a former process left, show.ts what people see.
 */
import { possibleCpus, tickClock } from '../../bpf/index.ts';
import type { FlowObserver, FlowTable } from '../../flow/index.ts';
import type { CompileContext } from '../actions/contract.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import type { CopyMaps } from '../copies/layout.ts';
import { HashSecrets } from '../layout/hash.ts';
import { MASK_NUMBERS, MAXIMUM_ENTRIES, SHAPE_NUMBERS } from '../layout/limits.ts';
import { MappedTables } from '../layout/mapped-tables.ts';
import { type Description, OffloadMaps } from '../layout/maps.ts';
import { PortTable } from '../layout/port-table.ts';
import { PortFlag, TableSizes } from '../layout/sizes.ts';
import type { Refused } from '../program/load.ts';
import type { Observer } from '../program/plan.ts';
import type { Stage } from '../program/stage.ts';
import { atOnce, type Workshop } from '../workshop/workshop.ts';
import { adoptEntries } from './adopt.ts';
import { FlowHooks } from './flow-hooks.ts';
import { HookState } from './hook-state.ts';
import type { LeftFlow, LeftFlows } from './left-flows.ts';
import { MaskShares } from './mask-shares.ts';
import { freeNumbers } from './numbers.ts';
import type { OrderOptions } from './order.ts';
import { Placement } from './placement.ts';
import { isSamePort, type OffloadPort, OffloadPorts } from './ports.ts';
import { type Installation, Programs } from './programs.ts';

export interface FlowOffloadOptions extends OrderOptions {
  readonly table: FlowTable;
  /** Attach and pin programs. When it throws, the former stay in use, and poll throws the same. */
  install(installation: Installation): void;
  /** The verifier takes no program for a hook, or not some flows. With `ports`, the hook's ports have to run on the engine. */
  refused?(refusal: Refused, hookIsLost: boolean): void;
  /** Programs can no longer make the copies that were asked for: packets of which some are wanted have to come up. */
  copiesRefused?(refusal: Refused): void;
  /** What was carried of a flow since it was last told. */
  carried?(slot: number, packets: number, bytes: number): void;
  /** Packets that a port's program had handed up and that have not come: the punt channel had no room, or nobody was there. */
  lost?(ifindex: number, packets: number): void;
  /** Flows ask for more masks than programs look up: those that carry most have a place from now on. @param port that asks for most, and how many */
  masksFull?(port: number, masks: number): void;
  /** Most packets that are on their way through the punt channel. Left out, what is lost is found when nothing moves on a port. */
  readonly mostUnderWay?: number;
  /** Why a port of this number was not told of, where that is known; see {@link OffloadPorts.absenceOf}. */
  absence?(number: number): string | null;
  /**
   * Whether packets that were changed and not found when they were looked up again can go on in the engine: they come up with a resume record of
   * flow/. False when left out; flows that do so are then refused.
   */
  readonly resumes?: boolean;
  /** The secret of the engine's hash action. */
  readonly hashSecret?: { readonly low: number; readonly high: number };
  /** Most entries, a power of two; a flow may take one at each hook. 262,144 when left out. */
  readonly maximumEntries?: number;
  /** Entries to begin with; 16,384 when left out. */
  readonly initialEntries?: number;
  /** Entries that are copied in one call of poll while larger tables are filled; 512 when left out. */
  readonly stepEntries?: number;
  /** What a former process has left, from OffloadMaps.open. */
  readonly adopt?: { readonly maps: OffloadMaps; readonly description: Description };
  /** Stages of programs beside those that all have. Who wants their maps to outlive the process pins them. */
  readonly stages?: readonly Stage[];
  /** Where programs and larger tables are made; left out, the thread that polls makes them. */
  readonly workshop?: Workshop;
  /** For tests. */
  readonly observe?: Observer;
}

/** How long nothing must move on a port until what is missing counts as lost. */
const QUIET_MS = 20;
/** Reading all counts takes at most one part in so many of the time, however often somebody asks. */
const SYNC_SHARE = 8;
/** With more flows counts are read some at a time, so many in one call of poll. */
const SYNC_AT_ONCE = 4096;
const SYNC_FLOWS = 512;

export class FlowOffload implements FlowObserver {
  readonly table: FlowTable;
  readonly ports: OffloadPorts;
  readonly tc: HookState;
  readonly xdp: HookState;
  readonly placement: Placement;
  readonly programs: Programs;
  readonly #options: FlowOffloadOptions;
  readonly #portTable: PortTable;
  readonly #flows: FlowHooks;
  readonly #shares: readonly MaskShares[];
  #quietAtMs = 0;
  /** What was seen of each port, and how often in turn. */
  readonly #activity = new Map<number, { readonly state: number; readonly looks: number }>();
  readonly #left: LeftFlows | null;
  #refusals = 0;
  /** When all counts were last read, and how long that took. */
  #syncedMs = Number.NEGATIVE_INFINITY;
  #syncTookMs = 0;
  /** The next flow whose counts are to be read by {@link poll}; -1 for none. */
  #syncAt = -1;

  /** @throws UnsupportedError, PrivilegeError, SystemError when maps cannot be made */
  constructor(options: FlowOffloadOptions) {
    this.#options = options;
    this.table = options.table;
    this.ports = new OffloadPorts(options.absence);
    const { adopt } = options;
    const maximumEntries = Math.min(options.maximumEntries ?? 1 << 18, MAXIMUM_ENTRIES);
    const initialEntries = Math.min(options.initialEntries ?? 1 << 14, maximumEntries);
    const maps =
      adopt?.maps ??
      OffloadMaps.create(
        new TableSizes({
          entries: initialEntries,
          keyWords: 11,
          parameterWords: 16,
          cpus: cpuParts(),
        }),
      );
    const secrets = new HashSecrets(adopt === undefined ? undefined : Uint32Array.from(adopt.description.secrets));
    const tables = new MappedTables(maps, secrets);
    this.#portTable = new PortTable(maps);
    this.placement = new Placement(tables, this.#portTable, options);
    const taken = (list: readonly { readonly number: number }[] = []) => new Set(list.map(({ number }) => number));
    const maskNumbers = freeNumbers(MASK_NUMBERS, taken(adopt?.description.masks));
    const shapeNumbers = freeNumbers(SHAPE_NUMBERS, taken(adopt?.description.shapes));
    this.tc = new HookState('tc', maskNumbers, shapeNumbers);
    this.xdp = new HookState('xdp', maskNumbers, shapeNumbers);
    const programs = () => this.programs;
    const contextOf = (hook: 'tc' | 'xdp'): CompileContext => ({
      hook,
      port: (number) => this.ports.target(number),
      absenceOf: (number) => this.ports.absenceOf(number),
      resumes: options.resumes ?? false,
      get connections() {
        return programs().connections !== null;
      },
      ...(options.hashSecret === undefined ? {} : { hashSecret: options.hashSecret }),
    });
    this.programs = new Programs(this.placement, this.#states, secrets, {
      initialEntries,
      maximumEntries,
      mayBeginAnew: () => this.isReconciled,
      begunAnew: () => this.#flows.recheckAll(),
      nowMs: options.nowMs,
      install: (installation) => options.install(installation),
      refused: (refusal) => this.#refused(refusal),
      copiesRefused: (refusal) => options.copiesRefused?.(refusal),
      workshop: options.workshop ?? atOnce,
      stepEntries: options.stepEntries ?? 512,
      clock: tickClock() ?? 'ktime_get_ns',
      ...(options.stages === undefined ? {} : { stages: options.stages }),
      ...(options.observe === undefined ? {} : { observe: options.observe }),
    });
    this.#flows = new FlowHooks({
      table: this.table,
      ports: this.ports,
      tc: this.tc,
      xdp: this.xdp,
      placement: this.placement,
      contexts: { tc: contextOf('tc'), xdp: contextOf('xdp') },
      canGrow: () => this.programs.canGrow,
    });
    this.#shares = this.#states.map(
      (state) =>
        new MaskShares(state, {
          table: this.table,
          placement: this.placement,
          consider: (slot) => this.#flows.consider(slot),
          turnedOut: (of, slot) => this.#flows.turnedOut(of, slot),
          full: (port, masks) => options.masksFull?.(port, masks),
        }),
    );
    this.#left =
      adopt === undefined ? null : adoptEntries(adopt.description, this.placement, this.#portTable, this.#states);
    this.table.observe(this);
    if (this.table.size > 0) this.#flows.recheckAll();
  }

  get #states(): readonly HookState[] {
    return [this.tc, this.xdp];
  }

  /** All maps, to be pinned. Others after an installation with `newMaps`. */
  get maps(): OffloadMaps {
    return this.placement.tables.maps;
  }

  // Ports.

  /**
   * A port is there, or is another than before.
   * @returns null, or why its packets stay with the engine; it can still be sent to
   */
  setPort(port: OffloadPort): string | null {
    const before = this.ports.get(port.ifindex);
    const { devices } = this.maps.maps;
    let hook = port.hook;
    let reason: string | null = null;
    if (hook === null) this.#takeOut(port.ifindex);
    else {
      const { ifindex, number, puntIfindex, tapLike, mtuBytes = 0 } = port;
      this.#left?.portIs(ifindex, number);
      // One of a former process has had its programs all the time, or had only just got them.
      const isKnown = this.#portTable.has(ifindex) && !this.#portTable.isHeld(ifindex);
      const isNew = before === undefined ? !isKnown : before.hook === null;
      const flags = (tapLike ? PortFlag.EGRESS : 0) | (hook === 'xdp' ? PortFlag.XDP : 0);
      reason = this.#portTable.set({ ifindex, number, puntIfindex, flags, mtuBytes });
      if (reason !== null) hook = null;
      else if (isNew) this.placement.order.holdPort(ifindex);
    }
    if (hook === null) this.#portTable.setMtu(port.ifindex, port.mtuBytes ?? 0);
    if (port.xdpOutput && before?.xdpOutput !== true) devices.set(port.ifindex, { ifindex: port.ifindex });
    if (!port.xdpOutput && before?.xdpOutput === true) devices.delete(port.ifindex);
    const known = hook === port.hook ? port : { ...port, hook };
    this.ports.set(known);
    if (before?.hook !== known.hook) this.#countPorts();
    if (!isSamePort(before, known)) this.#flows.recheckAll();
    return reason;
  }

  /** A port is gone, or packets of its interface are nothing to us any more. */
  removePort(ifindex: number): void {
    this.#tellLost(ifindex);
    this.#takeOut(ifindex);
    this.#activity.delete(ifindex);
    const port = this.ports.remove(ifindex);
    if (port === undefined) return;
    this.#portTable.setMtu(ifindex, 0);
    if (port.xdpOutput) this.maps.maps.devices.delete(ifindex);
    this.#countPorts();
    this.#flows.recheckAll();
  }

  /** No program looks at packets of an interface any more. */
  #takeOut(ifindex: number): void {
    this.placement.order.removePort(ifindex);
    this.#portTable.remove(ifindex);
  }

  #countPorts(): void {
    const hooks = [...this.ports.all()].map(({ hook }) => hook);
    const count = {
      tc: hooks.filter((hook) => hook !== null).length,
      xdp: hooks.filter((hook) => hook === 'xdp').length,
    };
    for (const state of this.#states) {
      // A hook that comes into use again may be tried again.
      if (state.ports === 0 && count[state.hook] > 0) {
        state.refused = null;
        state.dirty ||= state.loaded === null;
      }
      state.ports = count[state.hook];
    }
  }

  /** The engine is done with packets of a port that programs had handed up. */
  drained(ifindex: number, packets: number): void {
    if (this.ports.get(ifindex)?.hook != null) this.#portTable.drained(ifindex, packets);
  }

  /** Packets of a port that programs have handed up and the engine is not known to be done with. */
  underWay(ifindex: number): number {
    return this.#portTable.has(ifindex) ? this.#portTable.underWay(ifindex) : 0;
  }

  /** From now on programs drop what they would hand up of a port while so many packets of it are on their way; 0 for never. */
  setShare(ifindex: number, packets: number): void {
    this.#portTable.setShare(ifindex, packets);
  }

  /** Packets of a port that programs have dropped because of its share (32 bits). */
  refusedPunts(ifindex: number): number {
    return this.#portTable.has(ifindex) ? this.#portTable.refused(ifindex) : 0;
  }

  /** Counters of a port; null for one that is not offloaded. */
  portCounters(ifindex: number): ReturnType<PortTable['counters']> {
    return this.#portTable.counters(ifindex);
  }

  /** Packets dropped in the kernel because their flow says so, by reason of flow/'s Drop. */
  drops(): ReadonlyMap<number, number> {
    return this.#portTable.drops();
  }

  /**
   * Copy what is carried to a channel of copies, or to none. The programs with the other habit are replaced at once.
   * @param copies maps of the channel; null for none
   * @returns whether it is so; when the verifier does not take such programs, those that run make no copies
   * @throws what `install` throws
   */
  setCopies(copies: CopyMaps | null): boolean {
    const isSo = this.programs.setCopies(copies);
    this.placement.order.programsChanged();
    return isSo;
  }

  /**
   * Track packets by a table of connections, or by none: flows that track them are carried from now on, or are not any more.
   * @param connections the table's arrays, which stay open; null for none
   */
  setConnections(connections: ConnectionReferences | null): void {
    if (!this.programs.setConnections(connections)) return;
    this.#flows.replanAll();
  }

  // What the flow table tells.

  flowAdded(slot: number): void {
    this.#flows.consider(slot);
  }

  flowModified(slot: number): void {
    this.#flows.consider(slot);
  }

  flowRemoved(slot: number): void {
    this.#flows.remove(slot);
  }

  flowsFlushed(): void {
    this.#flows.removeAll();
  }

  statisticsWanted(slot: number): void {
    if (slot === -1) this.#syncOften();
    else {
      this.placement.foldFormerOf(slot);
      for (const state of this.#states) this.placement.syncFlow(state, slot);
    }
  }

  /** For those who ask again and again: with many flows the counts are then as old as a few readings take. */
  #syncOften(): void {
    if (this.table.size > SYNC_AT_ONCE) this.syncSoon();
    else if (this.#options.nowMs() >= this.#syncedMs + this.#syncTookMs * SYNC_SHARE) this.sync();
  }

  /** Bring packets, bytes, time and TCP flags of all flows to the flow table. */
  sync(): void {
    const begunMs = this.#options.nowMs();
    this.placement.foldFormer();
    for (const state of this.#states) {
      for (let slot = this.table.next(0); slot !== -1; slot = this.table.next(slot + 1)) {
        this.placement.syncFlow(state, slot);
      }
    }
    this.#syncedMs = this.#options.nowMs();
    this.#syncTookMs = this.#syncedMs - begunMs;
  }

  /** The same, little by little: {@link poll} reads some each time. */
  syncSoon(): void {
    if (this.#syncAt === -1) this.#syncAt = 0;
  }

  #syncSome(): void {
    for (let count = 0; this.#syncAt !== -1 && count < SYNC_FLOWS; count += 1) {
      const slot = this.table.next(this.#syncAt);
      if (slot !== -1) for (const state of this.#states) this.placement.syncFlow(state, slot);
      this.#syncAt = slot === -1 ? -1 : slot + 1;
    }
  }

  // Work that is due.

  /**
   * Do what is due: other programs, flows that are to be looked at again, entries that have settled. Call it often, such as once a turn of the loop.
   * @returns milliseconds until it has something to do, or -1 for nothing that is known now
   * @throws what `install` throws
   */
  poll(): number {
    const nowMs = this.#options.nowMs();
    const { order } = this.placement;
    for (const ifindex of order.heldPorts()) if (this.#hasPrograms(ifindex)) order.portBegins(ifindex);
    this.placement.poll();
    if (nowMs >= this.#quietAtMs) this.#resign(nowMs);
    this.#flows.recheck();
    if (this.programs.poll()) {
      order.programsChanged();
      this.#flows.retrySoon();
    }
    // Before that there is no room.
    if (!this.programs.isGrowing) this.#flows.retry(nowMs);
    for (const shares of this.#shares) shares.poll(nowMs);
    this.#syncSome();
    return this.#waitMs(nowMs);
  }

  /** Whether the programs of these tables are on a port. */
  #hasPrograms(ifindex: number): boolean {
    const hook = this.ports.get(ifindex)?.hook ?? null;
    return (
      this.tc.loaded !== null &&
      (hook === 'tc' || (hook === 'xdp' && (this.xdp.loaded !== null || this.xdp.refused !== null)))
    );
  }

  #waitMs(nowMs: number): number {
    if (this.#syncAt !== -1) return 0;
    const shares = this.#shares.map((each) => each.waitMs(nowMs));
    const waits = [this.#flows.waitMs, this.placement.waitMs, this.programs.waitMs, ...shares].filter(
      (wait) => wait >= 0,
    );
    return waits.length === 0 ? -1 : Math.min(...waits);
  }

  #resign(nowMs: number): void {
    this.#quietAtMs = nowMs + QUIET_MS;
    const { mostUnderWay } = this.#options;
    for (const { ifindex, hook, tapLike } of this.ports.all()) {
      if (hook === null) continue;
      const state = this.#portTable.activity(ifindex);
      const before = this.#activity.get(ifindex);
      const looks = before?.state === state ? before.looks + 1 : 0;
      this.#activity.set(ifindex, { state, looks });
      // A thread that stood still itself sees no movement either, once.
      if (looks > 1) this.#portTable.resign(ifindex);
      else if (!tapLike && mostUnderWay !== undefined) this.#portTable.resignBeyond(ifindex, mostUnderWay);
      this.#tellLost(ifindex);
    }
  }

  #tellLost(ifindex: number): void {
    const lost = this.#portTable.takeLost(ifindex);
    if (lost > 0) this.#options.lost?.(ifindex, lost);
  }

  #refused(refusal: Refused): void {
    const state = refusal.hook === 'tc' ? this.tc : this.xdp;
    // Whether without what came last there is a program is not known yet: programs.ts tries.
    this.#refusals += 1;
    // What goes up meanwhile is not counted.
    if (state.refused !== null && state === this.tc)
      for (const { ifindex, hook } of this.ports.all()) if (hook !== null) this.placement.order.holdPort(ifindex);
    this.#options.refused?.(refusal, state.refused !== null);
    this.#flows.recheckAll();
  }

  // For people and for the next process.

  /** Why a flow is not offloaded; null for one that is. */
  reasonOf(slot: number): string | null {
    return this.#flows.reasons.get(slot) ?? null;
  }

  /** Slots of flows that are not offloaded, with the reason. */
  reasons(): ReadonlyMap<number, string> {
    return this.#flows.reasons;
  }

  /** How often the verifier refused a program. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Entries of the former process that no flow has claimed. */
  get unclaimed(): number {
    return this.#left?.count() ?? 0;
  }

  /** What they say. Flows may be put meanwhile, and claim them. */
  leftFlows(): Iterable<LeftFlow> {
    return this.#left?.flows() ?? [];
  }

  /** Interfaces whose packets the tables decide about, those of the former process included. */
  interfaces(): number[] {
    return this.#portTable.ifindexes();
  }

  /**
   * Say which interfaces of the former process are still there: what it has left of flows from and to others is removed, and of flows of
   * which that cannot be told.
   * @returns how many entries
   */
  retain(ifindexes: ReadonlySet<number>): number {
    for (const ifindex of this.#portTable.ifindexes()) if (!ifindexes.has(ifindex)) this.#dropPort(ifindex);
    const isLost = ({ ifindex, outputs }: LeftFlow) =>
      (ifindex !== 0 && !ifindexes.has(ifindex)) ||
      outputs === null ||
      !outputs.every((output) => ifindexes.has(output));
    return this.#left?.removeWhere(isLost) ?? 0;
  }

  #dropPort(ifindex: number): void {
    this.#takeOut(ifindex);
    this.maps.maps.devices.delete(ifindex);
  }

  /**
   * Flow table and ports are as they shall be: what of the former process's flows and ports is not in them is removed.
   * @param most entries at once: packets of each are handed up from then on. Nothing is removed before all flows have been looked at. Call
   *   again until {@link isReconciled}
   * @returns how many entries
   */
  reconcile(most = Number.POSITIVE_INFINITY): number {
    for (const ifindex of this.#portTable.ifindexes()) {
      if (this.ports.get(ifindex) === undefined) this.#dropPort(ifindex);
    }
    this.#flows.recheck(most === Number.POSITIVE_INFINITY ? most : undefined);
    if (this.#flows.isRechecking) return 0;
    return this.#left?.remove(most) ?? 0;
  }

  /** Whether nothing is left of a former process that the flow table does not have. */
  get isReconciled(): boolean {
    return this.#left?.isOver ?? true;
  }

  /**
   * Flows that wait for programs get them at once, as far as they can run in the present tables: nobody will be there to take others.
   * @throws what `install` throws
   */
  complete(): void {
    if (this.programs.complete()) this.placement.order.programsChanged();
  }

  /** Nothing waits in the engine any more, which is about to end: flows that were put just now are carried from now on. */
  settle(): void {
    this.placement.order.settleAll();
  }

  /** Stop: nothing is watched any more. @param maps whether to close the maps too; pinned and attached things go on working */
  close(): void {
    this.table.unobserve(this);
    this.programs.close();
    this.maps.close();
  }
}

/** CPUs, rounded up to a power of two. */
export function cpuParts(): number {
  return 2 ** Math.ceil(Math.log2(possibleCpus()));
}
