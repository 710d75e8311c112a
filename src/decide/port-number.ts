/**
 * Ports as keys of decisions and their outputs have them: the switch's number of the port with the index of the NIC behind it, which is 0 but for a port that
 * has several.
 *
 *     31          24 23          16 15                      0
 *     |      0      |  NIC index   |         port           |
 */
import { inPortOf } from '../flow/index.ts';
import type { KeyPort, KeyPortOf, PortId } from '../net/index.ts';

/** A port in tables of decisions. */
export type PortNumber = KeyPortOf<'decisions'>;

/** All numbers are less. */
export const PORT_NUMBERS = 1 << 24;

/** Highest number of a port, and highest index of a NIC. */
export const MOST_PORT_ID = 0xffff;
export const MOST_NIC_INDEX = 0xff;

/** @param nicIndex 0 to {@link MOST_NIC_INDEX} */
export function portNumber(portId: PortId, nicIndex: number): PortNumber {
  return ((nicIndex << 16) | portId) as PortNumber;
}

/** A port of a key, or of an output, of which it is known that its table is one of decisions. */
export function asPortNumber(port: KeyPort): PortNumber {
  return port as PortNumber;
}

/** The port that a key of such a table says packets come in by. */
export function sourceIn(key: Uint32Array): PortNumber {
  return asPortNumber(inPortOf(key));
}

export function portIn(number: PortNumber): PortId {
  return (number & 0xffff) as PortId;
}

export function nicIn(number: PortNumber): number {
  return (number >>> 16) & 0xff;
}

/** Whether a value can be the number of a port. */
export function isPortId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MOST_PORT_ID;
}

/** Whether a value can be the index of a NIC. */
export function isNicIndex(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MOST_NIC_INDEX;
}
