/**
 * What waits for one netlink socket whose reader is slow: upcalls, in a queue for each port that they came from. The ports take
 * turns, so one that floods costs only itself. connection.ts empties it.
 */

/** Most upcalls that wait for one socket in all, and from one port. */
export const UPCALLS_MAXIMUM = 4096;
export const UPCALLS_PER_PORT = 512;

/** What became of an upcall that was to wait. */
export const Queued = { YES: 0, SOCKET_FULL: 1, PORT_FULL: 2 } as const;

export class UpcallQueue {
  readonly #byPort = new Map<number, Uint8Array[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @param frame is kept @returns one of {@link Queued} */
  add(port: number, frame: Uint8Array): number {
    if (this.#size >= UPCALLS_MAXIMUM) return Queued.SOCKET_FULL;
    let frames = this.#byPort.get(port);
    if (frames === undefined) {
      frames = [];
      this.#byPort.set(port, frames);
    } else if (frames.length >= UPCALLS_PER_PORT) {
      return Queued.PORT_FULL;
    }
    frames.push(frame);
    this.#size += 1;
    return Queued.YES;
  }

  /**
   * Hand out what waits, one of each port in turn, until `send` says that it has no room.
   * @param send the frame that it refuses stays at the head of its port's queue
   */
  drain(send: (frame: Uint8Array) => boolean): void {
    while (this.#size > 0) {
      for (const [port, frames] of this.#byPort) {
        if (!send(frames[0])) return;
        frames.shift();
        this.#size -= 1;
        // Deleting and setting again moves the port behind the others.
        this.#byPort.delete(port);
        if (frames.length > 0) this.#byPort.set(port, frames);
        break;
      }
    }
  }

  clear(): number {
    const lost = this.#size;
    this.#byPort.clear();
    this.#size = 0;
    return lost;
  }
}
