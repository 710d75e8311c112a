/**
 * Sees to it that the kernel's own stack stays off the ports: the programs that keep it off (isolation.ts of host/) can be taken off by whoever may
 * attach programs, and the kernel tells nobody. One port at a time is looked at, as the answer waits for the lock of all interfaces. What carries flows is
 * looked after by keeper/.
 */
import { type EventLoop, PacketSocket, type Timer } from '../../host/index.ts';
import { Condition } from '../../keeper/index.ts';
import { messageOf } from '../../switch/index.ts';
import type { DatapathPort } from './port.ts';

/** How often all ports are looked at, and how long after one the next. */
const TURN_MS = 2_000;
const PAUSE_MS = 10;

export interface IsolationSurroundings {
  readonly loop: EventLoop;
  ports(): Iterable<DatapathPort>;
  /** Milliseconds of a clock that only goes forward. */
  nowMs(): number;
  warn(port: string, message: string): void;
}

export class IsolationWatch {
  readonly #around: IsolationSurroundings;
  /** Ports of this turn that are still to be looked at. */
  #left: DatapathPort[] = [];
  /** What keeps a port's programs from being looked after. */
  readonly #trouble = new WeakMap<DatapathPort, Condition>();
  readonly #turns: Timer;
  #next: Timer | null = null;

  constructor(around: IsolationSurroundings) {
    this.#around = around;
    this.#turns = around.loop.timers.every(TURN_MS, { onTimer: () => this.#begin() });
  }

  close(): void {
    this.#left = [];
    this.#next?.cancel();
    this.#turns.cancel();
  }

  #begin(): void {
    if (this.#left.length > 0) return;
    this.#left = [...this.#around.ports()];
    this.#soon();
  }

  #soon(): void {
    if (this.#left.length === 0) return;
    this.#next = this.#around.loop.timers.once(PAUSE_MS, {
      onTimer: () => {
        const port = this.#left.pop();
        if (port !== undefined) this.#look(port);
        this.#soon();
      },
    });
  }

  #look(port: DatapathPort): void {
    const { adapter } = port;
    if (!(adapter instanceof PacketSocket)) return;
    const { nowMs, warn } = this.#around;
    let trouble: string | null = null;
    try {
      if (adapter.keepIsolated()) {
        warn(port.name, "the program that keeps the kernel's own stack off it was taken off by somebody, and is back");
      }
    } catch (error) {
      trouble = messageOf(error);
    }
    const known = this.#trouble.get(port) ?? new Condition();
    this.#trouble.set(port, known);
    if (known.see(trouble, nowMs()) && trouble !== null) {
      warn(port.name, `the kernel's own stack may receive and send on it: its program cannot be put back: ${trouble}`);
    }
  }
}
