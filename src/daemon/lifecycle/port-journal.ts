/**
 * Which ports the daemon's journal names: those of its configuration, and those that extensions have added, as Open vSwitch does. Neighbours: lock.ts is the file,
 * leftovers.ts gives back the interfaces of a daemon that was killed.
 */
import type { Config } from '../config/model.ts';
import type { UserPort } from '../thread/calls.ts';

/** A port as the journal has it. */
export interface JournalPort {
  readonly name: string;
  readonly kind: string;
  readonly device: string;
}

export class PortJournal {
  readonly #write: (ports: readonly JournalPort[]) => void;
  readonly #added = new Map<string, JournalPort>();
  #configured: readonly JournalPort[] = [];
  #isDue = false;
  #isOver = false;

  /** @param write puts it down */
  constructor(write: (ports: readonly JournalPort[]) => void) {
    this.#write = write;
  }

  /** The configuration that runs is another. */
  runs({ ports }: Config): void {
    this.#configured = [...ports].map(([name, { kind, device }]) => ({ name, kind, device }));
    this.#write(this.#all());
  }

  /** An extension has added a port, or taken it away. Many come at once: what came in a turn of Node's loop is put down once. */
  changed({ name, kind, device, isThere }: UserPort): void {
    if (isThere) this.#added.set(name, { name, kind, device });
    else this.#added.delete(name);
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      if (!this.#isOver) this.#write(this.#all());
    });
  }

  /** The file is somebody else's from now on. */
  close(): void {
    this.#isOver = true;
  }

  #all(): JournalPort[] {
    return [...this.#configured, ...this.#added.values()];
  }
}
