/**
 * The AF_PACKET adapter: takes over an existing network device in place. Frames arrive in a ring shared with the kernel
 * (packet-rx-ring.ts) and leave by sendmmsg or a second ring (packet-sender.ts, packet-tx-ring.ts). PACKET_VNET_HDR carries super-packets
 * and partial checksums through. While the adapter is open the kernel's own stack is kept off the device (isolation.ts).
 *
 * Open it in the network namespace of the device (namespace.ts); afterwards it works from any.
 * What it sends goes through the device's queueing disciplines and past its taps, as the bridge's frames do: tcpdump there shows both directions.
 */
import { release } from 'node:os';
import { type Batch, type InterfaceIndex, Offload, type Packet, type RefusalListener } from '../net/index.ts';
import { checkDeviceName, DeviceControl, DeviceFlag, HardwareType } from './device.ts';
import { SEND_MARK } from './drop-program.ts';
import { type Isolation, type IsolationMeans, isolate } from './isolation.ts';
import { LongFrameSender } from './long-frames.ts';
import { ReceiveRing, type RingGeometry } from './packet-rx-ring.ts';
import { countSendError, type FrameSender, MessageSender, type SenderListener } from './packet-sender.ts';
import { RingSender } from './packet-tx-ring.ts';
import { newPortCounters, type PortAdapter, type PortCounters, type PortState } from './port.ts';
import { lockPort } from './port-lock.ts';
import { withRouteClient } from './route-client.ts';
import {
  bind,
  Errno,
  type FileDescriptor,
  getOption,
  hostToNetwork16,
  hurried,
  type Mapping,
  mmap,
  NativeBlock,
  Socket,
  SystemError,
  setNumberOption,
  setOption,
  socket,
  socketName,
  tryNumberOption,
} from './sys/index.ts';

/** Socket options at level SOL_PACKET (linux/if_packet.h). */
const Option = {
  ADD_MEMBERSHIP: 1,
  RX_RING: 5,
  STATISTICS: 6,
  ORIGINAL_DEVICE: 9,
  VERSION: 10,
  RESERVE: 12,
  TX_RING: 13,
  LOSS: 14,
  VNET_HDR: 15,
  QDISC_BYPASS: 20,
  IGNORE_OUTGOING: 23,
} as const;

const TPACKET_V2 = 1;
const ETH_P_ALL = 3;
const MEMBERSHIP_PROMISCUOUS = 1;
const SOCKADDR_LL_BYTES = 20;

// One super-packet of 64 KB, its headers and the headroom; 17 pages, so that 15 slots make a block of 255 pages, which wastes
// one page in 256 of what the kernel's allocator hands out.
const SLOT_BYTES = 69_632;
const SLOTS_PER_BLOCK = 15;
// Frame data begins at 66 + virtio header + reserve, for Ethernet: with 134 the layer-3 header lies on a 16-byte boundary.
const RESERVE_BYTES = 134;
// Frames wait in the receiving stack, not with us; this only has to be more than a batch of super-packets.
const SEND_BUFFER_BYTES = 16 << 20;

/** How to take over a device. */
export interface PacketSocketOptions {
  /** The device's name. */
  interfaceName: string;
  /** The adapter's name; the device's by default. */
  name?: string;
  /** Slots of the receive ring, of 68 KB each, rounded up to a multiple of 15; by default 128. */
  receiveSlots?: number;
  /** False for a port whose frames come in by another way (punt-channel.ts): it only sends, and has no receive ring. */
  receive?: boolean;
  /** Tell with {@link PacketSocket.originOf} by which device a packet came into the system; false by default. */
  originalDevice?: boolean;
  /** How frames leave: 'sendmmsg' (the default) or 'ring'. */
  transmit?: 'sendmmsg' | 'ring';
  /** Slots of the transmit ring when there is one; 64 by default. */
  transmitSlots?: number;
  /** Receive frames for other MAC addresses, too; true by default. */
  promiscuous?: boolean;
  /** Set a device up that is down, and down again in the end, unless somebody else has set it down meanwhile; 'for good': and leave it up. True by default. */
  bringUp?: boolean | 'for good';
  /** Keep the kernel's stack off the device; true by default. 'tc-filter' does it as on kernels before 6.6. */
  isolate?: boolean | 'tc-filter';
  /** Refuse a device that is another one's port, of the switch or of a bridge; true by default. False for one that only sends beside others. */
  sole?: boolean;
}

/**
 * Take over a device.
 * @throws SystemError ENODEV, EBUSY (taken by another port), EPERM, ENOMEM; RangeError for options and devices that make no sense
 */
export function openPacketSocket(options: PacketSocketOptions): PacketSocket {
  return new PacketSocket(options);
}

/** An open packet socket; made by {@link openPacketSocket}. */
export class PacketSocket implements PortAdapter, SenderListener {
  readonly kind = 'packet';
  readonly name: string;
  readonly interfaceIndex: InterfaceIndex;
  readonly offloads: number = kernelAtLeast(6, 2) ? Offload.ALL : Offload.ALL & ~Offload.USO;
  readonly warnings: string[] = [];
  interfaceName: string;
  macAddress: Uint8Array = new Uint8Array(6);
  mtuBytes = 0;
  state: PortState = 'up';
  carrier = false;
  onRefused: RefusalListener | null = null;
  /** How the kernel's own stack is kept off the device. */
  readonly isolation: IsolationMeans;

  readonly #isolation: Isolation | null;
  readonly #counters = newPortCounters();
  readonly #resources: { close(): void }[] = [];
  readonly #socket: FileDescriptor;
  readonly #control: DeviceControl;
  readonly #ring: ReceiveRing | null = null;
  readonly #sender: FrameSender;
  readonly #ringSender: RingSender | null;
  readonly #long: LongFrameSender;
  readonly #statistics = new NativeBlock(8);
  #broughtUp = false;
  #closed = false;

  constructor(options: PacketSocketOptions) {
    checkDeviceName(options.interfaceName);
    this.interfaceName = options.interfaceName;
    this.name = options.name ?? options.interfaceName;
    const doing = `take over ${this.interfaceName}`;
    try {
      // Protocol 0: nothing is received before the ring is there and the socket is bound.
      this.#socket = this.#own(socket(Socket.AF_PACKET, Socket.RAW, 0, doing));
      this.#control = new DeviceControl(this.#socket.number);
      this.interfaceIndex = this.#control.indexOf(this.interfaceName);
      const { sole = true } = options;
      this.#refuseUnsuitable(sole);
      if (sole) this.#own(lockPort(this.interfaceIndex, this.interfaceName));

      const receive = options.receive === false ? null : geometry(options.receiveSlots ?? 128, 'receiveSlots');
      const transmit = options.transmit === 'ring' ? geometry(options.transmitSlots ?? 64, 'transmitSlots') : null;
      this.#setOptions(options.originalDevice ?? false, transmit !== null, doing);
      const mapping = this.#makeRings(receive, transmit, doing);
      if (receive !== null && mapping !== null) {
        this.#ring = this.#own(new ReceiveRing(mapping, receive, this.#counters, options.originalDevice));
      } else if (mapping !== null) this.#own({ close: mapping.unmap });
      const start = receive === null ? 0 : receive.slots * receive.slotBytes;
      const fd = this.#socket.number;
      this.#long = this.#own(new LongFrameSender(this.interfaceIndex));
      this.#ringSender =
        transmit && mapping && new RingSender(fd, mapping, start, transmit, this.#counters, this, this.#long);
      this.#sender = this.#ringSender ?? new MessageSender(fd, this.#counters, this, this.#long);

      this.#isolation =
        options.isolate === false
          ? null
          : this.#own(isolate(this.interfaceIndex, this.interfaceName, options.isolate !== 'tc-filter'));
      this.isolation = this.#isolation?.means ?? 'none';
      this.#passIsolation(doing);
      if (this.#isolation !== null) this.warnings.push(...this.#isolation.warnings);
      if (options.bringUp !== false) this.#bringUp(options.bringUp === 'for good');
      this.#bind(receive !== null, options.promiscuous ?? true, doing);
      this.refresh();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Counters; reading them asks the kernel for the frames it had no slot for. */
  get counters(): PortCounters {
    this.#readStatistics();
    return this.#counters;
  }

  /** Whether it takes frames in itself. */
  get hasRing(): boolean {
    return this.#ring !== null;
  }

  get fileDescriptor(): number {
    return this.#socket.number;
  }

  receive(batch: Batch, limit: number): number {
    const ring = this.#ring;
    if (this.#closed || ring === null) return 0;
    const count = ring.receive(batch, limit);
    if (ring.losing) this.#readStatistics();
    return count;
  }

  /**
   * The interface index of the device by which a packet came into the system, for a socket opened with `originalDevice`. It differs from
   * this socket's device when a program or a stacked device (bond, VLAN) handed the packet on.
   * @param packet received from this socket and not yet released
   */
  originOf(packet: Packet): number {
    return this.#ring === null ? 0 : this.#ring.originOf(packet);
  }

  /** Length of the record that came before a packet, as with {@link originOf}; 0 for none. See packet-rx-ring.ts. */
  recordLengthOf(packet: Packet): number {
    return this.#ring === null ? 0 : this.#ring.recordLengthOf(packet);
  }

  /** Where that record begins in the packet's region. */
  recordStartOf(packet: Packet): number {
    return this.#ring === null ? 0 : this.#ring.recordStartOf(packet);
  }

  transmit(packet: Packet, tag: number): void {
    if (this.#closed || this.state === 'gone') {
      this.onUnsent(Errno.ENODEV, 1, packet.length);
      return;
    }
    this.#sender.queue(packet, tag);
  }

  flush(): void {
    if (!this.#closed) this.#sender.flush();
  }

  onUnsent(errno: number, frames: number, bytes: number): void {
    const refusal = countSendError(this.#counters, errno, frames);
    this.onRefused?.(refusal, frames, bytes);
  }

  onLinkFailure(gone: boolean): void {
    this.state = gone ? 'gone' : 'down';
    this.carrier = false;
  }

  refresh(): PortState {
    if (this.#closed) return this.state;
    try {
      if (!this.#isBound()) throw new SystemError('getsockname', Errno.ENODEV, 'find the interface');
      this.interfaceName = this.#control.nameOf(this.interfaceIndex);
      const flags = this.#control.flags(this.interfaceName);
      this.state = (flags & DeviceFlag.UP) !== 0 ? 'up' : 'down';
      // Who has set it down decides from now on whether it is up.
      if (this.state === 'down') this.#broughtUp = false;
      this.carrier = this.state === 'up' && this.#control.carrier(this.interfaceName);
      this.mtuBytes = this.#control.mtuBytes(this.interfaceName);
      if (this.#ringSender !== null) this.#ringSender.mtuBytes = this.mtuBytes;
      this.#long.mtuBytes = this.mtuBytes;
      this.macAddress = this.#control.hardwareAddress(this.interfaceName).address;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.onLinkFailure(true);
    }
    return this.state;
  }

  /** The kernel unbinds the socket (index -1) when the device goes, even if the number is used again. @throws SystemError */
  #isBound(): boolean {
    const address = new NativeBlock(SOCKADDR_LL_BYTES);
    socketName(this.#socket.number, address, SOCKADDR_LL_BYTES, `look at ${this.interfaceName}`);
    return address.i32[1] === this.interfaceIndex;
  }

  /**
   * See whether the kernel's own stack is still kept off the device, and keep it off again when somebody has taken the programs off that do so.
   * The calling thread has to be in the device's network namespace. The kernel answers under the lock of all interfaces.
   * @returns whether somebody had
   * @throws SystemError when they cannot be put back
   */
  keepIsolated(): boolean {
    if (this.#closed || this.#isolation === null) return false;
    // With a device its programs go.
    if (!this.#isBound() || this.#isolation.holds()) return false;
    this.#isolation.putBack();
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // Down before the kernel is let back in, so that it sends nothing from a port it never had up.
    if (this.#broughtUp) {
      try {
        const name = this.#control.nameOf(this.interfaceIndex);
        if (this.state !== 'gone') this.#control.setUp(name, false);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
      }
    }
    hurried(() => {
      for (let i = this.#resources.length - 1; i >= 0; i -= 1) this.#resources[i].close();
    });
    this.state = 'gone';
    this.carrier = false;
  }

  #own<Resource extends { close(): void }>(resource: Resource): Resource {
    this.#resources.push(resource);
    return resource;
  }

  #refuseUnsuitable(sole: boolean): void {
    const name = this.interfaceName;
    const { type } = this.#control.hardwareAddress(name);
    if (type === HardwareType.LOOPBACK) {
      throw new RangeError(`${name} is the loopback interface, which the kernel needs for itself; choose another port`);
    }
    if (type !== HardwareType.ETHERNET) {
      throw new RangeError(`${name} is no Ethernet interface (hardware type ${type}), and a port has to be one`);
    }
    if (!sole) return;
    withRouteClient((client) => {
      const masterIndex = client.link(this.interfaceIndex).masterIndex ?? 0;
      if (masterIndex === 0) return;
      const master = client.findLink(masterIndex);
      const kind = master?.info?.kind ?? 'link';
      const which = `${kind} ${master?.name ?? `number ${masterIndex}`}`;
      throw new RangeError(
        `${name} belongs to the ${which}; take it out first (ip link set dev ${name} nomaster) or choose the ${kind} itself`,
      );
    });
  }

  #setOptions(originalDevice: boolean, hasTransmitRing: boolean, doing: string): void {
    const fd = this.#socket.number;
    const set = (option: number, value: number) => setNumberOption(fd, Socket.SOL_PACKET, option, value, doing);
    set(Option.VERSION, TPACKET_V2);
    set(Option.VNET_HDR, 1);
    set(Option.RESERVE, RESERVE_BYTES);
    // Linux 4.20; older kernels would hand us our own frames, which a switch must not see.
    set(Option.IGNORE_OUTGOING, 1);
    if (originalDevice) set(Option.ORIGINAL_DEVICE, 1);
    if (!tryNumberOption(fd, Socket.SOL_SOCKET, Socket.SO_SNDBUFFORCE, SEND_BUFFER_BYTES)) {
      tryNumberOption(fd, Socket.SOL_SOCKET, Socket.SO_SNDBUF, SEND_BUFFER_BYTES);
    }
    // Skip frames that are not acceptable, rather than stop at them. Only before there is a ring.
    if (hasTransmitRing) set(Option.LOSS, 1);
  }

  /** Let what is sent pass the programs that keep the kernel off; filters let nothing pass, so the socket sends past them, unseen by taps. */
  #passIsolation(doing: string): void {
    const fd = this.#socket.number;
    if (this.isolation === 'tcx') setNumberOption(fd, Socket.SOL_SOCKET, Socket.SO_MARK, SEND_MARK, doing);
    else if (this.isolation === 'tc-filter') setNumberOption(fd, Socket.SOL_PACKET, Option.QDISC_BYPASS, 1, doing);
  }

  #makeRings(receive: RingGeometry | null, transmit: RingGeometry | null, doing: string): Mapping | null {
    if (receive !== null) this.#setRing(Option.RX_RING, receive, doing);
    if (transmit !== null) this.#setRing(Option.TX_RING, transmit, doing);
    const slots = (receive?.slots ?? 0) + (transmit?.slots ?? 0);
    return slots === 0 ? null : mmap(this.#socket.number, slots * SLOT_BYTES, { doing });
  }

  #setRing(option: number, ring: RingGeometry, doing: string): void {
    // struct tpacket_req: block size, blocks, frame size, frames.
    const request = new NativeBlock(16);
    request.u32[0] = ring.slotBytes * SLOTS_PER_BLOCK;
    request.u32[1] = ring.slots / SLOTS_PER_BLOCK;
    request.u32[2] = ring.slotBytes;
    request.u32[3] = ring.slots;
    const what = `${doing} with ${ring.slots} slots`;
    // The socket stands aside for a grace period while its ring is made.
    hurried(() => setOption(this.#socket.number, Socket.SOL_PACKET, option, request, 16, what));
  }

  #bringUp(forGood: boolean): void {
    if ((this.#control.flags(this.interfaceName) & DeviceFlag.UP) !== 0) return;
    this.#control.setUp(this.interfaceName, true);
    this.#broughtUp = !forGood;
  }

  #bind(receives: boolean, promiscuous: boolean, doing: string): void {
    const fd = this.#socket.number;
    if (promiscuous) {
      // struct packet_mreq: index, type, address length, address; it ends with the socket.
      const membership = new NativeBlock(16);
      membership.i32[0] = this.interfaceIndex;
      membership.u16[2] = MEMBERSHIP_PROMISCUOUS;
      setOption(fd, Socket.SOL_PACKET, Option.ADD_MEMBERSHIP, membership, 16, doing);
    }
    const address = new NativeBlock(SOCKADDR_LL_BYTES);
    address.u16[0] = Socket.AF_PACKET;
    // Protocol 0 ties the socket to the device for sending alone.
    address.u16[1] = receives ? hostToNetwork16(ETH_P_ALL) : 0;
    address.i32[1] = this.interfaceIndex;
    bind(fd, address, SOCKADDR_LL_BYTES, doing);
  }

  /** Fold the kernel's count of frames without a slot into ours; reading it sets it back to zero. */
  #readStatistics(): void {
    if (this.#closed || this.#ring === null) return;
    this.#ring.losing = false;
    try {
      getOption(this.#socket.number, Socket.SOL_PACKET, Option.STATISTICS, this.#statistics, 8, 'read ring statistics');
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return;
    }
    const dropped = this.#statistics.u32[1];
    this.#counters.receiveRingFull += dropped;
    this.#counters.receiveDropped += dropped;
  }
}

function geometry(slots: number, option: string): RingGeometry {
  if (!Number.isInteger(slots) || slots < 1 || slots > 16_384) {
    throw new RangeError(`${option} must be a whole number from 1 to 16384, not ${slots}`);
  }
  return { slots: Math.ceil(slots / SLOTS_PER_BLOCK) * SLOTS_PER_BLOCK, slotBytes: SLOT_BYTES };
}

function kernelAtLeast(major: number, minor: number): boolean {
  const [theirMajor = 0, theirMinor = 0] = release().split('.').map(Number);
  return theirMajor > major || (theirMajor === major && theirMinor >= minor);
}
