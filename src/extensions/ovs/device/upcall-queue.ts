/**
 * What waits for one netlink socket whose reader is slow: upcalls, in a queue for each port that they came from. The ports take
 * turns, so one that floods costs only itself; and each has an equal part of the room, of which one part is kept for the next
 * port that comes. connection.ts empties it.
 */

/** Most upcalls that wait for one socket in all, and from one port. */
export const UPCALLS_MAXIMUM = 4096;
export const UPCALLS_PER_PORT = 512;

/** What became of an upcall that was to wait. */
export const Queued = { YES: 0, SOCKET_FULL: 1, PORT_FULL: 2 } as const;

/** What came from one port, in the order in which it came. */
interface PortQueue {
  readonly port: number;
  /** Those before `first` have gone. */
  frames: Uint8Array[];
  first: number;
}

export class UpcallQueue {
  readonly #byPort = new Map<number, PortQueue>();
  /** Ports with upcalls, the next one first: a ring that ends where `turn` stands. */
  #turns: PortQueue[] = [];
  #turn = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** What would become of an upcall. @returns one of {@link Queued} */
  roomFor(port: number): number {
    if (this.#size === 0) return Queued.YES;
    if (this.#size >= UPCALLS_MAXIMUM) return Queued.SOCKET_FULL;
    const queue = this.#byPort.get(port);
    if (queue === undefined) return Queued.YES;
    const equal = Math.floor(UPCALLS_MAXIMUM / (this.#turns.length + 1));
    // It leaves as much free as it takes: what is free is for all that come.
    const most = Math.min(UPCALLS_PER_PORT, equal, UPCALLS_MAXIMUM - this.#size);
    return queue.frames.length - queue.first >= most ? Queued.PORT_FULL : Queued.YES;
  }

  /** Add an upcall, for which there is room. @param frame is kept */
  add(port: number, frame: Uint8Array): void {
    let queue = this.#byPort.get(port);
    if (queue === undefined) {
      queue = { port, frames: [], first: 0 };
      this.#byPort.set(port, queue);
      this.#turns.push(queue);
    }
    queue.frames.push(frame);
    this.#size += 1;
  }

  /**
   * Hand out what waits, one of each port in turn, until `send` says that it has no room.
   * @param send the frame that it refuses stays at the head of its port's queue
   */
  drain(send: (frame: Uint8Array) => boolean): void {
    while (this.#size > 0) {
      if (this.#turn >= this.#turns.length) this.#turn = 0;
      const queue = this.#turns[this.#turn];
      if (!send(queue.frames[queue.first])) return;
      queue.first += 1;
      this.#size -= 1;
      if (queue.first === queue.frames.length) {
        this.#byPort.delete(queue.port);
        this.#turns.splice(this.#turn, 1);
        continue;
      }
      if (queue.first >= UPCALLS_PER_PORT) {
        queue.frames = queue.frames.slice(queue.first);
        queue.first = 0;
      }
      this.#turn += 1;
    }
  }

  clear(): number {
    const lost = this.#size;
    this.#byPort.clear();
    this.#turns = [];
    this.#turn = 0;
    this.#size = 0;
    return lost;
  }
}
