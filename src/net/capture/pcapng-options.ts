/**
 * Options of pcapng blocks: | code (u16) | length (u16) | value | padding to four |, ended by code 0 or by the block.
 * The codes that blocks share and their own are listed here; pcapng-reader.ts and pcapng-writer.ts use them.
 */

export const BlockType = {
  SECTION_HEADER: 0x0a0d0d0a,
  INTERFACE_DESCRIPTION: 1,
  /** Obsolete, but old files hold it. */
  PACKET: 2,
  SIMPLE_PACKET: 3,
  INTERFACE_STATISTICS: 5,
  ENHANCED_PACKET: 6,
} as const;

export const OptionCode = {
  END: 0,
  COMMENT: 1,
  SECTION_HARDWARE: 2,
  SECTION_OPERATING_SYSTEM: 3,
  SECTION_APPLICATION: 4,
  INTERFACE_NAME: 2,
  INTERFACE_DESCRIPTION: 3,
  INTERFACE_MAC_ADDRESS: 6,
  INTERFACE_SPEED: 8,
  INTERFACE_RESOLUTION: 9,
  INTERFACE_FILTER: 11,
  INTERFACE_OPERATING_SYSTEM: 12,
  INTERFACE_OFFSET: 14,
  INTERFACE_HARDWARE: 15,
  PACKET_FLAGS: 2,
  PACKET_DROP_COUNT: 4,
  STATISTICS_START_TIME: 2,
  STATISTICS_END_TIME: 3,
  STATISTICS_RECEIVED: 4,
  STATISTICS_DROPPED: 5,
  STATISTICS_FILTER_ACCEPTED: 6,
  STATISTICS_DROPPED_BY_SYSTEM: 7,
  STATISTICS_DELIVERED: 8,
} as const;

/** First byte of a filter option: what follows is text. */
export const FILTER_IS_TEXT = 0;

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Why a block could not be read; the caller adds the place and makes it a CaptureError. */
export class BlockFault extends Error {
  override readonly name: string = 'BlockFault';
}

/** Walks the options of a block: `while (options.next()) switch (options.code) ...` */
export class OptionCursor {
  code = 0;
  /** Where the value starts in `bytes`. */
  start = 0;
  lengthBytes = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #littleEndian: boolean;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, view: DataView, start: number, end: number, littleEndian: boolean) {
    this.#bytes = bytes;
    this.#view = view;
    this.#at = start;
    this.#end = end;
    this.#littleEndian = littleEndian;
  }

  /** @throws BlockFault for an option that runs over the end of its block */
  next(): boolean {
    const left = this.#end - this.#at;
    if (left === 0) return false;
    if (left < 4) throw new BlockFault(`${left} bytes are too few for an option`);
    this.code = this.#view.getUint16(this.#at, this.#littleEndian);
    this.lengthBytes = this.#view.getUint16(this.#at + 2, this.#littleEndian);
    if (this.code === OptionCode.END) return false;
    const padded = (this.lengthBytes + 3) & ~3;
    if (padded > left - 4) {
      throw new BlockFault(`option ${this.code} of ${this.lengthBytes} bytes runs over the end of its block`);
    }
    this.start = this.#at + 4;
    this.#at += 4 + padded;
    return true;
  }

  text(from = 0): string {
    return decoder.decode(this.#bytes.subarray(this.start + from, this.start + this.lengthBytes));
  }

  copy(): Uint8Array {
    return this.#bytes.slice(this.start, this.start + this.lengthBytes);
  }

  u8(): number {
    this.#expect(1);
    return this.#bytes[this.start];
  }

  u32(): number {
    this.#expect(4);
    return this.#view.getUint32(this.start, this.#littleEndian);
  }

  /** A u64 as a number: exact to 2^53 - 1. */
  u64(): number {
    this.#expect(8);
    return Number(this.#view.getBigUint64(this.start, this.#littleEndian));
  }

  s64(): number {
    this.#expect(8);
    return Number(this.#view.getBigInt64(this.start, this.#littleEndian));
  }

  /** Two u32, the upper half first whatever the byte order: a time stamp. */
  halves(): { high: number; low: number } {
    this.#expect(8);
    return {
      high: this.#view.getUint32(this.start, this.#littleEndian),
      low: this.#view.getUint32(this.start + 4, this.#littleEndian),
    };
  }

  #expect(lengthBytes: number): void {
    if (this.lengthBytes !== lengthBytes) {
      throw new BlockFault(`option ${this.code} has ${this.lengthBytes} bytes instead of ${lengthBytes}`);
    }
  }
}
