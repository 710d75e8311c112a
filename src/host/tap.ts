/**
 * The TAP adapter: makes a network device whose other side is Millrace. What the kernel sends out of the device is received here,
 * and what is transmitted here the kernel receives on it. Super-packets and partial checksums pass both ways (IFF_VNET_HDR).
 * The device vanishes with the adapter.
 */
import {
  BATCH_SIZE,
  type Batch,
  type InterfaceIndex,
  Offload,
  type Packet,
  PacketPool,
  type RefusalListener,
} from '../net/index.ts';
import { newNamespaceId } from '../netlink/index.ts';
import { checkDeviceName, DeviceControl, DeviceFlag } from './device.ts';
import { FrameVectors, regionAddress } from './frame-vectors.ts';
import { takeLeftTap } from './left-taps.ts';
import { countSendError } from './packet-sender.ts';
import { newPortCounters, type PortAdapter, type PortCounters, type PortState } from './port.ts';
import { lockPort } from './port-lock.ts';
import { withRouteClient } from './route-client.ts';
import {
  Clock,
  ClockId,
  Errno,
  type FileDescriptor,
  isDescriptorShortage,
  lastErrno,
  NetworkNamespace,
  rawRead,
  rawWritev,
  Socket,
  SystemError,
  socket,
} from './sys/index.ts';
import { TunDevice } from './tun-device.ts';
import { readVirtioHeader, VIRTIO_HEADER_BYTES } from './virtio-header.ts';

/** How to make a TAP. */
export interface TapOptions {
  /** The device's name, at most 15 bytes; `%d` in it stands for the first free number. */
  interfaceName: string;
  /** The adapter's name; the device's by default. */
  name?: string;
  /** The device's MAC address; the kernel's random choice by default. */
  macAddress?: Uint8Array;
  /** 1500 by default. */
  mtuBytes?: number;
  /** Whether to set it up at once; true by default. */
  up?: boolean;
  /** The network namespace to put it in; the calling thread's by default. The reference stays the caller's. */
  namespace?: NetworkNamespace;
  /** How many received packets may be out at once, of 65 KB each; 64 by default. */
  receiveBuffers?: number;
}

// The longest frame is a super-packet of 65,535 bytes behind an Ethernet header and two tags.
const HEADROOM_BYTES = 192;
const BUFFER_BYTES = 66_048;

/**
 * Make a TAP.
 * @throws SystemError EBUSY when the name is taken, EPERM, ENOENT without the tun driver; RangeError for a wrong name
 */
export function openTap(options: TapOptions): Tap {
  return new Tap(options);
}

/** An open TAP; made by {@link openTap}. */
export class Tap implements PortAdapter {
  readonly kind = 'tap';
  readonly name: string;
  readonly offloads: number;
  readonly warnings: readonly string[] = [];
  readonly counters: PortCounters = newPortCounters();
  interfaceName: string;
  interfaceIndex: InterfaceIndex;
  macAddress: Uint8Array = new Uint8Array(6);
  mtuBytes = 0;
  state: PortState = 'down';
  carrier = false;
  onRefused: RefusalListener | null = null;

  readonly #device: TunDevice;
  readonly #pool: PacketPool;
  readonly #poolAddress: number;
  readonly #vectors = new FrameVectors(1);
  readonly #vectorsAddress: number;
  readonly #clock = new Clock(ClockId.REALTIME);
  /** The buffer for the next frame, so that finding none costs no more than the call. */
  #spare: Packet | null = null;
  /** Which namespace it was made in, and a socket there for questions about it. */
  readonly #home: string;
  readonly #homeSocket: FileDescriptor;
  readonly #homeControl: DeviceControl;
  /** The namespace where the device was when it was last looked at. */
  #whereabouts: string;
  #lock: FileDescriptor | null = null;
  #closed = false;

  constructor(options: TapOptions) {
    checkDeviceName(options.interfaceName);
    this.#pool = new PacketPool({
      packets: Math.max(1, options.receiveBuffers ?? BATCH_SIZE),
      bufferBytes: BUFFER_BYTES,
      headroomBytes: HEADROOM_BYTES,
    });
    this.#poolAddress = regionAddress(this.#pool.region);
    this.#vectorsAddress = this.#vectors.vectorsAddress(0);
    const home = NetworkNamespace.current();
    this.#home = home.identity;
    this.#whereabouts = this.#home;
    home.close();
    this.#homeSocket = openControl(options.interfaceName);
    this.#homeControl = new DeviceControl(this.#homeSocket.number);
    let taken: TunDevice | null = null;
    try {
      taken = takeLeft(options);
      this.#device = taken ?? TunDevice.make(options.interfaceName, VIRTIO_HEADER_BYTES);
    } catch (error) {
      this.#homeSocket.close();
      throw error;
    }
    this.offloads = this.#device.udpSegmentation ? Offload.ALL : Offload.ALL & ~Offload.USO;
    this.interfaceName = options.interfaceName;
    try {
      this.interfaceName = this.#device.name();
      this.name = options.name ?? this.interfaceName;
      if (options.namespace !== undefined && taken === null) this.#moveTo(options.namespace);
      this.#withControl((control) => {
        if (options.macAddress !== undefined) control.setHardwareAddress(this.interfaceName, options.macAddress);
        if (options.mtuBytes !== undefined) control.setMtu(this.interfaceName, options.mtuBytes);
        if (options.up ?? true) control.setUp(this.interfaceName, true);
      });
      this.interfaceIndex = this.#look();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #moveTo(namespace: NetworkNamespace): void {
    withRouteClient((client) => {
      client.changeLink(this.interfaceName, { namespaceDescriptor: namespace.fileDescriptor });
    });
  }

  /** Whether the device is in another namespace than the one that it was made in. */
  get isElsewhere(): boolean {
    return this.#whereabouts !== this.#home;
  }

  /**
   * Ask from inside the namespace where the device is: it can be moved at any time. Nothing is left open in a namespace of others, which
   * would outlive its deletion, and the device with it.
   */
  #withControl<T>(body: (control: DeviceControl) => T): T {
    const reference = this.#device.namespace();
    const there = reference === null ? null : NetworkNamespace.byPath(`/proc/self/fd/${reference.number}`);
    try {
      this.#follow(there);
      if (there === null || !this.isElsewhere) return body(this.#homeControl);
      return there.run(() => {
        const inside = openControl(this.interfaceName);
        try {
          return body(new DeviceControl(inside.number));
        } finally {
          inside.close();
        }
      });
    } finally {
      there?.close();
      reference?.close();
    }
  }

  /** Keep the lock where the device is at home; have a link watch there hear of it elsewhere. */
  #follow(there: NetworkNamespace | null): void {
    const whereabouts = there?.identity ?? this.#home;
    const hasMoved = whereabouts !== this.#whereabouts;
    this.#whereabouts = whereabouts;
    if (!this.isElsewhere) {
      this.#lock ??= lockIfFree(this.#homeControl.indexOf(this.interfaceName), this.interfaceName);
      return;
    }
    this.#lock?.close();
    this.#lock = null;
    if (hasMoved && there !== null) giveId(there);
  }

  get fileDescriptor(): number {
    return this.#device.fileDescriptor;
  }

  receive(batch: Batch, limit: number): number {
    if (this.#closed || this.state === 'gone') return 0;
    const fd = this.#device.fileDescriptor;
    let count = 0;
    while (count < limit) {
      const packet = this.#spare ?? this.#pool.allocate();
      if (packet === null) break;
      const room = packet.limit - packet.offset;
      const read = rawRead(fd, this.#poolAddress + packet.offset - VIRTIO_HEADER_BYTES, VIRTIO_HEADER_BYTES + room);
      if (read < 0) {
        this.#spare = packet;
        this.#readFailed(lastErrno());
        break;
      }
      if (count === 0) this.#clock.read();
      packet.length = read - VIRTIO_HEADER_BYTES;
      if (!this.#accept(packet, room)) {
        this.#spare = packet;
        continue;
      }
      this.#spare = null;
      batch.push(packet);
      count += 1;
    }
    return count;
  }

  /** Fill in a received packet. @returns false when it is to be dropped; it is counted */
  #accept(packet: Packet, room: number): boolean {
    if (packet.length >= room) {
      this.counters.receiveTruncated += 1;
      this.counters.receiveDropped += 1;
      return false;
    }
    const wellFormed =
      packet.length > 0 && readVirtioHeader(packet.region.view, packet.offset - VIRTIO_HEADER_BYTES, packet);
    if (!wellFormed) {
      this.counters.receiveMalformed += 1;
      this.counters.receiveDropped += 1;
      return false;
    }
    packet.timestampSeconds = this.#clock.seconds;
    packet.timestampNanoseconds = this.#clock.nanoseconds;
    this.counters.receivedPackets += 1;
    this.counters.receivedBytes += packet.length;
    return true;
  }

  #readFailed(errno: number): void {
    if (errno !== Errno.EAGAIN && errno !== Errno.EINTR) this.refresh();
  }

  /** Send at once: a TAP takes one frame a call, so that queueing gains nothing. */
  transmit(packet: Packet, tag: number): void {
    if (this.#closed || this.state === 'gone') {
      this.#unsent(Errno.ENODEV, packet.length);
      return;
    }
    const vectors = this.#vectors.set(0, packet, tag);
    if (vectors === 0) {
      this.#unsent(Errno.EINVAL, packet.length);
      return;
    }
    const written = rawWritev(this.#device.fileDescriptor, this.#vectorsAddress, vectors);
    if (written >= 0) {
      this.counters.transmittedPackets += 1;
      this.counters.transmittedBytes += this.#vectors.lengths[0];
      return;
    }
    const errno = lastErrno();
    this.#unsent(errno, this.#vectors.lengths[0]);
    if (errno === Errno.EIO) this.state = 'down';
    else if (errno === Errno.EBADFD) this.refresh();
  }

  #unsent(errno: number, bytes: number): void {
    const refusal = countSendError(this.counters, errno, 1);
    this.onRefused?.(refusal, 1, bytes);
  }

  flush(): void {}

  /** Plug the cable in or out, as the device's user sees it. Nothing happens when the device is gone. */
  setCarrier(on: boolean): void {
    if (this.#closed || this.refresh() === 'gone') return;
    this.#device.setCarrier(on);
    this.refresh();
  }

  /** Where nothing more can be opened, nobody can look: the device is taken for what it was. */
  refresh(): PortState {
    if (this.#closed) return this.state;
    try {
      this.interfaceIndex = this.#look();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (isDescriptorShortage(error.errno)) return this.state;
      this.state = 'gone';
      this.carrier = false;
    }
    return this.state;
  }

  /** @returns the device's number @throws SystemError */
  #look(): InterfaceIndex {
    this.interfaceName = this.#device.name();
    return this.#withControl((control) => {
      const index = control.indexOf(this.interfaceName);
      this.state = (control.flags(this.interfaceName) & DeviceFlag.UP) !== 0 ? 'up' : 'down';
      this.carrier = this.state === 'up' && control.carrier(this.interfaceName);
      this.mtuBytes = control.mtuBytes(this.interfaceName);
      this.macAddress = control.hardwareAddress(this.interfaceName).address;
      return index;
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#spare?.release();
    this.#spare = null;
    this.#homeSocket.close();
    this.#lock?.close();
    this.#device.close();
    this.state = 'gone';
    this.carrier = false;
  }
}

function openControl(interfaceName: string): FileDescriptor {
  return socket(Socket.AF_INET, Socket.DGRAM, 0, `look at ${interfaceName}`);
}

/** Without an id, and without the privilege to give one, changes there are seen only when somebody looks. */
function giveId(namespace: NetworkNamespace): void {
  try {
    withRouteClient((client) => client.request(newNamespaceId(namespace.fileDescriptor)));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

/** Keep packet sockets of Millrace off the device. Whoever was quicker to open one on it keeps that. */
function lockIfFree(interfaceIndex: number, name: string): FileDescriptor | null {
  try {
    return lockPort(interfaceIndex, name);
  } catch (error) {
    if (error instanceof SystemError && error.errno === Errno.EBUSY) return null;
    throw error;
  }
}

/** The device that the process before has left in the place of one that is to be made. */
function takeLeft({ interfaceName, namespace }: TapOptions): TunDevice | null {
  if (namespace !== undefined) return takeLeftTap(interfaceName, namespace, VIRTIO_HEADER_BYTES);
  const here = NetworkNamespace.current();
  try {
    return takeLeftTap(interfaceName, here, VIRTIO_HEADER_BYTES);
  } finally {
    here.close();
  }
}
