/** Geneve options as they lie in a header (RFC 8926, section 3.5): each begins with class 16 | type 8 | reserved 3, words of data 5. */
import { TunnelResult } from './result.ts';

/** Most of them in one header. */
export const GENEVE_OPTIONS_MAXIMUM = 252;

const CRITICAL = 0x80;

/**
 * What is wrong with a row of options.
 * @param from index of the first
 * @param lengthBytes of all of them, a multiple of four
 * @param known critical options that are known, by class and type; null when all pass
 * @returns DONE, MALFORMED_OPTION or UNKNOWN_CRITICAL_OPTION
 */
export function geneveOptionsFlaw(
  view: DataView,
  from: number,
  lengthBytes: number,
  known: ReadonlySet<number> | null,
): number {
  const end = from + lengthBytes;
  let unknown = false;
  for (let at = from; at < end; ) {
    const head = view.getUint32(at);
    if (known !== null && ((head >>> 8) & CRITICAL) !== 0 && !known.has(head >>> 8)) unknown = true;
    at += 4 + ((head & 0x1f) << 2);
    if (at > end) return TunnelResult.MALFORMED_OPTION;
  }
  return unknown ? TunnelResult.UNKNOWN_CRITICAL_OPTION : TunnelResult.DONE;
}
