/**
 * Checksums kept right while headers change under them, in the three states that a packet's transport checksum can be in: a
 * whole one is updated, a partial one holds only the pseudo header's sum, and UDP over IPv4 may have none.
 */
import { Checksum, IpProtocol, type Packet, updateChecksum16, updateChecksum32 } from '../../net/index.ts';
import { readHalf, writeHalf } from '../bytes.ts';
import type { FlowKey } from '../key/key.ts';

/** Whether the transport checksum at `l4` is one that egress completes. */
export function isPartial(packet: Packet, l4: number): boolean {
  return packet.checksum === Checksum.PARTIAL && packet.checksumStart === l4;
}

/** Where the checksum field of a transport header lies from its start, and how much of the header must be there; -1 for none. */
function checksumField(protocol: number): number {
  if (protocol === IpProtocol.TCP) return 16;
  if (protocol === IpProtocol.UDP) return 6;
  return protocol === IpProtocol.ICMPV6 ? 2 : -1;
}

/** An address of the pseudo header changed by one word. A transport header that is not whole has no checksum to follow. */
export function addressChanged(packet: Packet, key: FlowKey, before: number, after: number): void {
  const l4 = key.l4Offset;
  const protocol = key.protocol;
  const field = checksumField(protocol);
  if (field === -1 || l4 === -1 || key.l3End < l4 + (protocol === IpProtocol.TCP ? 20 : 8)) return;
  const bytes = packet.bytes;
  const at = packet.offset + l4 + field;
  const checksum = readHalf(bytes, at);
  if (isPartial(packet, l4)) {
    // The pseudo header's sum stands there as it is, not inverted.
    writeHalf(bytes, at, ~updateChecksum32(~checksum & 0xffff, before, after));
    return;
  }
  if (protocol === IpProtocol.UDP && checksum === 0) return;
  const updated = updateChecksum32(checksum, before, after);
  writeHalf(bytes, at, updated === 0 && protocol === IpProtocol.UDP ? 0xffff : updated);
}

/** A word under the transport checksum changed that is not of the pseudo header, such as the ports. */
export function transportWordChanged(
  packet: Packet,
  l4: number,
  protocol: number,
  before: number,
  after: number,
): void {
  if (isPartial(packet, l4)) return;
  const bytes = packet.bytes;
  const at = packet.offset + l4 + (protocol === IpProtocol.ICMPV4 ? 2 : checksumField(protocol));
  const checksum = readHalf(bytes, at);
  if (protocol === IpProtocol.UDP && checksum === 0) return;
  const updated = updateChecksum32(checksum, before, after);
  writeHalf(bytes, at, updated === 0 && protocol === IpProtocol.UDP ? 0xffff : updated);
}

/** A 16-bit word of an IPv4 header changed. */
export function ipv4HeaderChanged(packet: Packet, l3: number, before: number, after: number): void {
  const at = packet.offset + l3 + 10;
  writeHalf(packet.bytes, at, updateChecksum16(readHalf(packet.bytes, at), before, after));
}
