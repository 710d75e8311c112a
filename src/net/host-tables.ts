/**
 * The host's tables, as who sends and takes packets of the host's own is offered them: tunnels above all. Where does a packet to this address leave, from
 * which address, by which interface, to which MAC address, and how long may it be? Linux decides; what it has decided is remembered. And: which addresses are the
 * host's own?
 *
 * This is the contract alone. host/tables/ fulfils it with rtnetlink; tests may with memory. Whoever offers it puts a {@link HostTablesService} among a
 * switch's host services, under the name `hostTables`.
 */
import type { Packet } from './packet.ts';

/** What came of the question where a packet leaves. */
export const PathState = {
  /** Interface, addresses and length are known. */
  READY: 0,
  /** The destination is the host itself. */
  LOCAL: 1,
  /** Linux was asked, or asks the network, and has not answered yet: packets may {@link HostTables.wait}. */
  RESOLVING: 2,
  NO_ROUTE: 3,
  BLACKHOLE: 4,
  UNREACHABLE: 5,
  PROHIBITED: 6,
  /** The source that was asked for is no address of the host. */
  NO_SOURCE: 7,
  LINK_DOWN: 8,
  NO_NEIGHBOUR: 9,
  /** There is no room for another path: all are in use. */
  NO_ROOM: 10,
} as const;

/** Sentences for the states, without a full stop. */
export const PATH_STATE_TEXTS: readonly string[] = [
  'the path is known',
  'the destination is an address of this host',
  'the path is being looked for',
  'the host has no route to the destination',
  'a route of the host says: blackhole',
  'a route of the host says: unreachable',
  'a route of the host says: prohibited',
  'the source is no address of this host',
  'the interface that the route names is down',
  'the next hop does not answer',
  'as many paths are in use as there may be',
];

/** What decides about a path. Made once and filled in for each packet. Addresses are words in network order; that of IPv4 is the first. */
export class PathQuery {
  isIpv6 = false;
  readonly destination = new Int32Array(4);
  /** Zeros: Linux chooses. */
  readonly source = new Int32Array(4);
  /** The octet of TOS or traffic class; its bits of ECN decide nothing. */
  trafficClass = 0;
  mark = 0;
  /** Leave by this interface, or by one of this VRF; 0: Linux chooses. */
  interfaceIndex = 0;
  /** Protocol and port that rules may go by: UDP or TCP; 0 for others. */
  protocol = 0;
  destinationPort = 0;
  /** Who asks: each has a share of the room. It decides nothing. */
  asker = 0;

  /** Take over another query. */
  copy(from: PathQuery): void {
    this.isIpv6 = from.isIpv6;
    const words = from.isIpv6 ? 4 : 1;
    for (let i = 0; i < 4; i += 1) {
      this.destination[i] = i < words ? from.destination[i] : 0;
      this.source[i] = i < words ? from.source[i] : 0;
    }
    this.trafficClass = from.trafficClass;
    this.mark = from.mark;
    this.interfaceIndex = from.interfaceIndex;
    this.protocol = from.protocol;
    this.destinationPort = from.destinationPort;
    this.asker = from.asker;
  }
}

/**
 * A path. It belongs to the tables, which change it when the host's change; what is said of READY holds in that state alone. Keep it no longer than a packet,
 * unless {@link HostTables.follow} gave it.
 */
export interface HostPath {
  /** One of {@link PathState}. */
  readonly state: number;
  /** READY: the interface by which the packet leaves. */
  readonly interfaceIndex: number;
  /** READY: longest IP packet in bytes, from interface, route, and what routers on the way have said. */
  readonly mtuBytes: number;
  /** READY, LOCAL: the source address, as asked for or as Linux chooses. */
  readonly source: Int32Array;
  /** READY: whether the interface wants Ethernet headers; where it does not, there are no MAC addresses. */
  readonly hasEthernet: boolean;
  /** READY: six bytes each. */
  readonly sourceMac: Uint8Array;
  readonly destinationMac: Uint8Array;
}

/** Takes back packets that have waited. */
export interface PathTaker {
  /**
   * The wait of a packet is over. Its reference is the taker's again.
   * @param packet the packet, or a copy of it in other memory with room for headers
   * @param state that of the path, or NO_NEIGHBOUR when the wait has taken too long
   */
  onPath(packet: Packet, path: HostPath, state: number): void;
}

/** Told of a path that is followed. */
export interface PathFollower {
  /** The path is another than before. */
  onPathChanged(path: HostPath): void;
}

/** A path that is kept up to date without being asked for. */
export interface FollowedPath {
  readonly path: HostPath;
  /** Follow it no longer. Closing twice is harmless. */
  close(): void;
}

/** An address of the host. */
export interface LocalAddress {
  readonly interfaceIndex: number;
  readonly isIpv6: boolean;
  /** As in {@link PathQuery}. */
  readonly words: Int32Array;
  readonly prefixLength: number;
  /** It may be used: it is not being checked for duplicates, was not found to be one, and its interface is up. */
  readonly isUsable: boolean;
}

/** The addresses of the host. */
export interface LocalAddresses {
  /** Whether all that there were have been read. */
  readonly isComplete: boolean;
  /**
   * Whether an address of the host may be used.
   * @param interfaceIndex on this interface; 0 for any
   */
  has(isIpv6: boolean, word0: number, word1: number, word2: number, word3: number, interfaceIndex: number): boolean;
  list(): LocalAddress[];
  /** @param listener told that addresses have changed, once for all that changed together. @returns what ends that */
  listen(listener: () => void): () => void;
}

/** The tables of one network namespace. Nothing here blocks, and only {@link follow} and what is not known yet allocate. */
export interface HostTables {
  /**
   * Where does a packet leave? The answer is what is known now; what is not is asked for.
   * @param query is not kept
   */
  find(query: PathQuery): HostPath;
  /**
   * Have a packet wait while a path is RESOLVING; when it no longer is, the packet goes back at once. It passes into memory of its own, so that the memory
   * where it lies, such as a ring, is free.
   * @param packet its reference passes to the tables, unless this returns false
   * @returns false when there is no room for it
   */
  wait(path: HostPath, packet: Packet, taker: PathTaker): boolean;
  /** Give back all that waits for a taker, which is about to go. */
  giveBack(taker: PathTaker): void;
  /** Keep a path up to date, for who sends by it elsewhere, such as programs in the kernel. @returns null when there is no room */
  follow(query: PathQuery, follower: PathFollower): FollowedPath | null;
  readonly addresses: LocalAddresses;
}

/** The service `hostTables`. */
export interface HostTablesService {
  /** Mandatory: the tables of the network namespace of the daemon. The first to ask has them opened. @throws Error that says why they cannot be */
  tables(): HostTables;
  /** Optional: those of another namespace, by the path of its file. @throws Error */
  tablesOf?(namespacePath: string): HostTables;
}

/** The host's tables among the services of a switch's surroundings; null when nobody offers them. */
export function hostTablesOf(services: Readonly<Record<string, unknown>> | undefined): HostTablesService | null {
  const service = services?.hostTables;
  const isService =
    typeof service === 'object' && service !== null && typeof Reflect.get(service, 'tables') === 'function';
  return isService ? (service as HostTablesService) : null;
}
