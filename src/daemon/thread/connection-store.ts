/** Where the table of connections lies: in arrays of the kernel, which programs can read and the next process finds; where the kernel does not allow that, in memory of this process. */
import {
  type ConnectionMemory,
  type ConnectionStore,
  ControlWord,
  MAXIMUM_CAPACITY,
  MAXIMUM_MAPPED_CONNECTIONS,
  memorySizes,
  plainMemory,
} from '../../connections/index.ts';
import { KeptArrays } from '../../keeper/index.ts';
import type { ConnectionReferences } from '../../offload/index.ts';
import { messageOf } from '../../switch/index.ts';

const WORD_BYTES = 4;
const LONGEST_REST_MS = 200;
const SHORTEST_REST_MS = 20;
const CONNECTIONS_FOR_REST_MS = 1024;

/**
 * How long a freed record of a table rests, in milliseconds: far longer than a program runs, and than a processor of a virtual machine is usually taken away from one. Of a small table less, so that at
 * 64,000 new connections a second those that rest are not more than a sixteenth of it.
 */
export function restMsOf(capacity: number): number {
  return Math.min(Math.max(Math.ceil(capacity / CONNECTIONS_FOR_REST_MS), SHORTEST_REST_MS), LONGEST_REST_MS);
}

export class MappedConnections implements ConnectionStore {
  readonly #arrays: KeptArrays;
  readonly #warn: (message: string) => void;
  readonly #made: () => void;
  #isPlain = false;
  /** Why the arrays are not pinned, when that was last tried; null when they are. */
  #pinTrouble: string | null = null;
  #capacity = 0;

  /**
   * @param warn told of what cannot be as it should
   * @param made told of each new table
   */
  constructor(identity: string, warn: (message: string) => void, made: () => void) {
    this.#arrays = new KeptArrays(identity, 'connections');
    this.#warn = warn;
    this.#made = made;
  }

  /** The arrays of the table, for programs; null when there are none, or more connections than programs can reach. */
  get references(): ConnectionReferences | null {
    const [control, index, records] = ['control', 'index', 'records'].map((name) => this.#arrays.map(name));
    if (this.#isPlain || control === undefined || index === undefined || records === undefined) return null;
    const capacity = this.#capacity;
    return capacity > MAXIMUM_MAPPED_CONNECTIONS ? null : { capacity, control, index, records };
  }

  get restMs(): number {
    return this.#isPlain ? 0 : restMsOf(this.#capacity);
  }

  left(): ConnectionMemory | null {
    try {
      // Its size is the same for all tables.
      const control = this.#arrays.left('control', memorySizes(1).control * WORD_BYTES);
      const capacity = control?.[ControlWord.CAPACITY] ?? 0;
      if (control === null || capacity < 1 || capacity > MAXIMUM_CAPACITY) return null;
      const sizes = memorySizes(capacity);
      const index = this.#arrays.left('index', sizes.index * WORD_BYTES);
      const records = this.#arrays.left('records', sizes.records * WORD_BYTES);
      this.#capacity = capacity;
      if (index === null || records === null) return null;
      if (capacity > MAXIMUM_MAPPED_CONNECTIONS) this.#warn(tooLarge(capacity));
      return { control, index, records };
    } catch (error) {
      this.#warn(`connections that were left cannot be taken up: ${messageOf(error)}`);
      return null;
    }
  }

  make(capacity: number): ConnectionMemory {
    const { control, index, records } = memorySizes(capacity);
    const sizes = { control: control * WORD_BYTES, index: index * WORD_BYTES, records: records * WORD_BYTES };
    try {
      const { words, transient } = this.#arrays.make(sizes);
      if (transient !== null) this.#warn(`connections end with the daemon: ${transient}`);
      this.#capacity = capacity;
      this.#made();
      return words;
    } catch (error) {
      this.#warn(`connections end with the daemon: ${messageOf(error)}`);
      this.#isPlain = true;
      return plainMemory(capacity);
    }
  }

  /** See that connections outlive the process, and pin them again where somebody has removed that. */
  lookAfter(): void {
    let trouble: string | null = null;
    try {
      const path = this.#arrays.pinAgain();
      if (path !== null) this.#warn(`${path} was removed by somebody: connections are pinned again`);
    } catch (error) {
      trouble = messageOf(error);
    }
    if (trouble !== null && trouble !== this.#pinTrouble)
      this.#warn(`connections end with the daemon, as they cannot be pinned: ${trouble}`);
    this.#pinTrouble = trouble;
  }

  close(keeps: boolean): void {
    this.#arrays.close(keeps);
  }
}

function tooLarge(capacity: number): string {
  return `the table of connections that was left has room for ${capacity}, and programs in the kernel reach ${MAXIMUM_MAPPED_CONNECTIONS} at most: all packets of connections come up until \`millrace down\``;
}
