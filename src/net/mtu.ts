/**
 * How long a frame may be for the MTU of a link. The rule is that of the Linux bridge (is_skb_forwardable), which keeps a frame's outermost
 * tag beside the frame: that tag never counts, and behind it there is room for the Ethernet header and one more tag. So a full-size frame with
 * two tags fits. The switch, the adapters of this room and the programs of offload/ all ask here.
 */
import { Gso, type Packet } from './packet.ts';
import { outerTag } from './vlan.ts';
import { ETHERNET_BYTES, TAG_BYTES } from './wire/numbers.ts';

/** What a frame may be longer than the MTU, its outermost tag left out: Ethernet header and a tag. */
export const MTU_ALLOWANCE_BYTES = ETHERNET_BYTES + TAG_BYTES;

/** Whether a frame is longer than a link of this MTU carries. Super-packets are cut to fit later. */
export function exceedsMtu(packet: Packet, mtuBytes: number): boolean {
  const longest = mtuBytes + MTU_ALLOWANCE_BYTES;
  if (packet.length <= longest || packet.gsoType !== Gso.NONE) return false;
  return packet.length > longest + TAG_BYTES || outerTag(packet) === 0;
}
