/**
 * Ports as keys of decisions and their outputs have them: the number of the port with the index of the NIC behind it, which is 0 but for a port that has several.
 *
 *     31          24 23          16 15                      0
 *     |      0      |  NIC index   |         port           |
 */

/** All numbers are less. */
export const PORT_NUMBERS = 1 << 24;

/** @param nicIndex 0 to 255 */
export function portNumber(portId: number, nicIndex: number): number {
  return (nicIndex << 16) | portId;
}

export function portIn(number: number): number {
  return number & 0xffff;
}

export function nicIn(number: number): number {
  return (number >>> 16) & 0xff;
}
