/**
 * Order within a flow, as the daemon keeps it: when an entry need not look any more whether packets of its flow are on their way through the engine.
 * Neighbours: program/wait.ts is what a packet does at a hit, placement.ts puts entries, layout/sizes.ts draws the entry's word (Order).
 *
 * A packet that goes up is counted at its port before anything else is done with it (PUNTED, at XDP PASSED), and what the engine is done with is
 * counted behind it (DRAINED, ARRIVED). A hit whose word is not 0 is carried only when these are equal at its port: then all packets that
 * ever went up there, whatever program they met, have been worked off, its predecessors with them. Otherwise it goes up, too, and adds to the word
 * once it is counted at the port. So order holds from the put on, with any programs on any ports; no time limit is part of it.
 *
 * The word becomes 0 only in one step from what it was when the daemon looked, and only when the daemon knows three things: programs with the
 * entry's mask and shape run on all ports; whatever ran before has ended since then, so that what missed is counted at its port; and what was
 * counted when the word was seen has been worked off. That is so when the counts of the port are equal, or when the punt path has been emptied
 * after programs have ended: what has not come by then was lost, and is not waited for.
 *
 * A flow that always sends again before the engine has worked off what it sent is never free of predecessors. After thousands of packets its word
 * says STOPPED: packets that would have to wait are dropped until the last that went up has been worked off, which takes as long as the punt path is
 * full, and then it is carried.
 */
import type { InterfaceIndex } from '../../net/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import type { EntryTable } from '../layout/entry-table.ts';
import type { PortTable } from '../layout/port-table.ts';
import { Order, WAITED } from '../layout/sizes.ts';
import { Endings, type OrderOptions, type Waiters } from './endings.ts';
import {
  type Group,
  type HeldPort,
  type Known,
  type Pending,
  portsOf,
  type Unsettled,
  type Waiting,
} from './unsettled.ts';

const RUNNING: Known = { running: true };

/**
 * A flow is stopped that has waited for so long since it was ready, and with so many packets: slower ones find the engine idle between two of
 * theirs. For how long it is stopped, and how long after that the next try is.
 */
const STOP_AFTER_MS = 50;
const STOP_AFTER_PACKETS = 5000;
/** While so much is on its way up, or lost, so few packets are enough: the engine does not keep up, and more of the flow is lost there. */
const CROWDED_PACKETS = 128;
const CROWDED_STOP_AFTER_PACKETS = 50;
const STOPPED_MS = 100;
const STOP_AGAIN_MS = 1000;
/** Entries that are looked at in one call. */
const EXAMINED = 512;
/** How often there is something to do while an entry waits. */
const POLL_MS = 1;

/** Whether an entry has waited for long, and with many packets. */
function isTooFast({ readyMs, readyWord }: Waiting, word: number, mostPackets: number, nowMs: number): boolean {
  return nowMs >= readyMs + STOP_AFTER_MS && (word - readyWord) >>> 0 >= mostPackets * WAITED;
}

export class FlowOrder implements Waiters {
  readonly #options: OrderOptions;
  readonly #ports: PortTable;
  readonly #waiting = new Map<number, Waiting>();
  readonly #held = new Map<InterfaceIndex, HeldPort>();
  #entries: EntryTable;
  /** The group of each entry that is in one, by number; 0 for none. */
  #groupOf: Uint32Array;
  /** Groups, those that are still added to included, and how many entries there are in them. */
  readonly #groups = new Set<Group>();
  #grouped = 0;
  #groupNumber = 0;
  readonly #open: Record<OffloadHook, Group | null> = { tc: null, xdp: null };
  /** Those of which programs that run do not know all yet. */
  readonly #unknown = new Set<Waiting>();
  readonly #endings: Endings;
  #turn: MapIterator<Waiting> | null = null;
  /** A port at which something was on its way in this turn. */
  #busyPort: InterfaceIndex | -1 = -1;

  constructor(entries: EntryTable, ports: PortTable, options: OrderOptions) {
    this.#entries = entries;
    this.#ports = ports;
    this.#options = options;
    this.#endings = new Endings(ports, options, this);
    this.#groupOf = new Uint32Array(entries.sizes.entries);
  }

  /**
   * An entry was published whose word says that its packets wait, and no more.
   * @param ifindex of the one port that it is for; 0 when it is for several
   */
  add(entry: number, hook: OffloadHook, ifindex: InterfaceIndex | 0, mask: Known, shape: Known): void {
    if (!mask.running || !shape.running) {
      this.#unknown.add(this.#alone({ entry, hook, ifindex, mask, shape }));
      return;
    }
    let group = this.#open[hook];
    if (group === null) {
      this.#groupNumber = (this.#groupNumber % 0xffff_ffff) + 1;
      const number = this.#groupNumber;
      group = { number, hook, entries: [], ifindexes: [], ports: new Set(), isReady: false, mark: -1 };
      this.#open[hook] = group;
      this.#groups.add(group);
    }
    group.entries.push(entry);
    group.ifindexes.push(ifindex);
    group.ports.add(ifindex);
    this.#groupOf[entry] = group.number;
    this.#grouped += 1;
  }

  /** A former process has left an entry unsettled: its packets wait until what has come up since then is worked off. */
  hold(entry: number, hook: OffloadHook, mask: Known, shape: Known): void {
    this.#change(entry, () => Order.WAITS | Order.HELD);
    this.#look(this.#alone({ entry, hook, ifindex: 0, mask, shape }));
  }

  #alone(one: Unsettled): Waiting {
    const waiting = { ...one, seen: 0, mark: -1, readyMs: Number.POSITIVE_INFINITY, readyWord: 0, stoppedMs: -1 };
    this.#waiting.set(one.entry, waiting);
    return waiting;
  }

  /** An entry is gone. One that was settled is no error. */
  remove(entry: number): void {
    if (this.#groupOf[entry] !== 0) {
      this.#groupOf[entry] = 0;
      this.#grouped -= 1;
      return;
    }
    const one = this.#waiting.get(entry);
    if (one === undefined) return;
    this.#waiting.delete(entry);
    this.#unknown.delete(one);
  }

  /** Other programs run on all ports. */
  programsChanged(): void {
    for (const one of this.#unknown) {
      if (!one.mask.running || !one.shape.running) continue;
      this.#unknown.delete(one);
      this.#look(one);
    }
  }

  /** The entries are in other tables from now on, which programs with these have begun to use. */
  switchTo(entries: EntryTable): void {
    this.#entries = entries;
    this.#endings.forgetEntries();
    for (const one of this.#waiting.values()) {
      if (this.#unknown.has(one)) continue;
      one.readyMs = Number.POSITIVE_INFINITY;
      this.#look(one);
    }
    for (const group of this.#groups) {
      this.#disband(group, (entry, ifindex) => {
        this.#look(this.#alone({ entry, hook: group.hook, ifindex, mask: RUNNING, shape: RUNNING }));
      });
    }
    this.#groupOf = new Uint32Array(entries.sizes.entries);
  }

  /** Everything goes up from a port, until what went up of it uncounted has been worked off. Say with {@link portBegins} when programs that count are there. */
  holdPort(ifindex: InterfaceIndex): void {
    this.#ports.hold(ifindex, true);
    this.#held.set(ifindex, { ifindex, mark: Number.NaN });
  }

  /** Interfaces that are held and wait for {@link portBegins}. */
  *heldPorts(): Generator<InterfaceIndex> {
    for (const { ifindex, mark } of this.#held.values()) if (Number.isNaN(mark)) yield ifindex;
  }

  /** Programs that count what goes up are on a port that is held. */
  portBegins(ifindex: InterfaceIndex): void {
    const port = this.#held.get(ifindex);
    if (port === undefined) return;
    port.mark = -1;
    this.#endings.add(port);
  }

  /** A port is gone. */
  removePort(ifindex: InterfaceIndex): void {
    this.#held.delete(ifindex);
  }

  /** All entries are carried from now on: nothing waits in the engine, which is about to end. */
  settleAll(): void {
    for (const { entry } of this.#waiting.values()) this.#change(entry, () => 0);
    for (const group of this.#groups) this.#disband(group, (entry) => this.#change(entry, () => 0));
    this.#waiting.clear();
    this.#unknown.clear();
    for (const { ifindex } of this.#held.values()) this.#ports.hold(ifindex, false);
    this.#held.clear();
  }

  /** Milliseconds until {@link poll} may have something to do, or -1. */
  get waitMs(): number {
    return this.size + this.#held.size > 0 ? POLL_MS : -1;
  }

  /** Entries whose word is not 0. */
  get size(): number {
    return this.#waiting.size + this.#grouped;
  }

  /** Settle what can be settled. */
  poll(): void {
    if (this.#waiting.size + this.#groups.size + this.#held.size === 0) {
      this.#endings.clear();
      return;
    }
    const nowMs = this.#options.nowMs();
    this.#endings.poll();
    for (const port of this.#held.values()) {
      if (this.#isPast(port)) {
        this.#held.delete(port.ifindex);
        this.#ports.hold(port.ifindex, false);
      }
    }
    for (const group of this.#groups) if (group.isReady) this.#examineGroup(group, nowMs);
    this.#busyPort = -1;
    for (let count = 0; count < EXAMINED; count += 1) {
      this.#turn ??= this.#waiting.values();
      const next = this.#turn.next();
      if (next.done === true) {
        this.#turn = null;
        break;
      }
      if (next.value.readyMs <= nowMs) this.#examine(next.value, nowMs);
    }
  }

  /** Note what an entry's word is; when programs have ended after that, all that it counts is in the punt path. */
  #look(one: Waiting): void {
    one.seen = this.#entries.orderOf(one.entry);
    one.mark = -1;
    this.#endings.add(one);
  }

  isThere(one: Pending): boolean {
    if ('entries' in one) return this.#groups.has(one);
    return 'entry' in one ? this.#waiting.get(one.entry) === one : this.#held.get(one.ifindex) === one;
  }

  /** Groups are added to until a round begins. */
  joining(): Group[] {
    const groups: Group[] = [];
    for (const hook of ['tc', 'xdp'] as const) {
      const group = this.#open[hook];
      if (group !== null) groups.push(group);
      this.#open[hook] = null;
    }
    return groups;
  }

  programsEnded(one: Waiting | Group): boolean {
    const isFirst = 'entries' in one ? !one.isReady : one.readyMs === Number.POSITIVE_INFINITY;
    if ('entries' in one) one.isReady = true;
    else if (isFirst) this.#begin(one, this.#options.nowMs());
    return isFirst;
  }

  /** Whether what was on its way up when programs had ended has been worked off. */
  #isPast({ mark }: Pending): boolean {
    return mark >= 0 && this.#endings.isPast(mark);
  }

  #begin(one: Waiting, nowMs: number): void {
    one.readyMs = nowMs;
    one.readyWord = this.#entries.orderOf(one.entry);
  }

  /** The descriptor of a TAP is another punt path. */
  #hasTap(one: Waiting | Group): boolean {
    return portsOf(one, this.#ports).some((ifindex) => this.#ports.isTap(ifindex));
  }

  #examine(one: Waiting, nowMs: number): void {
    const isPast = this.#isPast(one);
    // With many entries that wait behind one busy port this is all that is done.
    if (!isPast && one.stoppedMs < 0 && one.ifindex === this.#busyPort) return;
    const word = this.#entries.orderOf(one.entry);
    const isHeld = (word & Order.HELD) !== 0;
    // The word was seen first: whoever is in it was counted at the port before.
    if (!isHeld && this.#isClear(one) && this.#settle(one, word)) return;
    if (one.stoppedMs >= 0 && nowMs >= one.stoppedMs + STOPPED_MS) this.#goOn(one, nowMs);
    if (!isPast) return;
    if (isHeld) this.#change(one.entry, (held) => held & ~Order.HELD);
    else if (!this.#hasTap(one) && this.#settle(one, one.seen)) return;
    else if (one.stoppedMs < 0 && isTooFast(one, word, this.#mostPackets(), nowMs)) this.#stop(one, nowMs);
    this.#look(one);
  }

  /** Settle the entries of a group, if that can be: those at which a packet has waited go on alone. */
  #examineGroup(group: Group, nowMs: number): void {
    const { hook } = group;
    const isPast = this.#isPast(group);
    const isClear = portsOf(group, this.#ports).every((ifindex) => this.#ports.isClear(ifindex, hook === 'xdp'));
    if (!isPast && !isClear) return;
    const maySettle = isClear || !this.#hasTap(group);
    this.#disband(group, (entry, ifindex) => {
      // No packet has waited since it was put, so that what was worked off by now is all that there was.
      if (maySettle && this.#entries.changeOrder(entry, Order.WAITS, 0)) return;
      const one = this.#alone({ entry, hook, ifindex, mask: RUNNING, shape: RUNNING });
      this.#begin(one, nowMs);
      this.#look(one);
    });
  }

  /** The group is no more; its entries, but those that are gone, are handed over. */
  #disband(group: Group, take: (entry: number, ifindex: InterfaceIndex | 0) => void): void {
    const { number, hook, entries, ifindexes } = group;
    this.#groups.delete(group);
    if (this.#open[hook] === group) this.#open[hook] = null;
    for (let i = 0; i < entries.length; i += 1) {
      const entry = entries[i];
      if (this.#groupOf[entry] !== number) continue;
      this.#groupOf[entry] = 0;
      this.#grouped -= 1;
      take(entry, ifindexes[i]);
    }
  }

  /** How many packets a flow waits with before it is stopped. */
  #mostPackets(): number {
    let underWay = 0;
    for (const ifindex of this.#ports.ifindexes()) underWay += this.#ports.underWay(ifindex);
    return underWay < CROWDED_PACKETS ? STOP_AFTER_PACKETS : CROWDED_STOP_AFTER_PACKETS;
  }

  /** Whether nothing is on its way at the ports of an entry. */
  #isClear(one: Waiting): boolean {
    const isXdp = one.hook === 'xdp';
    if (one.ifindex === 0) return portsOf(one, this.#ports).every((ifindex) => this.#ports.isClear(ifindex, isXdp));
    if (this.#ports.isClear(one.ifindex, isXdp)) return true;
    this.#busyPort = one.ifindex;
    return false;
  }

  /** @returns whether the word was what was seen, and is 0 now */
  #settle(one: Waiting, seen: number): boolean {
    if (!this.#entries.changeOrder(one.entry, seen, 0)) return false;
    this.#waiting.delete(one.entry);
    return true;
  }

  /** Packets go on waiting, and it has been long. */
  #stop(one: Waiting, nowMs: number): void {
    one.stoppedMs = nowMs;
    this.#change(one.entry, (word) => word | Order.STOPPED);
  }

  /** It did not help: others keep the punt path full. */
  #goOn(one: Waiting, nowMs: number): void {
    one.stoppedMs = -1;
    this.#begin(one, nowMs + STOP_AGAIN_MS);
    this.#change(one.entry, (word) => word & ~Order.STOPPED);
  }

  /** Change bits of an entry's word, however many packets are counted there meanwhile. */
  #change(entry: number, to: (word: number) => number): void {
    for (;;) {
      const word = this.#entries.orderOf(entry);
      if (this.#entries.changeOrder(entry, word, to(word) >>> 0)) return;
    }
  }
}
