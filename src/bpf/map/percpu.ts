/**
 * Values that every CPU has its own of: counters without contention. Programs see the one of their CPU; user space sees all, side by side,
 * each at a multiple of eight bytes. Neighbours: map/hash.ts has the hash of this kind, map/table.ts the operations.
 */
import { LayoutError } from '../errors.ts';
import { possibleCpus } from '../sys/machine.ts';
import { createMap, type MapOptions, type MapShape, openPinnedMap } from './handle.ts';
import { type Layout, roundUp, u32 } from './layout.ts';
import { Table } from './table.ts';

/** The values of all possible CPUs, by CPU number. */
export function perCpu<V>(value: Layout<V>): Layout<V[]> {
  const strideBytes = roundUp(value.sizeBytes, 8);
  const cpus = possibleCpus();
  return {
    sizeBytes: strideBytes * cpus,
    alignBytes: 8,
    read: (view, offset) => Array.from({ length: cpus }, (_, cpu) => value.read(view, offset + cpu * strideBytes)),
    write(view, offset, values) {
      if (values.length !== cpus) throw new LayoutError(`${values.length} values given for ${cpus} CPUs`);
      values.forEach((one, cpu) => {
        value.write(view, offset + cpu * strideBytes, one);
      });
    },
    describe: (types) => value.describe(types),
  };
}

/** How to make a per-CPU array. */
export interface PerCpuArrayOptions<V> extends MapOptions {
  readonly value: Layout<V>;
}

/** An array whose values every CPU has its own of. */
export class PerCpuArrayMap<V> extends Table<number, V[]> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create<V>(options: PerCpuArrayOptions<V>): PerCpuArrayMap<V> {
    const shape = shapeOf(options);
    const descriptor = createMap(options.name, shape, { describe: { key: u32, value: options.value } });
    return new PerCpuArrayMap(descriptor, options.name, shape, u32, perCpu(options.value));
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open<V>(path: string, options: PerCpuArrayOptions<V>): PerCpuArrayMap<V> {
    const shape = shapeOf(options);
    return new PerCpuArrayMap(openPinnedMap(path, shape), options.name, shape, u32, perCpu(options.value));
  }
}

function shapeOf<V>(options: PerCpuArrayOptions<V>): MapShape {
  return {
    type: 'percpu_array',
    keyBytes: 4,
    valueBytes: options.value.sizeBytes,
    maxEntries: options.maxEntries,
    flags: options.flags ?? 0,
  };
}
