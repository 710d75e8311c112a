/** Why a packet, or a copy of one, went nowhere. Each that the room drops is counted under one of these. */

export const Drop = {
  /** Shorter than an Ethernet header. */
  ETHERNET_TRUNCATED: 1,
  NSH_MALFORMED: 2,
  /** A VLAN tag where there is no Ethernet header. */
  TAG_WITHOUT_ETHERNET: 3,
  /** No flow matched and nobody took the upcall. */
  UPCALL_LOST: 4,
  /** The flow's actions send it nowhere: there are none, or none that did anything with this packet. */
  FLOW: 5,
  /** A drop action. */
  EXPLICIT: 6,
  /** A drop action with an error number: what Open vSwitch's pipeline could not do. */
  EXPLICIT_ERROR: 7,
  /** A meter's rate was exceeded. */
  METER: 8,
  /** Its connection would be one more than its zone may have. */
  CONNECTION_ZONE_LIMIT: 9,
  /** A ct action where nobody tracks connections. */
  CONNECTION_UNAVAILABLE: 10,
  /** dec_ttl brought the time to live to its end and no actions say what then. */
  TIME_EXCEEDED: 11,
  /** A packet was recirculated more often than {@link MAXIMUM_RECIRCULATIONS}. */
  RECIRCULATION_LIMIT: 12,
  /** One received packet led to more than {@link MAXIMUM_DEFERRED} recirculated ones. */
  DEFERRED_LIMIT: 13,
  /** A copy was needed and the pool had no buffer, or none that is long enough. */
  NO_BUFFER: 14,
  /** A header that an action changes is cut off, or is not the one that the flow promised. */
  HEADER_MISSING: 15,
  /** An action that this engine does not know: the list was not validated. */
  ACTION_UNKNOWN: 16,
  /** Hooks called back into the datapath, and from there again, more than {@link MAXIMUM_REENTRY} times. */
  REENTRY_LIMIT: 17,
  /** An output to a port that does not exist. */
  PORT_MISSING: 18,
  /** An output to a tunnel of a kind that nobody encapsulates for, or where the host's routes cannot be asked. */
  TUNNEL_UNAVAILABLE: 19,
  /** The device of an output does not take the packet's offloads, and software could not finish them. */
  OFFLOAD_UNFINISHED: 20,
  /** What lies between an output and its device does not let the packet out. */
  OUTPUT_REFUSED: 21,
  /** What came beside a packet that was to go on here, its resume record, makes no sense. */
  RESUME_MALFORMED: 22,
  /** There is no room for its connection, and none that may go. */
  CONNECTION_TABLE_FULL: 23,
  /** All addresses and ports that its connection could be translated to are in use. */
  CONNECTION_NAT_EXHAUSTED: 24,
  /** Answers to another connection's packets come by the same addresses and ports, and no translation may tell them apart. */
  CONNECTION_CLASH: 25,
  /** An address that it announces is translated to a longer one, for which it has no room. */
  CONNECTION_HELPER_ROOM: 26,
  /** A fragment that has come already. */
  FRAGMENT_DUPLICATE: 27,
  /** A fragment whose length or place cannot be; its datagram is given up. */
  FRAGMENT_MALFORMED: 28,
  /** A fragment that overlaps another one; its datagram is given up. */
  FRAGMENT_OVERLAP: 29,
  /** A datagram of more fragments than are kept. */
  FRAGMENT_TOO_MANY: 30,
  /** A packet that was put together from fragments cannot be sent on in pieces as small. */
  FRAGMENTATION_IMPOSSIBLE: 31,
  /** An output to a tunnel without a word about where its other end is. */
  TUNNEL_KEY_MISSING: 32,
  /** The other end of a tunnel is an address that cannot be one, or of no family. */
  TUNNEL_BAD_KEY: 33,
  /** The host has no route to the other end of a tunnel, or one that says no. */
  TUNNEL_NO_ROUTE: 34,
  /** The address that a tunnel's packet is to come from is none of the host's. */
  TUNNEL_NO_SOURCE: 35,
  /** The next hop on the way to the other end does not answer. */
  TUNNEL_NO_NEIGHBOUR: 36,
  /** The interface by which a tunnel's packet is to leave is down. */
  TUNNEL_LINK_DOWN: 37,
  /** The interface by which a tunnel's packet is to leave cannot be sent to. */
  TUNNEL_NO_INTERFACE: 38,
  /** More packets wait for their way, or more ways are in use, than may. */
  TUNNEL_NO_ROOM: 39,
  /** The other end of a tunnel is this host. */
  TUNNEL_TO_ITSELF: 40,
  /** With a tunnel's headers it is longer than the path takes, and may not be cut. */
  TUNNEL_TOO_BIG: 41,
  /** Lengths in a tunnel's headers contradict the packet. */
  TUNNEL_BAD_LENGTH: 42,
  TUNNEL_BAD_CHECKSUM: 43,
  /** Flags, a version or reserved bits of a tunnel's header that may not be. */
  TUNNEL_BAD_FLAGS: 44,
  /** Geneve options whose lengths do not add up. */
  TUNNEL_MALFORMED_OPTION: 45,
  TUNNEL_UNKNOWN_CRITICAL_OPTION: 46,
  /** What is inside is nothing that the tunnel carries. */
  TUNNEL_UNKNOWN_PROTOCOL: 47,
  /** Congestion was marked on the way of a packet that knows no such mark. */
  TUNNEL_CONGESTION: 48,
  /** A tunnel's packet comes from an address that no host has. */
  TUNNEL_BAD_SOURCE: 49,
  /** A segment of STT that contradicts others. */
  TUNNEL_BAD_SEGMENT: 50,
  /** An ICMP redirect about a translated connection: who followed it would speak around the translation. */
  CONNECTION_REDIRECT: 51,
} as const;

/** Times that one packet may pass the table again. ovs-vswitchd's own translation ends after 64 resubmissions. */
export const MAXIMUM_RECIRCULATIONS = 64;

/** Recirculated packets that one received packet may lead to in all. */
export const MAXIMUM_DEFERRED = 1024;

/** Times that a hook may call the datapath, whose hooks call it again: two datapaths that feed each other in a loop end here. */
export const MAXIMUM_REENTRY = 8;

/** What each reason means, for people. */
const TEXTS: Readonly<Record<keyof typeof Drop, string>> = {
  ETHERNET_TRUNCATED: 'It is shorter than an Ethernet header.',
  NSH_MALFORMED: 'Its NSH header makes no sense.',
  TAG_WITHOUT_ETHERNET: 'A VLAN tag was to be changed where there is no Ethernet header.',
  UPCALL_LOST: 'No flow matched, and the program that decides did not take it: it does not run, or has too much to do.',
  FLOW: 'Its flow sends it nowhere: it has no actions, or none that did anything with it. `millrace trace` says which flow.',
  EXPLICIT: 'An action drop of its flow.',
  EXPLICIT_ERROR: "An action drop of its flow: the program's tables could not do with it what they say.",
  METER: 'The rate of a meter was exceeded.',
  CONNECTION_ZONE_LIMIT: 'Its zone has as many connections as it may: `millrace connections limits`.',
  CONNECTION_UNAVAILABLE: 'Its flow tracks connections, and nobody does so here.',
  TIME_EXCEEDED: 'Its time to live has ended.',
  RECIRCULATION_LIMIT: `It was looked up again more than ${MAXIMUM_RECIRCULATIONS} times: flows send it round.`,
  DEFERRED_LIMIT: `It led to more than ${MAXIMUM_DEFERRED} packets that were to be looked up again.`,
  NO_BUFFER: 'A copy was needed, and there was no buffer for it.',
  HEADER_MISSING: 'An action changes a header that it does not have, or that is cut off.',
  ACTION_UNKNOWN: 'Its flow has an action that is not known here.',
  REENTRY_LIMIT: `Datapaths sent it to each other more than ${MAXIMUM_REENTRY} times.`,
  PORT_MISSING: 'Its flow sends it to a port that is not there.',
  TUNNEL_UNAVAILABLE: 'Its flow sends it into a tunnel, and nobody encapsulates here.',
  OFFLOAD_UNFINISHED: 'The device of its output does not complete its checksum or cut it, and software could not.',
  OUTPUT_REFUSED: 'What lies between its output and the device did not let it out.',
  RESUME_MALFORMED: 'What the kernel said of it when it came up makes no sense.',
  CONNECTION_TABLE_FULL:
    'There is no room for its connection, and none that may go: `connections.maximum` says how many there may be.',
  CONNECTION_NAT_EXHAUSTED: 'All addresses and ports that its connection could be translated to are in use.',
  CONNECTION_CLASH:
    'Answers to another connection come by the same addresses and ports, and its translation may not differ.',
  CONNECTION_HELPER_ROOM: 'It announces an address that becomes longer by translation, and there is no room for that.',
  FRAGMENT_DUPLICATE: 'A fragment that has come already.',
  FRAGMENT_MALFORMED: 'A fragment whose length or place cannot be; its datagram is given up.',
  FRAGMENT_OVERLAP: 'A fragment that overlaps another one; its datagram is given up.',
  FRAGMENT_TOO_MANY: 'A datagram of more fragments than are kept.',
  FRAGMENTATION_IMPOSSIBLE: 'It was put together from fragments, and cannot be sent on in pieces as small.',
  TUNNEL_KEY_MISSING: 'Its flow sends it into a tunnel without saying where the other end is.',
  TUNNEL_BAD_KEY: 'The other end of the tunnel is an address that cannot be one, or of no family.',
  TUNNEL_NO_ROUTE: 'The host has no route to the other end of the tunnel: `ip route get`.',
  TUNNEL_NO_SOURCE: 'The address that the tunnel is to send from is none of the host.',
  TUNNEL_NO_NEIGHBOUR: 'The next hop on the way to the other end of the tunnel does not answer: `ip neigh`.',
  TUNNEL_LINK_DOWN: 'The interface by which the tunnel leaves is down.',
  TUNNEL_NO_INTERFACE: 'The interface by which the tunnel leaves cannot be sent to.',
  TUNNEL_NO_ROOM: 'More packets wait for the way of their tunnel, or more ways are in use, than may.',
  TUNNEL_TO_ITSELF: 'The other end of the tunnel is this host.',
  TUNNEL_TOO_BIG: 'With the headers of the tunnel it is longer than the path takes, and may not be cut.',
  TUNNEL_BAD_LENGTH: 'Lengths in the headers of the tunnel contradict the packet.',
  TUNNEL_BAD_CHECKSUM: 'A checksum in the headers of the tunnel is wrong.',
  TUNNEL_BAD_FLAGS: 'The header of the tunnel has flags, a version or reserved bits that may not be.',
  TUNNEL_MALFORMED_OPTION: 'It has Geneve options whose lengths do not add up.',
  TUNNEL_UNKNOWN_CRITICAL_OPTION: 'It has a critical Geneve option that nobody here knows.',
  TUNNEL_UNKNOWN_PROTOCOL: 'What is inside is nothing that the tunnel carries.',
  TUNNEL_CONGESTION: 'Congestion was marked on its way, and the packet inside knows no such mark.',
  TUNNEL_BAD_SOURCE: 'It comes through a tunnel from an address that no host has.',
  TUNNEL_BAD_SEGMENT: 'A segment of STT that contradicts others.',
  CONNECTION_REDIRECT:
    'An ICMP redirect about a translated connection: who followed it would speak around the translation.',
};

/** What a reason means, in a sentence. */
export function dropText(reason: number): string {
  const name = Object.keys(Drop).find((each): each is keyof typeof Drop => Drop[each as keyof typeof Drop] === reason);
  return name === undefined ? `It was dropped: ${dropName(reason)}.` : TEXTS[name];
}

const NAMES: readonly string[] = Object.entries(Drop).reduce<string[]>((names, [name, reason]) => {
  names[reason] = name.toLowerCase().replaceAll('_', '-');
  return names;
}, []);

/** The name of a reason, such as 'recirculation-limit'. */
export function dropName(reason: number): string {
  return NAMES[reason] ?? `drop-${reason}`;
}

/** Packets dropped, by reason. */
export class DropCounters {
  readonly counts = new Float64Array(NAMES.length);

  count(reason: number): void {
    this.counts[reason] += 1;
  }

  of(reason: number): number {
    return this.counts[reason] ?? 0;
  }

  /** All that are not 0, by name. */
  toRecord(): Record<string, number> {
    const record: Record<string, number> = {};
    for (const [reason, name] of NAMES.entries()) if (this.counts[reason] > 0) record[name] = this.counts[reason];
    return record;
  }
}
