/**
 * From a forwarding decision to the mask and the actions of a flow: everything that decides is in the mask, so that whatever
 * matches the flow would have been forwarded alike.
 */
import { ActionBuilder, KEY_WORDS, TAG_PRESENT, Word } from '../../flow/index.ts';
import { EtherType, TagAction } from '../../net/index.ts';
import { DropReason, HeaderField, type Shortcut } from '../../switch/index.ts';

const ALL = 0xffff_ffff;
/** EtherType, and the marker of packets without an Ethernet header. */
const ETHER_TYPE_BITS = 0xffff_00ff;
/** IP protocol and fragment; not TOS and TTL. */
const PROTOCOL_BITS = 0xff00_00ff;
const DESTINATION_PORT_BITS = 0x0000_ffff;
const TCP_FLAG_BITS = 0xffff_0000;

const masks = new Map<number, Uint32Array>();

/** What counts where nothing but the port that packets are for does: whoever asks for it, from whatever port, has one flow. */
const TARGET_PORT = HeaderField.PROTOCOL | HeaderField.DESTINATION_PORT;
/** A step beside the others. */
const TARGET_PORT_STEP = 5;

/**
 * The mask of flows for which these fields count. Few differ, because each costs a look-up for every packet: fields come in
 * steps (protocol; ports; addresses; TCP flags), each with those before it; only the destination port may count alone.
 * @param fields bits of HeaderField
 */
export function flowMask(fields: number, etherType: number): Uint32Array {
  const step = stepOf(fields);
  const isIpv6 = step > 2 && step !== TARGET_PORT_STEP && etherType === EtherType.IPV6;
  const id = isIpv6 ? step + 8 : step;
  let mask = masks.get(id);
  if (mask === undefined) {
    mask = makeMask(step === TARGET_PORT_STEP ? TARGET_PORT : (1 << step) - 1, isIpv6);
    masks.set(id, mask);
  }
  return mask;
}

function stepOf(fields: number): number {
  if ((fields & HeaderField.DESTINATION_PORT) === 0) return fields === 0 ? 0 : 32 - Math.clz32(fields);
  if ((fields & ~TARGET_PORT) === 0) return TARGET_PORT_STEP;
  return stepOf((fields & ~HeaderField.DESTINATION_PORT) | HeaderField.PORTS);
}

function makeMask(fields: number, isIpv6: boolean): Uint32Array {
  const mask = new Uint32Array(KEY_WORDS);
  mask[Word.RECIRC_ID] = ALL;
  mask[Word.IN_PORT] = ALL;
  mask[Word.ETH_TYPE] = ETHER_TYPE_BITS;
  mask.fill(ALL, Word.MAC, Word.MAC + 3);
  // Of the outer tag everything that a key holds; of the second, that it is there.
  mask[Word.VLAN] = ALL;
  mask[Word.INNER_VLAN] = TAG_PRESENT;
  if ((fields & HeaderField.PROTOCOL) !== 0) mask[Word.IP] = PROTOCOL_BITS;
  if ((fields & HeaderField.DESTINATION_PORT) !== 0) mask[Word.PORTS] = DESTINATION_PORT_BITS;
  if ((fields & HeaderField.PORTS) !== 0) mask[Word.PORTS] = ALL;
  if ((fields & HeaderField.ADDRESSES) !== 0) {
    if (isIpv6) mask.fill(ALL, Word.IPV6_SOURCE, Word.IPV6_SOURCE + 8);
    else mask.fill(ALL, Word.IPV4_SOURCE, Word.IPV4_SOURCE + 2);
  }
  if ((fields & HeaderField.TCP_FLAGS) !== 0) mask[Word.TCP_FLAGS] = TCP_FLAG_BITS;
  return mask;
}

/** The actions of a shortcut to a port; none when packets are dropped. */
export function flowActions({ drop, tagAction }: Shortcut, portId: number): Int32Array {
  const builder = new ActionBuilder();
  if (drop !== DropReason.NONE) return builder.finish();
  if ((tagAction & TagAction.STRIP) !== 0) builder.popVlan();
  if ((tagAction & TagAction.PUSH) !== 0) builder.pushVlan(EtherType.VLAN, (tagAction & 0xffff) | TAG_PRESENT);
  return builder.output(portId).finish();
}
