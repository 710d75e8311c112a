/**
 * Bytes put into and taken out of a frame near its start. What lies before moves, the rest stays, and the offsets of offloads
 * that count from the frame's start follow; so do those of the key, which is marked stale where it no longer holds. Nothing here checks: the
 * callers have room and the right to write.
 */
import type { Packet } from '../../net/index.ts';
import type { FlowKey } from '../key/key.ts';
import { L3_MARKER, Word } from '../key/layout.ts';

/** Open a gap of `count` bytes at `at`; the packet has that much headroom. Its bytes are whatever was there. */
export function insertBytes(packet: Packet, at: number, count: number): void {
  const bytes = packet.bytes;
  const from = packet.offset;
  const to = from - count;
  for (let i = 0; i < at; i += 1) bytes[to + i] = bytes[from + i];
  packet.offset = to;
  packet.length += count;
  if (packet.checksumStart >= at) packet.checksumStart += count;
  if (packet.headerLengthBytes >= at) packet.headerLengthBytes += count;
}

/** Take `count` bytes out at `at`; the frame is at least that long. */
export function removeBytes(packet: Packet, at: number, count: number): void {
  const bytes = packet.bytes;
  const from = packet.offset;
  for (let i = at - 1; i >= 0; i -= 1) bytes[from + count + i] = bytes[from + i];
  packet.offset = from + count;
  packet.length -= count;
  packet.checksumStart = Math.max(packet.checksumStart - count, 0);
  packet.headerLengthBytes = Math.max(packet.headerLengthBytes - count, 0);
}

/** The packet begins with another layer 3 or another EtherType now, and what the key says of the inside is void. */
export function becomes(key: FlowKey, etherType: number, l3Type: number, l3Offset: number): void {
  key.l3Type = l3Type;
  key.l3Offset = l3Offset;
  key.l4Offset = -1;
  key.l3End = -1;
  key.words[Word.ETH_TYPE] = (etherType << 16) | (l3Type === 0 ? 0 : L3_MARKER);
  key.stale = true;
}

/** Headers before layer 3 have become longer by so many bytes. */
export function moveOffsets(key: FlowKey, by: number): void {
  key.l3Offset += by;
  if (key.l4Offset !== -1) key.l4Offset += by;
  if (key.l3End !== -1) key.l3End += by;
}
