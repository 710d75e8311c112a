/**
 * The parts of a switch, put together, and what its control calls share: sending OIDs as operations (after a restart of the stack, when one is under way), waiting for references and packets,
 * and looking up ports and NICs in the state that a call needs. The calls follow in layers, each with those below it: port-control.ts, property-control.ts, save-restore.ts, switch/switch.ts.
 */
import { ClonePool, PacketPool } from '../../net/index.ts';
import type { SwitchEvent, SwitchOptions } from '../api.ts';
import { SwitchError } from '../errors.ts';
import { Miniport } from '../oid/miniport.ts';
import { DEFAULT_PORT_ID, type Oid, type Status } from '../oid/oid.ts';
import { type OidFlight, OidPath } from '../oid/oid-path.ts';
import { PrivateRole } from '../path/context.ts';
import { SwitchCore } from '../path/core.ts';
import { SubnetDomains } from '../policies/compile.ts';
import { PrivateVlans } from '../policies/vlan.ts';
import { Handle, type HandleSurroundings } from '../stack/handle.ts';
import { ExtensionStack } from '../stack/stack.ts';
import { errorOf, messageOf } from '../thrown.ts';
import type { Nic } from './nic.ts';
import { Operation } from './operation.ts';
import type { Port } from './port.ts';

const DEFAULTS = {
  maxContexts: 16_384,
  macTableCapacity: 16_384,
  macAgeingSeconds: 300,
  extensionPackets: 1024,
  extensionPacketBytes: 2048,
} as const;

/** A call that waits until something is no longer in use. */
interface Waiting {
  readonly ready: () => boolean;
  readonly go: () => void;
}

export class Control {
  readonly name: string;
  protected readonly core: SwitchCore;
  protected readonly stack: ExtensionStack;
  protected readonly miniport: Miniport;
  protected readonly subnets = new SubnetDomains();
  protected isClosed = false;
  readonly #oids: OidPath;
  readonly #listeners = new Set<(event: SwitchEvent) => void>();
  readonly #afterRestart: (() => void)[] = [];
  #waiting: Waiting[] = [];

  /** @throws RangeError for an option that is out of range */
  constructor(options: SwitchOptions) {
    const { name, host } = options;
    const core = new SwitchCore({
      host,
      maxContexts: within('maxContexts', options.maxContexts ?? DEFAULTS.maxContexts, 1, 1 << 22),
      macTableCapacity: options.macTableCapacity ?? DEFAULTS.macTableCapacity,
      macAgeingSeconds: within('macAgeingSeconds', options.macAgeingSeconds ?? DEFAULTS.macAgeingSeconds, 0, 1e9),
      forwardLinkLocal: options.forwardLinkLocal ?? false,
      hybridForwarding: options.hybridForwarding ?? true,
      verifyData: options.verifyData ?? false,
    });
    const stack = new ExtensionStack(core, (slot) => new Handle(surroundings, slot));
    this.miniport = new Miniport(core, name);
    const oids = new OidPath(core, stack, this.miniport);
    stack.connect(oids);
    const surroundings: HandleSurroundings = {
      core,
      stack,
      oids,
      clones: new ClonePool(core.options.maxContexts),
      pool: new PacketPool({
        packets: within('extensionPackets', options.extensionPackets ?? DEFAULTS.extensionPackets, 1, 1 << 20),
        bufferBytes: options.extensionPacketBytes ?? DEFAULTS.extensionPacketBytes,
      }),
    };
    core.onEvent = (event) => this.event(event);
    core.waiters = () => this.#proceed();
    this.name = name;
    this.core = core;
    this.stack = stack;
    this.#oids = oids;
  }

  onEvent(listener: (event: SwitchEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  protected event(event: SwitchEvent): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event);
      } catch (error) {
        this.core.host.log('error', `a listener of switch ${this.name} failed: ${messageOf(error)}`);
      }
    }
  }

  /** Run a call; what it throws becomes a failed operation. */
  protected attempt<T>(call: () => Operation<T>): Operation<T> {
    try {
      return call();
    } catch (error) {
      return Operation.failed(asError(error));
    }
  }

  /** @throws SwitchError CLOSED */
  protected checkOpen(): void {
    if (this.isClosed) throw new SwitchError('CLOSED', `switch ${this.name} is closed`);
  }

  /**
   * Send an OID down the stack.
   * @param done what follows from its success, and the result of the call; the call fails with what it throws
   * @param undone what follows when it is refused, before the call fails
   */
  protected issue<T>(oid: Oid, done: (flight: OidFlight) => T, undone: () => void = () => {}): Operation<T> {
    const operation = new Operation<T>();
    this.send(oid, Number.POSITIVE_INFINITY, (flight, status) => {
      if (status !== 'SUCCESS') {
        undone();
        operation.reject(statusError(oid, status));
        return;
      }
      let result: T;
      try {
        result = done(flight);
      } catch (error) {
        operation.reject(asError(error));
        return;
      }
      operation.resolve(result);
    });
    return operation;
  }

  /** As {@link issue}, with the bare status. OIDs do not overtake a restart of the stack. */
  protected send(oid: Oid, capacityBytes: number, onDone: (flight: OidFlight, status: Status) => void): void {
    if (this.stack.changing || this.#afterRestart.length !== 0) {
      this.#afterRestart.push(() => this.#oids.issue(oid, onDone, capacityBytes));
    } else {
      this.#oids.issue(oid, onDone, capacityBytes);
    }
  }

  /** Do something once a condition holds; it is looked at whenever packets complete or references are given back. */
  protected when(ready: () => boolean, next: () => Operation<void>): Operation<void> {
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

  /** Whatever waited for packets, references or OIDs may be able to go on. */
  #proceed(): void {
    if (this.stack.changing) this.stack.proceed();
    this.proceed();
  }

  /** Look again at everything that waits for the stack. */
  protected proceed(): void {
    if (this.#afterRestart.length !== 0 && !this.stack.changing) {
      for (let next = this.#afterRestart.shift(); next !== undefined; next = this.#afterRestart.shift()) {
        next();
        if (this.stack.changing) return;
      }
    }
    if (this.#waiting.length === 0) return;
    const ready = this.#waiting.filter((waiting) => waiting.ready());
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((waiting) => !ready.includes(waiting));
    for (const waiting of ready) waiting.go();
  }

  /** A port in any state. @throws SwitchError NOT_FOUND */
  protected anyPort(portId: number): Port {
    const port = portId === DEFAULT_PORT_ID ? null : this.core.ports[portId];
    if (!port) throw new SwitchError('NOT_FOUND', `there is no port ${portId}`);
    return port;
  }

  /** A port that has been created and is not torn down. @throws SwitchError NOT_FOUND or STATE */
  protected livePort(portId: number): Port {
    const port = this.anyPort(portId);
    if (!port.ready) throw new SwitchError('STATE', `port ${port.name} is still being created, or being deleted`);
    if (port.state !== 'created') throw new SwitchError('STATE', `port ${port.name} is ${port.state}`);
    return port;
  }

  /** A NIC that no other call is moving. @throws SwitchError NOT_FOUND or BUSY */
  protected readyNic(portId: number, nicIndex: number): Nic {
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
  protected refreshPolicies(portId: number): void {
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

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : errorOf(thrown);
}

function within(name: string, value: number, low: number, high: number): number {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} of ${value} is not an integer from ${low} to ${high}`);
  }
  return value;
}
