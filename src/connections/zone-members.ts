/**
 * Which connections the zones with a limit have: so a zone that is at its limit finds those of its own that have expired or closed, however large the table is. In memory of the process, made when
 * a limit is reached first.
 */
import type { ZoneLimits } from './limits.ts';

/** Connections of a zone, in no order. */
export class Members {
  records = new Int32Array(8);
  length = 0;
  /** Where whoever looks at some of them goes on. */
  hand = 0;
}

export class ZoneMembers {
  readonly #limits: ZoneLimits;
  readonly #zones = new Map<number, Members>();
  /** By record, its place among the members of its zone. */
  readonly #places: Int32Array;

  /** @param capacity connections of the table */
  constructor(limits: ZoneLimits, capacity: number) {
    this.#limits = limits;
    this.#places = new Int32Array(capacity + 1);
  }

  of(zone: number): Members | undefined {
    return this.#zones.get(zone);
  }

  /** A connection has begun. Zones without a limit have no members. */
  add(zone: number, record: number): void {
    if (this.#limits.of(zone) === 0) return;
    let members = this.#zones.get(zone);
    if (members === undefined) {
      members = new Members();
      this.#zones.set(zone, members);
    }
    if (members.length === members.records.length) {
      const records = new Int32Array(members.length * 2);
      records.set(members.records);
      members.records = records;
    }
    members.records[members.length] = record;
    this.#places[record] = members.length;
    members.length += 1;
  }

  /** A connection ends. */
  drop(zone: number, record: number): void {
    const members = this.#zones.get(zone);
    if (members === undefined) return;
    const place = this.#places[record];
    members.length -= 1;
    const last = members.records[members.length];
    members.records[place] = last;
    this.#places[last] = place;
    if (members.length === 0) this.#zones.delete(zone);
  }
}
