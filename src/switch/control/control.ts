/**
 * What the control calls share: sending OIDs as operations (after a restart of the stack, when one is under way), waiting for
 * references and packets, and looking up ports and NICs in the state that a call needs.
 */
import type { SwitchEvent } from '../api.ts';
import { SwitchError } from '../errors.ts';
import { DEFAULT_PORT_ID, type Oid, type Status } from '../oid/oid.ts';
import type { OidFlight, OidPath } from '../oid/oid-path.ts';
import { PrivateRole } from '../path/context.ts';
import type { SwitchCore } from '../path/core.ts';
import { SubnetDomains } from '../policies/compile.ts';
import { PrivateVlans } from '../policies/vlan.ts';
import type { ExtensionStack } from '../stack/stack.ts';
import { errorOf } from '../thrown.ts';
import type { Nic } from './nic.ts';
import { Operation } from './operation.ts';
import type { Port } from './port.ts';

/** A call that waits until something is no longer in use. */
interface Waiting {
  readonly ready: () => boolean;
  readonly go: () => void;
}

/** Shared by port-control.ts, property-control.ts and save-restore.ts. */
export class Control {
  readonly core: SwitchCore;
  readonly event: (event: SwitchEvent) => void;
  readonly subnets = new SubnetDomains();
  readonly #stack: ExtensionStack;
  readonly #oids: OidPath;
  readonly #afterRestart: (() => void)[] = [];
  #waiting: Waiting[] = [];

  constructor(core: SwitchCore, stack: ExtensionStack, oids: OidPath, event: (event: SwitchEvent) => void) {
    this.core = core;
    this.#stack = stack;
    this.#oids = oids;
    this.event = event;
  }

  /** Run a call; what it throws becomes a failed operation. */
  attempt<T>(call: () => Operation<T>): Operation<T> {
    try {
      return call();
    } catch (error) {
      return Operation.failed(error instanceof Error ? error : errorOf(error));
    }
  }

  /**
   * Send an OID down the stack.
   * @param finish settles the operation; error is null on SUCCESS
   */
  issue<T>(oid: Oid, finish: (done: Operation<T>, error: Error | null, flight: OidFlight) => void): Operation<T> {
    const operation = new Operation<T>();
    this.send(oid, Number.POSITIVE_INFINITY, (flight, status) => {
      finish(operation, status === 'SUCCESS' ? null : statusError(oid, status), flight);
    });
    return operation;
  }

  /** As {@link issue}, with the bare status. OIDs do not overtake a restart of the stack. */
  send(oid: Oid, capacityBytes: number, onDone: (flight: OidFlight, status: Status) => void): void {
    if (this.#stack.changing || this.#afterRestart.length !== 0) {
      this.#afterRestart.push(() => this.#oids.issue(oid, onDone, capacityBytes));
    } else {
      this.#oids.issue(oid, onDone, capacityBytes);
    }
  }

  /** Do something once a condition holds; it is looked at whenever packets complete or references are given back. */
  when(ready: () => boolean, next: () => Operation<void>): Operation<void> {
    if (ready()) return next();
    const operation = new Operation<void>();
    const go = (): void => {
      next().whenSettled((settled) => {
        if (settled.error !== null) operation.reject(settled.error);
        else operation.resolve(undefined);
      });
    };
    this.#waiting.push({ ready, go });
    return operation;
  }

  /** Look again at everything that waits. */
  proceed(): void {
    if (this.#afterRestart.length !== 0 && !this.#stack.changing) {
      for (let next = this.#afterRestart.shift(); next !== undefined; next = this.#afterRestart.shift()) {
        next();
        if (this.#stack.changing) return;
      }
    }
    if (this.#waiting.length === 0) return;
    const ready = this.#waiting.filter((waiting) => waiting.ready());
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((waiting) => !ready.includes(waiting));
    for (const waiting of ready) waiting.go();
  }

  /** A port in any state. @throws SwitchError NOT_FOUND */
  anyPort(portId: number): Port {
    const port = portId === DEFAULT_PORT_ID ? null : this.core.ports[portId];
    if (!port) throw new SwitchError('NOT_FOUND', `there is no port ${portId}`);
    return port;
  }

  /** A port that has been created and is not torn down. @throws SwitchError NOT_FOUND or STATE */
  livePort(portId: number): Port {
    const port = this.anyPort(portId);
    if (!port.ready) throw new SwitchError('STATE', `port ${port.name} is still being created, or being deleted`);
    if (port.state !== 'created') throw new SwitchError('STATE', `port ${port.name} is ${port.state}`);
    return port;
  }

  /** A NIC that no other call is moving. @throws SwitchError NOT_FOUND or BUSY */
  readyNic(portId: number, nicIndex: number): Nic {
    const nic = this.anyPort(portId).nics[nicIndex];
    if (!nic) throw new SwitchError('NOT_FOUND', `port ${portId} has no NIC ${nicIndex}`);
    if (!nic.ready)
      throw new SwitchError('BUSY', `NIC ${nicIndex} of port ${portId} is being created, moved or deleted`);
    return nic;
  }

  /**
   * After properties or ports changed: what is judged across ports.
   * @param portId the port that was changed
   */
  refreshPolicies(portId: number): void {
    const { ports, privateVlans: before } = this.core;
    const privateVlans = new PrivateVlans();
    for (const port of ports) {
      const vlan = port?.properties.get('vlan');
      if (vlan?.type !== 'vlan' || vlan.mode !== 'private' || vlan.privateMode === 'promiscuous') continue;
      const role = vlan.privateMode === 'isolated' ? PrivateRole.ISOLATED : PrivateRole.COMMUNITY;
      privateVlans.set(vlan.secondaryVlanId, vlan.primaryVlanId, role);
    }
    this.core.privateVlans = privateVlans;
    this.core.refreshPorts(privateVlans.equals(before) ? portId : 0);
  }
}

/** What a refused OID means to who asked for it. */
export function statusError(oid: Oid, status: Status): SwitchError {
  const code = status === 'DATA_NOT_ACCEPTED' ? 'VETOED' : status === 'INVALID_PARAMETER' ? 'INVALID' : 'FAILED';
  const text = code === 'VETOED' ? 'an extension does not accept it' : `it ended with ${status}`;
  return new SwitchError(code, `${oid.kind} was refused: ${text}`);
}
