/** The blocks of pcapng that Millrace reads, from their bytes to records. pcapng-reader.ts has checked their frame and least length. */
import { BlockFault, BlockType, FILTER_IS_TEXT, OptionCode, OptionCursor } from './pcapng-options.ts';
import { timeFromUnits } from './timestamp.ts';
import {
  type CaptureInterface,
  type CapturePacket,
  type CaptureRecord,
  type CaptureSection,
  type CaptureStatistics,
  type CaptureTime,
  MICROSECONDS,
} from './types.ts';

/** What blocks of a section need to know of it. */
export interface SectionState {
  readonly littleEndian: boolean;
  readonly interfaces: CaptureInterface[];
  readonly maximumPacketBytes: number;
}

/** The body of a block. */
export interface Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly littleEndian: boolean;
  /** First byte of the body. */
  readonly start: number;
  /** Behind the body, where the second length is. */
  readonly end: number;
}

/** Interfaces that one section may have: a file of nothing but interface blocks must not fill the memory. */
const MAXIMUM_INTERFACES = 65_536;

/** @throws BlockFault with the reason, for a block that contradicts itself */
export function readBlock(type: number, block: Block, section: SectionState): CaptureRecord {
  switch (type) {
    case BlockType.SECTION_HEADER:
      return { kind: 'section', section: readSection(block) };
    case BlockType.INTERFACE_DESCRIPTION: {
      if (section.interfaces.length === MAXIMUM_INTERFACES) {
        throw new BlockFault(`more than ${MAXIMUM_INTERFACES} interfaces in a section`);
      }
      const description = readInterface(block, section.interfaces.length);
      section.interfaces.push(description);
      return { kind: 'interface', interface: description };
    }
    case BlockType.INTERFACE_STATISTICS:
      return { kind: 'statistics', statistics: readStatistics(block, section) };
    case BlockType.SIMPLE_PACKET:
      return { kind: 'packet', packet: readSimplePacket(block, section) };
    default:
      return { kind: 'packet', packet: readPacket(block, section, type === BlockType.PACKET) };
  }
}

function options(block: Block, start: number): OptionCursor {
  return new OptionCursor(block.bytes, block.view, start, block.end, block.littleEndian);
}

function u32(block: Block, at: number): number {
  return block.view.getUint32(block.start + at, block.littleEndian);
}

/** | byte order | major, minor (u16) | section length (s64) | options | */
function readSection(block: Block): CaptureSection {
  const major = block.view.getUint16(block.start + 4, block.littleEndian);
  const minor = block.view.getUint16(block.start + 6, block.littleEndian);
  // 1.2 was written by some tools and is the same format.
  if (major !== 1 || (minor !== 0 && minor !== 2)) throw new BlockFault(`pcapng version ${major}.${minor} is not 1.0`);
  const section: CaptureSection = { format: 'pcapng', littleEndian: block.littleEndian, comments: [] };
  const option = options(block, block.start + 16);
  while (option.next()) {
    if (option.code === OptionCode.COMMENT) section.comments.push(option.text());
    else if (option.code === OptionCode.SECTION_HARDWARE) section.hardware = option.text();
    else if (option.code === OptionCode.SECTION_OPERATING_SYSTEM) section.operatingSystem = option.text();
    else if (option.code === OptionCode.SECTION_APPLICATION) section.application = option.text();
  }
  return section;
}

/** | link type (u16) | reserved (u16) | snap length | options | */
function readInterface(block: Block, index: number): CaptureInterface {
  const description: CaptureInterface = {
    index,
    linkType: block.view.getUint16(block.start, block.littleEndian),
    snapLengthBytes: u32(block, 4),
    resolution: MICROSECONDS,
    offsetSeconds: 0,
    comments: [],
  };
  const option = options(block, block.start + 8);
  while (option.next()) {
    switch (option.code) {
      case OptionCode.COMMENT:
        description.comments.push(option.text());
        break;
      case OptionCode.INTERFACE_NAME:
        description.name = option.text();
        break;
      case OptionCode.INTERFACE_DESCRIPTION:
        description.description = option.text();
        break;
      case OptionCode.INTERFACE_MAC_ADDRESS:
        if (option.lengthBytes === 6) description.macAddress = option.copy();
        break;
      case OptionCode.INTERFACE_SPEED:
        description.speedBps = option.u64();
        break;
      case OptionCode.INTERFACE_RESOLUTION: {
        const value = option.u8();
        description.resolution = { base: (value & 0x80) === 0 ? 10 : 2, exponent: value & 0x7f };
        break;
      }
      case OptionCode.INTERFACE_FILTER:
        if (option.lengthBytes > 0 && block.bytes[option.start] === FILTER_IS_TEXT) description.filter = option.text(1);
        break;
      case OptionCode.INTERFACE_OPERATING_SYSTEM:
        description.operatingSystem = option.text();
        break;
      case OptionCode.INTERFACE_OFFSET:
        description.offsetSeconds = option.s64();
        break;
      case OptionCode.INTERFACE_HARDWARE:
        description.hardware = option.text();
        break;
      default:
    }
  }
  return description;
}

function interfaceOf(section: SectionState, index: number): CaptureInterface {
  if (index >= section.interfaces.length) {
    throw new BlockFault(`interface ${index} has not been described; there are ${section.interfaces.length}`);
  }
  return section.interfaces[index];
}

function timeOf(high: number, low: number, on: CaptureInterface): CaptureTime {
  return timeFromUnits(high, low, on.resolution, on.offsetSeconds);
}

/**
 * Enhanced: | interface | time, high | time, low | captured length | original length | packet, padded | options |
 * Obsolete: | interface (u16) | drops (u16) | and the same from there on.
 */
function readPacket(block: Block, section: SectionState, obsolete: boolean): CapturePacket {
  const index = obsolete ? block.view.getUint16(block.start, block.littleEndian) : u32(block, 0);
  const on = interfaceOf(section, index);
  const capturedBytes = u32(block, 12);
  const dataStart = block.start + 20;
  checkCaptured(capturedBytes, block.end - dataStart, section);
  const packet: CapturePacket = {
    interface: on,
    ...timeOf(u32(block, 4), u32(block, 8), on),
    hasTime: true,
    data: block.bytes.slice(dataStart, dataStart + capturedBytes),
    // Some writers leave the original length out.
    originalLengthBytes: Math.max(capturedBytes, u32(block, 16)),
    comments: [],
  };
  if (obsolete) {
    const drops = block.view.getUint16(block.start + 2, block.littleEndian);
    if (drops !== 0xffff) packet.dropCount = drops;
  }
  const option = options(block, dataStart + ((capturedBytes + 3) & ~3));
  while (option.next()) {
    if (option.code === OptionCode.COMMENT) packet.comments.push(option.text());
    else if (option.code === OptionCode.PACKET_FLAGS) packet.flags = option.u32();
    else if (option.code === OptionCode.PACKET_DROP_COUNT && !obsolete) packet.dropCount = option.u64();
  }
  return packet;
}

/** | original length | packet, padded |; the captured length follows from the first interface's snap length. */
function readSimplePacket(block: Block, section: SectionState): CapturePacket {
  const on = interfaceOf(section, 0);
  const originalLengthBytes = u32(block, 0);
  const limit = on.snapLengthBytes === 0 ? originalLengthBytes : on.snapLengthBytes;
  const capturedBytes = Math.min(originalLengthBytes, limit);
  const dataStart = block.start + 4;
  checkCaptured(capturedBytes, block.end - dataStart, section);
  return {
    interface: on,
    seconds: 0,
    nanoseconds: 0,
    hasTime: false,
    data: block.bytes.slice(dataStart, dataStart + capturedBytes),
    originalLengthBytes,
    comments: [],
  };
}

function checkCaptured(capturedBytes: number, room: number, section: SectionState): void {
  if (capturedBytes > room) {
    throw new BlockFault(`packet of ${capturedBytes} bytes does not fit the ${room} of its block`);
  }
  if (capturedBytes > section.maximumPacketBytes) {
    throw new BlockFault(`packet of ${capturedBytes} bytes is longer than ${section.maximumPacketBytes}`);
  }
}

/** | interface | time, high | time, low | options | */
function readStatistics(block: Block, section: SectionState): CaptureStatistics {
  const on = interfaceOf(section, u32(block, 0));
  const statistics: CaptureStatistics = { interface: on, ...timeOf(u32(block, 4), u32(block, 8), on), comments: [] };
  const option = options(block, block.start + 12);
  while (option.next()) {
    switch (option.code) {
      case OptionCode.COMMENT:
        statistics.comments.push(option.text());
        break;
      case OptionCode.STATISTICS_START_TIME: {
        const { high, low } = option.halves();
        statistics.startTime = timeOf(high, low, on);
        break;
      }
      case OptionCode.STATISTICS_END_TIME: {
        const { high, low } = option.halves();
        statistics.endTime = timeOf(high, low, on);
        break;
      }
      case OptionCode.STATISTICS_RECEIVED:
        statistics.received = option.u64();
        break;
      case OptionCode.STATISTICS_DROPPED:
        statistics.dropped = option.u64();
        break;
      case OptionCode.STATISTICS_FILTER_ACCEPTED:
        statistics.filterAccepted = option.u64();
        break;
      case OptionCode.STATISTICS_DROPPED_BY_SYSTEM:
        statistics.droppedBySystem = option.u64();
        break;
      case OptionCode.STATISTICS_DELIVERED:
        statistics.delivered = option.u64();
        break;
      default:
    }
  }
  return statistics;
}
