/** Time stamps of pcapng: 64-bit counts of an interface's unit, in two halves, and times since 1970. */
import type { CaptureTime, TimestampResolution } from './types.ts';

const NANOSECONDS_PER_SECOND = 1_000_000_000n;

function unitsPerSecond(resolution: TimestampResolution): bigint {
  return BigInt(resolution.base) ** BigInt(resolution.exponent);
}

/**
 * A time from a count of units. Parts of a nanosecond are cut off.
 * @param high upper 32 bits
 * @param low lower 32 bits
 */
export function timeFromUnits(
  high: number,
  low: number,
  resolution: TimestampResolution,
  offsetSeconds: number,
): CaptureTime {
  const units = (BigInt(high) << 32n) | BigInt(low);
  const perSecond = unitsPerSecond(resolution);
  const seconds = units / perSecond;
  const nanoseconds = ((units % perSecond) * NANOSECONDS_PER_SECOND) / perSecond;
  return { seconds: Number(seconds) + offsetSeconds, nanoseconds: Number(nanoseconds) };
}

/** The two halves of a count of units. */
export interface Units {
  high: number;
  low: number;
}

/**
 * A count of units from a time.
 * @param into receives the halves, so that a writer allocates nothing per packet in the common case of nanoseconds
 * @returns false when 64 bits cannot hold it, or the time is before the offset
 */
export function unitsFromTime(
  seconds: number,
  nanoseconds: number,
  resolution: TimestampResolution,
  offsetSeconds: number,
  into: Units,
): boolean {
  const relative = seconds - offsetSeconds;
  if (!Number.isSafeInteger(relative) || relative < 0) return false;
  if (!(nanoseconds >= 0 && nanoseconds < 1e9)) return false;
  if (resolution.base === 10 && resolution.exponent === 9 && relative < 2 ** 34) {
    // relative * 10^9 in parts of 16 bits, so that no part leaves the 53 bits of a number.
    const upper = Math.floor(relative / 0x1_0000) * 1e9;
    const rest = (upper % 0x1_0000) * 0x1_0000 + (relative % 0x1_0000) * 1e9 + Math.floor(nanoseconds);
    into.low = rest % 0x1_0000_0000;
    into.high = Math.floor(upper / 0x1_0000) + Math.floor(rest / 0x1_0000_0000);
    return true;
  }
  const perSecond = unitsPerSecond(resolution);
  const fraction = (BigInt(Math.floor(nanoseconds)) * perSecond) / NANOSECONDS_PER_SECOND;
  const units = BigInt(relative) * perSecond + fraction;
  if (units >= 1n << 64n) return false;
  into.low = Number(units & 0xffff_ffffn);
  into.high = Number(units >> 32n);
  return true;
}
