/**
 * Rounds of the differential test of handing packets down: a random flow table goes into an engine that does everything, and into one that hands packets down to the program of the same
 * table wherever it may. Frames, their order, drops and counters must be the same; what comes up again goes on in the engine behind.
 */
import type { Connections } from '../../connections/index.ts';
import { Drop, type FlowKey, PutMode, RESUME_BYTES, resumeTicket, writeResumeRecord } from '../../flow/index.ts';
import type { Packet } from '../../net/index.ts';
import { canGoDown, MAXIMUM_DOWN_HEADER_BYTES, writeDownHeader } from '../down/header.ts';
import { Divergence } from './actions-rounds.ts';
import { hostileFrame, randomFrame } from './frames.ts';
import type { GeneratedCarrier } from './generated-carrier.ts';
import { RandomSource } from './random.ts';
import { type Carried, compareCounters, EngineSide } from './table-rounds.ts';
import { randomTable } from './tables.ts';

/** Ports that packets come in by: few, so that more of them find flows when they are looked up again. */
const PORTS = 2;

/** Makes a carrier of a table at tc. */
export type MakeDownCarrier = (...of: ConstructorParameters<typeof GeneratedCarrier>) => GeneratedCarrier;

/** What came of packets. */
export interface DownTally {
  packets: number;
  handedDown: number;
  cameUp: number;
  dropped: number;
}

/** What is to be written to the device for a packet. */
export function downBytes(packet: Packet, key: FlowKey, ifindex: number, ticket: number): Uint8Array {
  const before = new Uint8Array(MAXIMUM_DOWN_HEADER_BYTES + RESUME_BYTES);
  const headerBytes = writeDownHeader(packet.bytes, packet.offset, 0, ifindex, before, 0);
  const length = headerBytes + writeResumeRecord(key, before, headerBytes, ticket);
  const frame = packet.frame();
  const isTagged = headerBytes > 14;
  return Uint8Array.from([
    ...before.subarray(0, length),
    ...(isTagged ? [...frame.subarray(0, 12), ...frame.subarray(16)] : frame),
  ]);
}

/** An engine that hands down what it may. */
export class DownSide extends EngineSide {
  carrier: GeneratedCarrier | null = null;
  /** Whether the next packet that could be is handed down. */
  wants: () => boolean = () => true;
  handedDown = 0;
  readonly #ports: readonly number[];
  #pending: Required<Carried>['resumed'] | null = null;
  #port = 0;
  #ticket = 0;
  #dropped = false;
  #before: string[] = [];

  constructor(ifindexes: readonly number[], seed: number, connections?: Connections) {
    super(ifindexes, seed, connections);
    this.#ports = ifindexes;
  }

  protected override handDown(packet: Packet, key: FlowKey): boolean {
    const { carrier } = this;
    if (carrier === null || this.sent.length > 0 || !canGoDown(packet, key) || !this.wants()) return false;
    this.#ticket = 1 + (this.handedDown % 0xffff);
    const run = carrier.handDown(downBytes(packet, key, this.#ports[key.inPort - 1], this.#ticket));
    if (run.verdict === 'lost' || run.verdict === 'punted')
      throw new Divergence(`a packet that was handed down was ${run.verdict}`);
    this.handedDown += 1;
    this.#port = key.inPort;
    this.#pending = run.resumed ?? null;
    this.#dropped = run.verdict === 'dropped';
    for (const { ifindex, frame } of run.sent) this.sent.push(`${ifindex} ${Buffer.from(frame).toString('hex')}`);
    return true;
  }

  /** Go on with what has come up again. @returns how often that was */
  settle(): number {
    let cameUp = 0;
    while (this.#pending !== null) {
      const { frame, record } = this.#pending;
      if (resumeTicket({ bytes: record, at: 0, length: record.length }) !== this.#ticket)
        throw new Divergence('a packet came up with another ticket');
      const before = this.sent;
      this.#pending = null;
      this.#before = before;
      cameUp += 1;
      this.resume(frame, this.#port, record);
      this.sent = [...this.#before, ...this.sent];
    }
    return cameUp;
  }

  /** Whether the last packet that went down was dropped there. */
  takeDropped(): boolean {
    const dropped = this.#dropped;
    this.#dropped = false;
    return dropped;
  }
}

/**
 * One table, and many frames.
 * @param ifindexes of the ports, from port 1 on
 * @throws Divergence
 */
export function downRound(
  make: MakeDownCarrier,
  ifindexes: readonly number[],
  seed: number,
  tally: DownTally,
  frames = 1000,
): void {
  const random = new RandomSource(seed);
  const engine = new EngineSide(ifindexes, seed);
  const split = new DownSide(ifindexes, seed);
  const { flows, kinds } = randomTable(random, PORTS, 100 + random.below(200), true);
  for (const flow of flows) {
    for (const each of [engine.table, split.table]) each.put({ ...flow, ufid: null, mode: PutMode.CREATE });
  }
  const carrier = make(split.table, 'tc', engine.datapath.hashSecret, ifindexes);
  split.carrier = carrier;
  split.wants = () => !random.once(3);
  const drops = new Map<number, number>();
  try {
    for (let i = 0; i < frames; i += 1) {
      const kind = random.pick(kinds);
      let frame = randomFrame(random, kind);
      if (random.once(8)) frame = hostileFrame(random, frame, kind);
      const port = 1 + random.below(PORTS);
      engine.run(frame, port);
      // Flows that copy packets in a circle: how many copies there may be is counted anew where a packet goes on.
      if (engine.datapath.drops.of(Drop.DEFERRED_LIMIT) > 0) return;
      split.run(frame, port);
      tally.packets += 1;
      tally.cameUp += split.settle();
      if (split.takeDropped()) {
        tally.dropped += 1;
        // Why is told by the program's counters alone.
        drops.set(engine.fate, (drops.get(engine.fate) ?? 0) + 1);
        split.fate = engine.fate;
      }
      if (split.outcome !== engine.outcome) {
        const hex = Buffer.from(frame).toString('hex');
        throw new Divergence(
          `MILLRACE_SEED=${seed}: port ${port}, frame ${hex}\nengine ${engine.outcome}\nhanded down ${split.outcome}`,
        );
      }
    }
    tally.handedDown += split.handedDown;
    carrier.sync();
    compareCounters(engine.table, split.table, `MILLRACE_SEED=${seed}`);
    for (const [reason, packets] of drops) {
      const counted = carrier.drops().get(reason) ?? 0;
      if (counted !== packets)
        throw new Divergence(`MILLRACE_SEED=${seed}: ${packets} dropped for ${reason}, ${counted} counted`);
    }
  } finally {
    carrier.close();
  }
}
