/**
 * The device by which frames are handed down to eBPF programs: a TAP whose other side is Millrace alone. What is written to its descriptor comes to the programs at its ingress hook
 * before the call returns, whole: a packet socket on a pair of devices would have the kernel cut super-packets that do not begin with an Ethernet header of their own. What lies before
 * each frame is the caller's; how long it is matters to what is told of checksums and super-packets.
 *
 *      descriptor --> ingress hook of the device --> programs --> wherever they send it
 *
 * The kernel is kept off the device, which goes with the process. Neighbours: tap.ts is a TAP as a port; punt-channel.ts is the way up.
 */
import { type InterfaceIndex, MAC_ADDRESSES_BYTES, type Packet, toInterfaceIndex } from '../net/index.ts';
import { regionAddress } from './frame-vectors.ts';
import { type Isolation, isolate } from './isolation.ts';
import { withRouteClient } from './route-client.ts';
import { lastErrno, NativeBlock, rawWritev } from './sys/index.ts';
import { TunDevice } from './tun-device.ts';
import { VIRTIO_HEADER_BYTES, writeVirtioHeader } from './virtio-header.ts';

/** Room for what lies before a frame. */
const MOST_BEFORE_BYTES = 512;
/** What lies before the frame begins on a boundary of eight bytes, and the virtio header right before that. */
const BEFORE_AT = 16;
const VECTOR_BYTES = 16;
const TAG_BYTES = 4;
const ADDRESS_MODE_NONE = 1;

export class DownDevice {
  readonly interfaceIndex: InterfaceIndex;
  readonly interfaceName: string;
  /** What lies before the next frame is to be written here, from the first byte on. */
  readonly before: Uint8Array;
  readonly #device: TunDevice;
  #isolation: Isolation | null = null;
  readonly #memory = new NativeBlock(BEFORE_AT + MOST_BEFORE_BYTES);
  readonly #vectors = new NativeBlock(3 * VECTOR_BYTES);
  #closed = false;

  /**
   * Make the device; it takes nothing before {@link begin}.
   * @param interfaceName in the calling thread's network namespace
   * @throws SystemError: EBUSY when another interface has the name, ENOENT without the tun driver, EPERM
   */
  constructor(interfaceName: string) {
    this.interfaceName = interfaceName;
    this.before = this.#memory.bytes.subarray(BEFORE_AT, BEFORE_AT + MOST_BEFORE_BYTES);
    this.#device = TunDevice.make(interfaceName, VIRTIO_HEADER_BYTES);
    try {
      this.interfaceIndex = withRouteClient((client) => toInterfaceIndex(client.link(interfaceName).index));
    } catch (error) {
      this.#device.close();
      throw error;
    }
  }

  /** The programs that are to see frames are there: keep the kernel off it, behind them, and set it up. The calling thread is where it was made. @throws SystemError */
  begin(): void {
    this.#isolation ??= isolate(this.interfaceIndex, this.interfaceName);
    withRouteClient((client) => {
      client.changeLink(this.interfaceIndex, { ipv6AddressGenerationMode: ADDRESS_MODE_NONE, arp: false });
      client.changeLink(this.interfaceIndex, { up: true });
    });
  }

  /** Sentences for the user about how the kernel is kept off it. */
  get warnings(): readonly string[] {
    return this.#isolation?.warnings ?? [];
  }

  /**
   * Hand a frame down. The programs are through with it when this returns.
   * @param beforeBytes how much of {@link before} lies before it
   * @param hasTag whether its outer tag is left out: it stands in what lies before it
   * @returns 0, or the errno by which the kernel has refused it
   */
  send(packet: Packet, beforeBytes: number, hasTag: boolean): number {
    const start = regionAddress(packet.region) + packet.offset;
    const left = hasTag ? TAG_BYTES : 0;
    writeVirtioHeader(this.#memory.view, BEFORE_AT - VIRTIO_HEADER_BYTES, packet, beforeBytes - left);
    const before = this.#memory.address + BEFORE_AT - VIRTIO_HEADER_BYTES;
    this.#vector(0, before, VIRTIO_HEADER_BYTES + beforeBytes);
    let count = 2;
    if (hasTag) {
      this.#vector(1, start, MAC_ADDRESSES_BYTES);
      this.#vector(2, start + MAC_ADDRESSES_BYTES + TAG_BYTES, packet.length - MAC_ADDRESSES_BYTES - TAG_BYTES);
      count = 3;
    } else this.#vector(1, start, packet.length);
    return rawWritev(this.#device.fileDescriptor, this.#vectors.address, count) < 0 ? lastErrno() : 0;
  }

  #vector(which: number, address: number, lengthBytes: number): void {
    this.#vectors.setAddress(which * VECTOR_BYTES, address);
    this.#vectors.setAddress(which * VECTOR_BYTES + 8, lengthBytes);
  }

  /** Take the device away. Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#isolation?.close();
    this.#device.close();
  }
}
