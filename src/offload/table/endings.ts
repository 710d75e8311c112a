/**
 * When what had begun has ended: programs that ran at some moment, and then what they had handed up until then. It is waited for in rounds, each for all that was
 * added before it began. What ports have handed up and has not come by the end of a round was lost, and is not waited for. Neighbour: order.ts adds, and goes on.
 */
import type { InterfaceIndex } from '../../net/index.ts';
import { REST_MS } from '../layout/entry-table.ts';
import type { PortTable } from '../layout/port-table.ts';
import { type Group, isPort, type Pending, portsOf, type Waiting } from './unsettled.ts';

/** Says of things that come and end when those of one moment have ended. */
export interface Marks {
  /** A mark behind all that there is now. */
  mark(): number;
  /** Whether all that was before a mark has ended. */
  isPast(mark: number): boolean;
}

export interface OrderOptions {
  /** Milliseconds of CLOCK_MONOTONIC. */
  readonly nowMs: () => number;
  /** Runs of programs. Left out, a second is waited. */
  readonly programs?: Marks;
  /** What programs have handed up on its way to the engine. Left out, what has not been drained a second later counts as lost. */
  readonly puntPath?: Marks;
}

/** Who adds. */
export interface Waiters {
  /** Whether it is still waited for. */
  isThere(one: Pending): boolean;
  /** A round begins: what else is to be in it. */
  joining(): readonly Pending[];
  /** Programs that ran when it was added have ended. @returns whether it is so for the first time */
  programsEnded(one: Waiting | Group): boolean;
}

type PortCount = readonly [ifindex: InterfaceIndex, punted: number];

export class Endings {
  readonly #options: OrderOptions;
  readonly #ports: PortTable;
  readonly #waiters: Waiters;
  /** Those that wait for a round. */
  #next: Pending[] = [];
  /** Those of the present round, and what ports had handed up before. */
  #round: { readonly of: readonly Pending[]; readonly mark: number; readonly counts: readonly PortCount[] } | null =
    null;
  /** What ports had handed up before the punt path was marked. */
  #handedUp: { readonly mark: number; readonly counts: readonly PortCount[] } | null = null;

  constructor(ports: PortTable, options: OrderOptions, waiters: Waiters) {
    this.#ports = ports;
    this.#options = options;
    this.#waiters = waiters;
  }

  /** Its `mark` is set when programs have ended that run now: it is past ({@link isPast}) when what they handed up has been worked off. */
  add(one: Pending): void {
    this.#next.push(one);
  }

  /** Nothing is waited for any more. */
  clear(): void {
    this.#next = [];
  }

  /** Entries are others from now on, and are added again. */
  forgetEntries(): void {
    this.#next = this.#next.filter(isPort);
    if (this.#round !== null) this.#round = { ...this.#round, of: this.#round.of.filter(isPort) };
  }

  /** Whether the punt path has been emptied of what was in it at a mark. */
  isPast(mark: number): boolean {
    return this.#isPast(this.#options.puntPath, mark);
  }

  /** Go on with those for which programs have ended, and begin the next round. */
  poll(): void {
    const { programs, puntPath } = this.#options;
    if (this.#round !== null && this.#isPast(programs, this.#round.mark)) {
      const { of, counts } = this.#round;
      this.#round = null;
      this.#ended(of);
      if (puntPath !== undefined) this.#handedUp ??= { mark: this.#mark(puntPath), counts };
    }
    if (this.#round === null) this.#begin();
    this.#resign();
  }

  #begin(): void {
    this.#next.push(...this.#waiters.joining());
    if (this.#next.length === 0) return;
    const of: Pending[] = [];
    const others: Pending[] = [];
    for (const one of this.#next) {
      // What XDP has passed on is in the punt path only after tc has met it.
      if (this.#waiters.isThere(one)) (this.#hasArrived(one) ? of : others).push(one);
    }
    this.#next = others;
    if (of.length > 0) this.#round = { of, counts: this.#counts(), mark: this.#mark(this.#options.programs) };
  }

  #ended(those: readonly Pending[]): void {
    const mark = this.#mark(this.#options.puntPath);
    for (const one of those) {
      if (!this.#waiters.isThere(one)) continue;
      const isFirst = !isPort(one) && this.#waiters.programsEnded(one);
      // What has missed at XDP until now may still have to come to tc.
      if (isFirst && one.hook === 'xdp') this.#next.push(one);
      else one.mark = mark;
    }
  }

  #mark(marks: Marks | undefined): number {
    return marks?.mark() ?? this.#options.nowMs() + REST_MS;
  }

  #isPast(marks: Marks | undefined, mark: number): boolean {
    return marks?.isPast(mark) ?? this.#options.nowMs() >= mark;
  }

  #hasArrived(one: Pending): boolean {
    if (isPort(one) || one.hook === 'tc') return true;
    return portsOf(one, this.#ports).every((ifindex) => this.#ports.hasArrived(ifindex));
  }

  /** What ports have handed up that is not known to have come. */
  #counts(): PortCount[] {
    if (this.#handedUp !== null) return [];
    const unclear = this.#ports
      .ifindexes()
      .filter((ifindex) => !this.#ports.isTap(ifindex) && !this.#ports.isClear(ifindex, false));
    return unclear.map((ifindex) => [ifindex, this.#ports.punted(ifindex)]);
  }

  /** The punt path has been emptied of what was handed up at some moment: what has not come was lost. */
  #resign(): void {
    if (this.#handedUp === null || !this.isPast(this.#handedUp.mark)) return;
    for (const [ifindex, punted] of this.#handedUp.counts) this.#ports.resignTo(ifindex, punted);
    this.#handedUp = null;
  }
}
