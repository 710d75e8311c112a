/**
 * The life of ports and NICs: each call checks the state, sends the OID down the stack, and keeps the books when it has
 * come back. Deletion waits for references and for packets on their way. Neighbour: oid/miniport.ts carries OIDs out.
 */
import type { PortId } from '../../net/index.ts';
import type { NicOptions, PortOptions } from '../api.ts';
import { RuleError, SwitchError } from '../errors.ts';
import { MAX_NIC_INDEX, MAX_PORT_ID, type NicState } from '../oid/oid.ts';
import { Control } from './control.ts';
import { Nic } from './nic.ts';
import { Operation } from './operation.ts';
import { Port } from './port.ts';

const MAX_NAME = 255;
const MAX_MTU_BYTES = 65_535;

/** Calls about ports and NICs. */
export class PortControl extends Control {
  createPort(options: PortOptions): Operation<PortId> {
    return this.attempt(() => {
      this.checkOpen();
      const { ports } = this.core;
      const portId = options.portId ?? lowestFree(ports);
      const type = options.type ?? 'synthetic';
      if (!Number.isInteger(portId) || portId < 1 || portId > MAX_PORT_ID) {
        throw new SwitchError('INVALID', `port id ${portId} is not an integer from 1 to ${MAX_PORT_ID}`);
      }
      if (ports[portId]) throw new SwitchError('EXISTS', `port ${portId} exists`);
      this.#checkName(options.name);
      if (type === 'external') {
        const other = ports.find((port) => port?.external);
        if (other) throw new SwitchError('EXISTS', `port ${other.name} is external already; a switch has one`);
      }
      const port = new Port(portId, options.name, type);
      while (ports.length < portId) ports.push(null);
      ports[portId] = port;
      this.core.refreshPorts(portId);
      return this.issue(
        { kind: 'PORT_CREATE', port: port.parameters() },
        () => {
          port.ready = true;
          this.event({ type: 'port', portId: port.portId, state: 'created' });
          return port.portId;
        },
        () => {
          ports[portId] = null;
          this.core.refreshPorts(portId);
        },
      );
    });
  }

  #checkName(name: unknown): void {
    if (typeof name !== 'string' || name === '' || name.length > MAX_NAME) {
      throw new SwitchError('INVALID', `a port name is a text of 1 to ${MAX_NAME} characters`);
    }
    if (this.core.ports.some((port) => port && port.portId !== 0 && port.name === name)) {
      throw new SwitchError('EXISTS', `a port named ${name} exists`);
    }
  }

  updatePort(portId: number, changes: { readonly name: string }): Operation<void> {
    return this.attempt(() => {
      const port = this.livePort(portId);
      if (changes.name === port.name) return Operation.done<void>(undefined);
      this.#checkName(changes.name);
      const before = port.name;
      port.name = changes.name;
      const undo = () => {
        port.name = before;
      };
      return this.issue({ kind: 'PORT_UPDATED', port: port.parameters() }, nothing, undo);
    });
  }

  teardownPort(portId: number): Operation<void> {
    return this.attempt(() => {
      const port = this.livePort(portId);
      if (port.nics.some((nic) => nic)) {
        throw new RuleError(26, `port ${port.name} is torn down before its NICs are deleted`);
      }
      port.state = 'tearing-down';
      this.event({ type: 'port', portId: port.portId, state: 'tearing-down' });
      return this.issue({ kind: 'PORT_TEARDOWN', port: port.parameters() }, nothing);
    });
  }

  deletePort(portId: number): Operation<void> {
    return this.attempt(() => {
      const { core } = this;
      const port = this.anyPort(portId);
      if (port.state !== 'tearing-down' || !port.ready) {
        throw new RuleError(26, `port ${port.name} is deleted before it is torn down`);
      }
      port.ready = false;
      // It is gone whatever extensions say.
      const gone = () => {
        port.state = 'deleted';
        core.ports[portId] = null;
        core.macTable.flush({ portId, includeStatic: true });
        this.refreshPolicies(portId);
        this.event({ type: 'port', portId: port.portId, state: 'deleted' });
      };
      return this.when(
        () => port.references.count === 0 && port.pins === 0,
        () => this.issue({ kind: 'PORT_DELETE', port: port.parameters() }, gone, gone),
      );
    });
  }

  removePort(portId: number): Operation<void> {
    return this.attempt(() => {
      const port = this.anyPort(portId);
      let operation = Operation.done<void>(undefined);
      for (const nic of port.nics) {
        if (!nic) continue;
        const index = nic.nicIndex;
        operation = operation.chain(() =>
          nic.connected ? this.disconnectNic(portId, index) : Operation.done<void>(undefined),
        );
        operation = operation.chain(() => this.deleteNic(portId, index));
      }
      operation = operation.chain(() =>
        port.state === 'created' ? this.teardownPort(portId) : Operation.done<void>(undefined),
      );
      return operation.chain(() => this.deletePort(portId));
    });
  }

  createNic(portId: number, options: NicOptions): Operation<void> {
    return this.attempt(() => {
      const port = this.livePort(portId);
      const nicIndex = options.nicIndex ?? 0;
      if (!Number.isInteger(nicIndex) || nicIndex < 0 || nicIndex > MAX_NIC_INDEX) {
        throw new RuleError(30, `NIC index ${nicIndex} is not an integer from 0 to ${MAX_NIC_INDEX}`);
      }
      if (nicIndex !== 0 && !port.external) throw new RuleError(30, `NIC index ${nicIndex} on port ${port.name}`);
      if (port.nics[nicIndex]) throw new SwitchError('EXISTS', `port ${port.name} has a NIC ${nicIndex} already`);
      const mac = checkMac(options.macAddress ?? new Uint8Array(6));
      const nic = new Nic(port, nicIndex, options.name, mac, checkMtu(options.mtuBytes ?? 0), options.backend);
      while (port.nics.length < nicIndex) port.nics.push(null);
      port.nics[nicIndex] = nic;
      return this.issue(
        { kind: 'NIC_CREATE', nic: nic.parameters() },
        () => {
          nic.ready = true;
          this.event({ type: 'nic', portId: port.portId, nicIndex, state: 'created' });
        },
        () => {
          port.nics[nicIndex] = null;
        },
      );
    });
  }

  connectNic(portId: number, nicIndex = 0): Operation<void> {
    return this.#moveNic(portId, nicIndex, 'created', 'connected');
  }

  disconnectNic(portId: number, nicIndex = 0): Operation<void> {
    return this.#moveNic(portId, nicIndex, 'connected', 'disconnected');
  }

  #moveNic(portId: number, nicIndex: number, from: NicState, state: 'connected' | 'disconnected'): Operation<void> {
    return this.attempt(() => {
      const nic = this.readyNic(portId, nicIndex);
      if (nic.state !== from) throw new RuleError(26, `NIC ${nicIndex} of port ${portId} is ${nic.state}`);
      nic.ready = false;
      const kind = state === 'connected' ? 'NIC_CONNECT' : 'NIC_DISCONNECT';
      const ready = () => {
        nic.ready = true;
      };
      return this.issue(
        { kind, nic: { ...nic.parameters(), state } },
        () => {
          ready();
          this.event({ type: 'nic', portId: nic.port.portId, nicIndex, state: nic.state });
        },
        ready,
      );
    });
  }

  updateNic(
    portId: number,
    nicIndex: number,
    changes: { readonly name?: string; readonly mtuBytes?: number; readonly macAddress?: Uint8Array },
  ): Operation<void> {
    return this.attempt(() => {
      const nic = this.readyNic(portId, nicIndex);
      const mtuBytes = checkMtu(changes.mtuBytes ?? nic.mtuBytes);
      const mac = checkMac(changes.macAddress ?? nic.macAddress);
      nic.name = changes.name ?? nic.name;
      nic.mtuBytes = mtuBytes;
      nic.setMac(mac);
      this.core.pathChanged(this.core.anyTeam ? 0 : portId);
      return this.issue({ kind: 'NIC_UPDATED', nic: nic.parameters() }, nothing);
    });
  }

  setNicLink(portId: number, nicIndex: number, isUp: boolean): void {
    const nic = this.readyNic(portId, nicIndex);
    if (nic.isDown === !isUp) return;
    nic.isDown = !isUp;
    const { policy } = nic.port;
    policy.binding?.linkChanged(isUp);
    if (policy.macs.linkChanged(isUp, this.core.host.nowMs())) this.core.pathChanged(portId);
  }

  deleteNic(portId: number, nicIndex = 0): Operation<void> {
    return this.attempt(() => {
      const { core } = this;
      const nic = this.readyNic(portId, nicIndex);
      const port = nic.port;
      if (nic.connected) throw new RuleError(26, `NIC ${nicIndex} of port ${portId} is deleted while it is connected`);
      if (nic.busy) throw new SwitchError('BUSY', `NIC ${nicIndex} of port ${portId} is being saved or restored`);
      nic.ready = false;
      const gone = () => {
        nic.setState('deleted');
        port.nics[nicIndex] = null;
        core.refreshPorts(portId);
        if (!port.reachable) core.macTable.flush({ portId });
        this.event({ type: 'nic', portId: port.portId, nicIndex, state: 'deleted' });
      };
      return this.when(
        () => nic.references.count === 0 && port.pins === 0,
        () => this.issue({ kind: 'NIC_DELETE', nic: nic.parameters() }, gone, gone),
      );
    });
  }
}

function nothing(): void {}

function lowestFree(ports: readonly (Port | null)[]): number {
  for (let id = 1; id < ports.length; id += 1) if (!ports[id]) return id;
  return Math.max(1, ports.length);
}

function checkMac(mac: Uint8Array): Uint8Array {
  if (!(mac instanceof Uint8Array) || mac.length !== 6) throw new SwitchError('INVALID', 'a MAC address has six bytes');
  return mac.slice();
}

function checkMtu(mtuBytes: number): number {
  if (!Number.isInteger(mtuBytes) || mtuBytes < 0 || mtuBytes > MAX_MTU_BYTES) {
    throw new SwitchError('INVALID', `an MTU of ${mtuBytes} bytes is not an integer from 0 to ${MAX_MTU_BYTES}`);
  }
  return mtuBytes;
}
