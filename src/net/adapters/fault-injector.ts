/**
 * FaultInjector: a bad link around a good adapter. Frames are lost, doubled, delayed behind later ones, or have a bit flipped, each with its own
 * probability and per direction; the same seed gives the same faults for the same frames.
 */

import type { Adapter } from '../adapter.ts';
import type { Batch } from '../batch.ts';
import { copyPacket } from '../copy.ts';
import type { Packet } from '../packet.ts';
import { PacketPool } from '../pool.ts';
import { applyTagAction, TagResult } from '../vlan.ts';
import { AdapterAround } from './around.ts';
import { PacketQueue } from './packet-queue.ts';
import { bufferSettings } from './settings.ts';

/** Probabilities from 0 to 1, each asked of every frame in this order. */
export interface FaultRates {
  loss?: number;
  corruption?: number;
  duplication?: number;
  /** Held back until the next flush (transmit) or the next receive, and so overtaken by what follows. */
  reordering?: number;
}

/** How often what happened. */
export interface FaultCounters {
  lost: number;
  corrupted: number;
  duplicated: number;
  reordered: number;
}

/** Most frames that are held back at once, per direction; a frame beyond is passed on at once. */
const HELD_PACKETS = 64;

/** An adapter around another one. */
export class FaultInjector extends AdapterAround {
  readonly received: FaultCounters = { lost: 0, corrupted: 0, duplicated: 0, reordered: 0 };
  readonly transmitted: FaultCounters = { lost: 0, corrupted: 0, duplicated: 0, reordered: 0 };

  readonly #receiveRates: Required<FaultRates>;
  readonly #transmitRates: Required<FaultRates>;
  readonly #pool: PacketPool;
  /** Received frames that come later. */
  readonly #heldReceived = new PacketQueue(HELD_PACKETS);
  /** Copies that go out with the next flush, and copies that the inner adapter reads until it has flushed. */
  readonly #heldTransmitted: Packet[] = [];
  readonly #inFlight: Packet[] = [];
  #state: number;

  /**
   * @param options.seed any number; the same gives the same faults
   * @throws RangeError for a probability that is none
   */
  constructor(inner: Adapter, options: { seed: number; receive?: FaultRates; transmit?: FaultRates }) {
    super(inner);
    this.#receiveRates = checkedRates(options.receive ?? {});
    this.#transmitRates = checkedRates(options.transmit ?? {});
    this.#pool = new PacketPool({ packets: 4 * HELD_PACKETS, ...bufferSettings(inner.mtuBytes, inner.offloads) });
    this.#state = options.seed | 0 || 1;
  }

  override receive(batch: Batch, limit: number): number {
    const first = batch.count;
    const late = this.#heldReceived;
    const fetched = limit - late.ready;
    if (fetched > 0) this.inner.receive(batch, fetched);
    let kept = first;
    const end = batch.count;
    for (let i = first; i < end; i += 1) {
      const packet = batch.packets[i];
      if (this.#passReceived(packet)) {
        batch.packets[kept] = packet;
        kept += 1;
      }
    }
    batch.count = kept;
    late.takeInto(batch, limit - (kept - first));
    late.publish();
    return batch.count - first;
  }

  override transmit(packet: Packet, tag: number): void {
    const rates = this.#transmitRates;
    const counters = this.transmitted;
    if (this.#happens(rates.loss)) {
      counters.lost += 1;
      return;
    }
    if (this.#happens(rates.corruption)) {
      const copy = this.#copy(packet);
      if (copy !== null) {
        this.#flipBit(copy);
        counters.corrupted += 1;
        this.#inFlight.push(copy);
        this.inner.transmit(copy, tag);
        return;
      }
    }
    if (this.#happens(rates.duplication)) {
      counters.duplicated += 1;
      this.inner.transmit(packet, tag);
    }
    if (this.#heldTransmitted.length < HELD_PACKETS && this.#happens(rates.reordering)) {
      const copy = this.#copy(packet);
      // The tag is put in now, so that the copy stands for itself later.
      if (copy !== null && applyTagAction(copy, tag) === TagResult.DONE) {
        counters.reordered += 1;
        this.#heldTransmitted.push(copy);
        return;
      }
      copy?.release();
    }
    this.inner.transmit(packet, tag);
  }

  override flush(): void {
    this.inner.flush();
    for (const packet of this.#inFlight) packet.release();
    this.#inFlight.length = 0;
    if (this.#heldTransmitted.length === 0) return;
    for (const packet of this.#heldTransmitted) this.inner.transmit(packet, 0);
    this.inner.flush();
    for (const packet of this.#heldTransmitted) packet.release();
    this.#heldTransmitted.length = 0;
  }

  override close(): void {
    this.#heldReceived.releaseAll();
    for (const packet of this.#heldTransmitted) packet.release();
    this.#heldTransmitted.length = 0;
    for (const packet of this.#inFlight) packet.release();
    this.#inFlight.length = 0;
    this.inner.close();
  }

  /** Decide about a received frame. @returns whether it goes on now */
  #passReceived(packet: Packet): boolean {
    const rates = this.#receiveRates;
    const counters = this.received;
    if (this.#happens(rates.loss)) {
      counters.lost += 1;
      packet.release();
      return false;
    }
    // Bytes that others read too are left alone.
    if (packet.parent === null && packet.references === 1 && this.#happens(rates.corruption)) {
      this.#flipBit(packet);
      counters.corrupted += 1;
    }
    if (this.#happens(rates.duplication)) {
      const copy = this.#copy(packet);
      if (copy !== null) {
        if (this.#heldReceived.push(copy)) counters.duplicated += 1;
        else copy.release();
      }
    }
    if (this.#happens(rates.reordering) && this.#heldReceived.push(packet)) {
      counters.reordered += 1;
      return false;
    }
    return true;
  }

  #copy(packet: Packet): Packet | null {
    return copyPacket(packet, this.#pool);
  }

  #flipBit(packet: Packet): void {
    if (packet.length === 0) return;
    const at = packet.offset + (this.#next() % packet.length);
    packet.bytes[at] ^= 1 << (this.#next() & 7);
  }

  #happens(probability: number): boolean {
    return probability > 0 && this.#next() < probability * 0x1_0000_0000;
  }

  /** xorshift32. */
  #next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state >>> 0;
  }
}

function checkedRates(rates: FaultRates): Required<FaultRates> {
  const all = { loss: 0, corruption: 0, duplication: 0, reordering: 0, ...rates };
  for (const [name, value] of Object.entries(all)) {
    if (!(value >= 0 && value <= 1)) throw new RangeError(`${name} of ${value} is no probability from 0 to 1`);
  }
  return all;
}
