/**
 * What the extension `ovs` gets of the daemon: ports of the switch by the names that Open vSwitch uses, and the socket that its
 * programs connect to. Ports that it asks for and that no configuration has are made for it, and go with it.
 */
import {
  type DeviceKind,
  OvsErrno,
  OvsError,
  type OvsSurroundings,
  type OvsSwitchPort,
} from '../../extensions/ovs/index.ts';
import { type EventLoop, SeqpacketServer, SystemError } from '../../host/index.ts';
import { type AdapterCounters, newCounters, type PortId } from '../../net/index.ts';
import { messageOf } from '../../switch/index.ts';
import type { Port } from '../config/model.ts';
import { OPEN_VSWITCH } from '../extensions.ts';
import { Failure, type FailureKind } from '../rpc/failure.ts';
import { Seldom } from '../seldom.ts';
import { monotonicMs } from './clock.ts';
import { openInterfaceSender } from './interface-sender.ts';
import type { DatapathPort, PortUser } from './port.ts';
import type { DatapathPorts } from './ports.ts';

const ERRNO_BY_KIND: Readonly<Partial<Record<FailureKind, number>>> = {
  'not-found': OvsErrno.ENODEV,
  exists: OvsErrno.EEXIST,
  refused: OvsErrno.EBUSY,
  privilege: OvsErrno.EPERM,
};

/**
 * @param ports the switch's; asked when the first port is wanted, as both are made together
 * @param warn told of programs that could not be served, and of ports that ask too much of them
 * @param holdBack told of ports whose packets should not come for a while
 */
export function ovsSurroundings(
  loop: EventLoop,
  ports: () => DatapathPorts,
  warn: (message: string, subject?: string) => void,
  holdBack: (portId: PortId) => void,
): OvsSurroundings {
  const later = (delayMs: number, call: () => void) => void loop.timers.once(delayMs, { onTimer: call });
  return {
    nowMs: monotonicMs,
    listen(path, accept) {
      let why = '';
      const refused = new Seldom(
        (times) => warn(`the pseudo device ${path} has refused ${times} connection${times === 1 ? '' : 's'}: ${why}`),
        later,
      );
      try {
        return new SeqpacketServer(
          loop,
          path,
          (transport) => {
            transport.handler = accept(transport);
          },
          {
            onRefused(reason) {
              why = reason;
              refused.happened();
            },
          },
        );
      } catch (error) {
        if (error instanceof SystemError) throw error;
        throw new Error(`cannot listen on ${path}: ${messageOf(error)}`, { cause: error });
      }
    },
    open: (kind, name, onGone) => openPort(ports(), kind, name, { name: OPEN_VSWITCH, onGone }),
    openInterface: openInterfaceSender,
    warn,
    upcallRefused(portId) {
      const port = ports().withId(portId);
      if (port === undefined) return;
      port.upcallRefusals ??= new Seldom((packets) => {
        const what = `${packets} packet${packets === 1 ? ' was' : 's were'} lost on the way to ovs-vswitchd`;
        warn(`port ${port.name}: ${what}, as more of it wait there than its share`, port.name);
      }, later);
      port.upcallRefusals.happened();
      holdBack(portId);
    },
  };
}

/** @throws OvsError */
function openPort(ports: DatapathPorts, kind: DeviceKind, name: string, user: PortUser): OvsSwitchPort {
  const existing = portFor(ports, kind, name);
  if (existing !== null) {
    if (existing.user !== null) throw new OvsError(OvsErrno.EBUSY, `port ${existing.name} is in use`);
    // Open vSwitch may hear of an interface that comes back before we do.
    if (!existing.attached) ports.devices.reexamine(existing);
    if (!existing.attached) throw new OvsError(OvsErrno.ENODEV, `port ${existing.name} has no interface now`);
    existing.user = user;
    return new UsedPort(ports, existing);
  }
  const config: Port = kind === 'internal' ? { kind: 'tap', device: name } : { kind: 'netdev', device: name };
  const added = ports.add(name, config, user);
  if (added.error !== null) throw toOvsError(added.error);
  if (added.state === 'pending') {
    added.whenSettled((operation) => {
      if (operation.error === null && ports.has(name)) ports.remove(name);
    });
    throw new OvsError(OvsErrno.EBUSY, `an extension holds up port ${name}`);
  }
  return new UsedPort(ports, ports.get(name));
}

/** The port of the configuration that Open vSwitch means by a name: by its OVS-port-name, else by its device. */
function portFor(ports: DatapathPorts, kind: DeviceKind, name: string): DatapathPort | null {
  for (const port of ports.all()) if (port.config.ovsName === name) return port;
  if (kind === 'internal') return null;
  for (const port of ports.all()) {
    if (port.config.ovsName !== undefined) continue;
    const { device } = port.config;
    if (device === '' ? port.name === name : device === name) return port;
  }
  return null;
}

function toOvsError(error: Error): OvsError {
  if (error instanceof OvsError) return error;
  if (error instanceof SystemError) return new OvsError(error.errno, error.message);
  const errno = error instanceof Failure ? ERRNO_BY_KIND[error.kind] : undefined;
  return new OvsError(errno ?? OvsErrno.EINVAL, error.message);
}

/** A port of the switch in the hands of Open vSwitch. */
class UsedPort implements OvsSwitchPort {
  readonly portId: PortId;
  readonly #ports: DatapathPorts;
  readonly #port: DatapathPort;
  readonly #counters: AdapterCounters = newCounters();

  constructor(ports: DatapathPorts, port: DatapathPort) {
    this.#ports = ports;
    this.#port = port;
    this.portId = port.id;
  }

  get interfaceIndex(): number {
    const { adapter } = this.#port;
    return adapter !== null && 'interfaceIndex' in adapter ? Number(adapter.interfaceIndex) : 0;
  }

  get counters(): AdapterCounters {
    return Object.assign(this.#counters, this.#ports.countersOf(this.#port));
  }

  close(): void {
    const { name, ownedByUser } = this.#port;
    this.#port.user = null;
    if (ownedByUser && this.#ports.has(name) && this.#ports.get(name) === this.#port) this.#ports.remove(name);
  }
}
