/**
 * Where everything lies in a flow key: a key is 122 unsigned 32-bit words, a mask has the same shape with a 1 for each bit that
 * counts. Fields sit in a word as they would in network order, most significant first, so that a key written out word by word in
 * big-endian order is a plain byte string; fields.ts names the fields in it. The order follows use: metadata, connection
 * tracking, then layers 2 to 4 as one stretch that extraction clears, then the tunnel, which most packets do not have.
 *
 *     0     recirc_id                          20    eth_type 16 | Sound 8 | L3 marker 8
 *     1     in_port                            21    eth_dst 32
 *     2     dp_hash                            22    eth_dst 16 | eth_src 16
 *     3     skb_priority                       23    eth_src 32
 *     4     skb_mark                           24    outer tag: TPID 16 | TCI 16
 *     5     ct_state 8 | ct_proto 8 | zone 16  25    inner tag: TPID 16 | TCI 16
 *     6     ct_mark                            26    nw_proto 8 | nw_tos 8 | nw_ttl 8 | nw_frag 8
 *     7-10  ct_label                                 or, for MPLS: a bit for each label, the lowest for the outermost
 *     11    ct_tp_src 16 | ct_tp_dst 16        27    tp_src 16 | tp_dst 16, or ICMP type 16 | code 16
 *     12-19 original tuple: IPv4 source,       28    tcp_flags 16 | IPv6 extension headers 16
 *           destination; or IPv6 4 + 4 words   29-44 by eth_type:
 *
 *           IPv4  29 source, 30 destination
 *           ARP   29 sender IP, 30 target IP, 31-33 sender MAC 48 | target MAC 48; the operation is nw_proto
 *           IPv6  29-32 source, 33-36 destination, 37 flow label, 38-41 ND target, 42-44 ND source MAC 48 | target MAC 48
 *           MPLS  29-31 label stack entries, outermost first
 *           NSH   29 flags 8 | ttl 8 | mdtype 8 | np 8, 30 path header (SPI 24 | SI 8), 31-34 context
 *
 *     45-46 tunnel id 64                       55    tunnel: IP version 8 | tos 8 | ttl 8 | kind of options 8
 *     47-50 tunnel source                      56    tunnel: tp_src 16 | tp_dst 16
 *     51-54 tunnel destination                 57    tunnel: flags 16 | length of options 8 | 0 8
 *           (IPv4 in the first word)           58-121 tunnel options
 *
 * A tag's TCI has bit 12 (CFI) set when the tag is there, whatever the wire says; without a tag TPID and TCI are 0. This is Open
 * vSwitch's rule, and with it the DEI bit cannot be matched.
 */

/** Index of each word; for fields that share a word see the drawing above. */
export const Word = {
  RECIRC_ID: 0,
  IN_PORT: 1,
  DP_HASH: 2,
  PRIORITY: 3,
  MARK: 4,
  CT: 5,
  CT_MARK: 6,
  CT_LABEL: 7,
  CT_PORTS: 11,
  CT_SOURCE: 12,
  CT_DESTINATION4: 13,
  CT_DESTINATION6: 16,
  /** First word that extraction writes. */
  L2: 20,
  ETH_TYPE: 20,
  MAC: 21,
  VLAN: 24,
  INNER_VLAN: 25,
  IP: 26,
  MPLS_LABELS: 26,
  PORTS: 27,
  TCP_FLAGS: 28,
  L3: 29,
  IPV4_SOURCE: 29,
  IPV4_DESTINATION: 30,
  ARP_MAC: 31,
  IPV6_SOURCE: 29,
  IPV6_DESTINATION: 33,
  IPV6_LABEL: 37,
  ND_TARGET: 38,
  ND_MAC: 42,
  MPLS: 29,
  NSH_BASE: 29,
  NSH_PATH: 30,
  NSH_CONTEXT: 31,
  TUNNEL: 45,
  TUNNEL_ID: 45,
  TUNNEL_SOURCE: 47,
  TUNNEL_DESTINATION: 51,
  TUNNEL_IP: 55,
  TUNNEL_PORTS: 56,
  TUNNEL_FLAGS: 57,
  TUNNEL_OPTIONS: 58,
} as const;

/** One behind the last word that a packet of IPv4 fills. */
export const IPV4_END = Word.IPV4_DESTINATION + 1;

/** Words of a key. */
export const KEY_WORDS = 122;

/** Words of the tunnel part, which ends the key. */
export const TUNNEL_WORDS = KEY_WORDS - Word.TUNNEL;

/** Words of the tunnel part before its options. */
export const TUNNEL_BASE_WORDS = Word.TUNNEL_OPTIONS - Word.TUNNEL;

/** Longest tunnel options in bytes; the room is one byte larger. */
export const TUNNEL_OPTIONS_MAXIMUM = 255;

/** Length in bytes of the tunnel options that a word of tunnel flags tells, never more than there is room for. */
export function tunnelOptionsBytes(flagsWord: number): number {
  return Math.min((flagsWord >>> 8) & 0xff, TUNNEL_OPTIONS_MAXIMUM);
}

/** Label stack entries that a key holds. */
export const MPLS_DEPTH = 3;

/** The bit of a TCI that says that the tag is there. */
export const TAG_PRESENT = 0x1000;

/** The marker in the lowest bits of {@link Word.ETH_TYPE}: 0 for a packet with an Ethernet header, 1 for one without. */
export const L3_MARKER = 1;

/**
 * Bits of {@link Word.ETH_TYPE} that say which headers could be read. Fields of a header that could not are 0, and so may those of one that
 * could: who decides by what is there looks at these. No attribute of Open vSwitch has them.
 */
export const Sound = {
  /** Of IPv4, IPv6 with its extension headers, or ARP for IPv4 over Ethernet. */
  NETWORK: 0x100,
  /** Of TCP, UDP, SCTP, or of ICMP of the same version: not of later fragments. */
  TRANSPORT: 0x200,
} as const;

/** Bits of the tunnel flags, Open vSwitch's FLOW_TNL_F_*. */
export const TunnelFlag = {
  DONT_FRAGMENT: 1,
  CHECKSUM: 2,
  /** The tunnel header carries an id. */
  KEY: 4,
  OAM: 8,
} as const;

/** What the tunnel options are. */
export const TunnelOptions = {
  NONE: 0,
  /** Geneve options as on the wire (RFC 8926), up to 252 bytes. */
  GENEVE: 1,
  /** VXLAN group-based policy: one word, flags 8 (in bits 16 to 23) | id 16. */
  VXLAN_GBP: 2,
  /** ERSPAN: a word with the version, then a word with the index (version 1) or direction 8 | hardware id 8 (version 2). */
  ERSPAN: 3,
} as const;

/** Bits of the IPv6 extension header field (OpenFlow 1.5, OFPIEH_*). */
export const ExtensionHeader = {
  NO_NEXT: 1,
  ESP: 2,
  AUTHENTICATION: 4,
  DESTINATION: 8,
  FRAGMENT: 16,
  ROUTING: 32,
  HOP_BY_HOP: 64,
  /** One that should come once came again. */
  REPEATED: 128,
  /** Not in the order of RFC 8200, section 4.1. */
  OUT_OF_ORDER: 256,
} as const;

/** EtherTypes that the key knows besides those of net/. */
export const FlowEtherType = {
  REVERSE_ARP: 0x8035,
  NSH: 0x894f,
} as const;

/** Whether an EtherType is one of MPLS. */
export function isMpls(etherType: number): boolean {
  return etherType === 0x8847 || etherType === 0x8848;
}
