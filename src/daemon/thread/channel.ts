/**
 * The control thread's end of the datapath thread: starts it, calls it, and hears when it dies. A call is put on the message port
 * and the thread's event loop is woken through its eventfd, because that loop never returns to Node's own.
 */
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
  type WorkerOptions,
} from 'node:worker_threads';
import { wakeLoop } from '../../host/index.ts';
import { Failure } from '../rpc/failure.ts';
import type { DatapathCall, DatapathCalls, UpMessage } from './calls.ts';
import { GraceWaiter, newGracePeriods } from './grace-periods.ts';
import { MODULE_FLAGS } from './modules/flags.ts';
import { newPulse, type PulseReading, readPulse } from './pulse.ts';
import type { WorkerData } from './worker.ts';

/** A datapath that does not answer within this time is stuck, most likely in an extension. */
const ANSWER_TIMEOUT_MS = 10_000;
const START_TIMEOUT_MS = 20_000;

/** What people ask for first when something is wrong. */
type RememberedCall = 'summary' | 'ports' | 'extensions';
const REMEMBERED: ReadonlySet<DatapathCall> = new Set<RememberedCall>(['summary', 'ports', 'extensions']);

/** What the datapath thread says on its own. */
export type Announcement = Exclude<UpMessage, { type: 'ready' | 'reply' | 'failure' | 'entry' | 'grace' }>;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
  timer: NodeJS.Timeout;
}

/** The running datapath thread. */
export class DatapathThread {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #pulse: SharedArrayBuffer;
  readonly #graces: GraceWaiter;
  /** Names of extensions by their numbers in the pulse. */
  readonly #names = new Map<number, string>();
  readonly #announce: (message: Announcement) => void;
  readonly #waiting = new Map<number, Waiting>();
  /** Last answers to some calls. */
  readonly #answers = new Map<DatapathCall, unknown>();
  /** Why it does not answer, as one sentence; null while it does. Set by whoever watches it. */
  stuck: string | null = null;
  #wakeDescriptor = -1;
  #nextId = 1;
  #stopping = false;
  #isClosed = false;
  #isGone = false;
  #error: Error | null = null;
  /** Settles when the thread is gone: null when it was asked to stop, else why it died. */
  readonly gone: Promise<Error | null>;

  private constructor(
    worker: Worker,
    port: MessagePort,
    pulse: SharedArrayBuffer,
    graces: SharedArrayBuffer,
    announce: (message: Announcement) => void,
  ) {
    this.#announce = announce;
    this.#worker = worker;
    this.#port = port;
    this.#pulse = pulse;
    this.#graces = new GraceWaiter(graces);
    this.gone = new Promise((resolve) => {
      worker.once('error', (error) => {
        this.#error = error;
      });
      worker.once('exit', (code) => {
        // The descriptor may belong to something else from now on.
        this.#wakeDescriptor = -1;
        this.#isGone = true;
        // What it said last may still wait here, such as the answer to its stop.
        for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
          this.#take(got.message as UpMessage);
        }
        const why = this.#error === null ? `ended with code ${code}` : `died: ${this.#error.message}`;
        const inside = this.entered === null ? '' : `, in the extension ${this.entered}`;
        const error = new Error(`the datapath thread ${why}${inside}`, { cause: this.#error });
        for (const waiting of this.#waiting.values()) {
          clearTimeout(waiting.timer);
          waiting.reject(new Failure('failed', error.message));
        }
        this.#waiting.clear();
        port.close();
        resolve(this.#stopping ? null : error);
      });
    });
  }

  /**
   * Start the thread and wait until its loop runs.
   * @param announce told what the thread says on its own
   * @param identity path that names this daemon among others
   * @param follows whether this process follows another of the same daemon
   * @param timeoutMs how long it may take
   * @throws Error when it does not come up: then it is ended
   */
  static async start(
    announce: (message: Announcement) => void,
    identity: string,
    follows: boolean,
    timeoutMs = START_TIMEOUT_MS,
  ): Promise<DatapathThread> {
    const { port1, port2 } = new MessageChannel();
    const pulse = newPulse();
    const graces = newGracePeriods();
    const source = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
    const worker = newWorker(new URL(source, import.meta.url), {
      name: 'millrace-datapath',
      workerData: { port: port2, identity, pulse, graces, follows } satisfies WorkerData,
      transferList: [port2],
      // Packets live outside the JavaScript heap. A small young generation is collected often and stays in the cache.
      resourceLimits: { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 512 },
    });
    const thread = new DatapathThread(worker, port1, pulse, graces, announce);
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        thread.#discard();
        reject(new Error(`the datapath thread did not start within ${timeoutMs / 1000} s`));
      }, timeoutMs);
      port1.on('message', (message: UpMessage) => {
        if (message.type === 'ready') {
          thread.#wakeDescriptor = message.wakeDescriptor;
          clearTimeout(timer);
          resolve();
        } else thread.#take(message);
      });
      void thread.gone.then((error) => {
        clearTimeout(timer);
        reject(error ?? new Error('the datapath thread stopped'));
      });
    });
    return thread;
  }

  /** Nobody has it: it ends as soon as it can, and keeps nothing alive until then. */
  #discard(): void {
    this.#stopping = true;
    this.#port.removeAllListeners('message');
    this.#port.close();
    this.#worker.unref();
    void this.#worker.terminate();
  }

  /** What the thread is at. */
  get pulse(): PulseReading {
    return readPulse(this.#pulse);
  }

  /** The extension that the thread is in; null for none. */
  get entered(): string | null {
    return this.nameOf(this.pulse.entered);
  }

  /** The name of an extension by its number in the pulse, negative ones included. */
  nameOf(entered: number): string | null {
    return this.#names.get(Math.abs(entered)) ?? null;
  }

  /**
   * Ask for what people look at first when something is wrong. When the thread is known not to answer, this is what it answered last.
   * @throws Failure as {@link call}
   */
  async ask<C extends RememberedCall>(call: C): Promise<DatapathCalls[C]['result']> {
    if (this.stuck === null) return this.call(call, null);
    const last = this.#answers.get(call);
    if (last === undefined) throw new Failure('busy', this.stuck);
    return last as DatapathCalls[C]['result'];
  }

  /** Nothing more is to be expected of the thread: whoever waits for it is told why. */
  giveUp(why: string): void {
    this.#wakeDescriptor = -1;
    this.stuck = why;
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(new Failure('busy', why, 'try again in some seconds'));
    }
    this.#waiting.clear();
  }

  /**
   * Call the datapath.
   * @throws Failure with the datapath's sentence; 'busy' when it does not answer in time
   */
  call<C extends DatapathCall>(call: C, params: DatapathCalls[C]['params']): Promise<DatapathCalls[C]['result']> {
    return new Promise((resolve, reject) => {
      if (this.#wakeDescriptor < 0) {
        reject(new Failure('busy', this.stuck ?? 'the datapath is not running'));
        return;
      }
      const id = this.#nextId;
      this.#nextId += 1;
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        const hint =
          'an extension that does not return stops the datapath: `millrace down` and look at your extensions';
        reject(new Failure('busy', `the datapath did not answer within ${ANSWER_TIMEOUT_MS / 1000} s`, hint));
      }, ANSWER_TIMEOUT_MS);
      const settle = (result: unknown) => {
        if (REMEMBERED.has(call)) this.#answers.set(call, result);
        resolve(result as DatapathCalls[C]['result']);
      };
      this.#waiting.set(id, { resolve: settle, reject, timer });
      this.#port.postMessage({ id, call, params });
      wakeLoop(this.#wakeDescriptor);
    });
  }

  /** Whether it has closed what it had in hand, as it was asked to; otherwise it was ended by force, or by a fault. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether it has ended. One inside of a system call that does not return cannot be: its process must be. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /**
   * Let it close everything, or all but what carries flows in the kernel; when it does not within the time, end it.
   * @returns what becomes of flows that a former daemon had left in the kernel, when this one's start has failed; null when that was nothing, or
   *   it was asked before
   */
  async stop(keep: boolean, timeoutMs = 5_000): Promise<string | null> {
    if (this.#stopping) return null;
    this.#stopping = true;
    this.stuck = null;
    const stopped = this.call('stop', { keep }).then(
      (fate) => {
        this.#isClosed = true;
        return fate;
      },
      () => null,
    );
    // The thread closes its loop, and with it the eventfd, right after it has answered.
    this.#wakeDescriptor = -1;
    let forced: NodeJS.Timeout | undefined;
    const given = new Promise<null>((resolve) => {
      forced = setTimeout(() => {
        void this.#worker.terminate();
        forced = setTimeout(() => resolve(null), timeoutMs);
        this.#worker.unref();
      }, timeoutMs);
    });
    // When it is gone, its answer is here or will never be.
    const fate = await Promise.race([stopped, this.gone.then(() => stopped), given]);
    await Promise.race([this.gone, given]);
    clearTimeout(forced);
    return typeof fate === 'string' ? fate : null;
  }

  #take(message: UpMessage): void {
    if (message.type === 'ready') return;
    if (message.type === 'grace') {
      this.#graces.wait();
      return;
    }
    if (message.type === 'entry') {
      this.#names.set(message.number, message.name);
      return;
    }
    if (message.type !== 'reply' && message.type !== 'failure') {
      this.#announce(message);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) return;
    // It goes on, whatever was seen a moment ago.
    this.stuck = null;
    this.#waiting.delete(message.id);
    clearTimeout(waiting.timer);
    if (message.type === 'reply') waiting.resolve(message.result);
    else waiting.reject(new Failure(message.kind, message.message, message.hint));
  }
}

/** A thread with this process's flags, as far as they can be a thread's, and those that modules of users need. */
function newWorker(source: URL, options: WorkerOptions): Worker {
  try {
    return new Worker(source, { ...options, execArgv: [...process.execArgv, ...MODULE_FLAGS] });
  } catch (error) {
    const isOfProcess = error instanceof Error && 'code' in error && error.code === 'ERR_WORKER_INVALID_EXEC_ARGV';
    if (!isOfProcess) throw error;
    return new Worker(source, { ...options, execArgv: [...MODULE_FLAGS] });
  }
}
