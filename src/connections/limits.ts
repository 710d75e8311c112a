/** How many connections a zone may have: of its own, or the default of all zones. */
import type { Shares } from './shares.ts';

export class ZoneLimits {
  /** For zones without a limit of their own; 0 is none. */
  default = 0;
  readonly #limits = new Map<number, number>();
  readonly #zones: Shares;

  constructor(zones: Shares) {
    this.#zones = zones;
  }

  /** @param limit connections; 0 is no limit, whatever the default. @throws RangeError for what is no zone or no number */
  set(zone: number, limit: number): void {
    if (!Number.isInteger(zone) || zone < 0 || zone > 0xffff) throw new RangeError(`${zone} is no zone`);
    if (!Number.isInteger(limit) || limit < 0) throw new RangeError(`${limit} is no number of connections`);
    this.#limits.set(zone, limit);
  }

  /** The zone has the default again. */
  remove(zone: number): void {
    this.#limits.delete(zone);
  }

  /** What holds for a zone. */
  of(zone: number): number {
    return this.#limits.get(zone) ?? this.default;
  }

  /** Zones with a limit of their own. */
  zones(): number[] {
    return [...this.#limits.keys()];
  }

  /** Connections of a zone. */
  count(zone: number): number {
    return this.#zones.count(zone);
  }

  isReached(zone: number): boolean {
    const limit = this.of(zone);
    return limit !== 0 && this.#zones.count(zone) >= limit;
  }
}
