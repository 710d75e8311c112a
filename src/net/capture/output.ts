/** OutputBuffer: gathers what a capture writer writes and hands it on in chunks, so that a packet costs no system call. */

import { Region } from '../region.ts';

/** Takes the chunks of a capture in order. A chunk is the taker's to keep. */
export type ChunkSink = (chunk: Uint8Array) => void;

const CHUNK_BYTES = 64 * 1024;

/** A chunk in the making. */
export class OutputBuffer {
  region = new Region(new ArrayBuffer(CHUNK_BYTES));
  readonly #sink: ChunkSink;
  #length = 0;

  constructor(sink: ChunkSink) {
    this.#sink = sink;
  }

  /**
   * Room for a record, which must be filled whole: the bytes may hold anything.
   * @returns its index in the region
   */
  reserve(lengthBytes: number): number {
    if (this.#length + lengthBytes > this.region.lengthBytes) {
      this.flush();
      if (lengthBytes > this.region.lengthBytes) this.#renew(lengthBytes);
    }
    const at = this.#length;
    this.#length += lengthBytes;
    return at;
  }

  /** Hand on what there is. */
  flush(): void {
    if (this.#length === 0) return;
    const chunk = this.region.bytes.subarray(0, this.#length);
    this.#renew(CHUNK_BYTES);
    this.#sink(chunk);
  }

  #renew(lengthBytes: number): void {
    this.region = new Region(new ArrayBuffer(lengthBytes));
    this.#length = 0;
  }
}
