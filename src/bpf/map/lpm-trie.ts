/**
 * Longest-prefix match: tries of prefixes, such as routes. Neighbours: map/table.ts has the operations, map/hash.ts the exact matches.
 */
import { LayoutError } from '../errors.ts';
import { MAP_FLAG } from '../uapi/commands.ts';
import { createMap, type MapOptions, type MapShape, openPinnedMap } from './handle.ts';
import type { Layout } from './layout.ts';
import { Table } from './table.ts';

/** A prefix to look up by, longest match first. */
export interface Prefix {
  /** Bits that count, from the first byte's highest on. */
  readonly length: number;
  /** The address, in network order. */
  readonly address: Uint8Array;
}

/**
 * The key of an LPM trie.
 * @param addressBytes 4 for IPv4, 16 for IPv6, at most 256
 */
export function prefixKey(addressBytes: number): Layout<Prefix> {
  return {
    sizeBytes: 4 + addressBytes,
    alignBytes: 4,
    read: (view, offset) => ({
      length: view.getUint32(offset, true),
      address: new Uint8Array(view.buffer, view.byteOffset + offset + 4, addressBytes).slice(),
    }),
    write(view, offset, { length, address }) {
      if (address.length !== addressBytes || !Number.isInteger(length) || length < 0 || length > addressBytes * 8) {
        throw new LayoutError(`/${length} of ${address.length} bytes is no prefix of a ${addressBytes}-byte address`);
      }
      view.setUint32(offset, length, true);
      new Uint8Array(view.buffer, view.byteOffset + offset + 4, addressBytes).set(address);
    },
    describe: (types) =>
      types.struct('prefix', 4 + addressBytes, [
        { name: 'length', type: types.integer(4), offsetBytes: 0 },
        { name: 'address', type: types.array(types.integer(1), addressBytes), offsetBytes: 4 },
      ]),
  };
}

/** How to make a trie. */
export interface LpmTrieOptions<V> extends MapOptions {
  /** 4 for IPv4, 16 for IPv6, at most 256. */
  readonly addressBytes: number;
  readonly value: Layout<V>;
}

/**
 * A trie of prefixes: a look-up finds the longest that fits, so `get` of a whole address routes it. For some thousands of prefixes: a full
 * routing table is slow in it, and freeing one stalls a CPU.
 */
export class LpmTrieMap<V> extends Table<Prefix, V> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create<V>(options: LpmTrieOptions<V>): LpmTrieMap<V> {
    const key = prefixKey(options.addressBytes);
    const shape = shapeOf(options, key);
    const descriptor = createMap(options.name, shape, { describe: { key, value: options.value } });
    return new LpmTrieMap(descriptor, options.name, shape, key, options.value);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open<V>(path: string, options: LpmTrieOptions<V>): LpmTrieMap<V> {
    const key = prefixKey(options.addressBytes);
    const shape = shapeOf(options, key);
    return new LpmTrieMap(openPinnedMap(path, shape), options.name, shape, key, options.value);
  }
}

function shapeOf<V>(options: LpmTrieOptions<V>, key: Layout<Prefix>): MapShape {
  return {
    type: 'lpm_trie',
    keyBytes: key.sizeBytes,
    valueBytes: options.value.sizeBytes,
    maxEntries: options.maxEntries,
    // The kernel takes tries only so.
    flags: (options.flags ?? 0) | MAP_FLAG.NO_PREALLOC,
  };
}
