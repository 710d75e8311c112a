/** Whether a frame may be a tunnel's and is for this host: asked for each packet that goes to one of its interfaces, before anything is copied. */
import { EtherType, IpProtocol, type LocalAddresses, type Packet } from '../../../net/index.ts';
import type { TunnelPorts } from '../../../tunnels/index.ts';

const ETHERNET_BYTES = 14;
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const FRAGMENT_OFFSET = 0x1fff;

/** @param ports the tunnels that there are @param addresses of the host */
export function isTunnelled(packet: Packet, ports: TunnelPorts, addresses: LocalAddresses): boolean {
  const { view } = packet.region;
  const ip = packet.offset + ETHERNET_BYTES;
  const end = packet.offset + packet.length;
  if (ip + IPV4_BYTES > end) return false;
  switch (view.getUint16(ip - 2)) {
    case EtherType.IPV4: {
      if ((view.getUint16(ip + 6) & FRAGMENT_OFFSET) !== 0) return false;
      const l4 = ip + ((packet.bytes[ip] & 0x0f) << 2);
      if (!isFor(packet, packet.bytes[ip + 9], l4, end, ports)) return false;
      return addresses.has(false, view.getInt32(ip + 16), 0, 0, 0, 0);
    }
    case EtherType.IPV6: {
      if (ip + IPV6_BYTES > end || !isFor(packet, packet.bytes[ip + 6], ip + IPV6_BYTES, end, ports)) return false;
      const to = ip + 24;
      return addresses.has(
        true,
        view.getInt32(to),
        view.getInt32(to + 4),
        view.getInt32(to + 8),
        view.getInt32(to + 12),
        0,
      );
    }
    default:
      return false;
  }
}

/** Whether the tunnel exists that a transport header names. */
function isFor(packet: Packet, protocol: number, l4: number, end: number, ports: TunnelPorts): boolean {
  if (protocol === IpProtocol.GRE) return ports.gre !== null;
  if (l4 + 4 > end) return false;
  const port = packet.region.view.getUint16(l4 + 2);
  if (protocol === IpProtocol.UDP) return ports.udp(port) !== null;
  return protocol === IpProtocol.TCP && ports.tcp(port) !== null;
}

/** Whether routers on the way have marked congestion (ECN is CE), which is to be written into the packet inside. */
export function hasCongestionMark(packet: Packet): boolean {
  const ip = packet.offset + ETHERNET_BYTES;
  const isIpv4 = packet.region.view.getUint16(ip - 2) === EtherType.IPV4;
  const octet = isIpv4 ? packet.bytes[ip + 1] : packet.region.view.getUint16(ip) >>> 4;
  return (octet & 3) === 3;
}
