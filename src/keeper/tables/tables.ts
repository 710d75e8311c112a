/**
 * Flow tables come and go, as extensions offer them and as offload is switched on and off: each runs in the kernel while it is on, with programs that come
 * and change as its flows ask for them. Neighbours: table.ts is one table, ports/ has the ports that they decide about.
 */
import type { FlowRegistration, FlowRegistry, FlowSource } from '../../flow/index.ts';
import { comesOfShortage, type Timer } from '../../host/index.ts';
import { startWorkshop, type WorkshopAside } from '../../offload/index.ts';
import { messageOf } from '../contract.ts';
import { Condition } from '../ports/condition.ts';
import { KeptTable, type TableRoom } from './table.ts';
import type { TableSet } from './table-set.ts';

/** How often tables are asked what is due, at most, and how long one that failed is left alone. */
const POLL_MS = 1;
const PAUSE_MS = 500;

/** How often a table is tried again that could not be opened for want of descriptors or memory. */
const REOPEN_MS = 1_000;

/** Whether flows are to run in the kernel. */
export interface OffloadSwitch {
  /** @throws KeeperError when they must and cannot */
  isOn(): boolean;
  /** Whether it is off for want of what may be there later. */
  readonly isOffForNow: boolean;
  /** Whether they must. */
  readonly isRequired: boolean;
  /** A table is gone: with it may go what a former process left. */
  tableGone(): void;
}

export class KeptTables implements FlowRegistry {
  readonly #room: Omit<TableRoom, 'workshop'>;
  readonly #set: TableSet;
  readonly #switch: OffloadSwitch;
  #polledMs = 0;
  /** Wakes the loop when tables have something to do, and when that is. */
  #due: Timer | null = null;
  #dueMs = 0;
  /** Tables that could not be opened, and may be later; their sources, and when to try again. */
  readonly #unopened = new Set<FlowSource>();
  #reopenMs = 0;
  /** What keeps tables from being stepped or opened, when that was last tried. */
  readonly #troubles = new WeakMap<FlowSource, Condition>();
  /** Makes programs and tables on a thread of its own; null before the first table needs some. */
  #workshop: WorkshopAside | null = null;

  constructor(set: TableSet, room: Omit<TableRoom, 'workshop'>, offloadSwitch: OffloadSwitch) {
    this.#set = set;
    this.#room = room;
    this.#switch = offloadSwitch;
    room.host.loop.addPoller({ poll: () => this.#poll() });
  }

  register(source: FlowSource): FlowRegistration {
    const { offered } = this.#set;
    offered.set(source, null);
    this.#open(source);
    return {
      portsChanged: () => this.#room.ports.assign(),
      // What comes up without being resumed would have to begin anew.
      ...(source.resume === undefined
        ? {}
        : {
            handDown: (slot, packet, key) => offered.get(source)?.down.handDown(slot, packet, key) ?? false,
            wentOn: (slot, lookUps, isCopied) => offered.get(source)?.down.wentOn(slot, lookUps, isCopied),
          }),
      close: () => {
        const table = offered.get(source) ?? null;
        if (table !== null) this.#close(source, table);
        this.#unopened.delete(source);
        offered.delete(source);
      },
    };
  }

  /** Offload was switched on or off. @throws KeeperError when it is required and impossible */
  switched(isOff: boolean): void {
    for (const [source, table] of this.#set.offered) {
      if (isOff) this.#unopened.delete(source);
      if (isOff && table !== null) this.#close(source, table);
      else if (!isOff && table === null) this.#open(source);
    }
  }

  #open(source: FlowSource): void {
    const { host, puntPath, ports } = this.#room;
    try {
      if (!this.#switch.isOn()) {
        if (this.#switch.isOffForNow) this.#openLater(source);
        return;
      }
      puntPath.open();
      this.#workshop ??= startWorkshop((message) => host.warn(message));
      const table = this.#make(source, { ...this.#room, workshop: this.#workshop });
      table.flows.setConnections(this.#set.connections);
      this.#set.offered.set(source, table);
      host.takers.changed();
      ports.assign();
      if (this.#unopened.delete(source))
        host.log('flows run in the kernel, as it has room now', { table: source.name });
      this.#see(source, null);
    } catch (error) {
      if (this.#switch.isRequired) throw error;
      const passes = comesOfShortage(error);
      if (passes) this.#openLater(source);
      const until = passes ? 'for now' : 'from now on';
      this.#see(source, `flows of ${source.name} stay in the engine ${until}: ${messageOf(error)}`);
    }
  }

  /** Whether tables of a source are still to be opened. */
  isToOpen(name: string): boolean {
    for (const source of this.#unopened) if (source.name === name) return true;
    return false;
  }

  #openLater(source: FlowSource): void {
    this.#unopened.add(source);
    this.#reopenMs = this.#room.host.nowMs() + REOPEN_MS;
  }

  /** Say what is wrong with a table, once. @param trouble null for nothing */
  #see(source: FlowSource, trouble: string | null): void {
    const { host } = this.#room;
    let condition = this.#troubles.get(source);
    if (condition === undefined) {
      if (trouble === null) return;
      condition = new Condition();
      this.#troubles.set(source, condition);
    }
    if (condition.see(trouble, host.nowMs()) && trouble !== null) host.warn(trouble);
  }

  /** Try tables again that could not be opened. */
  #reopen(nowMs: number): void {
    if (this.#unopened.size === 0 || nowMs < this.#reopenMs) return;
    this.#reopenMs = nowMs + REOPEN_MS;
    for (const source of [...this.#unopened]) if (this.#set.offered.get(source) === null) this.#open(source);
  }

  /** A table as the former process left it, if that can be read. */
  #make(source: FlowSource, room: TableRoom): KeptTable {
    const left = room.takeover.takeTables(source.name);
    if (left !== null) {
      try {
        return new KeptTable(source, left, room);
      } catch (error) {
        if (comesOfShortage(error)) {
          room.takeover.returnTables(left);
          throw error;
        }
        left.maps.close();
        room.host.warn(`flows of ${source.name} that were left in the kernel end: ${messageOf(error)}`);
      }
    }
    return new KeptTable(source, null, room);
  }

  #close(source: FlowSource, table: KeptTable): void {
    const { host, takeover, ports } = this.#room;
    table.flows.sync();
    this.#set.offered.set(source, null);
    // It is being configured, or the start has failed: what was left goes on.
    const returning = table.isSettling && takeover.isUnderWay ? table.left : null;
    ports.closeTable(table, returning !== null);
    table.close();
    host.takers.changed();
    if (returning !== null) {
      takeover.giveBackTables(returning);
      return;
    }
    takeover.removeTables(source.name);
    this.#switch.tableGone();
  }

  /** The process is about to leave flows in the kernel for the next one: they get the programs that they wait for. */
  complete(): void {
    const { host } = this.#room;
    for (const table of this.#set.running()) {
      try {
        table.flows.complete();
      } catch (error) {
        host.warn(`flows of ${table.source.name}: ${messageOf(error)}`);
      }
    }
  }

  /** Nothing waits in the engine any more: flows that were put just now are carried from now on. */
  settle(): void {
    for (const table of this.#set.running()) table.flows.settle();
  }

  close(): void {
    for (const table of this.#set.running()) table.close();
    this.#set.offered.clear();
    this.#workshop?.close();
    this.#workshop = null;
  }

  #poll(): number {
    const { host } = this.#room;
    const nowMs = host.nowMs();
    if (nowMs < this.#polledMs + POLL_MS) {
      // What came in this turn of the loop is looked at even when nothing else happens.
      this.#wakeAt(this.#polledMs + POLL_MS, nowMs);
      return 0;
    }
    this.#polledMs = nowMs;
    this.#reopen(nowMs);
    let waitMs = this.#unopened.size === 0 ? -1 : Math.max(0, this.#reopenMs - nowMs);
    for (const table of this.#set.running()) {
      const wait = this.#step(table);
      if (wait >= 0 && (waitMs < 0 || wait < waitMs)) waitMs = wait;
    }
    this.#workshop?.rest();
    if (waitMs >= 0) this.#wakeAt(nowMs + Math.max(waitMs, POLL_MS), nowMs);
    return 0;
  }

  #wakeAt(dueMs: number, nowMs: number): void {
    if (this.#due !== null && this.#dueMs <= dueMs) return;
    this.#due?.cancel();
    this.#dueMs = dueMs;
    this.#due = this.#room.host.loop.timers.once(dueMs - nowMs, {
      onTimer: () => {
        this.#due = null;
      },
    });
  }

  #step(table: KeptTable): number {
    const { source } = table;
    try {
      const waitMs = table.step();
      this.#see(source, null);
      return waitMs;
    } catch (error) {
      this.#see(source, `flows of ${source.name}: ${messageOf(error)}`);
      return PAUSE_MS;
    }
  }
}
