/** Frames across adapters in tests: forward between two, run an event loop beside other processes, send and collect frames. */
import { EventLoop, type LoopHandler, type PortAdapter } from '../../src/host/index.ts';
import { type Adapter, BATCH_SIZE, Batch, type Packet, PacketPool, TagAction } from '../../src/net/index.ts';
import type { Lab } from './lab.ts';

/** What one direction of a {@link Wire} does to each frame. */
export interface DirectionOptions {
  /** What to do with its VLAN tag on the way out, as in Adapter.transmit. */
  tag?: number;
  /** Look at each packet before it is sent. */
  look?: (packet: Packet) => void;
}

/** One direction: what comes in at one adapter goes out at the other. */
class Direction implements LoopHandler {
  readonly from: Adapter;
  readonly #to: Adapter;
  readonly #options: DirectionOptions;
  readonly #batch = new Batch();

  constructor(from: Adapter, to: Adapter, options: DirectionOptions) {
    this.from = from;
    this.#to = to;
    this.#options = options;
  }

  onReady(): void {
    const count = this.from.receive(this.#batch, BATCH_SIZE);
    const tag = this.#options.tag ?? TagAction.KEEP;
    for (let i = 0; i < count; i += 1) {
      this.#options.look?.(this.#batch.packets[i]);
      this.#to.transmit(this.#batch.packets[i], tag);
    }
    this.#to.flush();
    this.#batch.releaseAll();
  }

  onError(): void {
    (this.from as Partial<PortAdapter>).refresh?.();
  }
}

/** Connect two adapters in both directions on a loop: the simplest switch there is. */
export function wire(
  loop: EventLoop,
  a: Adapter,
  b: Adapter,
  options: { aToB?: DirectionOptions; bToA?: DirectionOptions } = {},
): void {
  for (const direction of [new Direction(a, b, options.aToB ?? {}), new Direction(b, a, options.bToA ?? {})]) {
    loop.add(direction.from.fileDescriptor, direction);
  }
}

/** An event loop that the lab closes. */
export function labLoop(lab: Lab): EventLoop {
  return lab.own(new EventLoop());
}

/** Run a loop on this thread while something asynchronous goes on, such as a child process. @returns its result */
export async function runWhile<Result>(loop: EventLoop, pending: Promise<Result>): Promise<Result> {
  let settled = false;
  const mark = (): void => {
    settled = true;
  };
  pending.then(mark, mark);
  while (!settled) {
    // A few turns of ours for each of Node's: its own cost more.
    for (let turn = 0; turn < 32; turn += 1) if (!loop.poll(1)) break;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return pending;
}

/** Run a loop until something is so. @throws Error when it is not so in time */
export function runUntil(loop: EventLoop, what: string, condition: () => boolean, timeoutMs = 5000): void {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    loop.poll(5);
  }
}

/** Packets made from bytes, for {@link Adapter.transmit}. */
export class FrameSource {
  readonly #pool = new PacketPool({ packets: 256, bufferBytes: 70_000 });

  /** A packet that holds a copy of a frame, offloads cleared. Release it after it was sent. */
  packet(frame: Uint8Array): Packet {
    const packet = this.#pool.allocate();
    if (packet === null) throw new Error('all packets of the source are in use');
    packet.bytes.set(frame, packet.offset);
    packet.length = frame.length;
    return packet;
  }

  /** Send frames through an adapter. */
  send(adapter: Adapter, frames: readonly Uint8Array[], tag: number = TagAction.KEEP): void {
    const packets = frames.map((frame) => this.packet(frame));
    for (const packet of packets) adapter.transmit(packet, tag);
    adapter.flush();
    for (const packet of packets) packet.release();
  }
}

/**
 * Take frames from an adapter, as copies, until enough have come.
 * @param accept which frames count; others are dropped
 * @throws Error when they do not come in time
 */
export async function collect(
  adapter: Adapter,
  count: number,
  accept: (frame: Uint8Array) => boolean = () => true,
  timeoutMs = 3000,
): Promise<Uint8Array[]> {
  const batch = new Batch();
  const frames: Uint8Array[] = [];
  const deadline = performance.now() + timeoutMs;
  while (frames.length < count) {
    const received = adapter.receive(batch, BATCH_SIZE);
    for (let i = 0; i < received; i += 1) {
      const frame = batch.packets[i].frame();
      if (accept(frame)) frames.push(frame.slice());
    }
    batch.releaseAll();
    if (received > 0) continue;
    if (performance.now() > deadline) {
      throw new Error(`${frames.length} of ${count} frames came within ${timeoutMs} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return frames;
}

/** Bytes from hexadecimal text; blanks are ignored. */
export function hex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
}

/** A broadcast frame of an EtherType that no stack answers (88b5, for local experiments), filled to a length with a pattern. */
export function testFrame(lengthBytes: number, mark = 0): Uint8Array {
  const frame = new Uint8Array(lengthBytes);
  frame.set(hex('ffffffffffff 02000000000a 88b5'));
  for (let i = 14; i < lengthBytes; i += 1) frame[i] = (mark + i) & 0xff;
  return frame;
}

/** Whether a frame is one of {@link testFrame}'s, with however many tags. */
export function isTestFrame(frame: Uint8Array): boolean {
  let at = 12;
  while ((frame[at] === 0x81 && frame[at + 1] === 0) || (frame[at] === 0x88 && frame[at + 1] === 0xa8)) at += 4;
  return frame[at] === 0x88 && frame[at + 1] === 0xb5;
}
