/**
 * /dev/net/tun: the requests that make a TAP device and talk about it (tun(4), the kernel's tuntap.rst, linux/if_tun.h).
 * tap.ts is the adapter on top.
 */
import {
  Errno,
  FileDescriptor,
  ioctl,
  ioctlNumber,
  isDescriptorShortage,
  NativeBlock,
  Open,
  open,
  SystemError,
} from './sys/index.ts';

/** ioctl numbers, as on all architectures with the generic layout (x86, ARM, RISC-V, s390). */
const Request = {
  SET_DEVICE: 0x400454ca,
  SET_OFFLOAD: 0x400454d0,
  GET_DEVICE: 0x800454d2,
  SET_HEADER_SIZE: 0x400454d8,
  SET_CARRIER: 0x400454e2,
  GET_NAMESPACE: 0x54e3,
} as const;

const Flag = { TAP: 0x2, NO_PI: 0x1000, VNET_HDR: 0x4000, EXCLUSIVE: 0x8000 } as const;

/** TUN_F_*: what a reader of the device takes. */
const Accept = { CSUM: 1, TSO4: 2, TSO6: 4, TSO_ECN: 8, UFO: 0x10, USO4: 0x20, USO6: 0x40 } as const;

const TCP = Accept.CSUM | Accept.TSO4 | Accept.TSO6 | Accept.TSO_ECN;
// Tried from left to right: UDP segmentation is new in Linux 6.2, fragmentation offload comes and goes.
const ACCEPT_CHOICES = [
  TCP | Accept.USO4 | Accept.USO6 | Accept.UFO,
  TCP | Accept.USO4 | Accept.USO6,
  TCP | Accept.UFO,
  TCP,
];

/** A TAP device that exists as long as this is open. */
export class TunDevice {
  readonly #descriptor: FileDescriptor;
  /** Whether the kernel hands over UDP super-packets, and takes them. */
  udpSegmentation = false;

  private constructor(descriptor: FileDescriptor) {
    this.#descriptor = descriptor;
  }

  /** The device behind an open descriptor, which is the result's from here on. Call {@link prepare} before packets pass. */
  static adopt(fd: number): TunDevice {
    return new TunDevice(new FileDescriptor(fd));
  }

  /**
   * Make the device.
   * @param name with `%d` the kernel puts a number there
   * @param headerBytes length of the virtio_net_hdr before each frame
   * @throws SystemError: EBUSY when the name is taken, ENOENT without the driver, EPERM
   */
  static make(name: string, headerBytes: number): TunDevice {
    const doing = `make TAP ${name}`;
    const device = new TunDevice(openDriver(doing));
    try {
      const request = new NativeBlock(40);
      request.setString(0, 16, name);
      request.u16[8] = Flag.TAP | Flag.NO_PI | Flag.VNET_HDR | Flag.EXCLUSIVE;
      device.#create(request, name, doing);
      device.prepare(headerBytes, doing);
      return device;
    } catch (error) {
      device.close();
      throw error;
    }
  }

  /** Say what the reader takes. @throws SystemError */
  prepare(headerBytes: number, doing: string): void {
    const size = new NativeBlock(4);
    size.i32[0] = headerBytes;
    ioctl(this.fileDescriptor, Request.SET_HEADER_SIZE, size, doing);
    this.udpSegmentation = (this.#accept(doing) & Accept.USO4) !== 0;
  }

  get fileDescriptor(): number {
    return this.#descriptor.number;
  }

  #create(request: NativeBlock, name: string, doing: string): void {
    try {
      ioctl(this.fileDescriptor, Request.SET_DEVICE, request, doing);
    } catch (error) {
      if (error instanceof SystemError && (error.errno === Errno.EBUSY || error.errno === Errno.EINVAL)) {
        throw new SystemError(
          'ioctl',
          Errno.EBUSY,
          doing,
          `the name is taken; choose another, or remove ${name} first`,
        );
      }
      throw error;
    }
  }

  #accept(doing: string): number {
    for (const choice of ACCEPT_CHOICES) {
      try {
        ioctlNumber(this.fileDescriptor, Request.SET_OFFLOAD, choice, doing);
        return choice;
      } catch (error) {
        if (!(error instanceof SystemError) || error.errno !== Errno.EINVAL) throw error;
      }
    }
    return 0;
  }

  /** The device's present name. @throws SystemError EBADFD when it has been removed */
  name(): string {
    const request = new NativeBlock(40);
    ioctl(this.fileDescriptor, Request.GET_DEVICE, request, 'look at a TAP');
    return request.getString(0, 16);
  }

  /**
   * The network namespace that the device is in now, as an open reference; null where the kernel does not tell.
   * @throws SystemError when nothing more can be opened
   */
  namespace(): FileDescriptor | null {
    try {
      return new FileDescriptor(
        ioctlNumber(this.fileDescriptor, Request.GET_NAMESPACE, 0, 'find the namespace of a TAP'),
      );
    } catch (error) {
      if (error instanceof SystemError && !isDescriptorShortage(error.errno)) return null;
      throw error;
    }
  }

  /** Plug the cable in or out, as the device's user sees it. @throws SystemError EBADFD when it has been removed */
  setCarrier(on: boolean): void {
    const value = new NativeBlock(4);
    value.i32[0] = on ? 1 : 0;
    ioctl(this.fileDescriptor, Request.SET_CARRIER, value, 'set the carrier of a TAP');
  }

  /** Remove the device. Closing twice is harmless. */
  close(): void {
    this.#descriptor.close();
  }
}

function openDriver(doing: string): FileDescriptor {
  try {
    return open('/dev/net/tun', Open.RDWR | Open.NONBLOCK, doing);
  } catch (error) {
    if (error instanceof SystemError && (error.errno === Errno.ENOENT || error.errno === Errno.ENODEV)) {
      const advice = 'the tun driver is missing: `modprobe tun`, or give the container /dev/net/tun';
      throw new SystemError('open', error.errno, doing, advice);
    }
    throw error;
  }
}
