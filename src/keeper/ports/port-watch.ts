/**
 * Has ports looked at again and again, as others may change at any moment what their programs rest on: features, MTU and programs at a veth's other end, and
 * the programs themselves, which somebody may take off. News of devices tell of most of it within milliseconds; a turn through all ports is the net
 * beneath. One look at a time: at a port at XDP it asks the kernel several questions, some half a millisecond of the thread that packets wait for.
 */
import type { EventLoop, Timer } from '../../host/index.ts';

/** How often each port is looked at, and how long after news, which mostly come several at once. */
const TURN_MS = 1_000;
const SOON_MS = 20;
/** From one look to the next. */
const PAUSE_MS = 10;

/** A port that is watched. */
export interface Watched {
  /** Indexes of its interface and of what it rests on, in whichever namespaces these are. */
  rests(ifindex: number): boolean;
  /** Whether it is of interest what is said of devices. */
  readonly wantsNews: boolean;
}

export class PortWatch<Port extends Watched> {
  readonly #loop: EventLoop;
  readonly #ports: Iterable<Port>;
  readonly #lookAt: (port: Port, isNews: boolean) => void;
  /** Ports that are to be looked at, and whether because of news; those with news come first. */
  readonly #news = new Set<Port>();
  readonly #turn = new Set<Port>();
  readonly #turns: Timer;
  #next: Timer | null = null;

  /** @param look given whether something was said of what the port rests on */
  constructor(loop: EventLoop, ports: Iterable<Port>, look: (port: Port, isNews: boolean) => void) {
    this.#loop = loop;
    this.#ports = ports;
    this.#lookAt = look;
    this.#turns = loop.timers.every(TURN_MS, { onTimer: () => this.#begin() });
  }

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    for (const port of this.#ports) {
      if (port.wantsNews && (ifindex === -1 || port.rests(ifindex))) this.#news.add(port);
    }
    if (this.#news.size > 0) this.#soon(SOON_MS);
  }

  /** The port is no more. */
  forget(port: Port): void {
    this.#news.delete(port);
    this.#turn.delete(port);
  }

  close(): void {
    this.#news.clear();
    this.#turn.clear();
    this.#next?.cancel();
    this.#turns.cancel();
  }

  #begin(): void {
    for (const port of this.#ports) this.#turn.add(port);
    if (this.#turn.size > 0) this.#soon(0);
  }

  #soon(delayMs: number): void {
    this.#next ??= this.#loop.timers.once(delayMs, {
      onTimer: () => {
        this.#next = null;
        this.#look();
      },
    });
  }

  #look(): void {
    const isNews = this.#news.size > 0;
    const { value: port } = (isNews ? this.#news : this.#turn).values().next();
    if (port === undefined) return;
    this.forget(port);
    this.#lookAt(port, isNews);
    if (this.#news.size + this.#turn.size > 0) this.#soon(PAUSE_MS);
  }
}
