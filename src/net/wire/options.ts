/**
 * Options of the shape that IPv4 and TCP share: a kind byte; for all kinds but End (0) and No Operation (1) a length byte
 * that counts both and the data. IPv6's are in ipv6-options.ts, as their padding is another.
 */
import type { Emitter } from './emitter.ts';
import { WireError } from './error.ts';

/** One option as it stands on the wire. No Operation is one, with no data; End is not. */
export interface RawOption {
  kind: number;
  data: Uint8Array;
}

const END = 0;
const NO_OPERATION = 1;

/**
 * The options up to End or the end of the area.
 * @throws WireError when an option's length is under two or leads out of the area
 */
export function parseRawOptions(protocol: string, bytes: Uint8Array, offset: number, end: number): RawOption[] {
  const options: RawOption[] = [];
  let at = offset;
  while (at < end && bytes[at] !== END) {
    const kind = bytes[at];
    if (kind === NO_OPERATION) {
      options.push({ kind, data: new Uint8Array(0) });
      at += 1;
      continue;
    }
    const length = at + 1 < end ? bytes[at + 1] : 0;
    if (length < 2) throw new WireError(protocol, `option ${kind} has a length of ${length}`, at);
    if (at + length > end) throw new WireError(protocol, `option ${kind} leads out of the header`, at);
    options.push({ kind, data: bytes.slice(at + 2, at + length) });
    at += length;
  }
  return options;
}

/** Length of the options' area: filled up to a multiple of four bytes. */
export function rawOptionsLength(options: readonly RawOption[]): number {
  let length = 0;
  for (const option of options) length += option.kind === NO_OPERATION ? 1 : 2 + option.data.length;
  return (length + 3) & ~3;
}

/** Write options, and End bytes up to `end`. Refuses an option whose kind is End or whose data is too long. */
export function emitRawOptions(out: Emitter, options: readonly RawOption[], end: number): void {
  for (const option of options) {
    if (option.kind === END) out.fail('option 0 marks the end and cannot be given');
    if (option.kind === NO_OPERATION && option.data.length > 0) out.fail('option 1 has no data');
    out.u8('option kind', option.kind);
    if (option.kind !== NO_OPERATION) {
      out.u8('option length', option.data.length + 2);
      out.data(option.data);
    }
  }
  out.zeros(end - out.at);
}
