/**
 * Counts what goes by in a pcapng stream: packets, and those that the switch had to leave out, which the statistics at the end of a capture tell for each
 * interface. Blocks are walked as they come; nothing but the heads of blocks, and statistics, is looked at.
 *
 *      block   type (4) | length in all (4) | ... | length again (4)
 *      option  code (2) | length (2) | value, padded to 4
 */
const Block = { STATISTICS: 5, ENHANCED_PACKET: 6 } as const;
const HEAD_BYTES = 8;
/** In a statistics block, behind interface and time. */
const OPTIONS_AT = 20;
const OPTION_DROPPED = 5;
/** Ours are shorter. */
const LONGEST_STATISTICS_BYTES = 4096;

/** Of one capture, written by Millrace on this machine: so in its byte order. */
export class CaptureTally {
  packets = 0;
  lost = 0;
  /** The head of a block, or a block of statistics, as far as it has come. */
  #part = Buffer.alloc(0);
  /** Bytes of the present block that need not be looked at. */
  #skip = 0;

  push(chunk: Uint8Array): void {
    let rest = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    while (rest.length > 0) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, rest.length);
        this.#skip -= skipped;
        rest = rest.subarray(skipped);
        continue;
      }
      const wanted = this.#wanted();
      const taken = rest.subarray(0, wanted - this.#part.length);
      this.#part = Buffer.concat([this.#part, taken]);
      rest = rest.subarray(taken.length);
      if (this.#part.length === this.#wanted()) this.#finish();
    }
  }

  /** How much of the present block is looked at. */
  #wanted(): number {
    if (this.#part.length < HEAD_BYTES) return HEAD_BYTES;
    const length = this.#part.readUInt32LE(4);
    return this.#part.readUInt32LE(0) === Block.STATISTICS && length <= LONGEST_STATISTICS_BYTES ? length : HEAD_BYTES;
  }

  #finish(): void {
    const part = this.#part;
    this.#part = Buffer.alloc(0);
    const type = part.readUInt32LE(0);
    if (type === Block.ENHANCED_PACKET) this.packets += 1;
    if (part.length > HEAD_BYTES) this.#readStatistics(part);
    this.#skip = Math.max(0, part.readUInt32LE(4) - part.length);
  }

  #readStatistics(block: Buffer): void {
    const end = block.length - 4;
    for (let at = OPTIONS_AT; at + 4 <= end; ) {
      const length = block.readUInt16LE(at + 2);
      if (block.readUInt16LE(at) === OPTION_DROPPED && length === 8) this.lost += Number(block.readBigUInt64LE(at + 4));
      at += 4 + ((length + 3) & ~3);
    }
  }
}
