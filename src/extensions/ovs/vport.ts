/** A port of a datapath: its number, its kind, who hears its upcalls, and the device behind it. */
import { type AdapterCounters, newCounters } from '../../net/index.ts';
import type { OvsDevice } from './host.ts';
import type { OvsPort } from './port-number.ts';

export class Vport {
  readonly number: OvsPort;
  /** One of VportType. */
  readonly type: number;
  readonly #name: string;
  /** Netlink port ids of upcall sockets; 0 for nobody. */
  upcallPids: readonly number[];
  /** Null for tunnels. */
  readonly device: OvsDevice | null;
  /** UDP port of a tunnel, TCP port of one of STT; 0 for others. */
  readonly destinationPort: number;
  /** Whether a VXLAN tunnel carries group policies. */
  readonly groupPolicy: boolean;
  /** Upcalls for packets that came in through it: those that programs got or will get, and those that were lost. */
  upcallsSent = 0;
  upcallsLost = 0;
  /** Whether packets that were sent through it wait for a flush of the device. */
  isWaiting = false;
  /** Packets that could not go out through it. */
  unsent = 0;
  /** Of a tunnel: packets as they are inside. */
  readonly tunnelCounters: AdapterCounters = newCounters();

  constructor(
    number: OvsPort,
    type: number,
    name: string,
    upcallPids: readonly number[],
    device: OvsDevice | null,
    destinationPort = 0,
    groupPolicy = false,
  ) {
    this.number = number;
    this.type = type;
    this.#name = name;
    this.upcallPids = upcallPids;
    this.device = device;
    this.destinationPort = destinationPort;
    this.groupPolicy = groupPolicy;
  }

  /** Seen from the datapath: received came in through it. */
  get counters(): AdapterCounters {
    return this.device?.counters ?? this.tunnelCounters;
  }

  /** The device's present name: devices may be renamed. */
  get name(): string {
    return this.device?.name ?? this.#name;
  }
}
