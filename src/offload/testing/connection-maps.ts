/** Arrays for a table of connections that programs read. */
import { ArrayMap, bytes } from '../../bpf/index.ts';
import { type ConnectionMemory, memorySizes } from '../../connections/index.ts';
import type { ConnectionReferences } from '../connections/maps.ts';

function createArray(name: string, words: number): ArrayMap<Uint8Array> {
  return ArrayMap.create({ name, value: bytes(words * 4), maxEntries: 1, mappable: true });
}

/** The arrays, and their memory. */
export class ConnectionMaps implements ConnectionReferences {
  readonly capacity: number;
  readonly control: ArrayMap<Uint8Array>;
  readonly index: ArrayMap<Uint8Array>;
  readonly records: ArrayMap<Uint8Array>;
  /** What `ConnectionTable` takes. */
  readonly memory: ConnectionMemory;

  private constructor(capacity: number, arrays: readonly ArrayMap<Uint8Array>[]) {
    this.capacity = capacity;
    [this.control, this.index, this.records] = arrays;
    const [control, index, records] = arrays.map((array) => array.map().s32);
    this.memory = { control, index, records };
  }

  /**
   * Create the arrays, filled with zeros.
   * @param capacity connections
   * @throws RangeError for a capacity that no table has; as ArrayMap.create and ArrayMap.map do
   */
  static create(capacity: number): ConnectionMaps {
    const sizes = memorySizes(capacity);
    const arrays: ArrayMap<Uint8Array>[] = [];
    try {
      for (const name of ['control', 'index', 'records'] as const) {
        arrays.push(createArray(`mr_ct_${name}`, sizes[name]));
      }
      return new ConnectionMaps(capacity, arrays);
    } catch (error) {
      for (const array of arrays) array.close();
      throw error;
    }
  }

  close(): void {
    for (const array of [this.control, this.index, this.records]) array.close();
  }
}
