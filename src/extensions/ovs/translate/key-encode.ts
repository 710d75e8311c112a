/** Flow keys and masks as attributes, in the order in which openvswitch.ko writes them. key-decode.ts reads them back. */

import {
  FlowEtherType,
  hasAttribute,
  isMpls,
  KeyAttribute,
  L3_MARKER,
  unpackBytes,
  Word,
} from '../../../flow/index.ts';
import { EtherType, Fragment, Icmpv6Type, IpProtocol } from '../../../net/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { beginNest } from '../attributes.ts';
import { NO_PORT } from '../port-number.ts';
import { readStructure } from './key-attribute.ts';
import { encodeNshKey } from './nsh.ts';
import { encodeTunnel } from './tunnel.ts';

/**
 * Write a key, or the mask that belongs to it, inside an attribute.
 * @param key says what is there
 * @param output the words to write: the key itself, or the mask
 */
export function encodeKey(writer: MessageWriter, attribute: number, key: Uint32Array, output: Uint32Array): void {
  const isMask = output !== key;
  const nest = beginNest(writer, attribute);
  put(writer, KeyAttribute.RECIRC_ID, output);
  put(writer, KeyAttribute.DP_HASH, output);
  put(writer, KeyAttribute.PRIORITY, output);
  // A mask has it for packets without a tunnel as well: that there is none counts.
  if (output[Word.TUNNEL_IP] >>> 24 !== 0) encodeTunnel(writer, KeyAttribute.TUNNEL, key, output);
  if (key[Word.IN_PORT] !== NO_PORT) put(writer, KeyAttribute.IN_PORT, output);
  else if (isMask) writer.u32(KeyAttribute.IN_PORT, 0xffff_ffff);
  put(writer, KeyAttribute.SKB_MARK, output);
  encodeConnection(writer, key, output);

  const etherType = key[Word.ETH_TYPE] >>> 16;
  let tags = 0;
  let outer = 0;
  let inner = 0;
  if ((key[Word.ETH_TYPE] & L3_MARKER) === 0) {
    put(writer, KeyAttribute.ETHERNET, output);
    while (tags < 2 && key[Word.VLAN + tags] !== 0) {
      writer.be16(KeyAttribute.ETHERTYPE, isMask ? 0xffff : key[Word.VLAN + tags] >>> 16);
      writer.be16(KeyAttribute.VLAN, output[Word.VLAN + tags] & 0xffff);
      const nest = beginNest(writer, KeyAttribute.ENCAP);
      if (tags === 0) outer = nest;
      else inner = nest;
      tags += 1;
      if ((key[Word.VLAN + tags - 1] & 0xffff) === 0) break;
    }
  }
  const cutTag = tags > 0 && (key[Word.VLAN + tags - 1] & 0xffff) === 0;
  if (etherType === EtherType.LLC) {
    // Frames without an EtherType have no such attribute in their key, and a full one in the mask.
    if (isMask && output[Word.ETH_TYPE] >>> 16 !== 0) put(writer, KeyAttribute.ETHERTYPE, output);
  } else if (!cutTag) {
    put(writer, KeyAttribute.ETHERTYPE, output);
    encodeLayer3(writer, key, output);
  }
  if (tags > 1) writer.endNested(inner);
  if (tags > 0) writer.endNested(outer);
  writer.endNested(nest);
}

function put(writer: MessageWriter, attribute: number, output: Uint32Array): void {
  writer.bytes(attribute, readStructure(attribute, output));
}

function encodeConnection(writer: MessageWriter, key: Uint32Array, output: Uint32Array): void {
  put(writer, KeyAttribute.CT_STATE, output);
  put(writer, KeyAttribute.CT_ZONE, output);
  put(writer, KeyAttribute.CT_MARK, output);
  put(writer, KeyAttribute.CT_LABELS, output);
  if (((key[Word.CT] >>> 16) & 0xff) === 0) return;
  if (hasAttribute(key, KeyAttribute.CT_ORIG_TUPLE_IPV4)) put(writer, KeyAttribute.CT_ORIG_TUPLE_IPV4, output);
  else if (hasAttribute(key, KeyAttribute.CT_ORIG_TUPLE_IPV6)) put(writer, KeyAttribute.CT_ORIG_TUPLE_IPV6, output);
}

function encodeLayer3(writer: MessageWriter, key: Uint32Array, output: Uint32Array): void {
  const etherType = key[Word.ETH_TYPE] >>> 16;
  switch (etherType) {
    case EtherType.IPV4:
      put(writer, KeyAttribute.IPV4, output);
      encodeLayer4(writer, key, output, false);
      break;
    case EtherType.IPV6:
      put(writer, KeyAttribute.IPV6, output);
      encodeLayer4(writer, key, output, true);
      break;
    case EtherType.ARP:
    case FlowEtherType.REVERSE_ARP:
      put(writer, KeyAttribute.ARP, output);
      break;
    case FlowEtherType.NSH:
      encodeNshKey(writer, KeyAttribute.NSH, output, output !== key);
      break;
    default:
      if (!isMpls(etherType)) break;
      writer.bytes(
        KeyAttribute.MPLS,
        unpackBytes(output, Word.MPLS, Math.max(1, 32 - Math.clz32(key[Word.MPLS_LABELS])) * 4),
      );
  }
}

function encodeLayer4(writer: MessageWriter, key: Uint32Array, output: Uint32Array, isIpv6: boolean): void {
  if ((key[Word.IP] & 0xff) === Fragment.LATER) return;
  switch (key[Word.IP] >>> 24) {
    case IpProtocol.TCP:
      put(writer, KeyAttribute.TCP, output);
      put(writer, KeyAttribute.TCP_FLAGS, output);
      break;
    case IpProtocol.UDP:
      put(writer, KeyAttribute.UDP, output);
      break;
    case IpProtocol.SCTP:
      put(writer, KeyAttribute.SCTP, output);
      break;
    case IpProtocol.ICMPV4:
      if (!isIpv6) put(writer, KeyAttribute.ICMP, output);
      break;
    case IpProtocol.ICMPV6: {
      if (!isIpv6) break;
      put(writer, KeyAttribute.ICMPV6, output);
      const type = key[Word.PORTS] >>> 16;
      const isNd = type === Icmpv6Type.NEIGHBOR_SOLICITATION || type === Icmpv6Type.NEIGHBOR_ADVERTISEMENT;
      if (isNd) put(writer, KeyAttribute.ND, output);
      break;
    }
    default:
      break;
  }
}
