/** For this room's tests only: frames of tunnels, composed by net/ and not by this room. */
import {
  composeFrame,
  ETHERNET_BYTES,
  Ethernet,
  EtherType,
  Geneve,
  type GeneveOption,
  Gre,
  type GreRecord,
  type HeaderLayer,
  header,
  IpProtocol,
  Udp,
  Vxlan,
} from '../net/index.ts';
import { ipv4, ipv6, udpFrame } from './testing.ts';

const outerEthernet = (etherType: number) =>
  header(Ethernet, { destination: '02:00:00:00:00:0a', source: '02:00:00:00:00:0b', etherType });

/** Outer addresses: from 10.1.0.2 to 10.1.0.1, or their like of IPv6. */
export interface Outer {
  isIpv6?: boolean;
  /** TOS or traffic class. */
  tos?: number;
  source?: string;
}

function outerIp(protocol: number, { isIpv6 = false, tos = 0, source }: Outer): HeaderLayer[] {
  if (isIpv6) {
    const l3 = ipv6(protocol, { source: source ?? 'fd00:1::2', destination: 'fd00:1::1', trafficClass: tos });
    return [outerEthernet(EtherType.IPV6), l3];
  }
  const l3 = ipv4(protocol, {
    source: source ?? '10.1.0.2',
    destination: '10.1.0.1',
    dscp: tos >>> 2,
    ecn: tos & 3,
    dontFragment: false,
  });
  return [outerEthernet(EtherType.IPV4), l3];
}

const udpTo = (destinationPort: number) => header(Udp, { sourcePort: 50_000, destinationPort, payloadLength: 0 });

/** Where the transport header of these frames is. */
export const l4Of = (outer: Outer = {}) => ETHERNET_BYTES + (outer.isIpv6 === true ? 40 : 20);

export function vxlanFrame(inside = udpFrame(), outer: Outer = {}): Uint8Array {
  return composeFrame([...outerIp(IpProtocol.UDP, outer), udpTo(4789), header(Vxlan, { vni: 77 })], inside);
}

export function geneveFrame(
  inside = udpFrame(),
  outer: Outer = {},
  options: GeneveOption[] = [],
  protocol = 0x6558,
): Uint8Array {
  const geneve = header(Geneve, { control: false, protocol, vni: 77, options });
  return composeFrame([...outerIp(IpProtocol.UDP, outer), udpTo(6081), geneve], inside);
}

export function greFrame(inside = udpFrame(), outer: Outer = {}, change: Partial<GreRecord> = {}): Uint8Array {
  const gre = header(Gre, { protocol: 0x6558, hasChecksum: false, key: 77, sequence: null, ...change });
  return composeFrame([...outerIp(IpProtocol.GRE, outer), gre], inside);
}
