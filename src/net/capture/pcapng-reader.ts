/**
 * pcapng: blocks, each with its length before and behind. Sections of either byte order, any number of interfaces; pcapng-blocks.ts
 * reads what is inside the blocks. Blocks of other kinds (custom, name resolution, secrets, ...) are skipped without being held in memory.
 *
 *      | type | total length | body, padded to four | total length |
 *
 * Source: draft-ietf-opsawg-pcapng.
 */
import { CaptureError } from './error.ts';
import type { InputBuffer } from './input.ts';
import { readBlock, type SectionState } from './pcapng-blocks.ts';
import { BlockFault, BlockType } from './pcapng-options.ts';
import type { FormatReader } from './reader.ts';
import type { CaptureRecord } from './types.ts';

export const SECTION_HEADER_BLOCK: number = BlockType.SECTION_HEADER;

const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Type, both lengths. */
const FRAME_BYTES = 12;
const SECTION_HEADER_BYTES = 28;
/** Room for options in a block that is held in memory. */
const OPTIONS_BYTES = 1024 * 1024;

/** Bytes that each kind of block has at least, both lengths and the type included. Kinds that are not here are skipped. */
const leastBytes = new Map<number, number>([
  [BlockType.SECTION_HEADER, SECTION_HEADER_BYTES],
  [BlockType.INTERFACE_DESCRIPTION, 20],
  [BlockType.PACKET, 32],
  [BlockType.SIMPLE_PACKET, 16],
  [BlockType.INTERFACE_STATISTICS, 24],
  [BlockType.ENHANCED_PACKET, 32],
]);

/** Reads one pcapng file. */
export class PcapngReader implements FormatReader {
  packetsRead = 0;
  readonly #maximumPacketBytes: number;
  #section: SectionState | null = null;
  /** Of a block that is being skipped: bytes of its body still to come, or -1; and its length, to check the one behind. */
  #skipBytes = -1;
  #skipLength = 0;
  #skipOffset = 0;

  constructor(maximumPacketBytes: number) {
    this.#maximumPacketBytes = maximumPacketBytes;
  }

  get betweenRecords(): boolean {
    return this.#section !== null && this.#skipBytes < 0;
  }

  next(input: InputBuffer): CaptureRecord | null {
    for (;;) {
      if (this.#skipBytes >= 0 && !this.#skip(input)) return null;
      if (input.available < FRAME_BYTES) return null;
      const { view, start } = input;
      // The type of a section header reads the same in both byte orders, and its byte order governs its own length.
      const isSection = view.getUint32(start) === BlockType.SECTION_HEADER;
      const littleEndian = isSection ? this.#byteOrder(input) : this.#section?.littleEndian;
      if (littleEndian === undefined) throw this.#error('the first block is no section header', input.offsetBytes);
      const type = view.getUint32(start, littleEndian);
      const length = view.getUint32(start + 4, littleEndian);
      const least = leastBytes.get(type);
      this.#checkLength(length, least ?? FRAME_BYTES, type, input.offsetBytes);
      if (least === undefined) {
        this.#skipOffset = input.offsetBytes;
        this.#skipLength = length;
        this.#skipBytes = length - FRAME_BYTES;
        input.consume(FRAME_BYTES - 4);
        continue;
      }
      const most = this.#maximumPacketBytes + OPTIONS_BYTES;
      if (length > most) {
        throw this.#error(`block of type ${type} has ${length} bytes, more than ${most}`, input.offsetBytes);
      }
      if (input.available < length) return null;
      return this.#readBlock(input, type, length, littleEndian);
    }
  }

  #readBlock(input: InputBuffer, type: number, length: number, littleEndian: boolean): CaptureRecord {
    const { view, bytes, start, offsetBytes } = input;
    this.#checkTrailer(view.getUint32(start + length - 4, littleEndian), length, offsetBytes);
    try {
      if (type === BlockType.SECTION_HEADER || this.#section === null) {
        this.#section = { littleEndian, interfaces: [], maximumPacketBytes: this.#maximumPacketBytes };
      }
      const block = { bytes, view, littleEndian, start: start + 8, end: start + length - 4 };
      const record = readBlock(type, block, this.#section);
      if (record.kind === 'packet') this.packetsRead += 1;
      input.consume(length);
      return record;
    } catch (error) {
      if (error instanceof BlockFault) throw this.#error(error.message, offsetBytes);
      throw error;
    }
  }

  #byteOrder(input: InputBuffer): boolean {
    const { view, start } = input;
    if (view.getUint32(start + 8, true) === BYTE_ORDER_MAGIC) return true;
    if (view.getUint32(start + 8, false) === BYTE_ORDER_MAGIC) return false;
    throw this.#error('section header without a byte order', input.offsetBytes);
  }

  #checkLength(length: number, least: number, type: number, offsetBytes: number): void {
    if (length < least) {
      throw this.#error(`block of type ${type} has ${length} bytes, fewer than ${least}`, offsetBytes);
    }
    if (length % 4 !== 0) throw this.#error(`block length ${length} is no multiple of four`, offsetBytes);
  }

  #checkTrailer(behind: number, before: number, offsetBytes: number): void {
    if (behind !== before) {
      throw this.#error(`block length is ${before} before and ${behind} behind the block`, offsetBytes);
    }
  }

  /** Go on skipping. @returns whether the block is over */
  #skip(input: InputBuffer): boolean {
    const now = Math.min(this.#skipBytes, input.available);
    input.consume(now);
    this.#skipBytes -= now;
    if (this.#skipBytes > 0 || input.available < 4) return false;
    const littleEndian = this.#section?.littleEndian ?? false;
    this.#checkTrailer(input.view.getUint32(input.start, littleEndian), this.#skipLength, this.#skipOffset);
    input.consume(4);
    this.#skipBytes = -1;
    return true;
  }

  #error(reason: string, offsetBytes: number): CaptureError {
    return new CaptureError(reason, offsetBytes, this.packetsRead);
  }
}
