/**
 * Packets that wait until a path is known: a few for each path, a bounded number in all, none longer than a few seconds. They lie in memory of their own, made when the first
 * one waits: the ring that a packet came by is filled strictly in turn, and would stop.
 */
import { copyPacket, type Packet, PacketPool, PathState, type PathTaker } from '../../net/index.ts';
import type { CachedPath } from './path.ts';

/** Packets of one asker. */
const ASKER_MAXIMUM = 128;
/** Linux itself keeps some 100 packets for a neighbour (unres_qlen_bytes); several paths may lead by one. */
const EACH_MAXIMUM = 16;
/** Ticks that a packet waits at least; Linux gives a neighbour up after three seconds. */
const PATIENCE_TICKS = 4;
/** Frames, and super-packets. The headroom takes outer headers with all options that they may have. */
const HEADROOM_BYTES = 512;
const SMALL = { packets: 512, bufferBytes: 2048 + HEADROOM_BYTES, headroomBytes: HEADROOM_BYTES };
const LARGE = { packets: 32, bufferBytes: 66_048 + HEADROOM_BYTES, headroomBytes: HEADROOM_BYTES };

interface Waiting {
  readonly packet: Packet;
  readonly taker: PathTaker;
  readonly tick: number;
}

export interface WaitingCounters {
  /** Packets that were kept, refused for want of room, and given back without a path. */
  kept: number;
  refused: number;
  failed: number;
}

export class WaitingPackets {
  readonly counters: WaitingCounters = { kept: 0, refused: 0, failed: 0 };
  readonly #byPath = new Map<CachedPath, Waiting[]>();
  readonly #byAsker = new Map<number, number>();
  #small: PacketPool | null = null;
  #large: PacketPool | null = null;
  #size = 0;

  /** Packets that wait now. */
  get size(): number {
    return this.#size;
  }

  /** Keep a packet. @returns false when there is no room: then its reference stays the caller's */
  keep(path: CachedPath, packet: Packet, taker: PathTaker, tick: number): boolean {
    const { asker } = path.query;
    const ofAsker = this.#byAsker.get(asker) ?? 0;
    const copy = path.waiting < EACH_MAXIMUM && ofAsker < ASKER_MAXIMUM ? this.#copy(packet) : null;
    if (copy === null) {
      this.counters.refused += 1;
      return false;
    }
    packet.release();
    const waiting = this.#byPath.get(path);
    const one = { packet: copy, taker, tick };
    if (waiting === undefined) this.#byPath.set(path, [one]);
    else waiting.push(one);
    path.waiting += 1;
    this.#byAsker.set(asker, ofAsker + 1);
    this.#size += 1;
    this.counters.kept += 1;
    return true;
  }

  #copy(packet: Packet): Packet | null {
    if (packet.length <= SMALL.bufferBytes - HEADROOM_BYTES) {
      this.#small ??= new PacketPool(SMALL);
      return copyPacket(packet, this.#small);
    }
    this.#large ??= new PacketPool(LARGE);
    return copyPacket(packet, this.#large);
  }

  /** Give back what waits for a path. */
  settle(path: CachedPath, state: number): void {
    const waiting = this.#byPath.get(path);
    if (waiting === undefined) return;
    this.#byPath.delete(path);
    for (const one of waiting) this.#give(one, path, state);
  }

  /** Give back what has waited too long. */
  look(tick: number): void {
    for (const [path, waiting] of this.#byPath) {
      // They lie in the order in which they came.
      const late = waiting.findIndex((one) => tick - one.tick <= PATIENCE_TICKS);
      const over = waiting.splice(0, late < 0 ? waiting.length : late);
      if (waiting.length === 0) this.#byPath.delete(path);
      for (const one of over) this.#give(one, path, PathState.NO_NEIGHBOUR);
    }
  }

  #give({ packet, taker }: Waiting, path: CachedPath, state: number): void {
    const { asker } = path.query;
    const ofAsker = (this.#byAsker.get(asker) ?? 1) - 1;
    if (ofAsker === 0) this.#byAsker.delete(asker);
    else this.#byAsker.set(asker, ofAsker);
    path.waiting -= 1;
    this.#size -= 1;
    if (state !== PathState.READY && state !== PathState.LOCAL) this.counters.failed += 1;
    taker.onPath(packet, path, state);
  }

  /** Give back what waits for a taker. */
  giveBack(taker: PathTaker): void {
    for (const [path, waiting] of this.#byPath) {
      const left = waiting.filter((one) => one.taker !== taker);
      const given = waiting.filter((one) => one.taker === taker);
      if (left.length === 0) this.#byPath.delete(path);
      else this.#byPath.set(path, left);
      for (const one of given) this.#give(one, path, PathState.NO_NEIGHBOUR);
    }
  }

  /** Give everything back. */
  close(): void {
    for (const path of [...this.#byPath.keys()]) this.settle(path, PathState.NO_NEIGHBOUR);
  }
}
