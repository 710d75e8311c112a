/** Which attributes a key must have and which a mask may have, given the layers below: the rules of match_validate in openvswitch.ko. */

import { FlowEtherType, isMpls, KeyAttribute, Word } from '../../../flow/index.ts';
import { EtherType, Fragment, IpProtocol } from '../../../net/index.ts';
import { Errno, OvsError } from '../errors.ts';

/** Attributes that a mask may have only where the layer below is matched. */
const DEPENDENT: readonly number[] = [
  KeyAttribute.IPV4,
  KeyAttribute.IPV6,
  KeyAttribute.CT_ORIG_TUPLE_IPV4,
  KeyAttribute.CT_ORIG_TUPLE_IPV6,
  KeyAttribute.TCP,
  KeyAttribute.TCP_FLAGS,
  KeyAttribute.UDP,
  KeyAttribute.SCTP,
  KeyAttribute.ICMP,
  KeyAttribute.ICMPV6,
  KeyAttribute.ARP,
  KeyAttribute.ND,
  KeyAttribute.MPLS,
  KeyAttribute.NSH,
];

/**
 * @param maskAttributes null when the key is matched exactly
 * @throws OvsError EINVAL
 */
export function checkMatch(
  key: Uint32Array,
  keyAttributes: ReadonlySet<number>,
  mask: Uint32Array,
  maskAttributes: ReadonlySet<number> | null,
): void {
  const expected = new Set<number>();
  const allowed = new Set<number>();
  const etherType = key[Word.ETH_TYPE] >>> 16;
  const typeIsMatched = mask[Word.ETH_TYPE] >>> 16 === 0xffff;
  const expect = (attribute: number, isMatched: boolean) => {
    expected.add(attribute);
    if (isMatched) allowed.add(attribute);
  };
  if (etherType === EtherType.ARP || etherType === FlowEtherType.REVERSE_ARP) expect(KeyAttribute.ARP, typeIsMatched);
  if (isMpls(etherType)) expect(KeyAttribute.MPLS, typeIsMatched);
  if (etherType === FlowEtherType.NSH) expect(KeyAttribute.NSH, typeIsMatched);
  if (etherType === EtherType.IPV4) {
    expect(KeyAttribute.IPV4, typeIsMatched);
    if (typeIsMatched) allowed.add(KeyAttribute.CT_ORIG_TUPLE_IPV4);
  }
  if (etherType === EtherType.IPV6) {
    expect(KeyAttribute.IPV6, typeIsMatched);
    if (typeIsMatched) allowed.add(KeyAttribute.CT_ORIG_TUPLE_IPV6);
  }
  const isIp = etherType === EtherType.IPV4 || etherType === EtherType.IPV6;
  if (isIp && (key[Word.IP] & 0xff) !== Fragment.LATER) {
    const protocol = key[Word.IP] >>> 24;
    const isMatched = mask[Word.IP] >>> 24 === 0xff;
    const isIpv6 = etherType === EtherType.IPV6;
    if (protocol === IpProtocol.UDP) expect(KeyAttribute.UDP, isMatched);
    else if (protocol === IpProtocol.SCTP) expect(KeyAttribute.SCTP, isMatched);
    else if (protocol === IpProtocol.TCP) {
      expect(KeyAttribute.TCP, isMatched);
      expect(KeyAttribute.TCP_FLAGS, isMatched);
    } else if (protocol === IpProtocol.ICMPV4 && !isIpv6) expect(KeyAttribute.ICMP, isMatched);
    else if (protocol === IpProtocol.ICMPV6 && isIpv6) {
      expect(KeyAttribute.ICMPV6, isMatched);
      const type = key[Word.PORTS] >>> 16;
      if (type === 135 || type === 136) expect(KeyAttribute.ND, isMatched && mask[Word.PORTS] >>> 16 === 0xff);
    }
  }
  for (const attribute of expected) {
    if (!keyAttributes.has(attribute)) throw new OvsError(Errno.EINVAL, `flow key: attribute ${attribute} is missing`);
  }
  if (maskAttributes === null) return;
  for (const attribute of DEPENDENT) {
    if (maskAttributes.has(attribute) && !allowed.has(attribute)) {
      throw new OvsError(Errno.EINVAL, `flow mask: attribute ${attribute} needs the layers below matched`);
    }
  }
}
