/**
 * Framing of the control socket: one JSON text a line, ended by a newline, UTF-8. Both ends use this: the server (server.ts)
 * with a limit against hostile peers, the client (../client.ts) with a larger one.
 */

/** Largest request the daemon takes, in bytes; a configuration file travels in one. */
export const MAX_REQUEST_BYTES = 1 << 20;

/** Cuts a byte stream into lines. Bytes of an unfinished line are kept, up to the limit. */
export class LineReader {
  readonly #limitBytes: number;
  /** Grows by doubling, so that a peer that sends single bytes costs no more than one that sends whole lines. */
  #held: Buffer = Buffer.alloc(0);
  #heldBytes = 0;

  /** @param limitBytes longest line, without its newline */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /**
   * Take the next bytes of the stream.
   * @returns the lines that they complete, without newlines; null when a line is longer than the limit, after which the stream is lost
   */
  push(chunk: Buffer): string[] | null {
    const lines: string[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(10, start);
      if (end < 0) break;
      if (this.#heldBytes + end - start > this.#limitBytes) return null;
      if (this.#heldBytes === 0) lines.push(chunk.toString('utf8', start, end));
      else {
        this.#hold(chunk, start, end);
        lines.push(this.#held.toString('utf8', 0, this.#heldBytes));
        this.#heldBytes = 0;
      }
      start = end + 1;
    }
    if (this.#heldBytes + chunk.length - start > this.#limitBytes) return null;
    this.#hold(chunk, start, chunk.length);
    return lines;
  }

  /** The bytes behind the last newline; the reader is empty afterwards. */
  takeRest(): Buffer {
    const rest = this.#held.subarray(0, this.#heldBytes);
    this.#held = Buffer.alloc(0);
    this.#heldBytes = 0;
    return rest;
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const needed = this.#heldBytes + end - start;
    if (needed > this.#held.length) {
      const grown = Buffer.alloc(Math.max(needed, this.#held.length * 2, 256));
      this.#held.copy(grown, 0, 0, this.#heldBytes);
      this.#held = grown;
    }
    chunk.copy(this.#held, this.#heldBytes, start, end);
    this.#heldBytes = needed;
  }
}
