/** What the extension needs from outside: devices and the time. The daemon hands it in; tests do with memory. */
import type { Connections } from '../../connections/index.ts';
import type { FlowRegistry } from '../../flow/index.ts';
import type { AdapterCounters, Batch, HostTables, Packet, PortId } from '../../net/index.ts';
import type { CarriedPackets } from '../../switch/index.ts';

/** An open device. Nothing here blocks or throws. */
export interface OvsDevice {
  /** The kernel's number for it; 0 when the kernel does not know it. */
  readonly interfaceIndex: number;
  /** Optional: its name now, when that can change; else it is the one that it was opened by. */
  readonly name?: string;
  /** Optional: the switch's number of the port that it is. */
  readonly portId?: PortId;
  /** Optional: the kernel's id for the network namespace that it is in; null for that of the datapath. */
  readonly namespaceId?: number | null;
  /** What it takes as it is: bits of net/'s Offload. */
  readonly offloads: number;
  /** Seen from the datapath: received came in through it. */
  readonly counters: AdapterCounters;
  /** Optional: it holds by itself the packets that it wants to stay as they are; else the caller does until {@link flush}. */
  readonly holds?: boolean;
  /**
   * Queue a frame. Its bytes stay as they are until {@link flush} returns; the reference stays the caller's.
   * @returns false when it cannot go out
   */
  transmit(packet: Packet): boolean;
  flush(): void;
  close(): void;
}

/** How a port came to be asked for: an existing device, or one that the datapath makes. */
export type DeviceKind = 'netdev' | 'internal';

/** What tunnels need of the host. */
export interface TunnelSurroundings {
  /** The host's routes, neighbours and addresses. @throws Error that says why they cannot be had */
  tables(): HostTables;
  /** A way to send by an interface that is no port of a datapath; null when frames cannot be sent there. The caller closes it. */
  openInterface(interfaceIndex: number): OvsDevice | null;
  /** Tell people. */
  warn(message: string): void;
}

export interface OvsHost {
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /**
   * Open a device, or make one.
   * @param receive to be called with packets that come in; their references pass to it, and the batch is empty afterwards
   * @param onGone to be called when the device has vanished; `close` is called from within. Not for a device that was closed.
   *   Of other changes (link, MTU, name) nothing is told: programs hear of them over routing netlink, as with the kernel's datapath
   * @throws OvsError with the errno that openvswitch.ko would give: ENODEV, EBUSY, EEXIST
   */
  open(kind: DeviceKind, name: string, receive: (batch: Batch) => void, onGone: () => void): OvsDevice;
  /** Optional: call back soon, when packets have had their turn. Left out, work that can be done bit by bit is done at once. */
  later?(work: () => void): void;
  /** The connections of all datapaths. */
  readonly connections: Connections;
  /** Optional: takes the flow tables of datapaths, to run their flows elsewhere; null for nobody. */
  readonly flows?: FlowRegistry | null;
  /** Optional: what packets need that go through tunnels; null or left out, none do. */
  readonly tunnels?: TunnelSurroundings | null;
  /** Optional: packets of a flow were carried elsewhere. */
  carried?(flow: CarriedPackets, packets: number, bytes: number): void;
  /** Optional: a packet of this port of the switch was to go to a program, for which as many of the port wait as may. */
  upcallRefused?(portId: PortId): void;
  /**
   * Optional: a packet that was carried elsewhere goes on here.
   * @param portId the switch's port that it came in by; -1 for none
   * @param run is called once, and sends it on or drops it
   */
  resume?(portId: PortId | -1, run: () => void): void;
  /** Optional: a packet goes on elsewhere, and its end is told by {@link carried}. */
  handedDown?(): void;
  /** Optional: a packet, or a copy of one, was dropped, for a reason of flow/'s Drop. {@link ended} follows. */
  dropped?(reason: number): void;
  /**
   * Optional: what a packet led to is done. Called once for each that came in through a device, in their order.
   * @param reason 0 when it or a copy of it went somewhere, else that of its last drop
   * @param executedPortId for a packet that a program has handed in, or that was carried elsewhere before: the switch's port that it belongs to, -1 for none. Left out for
   *   packets that came in
   */
  ended?(reason: number, executedPortId?: PortId | -1): void;
}
