/** Which attributes a key must have and which a mask may have, given the layers below: the rules of match_validate in openvswitch.ko. */

import { FlowEtherType, isMpls, KeyAttribute, Word } from '../../../flow/index.ts';
import { EtherType, Fragment, Icmpv6Type, IpProtocol } from '../../../net/index.ts';
import { Errno, OvsError } from '../errors.ts';
import type { KeyAttributes } from './key-attributes.ts';

/** A bit for each attribute that the rules are about; all of them have numbers below 32. */
const bit = (attribute: number): number => 1 << attribute;

/** Attributes that a mask may have only where the layer below is matched. */
const DEPENDENT =
  bit(KeyAttribute.IPV4) |
  bit(KeyAttribute.IPV6) |
  bit(KeyAttribute.CT_ORIG_TUPLE_IPV4) |
  bit(KeyAttribute.CT_ORIG_TUPLE_IPV6) |
  bit(KeyAttribute.TCP) |
  bit(KeyAttribute.TCP_FLAGS) |
  bit(KeyAttribute.UDP) |
  bit(KeyAttribute.SCTP) |
  bit(KeyAttribute.ICMP) |
  bit(KeyAttribute.ICMPV6) |
  bit(KeyAttribute.ARP) |
  bit(KeyAttribute.ND) |
  bit(KeyAttribute.MPLS) |
  bit(KeyAttribute.NSH);

/** What a mask may have whether the key has it or not. */
const INDEPENDENT = bit(KeyAttribute.TUNNEL) | bit(KeyAttribute.IN_PORT) | bit(KeyAttribute.ETHERTYPE);

function present(attributes: KeyAttributes): number {
  let bits = 0;
  for (let type = 1; type < 32; type += 1) if (attributes.starts[type] !== -1) bits |= 1 << type;
  return bits;
}

/** What a key must have. @throws OvsError EINVAL */
export function checkKey(key: Uint32Array, attributes: KeyAttributes): void {
  const layers = layersOf(key);
  const missing = (layers.layer3 | layers.layer4 | layers.nd) & ~present(attributes);
  if (missing !== 0) {
    throw new OvsError(Errno.EINVAL, `flow key: attribute ${31 - Math.clz32(missing)} is missing`);
  }
}

/** What a mask may have. @throws OvsError EINVAL */
export function checkMask(
  key: Uint32Array,
  keyAttributes: KeyAttributes,
  mask: Uint32Array,
  maskAttributes: KeyAttributes,
): void {
  const { layer3, layer4, nd } = layersOf(key);
  let allowed = (present(keyAttributes) & ~DEPENDENT) | INDEPENDENT;
  if (mask[Word.ETH_TYPE] >>> 16 === 0xffff) {
    allowed |= layer3;
    if (layer3 === bit(KeyAttribute.IPV4)) allowed |= bit(KeyAttribute.CT_ORIG_TUPLE_IPV4);
    if (layer3 === bit(KeyAttribute.IPV6) && nd === 0) allowed |= bit(KeyAttribute.CT_ORIG_TUPLE_IPV6);
  }
  if (mask[Word.IP] >>> 24 === 0xff) {
    allowed |= layer4;
    if (mask[Word.PORTS] >>> 16 === 0xff) allowed |= nd;
  }
  const excess = present(maskAttributes) & ~allowed;
  if (excess !== 0) {
    const attribute = 31 - Math.clz32(excess);
    throw new OvsError(
      Errno.EINVAL,
      `flow mask: attribute ${attribute} is not of the key, or needs the layers below matched`,
    );
  }
  if (maskAttributes.has(KeyAttribute.IPV6_EXTHDRS) && !keyAttributes.has(KeyAttribute.IPV6_EXTHDRS)) {
    throw new OvsError(Errno.EINVAL, 'flow mask: extension headers, which the key does not name');
  }
}

/** The attributes that a key must have, as bits: of layer 3, of layer 4, and neighbour discovery, which is a layer of its own. */
function layersOf(key: Uint32Array): { layer3: number; layer4: number; nd: number } {
  const layer3 = layer3Attribute(key[Word.ETH_TYPE] >>> 16);
  const layer4 = layer3 === 0 ? 0 : layer4Attributes(key);
  const icmpv6 = (layer4 & bit(KeyAttribute.ICMPV6)) !== 0 ? key[Word.PORTS] >>> 16 : 0;
  const isNd = icmpv6 === Icmpv6Type.NEIGHBOR_SOLICITATION || icmpv6 === Icmpv6Type.NEIGHBOR_ADVERTISEMENT;
  return { layer3, layer4, nd: isNd ? bit(KeyAttribute.ND) : 0 };
}

/** The attribute that a key of this EtherType must have, as a bit; 0 for none. */
function layer3Attribute(etherType: number): number {
  switch (etherType) {
    case EtherType.ARP:
    case FlowEtherType.REVERSE_ARP:
      return bit(KeyAttribute.ARP);
    case FlowEtherType.NSH:
      return bit(KeyAttribute.NSH);
    case EtherType.IPV4:
      return bit(KeyAttribute.IPV4);
    case EtherType.IPV6:
      return bit(KeyAttribute.IPV6);
    default:
      return isMpls(etherType) ? bit(KeyAttribute.MPLS) : 0;
  }
}

/** The attributes that a key of this protocol must have, as bits. */
function layer4Attributes(key: Uint32Array): number {
  const etherType = key[Word.ETH_TYPE] >>> 16;
  const isIpv6 = etherType === EtherType.IPV6;
  if (etherType !== EtherType.IPV4 && !isIpv6) return 0;
  if ((key[Word.IP] & 0xff) === Fragment.LATER) return 0;
  switch (key[Word.IP] >>> 24) {
    case IpProtocol.TCP:
      return bit(KeyAttribute.TCP) | bit(KeyAttribute.TCP_FLAGS);
    case IpProtocol.UDP:
      return bit(KeyAttribute.UDP);
    case IpProtocol.SCTP:
      return bit(KeyAttribute.SCTP);
    case IpProtocol.ICMPV4:
      return isIpv6 ? 0 : bit(KeyAttribute.ICMP);
    case IpProtocol.ICMPV6:
      return isIpv6 ? bit(KeyAttribute.ICMPV6) : 0;
    default:
      return 0;
  }
}
