/**
 * What happens to connections, told to whoever asks: in batches, as copies of the records, so that a connection may be gone when its events are read. Without a listener nothing is
 * copied.
 */
import { RECORD_WORDS, RecordWord, Settings } from './layout.ts';

/** Bits of events: 1 << IPCT_* of Linux (linux/netfilter/nf_conntrack_common.h), as an action's event mask has them. */
export const ConnectionEvent = {
  NEW: 1 << 0,
  RELATED: 1 << 1,
  DESTROY: 1 << 2,
  REPLY: 1 << 3,
  ASSURED: 1 << 4,
  /** The state of its protocol is another. */
  PROTOCOL: 1 << 5,
  HELPER: 1 << 6,
  MARK: 1 << 7,
  LABEL: 1 << 10,
  /** What an action without an event mask asks for. */
  ALL: 0xffff,
} as const;

/** Events of a batch. */
const BATCH = 64;

/** Some events, in the order in which they happened; valid during the call. */
export class EventBatch {
  count = 0;
  /** Of each event, its bits. */
  readonly bits = new Int32Array(BATCH);
  /** Of each connection that ended, why: one of `Removal`. */
  readonly reasons = new Int32Array(BATCH);
  /** A copy of each record, RECORD_WORDS words each, as it was then. */
  readonly records = new Int32Array(BATCH * RECORD_WORDS);
}

export type EventListener = (events: EventBatch) => void;

export class EventQueue {
  #listener: EventListener | null = null;
  /** Bits that are told whatever a connection's mask wants. */
  #always = 0;
  readonly #batch = new EventBatch();

  /**
   * Who is told; null for nobody. What is waiting goes to the listener before.
   * @param isUnmasked whether all events are told, those as well that the action which made a connection has not asked for
   */
  listen(listener: EventListener | null, isUnmasked = false): void {
    this.flush();
    this.#always = isUnmasked ? ConnectionEvent.ALL : 0;
    this.#listener = listener;
  }

  /** Note events of a connection that the listener is to be told. */
  add(records: Int32Array, at: number, bits: number, reason: number): void {
    if (this.#listener === null) return;
    const wanted = bits & ((records[at + RecordWord.SETTINGS] >>> Settings.EVENTS_SHIFT) | this.#always);
    if (wanted === 0) return;
    const batch = this.#batch;
    const place = batch.count;
    batch.bits[place] = wanted;
    batch.reasons[place] = reason;
    for (let i = 0; i < RECORD_WORDS; i += 1) batch.records[place * RECORD_WORDS + i] = records[at + i];
    batch.count += 1;
    if (batch.count === BATCH) this.flush();
  }

  /** Tell what is waiting; at the end of each batch of packets, say. */
  flush(): void {
    const batch = this.#batch;
    if (batch.count === 0) return;
    try {
      this.#listener?.(batch);
    } finally {
      batch.count = 0;
    }
  }
}
