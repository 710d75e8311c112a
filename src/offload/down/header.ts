/**
 * What lies before a packet that the engine hands down to programs: a header by which the kernel takes it for a frame, in which the addresses say whose packet it is, and
 * the resume record. Numbers most significant byte first:
 *
 *      0  2 | 0 24 | place of the table 16          as a destination address
 *      6  2 | 0 8 | interface index of the port 32  as a source address
 *     12  the outer tag of the frame 32, if it has one: the kernel takes it out and keeps it beside the packet
 *     12 or 16  EtherType 16, that of the frame behind its outer tag
 *     14 or 18  the resume record (flow/resume)
 *         the frame without its outer tag
 *
 * Partial checksums and super-packets are told beside the frame, as of all frames. Neighbours: entry.ts takes it off again; keeper/downs writes it.
 */
import { type FlowKey, Word } from '../../flow/index.ts';
import { EtherType, type Packet } from '../../net/index.ts';
import { MAXIMUM_RECIRCULATIONS } from '../layout/limits.ts';

/** Where things lie in the header. */
export const DownByte = { TABLE: 4, INTERFACE: 8, TYPE: 12 } as const;

/** Length of the header behind which there is no tag, as programs see all of them. */
export const DOWN_HEADER_BYTES = 14;
/** The most that it can be. */
export const MAXIMUM_DOWN_HEADER_BYTES = DOWN_HEADER_BYTES + 4;

/** Of an address that nobody has given to a device. */
const LOCAL_ADDRESS = 2;
/** The shortest IP headers: the kernel takes no bytes out before less. */
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;

/** Bytes of a frame before its outer EtherType, and of a tag. */
const TYPE_AT = 12;
const TAG_BYTES = 4;

function typeAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

function isTagType(type: number): boolean {
  return type === EtherType.VLAN || type === EtherType.SERVICE_VLAN;
}

/**
 * Whether a packet can be handed down. Programs know all that its key says: it is an Ethernet frame in one piece, without a tunnel, a mark or a priority; and it is IP behind at most one tag,
 * as the kernel lets programs take no bytes out at the beginning of others. Where the IP header lies, actions may have changed what the key says and not what is read from the frame. One that was looked up so often that programs do not do it again stays.
 */
export function canGoDown(packet: Packet, key: FlowKey): boolean {
  const { words } = key;
  if (key.l3Type !== 0 || key.hasTunnel || key.hasEgress || key.largestFragmentBytes !== 0) return false;
  if (words[Word.MARK] !== 0 || words[Word.PRIORITY] !== 0) return false;
  if (key.l3End === -1) return false;
  return key.recirculations <= MAXIMUM_RECIRCULATIONS && isIp(packet.bytes, packet.offset, packet.length);
}

/** @param at where the frame begins */
function isIp(bytes: Uint8Array, at: number, lengthBytes: number): boolean {
  if (lengthBytes < DOWN_HEADER_BYTES + TAG_BYTES) return false;
  let layer2Bytes = DOWN_HEADER_BYTES;
  let type = typeAt(bytes, at + TYPE_AT);
  if (isTagType(type)) {
    layer2Bytes += TAG_BYTES;
    type = typeAt(bytes, at + TYPE_AT + TAG_BYTES);
  }
  if (type !== EtherType.IPV4 && type !== EtherType.IPV6) return false;
  return lengthBytes >= layer2Bytes + (type === EtherType.IPV4 ? IPV4_BYTES : IPV6_BYTES);
}

/**
 * Write the header for a frame that can go down.
 * @param frame bytes with the frame, which begins at `frameAt`
 * @param table place of its table, 16 bits
 * @param ifindex of the port that it came in by
 * @param to where the header begins in `bytes`; there must be room for {@link MAXIMUM_DOWN_HEADER_BYTES}
 * @returns its length: more than {@link DOWN_HEADER_BYTES} when it has the frame's tag, which is to be left out of the frame then
 */
export function writeDownHeader(
  frame: Uint8Array,
  frameAt: number,
  table: number,
  ifindex: number,
  bytes: Uint8Array,
  to: number,
): number {
  bytes.fill(0, to, to + TYPE_AT);
  bytes[to] = LOCAL_ADDRESS;
  bytes[to + 6] = LOCAL_ADDRESS;
  bytes[to + DownByte.TABLE] = table >>> 8;
  bytes[to + DownByte.TABLE + 1] = table & 0xff;
  for (let i = 0; i < 4; i += 1) bytes[to + DownByte.INTERFACE + i] = (ifindex >>> (24 - i * 8)) & 0xff;
  const isTagged = isTagType(typeAt(frame, frameAt + TYPE_AT));
  const end = TYPE_AT + 2 + (isTagged ? TAG_BYTES : 0);
  for (let i = TYPE_AT; i < end; i += 1) bytes[to + i] = frame[frameAt + i];
  return end;
}
