/**
 * The event loop of a datapath thread: synchronous, over raw descriptors with epoll(7). It shares nothing with Node's own
 * loop, which cannot wait on rings and must not come between packets. Timers are in timers.ts.
 *
 * Node's own loop needs a turn now and then all the same, for what only happens there: finalizers that give back what was collected, the
 * microtasks and timers of whoever runs on the thread, the console. {@link EventLoop.runOnThread} gives it one.
 *
 * One turn: ask every poller for work; look at the descriptors; run timers that are due; and when nobody had work for the
 * length of the busy-poll budget, sleep in epoll_wait until a descriptor is ready, a timer is due, or another thread wakes it.
 */
import { setImmediate } from 'node:timers';
import { Epoll, EpollEvent, eventfd, type FileDescriptor, read, takeSocketError } from './sys/index.ts';
import { Timers } from './timers.ts';

/** Told when a descriptor that it was added with is ready. */
export interface LoopHandler {
  /** There is something to read (or, if asked for, room to write); level-triggered, so it need not take everything. */
  onReady(events: number): void;
  /**
   * The descriptor reports an error, which the loop has cleared already where it can be.
   * When it cannot (not a socket: a TAP whose device is gone), the loop stops watching the descriptor.
   * @param errno the socket's pending error, or -1 when the descriptor is not a socket
   */
  onError(errno: number): void;
}

/** Asked on every turn for work that needs no system call to find: a ring in shared memory. */
export interface Poller {
  /** Do what there is to do, within reason. @returns how much was done; 0 lets the loop think of sleeping */
  poll(): number;
}

/** Told on the loop's own thread that somebody called {@link wakeLoop}. */
export interface WakeHandler {
  onWake(): void;
}

/** Told what the loop does, so that another thread can see whether it goes on. */
export interface LoopPulse {
  /** A turn begins. */
  turn(): void;
  /** The loop goes to sleep until there is something to do, or is awake again. */
  sleeps(asleep: boolean): void;
}

export interface LoopOptions {
  /** How long to go on polling without sleeping after the last work, in microseconds. 0 sleeps at once. */
  busyPollUs?: number;
  pulse?: LoopPulse;
}

// Between two looks at the descriptors there are at most so many turns with work, and none begins after so many milliseconds: control messages, and
// programs that decide about packets, wait no longer than that however long packets take.
const turnsBetweenLooks = 16;
const betweenLooksMs = 1;
// Nothing depends on it: a guard against a lost wake-up turning into a hang.
const longestSleepMs = 10_000;
// A turn of Node's loop in which nothing waits takes some 20 us.
const nodeTurnMs = 1000;

/** A synchronous event loop. One thread owns it; only {@link wakeLoop} may be used from others. */
export class EventLoop {
  readonly timers = new Timers();
  /** Told of wake-ups: the place to empty a message port with `receiveMessageOnPort`. */
  wakeHandler: WakeHandler | null = null;
  readonly #epoll = new Epoll();
  readonly #wake: FileDescriptor;
  readonly #wakeBytes = new Uint8Array(8);
  readonly #handlers: (LoopHandler | undefined)[] = [];
  /** Descriptors that were added since epoll was asked last: what it has said of these numbers is about others, which are closed. */
  readonly #added = new Set<number>();
  readonly #pollers: Poller[] = [];
  readonly #busyPollMs: number;
  readonly #pulse: LoopPulse | null;
  #running = false;
  #stopRequested = false;
  #lastWorkMs = 0;
  /** When it last looked at the descriptors. */
  #lookedMs = 0;
  #turnsSinceLook = 0;
  #closed = false;

  /** @throws SystemError */
  constructor(options: LoopOptions = {}) {
    this.#busyPollMs = (options.busyPollUs ?? 50) / 1000;
    this.#pulse = options.pulse ?? null;
    this.#wake = eventfd();
    this.#epoll.add(this.#wake.number, EpollEvent.IN);
  }

  /** The number that other threads of this process hand to {@link wakeLoop}. */
  get wakeDescriptor(): number {
    return this.#wake.number;
  }

  /**
   * Watch a descriptor. Remove it before it is closed.
   * @param events or-ed EpollEvent bits; readable by default
   * @throws SystemError; RangeError when it is watched already
   */
  add(fd: number, handler: LoopHandler, events: number = EpollEvent.IN): void {
    if (this.#handlers[fd] !== undefined) throw new RangeError(`descriptor ${fd} is watched already`);
    this.#epoll.add(fd, events);
    this.#handlers[fd] = handler;
    this.#added.add(fd);
  }

  /** Watch for other events of a descriptor that was added. @throws SystemError */
  modify(fd: number, events: number): void {
    this.#epoll.modify(fd, events);
  }

  /** Stop watching. A descriptor that is not watched is no error. */
  remove(fd: number): void {
    if (fd < 0 || this.#handlers[fd] === undefined) return;
    this.#handlers[fd] = undefined;
    this.#epoll.remove(fd);
  }

  addPoller(poller: Poller): void {
    this.#pollers.push(poller);
  }

  removePoller(poller: Poller): void {
    const index = this.#pollers.indexOf(poller);
    if (index >= 0) this.#pollers.splice(index, 1);
  }

  /**
   * Run until {@link stop}. It blocks the thread, Node's event loop included.
   * @param forMs leave after about so many milliseconds without having been stopped
   * @returns whether it was stopped
   */
  run(forMs = Number.POSITIVE_INFINITY): boolean {
    if (this.#running) throw new Error('the loop is running already');
    this.#running = true;
    this.#lookedMs = performance.now();
    this.#lastWorkMs = this.#lookedMs;
    const endMs = this.#lookedMs + forMs;
    try {
      while (!this.#stopRequested && this.#lookedMs < endMs)
        this.#turn(Math.min(longestSleepMs, endMs - this.#lookedMs));
      return this.#stopRequested;
    } finally {
      this.#running = false;
      this.#stopRequested = false;
    }
  }

  /**
   * Run until {@link stop}, and let Node's own loop have a turn every second. Returns at once; the thread is the loop's from its next turn on.
   * @param ended called when the loop was stopped, or when something threw (`failed`), which then goes on as an uncaught exception
   */
  runOnThread(ended: (failed: boolean) => void): void {
    let isOver = true;
    let failed = true;
    try {
      isOver = this.run(nodeTurnMs);
      failed = false;
    } finally {
      if (isOver) ended(failed);
    }
    if (!isOver) setImmediate(() => this.runOnThread(ended));
  }

  /** Leave {@link run} after the present turn. Only from the loop's own thread: from others, wake it and stop in the wake handler. */
  stop(): void {
    this.#stopRequested = true;
  }

  /**
   * One turn.
   * @param timeoutMs longest sleep when there is nothing to do; 0 does not sleep
   * @returns whether anything was done
   */
  poll(timeoutMs: number): boolean {
    return this.#turn(timeoutMs);
  }

  #turn(longestMs: number): boolean {
    const pulse = this.#pulse;
    if (pulse !== null) pulse.turn();
    const pollers = this.#pollers;
    let work = 0;
    for (let i = 0; i < pollers.length; i += 1) work += pollers[i].poll();
    const now = performance.now();
    if (work > 0) {
      this.#turnsSinceLook += 1;
      if (this.#turnsSinceLook < turnsBetweenLooks && now - this.#lookedMs < betweenLooksMs) return true;
    }
    this.#turnsSinceLook = 0;

    this.#lookedMs = now;
    let sleepMs = 0;
    if (work > 0) this.#lastWorkMs = now;
    else if (now - this.#lastWorkMs >= this.#busyPollMs) sleepMs = Math.min(longestMs, this.timers.untilNextMs(now));
    // epoll counts whole milliseconds: rounding up keeps a timer from being polled for at the end of its wait.
    if (this.#added.size > 0) this.#added.clear();
    if (pulse !== null && sleepMs > 0) pulse.sleeps(true);
    const ready = this.#epoll.wait(Math.ceil(sleepMs));
    if (pulse !== null && sleepMs > 0) pulse.sleeps(false);
    for (let i = 0; i < ready; i += 1) this.#dispatch(this.#epoll.descriptorOf(i), this.#epoll.eventsOf(i));
    const fired = this.timers.size > 0 ? this.timers.run(performance.now()) : 0;
    // Ready rings count as work, so that busy polling begins with the packet that ended the sleep.
    if (ready > 0) this.#lastWorkMs = sleepMs > 0 ? performance.now() : now;
    return work + ready + fired > 0;
  }

  #dispatch(fd: number, events: number): void {
    if (fd === this.#wake.number) {
      read(fd, this.#wakeBytes, 'read an eventfd');
      if (this.wakeHandler !== null) this.wakeHandler.onWake();
      return;
    }
    const handler = this.#handlers[fd];
    // A handler that ran before it in this turn has removed it, and may have added another one of its number.
    if (handler === undefined || this.#added.has(fd)) return;
    if ((events & EpollEvent.ERR) !== 0) {
      const errno = takeSocketError(fd);
      if (errno < 0) this.remove(fd);
      handler.onError(errno);
      // The handler may have removed or closed it.
      if (errno < 0 || this.#handlers[fd] !== handler || this.#added.has(fd)) return;
    }
    if ((events & ~EpollEvent.ERR) !== 0) handler.onReady(events);
  }

  /** Free the loop's own descriptors. Those that were added stay open. Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#epoll.close();
    this.#wake.close();
  }
}
