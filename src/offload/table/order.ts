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
 * counted when the word was seen has been worked off. That is so when the counts of the port are equal, or when the way up has been emptied
 * after programs have ended: what has not come by then was lost, and is not waited for.
 *
 * A flow that always sends again before the engine has worked off what it sent is never free of predecessors. After thousands of packets its word
 * says STOPPED: packets that would have to wait are dropped until the last that went up has been worked off, which takes as long as the way up is
 * full, and then it is carried.
 */
import type { OffloadHook } from '../actions/contract.ts';
import type { EntryTable } from '../layout/entry-table.ts';
import { REST_MS } from '../layout/entry-table.ts';
import type { PortTable } from '../layout/port-table.ts';
import { Order, WAITED } from '../layout/sizes.ts';

/** What is known of the way up from programs to the engine. */
export interface WayUpMarks {
  /** A mark behind all that is in it now. */
  mark(): number;
  /** Whether all that was before a mark has been worked off. */
  isPast(mark: number): boolean;
}

export interface OrderOptions {
  /** Milliseconds of CLOCK_MONOTONIC. */
  readonly nowMs: () => number;
  /**
   * Return when every run of a program has ended that had begun before; false when that cannot be told. It may take some milliseconds. Left out, or
   * where it cannot be told, a second is waited.
   */
  programsEnded?(): boolean;
  /** Left out, what has not been drained a second later counts as lost. */
  readonly wayUp?: WayUpMarks;
}

/** Of an entry, whether programs that run know it. */
export interface Known {
  readonly running: boolean;
}

/** An entry whose word is not 0. */
export interface Unsettled {
  readonly entry: number;
  readonly hook: OffloadHook;
  /** Interface of the one port that it is for; 0 when it is for several. */
  readonly ifindex: number;
  readonly mask: Known;
  readonly shape: Known;
}

interface Waiting extends Unsettled {
  /** The word as it was last seen, before the programs ended that `mark` is behind. */
  seen: number;
  /** -1 while programs that ran when the word was seen may not have ended. */
  mark: number;
  /** Since when programs that know it run everywhere, and others have ended; infinite while that is not so. */
  readyMs: number;
  /** The word when that began. */
  readyWord: number;
  /** When its packets were stopped. */
  stoppedMs: number;
}

/** A port to which programs have come, and at which everything goes up meanwhile. */
interface HeldPort {
  readonly ifindex: number;
  mark: number;
}

/**
 * A flow is stopped that has waited for so long since it was ready, and with so many packets: slower ones find the engine idle between two of
 * theirs. For how long it is stopped, and how long after that the next try is.
 */
const STOP_AFTER_MS = 50;
const STOP_AFTER_PACKETS = 5000;
const STOPPED_MS = 100;
const STOP_AGAIN_MS = 1000;
/** Waiting until programs have ended takes at most one part in so many of the time. */
const ENDED_SHARE = 20;
/** Entries that are looked at in one call. */
const EXAMINED = 512;
/** How often there is something to do while an entry waits. */
const POLL_MS = 1;

/** Whether an entry has waited for long, and with many packets. */
function isTooFast({ readyMs, readyWord }: Waiting, word: number, nowMs: number): boolean {
  return nowMs >= readyMs + STOP_AFTER_MS && (word - readyWord) >>> 0 >= STOP_AFTER_PACKETS * WAITED;
}

export class FlowOrder {
  readonly #options: OrderOptions;
  readonly #ports: PortTable;
  readonly #waiting = new Map<number, Waiting>();
  readonly #held = new Map<number, HeldPort>();
  #entries: EntryTable;
  /** Those of which programs that run do not know all yet. */
  readonly #unknown = new Set<Waiting>();
  /** Those that wait until programs have ended, and since when. */
  #ending: { readonly of: Waiting | HeldPort; readonly sinceMs: number }[] = [];
  #endNotBeforeMs = 0;
  /** What ports had handed up when programs were waited for. */
  #handedUp: { readonly mark: number; readonly counts: [ifindex: number, punted: number][] } | null = null;
  #turn: MapIterator<Waiting> | null = null;

  constructor(entries: EntryTable, ports: PortTable, options: OrderOptions) {
    this.#entries = entries;
    this.#ports = ports;
    this.#options = options;
  }

  /** An entry was published whose word is not 0. */
  add(one: Unsettled): void {
    const waiting: Waiting = {
      ...one,
      seen: 0,
      mark: -1,
      readyMs: Number.POSITIVE_INFINITY,
      readyWord: 0,
      stoppedMs: -1,
    };
    this.#waiting.set(one.entry, waiting);
    if (one.mask.running && one.shape.running) this.#look(waiting);
    else this.#unknown.add(waiting);
  }

  /** An entry is gone. One that was settled is no error. */
  remove(entry: number): void {
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
    this.#ending = this.#ending.filter(({ of }) => !('entry' in of));
    for (const one of this.#waiting.values()) {
      if (this.#unknown.has(one)) continue;
      one.readyMs = Number.POSITIVE_INFINITY;
      this.#look(one);
    }
  }

  /** Everything goes up from a port, until what went up of it uncounted has been worked off. Say with {@link portBegins} when programs that count are there. */
  hold(ifindex: number): void {
    this.#ports.hold(ifindex, true);
    this.#held.set(ifindex, { ifindex, mark: Number.NaN });
  }

  /** Interfaces that are held and wait for {@link portBegins}. */
  *heldPorts(): Generator<number> {
    for (const { ifindex, mark } of this.#held.values()) if (Number.isNaN(mark)) yield ifindex;
  }

  /** Programs that count what goes up are on a port that is held. */
  portBegins(ifindex: number): void {
    const port = this.#held.get(ifindex);
    if (port === undefined) return;
    port.mark = -1;
    this.#ending.push({ of: port, sinceMs: this.#options.nowMs() });
  }

  /** A port is gone. */
  removePort(ifindex: number): void {
    this.#held.delete(ifindex);
  }

  /** All entries are carried from now on: nothing waits in the engine, which is about to end. */
  settleAll(): void {
    for (const { entry } of this.#waiting.values()) {
      for (let word = this.#entries.orderOf(entry); word !== 0; word = this.#entries.orderOf(entry)) {
        this.#entries.changeOrder(entry, word, 0);
      }
    }
    this.#waiting.clear();
    this.#unknown.clear();
    for (const { ifindex } of this.#held.values()) this.#ports.hold(ifindex, false);
    this.#held.clear();
  }

  /** Milliseconds until {@link poll} may have something to do, or -1. */
  get waitMs(): number {
    return this.#waiting.size + this.#held.size > 0 ? POLL_MS : -1;
  }

  /** Entries whose word is not 0. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Settle what can be settled. */
  poll(): void {
    if (this.#waiting.size + this.#held.size === 0) {
      this.#ending = [];
      return;
    }
    const nowMs = this.#options.nowMs();
    if (this.#ending.length > 0) this.#end(nowMs);
    this.#resign();
    for (const port of this.#held.values()) {
      if (port.mark >= 0 && this.#isPast(port.mark)) {
        this.#held.delete(port.ifindex);
        this.#ports.hold(port.ifindex, false);
      }
    }
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

  /** Note what an entry's word is; when programs have ended after that, all that it counts is in the way up. */
  #look(one: Waiting): void {
    one.seen = this.#entries.orderOf(one.entry);
    one.mark = -1;
    this.#ending.push({ of: one, sinceMs: this.#options.nowMs() });
  }

  #isThere(one: Waiting | HeldPort): boolean {
    return 'entry' in one ? this.#waiting.get(one.entry) === one : this.#held.get(one.ifindex) === one;
  }

  /** Go on with those for which programs have ended. */
  #end(nowMs: number): void {
    if (nowMs < this.#endNotBeforeMs) return;
    this.#ending = this.#ending.filter(({ of }) => this.#isThere(of));
    // What XDP has passed on is in the way up only after tc has met it.
    const arrived = this.#ending.filter(({ of }) => this.#hasArrived(of));
    if (arrived.length === 0) return;
    const counts = this.#counts();
    const canTell = this.#options.programsEnded?.() === true;
    const afterMs = this.#options.nowMs();
    this.#endNotBeforeMs = afterMs + Math.max(POLL_MS, (afterMs - nowMs) * ENDED_SHARE);
    const ended = new Set(canTell ? arrived : arrived.filter(({ sinceMs }) => sinceMs + REST_MS <= nowMs));
    if (ended.size === 0) return;
    this.#ending = this.#ending.filter((each) => !ended.has(each));
    const mark = this.#options.wayUp?.mark() ?? afterMs + REST_MS;
    for (const { of } of ended) {
      const isFirst = 'entry' in of && of.readyMs === Number.POSITIVE_INFINITY;
      if (isFirst) this.#begin(of, afterMs);
      // What has missed at XDP until now may still have to come to tc.
      if (isFirst && of.hook === 'xdp') this.#ending.push({ of, sinceMs: afterMs });
      else of.mark = mark;
    }
    if (canTell && this.#options.wayUp !== undefined) this.#handedUp ??= { mark, counts };
  }

  #begin(one: Waiting, nowMs: number): void {
    one.readyMs = nowMs;
    one.readyWord = this.#entries.orderOf(one.entry);
  }

  #hasArrived(one: Waiting | HeldPort): boolean {
    if (!('entry' in one)) return true;
    return one.hook === 'tc' || this.#portsOf(one).every((ifindex) => this.#ports.hasArrived(ifindex));
  }

  #portsOf({ ifindex }: Unsettled): readonly number[] {
    return ifindex === 0 ? this.#ports.ifindexes() : [ifindex];
  }

  #isPast(mark: number): boolean {
    const { wayUp, nowMs } = this.#options;
    return wayUp?.isPast(mark) ?? nowMs() >= mark;
  }

  /** What ports have handed up that is not known to have come. */
  #counts(): [ifindex: number, punted: number][] {
    if (this.#handedUp !== null) return [];
    const unclear = this.#ports
      .ifindexes()
      .filter((ifindex) => !this.#ports.isTap(ifindex) && !this.#ports.isClear(ifindex, false));
    return unclear.map((ifindex) => [ifindex, this.#ports.punted(ifindex)]);
  }

  /** The way up has been emptied of what was handed up at some moment: what has not come was lost. */
  #resign(): void {
    if (this.#handedUp === null || !this.#isPast(this.#handedUp.mark)) return;
    for (const [ifindex, punted] of this.#handedUp.counts) this.#ports.resignTo(ifindex, punted);
    this.#handedUp = null;
  }

  #examine(one: Waiting, nowMs: number): void {
    const word = this.#entries.orderOf(one.entry);
    const isHeld = (word & Order.HELD) !== 0;
    const ports = this.#portsOf(one);
    const isXdp = one.hook === 'xdp';
    if (!isHeld && ports.every((ifindex) => this.#ports.isClear(ifindex, isXdp)) && this.#settle(one, word)) return;
    if (one.stoppedMs >= 0 && nowMs >= one.stoppedMs + STOPPED_MS) this.#goOn(one, nowMs);
    if (one.mark < 0 || !this.#isPast(one.mark)) return;
    if (isHeld) this.#change(one, (held) => held & ~Order.HELD);
    // The descriptor of a TAP is another way up.
    else if (!ports.some((ifindex) => this.#ports.isTap(ifindex)) && this.#settle(one, one.seen)) return;
    else if (one.stoppedMs < 0 && isTooFast(one, word, nowMs)) this.#stop(one, nowMs);
    this.#look(one);
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
    this.#change(one, (word) => word | Order.STOPPED);
  }

  /** It did not help: others keep the way up full. */
  #goOn(one: Waiting, nowMs: number): void {
    one.stoppedMs = -1;
    this.#begin(one, nowMs + STOP_AGAIN_MS);
    this.#change(one, (word) => word & ~Order.STOPPED);
  }

  /** Change bits of an entry's word, however many packets are counted there meanwhile. */
  #change({ entry }: Waiting, to: (word: number) => number): void {
    for (;;) {
      const word = this.#entries.orderOf(entry);
      if (this.#entries.changeOrder(entry, word, to(word) >>> 0)) return;
    }
  }
}
