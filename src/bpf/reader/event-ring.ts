/**
 * Events with a layout through a ring buffer, and a count of those that found no room: both ends in one place, the code that sends and the
 * reader that receives. Neighbours: reader/ring-buffer.ts reads, asm/builder.ts writes the sending code.
 */
import type { ProgramBuilder } from '../asm/builder.ts';
import { type Address, at, R0, R1 } from '../asm/operands.ts';
import { ArrayMap, type MappedValues } from '../map/array.ts';
import { count64, type Layout } from '../map/layout.ts';
import { RingBufferMap } from '../map/ring.ts';
import { READ_LIMIT, RingBufferReader } from './ring-buffer.ts';

/** How to make an event ring. */
export interface EventRingOptions<T> {
  readonly name: string;
  /** A power of two, and at least a page. */
  readonly sizeBytes: number;
  readonly event: Layout<T>;
}

/** A channel of events from programs to user space. */
export class EventRing<T> {
  readonly event: Layout<T>;
  readonly ring: RingBufferMap;
  readonly #lostMap: ArrayMap<number>;
  readonly #lost: MappedValues<number>;
  readonly #reader: RingBufferReader;

  /** @throws LayoutError, UnsupportedError, PrivilegeError, SystemError */
  static create<T>(options: EventRingOptions<T>): EventRing<T> {
    return new EventRing(options);
  }

  private constructor(options: EventRingOptions<T>) {
    this.event = options.event;
    const made: { close(): void }[] = [];
    const keep = <M extends { close(): void }>(one: M): M => {
      made.push(one);
      return one;
    };
    try {
      this.ring = keep(RingBufferMap.create(options));
      this.#lostMap = keep(ArrayMap.create({ name: 'lost_events', value: count64, maxEntries: 1, mappable: true }));
      this.#lost = this.#lostMap.map();
      this.#reader = keep(new RingBufferReader(this.ring));
    } catch (error) {
      for (const one of made) one.close();
      throw error;
    }
  }

  /**
   * Write the code that sends one event. R0 to R5 are destroyed.
   * @param event where the event lies, such as a stack slot of the layout's size
   */
  send(b: ProgramBuilder, event: Address): void {
    b.call('ringbuf_output', this.ring, event, this.event.sizeBytes, 0);
    b.if(R0, '!=', 0, () => {
      b.loadMapValue(R0, this.#lostMap);
      b.mov(R1, 1);
      b.atomic('add', 'u64', at(R0), R1);
    });
  }

  /** For epoll or poll: readable when an event is there. */
  get fd(): number {
    return this.#reader.fd;
  }

  /** Events that found no room, since the ring was made. */
  get lost(): number {
    return this.#lost.count(0);
  }

  /**
   * Take the events that were there when it was called.
   * @param handler returns false to stop behind this event
   * @param limit the most to take; 65,536 by default
   * @returns how many; as many as the limit when there may be more
   * @throws ClosedError, and what the handler throws, after the event it threw at
   */
  read(handler: (event: T) => unknown, limit = READ_LIMIT): number {
    const { view } = this.#reader;
    return this.#reader.read((_bytes, offset) => handler(this.event.read(view, offset)), limit);
  }

  /** Block this thread until an event may be there. @returns false when the time is over */
  wait(timeoutMs: number): boolean {
    return this.#reader.wait(timeoutMs);
  }

  close(): void {
    this.#reader.close();
    this.ring.close();
    this.#lostMap.close();
  }
}
