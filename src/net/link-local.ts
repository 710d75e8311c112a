/** Link-local control addresses, which bridges do not forward (IEEE 802.1Q, table 8-1). */
import type { Packet } from './packet.ts';

/** Whether the destination is one of 01:80:c2:00:00:00 to :0f. */
export function isLinkLocalControl(packet: Packet): boolean {
  const bytes = packet.bytes;
  const at = packet.offset;
  if (bytes[at] !== 0x01 || bytes[at + 1] !== 0x80 || bytes[at + 2] !== 0xc2) return false;
  return (bytes[at + 3] | bytes[at + 4] | (bytes[at + 5] & 0xf0)) === 0;
}
