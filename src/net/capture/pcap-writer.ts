/** PcapWriter: writes classic pcap, for tools that do not read pcapng. pcap-reader.ts has the layout. */
import { CaptureError } from './error.ts';
import { type ChunkSink, OutputBuffer } from './output.ts';
import { PCAP_MAGIC_MICROSECONDS, PCAP_MAGIC_NANOSECONDS } from './pcap-reader.ts';
import { LinkType } from './types.ts';

/** A packet to be written, in either format. */
export interface PacketToWrite {
  /** Time since 1970. */
  seconds: number;
  nanoseconds: number;
  data: Uint8Array;
  /** Length on the wire, when data is cut; by default the length of data. */
  originalLengthBytes?: number;
}

/** Writes one pcap file in chunks. */
export class PcapWriter {
  readonly #output: OutputBuffer;
  readonly #littleEndian: boolean;
  readonly #snapLengthBytes: number;
  readonly #unitNanoseconds: number;

  /**
   * The header is written at once.
   * @param sink takes the chunks
   * @param options.snapLengthBytes packets are cut to this; 262,144 by default
   * @param options.nanoseconds whether times are nanoseconds (by default) or microseconds
   */
  constructor(
    sink: ChunkSink,
    options: { linkType?: number; snapLengthBytes?: number; nanoseconds?: boolean; littleEndian?: boolean } = {},
  ) {
    this.#output = new OutputBuffer(sink);
    this.#littleEndian = options.littleEndian ?? true;
    this.#snapLengthBytes = options.snapLengthBytes ?? 262_144;
    const nanoseconds = options.nanoseconds ?? true;
    this.#unitNanoseconds = nanoseconds ? 1 : 1000;
    const at = this.#output.reserve(24);
    const { view } = this.#output.region;
    view.setUint32(at, nanoseconds ? PCAP_MAGIC_NANOSECONDS : PCAP_MAGIC_MICROSECONDS, this.#littleEndian);
    view.setUint16(at + 4, 2, this.#littleEndian);
    view.setUint16(at + 6, 4, this.#littleEndian);
    view.setUint32(at + 8, 0);
    view.setUint32(at + 12, 0);
    view.setUint32(at + 16, this.#snapLengthBytes, this.#littleEndian);
    view.setUint32(at + 20, options.linkType ?? LinkType.ETHERNET, this.#littleEndian);
  }

  /** @throws CaptureError for a time that 32 bits of seconds cannot hold */
  packet(packet: PacketToWrite): void {
    const { seconds, nanoseconds, data } = packet;
    if (
      !Number.isInteger(seconds) ||
      seconds < 0 ||
      seconds > 0xffff_ffff ||
      !(nanoseconds >= 0 && nanoseconds < 1e9)
    ) {
      throw new CaptureError(`pcap cannot hold the time ${seconds} s and ${nanoseconds} ns`);
    }
    const captured = Math.min(data.length, this.#snapLengthBytes);
    const at = this.#output.reserve(16 + captured);
    const { view, bytes } = this.#output.region;
    view.setUint32(at, seconds, this.#littleEndian);
    view.setUint32(at + 4, Math.floor(nanoseconds / this.#unitNanoseconds), this.#littleEndian);
    view.setUint32(at + 8, captured, this.#littleEndian);
    view.setUint32(at + 12, Math.max(data.length, packet.originalLengthBytes ?? 0), this.#littleEndian);
    bytes.set(captured === data.length ? data : data.subarray(0, captured), at + 16);
  }

  /** Hand on what has been written so far. */
  flush(): void {
    this.#output.flush();
  }
}
