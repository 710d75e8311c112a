/** TCP, UDP and SCTP for extraction: ports and TCP flags. What is cut off leaves them 0, as the kernel's openvswitch does. */
import { IpProtocol, type Packet } from '../../net/index.ts';
import { readWord } from '../bytes.ts';
import type { FlowKey } from './key.ts';
import { Word } from './layout.ts';

/** @param at the transport header, from the start of the frame */
export function extractTransport(packet: Packet, key: FlowKey, protocol: number, at: number): void {
  const length = packet.length - at;
  if (protocol === IpProtocol.TCP) {
    const flags = tcpFlagsAt(packet, at);
    if (flags === -1) return;
    key.words[Word.TCP_FLAGS] |= flags << 16;
  } else if (protocol === IpProtocol.UDP) {
    if (length < 8) return;
  } else if (protocol === IpProtocol.SCTP) {
    if (length < 12) return;
  } else {
    return;
  }
  key.words[Word.PORTS] = readWord(packet.bytes, packet.offset + at);
}

/**
 * The 12 bits of TCP flags.
 * @param at the TCP header, from the start of the frame
 * @returns -1 when the header is cut off or says that it is
 */
export function tcpFlagsAt(packet: Packet, at: number): number {
  const length = packet.length - at;
  if (length < 20) return -1;
  const bytes = packet.bytes;
  const header = packet.offset + at;
  const headerLength = (bytes[header + 12] >>> 4) << 2;
  if (headerLength < 20 || headerLength > length) return -1;
  return ((bytes[header + 12] & 15) << 8) | bytes[header + 13];
}
