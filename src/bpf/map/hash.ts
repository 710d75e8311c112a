/**
 * Hash maps: plain, and least-recently-used ones that make room by themselves; each also per CPU.
 * Neighbours: map/table.ts has the operations, map/percpu.ts the values of all CPUs.
 */
import { createMap, type MapOptions, type MapShape, openPinnedMap } from './handle.ts';
import type { Layout } from './layout.ts';
import { perCpu } from './percpu.ts';
import { Table } from './table.ts';

/** How to make a hash. */
export interface HashOptions<K, V> extends MapOptions {
  readonly key: Layout<K>;
  readonly value: Layout<V>;
}

function shapeOf<K, V>(type: MapShape['type'], options: HashOptions<K, V>): MapShape {
  return {
    type,
    keyBytes: options.key.sizeBytes,
    valueBytes: options.value.sizeBytes,
    maxEntries: options.maxEntries,
    flags: options.flags ?? 0,
  };
}

function create<K, V>(shape: MapShape, options: HashOptions<K, V>) {
  return createMap(options.name, shape, { describe: { key: options.key, value: options.value } });
}

/** A hash: any key to a value; full when `maxEntries` are in it. */
export class HashMap<K, V> extends Table<K, V> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create<K, V>(options: HashOptions<K, V>): HashMap<K, V> {
    const shape = shapeOf('hash', options);
    return new HashMap(create(shape, options), options.name, shape, options.key, options.value);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open<K, V>(path: string, options: HashOptions<K, V>): HashMap<K, V> {
    const shape = shapeOf('hash', options);
    return new HashMap(openPinnedMap(path, shape), options.name, shape, options.key, options.value);
  }
}

/** A hash that forgets what was used least recently, roughly, instead of being full. */
export class LruHashMap<K, V> extends Table<K, V> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create<K, V>(options: HashOptions<K, V>): LruHashMap<K, V> {
    const shape = shapeOf('lru_hash', options);
    return new LruHashMap(create(shape, options), options.name, shape, options.key, options.value);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open<K, V>(path: string, options: HashOptions<K, V>): LruHashMap<K, V> {
    const shape = shapeOf('lru_hash', options);
    return new LruHashMap(openPinnedMap(path, shape), options.name, shape, options.key, options.value);
  }
}

/** A hash whose values every CPU has its own of: `get` gives them all, programs see that of the CPU they run on. */
export class PerCpuHashMap<K, V> extends Table<K, V[]> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create<K, V>(options: HashOptions<K, V>): PerCpuHashMap<K, V> {
    const shape = shapeOf('percpu_hash', options);
    return new PerCpuHashMap(create(shape, options), options.name, shape, options.key, perCpu(options.value));
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open<K, V>(path: string, options: HashOptions<K, V>): PerCpuHashMap<K, V> {
    const shape = shapeOf('percpu_hash', options);
    return new PerCpuHashMap(openPinnedMap(path, shape), options.name, shape, options.key, perCpu(options.value));
  }
}
