/**
 * Copies for captures of what the kernel carries: while there are sessions, programs copy what these want, and the copies are handed to the
 * sessions here, never to the switch. Neighbours: flow-tables.ts has the programs, extensions/capture the sessions.
 */
import { CaptureFlag, type CaptureHub, type CopySource } from '../../../extensions/capture/index.ts';
import type { EventLoop, LoopHandler, Poller } from '../../../host/index.ts';
import { Clock, ClockId } from '../../../host/sys/index.ts';
import { Packet, type Region, TagAction } from '../../../net/index.ts';
import { CopyChannel, type CopyMaps, cpuParts, type FrameCopy } from '../../../offload/index.ts';
import { messageOf } from '../../../switch/index.ts';
import { ClockOffset } from './clock-offset.ts';
import { noteOffloads } from './copied-offloads.ts';
import type { PortOffload } from './port-offload.ts';

/** Room for copies that have not been read: some milliseconds of super-packets. */
const RING_BYTES = 16_777_216;
/** Copies taken at once, so that packets of the switch wait no longer than that. */
const MOST_AT_ONCE = 1024;

export interface CopySurroundings {
  readonly loop: EventLoop;
  readonly hub: CaptureHub;
  ports(): Iterable<PortOffload>;
  /** Whether some flows run in the kernel, so that there is something to copy. */
  hasPrograms(): boolean;
  /** Have all programs copy what they carry, or none. @returns whether it is so now */
  setCopies(copies: CopyMaps | null): boolean;
  warn(message: string): void;
}

/** What of the copies of one port is known. */
interface CopiedPort {
  readonly id: number;
  lostIn: number;
  lostOut: number;
}

export class CaptureCopies implements CopySource, LoopHandler, Poller {
  readonly #around: CopySurroundings;
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

  constructor(around: CopySurroundings) {
    this.#around = around;
    around.hub.copyFrom(this);
  }

  changed(): boolean {
    this.#isChanging = true;
    try {
      return this.#change();
    } finally {
      this.#isChanging = false;
    }
  }

  #change(): boolean {
    const { hub, warn } = this.#around;
    if (hub.sessions.length === 0) this.#isRefused = false;
    if (hub.sessions.length === 0 || this.#isRefused || !this.#around.hasPrograms()) {
      this.#stop();
      return false;
    }
    try {
      if (this.#around.setCopies(this.#start().maps)) {
        this.portsChanged();
        return true;
      }
    } catch (error) {
      warn(`no copies for captures from the kernel: ${messageOf(error)}`);
    }
    this.#isRefused = true;
    this.#stop();
    return false;
  }

  /** The verifier has refused programs that copy. */
  refused(reason: string): void {
    this.#isRefused = true;
    this.#around.warn(`packets of captures come up, as the verifier takes no program that copies them: ${reason}`);
    if (!this.#isChanging) this.#around.hub.changed();
  }

  #start(): CopyChannel {
    const { loop } = this.#around;
    if (this.#channel !== null) return this.#channel;
    this.#channel = CopyChannel.create({ ringBytes: RING_BYTES, cpus: cpuParts() });
    loop.add(this.#channel.fileDescriptor, this);
    loop.addPoller(this);
    return this.#channel;
  }

  #stop(): void {
    const channel = this.#channel;
    if (channel === null) return;
    const { loop, setCopies, warn } = this.#around;
    for (const ifindex of this.#ports.keys()) channel.want(ifindex, 0, 0);
    this.drain();
    this.#ports.clear();
    try {
      setCopies(null);
    } catch (error) {
      // They copy nothing that is not wanted.
      warn(`programs keep their stage for copies: ${messageOf(error)}`);
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
    const { hub } = this.#around;
    const before = this.#ports;
    this.#ports = new Map();
    for (const { ifindex, port } of this.#around.ports()) {
      before.delete(ifindex);
      const lostIn = channel.lost(ifindex, false);
      this.#ports.set(ifindex, { id: port.id, lostIn, lostOut: channel.lost(ifindex, true) });
      channel.want(ifindex, hub.wantedBytes(port.id, 0), hub.wantedBytes(port.id, CaptureFlag.OUT));
    }
    for (const ifindex of before.keys()) channel.want(ifindex, 0, 0);
  }

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
    const { hub } = this.#around;
    this.#lost = channel.lostInAll;
    for (const [ifindex, port] of this.#ports) {
      const lostIn = channel.lost(ifindex, false);
      const lostOut = channel.lost(ifindex, true);
      if (lostIn !== port.lostIn) hub.lose(port.id, 0, (lostIn - port.lostIn) >>> 0);
      if (lostOut !== port.lostOut) hub.lose(port.id, CaptureFlag.OUT, (lostOut - port.lostOut) >>> 0);
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
    const direction = copy.isOut ? CaptureFlag.OUT : 0;
    this.#around.hub.offer(packet, TagAction.KEEP, port.id, 0, direction, missingBytes);
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
