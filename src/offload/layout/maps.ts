/**
 * All maps of one flow table, made and opened in this one place. Those that both sides write are mapped; `describe` holds what
 * the next process must know to take them over: sizes, secrets, masks and shapes.
 */
import {
  ArrayMap,
  bytes,
  DeviceHashMap,
  type MapHandle,
  type MappedValues,
  type MapReference,
} from '../../bpf/index.ts';
import { closeDescriptor, FileDescriptor, type MappedRange, unmapRange } from '../../host/sys/index.ts';
import { LAYOUT_VERSION, MAXIMUM_PORTS } from './limits.ts';
import { type TableShape, TableSizes } from './sizes.ts';

/** Maps by the names under which they are pinned. */
export interface MapSet {
  readonly index: ArrayMap<Uint8Array>;
  readonly entries: ArrayMap<Uint8Array>;
  readonly far: ArrayMap<Uint8Array>;
  readonly counters: ArrayMap<Uint8Array>;
  readonly cache: ArrayMap<Uint8Array>;
  readonly ports: ArrayMap<Uint8Array>;
  readonly cpus: ArrayMap<Uint8Array>;
  readonly description: ArrayMap<Uint8Array>;
  readonly devices: DeviceHashMap;
}

/** What code names of them, with the sizes that it depends on. */
export interface ProgramMaps {
  readonly sizes: TableSizes;
  readonly maps: { readonly [Name in keyof MapSet]: MapReference };
}

/** Maps that tables of each size have for themselves, and those that they share with tables of other sizes. */
const OWN = ['index', 'entries', 'far', 'counters', 'cache', 'description'] as const;
type OwnName = (typeof OWN)[number];
type OwnMaps = Pick<MapSet, OwnName>;
/** A map that one thread of the process has created and mapped for another. */
interface MadeMap {
  readonly fd: number;
  /** Null for one that programs alone read. */
  readonly range: MappedRange | null;
}
/** All own maps of tables, as they pass from thread to thread. */
export type MadeMaps = Readonly<Record<OwnName, MadeMap>>;

/** Length of each of the two texts in the description. */
const TEXT_BYTES = 1 << 18;
const DESCRIPTION_HEAD = 64;

/** What the next process must know. */
export interface Description {
  readonly version: number;
  readonly shape: TableShape;
  /** HashSecrets.words */
  readonly secrets: readonly number[];
  /** Masks by hook, with the numbers that entries have. */
  readonly masks: readonly {
    readonly number: number;
    readonly hook: string;
    readonly words: readonly [number, number][];
  }[];
  /** Shapes with the numbers that entries have; actions/ knows what they are. */
  readonly shapes: readonly { readonly number: number; readonly shape: unknown }[];
}

function arrayOptions(name: string, sizeBytes: number) {
  return { name, value: bytes(sizeBytes), maxEntries: 1, mappable: true };
}

const descriptionOptions = arrayOptions('mr_describe', DESCRIPTION_HEAD + 2 * TEXT_BYTES);

function optionsOf(sizes: TableSizes) {
  return {
    index: arrayOptions('mr_index', sizes.indexBytes),
    entries: arrayOptions('mr_entries', sizes.entriesBytes),
    far: arrayOptions('mr_far', sizes.farBytes),
    counters: arrayOptions('mr_counters', sizes.countersBytes),
    cache: arrayOptions('mr_cache', sizes.cacheBytes),
    // Of these sizes: the former one describes the former tables for as long as they are in use.
    description: descriptionOptions,
  };
}

/** One of each own map. */
function eachOwn(make: (name: OwnName) => ArrayMap<Uint8Array>): OwnMaps {
  return Object.fromEntries(OWN.map((name) => [name, make(name)])) as unknown as OwnMaps;
}

/**
 * Create the maps of tables that are to stand beside others, on any thread of the process: {@link OffloadMaps.beside} takes them.
 * @throws as ArrayMap.create and ArrayMap.map do; nothing is left over
 */
export function makeOwnMaps(sizes: TableSizes): MadeMaps {
  const options = optionsOf(sizes);
  const made: [OwnName, MadeMap][] = [];
  try {
    for (const name of OWN) {
      const map = ArrayMap.create(options[name]);
      try {
        const range = isMapped(name, sizes) ? map.mapForAnother() : null;
        made.push([name, { fd: map.release(), range }]);
      } catch (error) {
        map.close();
        throw error;
      }
    }
    return Object.fromEntries(made) as Record<OwnName, MadeMap>;
  } catch (error) {
    for (const [, map] of made) discardMap(map);
    throw error;
  }
}

/** Whether TypeScript reads or writes a map: the cache is the programs' own, and counters mostly lie beside the entries. */
function isMapped(name: OwnName, { hasInlineCounters }: TableSizes): boolean {
  return name !== 'cache' && !(name === 'counters' && hasInlineCounters);
}

function discardMap({ fd, range }: MadeMap): void {
  if (range !== null) unmapRange(range);
  closeDescriptor(fd);
}

/** Give maps back that nobody has taken. */
export function discardMaps(maps: MadeMaps): void {
  for (const name of OWN) discardMap(maps[name]);
}

function sharedOptionsOf(sizes: TableSizes) {
  return { ports: arrayOptions('mr_ports', sizes.portsBytes), cpus: arrayOptions('mr_cpus', sizes.cpusBytes) };
}

const devicesOptions = { name: 'mr_devices', maxEntries: MAXIMUM_PORTS };

/** What must be the same for a process to go on with the tables of another. */
export function tablesLayout(cpus: number): string {
  return `tables ${LAYOUT_VERSION}, ${cpus} CPUs`;
}

/** The mapped memory of all maps. */
export class OffloadMaps {
  readonly sizes: TableSizes;
  readonly maps: MapSet;
  readonly index: Int32Array;
  readonly entries: Uint32Array;
  readonly far: Uint32Array;
  /** Where TableSizes.counterAt points to. */
  readonly counters: MappedValues<Uint8Array>;
  readonly ports: Int32Array;
  readonly cpus: MappedValues<Uint8Array>;
  readonly #description: MappedValues<Uint8Array>;

  private constructor(sizes: TableSizes, maps: MapSet) {
    this.sizes = sizes;
    this.maps = maps;
    this.index = maps.index.map().s32;
    this.far = maps.far.map().u32;
    const entries = maps.entries.map();
    this.entries = entries.u32;
    this.counters = sizes.hasInlineCounters ? entries : maps.counters.map();
    this.ports = maps.ports.map().s32;
    this.cpus = maps.cpus.map();
    this.#description = maps.description.map();
  }

  /**
   * Make new ones.
   * @throws as ArrayMap.create does; nothing is left over
   */
  static create(sizes: TableSizes): OffloadMaps {
    const made: MapHandle[] = [];
    const keep = <M extends MapHandle>(map: M): M => {
      made.push(map);
      return map;
    };
    try {
      const own = optionsOf(sizes);
      const shared = sharedOptionsOf(sizes);
      return new OffloadMaps(sizes, {
        ...eachOwn((name) => keep(ArrayMap.create(own[name]))),
        ports: keep(ArrayMap.create(shared.ports)),
        cpus: keep(ArrayMap.create(shared.cpus)),
        devices: keep(DeviceHashMap.create(devicesOptions)),
      });
    } catch (error) {
      for (const map of made) map.close();
      throw error;
    }
  }

  /**
   * Tables of another size beside those that programs count in, whose ports, CPUs and devices they share.
   * @param own from {@link makeOwnMaps}; passes over
   */
  static beside(former: OffloadMaps, sizes: TableSizes, own: MadeMaps): OffloadMaps {
    const options = optionsOf(sizes);
    const maps = eachOwn((name) => ArrayMap.of(new FileDescriptor(own[name].fd), options[name], own[name].range));
    const { ports, cpus, devices } = former.maps;
    return new OffloadMaps(sizes, { ...maps, ports, cpus, devices });
  }

  /**
   * Open what another process has pinned.
   * @param path of the pin with a name of {@link MapSet}
   * @param cpus of this machine, rounded up to a power of two
   * @returns maps and their description, or why they are of no use
   * @throws SystemError for pins that are missing
   */
  static open(
    path: (name: keyof MapSet) => string,
    cpus: number,
  ): { readonly maps: OffloadMaps; readonly description: Description } | { readonly reason: string } {
    const opened: MapHandle[] = [];
    const keep = <M extends MapHandle>(map: M): M => {
      opened.push(map);
      return map;
    };
    let done = false;
    try {
      const describe = keep(ArrayMap.open(path('description'), descriptionOptions));
      const description = readDescription(describe.map());
      if ('reason' in description) return description;
      if (description.shape.cpus !== cpus) return { reason: 'the number of CPUs has changed' };
      const sizes = sizesOf(description.shape);
      if (sizes === null) return { reason: 'the description of the tables is damaged' };
      const own = optionsOf(sizes);
      const shared = sharedOptionsOf(sizes);
      const maps = new OffloadMaps(sizes, {
        index: keep(ArrayMap.open(path('index'), own.index)),
        entries: keep(ArrayMap.open(path('entries'), own.entries)),
        far: keep(ArrayMap.open(path('far'), own.far)),
        counters: keep(ArrayMap.open(path('counters'), own.counters)),
        cache: keep(ArrayMap.open(path('cache'), own.cache)),
        ports: keep(ArrayMap.open(path('ports'), shared.ports)),
        cpus: keep(ArrayMap.open(path('cpus'), shared.cpus)),
        description: describe,
        devices: keep(DeviceHashMap.open(path('devices'), devicesOptions)),
      });
      done = true;
      return { maps, description };
    } finally {
      if (!done) for (const map of opened) map.close();
    }
  }

  /** Tell the next process. Written beside the former text and then switched, so that a killed process leaves one that is whole. */
  describe(description: Omit<Description, 'version' | 'shape'>): void {
    const { keyWords, parameterWords, entries, cpus } = this.sizes;
    const shape = { keyWords, parameterWords, entries, cpus };
    const text = new TextEncoder().encode(JSON.stringify({ version: LAYOUT_VERSION, shape, ...description }));
    if (text.length > TEXT_BYTES) throw new RangeError(`the description of masks and shapes has ${text.length} bytes`);
    const { u8, s32 } = this.#description;
    const half = 1 - (Atomics.load(s32, 0) & 1);
    u8.set(text, DESCRIPTION_HEAD + half * TEXT_BYTES);
    s32[1 + half] = text.length;
    Atomics.store(s32, 0, half);
  }

  /** Close one of the maps that no other tables have: giving much memory back takes a millisecond. @returns whether that was the last */
  closeOne(): boolean {
    const [next, ...more] = OWN.map((name) => this.maps[name]).filter((map) => !map.closed);
    next?.close();
    return more.length === 0;
  }

  /** Close the maps of these tables; those that `other` has as well stay open. */
  close(other?: OffloadMaps): void {
    const kept = new Set<MapHandle>(other === undefined ? [] : Object.values(other.maps));
    for (const map of Object.values(this.maps) as MapHandle[]) if (!kept.has(map)) map.close();
  }
}

function readDescription({ u8, s32 }: MappedValues<Uint8Array>): Description | { readonly reason: string } {
  const half = s32[0] & 1;
  const length = s32[1 + half];
  const start = DESCRIPTION_HEAD + half * TEXT_BYTES;
  try {
    if (length <= 0 || length > TEXT_BYTES) return { reason: 'the tables were never used' };
    const text = new TextDecoder('utf-8', { fatal: true }).decode(u8.slice(start, start + length));
    const description = JSON.parse(text) as Description;
    if (description.version !== LAYOUT_VERSION) {
      const version = `tables are of version ${description.version}`;
      return { reason: `${version}, and this Millrace knows version ${LAYOUT_VERSION}` };
    }
    if (isWhole(description)) return description;
  } catch {
    // Said below.
  }
  return { reason: 'the description of the tables is damaged' };
}

/** Whether everything is there that is read of a description, and is of the right kind. */
function isWhole({ shape, secrets, masks, shapes }: Description): boolean {
  const isNumber = (value: unknown): value is number => Number.isInteger(value);
  const isMask = ({ number, hook, words }: Description['masks'][number]) =>
    isNumber(number) && typeof hook === 'string' && words.every((pair) => pair.length === 2 && pair.every(isNumber));
  const isShape = ({ number, shape: told }: Description['shapes'][number]) => {
    const { id, hook, steps, parameterWords } = told as Record<string, unknown>;
    return (
      isNumber(number) &&
      typeof id === 'string' &&
      typeof hook === 'string' &&
      Array.isArray(steps) &&
      isNumber(parameterWords)
    );
  };
  return isNumber(shape.cpus) && secrets.every(isNumber) && masks.every(isMask) && shapes.every(isShape);
}

/** @returns null for sizes that no tables have */
function sizesOf(shape: TableShape): TableSizes | null {
  try {
    return new TableSizes(shape);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}
