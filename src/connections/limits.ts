/**
 * How many connections a zone may have: of its own, or the default of all zones. Limits lie in the control array, and so outlive the process as connections do. Any words there are
 * limits that can be, so nothing is checked when a table is adopted.
 */
import { ControlWord, ZONES } from './layout.ts';
import type { Shares } from './shares.ts';

const VALUES = ControlWord.LIMITS + 1;
const BITS = VALUES + ZONES;
const LARGEST = 0xffff_ffff;

export class ZoneLimits {
  readonly #control: Int32Array;
  readonly #zones: Shares;

  constructor(control: Int32Array, zones: Shares) {
    this.#control = control;
    this.#zones = zones;
  }

  /** For zones without a limit of their own; 0 is none. */
  get default(): number {
    return this.#control[ControlWord.LIMITS] >>> 0;
  }

  /** @throws RangeError for what is no number of connections */
  set default(limit: number) {
    this.#control[ControlWord.LIMITS] = checked(limit);
  }

  /** @param limit connections; 0 is no limit, whatever the default. @throws RangeError for what is no zone or no number */
  set(zone: number, limit: number): void {
    if (!Number.isInteger(zone) || zone < 0 || zone >= ZONES) throw new RangeError(`${zone} is no zone`);
    this.#control[VALUES + zone] = checked(limit);
    this.#control[BITS + (zone >>> 5)] |= 1 << (zone & 31);
  }

  /** The zone has the default again. */
  remove(zone: number): void {
    if (!this.#has(zone)) return;
    this.#control[BITS + (zone >>> 5)] &= ~(1 << (zone & 31));
    this.#control[VALUES + zone] = 0;
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

  /** Connections of a zone. */
  count(zone: number): number {
    return this.#zones.count(zone);
  }

  isReached(zone: number): boolean {
    const limit = this.of(zone);
    return limit !== 0 && this.#zones.count(zone) >= limit;
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
