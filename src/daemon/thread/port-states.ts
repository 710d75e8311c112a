/**
 * Whether ports are up, and why they are not: told when it changes, and followed by the switch and by programs, which drop what is to leave by a port
 * that is down. Neighbour: port-devices.ts says what became of the device of a port.
 */
import type { OffloadKeeper } from '../../keeper/index.ts';
import { PcapAdapter } from '../../net/index.ts';
import type { VirtualSwitch } from '../../switch/index.ts';
import type { PortState } from '../api.ts';
import { isDevice } from './adapters.ts';
import type { DatapathPort } from './port.ts';

/** What the ports tell. */
export interface PortsListener {
  onState(port: DatapathPort, message: string): void;
  onWarning(port: string, message: string): void;
  /** The link of a port went down, or its device away: what is known about who is behind it is void. */
  onLost(port: DatapathPort): void;
  /** A port that was made for a user, not by the configuration, has come or gone. */
  onUserPort(port: DatapathPort, isThere: boolean): void;
}

export class PortStates {
  readonly #switch: VirtualSwitch;
  readonly #offload: OffloadKeeper;
  readonly #listener: PortsListener;

  constructor(virtualSwitch: VirtualSwitch, offload: OffloadKeeper, listener: PortsListener) {
    this.#switch = virtualSwitch;
    this.#offload = offload;
    this.#listener = listener;
  }

  /** The state of a port is what its adapter says. */
  update(port: DatapathPort): void {
    const { adapter } = port;
    if (adapter instanceof PcapAdapter && adapter.failure !== null) {
      this.set(port, 'failed', adapter.failure.message);
    } else if (
      adapter instanceof PcapAdapter &&
      adapter.finished &&
      port.config.kind === 'pcap' &&
      port.config.read !== undefined
    ) {
      this.set(port, 'up', 'the capture has been read to its end');
    } else if (adapter === null || !isDevice(adapter)) this.set(port, 'up', null);
    else if (adapter.state === 'down') this.set(port, 'down', `the interface ${adapter.interfaceName} is set down`);
    else if (!adapter.carrier) this.set(port, 'down', `the interface ${adapter.interfaceName} has no carrier`);
    else this.set(port, 'up', null);
  }

  /** What is to leave by a port that is down is dropped, by the switch and by programs. */
  #followLink(port: DatapathPort): void {
    const { adapter } = port;
    if (!port.attached || adapter === null || !isDevice(adapter)) return;
    const isDown = port.state === 'down';
    if (isDown === port.isLinkDown) return;
    // What programs have counted so far went out, or did not, as the link was.
    this.#offload.sync();
    port.isLinkDown = isDown;
    this.#switch.setNicLink(port.id, 0, !isDown);
    this.#offload.nicChanged(port);
  }

  /** @param reason null for none */
  set(port: DatapathPort, state: PortState, reason: string | null): void {
    if (port.state === state && port.reason === reason) return;
    const wasUp = port.state === 'up';
    port.state = state;
    port.reason = reason;
    this.#followLink(port);
    if (wasUp && state === 'down') this.#listener.onLost(port);
    this.#listener.onState(
      port,
      reason === null ? `port ${port.name} is ${state}` : `port ${port.name} is ${state}: ${reason}`,
    );
  }
}
