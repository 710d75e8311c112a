/** Observed tables by key: maps and sets. A decision rests on the entries that it has asked for, be they there or not, and on no other. */
import { Anchor, isReading } from './observed.ts';

/** What entries go by. */
export type TableKey = string | number;

/** An anchor that its table keeps for as long as something hangs on it. */
class EntryAnchor extends Anchor {
  readonly #anchors: Map<TableKey, EntryAnchor>;
  readonly #key: TableKey;

  constructor(name: string, anchors: Map<TableKey, EntryAnchor>, key: TableKey) {
    super(name);
    this.#anchors = anchors;
    this.#key = key;
  }

  protected override freed(): void {
    if (this.#anchors.get(this.#key) === this) this.#anchors.delete(this.#key);
  }
}

export class ObservedMap<T> {
  readonly name: string;
  readonly #entries = new Map<TableKey, T>();
  readonly #anchors = new Map<TableKey, EntryAnchor>();
  /** What rests on all entries at once. */
  readonly #all: Anchor;

  /** @param name for people */
  constructor(name: string) {
    this.name = name;
    this.#all = new Anchor(name);
  }

  /** The value of an entry; undefined when there is none. */
  get(key: TableKey): T | undefined {
    this.#readEntry(key);
    return this.#entries.get(key);
  }

  has(key: TableKey): boolean {
    this.#readEntry(key);
    return this.#entries.has(key);
  }

  /** Add or change an entry. What rests on it, or on its not being there, ends. */
  set(key: TableKey, value: T): void {
    if (this.#entries.has(key) && Object.is(this.#entries.get(key), value)) return;
    this.#entries.set(key, value);
    this.#changed(key);
  }

  /** @returns whether it was there */
  delete(key: TableKey): boolean {
    if (!this.#entries.delete(key)) return false;
    this.#changed(key);
    return true;
  }

  clear(): void {
    for (const key of [...this.#entries.keys()]) this.delete(key);
  }

  /** How many entries there are: rests on all of them. */
  get size(): number {
    this.#all.read();
    return this.#entries.size;
  }

  /** All entries: rests on all of them. */
  entries(): readonly (readonly [TableKey, T])[] {
    this.#all.read();
    return [...this.#entries];
  }

  #readEntry(key: TableKey): void {
    if (!isReading()) return;
    let anchor = this.#anchors.get(key);
    if (anchor === undefined) {
      anchor = new EntryAnchor(`${this.name}[${key}]`, this.#anchors, key);
      this.#anchors.set(key, anchor);
    }
    anchor.read();
  }

  #changed(key: TableKey): void {
    this.#anchors.get(key)?.changed();
    this.#all.changed();
  }
}

/** A set of keys. For addresses of packets, of which no more bits are to count than must, see ObservedPrefixes. */
export class ObservedSet {
  readonly #map: ObservedMap<true>;

  /** @param name for people */
  constructor(name: string) {
    this.#map = new ObservedMap(name);
  }

  has(key: TableKey): boolean {
    return this.#map.has(key);
  }

  add(key: TableKey): void {
    this.#map.set(key, true);
  }

  /** @returns whether it was there */
  delete(key: TableKey): boolean {
    return this.#map.delete(key);
  }

  clear(): void {
    this.#map.clear();
  }

  /** How many keys there are: rests on all of them. */
  get size(): number {
    return this.#map.size;
  }

  /** All keys: rests on all of them. */
  keys(): TableKey[] {
    return this.#map.entries().map(([key]) => key);
  }
}
