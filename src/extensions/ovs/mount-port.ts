/** A port of the switch as a device of the datapath: what comes in goes to its vport, what goes out becomes a destination. */
import { type AdapterCounters, type Batch, Offload, type Packet, type PortId } from '../../net/index.ts';
import type { OvsDevice } from './host.ts';
import type { OvsSwitchPort } from './mount-host.ts';

/** Who takes packets for ports. */
export interface PortTransmitter {
  /** @returns false when the packet cannot go there */
  forward(packet: Packet, portId: PortId): boolean;
  flush(): void;
  closed(port: MountedPort): void;
}

export class MountedPort implements OvsDevice {
  readonly receive: (batch: Batch) => void;
  /** The way out of every port finishes in software what its device cannot take. */
  readonly offloads = Offload.ALL;
  /** Packets of the switch are held by the list that they came in, and those of the datapath when they are originated. */
  readonly holds = true;
  readonly portId: PortId;
  readonly #port: OvsSwitchPort;
  readonly #transmitter: PortTransmitter;
  #open = true;

  constructor(port: OvsSwitchPort, transmitter: PortTransmitter, receive: (batch: Batch) => void) {
    this.#port = port;
    this.portId = port.portId;
    this.#transmitter = transmitter;
    this.receive = receive;
  }

  get interfaceIndex(): number {
    return this.#port.interfaceIndex;
  }

  get counters(): AdapterCounters {
    return this.#port.counters;
  }

  transmit(packet: Packet): boolean {
    return this.#transmitter.forward(packet, this.portId);
  }

  flush(): void {
    this.#transmitter.flush();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#transmitter.closed(this);
    this.#port.close();
  }
}
