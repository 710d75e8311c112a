/**
 * The channel of copies: says what programs shall copy, and reads what they have copied. Copies of one CPU, and of all, come in the
 * order in which they were made. Neighbours: stage.ts is the programs' side, layout.ts what both know.
 */
import { ArrayMap, bytes, type MappedValues, RingBufferMap, RingBufferReader } from '../../bpf/index.ts';
import { Region } from '../../net/index.ts';
import { MAXIMUM_IFINDEX } from '../layout/limits.ts';
import { CopyFlag, type CopyMaps, RecordByte, SCRATCH_BYTES, WANTED_WORDS, WantedWord } from './layout.ts';

/** One copy. The reader's object is used again for the next one. */
export class FrameCopy {
  ifindex = 0;
  /** Whether the frame was sent to the interface; otherwise it came in there. */
  isOut = false;
  isSuperPacket = false;
  /** When the packet came in, in nanoseconds of CLOCK_MONOTONIC. */
  timeNs = 0;
  /** Length on the wire; {@link lengthBytes} may be less. */
  originalBytes = 0;
  /** Where the frame is, tags inside: valid during the call. */
  readonly region: Region;
  offset = 0;
  lengthBytes = 0;

  constructor(region: Region) {
    this.region = region;
  }
}

/** How to make a channel. */
export interface CopyChannelOptions {
  /** Room for copies that have not been read: a power of two. */
  readonly ringBytes: number;
  /** CPUs of this machine, rounded up to a power of two. */
  readonly cpus: number;
}

/** Copies of packets that programs carry, from the kernel to here. */
export class CopyChannel {
  readonly maps: CopyMaps;
  readonly #wanted: MappedValues<Uint8Array>;
  readonly #reader: RingBufferReader;
  readonly #copy: FrameCopy;
  /** Where the ring's data begin in the region. */
  readonly #dataOffset: number;

  /** @throws UnsupportedError, PrivilegeError, SystemError when maps cannot be made; nothing is left over */
  static create({ ringBytes, cpus }: CopyChannelOptions): CopyChannel {
    const made: { close(): void }[] = [];
    const keep = <M extends { close(): void }>(map: M): M => {
      made.push(map);
      return map;
    };
    try {
      const ring = keep(RingBufferMap.create({ name: 'mr_copies', sizeBytes: ringBytes }));
      const wantedBytes = (MAXIMUM_IFINDEX + 1) * WANTED_WORDS * 4;
      const one = { maxEntries: 1 } as const;
      const wanted = keep(ArrayMap.create({ ...one, name: 'mr_wanted', value: bytes(wantedBytes), mappable: true }));
      const scratch = keep(ArrayMap.create({ ...one, name: 'mr_scratch', value: bytes(cpus * SCRATCH_BYTES) }));
      return new CopyChannel({ ring, wanted, scratch });
    } catch (error) {
      for (const map of made) map.close();
      throw error;
    }
  }

  private constructor(maps: CopyMaps) {
    this.maps = maps;
    this.#wanted = maps.wanted.map();
    this.#reader = new RingBufferReader(maps.ring);
    const { bytes: data } = this.#reader;
    this.#copy = new FrameCopy(new Region(data.buffer));
    this.#dataOffset = data.byteOffset;
  }

  /** For epoll: readable when a copy is there. */
  get fileDescriptor(): number {
    return this.#reader.fd;
  }

  /** Bytes of copies that wait to be taken. */
  get pendingBytes(): number {
    return this.#reader.pendingBytes;
  }

  /**
   * Say how much shall be copied of the frames of an interface; it holds from now on.
   * @param inBytes most bytes of each frame that comes in, 0 for none
   * @param outBytes the same for what is sent to it
   * @returns false for an interface whose index is too high
   */
  want(ifindex: number, inBytes: number, outBytes: number): boolean {
    if (!(ifindex > 0 && ifindex <= MAXIMUM_IFINDEX)) return false;
    const { s32 } = this.#wanted;
    const at = ifindex * WANTED_WORDS + WantedWord.BYTES;
    Atomics.store(s32, at, inBytes);
    Atomics.store(s32, at + 1, outBytes);
    return true;
  }

  /** Copies of all interfaces that found no room since the channel is there, modulo 2^32. */
  get lostInAll(): number {
    return Atomics.load(this.#wanted.s32, WantedWord.LOST) >>> 0;
  }

  /** Copies of an interface that found no room, modulo 2^32. */
  lost(ifindex: number, isOut: boolean): number {
    if (!(ifindex > 0 && ifindex <= MAXIMUM_IFINDEX)) return 0;
    return Atomics.load(this.#wanted.s32, ifindex * WANTED_WORDS + WantedWord.LOST + (isOut ? 1 : 0)) >>> 0;
  }

  /**
   * Take the copies that are there, oldest first.
   * @param consumer called with each; copy and bytes are valid during the call
   * @param limit the most to take
   * @returns how many were taken
   * @throws ClosedError; what the consumer throws, behind the copy that it threw at
   */
  read(consumer: (copy: FrameCopy) => void, limit: number): number {
    const { view } = this.#reader;
    const copy = this.#copy;
    return this.#reader.read((_data, at) => {
      const flags = view.getUint32(at + RecordByte.FLAGS, LITTLE_ENDIAN);
      copy.timeNs = readTime(view, at + RecordByte.TIME);
      copy.ifindex = view.getUint32(at + RecordByte.IFINDEX, LITTLE_ENDIAN);
      copy.isOut = (flags & CopyFlag.OUT) !== 0;
      copy.isSuperPacket = (flags & CopyFlag.SUPER_PACKET) !== 0;
      copy.originalBytes = view.getUint32(at + RecordByte.LENGTH, LITTLE_ENDIAN);
      copy.lengthBytes = view.getUint32(at + RecordByte.CAPTURED, LITTLE_ENDIAN);
      copy.offset = this.#dataOffset + at + RecordByte.FRAME;
      consumer(copy);
    }, limit);
  }

  /** Stop reading. Programs that still copy write to nobody. Closing twice is harmless. */
  close(): void {
    this.#reader.close();
    for (const map of Object.values(this.maps)) map.close();
  }
}

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Exact for some 100 days of uptime, then to a few nanoseconds. */
function readTime(view: DataView, at: number): number {
  const high = view.getUint32(LITTLE_ENDIAN ? at + 4 : at, LITTLE_ENDIAN);
  return high * 2 ** 32 + view.getUint32(LITTLE_ENDIAN ? at : at + 4, LITTLE_ENDIAN);
}
