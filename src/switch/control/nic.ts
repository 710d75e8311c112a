/**
 * A NIC of a port: its state, its backend, and the references that hold back its deletion. Neighbours: port.ts owns
 * NICs, path/egress.ts transmits through them.
 */
import { formatMac, macHighAt, macLowAt } from '../../net/index.ts';
import type { NicBackend, NicInfo } from '../api.ts';
import type { NicParameters, NicState } from '../oid/oid.ts';
import type { Port } from './port.ts';
import { References } from './references.ts';

/** One adapter under a port. */
export class Nic {
  readonly port: Port;
  readonly nicIndex: number;
  readonly backend: NicBackend;
  name: string;
  mtuBytes: number;
  macAddress: Uint8Array;
  /** The first two and the last four bytes of the MAC address, for comparing. */
  macHigh = 0;
  macLow = 0;
  state: NicState = 'created';
  /** Its creation has succeeded. */
  ready = false;
  /** A save or restore is under way. */
  busy = false;
  /** For hot code: state is connected. */
  connected = false;
  /** References of extensions. */
  readonly references = new References();
  /** Its link is down: nothing is handed to it. */
  isDown = false;
  /** Has frames queued that wait for a flush. */
  touched = false;

  constructor(port: Port, nicIndex: number, name: string, mac: Uint8Array, mtuBytes: number, backend: NicBackend) {
    this.port = port;
    this.nicIndex = nicIndex;
    this.backend = backend;
    this.name = name;
    this.mtuBytes = mtuBytes;
    this.macAddress = mac;
    this.setMac(mac);
  }

  setMac(mac: Uint8Array): void {
    this.macAddress = mac;
    this.macHigh = macHighAt(mac, 0);
    this.macLow = macLowAt(mac, 0);
  }

  setState(state: NicState): void {
    this.state = state;
    this.connected = state === 'connected';
  }

  parameters(): NicParameters {
    return {
      portId: this.port.portId,
      nicIndex: this.nicIndex,
      name: this.name,
      macAddress: this.macAddress.slice(),
      mtuBytes: this.mtuBytes,
      state: this.state,
    };
  }

  info(): NicInfo {
    return {
      nicIndex: this.nicIndex,
      name: this.name,
      macAddress: formatMac(this.macAddress),
      mtuBytes: this.mtuBytes,
      state: this.state,
      references: this.references.count,
    };
  }
}
