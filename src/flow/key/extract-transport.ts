/**
 * TCP, UDP and SCTP for extraction: ports and TCP flags. A header that does not lie within the IP packet leaves them 0, as in
 * ovs-vswitchd. Where the IP packet ends is decided here, for all who read headers behind it.
 */
import { IpProtocol, type Packet } from '../../net/index.ts';
import { readWord } from '../bytes.ts';
import type { FlowKey } from './key.ts';
import { Sound, Word } from './layout.ts';

/** The most bytes that ovs-vswitchd takes for padding behind an IP packet. */
export const MAXIMUM_PADDING_BYTES = 0xffff;

/**
 * Whether the length in an IP header contradicts the frame.
 * @param paddingBytes the bytes from the IP header to the end of the frame, less those that the header tells of
 */
export function hasLyingEnd(paddingBytes: number): boolean {
  // Less than none is a very large number here.
  return paddingBytes >>> 0 > MAXIMUM_PADDING_BYTES;
}

/**
 * @param at the transport header, from the start of the frame
 * @param end one behind the IP packet, from the start of the frame
 */
export function extractTransport(packet: Packet, key: FlowKey, protocol: number, at: number, end: number): void {
  const length = end - at;
  if (protocol === IpProtocol.TCP) {
    const flags = tcpFlagsAt(packet, at, end);
    if (flags === -1) return;
    key.words[Word.TCP_FLAGS] |= flags << 16;
  } else if (protocol === IpProtocol.UDP) {
    if (length < 8) return;
  } else if (protocol === IpProtocol.SCTP) {
    if (length < 12) return;
  } else {
    return;
  }
  key.words[Word.ETH_TYPE] |= Sound.TRANSPORT;
  key.words[Word.PORTS] = readWord(packet.bytes, packet.offset + at);
}

/**
 * The 12 bits of TCP flags.
 * @param at the TCP header, from the start of the frame
 * @param end one behind the IP packet, from the start of the frame
 * @returns -1 when the header is cut off or says that it is
 */
export function tcpFlagsAt(packet: Packet, at: number, end: number): number {
  const length = end - at;
  if (length < 20) return -1;
  const bytes = packet.bytes;
  const header = packet.offset + at;
  const headerLength = (bytes[header + 12] >>> 4) << 2;
  if (headerLength < 20 || headerLength > length) return -1;
  return ((bytes[header + 12] & 15) << 8) | bytes[header + 13];
}
