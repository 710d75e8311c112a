/**
 * Sees to it that the datapath thread runs: hears when it dies, and watches its pulse. Which extension is to blame, if any, is decided here; run.ts
 * decides what becomes of the daemon.
 */
import type { Extension } from '../config/model.ts';
import { messageOf } from '../rpc/failure.ts';
import type { DatapathThread } from '../thread/channel.ts';
import { LOOK_MS, type Stuck, Watchdog } from './watchdog.ts';

/** Code of ours, extensions that come with Millrace, and the loading of modules get this many times as long as a user's extension: they may take their time. */
const PATIENCE = 10;
/** When the loop has stood still for this long, what people look at first is answered from what is known. */
const KNOWN_AFTER_MS = 1_000;

/** Why the datapath thread has to be replaced. */
export interface Trouble {
  /** The extension of a user's that is to blame; null when none is known to be. */
  readonly extension: string | null;
  /** A sentence. */
  readonly message: string;
}

export class ThreadWatch {
  /** Settles when the thread is stuck or has died. */
  readonly trouble: Promise<Trouble>;
  readonly #thread: DatapathThread;
  readonly #limitMs: number;
  readonly #modules: () => readonly Extension[];
  readonly #watchdog = new Watchdog();
  readonly #timer: NodeJS.Timeout;
  /** The extension of a user's that was seen running last. */
  #lastSeen: string | null = null;
  #report: (trouble: Trouble) => void = () => {};

  /**
   * @param limitMs how long a user's extension may take; 0 watches for its death alone
   * @param extensions those that are configured or about to be
   */
  constructor(thread: DatapathThread, limitMs: number, extensions: () => readonly Extension[]) {
    this.#thread = thread;
    this.#limitMs = limitMs;
    this.#modules = () => extensions().filter(({ module }) => module !== null);
    this.trouble = new Promise((resolve) => {
      this.#report = resolve;
    });
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    void thread.gone.then((error) => {
      if (error !== null) this.#died(error);
    });
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const stuck = this.#watchdog.look(this.#thread.pulse, performance.now());
    const running = this.#thread.entered;
    if (running !== null && this.#isModule(running)) this.#lastSeen = running;
    this.#thread.stuck = stuck === null || stuck.forMs < KNOWN_AFTER_MS ? null : this.#describe(stuck);
    if (stuck === null || this.#limitMs === 0) return;
    const name = this.#thread.nameOf(stuck.entered);
    const isModule = name !== null && this.#isModule(name);
    if (stuck.forMs < this.#limitMs * (isModule && stuck.entered > 0 ? 1 : PATIENCE)) return;
    const { forMs } = stuck;
    const message = isModule
      ? `the extension ${name} has not returned for ${seconds(forMs)}`
      : `the datapath thread has stood still for ${seconds(forMs)}${name === null ? '' : `, in the extension ${name}`}`;
    this.#tell({ extension: isModule ? name : null, message });
  }

  #describe({ entered, forMs }: Stuck): string {
    const name = this.#thread.nameOf(entered);
    return `the datapath thread has not answered for ${seconds(forMs)}${name === null ? '' : `: it is in the extension ${name}`}`;
  }

  #died(error: Error): void {
    const { entered } = this.#thread;
    const isMemory = error.cause instanceof Error && 'code' in error.cause && error.cause.code === OUT_OF_MEMORY;
    let extension = entered !== null && this.#isModule(entered) ? entered : null;
    if (extension === null && isMemory) {
      const modules = this.#modules();
      extension = modules.length === 1 ? modules[0].name : this.#lastSeen;
    }
    this.#tell({ extension, message: messageOf(error) });
  }

  #tell(trouble: Trouble): void {
    this.stop();
    this.#report(trouble);
  }

  #isModule(name: string): boolean {
    return this.#modules().some((extension) => extension.name === name);
  }
}

const OUT_OF_MEMORY = 'ERR_WORKER_OUT_OF_MEMORY';

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
