/** Meters: token buckets that drop what is too much. The family in family/meter.ts sets them, meter actions ask them. */

/** One band of a meter. */
export interface MeterBand {
  /** Kilobits or packets a second. */
  readonly rate: number;
  /** Kilobits or packets. */
  readonly burst: number;
  packets: number;
  bytes: number;
  /** Whether what exceeds it is dropped; bands of other types only count. */
  readonly drops: boolean;
  /** Thousandths of the unit (bits, or thousandths of packets) that are left. */
  tokens: number;
}

export interface Meter {
  readonly id: number;
  readonly isKbps: boolean;
  readonly bands: MeterBand[];
  packets: number;
  bytes: number;
  usedMs: number;
  /** Whether its counts are told to the program that puts another in its place. */
  readonly keepsCounts: boolean;
}

export const METERS_MAXIMUM = 4096;

export class Meters {
  readonly #byId = new Map<number, Meter>();

  get size(): number {
    return this.#byId.size;
  }

  /** In the order in which they were first set. */
  all(): Iterable<Meter> {
    return this.#byId.values();
  }

  get(id: number): Meter | undefined {
    return this.#byId.get(id);
  }

  /** Add a meter, or put it in place of the one with its id. Buckets begin full. @returns whether there was room */
  set(meter: Meter): boolean {
    if (!this.#byId.has(meter.id) && this.#byId.size >= METERS_MAXIMUM) return false;
    this.#byId.set(meter.id, meter);
    return true;
  }

  remove(id: number): Meter | undefined {
    const meter = this.#byId.get(id);
    this.#byId.delete(id);
    return meter;
  }

  /** @returns whether a packet may pass; one whose meter does not exist may */
  allows(id: number, lengthBytes: number, nowMs: number): boolean {
    const meter = this.#byId.get(id);
    if (meter === undefined) return true;
    const elapsedMs = Math.max(0, nowMs - meter.usedMs);
    meter.usedMs = nowMs;
    meter.packets += 1;
    meter.bytes += lengthBytes;
    const cost = meter.isKbps ? lengthBytes * 8 : 1000;
    let exceeded: MeterBand | null = null;
    for (let i = 0; i < meter.bands.length; i += 1) {
      const band = meter.bands[i];
      band.tokens = Math.min(band.tokens + elapsedMs * band.rate, bucketSize(band));
      if (band.tokens >= cost) band.tokens -= cost;
      else if (exceeded === null || band.rate > exceeded.rate) exceeded = band;
    }
    if (exceeded === null) return true;
    exceeded.packets += 1;
    exceeded.bytes += lengthBytes;
    return !exceeded.drops;
  }
}

/** A bucket holds its burst, in thousandths. */
export function bucketSize(band: { burst: number }): number {
  return band.burst * 1000;
}
