/**
 * CaptureReader: reads pcap and pcapng from chunks of any size, telling the format by its first bytes. It holds one incomplete block at most,
 * of bounded length. pcap-reader.ts and pcapng-reader.ts know the formats; file.ts feeds it from a file.
 */
import { CaptureError } from './error.ts';
import { InputBuffer } from './input.ts';
import { isPcapMagic, PcapReader } from './pcap-reader.ts';
import { PcapngReader, SECTION_HEADER_BLOCK } from './pcapng-reader.ts';
import type { CaptureRecord } from './types.ts';

/** Longest packet that is believed; the limit of libpcap and Wireshark for Ethernet. */
const DEFAULT_MAXIMUM_PACKET_BYTES = 262_144;

/** A format's part of the reader. */
export interface FormatReader {
  /**
   * @returns the next record, or null until more bytes are there
   * @throws CaptureError
   */
  next(input: InputBuffer): CaptureRecord | null;
  /** Packets read so far. */
  readonly packetsRead: number;
  /** Whether the input may end here: between records. */
  readonly betweenRecords: boolean;
}

/**
 * A reader in three calls: `push` a chunk, `next` until it gives null, and so on; `end` when there is no more.
 * After a CaptureError it is over: every further call throws the same error.
 */
export class CaptureReader {
  readonly #input = new InputBuffer();
  readonly #maximumPacketBytes: number;
  #format: FormatReader | null = null;
  #failure: CaptureError | null = null;

  /** @param options.maximumPacketBytes longest packet that is not taken for a broken or hostile length */
  constructor(options: { maximumPacketBytes?: number } = {}) {
    this.#maximumPacketBytes = options.maximumPacketBytes ?? DEFAULT_MAXIMUM_PACKET_BYTES;
  }

  /** Packets read so far. */
  get packetsRead(): number {
    return this.#format?.packetsRead ?? 0;
  }

  /** Bytes held for a block that is not complete yet, or for records that `next` has not given yet. */
  get bufferedBytes(): number {
    return this.#input.available;
  }

  /** Feed a chunk; it is copied. Call {@link next} until null before the next chunk, or the chunks pile up. */
  push(chunk: Uint8Array): void {
    if (this.#failure !== null) throw this.#failure;
    this.#input.append(chunk);
  }

  /**
   * @returns the next record, or null until more bytes are pushed
   * @throws CaptureError for what is no capture, or a broken one; all records before it have been given
   */
  next(): CaptureRecord | null {
    if (this.#failure !== null) throw this.#failure;
    try {
      if (this.#format === null) {
        if (this.#input.available < 4) return null;
        this.#format = this.#detect();
      }
      return this.#format.next(this.#input);
    } catch (error) {
      if (error instanceof CaptureError) this.#failure = error;
      throw error;
    }
  }

  /**
   * Say that nothing more comes.
   * @throws CaptureError when the capture ends inside a record, or before it began; it tells how many packets were read
   */
  end(): void {
    if (this.#failure !== null) throw this.#failure;
    const left = this.#input.available;
    if (this.#format?.betweenRecords === true && left === 0) return;
    const what =
      this.#format === null
        ? left === 0
          ? 'the file is empty'
          : `the file ends after ${left} bytes, before the header`
        : `the file is truncated: ${left} bytes of an incomplete block are left`;
    this.#failure = new CaptureError(what, this.#input.offsetBytes, this.packetsRead);
    throw this.#failure;
  }

  #detect(): FormatReader {
    const { view, bytes, start } = this.#input;
    const magic = view.getUint32(start);
    if (magic === SECTION_HEADER_BLOCK) return new PcapngReader(this.#maximumPacketBytes);
    if (isPcapMagic(magic)) return new PcapReader(this.#maximumPacketBytes);
    if (bytes[start] === 0x1f && bytes[start + 1] === 0x8b) {
      throw new CaptureError('the file is compressed with gzip: unpack it first', 0);
    }
    throw new CaptureError(`neither pcap nor pcapng: it begins with 0x${magic.toString(16).padStart(8, '0')}`, 0);
  }
}

/**
 * All records of a capture that comes in chunks.
 * @throws CaptureError, after all records before the fault have been given
 */
export function* readCapture(
  chunks: Iterable<Uint8Array>,
  options: { maximumPacketBytes?: number } = {},
): Generator<CaptureRecord> {
  const reader = new CaptureReader(options);
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let record = reader.next(); record !== null; record = reader.next()) yield record;
  }
  reader.end();
}
