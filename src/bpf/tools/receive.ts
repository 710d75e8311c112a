/**
 * The receiver: counts and times the generator's frames at the other end, per flow, with loss and reordering, by an XDP program that drops
 * them. What the generator did not send passes. Neighbours: tools/receive-program.ts is the program, tools/generate.ts the other end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BpfError, NoInterfaceError } from '../errors.ts';
import { haveHelper } from '../feature/raw.ts';
import type { Link } from '../link/link.ts';
import { attachXdp, type XdpMode } from '../link/xdp.ts';
import { ArrayMap, type MappedValues } from '../map/array.ts';
import { bytes } from '../map/layout.ts';
import { loadProgram } from '../program/load.ts';
import type { Program } from '../program/program.ts';
import { MAX_FLOWS } from './frame.ts';
import { type FlowRecord, flowRecord, receiveProgram } from './receive-program.ts';

/** Where and how to count. */
export interface ReceiverOptions {
  readonly netdev: string;
  /** Flows to tell apart, 1 to 65536; 1024 by default. Frames of flows above count as the last. */
  readonly flows?: number;
  /** 'auto' by default. */
  readonly mode?: XdpMode;
}

/** How long to count. */
export interface ReceiveOptions extends ReceiverOptions {
  /** End after this many frames ... */
  readonly count?: number;
  /** ... or after this time ... */
  readonly durationMs?: number;
  /** ... or when, after the first, none came for this time ... */
  readonly idleMs?: number;
  /** ... or on a signal. */
  readonly signal?: AbortSignal;
  /** Called about twice a second. */
  readonly onProgress?: (counts: ReceiveResult) => void;
}

/** One flow's account. */
export interface FlowCounts {
  readonly flow: number;
  readonly received: number;
  readonly bytes: number;
  /** Frames that were sent before the last one received, and did not come. */
  readonly lost: number;
  /** Frames that came after a later one of their flow. */
  readonly late: number;
}

/** What was counted. */
export interface ReceiveResult {
  readonly netdev: string;
  readonly received: number;
  readonly bytes: number;
  readonly lost: number;
  readonly late: number;
  /** Share of the frames expected that were lost, 0 to 1. */
  readonly lossRatio: number;
  /** From the first frame to the last, as exact as the kernel's tick (1 to 4 ms). */
  readonly durationMs: number;
  readonly packetsPerSecond: number;
  readonly bitsPerSecond: number;
  /** Flows of which anything came, by number. */
  readonly flows: readonly FlowCounts[];
}

const POLL_MS = 50;
const PROGRESS_MS = 500;

/** A receiver that is counting. */
export class Receiver {
  readonly #netdev: string;
  readonly #flows: number;
  readonly #map: ArrayMap<Uint8Array>;
  readonly #values: MappedValues<Uint8Array>;
  readonly #program: Program;
  readonly #link: Link;

  /**
   * Start counting.
   * @throws AttachConflictError when another XDP program is there; NoInterfaceError, PrivilegeError, UnsupportedError
   */
  constructor(options: ReceiverOptions) {
    this.#netdev = options.netdev;
    this.#flows = options.flows ?? 1024;
    if (!Number.isInteger(this.#flows) || this.#flows < 1 || this.#flows > MAX_FLOWS) {
      throw new BpfError('value', `number of flows ${this.#flows} is outside 1 to ${MAX_FLOWS}`);
    }
    const value = bytes(this.#flows * flowRecord.sizeBytes);
    this.#map = ArrayMap.create({ name: 'flow_records', value, maxEntries: 1, mappable: true });
    let program: Program | undefined;
    try {
      this.#values = this.#map.map('read');
      const code = receiveProgram({
        records: this.#map,
        flows: this.#flows,
        startedAt: Date.now() % 0x1_0000_0000,
        clock: haveHelper('xdp', 'ktime_get_coarse_ns') ? 'ktime_get_coarse_ns' : 'ktime_get_ns',
      });
      program = loadProgram({ type: 'xdp', code });
      this.#link = attachXdp({ program, netdev: options.netdev, mode: options.mode ?? 'auto' });
      this.#program = program;
    } catch (error) {
      program?.close();
      this.#map.close();
      throw error;
    }
  }

  /** Frames counted so far. */
  get received(): number {
    let total = 0;
    const packets = flowRecord.offsetOf('packets');
    for (let flow = 0; flow < this.#flows; flow++) total += this.#values.count(flow * flowRecord.sizeBytes + packets);
    return total;
  }

  /** Is the interface gone, and the receiver deaf? */
  get isDetached(): boolean {
    return this.#link.info().ifindex === 0;
  }

  /** The account as it stands. */
  read(): ReceiveResult {
    const flows: FlowCounts[] = [];
    let firstNs = Number.POSITIVE_INFINITY;
    let lastNs = 0;
    for (let flow = 0; flow < this.#flows; flow++) {
      const record = flowRecord.read(this.#values.view, flow * flowRecord.sizeBytes);
      if (record.packets === 0) continue;
      firstNs = Math.min(firstNs, record.firstNs);
      lastNs = Math.max(lastNs, record.lastNs);
      const lost = Math.max(0, expected(record) - record.packets);
      flows.push({ flow, received: record.packets, bytes: record.bytes, lost, late: record.late });
    }
    const sum = (pick: (counts: FlowCounts) => number) => flows.reduce((total, counts) => total + pick(counts), 0);
    const received = sum((counts) => counts.received);
    const byteCount = sum((counts) => counts.bytes);
    const lost = sum((counts) => counts.lost);
    const durationMs = flows.length === 0 ? 0 : Math.max(1, (lastNs - firstNs) / 1e6);
    const perSecond = (amount: number) => (durationMs === 0 ? 0 : (amount * 1000) / durationMs);
    return {
      netdev: this.#netdev,
      received,
      bytes: byteCount,
      lost,
      late: sum((counts) => counts.late),
      lossRatio: received + lost === 0 ? 0 : lost / (received + lost),
      durationMs,
      packetsPerSecond: perSecond(received),
      bitsPerSecond: perSecond(byteCount * 8),
      flows,
    };
  }

  /** Stop counting: the program is detached. */
  close(): void {
    this.#link.close();
    this.#program.close();
    this.#map.close();
  }
}

function expected(record: FlowRecord): number {
  return record.earlier + record.next - record.first;
}

/**
 * Count until one of the ends in the options is reached; without any, for ever.
 * @throws as {@link Receiver}; NoInterfaceError when the interface goes away meanwhile
 */
export async function receive(options: ReceiveOptions): Promise<ReceiveResult> {
  const receiver = new Receiver(options);
  try {
    const start = performance.now();
    let before = 0;
    let movedAt = start;
    let toldAt = start;
    while (options.signal?.aborted !== true) {
      const now = performance.now();
      const received = receiver.received;
      if (received !== before) movedAt = now;
      before = received;
      if (received >= (options.count ?? Number.POSITIVE_INFINITY)) break;
      if (now - start >= (options.durationMs ?? Number.POSITIVE_INFINITY)) break;
      if (received > 0 && now - movedAt >= (options.idleMs ?? Number.POSITIVE_INFINITY)) break;
      if (now - toldAt >= PROGRESS_MS) {
        if (receiver.isDetached) throw new NoInterfaceError(options.netdev, 'go on receiving');
        toldAt = now;
        options.onProgress?.(receiver.read());
      }
      await pause(POLL_MS, options.signal);
    }
    return receiver.read();
  } finally {
    receiver.close();
  }
}

async function pause(timeMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(timeMs, undefined, signal === undefined ? {} : { signal });
  } catch {
    // Only the signal ends a pause early, and the caller looks at it.
  }
}
