/** InputBuffer: what has been fed to a capture reader and not been read yet. reader.ts owns it; the formats consume from it. */

/** A growing window over a stream of bytes. */
export class InputBuffer {
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  /** Index of the first byte that has not been consumed. */
  start = 0;
  #end = 0;
  /** Offset in the file of the byte at `start`. */
  offsetBytes = 0;

  /** Bytes that can be consumed. */
  get available(): number {
    return this.#end - this.start;
  }

  /** Add a chunk. It is copied, so the caller may reuse it. */
  append(chunk: Uint8Array): void {
    const waiting = this.available;
    if (this.#end + chunk.length > this.bytes.length) {
      if (waiting + chunk.length > this.bytes.length) {
        const grown = new Uint8Array(Math.max(waiting + chunk.length, this.bytes.length * 2, 4096));
        grown.set(this.bytes.subarray(this.start, this.#end));
        this.bytes = grown;
        this.view = new DataView(grown.buffer);
      } else {
        this.bytes.copyWithin(0, this.start, this.#end);
      }
      this.start = 0;
      this.#end = waiting;
    }
    this.bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** @param lengthBytes at most {@link available} */
  consume(lengthBytes: number): void {
    this.start += lengthBytes;
    this.offsetBytes += lengthBytes;
  }
}
