/** A way to send frames by an interface of the host that is no port of the switch, such as outer packets of tunnels. The interface stays what it is, and nothing is received. */
import type { OvsDevice } from '../../extensions/ovs/index.ts';
import { openPacketSocket, type PacketSocket, SystemError, withRouteClient } from '../../host/index.ts';
import type { AdapterCounters, Packet } from '../../net/index.ts';
import { TagAction } from '../../net/index.ts';

class InterfaceSender implements OvsDevice {
  readonly interfaceIndex: number;
  readonly offloads: number;
  readonly #socket: PacketSocket;

  constructor(socket: PacketSocket) {
    this.#socket = socket;
    this.interfaceIndex = socket.interfaceIndex;
    this.offloads = socket.offloads;
  }

  get counters(): AdapterCounters {
    return this.#socket.counters;
  }

  transmit(packet: Packet): boolean {
    if (this.#socket.state === 'gone') return false;
    this.#socket.transmit(packet, TagAction.KEEP);
    return true;
  }

  flush(): void {
    this.#socket.flush();
  }

  close(): void {
    this.#socket.close();
  }
}

/**
 * @param interfaceIndex in the network namespace of the calling thread
 * @returns null when there is no such interface, or it is none that frames can be sent by
 */
export function openInterfaceSender(interfaceIndex: number): OvsDevice | null {
  try {
    const { name } = withRouteClient((client) => client.link(interfaceIndex));
    if (name === undefined) return null;
    const socket = openPacketSocket({
      interfaceName: name,
      receive: false,
      promiscuous: false,
      bringUp: false,
      isolate: false,
      sole: false,
    });
    return new InterfaceSender(socket);
  } catch (error) {
    // Interfaces of other kinds are told by a RangeError.
    if (!(error instanceof SystemError || error instanceof RangeError)) throw error;
    return null;
  }
}
