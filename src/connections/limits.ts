/**
 * How many connections a zone may have: of its own, or the default of all zones. Limits lie in the control array, and so outlive the process as connections do. Any words there are
 * limits that can be, so nothing is checked when a table is adopted.
 *
 * Connections that have expired do not count, whether a sweep has freed them or not. TCP connections that were closed or reset (TIME_WAIT, CLOSE) count until another one is wanted: then
 * they go for it.
 */
import { IpProtocol } from '../net/index.ts';
import { ControlWord, RecordWord, STATE_MASK, ZONES } from './layout.ts';
import { type ConnectionTable, Removal } from './table.ts';
import { TcpState } from './tcp-state.ts';
import { ZoneMembers } from './zone-members.ts';

const VALUES = ControlWord.LIMITS + 1;
const BITS = VALUES + ZONES;
const LARGEST = 0xffff_ffff;
/** Connections of a zone at its limit that are looked at for one new one. */
const SEARCH_STEPS = 64;
/** The same when the connections of a zone are counted. */
const COUNT_STEPS = 65_536;

export class ZoneLimits {
  readonly #table: ConnectionTable;
  readonly #control: Int32Array;

  constructor(table: ConnectionTable) {
    this.#table = table;
    this.#control = table.control;
  }

  /** For zones without a limit of their own; 0 is none. */
  get default(): number {
    return this.#control[ControlWord.LIMITS] >>> 0;
  }

  /** @throws RangeError for what is no number of connections */
  set default(limit: number) {
    this.#control[ControlWord.LIMITS] = checked(limit);
    this.#table.members = null;
  }

  /** @param limit connections; 0 is no limit, whatever the default. @throws RangeError for what is no zone or no number */
  set(zone: number, limit: number): void {
    if (!Number.isInteger(zone) || zone < 0 || zone >= ZONES) throw new RangeError(`${zone} is no zone`);
    this.#control[VALUES + zone] = checked(limit);
    this.#control[BITS + (zone >>> 5)] |= 1 << (zone & 31);
    this.#table.members = null;
  }

  /** The zone has the default again. */
  remove(zone: number): void {
    if (!this.#has(zone)) return;
    this.#control[BITS + (zone >>> 5)] &= ~(1 << (zone & 31));
    this.#control[VALUES + zone] = 0;
    this.#table.members = null;
  }

  /** What holds for a zone. */
  of(zone: number): number {
    return this.#has(zone) ? this.#control[VALUES + zone] >>> 0 : this.default;
  }

  /** Zones with a limit of their own, in ascending order. */
  zones(): number[] {
    const zones: number[] = [];
    for (let zone = 0; zone < ZONES; zone += 1) {
      if (this.#control[BITS + (zone >>> 5)] === 0) zone |= 31;
      else if (this.#has(zone)) zones.push(zone);
    }
    return zones;
  }

  /** Connections of a zone. Of a zone with a limit those that have expired are freed on the way, many thousand at most. */
  count(zone: number): number {
    if (this.of(zone) !== 0 && this.#table.zones.count(zone) !== 0) {
      const now = this.#table.nowMs() | 0;
      this.#look(zone, COUNT_STEPS, (record) => {
        if (this.#table.isExpired(record, now)) this.#table.remove(record, Removal.EXPIRED, now);
        return false;
      });
    }
    return this.#table.zones.count(zone);
  }

  isReached(zone: number): boolean {
    const limit = this.of(zone);
    return limit !== 0 && this.#table.zones.count(zone) >= limit;
  }

  /**
   * Room for one more connection in a zone: connections of it go that have expired, or were closed.
   * @param now a 32-bit time in milliseconds
   * @returns false when its limit is reached all the same
   */
  makeRoom(zone: number, now: number): boolean {
    if (!this.isReached(zone)) return true;
    const table = this.#table;
    this.#look(zone, SEARCH_STEPS, (record) => {
      if (table.isExpired(record, now)) table.remove(record, Removal.EXPIRED, now);
      else if (this.#isOver(record)) table.remove(record, Removal.EVICTED, now);
      return !this.isReached(zone);
    });
    return !this.isReached(zone);
  }

  /** Look at some connections of a zone, which may be removed meanwhile. @param visit whether that was enough */
  #look(zone: number, steps: number, visit: (record: number) => boolean): void {
    const table = this.#table;
    table.members ??= this.#gather();
    const members = table.members.of(zone);
    if (members === undefined) return;
    for (let step = Math.min(steps, members.length); step > 0 && members.length > 0; step -= 1) {
      if (members.hand >= members.length) members.hand = 0;
      const record = members.records[members.hand];
      const isEnough = visit(record);
      // One that was removed has another in its place.
      if (members.records[members.hand] === record) members.hand += 1;
      if (isEnough) return;
    }
  }

  /** Look at all records once: done when a limit is reached for the first time since limits were changed. */
  #gather(): ZoneMembers {
    const table = this.#table;
    const members = new ZoneMembers(this, table.capacity);
    for (let record = 1; record < table.fresh; record += 1) {
      if (table.isLive(record)) members.add(table.records[table.at(record)] >>> 16, record);
    }
    return members;
  }

  /** Whether both sides have done with a connection: it is there only for what is on its way still. */
  #isOver(record: number): boolean {
    const at = this.#table.at(record);
    const { records } = this.#table;
    const state = records[at + RecordWord.STATE] & STATE_MASK;
    const isTcp = ((records[at] >>> 8) & 0xff) === IpProtocol.TCP;
    return isTcp && (state === TcpState.TIME_WAIT || state === TcpState.CLOSE);
  }

  #has(zone: number): boolean {
    return zone >= 0 && zone < ZONES && ((this.#control[BITS + (zone >>> 5)] >>> (zone & 31)) & 1) === 1;
  }
}

/** @throws RangeError */
function checked(limit: number): number {
  if (!Number.isInteger(limit) || limit < 0 || limit > LARGEST) {
    throw new RangeError(`${limit} is no number of connections: it is 0 to ${LARGEST}`);
  }
  return limit;
}
