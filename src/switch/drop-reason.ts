/**
 * Why packets are dropped. Every drop is counted at a port under one of these numbers; extensions may register more
 * (see {@link DropReasons}). Neighbours: control/port.ts keeps the counts, path/core.ts and path/shortcut.ts add to them.
 */

/** The reasons that the switch and its standard policies know. The numbers are stable; one that is not here means nothing. */
export const DropReason = {
  /** Not a drop: the verdict of a policy that lets the packet pass. */
  NONE: 0,
  RUNT_FRAME: 1,
  TOO_MANY_TAGS: 2,
  BAD_LENGTH: 3,
  BAD_OFFLOAD: 4,
  INVALID_SOURCE_MAC: 5,
  UNKNOWN_PORT: 6,
  NIC_NOT_CONNECTED: 7,
  STACK_PAUSED: 8,
  NO_CONTEXT: 9,
  NO_DESTINATION: 10,
  DESTINATION_IS_SOURCE: 12,
  LINK_LOCAL_CONTROL: 13,
  MAC_SPOOFED: 14,
  PRIORITY_TAG: 15,
  ADDRESS_LIMIT: 16,
  VIRTUAL_SUBNET: 17,
  VLAN_TAGGED_ON_ACCESS: 18,
  VLAN_NOT_ALLOWED: 19,
  PRIVATE_VLAN: 20,
  ISOLATION_UNTAGGED: 21,
  ISOLATION_ID: 22,
  ROUTING_DOMAIN: 23,
  ACL_DENIED: 24,
  DHCP_GUARD: 25,
  ROUTER_GUARD: 26,
  RATE_LIMIT: 27,
  EXCEEDS_MTU: 28,
  NIC_FAILED: 29,
  EXTENSION_FILTER: 30,
  EXTENSION_UNREPORTED: 31,
  EXTENSION_FAILED: 32,
  MAC_LIMIT: 33,
  EXTENSION_OTHER: 34,
  NOT_JUDGEABLE: 35,
  NIC_DOWN: 36,
  NIC_QUEUE_FULL: 37,
  SOURCE_NOT_BOUND: 38,
  CLAIM_NOT_BOUND: 39,
  EXTENSION_FULL: 40,
  CONNECTIONS_FULL: 41,
} as const;

/** A number of {@link DropReason}, or one that `DropReasons.register` gave out. */
export type DropReasonCode = number;

/** Name and explanation of one reason. */
export interface DropReasonInfo {
  readonly code: DropReasonCode;
  /** Stable name for programs, such as `ACL_DENIED` or `filter:BLOCKED`. */
  readonly name: string;
  /** One sentence for people: what happened and, where it helps, what to look at. */
  readonly text: string;
}

/** How many reasons a switch can tell apart, its own included. */
export const MAX_DROP_REASONS = 128;

const TEXTS: Readonly<Record<keyof typeof DropReason, string>> = {
  NONE: 'The packet was not dropped.',
  RUNT_FRAME: 'The frame is shorter than an Ethernet header with its tags.',
  TOO_MANY_TAGS: 'A policy of the port looks into frames, and this one carries more stacked VLAN tags than are read.',
  BAD_LENGTH: 'A length in the frame or its descriptor does not fit the bytes that are there.',
  BAD_OFFLOAD: 'The checksum or segmentation request of the sender does not fit the frame.',
  INVALID_SOURCE_MAC: 'The source MAC address is a group address or all zeros.',
  UNKNOWN_PORT: 'The packet came in through a port or NIC that the switch does not have.',
  NIC_NOT_CONNECTED: 'The NIC of this port is not connected.',
  STACK_PAUSED: 'The extension stack was paused while it was being changed.',
  NO_CONTEXT: 'No forwarding context was free: too many packets are being held.',
  NO_DESTINATION: 'Forwarding found no port to deliver the packet to.',
  DESTINATION_IS_SOURCE: 'The destination is behind the port that the packet came from.',
  LINK_LOCAL_CONTROL: 'Link-local control frames (01:80:c2:00:00:0x) stay on their link.',
  MAC_SPOOFED: 'The source MAC address is not the one of the NIC, and the port does not allow spoofing.',
  PRIORITY_TAG: 'The port does not accept priority-tagged frames.',
  ADDRESS_LIMIT: 'The port uses more IP addresses than its limit allows.',
  VIRTUAL_SUBNET: 'Source and destination ports are in different virtual subnets.',
  VLAN_TAGGED_ON_ACCESS: 'A frame with a foreign VLAN tag came in through an access port.',
  VLAN_NOT_ALLOWED: 'The port is not a member of the VLAN.',
  PRIVATE_VLAN: 'The private VLAN does not let these two ports talk.',
  ISOLATION_UNTAGGED: 'The port is isolated and does not accept untagged frames.',
  ISOLATION_ID: 'The isolation id is not allowed on the port.',
  ROUTING_DOMAIN: 'The isolation id is in none of the routing domains of the port.',
  ACL_DENIED: 'An access control rule of the port denies the packet.',
  DHCP_GUARD: 'DHCP server messages are not accepted from this port.',
  ROUTER_GUARD: 'Router advertisements and redirects are not accepted from this port.',
  RATE_LIMIT: 'The port is over its bandwidth limit.',
  EXCEEDS_MTU: 'The frame is larger than the MTU of the destination.',
  NIC_FAILED: 'The NIC failed while sending.',
  EXTENSION_FILTER: 'An extension filtered the packet.',
  EXTENSION_UNREPORTED: 'An extension completed the packet without forwarding it and gave no reason.',
  EXTENSION_FULL: 'The extension that the packet was for keeps as many packets as one may.',
  EXTENSION_FAILED: 'The extension that held the packet failed and was disabled.',
  MAC_LIMIT: 'The port has learned as many MAC addresses as its limit allows.',
  NIC_DOWN: 'The interface that the packet was to leave by is down or has no carrier.',
  NIC_QUEUE_FULL: 'The queue of the interface that the packet was to leave by is full.',
  EXTENSION_OTHER: 'An extension dropped the packet for a reason of its own.',
  NOT_JUDGEABLE: 'A policy of the port looks into frames, and this one is packed in a way that hides what it carries.',
  CONNECTIONS_FULL: 'The packet begins a connection, and there is no room for another of its port.',
  SOURCE_NOT_BOUND: 'The source IP address is not bound to the port and its MAC address.',
  CLAIM_NOT_BOUND:
    'An address that the packet claims in ARP, neighbour discovery or DHCP is not bound to the port, or not its own.',
};

/** The reasons of one switch: the fixed table and what extensions registered. */
export class DropReasons {
  readonly #all: DropReasonInfo[] = [];
  readonly #byName = new Map<string, DropReasonInfo>();

  constructor() {
    for (const [name, code] of Object.entries(DropReason)) {
      this.#set({ code, name, text: TEXTS[name as keyof typeof DropReason] });
    }
  }

  /**
   * A number for a reason of an extension; the same name gives the same number again, with the text that was given last.
   * @param name such as `filter:BLOCKED`
   * @param text one sentence for people
   * @throws RangeError when {@link MAX_DROP_REASONS} are taken
   */
  register(name: string, text: string): DropReasonCode {
    const known = this.#byName.get(name);
    if (known !== undefined) {
      this.#set({ ...known, text });
      return known.code;
    }
    if (this.#all.length === MAX_DROP_REASONS) {
      throw new RangeError(`no room for drop reason ${name}: a switch tells at most ${MAX_DROP_REASONS} apart`);
    }
    const info = { code: this.#all.length, name, text };
    this.#set(info);
    return info.code;
  }

  #set(info: DropReasonInfo): void {
    this.#all[info.code] = info;
    this.#byName.set(info.name, info);
  }

  /** Whether the number stands for a real drop. */
  has(code: number): boolean {
    return code > 0 && this.#all[code] !== undefined;
  }

  /** Name and text of a number; of an unknown one, those of EXTENSION_OTHER. */
  info(code: DropReasonCode): DropReasonInfo {
    return this.#all[code] ?? (this.#all[DropReason.EXTENSION_OTHER] as DropReasonInfo);
  }

  /** All reasons, by number. */
  list(): readonly DropReasonInfo[] {
    return this.#all.filter((info) => info !== undefined);
  }
}
