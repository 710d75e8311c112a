/** SET and SET_MASKED as eBPF: by attribute, and the set of what the kernel knows of a packet. */
import { at, R1, R2, R6, SK_BUFF } from '../../bpf/index.ts';
import { actionLength, KeyAttribute } from '../../flow/index.ts';
import type { ListCompiler } from './compile.ts';
import { compileSetEthernet } from './ethernet.ts';
import { compileSetIpv4, compileSetIpv6 } from './ip.ts';
import { compileSetMpls } from './mpls.ts';
import { compileSetPorts } from './ports.ts';
import type { StepCode } from './shape.ts';

/** skb mark or priority: value, bits that stay; in host order. */
export type MetadataStep = { readonly kind: 'metadata'; readonly field: 'mark' | 'priority' };

/** Why the others are refused. */
const UNSETTABLE: ReadonlyMap<number, string> = new Map([
  [KeyAttribute.TUNNEL as number, 'output to a tunnel'],
  [KeyAttribute.SCTP, 'set of SCTP ports'],
  [KeyAttribute.ICMP, 'set of ICMP'],
  [KeyAttribute.ICMPV6, 'set of ICMPv6'],
  [KeyAttribute.ARP, 'set of ARP'],
  [KeyAttribute.ND, 'set of neighbour discovery'],
  [KeyAttribute.NSH, 'set of NSH'],
]);

/** Which words change, whole or in part, and what of the packet they need. */
export function compileSet(list: ListCompiler, words: Int32Array, at: number): boolean {
  const attribute = words[at + 1];
  const pairs = words.subarray(at + 2, at + actionLength(words[at]));
  switch (attribute) {
    case KeyAttribute.ETHERNET:
      return compileSetEthernet(list, pairs);
    case KeyAttribute.IPV4:
      return compileSetIpv4(list, pairs);
    case KeyAttribute.IPV6:
      return compileSetIpv6(list, pairs);
    case KeyAttribute.TCP:
    case KeyAttribute.UDP:
      return compileSetPorts(list, attribute === KeyAttribute.TCP, pairs);
    case KeyAttribute.MPLS:
      return compileSetMpls(list, pairs);
    case KeyAttribute.PRIORITY:
      return compileSetMetadata(list, 'priority', pairs);
    case KeyAttribute.SKB_MARK:
      return compileSetMetadata(list, 'mark', pairs);
    default:
      return list.refuse(UNSETTABLE.get(attribute) ?? `set of attribute ${attribute}`);
  }
}

/** @param pairs value and mask of the mark or the priority */
function compileSetMetadata(list: ListCompiler, field: MetadataStep['field'], pairs: Int32Array): boolean {
  if (list.all.context.hook === 'xdp') return list.refuse(`set of the packet's ${field}`);
  if (pairs[1] === 0) return true;
  list.state.marked = true;
  return list.change({ kind: 'metadata', field }, (pairs[0] & pairs[1]) >>> 0, ~pairs[1] >>> 0);
}

export const metadata: StepCode<MetadataStep> = {
  name: ({ field }) => field,
  parameters: () => 2,
  emit(writer, { field }) {
    const { b } = writer;
    const place = at(R6, SK_BUFF[field]);
    const value = writer.next();
    const stays = writer.next();
    b.load(R1, 'u32', place);
    b.load(R2, 'u32', stays);
    b.and(R1, R2);
    b.load(R2, 'u32', value);
    b.or(R1, R2);
    b.store('u32', place, R1);
  },
};
