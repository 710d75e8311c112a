/** The options inside IPv6 hop-by-hop and destination headers (ipv6-extension.ts), with their padding. */
import type { Emitter } from './emitter.ts';
import { WireError } from './error.ts';

/**
 * One option: type and data. Padding between options, which aligns them, is an option like others (type 0: Pad1, no data;
 * type 1: PadN). Padding behind the last is left out by parse and added by emit.
 */
export interface Ipv6Option {
  type: number;
  data: Uint8Array;
}

const PAD1 = 0;
const PADN = 1;

/** @throws WireError when an option leads out of the header */
export function parseIpv6Options(bytes: Uint8Array, offset: number, end: number): Ipv6Option[] {
  const options: Ipv6Option[] = [];
  let kept = 0;
  let at = offset;
  while (at < end) {
    const type = bytes[at];
    if (type === PAD1) {
      options.push({ type, data: new Uint8Array(0) });
      at += 1;
      continue;
    }
    const next = at + 1 < end ? at + 2 + bytes[at + 1] : end + 1;
    if (next > end) throw new WireError('ipv6-extension', `option ${type} leads out of the header`, at);
    options.push({ type, data: bytes.slice(at + 2, next) });
    if (type !== PADN) kept = options.length;
    at = next;
  }
  options.length = kept;
  return options;
}

/** Without the padding at the end. */
export function ipv6OptionsLength(options: readonly Ipv6Option[]): number {
  let length = 0;
  for (const option of options) length += option.type === PAD1 ? 1 : 2 + option.data.length;
  return length;
}

/** Write the options and then padding up to `end`. */
export function emitIpv6Options(out: Emitter, options: readonly Ipv6Option[], end: number): void {
  for (const option of options) {
    if (option.type === PAD1 && option.data.length > 0) out.fail('option 0 has no data');
    out.u8('option type', option.type);
    if (option.type !== PAD1) {
      out.u8('option length', option.data.length);
      out.data(option.data);
    }
  }
  const padding = end - out.at;
  if (padding === 1) out.u8('padding', PAD1);
  else if (padding > 1) {
    out.u8('padding', PADN);
    out.u8('padding length', padding - 2);
    out.zeros(padding - 2);
  }
}
