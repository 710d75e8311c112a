/**
 * Questions and requests about one network device through the old interface ioctls (netdevice(7)). They work on any socket
 * and in the network namespace where that socket was made, which is why ports use them on their own descriptors: a port goes on
 * working when its thread is in another namespace. Everything about links in general is in route-client.ts (rtnetlink).
 */
import { type InterfaceIndex, toInterfaceIndex } from '../net/index.ts';
import { ioctl, NativeBlock, SystemError } from './sys/index.ts';

const Request = {
  GET_NAME: 0x8910,
  GET_FLAGS: 0x8913,
  SET_FLAGS: 0x8914,
  GET_MTU: 0x8921,
  SET_MTU: 0x8922,
  SET_ADDRESS: 0x8924,
  GET_ADDRESS: 0x8927,
  GET_INDEX: 0x8933,
  ETHTOOL: 0x8946,
} as const;

/** Device flags (linux/if.h) that ports look at. */
export const DeviceFlag = { UP: 0x1, LOOPBACK: 0x8, RUNNING: 0x40 } as const;

/** Hardware types (linux/if_arp.h) that ports tell apart. */
export const HardwareType = { ETHERNET: 1, LOOPBACK: 772 } as const;

/** Longest device name in bytes (IFNAMSIZ less the terminating zero). */
export const NAME_BYTES = 15;

// struct ifreq: 16 bytes of name, then a union.
const REQUEST_BYTES = 40;
const VALUE_AT = 16;
// struct ethtool_value: command, result.
const ETHTOOL_GLINK = 0x0a;

/**
 * Check a device name as the kernel does (dev_valid_name), so that a wrong one gets a clear answer.
 * @throws RangeError
 */
export function checkDeviceName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes === 0 || bytes > NAME_BYTES) {
    throw new RangeError(`'${name}' is no interface name: it needs 1 to ${NAME_BYTES} bytes, this has ${bytes}`);
  }
  if (name === '.' || name === '..' || /[/:\s\0]/.test(name)) {
    throw new RangeError(`'${name}' is no interface name: '/', ':' and blanks are not allowed`);
  }
}

/** The ioctls on one socket. All methods throw SystemError, ENODEV when there is no such device. */
export class DeviceControl {
  readonly #fd: number;
  readonly #request = new NativeBlock(REQUEST_BYTES);
  readonly #ethtool = new NativeBlock(8);

  /** @param fd a socket of any kind (for a TAP: its own descriptor); it stays the caller's */
  constructor(fd: number) {
    this.#fd = fd;
  }

  indexOf(name: string): InterfaceIndex {
    this.#call(name, Request.GET_INDEX, 'find interface');
    return toInterfaceIndex(this.#request.i32[VALUE_AT / 4]);
  }

  nameOf(index: number): string {
    this.#request.bytes.fill(0);
    this.#request.i32[VALUE_AT / 4] = index;
    ioctl(this.#fd, Request.GET_NAME, this.#request, `find interface number ${index}`);
    return this.#request.getString(0, 16);
  }

  /** Or-ed {@link DeviceFlag} bits and others. */
  flags(name: string): number {
    this.#call(name, Request.GET_FLAGS, 'read the flags of');
    return this.#request.u16[VALUE_AT / 2];
  }

  setUp(name: string, up: boolean): void {
    const flags = this.flags(name);
    const wanted = up ? flags | DeviceFlag.UP : flags & ~DeviceFlag.UP;
    if (wanted === flags) return;
    this.#request.u16[VALUE_AT / 2] = wanted;
    ioctl(this.#fd, Request.SET_FLAGS, this.#request, `set ${name} ${up ? 'up' : 'down'}`);
  }

  /** Whether the link has a carrier now; the flag RUNNING tells only when the kernel has had time to think about it. */
  carrier(name: string): boolean {
    const running = (this.flags(name) & DeviceFlag.RUNNING) !== 0;
    this.#ethtool.u32[0] = ETHTOOL_GLINK;
    this.#name(name);
    this.#request.setAddress(VALUE_AT, this.#ethtool.address);
    try {
      ioctl(this.#fd, Request.ETHTOOL, this.#request, `ask ${name} for its carrier`);
    } catch (error) {
      // A driver without this question.
      if (error instanceof SystemError && error.code === 'EOPNOTSUPP') return running;
      throw error;
    }
    return this.#ethtool.u32[1] !== 0;
  }

  mtuBytes(name: string): number {
    this.#call(name, Request.GET_MTU, 'read the MTU of');
    return this.#request.i32[VALUE_AT / 4];
  }

  setMtu(name: string, mtuBytes: number): void {
    this.#name(name);
    this.#request.i32[VALUE_AT / 4] = mtuBytes;
    ioctl(this.#fd, Request.SET_MTU, this.#request, `set the MTU of ${name} to ${mtuBytes}`);
  }

  /** The hardware address, six bytes of a fresh array, and its {@link HardwareType}. */
  hardwareAddress(name: string): { type: number; address: Uint8Array } {
    this.#call(name, Request.GET_ADDRESS, 'read the address of');
    return {
      type: this.#request.u16[VALUE_AT / 2],
      address: this.#request.bytes.slice(VALUE_AT + 2, VALUE_AT + 8),
    };
  }

  /** @param address six bytes, no group address */
  setHardwareAddress(name: string, address: Uint8Array): void {
    this.#name(name);
    this.#request.u16[VALUE_AT / 2] = HardwareType.ETHERNET;
    this.#request.bytes.set(address.subarray(0, 6), VALUE_AT + 2);
    ioctl(this.#fd, Request.SET_ADDRESS, this.#request, `set the MAC address of ${name}`);
  }

  #name(name: string): void {
    this.#request.bytes.fill(0);
    this.#request.setString(0, 16, name);
  }

  #call(name: string, request: number, doing: string): void {
    this.#name(name);
    ioctl(this.#fd, request, this.#request, `${doing} ${name}`);
  }
}
