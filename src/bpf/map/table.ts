/**
 * A map with typed keys and values: single operations, batches, iteration. Hash, LRU hash, LPM trie and array are tables; so are
 * maps whose values are descriptors, with restrictions that their own files state.
 * Neighbours: map/handle.ts below, map/layout.ts for the bytes.
 */
import { type FileDescriptor, NativeBlock } from '../../host/sys/index.ts';
import { MapFullError } from '../errors.ts';
import { Attributes, bpf, Errno, failure } from '../sys/bpf.ts';
import { COMMAND, UPDATE_FLAG } from '../uapi/commands.ts';
import { MapHandle, type MapShape } from './handle.ts';
import type { Layout } from './layout.ts';
import { walkKeys } from './walk.ts';

const ELEMENT_BYTES = 32;
/** Deleting takes no value, and the kernel wants none shown. */
const KEY_ONLY_BYTES = 16;
const BATCH_BYTES = 56;
const CHUNK_ENTRIES = 4096;
/** Hashes: their batches are whole buckets, read under the bucket's lock. */
const READ_BY_BUCKETS: ReadonlySet<MapShape['type']> = new Set(['hash', 'lru_hash', 'percpu_hash', 'lru_percpu_hash']);

/** A map of keys to values. */
export class Table<K, V> extends MapHandle {
  readonly key: Layout<K>;
  readonly value: Layout<V>;
  readonly #attributes = new Attributes(ELEMENT_BYTES);
  readonly #key: NativeBlock;
  readonly #value: NativeBlock;
  readonly #valueBytes: number;

  /**
   * @param valueBytes what one value takes in user space: more than the layout for per-CPU maps
   */
  constructor(
    descriptor: FileDescriptor,
    name: string,
    shape: MapShape,
    key: Layout<K>,
    value: Layout<V>,
    valueBytes = value.sizeBytes,
  ) {
    super(descriptor, name, shape);
    this.key = key;
    this.value = value;
    this.#valueBytes = valueBytes;
    this.#key = new NativeBlock(key.sizeBytes);
    this.#value = new NativeBlock(Math.max(valueBytes, key.sizeBytes));
    this.#attributes.point(8, this.#key);
    this.#attributes.point(16, this.#value);
  }

  #call(command: number, flags: number, sizeBytes = ELEMENT_BYTES): number {
    this.#attributes.u32[0] = this.fd;
    this.#attributes.u32[6] = flags;
    return bpf(command, this.#attributes, sizeBytes);
  }

  #fail(command: number, result: number, doing: string): Error {
    if (result === -Errno.E2BIG) return new MapFullError(this.name, this.maxEntries);
    return failure(command, result, `${doing} map "${this.name}"`);
  }

  /** The value of a key, or undefined. @throws LayoutError, ClosedError, SystemError */
  get(key: K): V | undefined {
    this.key.write(this.#key.view, 0, key);
    const result = this.#call(COMMAND.MAP_LOOKUP_ELEM, 0);
    if (result === -Errno.ENOENT) return undefined;
    if (result < 0) throw this.#fail(COMMAND.MAP_LOOKUP_ELEM, result, 'look up in');
    return this.value.read(this.#value.view, 0);
  }

  /** True when there is a value for the key. @throws as {@link get} */
  has(key: K): boolean {
    this.key.write(this.#key.view, 0, key);
    const result = this.#call(COMMAND.MAP_LOOKUP_ELEM, 0);
    if (result < 0 && result !== -Errno.ENOENT) throw this.#fail(COMMAND.MAP_LOOKUP_ELEM, result, 'look up in');
    return result >= 0;
  }

  /**
   * Set a value, there or not.
   * @throws MapFullError when a new key finds no room; LayoutError, ClosedError, SystemError
   */
  set(key: K, value: V): void {
    const result = this.#update(key, value, UPDATE_FLAG.ANY);
    if (result < 0) throw this.#fail(COMMAND.MAP_UPDATE_ELEM, result, 'write');
  }

  /** Set the value of a key that is not there. @returns false, with nothing done, when it is @throws as {@link set} */
  add(key: K, value: V): boolean {
    const result = this.#update(key, value, UPDATE_FLAG.NOEXIST);
    if (result === -Errno.EEXIST) return false;
    if (result < 0) throw this.#fail(COMMAND.MAP_UPDATE_ELEM, result, 'write');
    return true;
  }

  /** Set the value of a key that is there. @returns false, with nothing done, when it is not @throws as {@link set} */
  replace(key: K, value: V): boolean {
    const result = this.#update(key, value, UPDATE_FLAG.EXIST);
    if (result === -Errno.ENOENT) return false;
    if (result < 0) throw this.#fail(COMMAND.MAP_UPDATE_ELEM, result, 'write');
    return true;
  }

  #update(key: K, value: V, flags: number): number {
    this.key.write(this.#key.view, 0, key);
    this.value.write(this.#value.view, 0, value);
    return this.#call(COMMAND.MAP_UPDATE_ELEM, flags);
  }

  /** Delete a key. @returns false when it was not there @throws SystemError: EINVAL for arrays, which cannot */
  delete(key: K): boolean {
    this.key.write(this.#key.view, 0, key);
    const result = this.#call(COMMAND.MAP_DELETE_ELEM, 0, KEY_ONLY_BYTES);
    if (result === -Errno.ENOENT) return false;
    if (result < 0) throw this.#fail(COMMAND.MAP_DELETE_ELEM, result, 'delete from');
    return true;
  }

  /** Look up and delete in one step (hash since Linux 5.14). @returns undefined when it was not there */
  take(key: K): V | undefined {
    this.key.write(this.#key.view, 0, key);
    const result = this.#call(COMMAND.MAP_LOOKUP_AND_DELETE_ELEM, 0);
    if (result === -Errno.ENOENT) return undefined;
    if (result < 0) throw this.#fail(COMMAND.MAP_LOOKUP_AND_DELETE_ELEM, result, 'take from');
    return this.value.read(this.#value.view, 0);
  }

  /**
   * The keys: each that stays comes once, whatever is set and deleted meanwhile, by whoever walks or by others. What comes or goes during
   * the walk may be in it or not. Hashes are read in batches as the walk goes on (Linux 5.6), other maps at its beginning.
   * @throws MapChangedError where others delete keys of a map that is no hash faster than it can be walked; ClosedError, SystemError
   */
  *keys(): Generator<K, void, undefined> {
    const { type } = this.shape;
    if (READ_BY_BUCKETS.has(type)) {
      for (const { keys, count } of this.#chunks(COMMAND.MAP_LOOKUP_BATCH)) {
        for (let index = 0; index < count; index++) yield this.key.read(keys.view, index * this.key.sizeBytes);
      }
      return;
    }
    const { name, maxEntries } = this;
    const next = (after: NativeBlock | null, into: NativeBlock) => this.#nextKey(after, into);
    for (const key of walkKeys({ name, maxEntries, keyBytes: this.key.sizeBytes, next })) {
      yield this.key.read(key.view, 0);
    }
  }

  #nextKey(after: NativeBlock | null, into: NativeBlock): boolean {
    const attributes = new Attributes(ELEMENT_BYTES);
    attributes.u32[0] = this.fd;
    if (after !== null) attributes.point(8, after);
    attributes.point(16, into);
    const result = bpf(COMMAND.MAP_GET_NEXT_KEY, attributes, ELEMENT_BYTES);
    if (result < 0 && result !== -Errno.ENOENT) throw this.#fail(COMMAND.MAP_GET_NEXT_KEY, result, 'walk');
    return result >= 0;
  }

  /** Keys with their values; entries that go away meanwhile are left out. */
  *entries(): Generator<[K, V], void, undefined> {
    for (const key of this.keys()) {
      const value = this.get(key);
      if (value !== undefined) yield [key, value];
    }
  }

  // Batches: one system call for thousands of entries (hash and array since Linux 5.6, LPM trie 5.7, per-CPU array 5.12).

  /**
   * Set many values with few system calls.
   * @returns how many were set: all of them
   * @throws MapFullError, which counts those that found no room, after setting all others; LayoutError, before setting any of the chunk
   */
  setMany(entries: Iterable<readonly [K, V]>): number {
    const keys = new NativeBlock(CHUNK_ENTRIES * this.key.sizeBytes);
    const values = new NativeBlock(CHUNK_ENTRIES * this.#valueBytes);
    let count = 0;
    let total = 0;
    let left = 0;
    const flush = () => {
      left += this.#setBlock(keys, values, count);
      total += count;
      count = 0;
    };
    for (const [key, value] of entries) {
      this.key.write(keys.view, count * this.key.sizeBytes, key);
      this.value.write(values.view, count * this.#valueBytes, value);
      if (++count === CHUNK_ENTRIES) flush();
    }
    if (count > 0) flush();
    if (left > 0) throw new MapFullError(this.name, this.maxEntries, left, total);
    return total;
  }

  /**
   * Set many values that lie ready in memory, keys side by side and values side by side.
   * @throws MapFullError, which counts those that found no room, after setting all others; SystemError
   */
  setBytes(keys: NativeBlock, values: NativeBlock, count: number): void {
    const left = this.#setBlock(keys, values, count);
    if (left > 0) throw new MapFullError(this.name, this.maxEntries, left, count);
  }

  /** @returns how many found no room */
  #setBlock(keys: NativeBlock, values: NativeBlock, count: number): number {
    const command = COMMAND.MAP_UPDATE_BATCH;
    let left = 0;
    for (let first = 0; first < count; ) {
      const attributes = this.#batch(keys, values, count - first);
      attributes.setAddress(16, keys.address + first * this.key.sizeBytes);
      attributes.setAddress(24, values.address + first * this.#valueBytes);
      const result = bpf(command, attributes, BATCH_BYTES);
      if (result >= 0) break;
      if (result !== -Errno.E2BIG) throw this.#fail(command, result, `write ${count} entries to`);
      // The kernel stops at an entry that finds no room. Keys behind it may be there already, and take none.
      left += 1;
      first += attributes.u32[8] + 1;
    }
    return left;
  }

  /** Delete many keys. @returns how many were there; the others are passed over */
  deleteMany(keys: Iterable<K>): number {
    const all = [...keys];
    const block = new NativeBlock(all.length * this.key.sizeBytes);
    all.forEach((key, index) => {
      this.key.write(block.view, index * this.key.sizeBytes, key);
    });
    let deleted = 0;
    for (let first = 0; first < all.length; ) {
      const attributes = this.#batch(block, undefined, all.length - first);
      attributes.setAddress(16, block.address + first * this.key.sizeBytes);
      const result = bpf(COMMAND.MAP_DELETE_BATCH, attributes, BATCH_BYTES);
      const done = result < 0 && result !== -Errno.ENOENT ? -1 : attributes.u32[8];
      if (done < 0) throw this.#fail(COMMAND.MAP_DELETE_BATCH, result, `delete ${all.length} keys from`);
      deleted += done;
      // The kernel stops at a key that it does not find.
      first += result < 0 ? done + 1 : all.length - first;
    }
    return deleted;
  }

  /**
   * All entries, with few system calls. What is added or deleted meanwhile may be in or not; what stays is in once.
   * @throws MapChangedError as {@link keys} does; ClosedError, SystemError
   */
  readMany(): [K, V][] {
    // The kernel reads a trie by its keys, and where one goes away it begins again.
    if (this.shape.type === 'lpm_trie') return [...this.entries()];
    return this.#readAll(COMMAND.MAP_LOOKUP_BATCH);
  }

  /** Take all entries out, with few system calls. */
  takeMany(): [K, V][] {
    return this.#readAll(COMMAND.MAP_LOOKUP_AND_DELETE_BATCH);
  }

  #readAll(command: number): [K, V][] {
    const found: [K, V][] = [];
    for (const { keys, values, count } of this.#chunks(command)) {
      for (let index = 0; index < count; index++) {
        const key = this.key.read(keys.view, index * this.key.sizeBytes);
        found.push([key, this.value.read(values.view, index * this.#valueBytes)]);
      }
    }
    return found;
  }

  /** Entries in batches: of hashes whole buckets, one after the other, so that none comes twice or is passed over. */
  *#chunks(command: number): Generator<{ keys: NativeBlock; values: NativeBlock; count: number }, void, undefined> {
    let room = Math.min(this.maxEntries, CHUNK_ENTRIES);
    // The cursor is opaque: four bytes for hashes, a key for others.
    const cursor = new NativeBlock(Math.max(8, this.key.sizeBytes));
    for (let isFirst = true; ; ) {
      const keys = new NativeBlock(room * this.key.sizeBytes);
      const values = new NativeBlock(room * this.#valueBytes);
      const attributes = this.#batch(keys, values, room);
      if (!isFirst) attributes.point(0, cursor);
      attributes.point(8, cursor);
      const result = bpf(command, attributes, BATCH_BYTES);
      if (result === -Errno.ENOSPC && room < this.maxEntries) {
        // A bucket holds more than there is room for.
        room = Math.min(this.maxEntries, room * 4);
        continue;
      }
      if (result < 0 && result !== -Errno.ENOENT) throw this.#fail(command, result, 'read all of');
      yield { keys, values, count: attributes.u32[8] };
      if (result === -Errno.ENOENT) return;
      isFirst = false;
    }
  }

  #batch(keys: NativeBlock, values: NativeBlock | undefined, count: number): Attributes {
    const attributes = new Attributes(BATCH_BYTES);
    attributes.point(16, keys);
    if (values !== undefined) attributes.point(24, values);
    attributes.u32[8] = count;
    attributes.u32[9] = this.fd;
    return attributes;
  }
}
