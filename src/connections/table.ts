/**
 * The table of connections over memory that is handed in. It alone changes what is where: it takes records, publishes them in the index, finds them by tuple, and
 * frees them. What a record says of its protocol is the state machines' (tcp.ts, sctp.ts, stateless.ts), whom to let in when the table is full is admission.ts's.
 *
 * There are no timers. Whether a connection has expired follows from its last-seen word and the time-out that its state names: who meets one that has takes it for
 * absent, and {@link ConnectionTable.sweep} frees it some time. So a table that is found again after a restart is right at once.
 */
import { type AdoptReport, adoptRecords } from './adopt.ts';
import { ConnectionCursor } from './cursor.ts';
import { hashTuple } from './hash.ts';
import { IndexTable } from './index-table.ts';
import {
  BUCKET_WORDS,
  bucketsFor,
  type ConnectionMemory,
  ControlWord,
  Direction,
  ENTRY_MASK,
  Kind,
  LAYOUT_MAGIC,
  LAYOUT_VERSION,
  memorySizes,
  PARENT_ID_SHIFT,
  PARENT_RECORD,
  POLICY_WORDS,
  RECORD_WORDS,
  RecordWord,
  Settings,
  Status,
  TAG_SHIFT,
  TIMEOUT_SHIFT,
  tupleWord,
} from './layout.ts';
import { Shares } from './shares.ts';
import { TimeOutPolicies } from './time-outs.ts';
import type { Tuple } from './tuple.ts';
import type { ZoneMembers } from './zone-members.ts';

/** Why a connection ended. */
export const Removal = {
  /** Nothing was seen of it for as long as its time-out. */
  EXPIRED: 0,
  /** A packet ended it, such as a reset that is the only answer. */
  CLOSED: 1,
  FLUSHED: 2,
  /** A commit by force, or a new connection between the same ends. */
  REPLACED: 3,
  /** It made room for another. */
  EVICTED: 4,
} as const;

/** What is handed to a table. */
export interface TableSettings {
  /** Milliseconds of the monotonic clock of the machine, which programs read too. */
  readonly nowMs: () => number;
  /** How long a freed record rests, so that no program still reads it when it becomes another connection. 0 where no programs read, which is the default. */
  readonly restMs?: number;
}

/** Memory that cannot be adopted: what is wrong with it. */
export class LayoutError extends Error {
  override readonly name = 'LayoutError';
}

/** What happened since the table was made or adopted. */
export class TableCounters {
  created = 0;
  /** By {@link Removal}. */
  readonly removed = [0, 0, 0, 0, 0];
  /** Connections for which there was no record. */
  refusedFull = 0;
  /** Connections for which both buckets of the index were full. */
  refusedIndex = 0;
}

/** Freed records that a take looks at for such as have rested, at most. */
const REST_STEPS = 32;

export class ConnectionTable {
  readonly control: Int32Array;
  readonly records: Int32Array;
  readonly capacity: number;
  readonly timeOuts: TimeOutPolicies;
  readonly zones: Shares;
  readonly ports: Shares;
  readonly counters = new TableCounters();
  /** The last free records: for those who have less than their share (admission.ts). */
  readonly reserve: number;
  /** Connections of zones with a limit, once somebody has asked for them (limits.ts). */
  members: ZoneMembers | null = null;
  readonly nowMs: () => number;
  /** Told of each connection that ends, while its record can still be read. */
  onRemoved: ((record: number, reason: number) => void) | null = null;
  readonly #indexWords: Int32Array;
  readonly #index: IndexTable;
  readonly #key0: number;
  readonly #key1: number;
  readonly #restMs: number;
  #used = 0;
  /** Freed records as a queue; each names the next where its original tuple was. */
  #freeFirst = 0;
  #freeLast = 0;
  #freeCount = 0;
  /** So many at the queue's head are known to have rested. What was seen once holds on, so the age of their 32-bit stamps does not matter. */
  #restedCount = 0;
  /** The first behind these, 0 when there is none. */
  #restingFirst = 0;
  #fresh: number;
  #sweepAt = 1;

  private constructor(memory: ConnectionMemory, settings: TableSettings) {
    const { control } = memory;
    this.control = control;
    this.#indexWords = memory.index;
    this.records = memory.records;
    this.capacity = control[ControlWord.CAPACITY];
    this.#key0 = control[ControlWord.SECRET];
    this.#key1 = control[ControlWord.SECRET + 1];
    this.#fresh = control[ControlWord.FRESH];
    this.nowMs = settings.nowMs;
    this.#restMs = settings.restMs ?? 0;
    this.timeOuts = new TimeOutPolicies(control);
    this.reserve = Math.max(this.capacity >>> 4, this.#restMs > 0 ? 1 : 0);
    this.zones = new Shares(this.capacity - this.reserve);
    this.ports = new Shares(this.capacity - this.reserve);
    this.#index = new IndexTable(memory.index, control[ControlWord.BUCKETS], this);
  }

  /**
   * Make an empty table. Whatever the memory holds is void; records are cleared as they are taken, so that memory that is not used is not touched.
   * @param secret two words for the hash, which nobody outside may know
   * @throws RangeError when the capacity is none, or the memory is too small for it
   */
  static format(
    memory: ConnectionMemory,
    capacity: number,
    secret: readonly [number, number],
    settings: TableSettings,
  ): ConnectionTable {
    checkMemory(memory, capacity);
    const { control } = memory;
    memory.index.fill(0);
    control.fill(0);
    control[ControlWord.CAPACITY] = capacity;
    control[ControlWord.BUCKETS] = bucketsFor(capacity);
    control[ControlWord.SECRET] = secret[0];
    control[ControlWord.SECRET + 1] = secret[1];
    control[ControlWord.FRESH] = 1;
    new TimeOutPolicies(control).format();
    control[ControlWord.VERSION] = LAYOUT_VERSION;
    control[ControlWord.MAGIC] = LAYOUT_MAGIC;
    const table = new ConnectionTable(memory, settings);
    table.#alive();
    return table;
  }

  /**
   * Go on with a table that another process has left. Each entry is checked; what is not sound is freed, and what the index lacks is put in.
   * @throws LayoutError when the memory holds no table of this version, or one that cannot be
   */
  static adopt(memory: ConnectionMemory, settings: TableSettings): { table: ConnectionTable; report: AdoptReport } {
    const { control } = memory;
    if (control.length < ControlWord.POLICIES || control[ControlWord.MAGIC] !== LAYOUT_MAGIC) {
      throw new LayoutError('the memory holds no table of connections');
    }
    const version = control[ControlWord.VERSION];
    if (version !== LAYOUT_VERSION) {
      throw new LayoutError(`the table has layout version ${version}, and this is version ${LAYOUT_VERSION}`);
    }
    const capacity = control[ControlWord.CAPACITY];
    try {
      checkMemory(memory, capacity);
    } catch (error) {
      throw new LayoutError(`the table's size cannot be: ${error instanceof Error ? error.message : error}`);
    }
    const fresh = control[ControlWord.FRESH];
    if (control[ControlWord.BUCKETS] !== bucketsFor(capacity) || fresh < 1 || fresh > capacity + 1) {
      throw new LayoutError(`the table's numbers contradict each other: ${capacity} connections, ${fresh} begun`);
    }
    const table = new ConnectionTable(memory, settings);
    const report = table.#adopt();
    table.#alive();
    return { table, report };
  }

  /** Connections in the table, those that have expired and are not freed yet among them. */
  get size(): number {
    return this.#used;
  }

  /** Records that are free, those that rest among them. */
  get free(): number {
    return this.capacity - this.#used;
  }

  /** Whether a freed record rests before it becomes another connection. */
  get rests(): boolean {
    return this.#restMs > 0;
  }

  /** Whether {@link take} has more than so many records now. @param now a 32-bit time in milliseconds */
  hasUsable(now: number, beyond = 0): boolean {
    const unused = this.capacity + 1 - this.#fresh;
    if (unused > beyond) return true;
    if (this.#restMs === 0) return unused + this.#freeCount > beyond;
    if (unused + this.#restedCount <= beyond) this.#noteRested(now, REST_STEPS);
    return unused + this.#restedCount > beyond;
  }

  /** First record that has never been used: all that were lie before it. */
  get fresh(): number {
    return this.#fresh;
  }

  /** A connection's id. The next 4 billion connections have others. */
  idOf(record: number): number {
    return this.records[record * RECORD_WORDS + RecordWord.ID] >>> 0;
  }

  /** First word of a record. */
  at(record: number): number {
    return record * RECORD_WORDS;
  }

  isLive(record: number): boolean {
    return record > 0 && record < this.#fresh && (this.records[record * RECORD_WORDS] & Kind.LIVE) !== 0;
  }

  /** The connection that announced one, or 0 when none did, or it is gone. */
  parentOf(record: number): number {
    const { records } = this;
    const at = record * RECORD_WORDS;
    const word = records[at + RecordWord.PARENT];
    if (word === 0) return 0;
    const parent = word & PARENT_RECORD;
    const parentAt = parent * RECORD_WORDS;
    if (
      !this.isLive(parent) ||
      ((records[parentAt + RecordWord.ID] << PARENT_ID_SHIFT) ^ word) >>> PARENT_ID_SHIFT !== 0
    ) {
      return 0;
    }
    // The word has few bits of the id: of others that agree in them, all but those with a helper in the same zone are told apart by this.
    const isOfZone = (records[parentAt] ^ records[at]) >>> 16 === 0;
    return isOfZone && (records[parentAt + RecordWord.STATUS] & Status.HELPER) !== 0 ? parent : 0;
  }

  /** Note which connection has announced one. */
  setParent(record: number, parent: number): void {
    const id = this.records[parent * RECORD_WORDS + RecordWord.ID];
    this.records[record * RECORD_WORDS + RecordWord.PARENT] = (id << PARENT_ID_SHIFT) | parent;
  }

  /** Whether nothing was seen of a connection for as long as its time-out. @param now a 32-bit time in milliseconds */
  isExpired(record: number, now: number): boolean {
    return this.leftMs(record, now) <= 0;
  }

  /** Milliseconds until a connection expires, 0 or less when it has. */
  leftMs(record: number, now: number): number {
    const { records } = this;
    const at = record * RECORD_WORDS;
    const policy = records[at + RecordWord.SETTINGS] & Settings.POLICY;
    const place = (records[at + RecordWord.STATE] >>> TIMEOUT_SHIFT) & 0xff;
    const timeOut = this.control[ControlWord.POLICIES + policy * POLICY_WORDS + place];
    return timeOut - ((now - records[at + RecordWord.LAST_SEEN]) | 0);
  }

  /**
   * The connection that a tuple belongs to. One that has expired is freed on the way.
   * @param now a 32-bit time in milliseconds
   * @returns its record * 2 + the direction of the tuple, or 0
   */
  find(tuple: Tuple, now: number): number {
    const entry = this.lookUp(tuple);
    if (entry !== 0 && this.isExpired(entry >>> 1, now)) {
      this.remove(entry >>> 1, Removal.EXPIRED, now);
      return 0;
    }
    return entry;
  }

  /** As {@link find}, whether the connection has expired or not. */
  lookUp(tuple: Tuple): number {
    const hash = this.hash(tuple);
    const entry = this.#findIn(this.#index.firstPlace(hash), hash, tuple);
    return entry !== 0 ? entry : this.#findIn(this.#index.secondPlace(hash), hash, tuple);
  }

  #findIn(bucket: number, hash: number, tuple: Tuple): number {
    const words = this.#indexWords;
    const { records } = this;
    const tag = hash << TAG_SHIFT;
    for (let place = bucket; place < bucket + BUCKET_WORDS; place += 1) {
      const word = words[place];
      if (((word ^ tag) & ~ENTRY_MASK) !== 0 || word === 0) continue;
      const entry = word & ENTRY_MASK;
      const at = (entry >>> 1) * RECORD_WORDS;
      if (records[at] !== tuple.kind) continue;
      const words0 = (entry & 1) === 0 ? RecordWord.ORIGINAL : RecordWord.REPLY;
      if (entry > 1 && tuple.isAt(records, at + words0)) return entry;
    }
    return 0;
  }

  hash(tuple: Tuple): number {
    return hashTuple(this.#key0, this.#key1, tuple.kind, tuple.words, 0, (tuple.kind & Kind.IPV6) !== 0);
  }

  /** The hash of an entry's tuple. */
  hashOf(entry: number): number {
    const at = (entry >>> 1) * RECORD_WORDS;
    const kind = this.records[at] | Kind.LIVE;
    return hashTuple(this.#key0, this.#key1, kind, this.records, at + tupleWord(entry & 1), (kind & Kind.IPV6) !== 0);
  }

  /**
   * A record to fill in, all zeros but for its id. It becomes a connection by {@link publish}, or goes back by {@link giveBack}.
   * @param now a 32-bit time in milliseconds
   * @returns its number, or 0 when there is none now
   */
  take(now: number): number {
    let record = 0;
    if (this.#hasRested(now)) {
      record = this.#freeFirst;
      this.#freeFirst = this.records[record * RECORD_WORDS + RecordWord.ORIGINAL];
      this.#freeCount -= 1;
      if (this.#restMs > 0) this.#restedCount -= 1;
      if (this.#freeCount === 0) this.#freeLast = 0;
    } else if (this.#fresh <= this.capacity) {
      record = this.#fresh;
      this.#fresh += 1;
      this.control[ControlWord.FRESH] = this.#fresh;
    }
    if (record === 0) return 0;
    this.#used += 1;
    const id = (this.control[ControlWord.LAST_ID] + 1) | 0;
    this.control[ControlWord.LAST_ID] = id;
    const at = record * RECORD_WORDS;
    this.records.fill(0, at, at + RECORD_WORDS);
    this.records[at + RecordWord.ID] = id;
    return record;
  }

  /** A record that was taken becomes no connection. */
  giveBack(record: number): void {
    this.#used -= 1;
    this.#free(record, this.nowMs() | 0);
  }

  /**
   * Make a record that is filled in a connection: from now on it is found by both its tuples. That neither is there already the caller has looked up.
   * @param kind its first word
   * @returns false, and the record is given back, when the index has no room
   */
  publish(record: number, kind: number): boolean {
    const at = record * RECORD_WORDS;
    const { records } = this;
    Atomics.store(records, at, kind);
    const original = record << 1;
    const reply = original | Direction.REPLY;
    const hash = this.hashOf(original);
    if (!this.#index.insert(hash, original) || !this.#index.insert(this.hashOf(reply), reply)) {
      this.#index.remove(hash, original);
      Atomics.store(records, at, 0);
      this.giveBack(record);
      this.counters.refusedIndex += 1;
      return false;
    }
    this.#count(record);
    this.counters.created += 1;
    return true;
  }

  /** A connection has its first answer. */
  setReplied(record: number): void {
    const at = record * RECORD_WORDS;
    const { records } = this;
    if ((records[at + RecordWord.STATUS] & Status.SEEN_REPLY) !== 0) return;
    records[at + RecordWord.STATUS] |= Status.SEEN_REPLY;
    this.zones.replied(records[at] >>> 16);
    this.ports.replied(records[at + RecordWord.PORT]);
  }

  /**
   * End a connection.
   * @param reason one of {@link Removal}
   * @param now a 32-bit time in milliseconds, from which the record rests
   */
  remove(record: number, reason: number, now = this.nowMs() | 0): void {
    this.onRemoved?.(record, reason);
    this.counters.removed[reason] += 1;
    const { records } = this;
    const at = record * RECORD_WORDS;
    const original = record << 1;
    const reply = original | Direction.REPLY;
    this.#index.remove(this.hashOf(original), original);
    this.#index.remove(this.hashOf(reply), reply);
    const isUnreplied = (records[at + RecordWord.STATUS] & Status.SEEN_REPLY) === 0;
    this.zones.remove(records[at] >>> 16, isUnreplied);
    this.members?.drop(records[at] >>> 16, record);
    this.ports.remove(records[at + RecordWord.PORT], isUnreplied);
    this.timeOuts.use(records[at + RecordWord.SETTINGS] & Settings.POLICY, -1);
    Atomics.store(records, at, 0);
    this.#used -= 1;
    this.#free(record, now);
  }

  /**
   * Free what has expired among the next records, and note which freed ones have rested.
   * @param steps how many records to look at, of either kind
   * @returns how many were freed
   */
  sweep(steps: number): number {
    const now = this.nowMs() | 0;
    const { records } = this;
    let freed = 0;
    this.#noteRested(now, steps);
    for (let i = 0; i < steps; i += 1) {
      if (this.#sweepAt >= this.#fresh) this.#sweepAt = 1;
      const record = this.#sweepAt;
      if (record >= this.#fresh) break;
      this.#sweepAt += 1;
      if ((records[record * RECORD_WORDS] & Kind.LIVE) === 0 || !this.isExpired(record, now)) continue;
      this.remove(record, Removal.EXPIRED, now);
      freed += 1;
    }
    this.#alive();
    return freed;
  }

  /**
   * Visit connections that have not expired, some at a time, so that a dump of a million stops nobody. Connections that begin and end in between may be seen or not.
   * @param from 1, or what the call before returned
   * @param steps how many records to look at
   * @returns where to go on, or 0 at the end
   */
  walk(from: number, steps: number, visit: (record: number) => void): number {
    const cursor = new ConnectionCursor(
      this,
      (record) => {
        visit(record);
        return false;
      },
      { from },
    );
    cursor.allow(steps);
    cursor.take();
    return cursor.next;
  }

  /** End all connections that are wanted to. @returns how many */
  flush(isWanted: (record: number) => boolean = () => true): number {
    const before = this.#used;
    const now = this.nowMs() | 0;
    for (let record = 1; record < this.#fresh; record += 1) {
      if ((this.records[record * RECORD_WORDS] & Kind.LIVE) !== 0 && isWanted(record)) {
        this.remove(record, Removal.FLUSHED, now);
      }
    }
    return before - this.#used;
  }

  #count(record: number): void {
    const at = record * RECORD_WORDS;
    const { records } = this;
    const isUnreplied = (records[at + RecordWord.STATUS] & Status.SEEN_REPLY) === 0;
    this.zones.add(records[at] >>> 16, isUnreplied);
    this.members?.add(records[at] >>> 16, record);
    this.ports.add(records[at + RecordWord.PORT], isUnreplied);
    this.timeOuts.use(records[at + RecordWord.SETTINGS] & Settings.POLICY, 1);
  }

  #free(record: number, now: number): void {
    const { records } = this;
    const at = record * RECORD_WORDS;
    records[at + RecordWord.ORIGINAL] = 0;
    records[at + RecordWord.LAST_SEEN] = now;
    if (this.#freeCount === 0) this.#freeFirst = record;
    else records[this.#freeLast * RECORD_WORDS + RecordWord.ORIGINAL] = record;
    this.#freeLast = record;
    this.#freeCount += 1;
    if (this.#restMs > 0 && this.#restingFirst === 0) this.#restingFirst = record;
  }

  /** Whether the first freed record, if there is one, may become another connection. */
  #hasRested(now: number): boolean {
    if (this.#restMs === 0) return this.#freeCount > 0;
    if (this.#restedCount === 0) this.#noteRested(now, REST_STEPS);
    return this.#restedCount > 0;
  }

  /** The sweep comes here often enough that each stamp is looked at while its difference to now has a sign. */
  #noteRested(now: number, steps: number): void {
    const { records } = this;
    for (let i = 0; i < steps && this.#restingFirst !== 0; i += 1) {
      const at = this.#restingFirst * RECORD_WORDS;
      if (((now - records[at + RecordWord.LAST_SEEN]) | 0) < this.#restMs) return;
      this.#restingFirst = records[at + RecordWord.ORIGINAL];
      this.#restedCount += 1;
    }
  }

  #adopt(): AdoptReport {
    const control = this.control;
    this.timeOuts.clamp();
    const alive = (control[ControlWord.ALIVE] >>> 0) + (control[ControlWord.ALIVE + 1] >>> 0) * 2 ** 32;
    const report = adoptRecords(this, this.#index, this.nowMs() - alive);
    const now = this.nowMs() | 0;
    for (let record = 1; record < this.#fresh; record += 1) {
      if (this.isLive(record)) {
        this.#used += 1;
        this.#count(record);
      } else this.#free(record, now);
    }
    return report;
  }

  #alive(): void {
    const now = Math.floor(this.nowMs());
    this.control[ControlWord.ALIVE] = now | 0;
    this.control[ControlWord.ALIVE + 1] = Math.floor(now / 2 ** 32) | 0;
  }
}

function checkMemory(memory: ConnectionMemory, capacity: number): void {
  const sizes = memorySizes(capacity);
  for (const name of ['control', 'index', 'records'] as const) {
    if (memory[name].length >= sizes[name]) continue;
    throw new RangeError(`${capacity} connections need ${sizes[name]} words of ${name}, not ${memory[name].length}`);
  }
}
