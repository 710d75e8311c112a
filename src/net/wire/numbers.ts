/** Numbers that several formats share: those that name the next protocol (EtherTypes, IP protocols), and the sizes of what a frame begins with. */

/** Both MAC addresses, with which every frame begins. */
export const MAC_ADDRESSES_BYTES = 12;
/** The Ethernet header without tags. */
export const ETHERNET_BYTES = 14;
/** A VLAN tag: TPID and TCI. */
export const TAG_BYTES = 4;

/** EtherTypes (IEEE 802 numbers, linux/if_ether.h). */
export const EtherType = {
  /** Not from the wire: a frame whose field is a length, and whose LLC header names no EtherType. The number is Open vSwitch's. */
  LLC: 0x05ff,
  IPV4: 0x0800,
  ARP: 0x0806,
  TRANSPARENT_ETHERNET: 0x6558,
  /** 802.1Q customer tag. */
  VLAN: 0x8100,
  IPV6: 0x86dd,
  MPLS: 0x8847,
  MPLS_MULTICAST: 0x8848,
  /** 802.1ad service tag. */
  SERVICE_VLAN: 0x88a8,
  LLDP: 0x88cc,
} as const;

/** Lowest value of the type field that is an EtherType; anything up to 1500 is a length (IEEE 802.3). */
export const ETHERTYPE_MINIMUM = 0x0600;

/** IP protocol numbers, which are next-header numbers too (IANA, linux/in.h). */
export const IpProtocol = {
  HOP_BY_HOP: 0,
  ICMPV4: 1,
  IGMP: 2,
  IPV4: 4,
  TCP: 6,
  UDP: 17,
  IPV6: 41,
  ROUTING: 43,
  FRAGMENT: 44,
  GRE: 47,
  ESP: 50,
  AUTHENTICATION: 51,
  ICMPV6: 58,
  NO_NEXT: 59,
  DESTINATION: 60,
  SCTP: 132,
} as const;
