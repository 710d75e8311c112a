/** Flow keys and masks as attributes, in the order in which openvswitch.ko writes them. key-decode.ts reads them back. */

import { hasAttribute, KeyAttribute, L3_MARKER, unpackBytes, Word } from '../../../flow/index.ts';
import { EtherType } from '../../../net/index.ts';
import type { MessageWriter } from '../../../netlink/index.ts';
import { PORTS_MAXIMUM } from '../abi.ts';
import { readStructure } from './key-attribute.ts';
import { encodeNshKey } from './nsh.ts';
import { encodeTunnel } from './tunnel.ts';

const LAYER_4: readonly number[] = [
  KeyAttribute.TCP,
  KeyAttribute.TCP_FLAGS,
  KeyAttribute.UDP,
  KeyAttribute.SCTP,
  KeyAttribute.ICMP,
  KeyAttribute.ICMPV6,
  KeyAttribute.ND,
];

/**
 * Write a key, or the mask that belongs to it, inside an attribute.
 * @param key says what is there
 * @param output the words to write: the key itself, or the mask
 * @param connections whether to write connection tracking's fields
 */
export function encodeKey(
  writer: MessageWriter,
  attribute: number,
  key: Uint32Array,
  output: Uint32Array,
  connections: boolean,
): void {
  const isMask = output !== key;
  const nest = writer.beginNested(attribute);
  put(writer, KeyAttribute.RECIRC_ID, output);
  put(writer, KeyAttribute.DP_HASH, output);
  put(writer, KeyAttribute.PRIORITY, output);
  if (key[Word.TUNNEL_IP] >>> 24 !== 0) encodeTunnel(writer, KeyAttribute.TUNNEL, key, output);
  if (key[Word.IN_PORT] !== PORTS_MAXIMUM) put(writer, KeyAttribute.IN_PORT, output);
  else if (isMask) writer.u32(KeyAttribute.IN_PORT, 0xffff_ffff);
  put(writer, KeyAttribute.SKB_MARK, output);
  if (connections) encodeConnection(writer, key, output);

  const etherType = key[Word.ETH_TYPE] >>> 16;
  const open: number[] = [];
  if ((key[Word.ETH_TYPE] & L3_MARKER) === 0) {
    put(writer, KeyAttribute.ETHERNET, output);
    for (let tag = 0; tag < 2 && key[Word.VLAN + tag] !== 0; tag += 1) {
      writer.be16(KeyAttribute.ETHERTYPE, isMask ? 0xffff : key[Word.VLAN + tag] >>> 16);
      writer.be16(KeyAttribute.VLAN, output[Word.VLAN + tag] & 0xffff);
      open.push(writer.beginNested(KeyAttribute.ENCAP));
      if ((key[Word.VLAN + tag] & 0xffff) === 0) break;
    }
  }
  const cutTag = open.length > 0 && (key[Word.VLAN + open.length - 1] & 0xffff) === 0;
  if (etherType === EtherType.LLC) {
    // Frames without an EtherType have no such attribute in their key, and a full one in the mask.
    if (isMask && output[Word.ETH_TYPE] >>> 16 !== 0) put(writer, KeyAttribute.ETHERTYPE, output);
  } else if (!cutTag) {
    put(writer, KeyAttribute.ETHERTYPE, output);
    encodeLayer3(writer, key, output);
  }
  while (open.length > 0) writer.endNested(open.pop() ?? 0);
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
  if (hasAttribute(key, KeyAttribute.MPLS)) {
    const labels = 32 - Math.clz32(key[Word.MPLS_LABELS]);
    writer.bytes(KeyAttribute.MPLS, unpackBytes(output, Word.MPLS, Math.max(1, labels) * 4));
    return;
  }
  if (hasAttribute(key, KeyAttribute.NSH)) {
    encodeNshKey(writer, KeyAttribute.NSH, output);
    return;
  }
  for (const attribute of [KeyAttribute.IPV4, KeyAttribute.IPV6, KeyAttribute.ARP]) {
    if (hasAttribute(key, attribute)) put(writer, attribute, output);
  }
  if ((key[Word.IP] & 0xff) === 2) return;
  for (const attribute of LAYER_4) if (hasAttribute(key, attribute)) put(writer, attribute, output);
}
