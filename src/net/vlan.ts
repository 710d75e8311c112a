/**
 * VLAN tags in place: what an adapter does with a {@link TagAction} while it sends a frame, and reading the outer tag.
 * The formats are in wire/; dissect.ts reads all tags of a frame at once. Nothing here allocates.
 */
import { TagAction } from './adapter.ts';
import type { Packet } from './packet.ts';
import { EtherType, TAG_BYTES } from './wire/numbers.ts';

/** What became of a {@link TagAction}. */
export const TagResult = {
  DONE: 0,
  /** Fewer than four bytes lie free before the frame. */
  NO_HEADROOM: 1,
  /** The frame ends inside its Ethernet header or tag. */
  TRUNCATED: 2,
} as const;

/**
 * The outer tag of a frame.
 * @returns its TPID in the high and its TCI in the low 16 bits, as an unsigned number; 0 for a frame that has no whole tag
 */
export function outerTag(packet: Packet): number {
  if (packet.length < 18) return 0;
  const bytes = packet.bytes;
  const at = packet.offset + 12;
  const tpid = (bytes[at] << 8) | bytes[at + 1];
  if (tpid !== EtherType.VLAN && tpid !== EtherType.SERVICE_VLAN) return 0;
  return ((tpid << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

/** The outer tag's VLAN identifier, 0 to 4095, or -1 for a frame without a tag. */
export function outerVlanId(packet: Packet): number {
  const tag = outerTag(packet);
  return tag === 0 ? -1 : tag & 0xfff;
}

/**
 * Carry out a tag action: STRIP removes the outer tag if there is one, PUSH puts an 802.1Q tag before all others, both
 * together replace the outer tag by an 802.1Q tag. Offload metadata moves along. The frame's first bytes are written,
 * so nobody else may share them. On any result but DONE the packet is as it was.
 * @param action a {@link TagAction}, with the TCI to push in its low 16 bits
 * @returns one of {@link TagResult}
 */
export function applyTagAction(packet: Packet, action: number): number {
  const strip = (action & TagAction.STRIP) !== 0;
  const push = (action & TagAction.PUSH) !== 0;
  if (!strip && !push) return TagResult.DONE;
  if (packet.length < 14) return TagResult.TRUNCATED;
  const bytes = packet.bytes;
  const at = packet.offset + 12;
  const tpid = (bytes[at] << 8) | bytes[at + 1];
  const tagged = tpid === EtherType.VLAN || tpid === EtherType.SERVICE_VLAN;
  if (strip && tagged) {
    if (packet.length < 18) return TagResult.TRUNCATED;
    if (push) {
      writeTag(bytes, at, action);
    } else {
      moveAddresses(bytes, packet.offset, packet.offset + TAG_BYTES);
      shift(packet, TAG_BYTES);
    }
    return TagResult.DONE;
  }
  if (push) {
    if (packet.offset - TAG_BYTES < packet.headroomStart) return TagResult.NO_HEADROOM;
    moveAddresses(bytes, packet.offset, packet.offset - TAG_BYTES);
    shift(packet, -TAG_BYTES);
    writeTag(bytes, packet.offset + 12, action);
  }
  return TagResult.DONE;
}

function writeTag(bytes: Uint8Array, at: number, tci: number): void {
  bytes[at] = EtherType.VLAN >>> 8;
  bytes[at + 1] = EtherType.VLAN & 0xff;
  bytes[at + 2] = tci >>> 8;
  bytes[at + 3] = tci;
}

/** Move both MAC addresses by four bytes, in the order that does not overwrite what is still to be read. */
function moveAddresses(bytes: Uint8Array, from: number, to: number): void {
  if (to > from) for (let i = 11; i >= 0; i -= 1) bytes[to + i] = bytes[from + i];
  else for (let i = 0; i < 12; i += 1) bytes[to + i] = bytes[from + i];
}

/** Move the start of the frame; offsets that count from it and point behind the tag follow. */
function shift(packet: Packet, byBytes: number): void {
  packet.offset += byBytes;
  packet.length -= byBytes;
  if (packet.checksumStart >= 14) packet.checksumStart -= byBytes;
  if (packet.headerLengthBytes >= 14) packet.headerLengthBytes -= byBytes;
}
