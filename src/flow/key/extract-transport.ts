/** TCP, UDP and SCTP for extraction: ports and TCP flags. What is cut off leaves them 0, as the kernel's openvswitch does. */
import { IpProtocol, type Packet } from '../../net/index.ts';
import type { FlowKey } from './key.ts';
import { Word } from './layout.ts';

/** @param at the transport header, from the start of the frame */
export function extractTransport(packet: Packet, key: FlowKey, protocol: number, at: number): void {
  const length = packet.length - at;
  const header = packet.offset + at;
  const bytes = packet.bytes;
  if (protocol === IpProtocol.TCP) {
    if (length < 20) return;
    const headerLength = (bytes[header + 12] >>> 4) << 2;
    if (headerLength < 20 || headerLength > length) return;
    key.words[Word.TCP_FLAGS] |= (((bytes[header + 12] & 15) << 8) | bytes[header + 13]) << 16;
  } else if (protocol === IpProtocol.UDP) {
    if (length < 8) return;
  } else if (protocol === IpProtocol.SCTP) {
    if (length < 12) return;
  } else {
    return;
  }
  key.words[Word.PORTS] =
    (bytes[header] << 24) | (bytes[header + 1] << 16) | (bytes[header + 2] << 8) | bytes[header + 3];
}
