/**
 * What adapters of real network devices have beyond the adapter contract of net/: the state of the device, and counters
 * that tell why frames were lost. packet-socket.ts and tap.ts implement it; the daemon watches it.
 */
import { type Adapter, type AdapterCounters, type InterfaceIndex, newCounters } from '../net/index.ts';

/** up: works. down: administratively down; comes back by itself. gone: the device does not exist any more; only closing helps. */
export type PortState = 'up' | 'down' | 'gone';

/** Counters of a device port. The first six are the contract's; each loss below is also part of a sum there. */
export interface PortCounters extends AdapterCounters {
  /** Frames longer than a ring slot or buffer. In receiveDropped. */
  receiveTruncated: number;
  /** Frames whose offload metadata contradicts them. In receiveDropped. */
  receiveMalformed: number;
  /** Frames the kernel found no free slot for. In receiveDropped. */
  receiveRingFull: number;
  /** Frames longer than the device's MTU. In transmitDropped. */
  transmitTooLong: number;
  /** Frames the kernel did not accept: too short, or with impossible offload metadata. In transmitDropped. */
  transmitRejected: number;
  /** Frames that found the device's queue or the socket's buffer full. In transmitDropped. */
  transmitQueueFull: number;
  /** Frames for a device that is down or gone. In transmitDropped. */
  transmitDown: number;
}

/** Fresh counters, all zero. */
export function newPortCounters(): PortCounters {
  return {
    ...newCounters(),
    receiveTruncated: 0,
    receiveMalformed: 0,
    receiveRingFull: 0,
    transmitTooLong: 0,
    transmitRejected: 0,
    transmitQueueFull: 0,
    transmitDown: 0,
  };
}

/** An adapter on a network device of the kernel. */
export interface PortAdapter extends Adapter {
  readonly counters: PortCounters;
  /** As last seen; {@link refresh} looks again. */
  readonly state: PortState;
  /** Whether the link has a carrier; false when not up. */
  readonly carrier: boolean;
  /** The device's present name in the kernel; it can be renamed. */
  readonly interfaceName: string;
  /** The kernel's number for the device; unlike the name it never changes. */
  readonly interfaceIndex: InterfaceIndex;
  /** What the caller should tell the user: things that could not be done but do not prevent the port from working. */
  readonly warnings: readonly string[];

  /**
   * Look at the device: state, carrier, name, MTU, MAC address. Call it when the link watch reports the device, or when
   * the event loop reports an error of the descriptor.
   * @returns the state
   */
  refresh(): PortState;
}
