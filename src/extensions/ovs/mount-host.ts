/**
 * What the mounted extension needs of its surroundings besides the switch: a socket for programs, and ports of the switch by
 * name. The daemon hands it in as the service `ovs` of the switch's host services.
 */
import type { AdapterCounters, PortId } from '../../net/index.ts';
import type { Connection, PseudoDeviceTransport } from './device/connection.ts';
import type { DeviceKind, OvsDevice } from './host.ts';

/** A port of the switch that Open vSwitch uses. */
export interface OvsSwitchPort {
  /** The switch's number of it. */
  readonly portId: PortId;
  /** The kernel's number of the device behind it; 0 when there is none. */
  readonly interfaceIndex: number;
  /** Seen from the switch: received came in through it. */
  readonly counters: AdapterCounters;
  /** Give it up. A port that was made for Open vSwitch is removed, one of the configuration stays. */
  close(): void;
}

/** The service `ovs`. */
export interface OvsSurroundings {
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /**
   * Let programs connect to a Unix SOCK_SEQPACKET socket.
   * @param accept called with each connection
   * @throws Error naming the path
   */
  listen(path: string, accept: (transport: PseudoDeviceTransport) => Connection): { close(): void };
  /**
   * A port of the switch: one whose OVS-port-name this is, one that has this device, or a new one.
   * @param onGone the device has vanished
   * @throws OvsError with the errno that openvswitch.ko would give: ENODEV, EBUSY, EEXIST
   */
  open(kind: DeviceKind, name: string, onGone: () => void): OvsSwitchPort;
  /**
   * Optional: a way to send by an interface of the host that is no port of the switch; null when frames cannot be sent there. Left out, tunnels have their ends at ports.
   */
  openInterface?(interfaceIndex: number): OvsDevice | null;
  /** Optional: something that people should know. */
  warn?(message: string): void;
  /** Optional: a packet of this port was lost on its way to a program, as more of the port wait there than may. To be told to people, and seldom. */
  upcallRefused?(portId: PortId): void;
}

/**
 * The service of a switch's surroundings.
 * @throws Error when there is none
 */
export function surroundingsOf(services: Readonly<Record<string, unknown>> | undefined): OvsSurroundings {
  const service = services?.ovs;
  const isService =
    typeof service === 'object' &&
    service !== null &&
    ['nowMs', 'listen', 'open'].every((name) => typeof Reflect.get(service, name) === 'function');
  if (!isService) throw new Error('the extension ovs needs surroundings that offer it ports and a socket');
  return service as OvsSurroundings;
}
