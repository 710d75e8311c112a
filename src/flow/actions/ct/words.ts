/** The words of CT, and its arguments. */
import { packBytes, packedWords, unpackBytes } from '../encoding.ts';

/** Places of its words, counted from its head. The address words hold IPv4 in the first or IPv6 in all four. */
export const Ct = {
  FLAGS: 1,
  ZONE: 2,
  MARK: 3,
  MARK_MASK: 4,
  LABEL: 5,
  LABEL_MASK: 9,
  EVENT_MASK: 13,
  NAT_FLAGS: 14,
  NAT_MINIMUM: 15,
  NAT_MAXIMUM: 19,
  /** Lowest and highest port, 16 bits each. */
  NAT_PORTS: 23,
  /** Length in bytes of helper and timeout policy names, 16 bits each. */
  NAME_BYTES: 24,
  NAMES: 25,
} as const;

/** Bits of its flags. */
export const CtFlag = { COMMIT: 1, FORCE: 2, NAT: 4, ZONE: 8, MARK: 16, LABEL: 32, EVENT_MASK: 64 } as const;

/** Bits of its NAT flags; IPV4 and IPV6 say that there are addresses, PORTS that there are ports. */
export const NatFlag = {
  SOURCE: 1,
  DESTINATION: 2,
  PERSISTENT: 4,
  PROTO_HASH: 8,
  PROTO_RANDOM: 16,
  IPV4: 32,
  IPV6: 64,
  PORTS: 128,
} as const;

function four(name: string): string[] {
  return [0, 1, 2, 3].map((word) => `${name}, word ${word}`);
}

/** All words before the names of helper and timeout policy, which are packed one behind the other. */
export const CT_FIELDS: readonly string[] = [
  ...['flags', 'zone', 'mark', 'mask of the mark', ...four('label'), ...four('mask of the label'), 'event mask'],
  ...['NAT flags', ...four('lowest address'), ...four('highest address'), 'ports 16 | 16', 'bytes of names 16 | 16'],
];

/** Arguments of connection tracking. Masked values come with their mask. */
export interface CtOptions {
  /** Bits of CtFlag; ZONE, MARK, LABEL and EVENT_MASK say which of the values below are given. */
  readonly flags: number;
  readonly zone?: number;
  readonly mark?: readonly [value: number, mask: number];
  /** Four words and four words. */
  readonly label?: readonly [value: ArrayLike<number>, mask: ArrayLike<number>];
  readonly eventMask?: number;
  readonly natFlags?: number;
  /** Four words each. */
  readonly natMinimum?: ArrayLike<number>;
  readonly natMaximum?: ArrayLike<number>;
  readonly natPorts?: readonly [minimum: number, maximum: number];
  readonly helper?: string;
  readonly timeout?: string;
}

/** The words behind a head. */
export function ctWords(options: CtOptions): number[] {
  const helper = nameBytes(options.helper ?? '');
  const timeout = nameBytes(options.timeout ?? '');
  const words = new Array<number>(CT_FIELDS.length).fill(0);
  const put = (at: number, ...values: number[]) => words.splice(at - 1, values.length, ...values);
  put(Ct.FLAGS, options.flags, options.zone ?? 0, options.mark?.[0] ?? 0, options.mark?.[1] ?? 0);
  if (options.label !== undefined) put(Ct.LABEL, ...Array.from(options.label[0]), ...Array.from(options.label[1]));
  put(Ct.EVENT_MASK, options.eventMask ?? 0, options.natFlags ?? 0);
  if (options.natMinimum !== undefined) put(Ct.NAT_MINIMUM, ...Array.from(options.natMinimum));
  if (options.natMaximum !== undefined) put(Ct.NAT_MAXIMUM, ...Array.from(options.natMaximum));
  if (options.natPorts !== undefined) put(Ct.NAT_PORTS, (options.natPorts[0] << 16) | options.natPorts[1]);
  put(Ct.NAME_BYTES, (helper.length << 16) | timeout.length);
  return [...words, ...packBytes(helper), ...packBytes(timeout)];
}

/** Names travel as bytes, a byte for each character. */
function nameBytes(name: string): Uint8Array {
  return Uint8Array.from(name, (character) => character.charCodeAt(0));
}

/** Names of its helper and its time-out policy; empty for none. */
export function namesOf(words: Int32Array, at: number): { helper: string; timeout: string } {
  const helperBytes = words[at + Ct.NAME_BYTES] >>> 16;
  const timeoutBytes = words[at + Ct.NAME_BYTES] & 0xffff;
  const text = (from: number, bytes: number) => String.fromCharCode(...unpackBytes(words, from, bytes));
  return {
    helper: text(at + Ct.NAMES, helperBytes),
    timeout: text(at + Ct.NAMES + packedWords(helperBytes), timeoutBytes),
  };
}
