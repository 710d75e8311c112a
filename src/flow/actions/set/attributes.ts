/**
 * What can be set, by attribute of the key. The words of SET and SET_MASKED are: the attribute of the key that is set, then for each of its
 * words the value and the mask, whole where all of it is set; of a tunnel the key's tunnel words, up to the end of its options.
 */
import { IpProtocol, type Packet } from '../../../net/index.ts';
import { KeyAttribute } from '../../key/fields.ts';
import type { FlowKey } from '../../key/key.ts';
import { TUNNEL_BASE_WORDS, tunnelOptionsBytes, Word } from '../../key/layout.ts';
import { packedWords } from '../encoding.ts';
import { setIpv4, setIpv6 } from './ip.ts';
import { setArp, setEthernet, setMpls, setNsh } from './link.ts';
import { portsOf, setIcmp, setIcmpv6, setNeighbourDiscovery } from './transport.ts';

/** A word of the key that a set action covers. */
export interface SetWord {
  readonly word: number;
  /** The bits that belong to the attribute. */
  readonly bits: number;
  /** The bits that may be changed. */
  readonly writable: number;
}

const ALL = 0xffff_ffff;

function whole(first: number, count = 1): SetWord[] {
  return Array.from({ length: count }, (_, i) => ({ word: first + i, bits: ALL, writable: ALL }));
}

/** What of a packet can be set, the tunnel aside. */
export interface Settable {
  /** In the order of the encoding. */
  readonly words: readonly SetWord[];
  /** Change the packet, which may be written to. @param at where the first pair lies @returns false when it has no such header */
  readonly change: ((packet: Packet, key: FlowKey, words: Int32Array, at: number) => boolean) | null;
  /** Of the transport header, which later fragments have none of. */
  readonly isTransport: boolean;
  /** openvswitch.ko sets it; Open vSwitch's own datapath sets the others, too. */
  readonly inKernel: boolean;
}

const SETTABLE: (Settable | undefined)[] = [];

function add(
  attribute: number,
  words: readonly SetWord[],
  change: Settable['change'],
  kind: Partial<Settable> = {},
): void {
  SETTABLE[attribute] = { words, change, isTransport: false, inKernel: true, ...kind };
}

const IP = { word: Word.IP, bits: ALL, writable: 0x00ff_ff00 };
const PORTS = whole(Word.PORTS);
const TYPE_AND_CODE = [{ word: Word.PORTS, bits: 0x00ff_00ff, writable: 0x00ff_00ff }];

// Metadata is not of the packet's bytes.
add(KeyAttribute.PRIORITY, whole(Word.PRIORITY), null);
add(KeyAttribute.SKB_MARK, whole(Word.MARK), null);
add(KeyAttribute.ETHERNET, whole(Word.MAC, 3), setEthernet);
add(KeyAttribute.IPV4, [IP, ...whole(Word.IPV4_SOURCE), ...whole(Word.IPV4_DESTINATION)], setIpv4);
add(
  KeyAttribute.IPV6,
  [IP, ...whole(Word.IPV6_SOURCE, 8), { word: Word.IPV6_LABEL, bits: 0xf_ffff, writable: 0xf_ffff }],
  setIpv6,
);
add(KeyAttribute.TCP, PORTS, portsOf(IpProtocol.TCP), { isTransport: true });
add(KeyAttribute.UDP, PORTS, portsOf(IpProtocol.UDP), { isTransport: true });
add(KeyAttribute.SCTP, PORTS, portsOf(IpProtocol.SCTP), { isTransport: true });
add(KeyAttribute.ICMP, TYPE_AND_CODE, setIcmp, { isTransport: true, inKernel: false });
add(KeyAttribute.ICMPV6, TYPE_AND_CODE, setIcmpv6, { isTransport: true, inKernel: false });
add(
  KeyAttribute.ARP,
  [
    { word: Word.IP, bits: 0xff00_0000, writable: 0xff00_0000 },
    ...whole(Word.IPV4_SOURCE, 2),
    ...whole(Word.ARP_MAC, 3),
  ],
  setArp,
  { inKernel: false },
);
add(KeyAttribute.ND, [...whole(Word.ND_TARGET, 4), ...whole(Word.ND_MAC, 3)], setNeighbourDiscovery, {
  inKernel: false,
});
add(KeyAttribute.MPLS, whole(Word.MPLS), setMpls);
add(
  KeyAttribute.NSH,
  [{ word: Word.NSH_BASE, bits: ALL, writable: 0xffff_0000 }, ...whole(Word.NSH_PATH), ...whole(Word.NSH_CONTEXT, 4)],
  setNsh,
);

/** undefined when the attribute cannot be set, or is the tunnel */
export function settable(attribute: number): Settable | undefined {
  return SETTABLE[attribute];
}

/** The words that a set of an attribute covers; undefined when the attribute cannot be set, or is the tunnel. */
export function setLayout(attribute: number): readonly SetWord[] | undefined {
  return SETTABLE[attribute]?.words;
}

/** How many words of a tunnel with this word of flags are set. */
export function tunnelWords(flagsWord: number): number {
  return TUNNEL_BASE_WORDS + packedWords(tunnelOptionsBytes(flagsWord));
}

/** The words behind a head. @throws RangeError when the attribute cannot be set */
export function setWords(attribute: number, value: Uint32Array, mask?: Uint32Array): number[] {
  if (attribute === KeyAttribute.TUNNEL) {
    return [attribute, ...value.subarray(Word.TUNNEL, Word.TUNNEL + tunnelWords(value[Word.TUNNEL_FLAGS]))];
  }
  const layout = setLayout(attribute);
  if (layout === undefined) throw new RangeError(`attribute ${attribute} cannot be set`);
  const words = [attribute];
  for (const { word, bits } of layout) {
    const wanted = mask === undefined ? bits : mask[word] & bits;
    words.push(value[word] & wanted, wanted);
  }
  return words;
}

/** What an action sets, in a key and a mask whose words are 0; of a tunnel the mask stays 0. @param end the word behind it */
export function readSet(words: Int32Array, at: number, end: number, key: Uint32Array, mask: Uint32Array): void {
  const attribute = words[at + 1];
  if (attribute === KeyAttribute.TUNNEL) {
    key.set(words.subarray(at + 2, end), Word.TUNNEL);
    return;
  }
  const layout = setLayout(attribute) ?? [];
  for (let i = 0; i < layout.length; i += 1) {
    key[layout[i].word] = words[at + 2 + i * 2];
    mask[layout[i].word] = words[at + 3 + i * 2];
  }
}
