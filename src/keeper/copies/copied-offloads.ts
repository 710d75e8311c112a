/**
 * What a packet that the kernel carried says about offloads, as far as its bytes tell: programs see that it is a super-packet, and not whether
 * its checksum is still partial.
 */
import {
  Checksum,
  Gso,
  HeaderOffsets,
  IpProtocol,
  type Packet,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
} from '../../net/index.ts';

const headers = new HeaderOffsets();

/**
 * Set checksum state and kind of super-packet. A checksum counts as partial when its field holds the sum of the pseudo header, as the kernel leaves
 * it; one whole checksum in 65,536 looks like that. Of a frame that was cut the checksum's state is not known.
 */
export function noteOffloads(packet: Packet, isSuperPacket: boolean): void {
  packet.checksum = Checksum.UNKNOWN;
  packet.gsoType = Gso.NONE;
  headers.parse(packet);
  const { ipProtocol, ipVersion, l4Offset } = headers;
  const isTcp = ipProtocol === IpProtocol.TCP;
  if (isSuperPacket) packet.gsoType = isTcp ? (ipVersion === 4 ? Gso.TCPV4 : Gso.TCPV6) : Gso.UDP_L4;
  if ((!isTcp && ipProtocol !== IpProtocol.UDP) || l4Offset < 0) return;
  const field = l4Offset + (isTcp ? 16 : 6);
  if (headers.fragment !== 0 || field + 2 > packet.length) return;
  const { bytes, offset } = packet;
  const transportBytes = packet.length - l4Offset;
  const addresses = offset + headers.l3Offset + (ipVersion === 4 ? 12 : 8);
  const sum =
    ipVersion === 4
      ? pseudoHeaderSum4(bytes, addresses, ipProtocol, transportBytes)
      : pseudoHeaderSum6(bytes, addresses, ipProtocol, transportBytes);
  const there = (bytes[offset + field] << 8) | bytes[offset + field + 1];
  if (there !== sum) return;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = l4Offset;
  packet.checksumOffset = field - l4Offset;
}
