/**
 * Long TCP packets of a recording: no link of their MTU has carried them, so they are super-packets that were recorded before they were cut
 * (or after they were put together), and the recording has lost what said so. Here they become super-packets again.
 */
import { pseudoHeaderSum4, pseudoHeaderSum6 } from './checksum.ts';
import { Fragment, HeaderOffsets, Malformed } from './dissect.ts';
import { Checksum, Gso, type Packet } from './packet.ts';
import { setU16 } from './wire/bytes.ts';
import { IpProtocol } from './wire/numbers.ts';

const headers = new HeaderOffsets();
const TCP_CHECKSUM = 16;

/**
 * Mark a TCP packet that is longer than an MTU as the super-packet that it was, to be cut into segments of that MTU. Its checksum, which
 * was recorded unfinished or wrong, becomes a partial one. Anything else stays as it is.
 * @param packet its bytes must not be shared
 * @param mtuBytes of the link that it comes in through
 * @returns whether it is a super-packet now
 */
export function restoreSuperPacket(packet: Packet, mtuBytes: number): boolean {
  if (packet.gsoType !== Gso.NONE || headers.parse(packet) !== Malformed.NOTHING) return false;
  if (headers.ipVersion === 0 || headers.ipProtocol !== IpProtocol.TCP || headers.fragment !== Fragment.NONE)
    return false;
  // Under a routing header the checksum covers another destination than the header's.
  if (headers.routingOffset !== -1 || headers.l3End - headers.l3Offset <= mtuBytes) return false;
  const segmentBytes = mtuBytes - (headers.payloadOffset - headers.l3Offset);
  if (segmentBytes <= 0) return false;
  const { bytes, offset } = packet;
  const ip = offset + headers.l3Offset;
  const length = headers.l3End - headers.l4Offset;
  const sum =
    headers.ipVersion === 4
      ? pseudoHeaderSum4(bytes, ip + 12, IpProtocol.TCP, length)
      : pseudoHeaderSum6(bytes, ip + 8, IpProtocol.TCP, length);
  setU16(bytes, offset + headers.l4Offset + TCP_CHECKSUM, sum);
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = headers.l4Offset;
  packet.checksumOffset = TCP_CHECKSUM;
  packet.gsoType = headers.ipVersion === 4 ? Gso.TCPV4 : Gso.TCPV6;
  packet.gsoSizeBytes = segmentBytes;
  packet.headerLengthBytes = headers.payloadOffset;
  return true;
}
