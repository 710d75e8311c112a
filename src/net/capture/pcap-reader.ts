/**
 * pcap, the classic format: one header, then records. Either byte order; microseconds or nanoseconds.
 *
 *      file:    | magic | major, minor (u16) | time zone | accuracy | snap length | link type |    24 bytes
 *      record:  | seconds | micro- or nanoseconds | captured length | original length | packet |  16 bytes and the packet
 *
 * Source: draft-ietf-opsawg-pcap.
 */
import { CaptureError } from './error.ts';
import type { InputBuffer } from './input.ts';
import type { FormatReader } from './reader.ts';
import { type CaptureInterface, type CaptureRecord, MICROSECONDS, NANOSECONDS } from './types.ts';

/** The magic number as its writer's byte order puts it: microseconds, nanoseconds. */
export const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4;
export const PCAP_MAGIC_NANOSECONDS = 0xa1b23c4d;
const SWAPPED_MICROSECONDS = 0xd4c3b2a1;
const SWAPPED_NANOSECONDS = 0x4d3cb2a1;

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;

/** @param magic the first four bytes, read as big-endian */
export function isPcapMagic(magic: number): boolean {
  return (
    magic === PCAP_MAGIC_MICROSECONDS ||
    magic === PCAP_MAGIC_NANOSECONDS ||
    magic === SWAPPED_MICROSECONDS ||
    magic === SWAPPED_NANOSECONDS
  );
}

/** Reads one pcap file. */
export class PcapReader implements FormatReader {
  packetsRead = 0;
  /** The file header's interface, given after the section. */
  #interface: CaptureInterface | null = null;
  #interfaceGiven = false;
  #littleEndian = false;
  #unitNanoseconds = 1;
  readonly #maximumPacketBytes: number;

  constructor(maximumPacketBytes: number) {
    this.#maximumPacketBytes = maximumPacketBytes;
  }

  get betweenRecords(): boolean {
    return this.#interface !== null;
  }

  next(input: InputBuffer): CaptureRecord | null {
    if (this.#interface === null) return this.#readFileHeader(input);
    if (!this.#interfaceGiven) {
      this.#interfaceGiven = true;
      return { kind: 'interface', interface: this.#interface };
    }
    return this.#readRecord(input, this.#interface);
  }

  #readFileHeader(input: InputBuffer): CaptureRecord | null {
    if (input.available < FILE_HEADER_BYTES) return null;
    const { view, start } = input;
    const magic = view.getUint32(start);
    const littleEndian = magic === SWAPPED_MICROSECONDS || magic === SWAPPED_NANOSECONDS;
    const nanoseconds = magic === PCAP_MAGIC_NANOSECONDS || magic === SWAPPED_NANOSECONDS;
    const major = view.getUint16(start + 4, littleEndian);
    const minor = view.getUint16(start + 6, littleEndian);
    // Before 2.4 the two lengths of a record came in the other order, not always.
    if (major !== 2 || minor !== 4) throw new CaptureError(`pcap version ${major}.${minor} is not 2.4`, 0);
    this.#littleEndian = littleEndian;
    this.#unitNanoseconds = nanoseconds ? 1 : 1000;
    this.#interface = {
      index: 0,
      // The upper half of the word says whether frames end in a checksum.
      linkType: view.getUint32(start + 20, littleEndian) & 0xffff,
      snapLengthBytes: view.getUint32(start + 16, littleEndian),
      resolution: nanoseconds ? NANOSECONDS : MICROSECONDS,
      offsetSeconds: 0,
      comments: [],
    };
    input.consume(FILE_HEADER_BYTES);
    return { kind: 'section', section: { format: 'pcap', littleEndian, comments: [] } };
  }

  #readRecord(input: InputBuffer, on: CaptureInterface): CaptureRecord | null {
    if (input.available < RECORD_HEADER_BYTES) return null;
    const { view, bytes, start } = input;
    const capturedBytes = view.getUint32(start + 8, this.#littleEndian);
    if (capturedBytes > this.#maximumPacketBytes) {
      throw new CaptureError(
        `packet of ${capturedBytes} bytes is longer than ${this.#maximumPacketBytes}`,
        input.offsetBytes,
        this.packetsRead,
      );
    }
    if (input.available < RECORD_HEADER_BYTES + capturedBytes) return null;
    // Some writers let the fraction reach a second; it is carried over.
    const fraction = view.getUint32(start + 4, this.#littleEndian) * this.#unitNanoseconds;
    const originalBytes = view.getUint32(start + 12, this.#littleEndian);
    const dataStart = start + RECORD_HEADER_BYTES;
    const data = bytes.slice(dataStart, dataStart + capturedBytes);
    const seconds = view.getUint32(start, this.#littleEndian) + Math.floor(fraction / 1e9);
    input.consume(RECORD_HEADER_BYTES + capturedBytes);
    this.packetsRead += 1;
    return {
      kind: 'packet',
      packet: {
        interface: on,
        seconds,
        nanoseconds: fraction % 1e9,
        hasTime: true,
        data,
        // Some writers leave the original length out.
        originalLengthBytes: Math.max(capturedBytes, originalBytes),
        comments: [],
      },
    };
  }
}
