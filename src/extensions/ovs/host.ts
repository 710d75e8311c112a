/** What the extension needs from outside: devices and the time. The daemon hands it in; tests do with memory. */
import type { AdapterCounters, Batch, Packet } from '../../net/index.ts';

/** An open device. Nothing here blocks or throws. */
export interface OvsDevice {
  /** The kernel's number for it; 0 when the kernel does not know it. */
  readonly interfaceIndex: number;
  /** What it takes as it is: bits of net/'s Offload. */
  readonly offloads: number;
  /** Seen from the datapath: received came in through it. */
  readonly counters: AdapterCounters;
  /** Queue a frame. Its bytes stay as they are until {@link flush} returns; the reference stays the caller's. */
  transmit(packet: Packet): void;
  flush(): void;
  close(): void;
}

/** How a port came to be asked for: an existing device, or one that the datapath makes. */
export type DeviceKind = 'netdev' | 'internal';

export interface OvsHost {
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /**
   * Open a device, or make one.
   * @param receive to be called with packets that come in; their references pass to it, and the batch is empty afterwards
   * @throws OvsError with the errno that openvswitch.ko would give: ENODEV, EBUSY, EEXIST
   */
  open(kind: DeviceKind, name: string, receive: (batch: Batch) => void): OvsDevice;
  /** Optional: a packet of a port was dropped, for a reason of flow/'s Drop. */
  dropped?(packet: Packet, reason: number): void;
}
