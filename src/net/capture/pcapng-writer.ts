/**
 * PcapngWriter: writes pcapng, with nanoseconds unless an interface says otherwise. pcapng-blocks.ts has the layouts, and
 * pcapng-option-writer.ts the options.
 */
import { copyBytes } from '../copy.ts';
import type { Packet } from '../packet.ts';
import { CaptureError } from './error.ts';
import { type ChunkSink, OutputBuffer } from './output.ts';
import type { PacketToWrite } from './pcap-writer.ts';
import { OptionList } from './pcapng-option-writer.ts';
import { BlockType, FILTER_IS_TEXT, OptionCode } from './pcapng-options.ts';
import { type Units, unitsFromTime } from './timestamp.ts';
import {
  type CaptureInterface,
  type CaptureSection,
  type CaptureStatistics,
  type CaptureTime,
  LinkType,
  NANOSECONDS,
  type TimestampResolution,
} from './types.ts';

/** What a section says of itself. */
export type SectionToWrite = Partial<Omit<CaptureSection, 'format'>>;
/** An interface to be described: Ethernet, whole packets and nanoseconds unless it says otherwise. */
export type InterfaceToWrite = Partial<Omit<CaptureInterface, 'index'>>;
/** A packet with what pcapng can say of it beyond pcap. */
export interface AnnotatedPacket extends PacketToWrite {
  flags?: number;
  dropCount?: number;
  comments?: readonly string[];
}
/** Counters of an interface. */
export type StatisticsToWrite = Omit<CaptureStatistics, 'interface' | 'comments'> & { comments?: readonly string[] };

interface KnownInterface {
  snapLengthBytes: number;
  resolution: TimestampResolution;
  offsetSeconds: number;
}

/** Type, both lengths. */
const FRAME_BYTES = 12;
const PACKET_HEADER_BYTES = 20;
/** Flags option: code, length, value; and the end of options. */
const FLAGS_OPTION_BYTES = 12;

/** Writes one pcapng file in chunks. */
export class PcapngWriter {
  readonly #output: OutputBuffer;
  readonly #littleEndian: boolean;
  readonly #interfaces: KnownInterface[] = [];
  readonly #units: Units = { high: 0, low: 0 };

  /**
   * The section header is written at once.
   * @param sink takes the chunks
   * @throws CaptureError for a text of more than 65,535 bytes
   */
  constructor(sink: ChunkSink, section: SectionToWrite = {}) {
    this.#output = new OutputBuffer(sink);
    this.#littleEndian = section.littleEndian ?? true;
    const options = new OptionList(this.#littleEndian);
    for (const comment of section.comments ?? []) options.text(OptionCode.COMMENT, comment);
    options.text(OptionCode.SECTION_HARDWARE, section.hardware);
    options.text(OptionCode.SECTION_OPERATING_SYSTEM, section.operatingSystem);
    options.text(OptionCode.SECTION_APPLICATION, section.application);
    const at = this.#block(BlockType.SECTION_HEADER, 16, options);
    const { view } = this.#output.region;
    view.setUint32(at, 0x1a2b3c4d, this.#littleEndian);
    view.setUint16(at + 4, 1, this.#littleEndian);
    view.setUint16(at + 6, 0, this.#littleEndian);
    // The length of the section is not known yet, which all ones say.
    view.setUint32(at + 8, 0xffff_ffff);
    view.setUint32(at + 12, 0xffff_ffff);
  }

  /**
   * Describe an interface. Its packets come after it.
   * @returns its number
   * @throws CaptureError for a text of more than 65,535 bytes, or a resolution that does not exist
   */
  addInterface(description: InterfaceToWrite): number {
    const resolution = description.resolution ?? NANOSECONDS;
    const { base, exponent } = resolution;
    if ((base !== 2 && base !== 10) || !Number.isInteger(exponent) || exponent < 0 || exponent > 127) {
      throw new CaptureError(`time stamps in units of ${base}^-${exponent} seconds cannot be described`);
    }
    const snapLengthBytes = description.snapLengthBytes ?? 0;
    const offsetSeconds = description.offsetSeconds ?? 0;
    const options = new OptionList(this.#littleEndian);
    for (const comment of description.comments ?? []) options.text(OptionCode.COMMENT, comment);
    options.text(OptionCode.INTERFACE_NAME, description.name);
    options.text(OptionCode.INTERFACE_DESCRIPTION, description.description);
    options.bytes(OptionCode.INTERFACE_MAC_ADDRESS, description.macAddress);
    options.u64(OptionCode.INTERFACE_SPEED, description.speedBps);
    options.bytes(OptionCode.INTERFACE_RESOLUTION, new Uint8Array([(base === 2 ? 0x80 : 0) | exponent]));
    if (description.filter !== undefined) {
      const text = new TextEncoder().encode(description.filter);
      options.bytes(OptionCode.INTERFACE_FILTER, new Uint8Array([FILTER_IS_TEXT, ...text]));
    }
    options.text(OptionCode.INTERFACE_OPERATING_SYSTEM, description.operatingSystem);
    if (offsetSeconds !== 0) options.s64(OptionCode.INTERFACE_OFFSET, offsetSeconds);
    options.text(OptionCode.INTERFACE_HARDWARE, description.hardware);
    const at = this.#block(BlockType.INTERFACE_DESCRIPTION, 8, options);
    const { view } = this.#output.region;
    view.setUint16(at, description.linkType ?? LinkType.ETHERNET, this.#littleEndian);
    view.setUint16(at + 2, 0);
    view.setUint32(at + 4, snapLengthBytes, this.#littleEndian);
    return this.#interfaces.push({ snapLengthBytes, resolution, offsetSeconds }) - 1;
  }

  /**
   * Write a packet with all that may be said of it.
   * @throws CaptureError for an interface that was not described, or a time that it cannot express
   */
  packet(interfaceIndex: number, packet: AnnotatedPacket): void {
    const options = new OptionList(this.#littleEndian);
    for (const comment of packet.comments ?? []) options.text(OptionCode.COMMENT, comment);
    options.u32(OptionCode.PACKET_FLAGS, packet.flags);
    options.u64(OptionCode.PACKET_DROP_COUNT, packet.dropCount);
    const on = this.#known(interfaceIndex);
    const captured = capturedLength(packet.data.length, on);
    this.#convertTime(packet, on);
    const padded = (captured + 3) & ~3;
    const at = this.#block(BlockType.ENHANCED_PACKET, PACKET_HEADER_BYTES + padded, options);
    const original = Math.max(packet.data.length, packet.originalLengthBytes ?? 0);
    this.#fillPacket(at, interfaceIndex, captured, original);
    const data = captured === packet.data.length ? packet.data : packet.data.subarray(0, captured);
    this.#output.region.bytes.set(data, at + PACKET_HEADER_BYTES);
  }

  /**
   * Write a packet of the switch as it is now: the cheap way, with nothing allocated.
   * @param flags epb_flags, such as Direction.INBOUND
   * @throws CaptureError as `packet`
   */
  frame(interfaceIndex: number, packet: Packet, time: CaptureTime, flags: number): void {
    const on = this.#known(interfaceIndex);
    const captured = capturedLength(packet.length, on);
    this.#convertTime(time, on);
    const padded = (captured + 3) & ~3;
    const length = FRAME_BYTES + PACKET_HEADER_BYTES + padded + FLAGS_OPTION_BYTES;
    const start = this.#output.reserve(length);
    this.#frameBlock(BlockType.ENHANCED_PACKET, start, length);
    this.#fillPacket(start + 8, interfaceIndex, captured, packet.length);
    copyBytes(packet.region, packet.offset, this.#output.region, start + 8 + PACKET_HEADER_BYTES, captured);
    const { view } = this.#output.region;
    const option = start + 8 + PACKET_HEADER_BYTES + padded;
    view.setUint16(option, OptionCode.PACKET_FLAGS, this.#littleEndian);
    view.setUint16(option + 2, 4, this.#littleEndian);
    view.setUint32(option + 4, flags, this.#littleEndian);
    view.setUint32(option + 8, 0);
  }

  /**
   * Write the counters of an interface, as of a time.
   * @throws CaptureError as `packet`
   */
  statistics(interfaceIndex: number, statistics: StatisticsToWrite): void {
    const on = this.#known(interfaceIndex);
    const options = new OptionList(this.#littleEndian);
    for (const comment of statistics.comments ?? []) options.text(OptionCode.COMMENT, comment);
    for (const [code, time] of [
      [OptionCode.STATISTICS_START_TIME, statistics.startTime],
      [OptionCode.STATISTICS_END_TIME, statistics.endTime],
    ] as const) {
      if (time === undefined) continue;
      this.#convertTime(time, on);
      options.halves(code, this.#units);
    }
    options.u64(OptionCode.STATISTICS_RECEIVED, statistics.received);
    options.u64(OptionCode.STATISTICS_DROPPED, statistics.dropped);
    options.u64(OptionCode.STATISTICS_FILTER_ACCEPTED, statistics.filterAccepted);
    options.u64(OptionCode.STATISTICS_DROPPED_BY_SYSTEM, statistics.droppedBySystem);
    options.u64(OptionCode.STATISTICS_DELIVERED, statistics.delivered);
    this.#convertTime(statistics, on);
    const at = this.#block(BlockType.INTERFACE_STATISTICS, 12, options);
    const { view } = this.#output.region;
    view.setUint32(at, interfaceIndex, this.#littleEndian);
    view.setUint32(at + 4, this.#units.high, this.#littleEndian);
    view.setUint32(at + 8, this.#units.low, this.#littleEndian);
  }

  /** Hand on what has been written so far. */
  flush(): void {
    this.#output.flush();
  }

  /** Reserve a block and write all of it but the body's fixed part; returns where that starts. */
  #block(type: number, bodyBytes: number, options: OptionList): number {
    const encoded = options.finish();
    const length = FRAME_BYTES + bodyBytes + encoded.length;
    const start = this.#output.reserve(length);
    this.#frameBlock(type, start, length);
    this.#output.region.bytes.set(encoded, start + 8 + bodyBytes);
    return start + 8;
  }

  #frameBlock(type: number, start: number, length: number): void {
    const { view } = this.#output.region;
    view.setUint32(start, type, this.#littleEndian);
    view.setUint32(start + 4, length, this.#littleEndian);
    view.setUint32(start + length - 4, length, this.#littleEndian);
  }

  /** Fill a packet block's fixed part, and the padding behind the packet. */
  #fillPacket(at: number, interfaceIndex: number, captured: number, original: number): void {
    const { view, bytes } = this.#output.region;
    view.setUint32(at, interfaceIndex, this.#littleEndian);
    view.setUint32(at + 4, this.#units.high, this.#littleEndian);
    view.setUint32(at + 8, this.#units.low, this.#littleEndian);
    view.setUint32(at + 12, captured, this.#littleEndian);
    view.setUint32(at + 16, original, this.#littleEndian);
    for (let i = captured; (i & 3) !== 0; i += 1) bytes[at + PACKET_HEADER_BYTES + i] = 0;
  }

  #convertTime(time: CaptureTime, on: KnownInterface): void {
    const { seconds, nanoseconds } = time;
    if (!unitsFromTime(seconds, nanoseconds, on.resolution, on.offsetSeconds, this.#units)) {
      throw new CaptureError(`the interface's time stamps cannot hold ${seconds} s and ${nanoseconds} ns`);
    }
  }

  #known(interfaceIndex: number): KnownInterface {
    const on = this.#interfaces[interfaceIndex];
    if (on === undefined) throw new CaptureError(`interface ${interfaceIndex} has not been described`);
    return on;
  }
}

function capturedLength(lengthBytes: number, on: KnownInterface): number {
  return on.snapLengthBytes === 0 ? lengthBytes : Math.min(lengthBytes, on.snapLengthBytes);
}
