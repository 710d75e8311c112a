/**
 * The traffic generator: frames made by an eBPF program inside the kernel and redirected straight to an interface, at millions a second
 * from one thread, or paced. Neighbours: tools/generate-program.ts is the program, tools/receive.ts the other end.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { BpfError, NoInterfaceError } from '../errors.ts';
import { ArrayMap, type MappedValues } from '../map/array.ts';
import { loadProgram } from '../program/load.ts';
import type { Program } from '../program/program.ts';
import { LiveFrameRun } from '../program/test-run.ts';
import { netdevIndex } from '../sys/netdev.ts';
import { ensureDelivery } from './delivery.ts';
import { buildFrame, type FrameOptions, MAX_FLOWS, type Variation } from './frame.ts';
import { generateProgram, type StreamSpec, type StreamState, streamState } from './generate-program.ts';
import { holdInDispatcher } from './hold.ts';

/** What to send. */
export interface GenerateOptions extends FrameOptions {
  /** The interface to send through. */
  readonly netdev: string;
  /** Frames a second, or 'max', which is the default. */
  readonly pps?: number | 'max';
  /** Flows, sent in turn; 1 to 65536, 1 by default. */
  readonly flows?: number;
  /** What differs between flows: the source port (default), the lower half of the source address, or that of the source MAC. */
  readonly vary?: Variation;
  /** How many frames in all; without it, until `durationMs` or `signal`. */
  readonly count?: number;
  readonly durationMs?: number;
  /** Threads that send at the same time, 1 to 4; 1 by default. Each has flows of its own. */
  readonly threads?: number;
  /** Frames taken together in the kernel, 1 to 256; 64 by default. More overruns the 256 places of a veth's ring. */
  readonly batch?: number;
  /** Turn GRO on at the peer of a veth for the time of the run, where frames would not be taken otherwise. */
  readonly prepare?: boolean;
  /** Ends the run; what was sent until then is the result. */
  readonly signal?: AbortSignal;
  /** Called about twice a second. */
  readonly onProgress?: (sent: number, elapsedMs: number) => void;
}

/** What was sent. */
export interface GenerateResult {
  readonly netdev: string;
  /** Frames handed to the interface. A receiver knows how many arrived. */
  readonly sent: number;
  readonly durationMs: number;
  readonly packetsPerSecond: number;
  /** Of frames without checksum, preamble and gap. */
  readonly bitsPerSecond: number;
  readonly sizeBytes: number;
  readonly flows: number;
  /** True when `signal` ended the run before its count or time. */
  readonly interrupted: boolean;
}

const PROGRESS_MS = 500;
const FIRST_CHUNK = 256;
const LAST_CHUNK = 1 << 22;
/** How long one run in the kernel may last: short where runs are cheap, long where each costs 25 ms. */
const CHUNK_MS = { held: 10, unheld: 1000 } as const;

/**
 * Send frames, and come back when all are sent, the time is over or the signal is given. The event loop stays free meanwhile.
 * @throws NoInterfaceError, also when the interface goes away meanwhile; DeliveryError when frames would not leave the interface, with what to do
 * @throws BpfError for options out of range; PrivilegeError; UnsupportedError before Linux 5.18
 */
export async function generate(options: GenerateOptions): Promise<GenerateResult> {
  const frame = buildFrame(options);
  const flows = within(options.flows ?? 1, 1, MAX_FLOWS, 'number of flows');
  const threads = Math.min(within(options.threads ?? 1, 1, 4, 'number of threads'), flows);
  const pps = options.pps === undefined || options.pps === 'max' ? Number.POSITIVE_INFINITY : options.pps;
  if (!(pps > 0)) throw new BpfError('value', `a rate of ${pps} packets a second is not above zero`);
  const batch = within(options.batch ?? 64, 1, 256, 'batch');
  const count = within(options.count ?? Number.MAX_SAFE_INTEGER, 0, Number.MAX_SAFE_INTEGER, 'count');
  const durationMs = options.durationMs ?? Number.POSITIVE_INFINITY;
  const ifindex = netdevIndex(options.netdev, 'send frames');
  let undo = () => {};
  const streams: Stream[] = [];
  try {
    const run = Date.now() % 0x1_0000_0000;
    const onPool = poolIsInThisNamespace();
    for (let index = 0, firstFlow = 0; index < threads; index++) {
      const share = Math.floor((flows * (index + 1)) / threads) - firstFlow;
      const vary = options.vary ?? 'port';
      streams.push(
        new Stream({ frame: frame.bytes, batch, onPool }, { frame, run, firstFlow, flows: share, vary, ifindex }),
      );
      firstFlow += share;
    }
    undo = ensureDelivery(options.netdev, options.prepare ?? false);
    const start = performance.now();
    const until = start + durationMs;
    const sent = () => streams.reduce((sum, stream) => sum + stream.sent, 0);
    const beat = setInterval(() => options.onProgress?.(sent(), performance.now() - start), PROGRESS_MS);
    try {
      const shares = streams.map((_, index) => {
        const mine = Math.floor((count * (index + 1)) / threads) - Math.floor((count * index) / threads);
        return count === Number.MAX_SAFE_INTEGER ? count : mine;
      });
      await Promise.all(
        streams.map((stream, index) =>
          stream.send(shares[index] ?? 0, pps / threads, until, () => {
            checkThere(options.netdev, ifindex);
            return options.signal?.aborted !== true;
          }),
        ),
      );
    } finally {
      clearInterval(beat);
    }
    const elapsedMs = performance.now() - start;
    const total = sent();
    return {
      netdev: options.netdev,
      sent: total,
      durationMs: elapsedMs,
      packetsPerSecond: (total * 1000) / elapsedMs,
      bitsPerSecond: (total * frame.bytes.length * 8000) / elapsedMs,
      sizeBytes: frame.bytes.length,
      flows,
      interrupted: (options.signal?.aborted ?? false) && total < count,
    };
  } finally {
    for (const stream of streams) stream.close();
    undo();
  }
}

function within(value: number, low: number, high: number, what: string): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new BpfError('value', `${what} ${value} is outside ${low} to ${high}`);
}

/** Frames to an interface that is gone are lost without a word. @throws NoInterfaceError */
function checkThere(netdev: string, ifindex: number): void {
  const doing = 'go on sending frames';
  if (netdevIndex(netdev, doing) !== ifindex) throw new NoInterfaceError(netdev, doing);
}

/**
 * The kernel looks the interface up in the network namespace of the thread that runs the program. Threads of the pool have the
 * namespace that the process had when they were made.
 */
function poolIsInThisNamespace(): boolean {
  const here = readlinkSync('/proc/thread-self/ns/net');
  return readdirSync('/proc/self/task').every((task) => {
    try {
      return readlinkSync(`/proc/self/task/${task}/ns/net`) === here;
    } catch {
      return true;
    }
  });
}

/** One thread's share of the flows: its program and the state it keeps. */
class Stream {
  readonly #flows: number;
  readonly #map: ArrayMap<StreamState>;
  readonly #state: MappedValues<StreamState>;
  readonly #program: Program;
  readonly #frames: LiveFrameRun;
  readonly #onPool: boolean;
  readonly #release: (() => void) | undefined;

  constructor(live: { frame: Uint8Array; batch: number; onPool: boolean }, spec: Omit<StreamSpec, 'state'>) {
    this.#onPool = live.onPool;
    this.#flows = spec.flows;
    this.#map = ArrayMap.create({ name: 'stream', value: streamState, maxEntries: 1, mappable: true });
    try {
      this.#state = this.#map.map('read');
      this.#program = loadProgram({ type: 'xdp', code: generateProgram({ ...spec, state: this.#map }) });
    } catch (error) {
      this.#map.close();
      throw error;
    }
    this.#release = holdInDispatcher(this.#program);
    this.#frames = new LiveFrameRun(this.#program.fd, 'generate', { data: live.frame, batch: live.batch });
  }

  /** Frames sent so far: the program counts them by flows and rounds. */
  get sent(): number {
    const flow = this.#state.count(streamState.offsetOf('flow'));
    return this.#state.count(streamState.offsetOf('round')) * this.#flows + flow;
  }

  /** @param goesOn asked before every turn */
  async send(count: number, pps: number, untilMs: number, goesOn: () => boolean): Promise<void> {
    const start = performance.now();
    const chunkMs = this.#release === undefined ? CHUNK_MS.unheld : CHUNK_MS.held;
    let chunk = FIRST_CHUNK;
    // A run in the kernel has a price: paced frames leave a millisecond's worth at a time, and the processor rests in between.
    const burst = pps === Number.POSITIVE_INFINITY ? 1 : Math.max(1, Math.min(FIRST_CHUNK, Math.floor(pps / 1000)));
    while (goesOn()) {
      const now = performance.now();
      const left = count - this.sent;
      if (left <= 0 || now >= untilMs) return;
      const due = pps === Number.POSITIVE_INFINITY ? chunk : Math.floor(((now - start) * pps) / 1000) + 1 - this.sent;
      if (due < Math.min(burst, left)) {
        const waitMs = Math.max(1, ((burst - 1 - due) * 1000) / pps);
        await sleep(Math.min(waitMs, Math.max(1, untilMs - now), 100));
        continue;
      }
      const many = Math.min(due, left, chunk);
      if (this.#onPool) await this.#frames.runOnThread(many);
      else {
        this.#frames.run(many);
        await turn();
      }
      const tookMs = performance.now() - now;
      if (tookMs < chunkMs / 2 && chunk < LAST_CHUNK) chunk *= 2;
      else if (tookMs > chunkMs * 2 && chunk > FIRST_CHUNK) chunk /= 2;
    }
  }

  close(): void {
    this.#release?.();
    this.#program.close();
    this.#map.close();
  }
}
