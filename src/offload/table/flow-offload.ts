/**
 * FlowOffload: watches a flow table and keeps in the kernel what eBPF can carry of it. A put, a change or a removal is a few stores to
 * mapped memory; other programs are made only when the set of masks or shapes changes, and attached by the caller. flow-hooks.ts knows at
 * which hook a flow belongs, placement.ts tables, programs.ts programs, adopt.ts what a former process left, show.ts what people see.
 */
import { possibleCpus, tickClock } from '../../bpf/index.ts';
import type { FlowObserver, OfferedFlows } from '../../flow/index.ts';
import type { InterfaceIndex, KeyPort } from '../../net/index.ts';
import type { CompileContext } from '../actions/contract.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import type { CopyMaps } from '../copies/layout.ts';
import type { DownEntry } from '../down/entry.ts';
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
import { CountSync } from './count-sync.ts';
import type { OrderOptions } from './endings.ts';
import { FlowHooks } from './flow-hooks.ts';
import { HandingDown } from './handing-down.ts';
import { HookState } from './hook-state.ts';
import type { LeftFlow, LeftFlows } from './left-flows.ts';
import { LostPunts, type LostPuntsOptions } from './lost-punts.ts';
import { MaskShares } from './mask-shares.ts';
import { freeNumbers } from './numbers.ts';
import { Placement } from './placement.ts';
import { isSamePort, type OffloadPort, OffloadPorts } from './ports.ts';
import { type Installation, Programs } from './programs.ts';

export interface FlowOffloadOptions extends OrderOptions, LostPuntsOptions {
  readonly table: OfferedFlows;
  /** Attach and pin programs. When it throws, the former stay in use, and poll throws the same. */
  install(installation: Installation): void;
  /** The verifier takes no program for a hook, or not some flows. With `ports`, the hook's ports have to run on the engine. */
  refused?(refusal: Refused, hookIsLost: boolean): void;
  /** Programs can no longer make the copies that were asked for: packets of which some are wanted have to come up. */
  copiesRefused?(refusal: Refused): void;
  /** What was carried of a flow since it was last told. */
  carried?(slot: number, packets: number, bytes: number): void;
  /** Flows ask for more masks than programs look up: those that carry most have a place from now on. @param port that asks for most, and how many */
  masksFull?(port: KeyPort | -1, masks: number): void;
  /** Why a port of this number was not told of, where that is known; see {@link OffloadPorts.absenceOf}. */
  absence?(number: KeyPort): string | null;
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

export class FlowOffload implements FlowObserver {
  readonly table: OfferedFlows;
  readonly ports: OffloadPorts;
  readonly tc: HookState;
  readonly xdp: HookState;
  readonly placement: Placement;
  readonly programs: Programs;
  readonly #options: FlowOffloadOptions;
  readonly #portTable: PortTable;
  readonly #flows: FlowHooks;
  readonly #shares: readonly MaskShares[];
  readonly #lost: LostPunts;
  readonly #counts: CountSync;
  readonly #left: LeftFlows | null;
  readonly #handingDown: HandingDown;
  #refusals = 0;

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
    this.#handingDown = new HandingDown(this.tc, this.placement, this.ports);
    this.#lost = new LostPunts(this.ports, this.#portTable, options);
    this.#counts = new CountSync(this.table, this.placement, this.#states, options.nowMs);
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
      install: (installation) => {
        options.install(installation);
        const tc = installation.programs.find(({ hook }) => hook === 'tc') ?? null;
        this.#handingDown.installed(tc, installation.maps);
      },
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
  removePort(ifindex: InterfaceIndex): void {
    this.#lost.forget(ifindex);
    this.#takeOut(ifindex);
    const port = this.ports.remove(ifindex);
    if (port === undefined) return;
    this.#portTable.setMtu(ifindex, 0);
    if (port.xdpOutput) this.maps.maps.devices.delete(ifindex);
    this.#countPorts();
    this.#flows.recheckAll();
  }

  /** No program looks at packets of an interface any more. */
  #takeOut(ifindex: InterfaceIndex): void {
    this.placement.order.removePort(ifindex);
    this.#portTable.remove(ifindex);
  }

  /** Why ports are not here is another reason now, which flows of theirs are to tell. */
  absencesChanged(): void {
    if (this.#flows.reasons.size > 0) this.#flows.recheckAll();
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
  drained(ifindex: InterfaceIndex, packets: number): void {
    if (this.ports.get(ifindex)?.hook != null) this.#portTable.drained(ifindex, packets);
  }

  /** Packets of a port that programs have handed up and the engine is not known to be done with. */
  underWay(ifindex: InterfaceIndex): number {
    return this.#portTable.has(ifindex) ? this.#portTable.underWay(ifindex) : 0;
  }

  /** From now on programs drop what they would hand up of a port while so many packets of it are on their way; 0 for never. */
  setShare(ifindex: InterfaceIndex, packets: number): void {
    this.#portTable.setShare(ifindex, packets);
  }

  /** Packets of a port that programs have dropped because of its share, since this was last asked. */
  takeRefusedPunts(ifindex: InterfaceIndex): number {
    return this.#portTable.has(ifindex) ? this.#portTable.takeRefused(ifindex) : 0;
  }

  /**
   * Whether the engine can hand packets of a flow down now; programs for that are made when it is asked first.
   * @param number of the port that they came in by
   * @returns the interface of the port; 0 when they have to stay with the engine
   */
  wayDown(slot: number, number: KeyPort): InterfaceIndex | 0 {
    return this.#handingDown.wayDown(slot, number);
  }

  /** Where packets that are handed down come in; null while none can. Another one never follows before this is closed. */
  get downEntry(): DownEntry | null {
    return this.#handingDown.entry;
  }

  /** Counters of a port; null for one that is not offloaded. */
  portCounters(ifindex: InterfaceIndex): ReturnType<PortTable['counters']> {
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

  flowWithdrawn(slot: number): void {
    this.#flows.withdraw(slot);
  }

  flowsFlushed(): void {
    this.#flows.removeAll();
  }

  statisticsWanted(slot: number): void {
    if (slot === -1) this.#counts.often();
    else this.#counts.one(slot);
  }

  /** Bring packets, bytes, time and TCP flags of all flows to the flow table. */
  sync(): void {
    this.#counts.all();
  }

  /** The same, little by little: {@link poll} reads some each time. */
  syncSoon(): void {
    this.#counts.soon();
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
    this.#lost.poll(nowMs);
    this.#flows.recheck();
    if (this.programs.poll()) {
      order.programsChanged();
      this.#flows.retrySoon();
    }
    // Before that there is no room.
    if (!this.programs.isGrowing) this.#flows.retry(nowMs);
    for (const shares of this.#shares) shares.poll(nowMs);
    this.#counts.poll();
    return this.#waitMs(nowMs);
  }

  /** Whether the programs of these tables are on a port. */
  #hasPrograms(ifindex: InterfaceIndex): boolean {
    const hook = this.ports.get(ifindex)?.hook ?? null;
    return (
      this.tc.loaded !== null &&
      (hook === 'tc' || (hook === 'xdp' && (this.xdp.loaded !== null || this.xdp.refused !== null)))
    );
  }

  #waitMs(nowMs: number): number {
    if (this.#counts.isUnderWay) return 0;
    const shares = this.#shares.map((each) => each.waitMs(nowMs));
    const waits = [this.#flows.waitMs, this.placement.waitMs, this.programs.waitMs, ...shares].filter(
      (wait) => wait >= 0,
    );
    return waits.length === 0 ? -1 : Math.min(...waits);
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
  interfaces(): InterfaceIndex[] {
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

  #dropPort(ifindex: InterfaceIndex): void {
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
    this.#handingDown.close();
    this.maps.close();
  }
}

/** CPUs, rounded up to a power of two. */
export function cpuParts(): number {
  return 2 ** Math.ceil(Math.log2(possibleCpus()));
}
