/**
 * Maps that carry events from programs to user space: the ring buffer, one for all CPUs, and the perf event array, a buffer for each.
 * Neighbours: reader/ring-buffer.ts and reader/perf-buffer.ts take the events out.
 */
import { LayoutError } from '../errors.ts';
import { possibleCpus } from '../sys/machine.ts';
import { createMap, MapHandle, type MapOptions, type MapShape, openPinnedMap } from './handle.ts';
import { u32 } from './layout.ts';
import { Table } from './table.ts';

/** How to make a ring buffer. */
export interface RingBufferOptions {
  readonly name: string;
  /** A power of two, and at least a page. */
  readonly sizeBytes: number;
}

/** A ring buffer (Linux 5.8): programs reserve, fill and submit records of any length; order is kept over all CPUs. */
export class RingBufferMap extends MapHandle {
  /** @throws LayoutError for a size that is no power of two; UnsupportedError, PrivilegeError, SystemError */
  static create(options: RingBufferOptions): RingBufferMap {
    const shape = ringShape(options);
    return new RingBufferMap(createMap(options.name, shape), options.name, shape);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open(path: string, options: RingBufferOptions): RingBufferMap {
    const shape = ringShape(options);
    return new RingBufferMap(openPinnedMap(path, shape), options.name, shape);
  }

  get sizeBytes(): number {
    return this.maxEntries;
  }
}

function ringShape({ sizeBytes }: RingBufferOptions): MapShape {
  if (!Number.isInteger(Math.log2(sizeBytes)) || sizeBytes < 4096 || sizeBytes > 2 ** 30) {
    throw new LayoutError(`a ring buffer of ${sizeBytes} bytes: it must be a power of two from 4096 to 2^30`);
  }
  return { type: 'ringbuf', keyBytes: 0, valueBytes: 0, maxEntries: sizeBytes, flags: 0 };
}

/** A perf event array: a slot for each CPU, into which the reader puts a perf event. For kernels before the ring buffer. */
export class PerfEventArrayMap extends Table<number, number> {
  /** @param options.maxEntries by default the number of possible CPUs @throws UnsupportedError, PrivilegeError, SystemError */
  static create(options: Partial<MapOptions> & { readonly name: string }): PerfEventArrayMap {
    const shape = perfShape(options);
    return new PerfEventArrayMap(createMap(options.name, shape), options.name, shape, u32, u32);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open(path: string, options: Partial<MapOptions> & { readonly name: string }): PerfEventArrayMap {
    const shape = perfShape(options);
    return new PerfEventArrayMap(openPinnedMap(path, shape), options.name, shape, u32, u32);
  }
}

function perfShape(options: Partial<MapOptions>): MapShape {
  return {
    type: 'perf_event_array',
    keyBytes: 4,
    valueBytes: 4,
    maxEntries: options.maxEntries ?? possibleCpus(),
    flags: options.flags ?? 0,
  };
}
