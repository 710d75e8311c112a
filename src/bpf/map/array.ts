/**
 * Arrays: values by number, all there from the start and zero. A mappable array is shared memory between programs and TypeScript:
 * typed arrays over the kernel's own bytes, read and written with no system call.
 * Neighbour: map/table.ts for single operations.
 */
import {
  type FileDescriptor,
  type MappedRange,
  type Mapping,
  Mmap,
  mapForAnother,
  mmap,
  takeMapped,
} from '../../host/sys/index.ts';
import { ClosedError } from '../errors.ts';
import { pageBytes } from '../sys/machine.ts';
import { MAP_FLAG } from '../uapi/commands.ts';
import { createMap, type MapOptions, type MapShape, openPinnedMap } from './handle.ts';
import { type Layout, roundUp, u32 } from './layout.ts';
import { Table } from './table.ts';

/** How to make an array. */
export interface ArrayOptions<V> extends MapOptions {
  readonly value: Layout<V>;
  /** Let it be mapped (Linux 5.5); false by default. */
  readonly mappable?: boolean;
}

/** The kernel aligns the values of arrays so. */
const VALUE_ALIGN = 8;

/**
 * The values of an array as memory. They go with the map's handle: `get`, `set` and `count` then throw, and typed arrays that are still
 * around read zeros, and what is written to them goes nowhere.
 */
export class MappedValues<V> {
  readonly name: string;
  readonly layout: Layout<V>;
  readonly length: number;
  /** Distance between values: the layout's size rounded up to eight bytes. */
  readonly strideBytes: number;
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly s32: Int32Array;
  readonly u64: BigUint64Array;
  readonly f64: Float64Array;
  readonly view: DataView;
  readonly #mapping: Mapping;
  #closed = false;

  constructor(name: string, mapping: Mapping, layout: Layout<V>, length: number) {
    const { buffer } = mapping;
    this.name = name;
    this.#mapping = mapping;
    this.buffer = buffer;
    this.layout = layout;
    this.length = length;
    this.strideBytes = roundUp(layout.sizeBytes, VALUE_ALIGN);
    const bytes = length * this.strideBytes;
    this.u8 = new Uint8Array(buffer, 0, bytes);
    this.u16 = new Uint16Array(buffer, 0, bytes / 2);
    this.u32 = new Uint32Array(buffer, 0, bytes / 4);
    this.s32 = new Int32Array(buffer, 0, bytes / 4);
    this.u64 = new BigUint64Array(buffer, 0, bytes / 8);
    this.f64 = new Float64Array(buffer, 0, bytes / 8);
    this.view = new DataView(buffer, 0, bytes);
  }

  #check(): void {
    if (this.#closed) throw new ClosedError(`the memory of array "${this.name}"`);
  }

  /** Byte offset of a value; divide by 4 for an index into `u32`. @throws RangeError outside the array */
  offsetOf(index: number): number {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new RangeError(`index ${index} is outside an array of ${this.length}`);
    }
    return index * this.strideBytes;
  }

  /** Read a whole value. Its fields may be from different moments if a program writes meanwhile. @throws ClosedError, RangeError */
  get(index: number): V {
    this.#check();
    return this.layout.read(this.view, this.offsetOf(index));
  }

  /** Write a whole value. @throws ClosedError, LayoutError, RangeError */
  set(index: number, value: V): void {
    this.#check();
    this.layout.write(this.view, this.offsetOf(index), value);
  }

  /**
   * A 64-bit counter as a number: exact up to 2^53. The halves are read apart, and again if the upper one moved.
   * @param byteOffset a multiple of 8
   * @throws ClosedError
   */
  count(byteOffset: number): number {
    this.#check();
    const word = byteOffset >>> 2;
    for (;;) {
      const high = this.u32[word + 1];
      const low = this.u32[word];
      if (high === this.u32[word + 1]) return high * 0x100000000 + low;
    }
  }

  /** Give the memory back; the map does it when it is closed. Closing twice is harmless. */
  close(): void {
    this.#closed = true;
    this.#mapping.unmap();
  }
}

/** An array of values. */
export class ArrayMap<V> extends Table<number, V> {
  readonly #mapped = new Map<'read' | 'read-write', MappedValues<V>>();

  /** Create one. @throws as createMap does: UnsupportedError, PrivilegeError, SystemError */
  static create<V>(options: ArrayOptions<V>): ArrayMap<V> {
    const shape = shapeOf(options);
    const descriptor = createMap(options.name, shape, { describe: { key: u32, value: options.value } });
    return new ArrayMap(descriptor, options, shape);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open<V>(path: string, options: ArrayOptions<V>): ArrayMap<V> {
    const shape = shapeOf(options);
    return new ArrayMap(openPinnedMap(path, shape), options, shape);
  }

  /**
   * One that another thread of this process has created, and given up.
   * @param range from {@link mapForAnother}, which passes over; null for one that is not mapped
   */
  static of<V>(descriptor: FileDescriptor, options: ArrayOptions<V>, range: MappedRange | null): ArrayMap<V> {
    const map = new ArrayMap(descriptor, options, shapeOf(options));
    if (range === null) return map;
    const mapping = takeMapped(range, mapDoing(options.name));
    map.#mapped.set('read-write', new MappedValues(options.name, mapping, options.value, options.maxEntries));
    return map;
  }

  /** Map its values for another thread of this process, which makes a handle of them by {@link of}. @throws ClosedError, SystemError */
  mapForAnother(): MappedRange {
    return mapForAnother(this.fd, this.#mappedBytes, mapDoing(this.name));
  }

  get #mappedBytes(): number {
    return roundUp(roundUp(this.value.sizeBytes, VALUE_ALIGN) * this.maxEntries, pageBytes());
  }

  private constructor(descriptor: FileDescriptor, options: ArrayOptions<V>, shape: MapShape) {
    super(descriptor, options.name, shape, u32, options.value);
  }

  /**
   * The values, mapped: once for each kind of access, however often it is called. The memory goes when the map is closed.
   * @param access 'read-write', or 'read' for an array that is frozen or not to be written
   * @throws ClosedError; SystemError: EPERM for an array made without `mappable`, or for writing to a frozen one
   */
  map(access: 'read' | 'read-write' = 'read-write'): MappedValues<V> {
    const there = this.#mapped.get(access);
    if (there !== undefined) return there;
    const protection = access === 'read' ? Mmap.PROT_READ : Mmap.PROT_READ | Mmap.PROT_WRITE;
    const mapping = mmap(this.fd, this.#mappedBytes, { protection, doing: mapDoing(this.name) });
    const values = new MappedValues(this.name, mapping, this.value, this.maxEntries);
    this.#mapped.set(access, values);
    return values;
  }

  /** Close the handle, and give back what was mapped. The map itself goes when no program, pin or map holds it any more. */
  override close(): void {
    super.close();
    for (const values of this.#mapped.values()) values.close();
    this.#mapped.clear();
  }
}

function mapDoing(name: string): string {
  return `map array "${name}"`;
}

function shapeOf<V>(options: ArrayOptions<V>): MapShape {
  return {
    type: 'array',
    keyBytes: 4,
    valueBytes: options.value.sizeBytes,
    maxEntries: options.maxEntries,
    flags: (options.flags ?? 0) | (options.mappable === true ? MAP_FLAG.MMAPABLE : 0),
  };
}
