/**
 * Copies of what the kernel carries, for those who want to see packets: while there is somebody, programs copy what is wanted, and the copies are handed to
 * them here, never to the switch. Neighbours: tables/ has the programs, offload/ the channel.
 */
import type { LoopHandler, Poller } from '../../host/index.ts';
import { Clock, ClockId } from '../../host/sys/index.ts';
import { Packet, type PortId, type Region } from '../../net/index.ts';
import { CopyChannel, cpuParts, type FrameCopy } from '../../offload/index.ts';
import { type KeeperHost, messageOf } from '../contract.ts';
import type { PortPrograms } from '../ports/port.ts';
import type { TableSet } from '../tables/table-set.ts';
import { ClockOffset } from './clock-offset.ts';
import { noteOffloads } from './copied-offloads.ts';

/** Room for copies that have not been read: some milliseconds of super-packets. */
const RING_BYTES = 16_777_216;
/** Copies taken at once, so that packets of the switch wait no longer than that. */
const MOST_AT_ONCE = 1024;

/** Who wants to see packets, such as captures. Ports are the switch's, by number. */
export interface CopyTakers {
  /** Whether there is somebody. */
  readonly areThere: boolean;
  /** Most bytes that are wanted of frames of a port; 0 for none. @param isOut of those that go out */
  wantedBytes(portId: PortId, isOut: boolean): number;
  /** A frame that came in or went out. @param missingBytes how many of it are not here */
  offer(packet: Packet, portId: PortId, isOut: boolean, missingBytes: number): void;
  /** So many were wanted, and could not be copied. */
  lose(portId: PortId, isOut: boolean, packets: number): void;
  /** Whether copies can be made may be another than before: they are to ask by {@link CaptureCopies.changed}. */
  changed(): void;
}

/** What of the copies of one port is known. */
interface CopiedPort {
  readonly id: PortId;
  lostIn: number;
  lostOut: number;
}

export class CaptureCopies implements LoopHandler, Poller {
  readonly #host: KeeperHost;
  readonly #tables: TableSet;
  readonly #kept: Iterable<PortPrograms>;
  readonly #take = (copy: FrameCopy): void => this.#offer(copy);
  /** Programs copy, and copies are read. It is there as long as captures are: its memory is mapped. */
  #channel: CopyChannel | null = null;
  #packet: Packet | null = null;
  #lost = 0;
  /** By ifindex. */
  #ports = new Map<number, CopiedPort>();
  /** The verifier takes no programs that copy: not tried again for the same sessions. */
  #isRefused = false;
  #isChanging = false;
  /** From the kernel's clock to that of captures, as of when copies were last taken. */
  readonly #wall = new ClockOffset(new Clock(ClockId.REALTIME), new Clock(ClockId.MONOTONIC));

  constructor(host: KeeperHost, tables: TableSet, ports: Iterable<PortPrograms>) {
    this.#host = host;
    this.#tables = tables;
    this.#kept = ports;
  }

  /**
   * What is wanted has changed. From now on it is offered, as far as the kernel carries it.
   * @returns whether it is; else packets that somebody wants to see have to come up
   */
  changed(): boolean {
    this.#isChanging = true;
    try {
      return this.#change();
    } finally {
      this.#isChanging = false;
    }
  }

  #change(): boolean {
    const { takers } = this.#host;
    if (!takers.areThere) this.#isRefused = false;
    // Without tables there is nothing to copy.
    const isIdle = this.#tables.running().next().done === true;
    if (!takers.areThere || this.#isRefused || isIdle) {
      this.#stop();
      return false;
    }
    try {
      if (this.#tables.setCopies(this.#start().maps)) {
        this.portsChanged();
        return true;
      }
    } catch (error) {
      this.#host.warn(`no copies for captures from the kernel: ${messageOf(error)}`);
    }
    this.#isRefused = true;
    this.#stop();
    return false;
  }

  /** The verifier has refused programs that copy. */
  refused(reason: string): void {
    this.#isRefused = true;
    this.#host.warn(`packets of captures come up, as the verifier takes no program that copies them: ${reason}`);
    if (!this.#isChanging) this.#host.takers.changed();
  }

  #start(): CopyChannel {
    const { loop } = this.#host;
    if (this.#channel !== null) return this.#channel;
    this.#channel = CopyChannel.create({ ringBytes: RING_BYTES, cpus: cpuParts() });
    loop.add(this.#channel.fileDescriptor, this);
    loop.addPoller(this);
    return this.#channel;
  }

  #stop(): void {
    const channel = this.#channel;
    if (channel === null) return;
    const { loop } = this.#host;
    for (const ifindex of this.#ports.keys()) channel.want(ifindex, 0, 0);
    this.drain();
    this.#ports.clear();
    try {
      this.#tables.setCopies(null);
    } catch (error) {
      // They copy nothing that is not wanted.
      this.#host.warn(`programs keep their stage for copies: ${messageOf(error)}`);
    }
    loop.remove(channel.fileDescriptor);
    loop.removePoller(this);
    channel.close();
    this.#channel = null;
    this.#packet = null;
    this.#lost = 0;
  }

  /** Ports have come or gone, or other sessions want them. */
  portsChanged(): void {
    const channel = this.#channel;
    if (channel === null) return;
    this.drain();
    const { takers } = this.#host;
    const before = this.#ports;
    this.#ports = new Map();
    for (const { ifindex, port } of this.#kept) {
      before.delete(ifindex);
      const lostIn = channel.lost(ifindex, false);
      this.#ports.set(ifindex, { id: port.id, lostIn, lostOut: channel.lost(ifindex, true) });
      channel.want(ifindex, takers.wantedBytes(port.id, false), takers.wantedBytes(port.id, true));
    }
    for (const ifindex of before.keys()) channel.want(ifindex, 0, 0);
  }

  /** Offer what was carried until now, or the first part of it. @returns how many were offered; 0 when all are */
  drain(): number {
    return this.poll();
  }

  onReady(): void {
    this.poll();
  }

  onError(): void {
    // A ring has no errors to report.
  }

  poll(): number {
    const channel = this.#channel;
    if (channel === null) return 0;
    if (channel.pendingBytes === 0 && channel.lostInAll === this.#lost) return 0;
    this.#wall.refresh();
    const taken = channel.read(this.#take, MOST_AT_ONCE);
    if (channel.lostInAll !== this.#lost) this.#countLost(channel);
    return taken;
  }

  #countLost(channel: CopyChannel): void {
    const { takers } = this.#host;
    this.#lost = channel.lostInAll;
    for (const [ifindex, port] of this.#ports) {
      const lostIn = channel.lost(ifindex, false);
      const lostOut = channel.lost(ifindex, true);
      if (lostIn !== port.lostIn) takers.lose(port.id, false, (lostIn - port.lostIn) >>> 0);
      if (lostOut !== port.lostOut) takers.lose(port.id, true, (lostOut - port.lostOut) >>> 0);
      port.lostIn = lostIn;
      port.lostOut = lostOut;
    }
  }

  #offer(copy: FrameCopy): void {
    const port = this.#ports.get(copy.ifindex);
    if (port === undefined) return;
    this.#packet ??= packetIn(copy.region);
    const packet = this.#packet;
    packet.offset = copy.offset;
    packet.headroomStart = copy.offset;
    packet.length = copy.lengthBytes;
    packet.limit = copy.offset + copy.lengthBytes;
    this.#stamp(packet, copy.timeNs);
    const missingBytes = copy.originalBytes - copy.lengthBytes;
    noteOffloads(packet, copy.isSuperPacket);
    this.#host.takers.offer(packet, port.id, copy.isOut, missingBytes);
  }

  #stamp(packet: Packet, timeNs: number): void {
    const steadySeconds = Math.floor(timeNs / 1e9);
    let seconds = this.#wall.seconds + steadySeconds;
    let nanoseconds = this.#wall.nanoseconds + (timeNs - steadySeconds * 1e9);
    if (nanoseconds >= 1e9) {
      seconds += 1;
      nanoseconds -= 1e9;
    }
    packet.timestampSeconds = seconds;
    packet.timestampNanoseconds = nanoseconds;
  }

  /** Nothing is copied any more. */
  close(): void {
    this.#stop();
  }
}

/** A packet of nobody, over the channel's memory. */
function packetIn(region: Region): Packet {
  const packet = new Packet({ recycle() {} }, region, 0);
  packet.references = 1;
  return packet;
}
