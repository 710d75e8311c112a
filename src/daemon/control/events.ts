/** The last events of the daemon, and who wants to hear of new ones. */
import type { DaemonEvent } from '../api.ts';

const KEPT = 1000;

/** Keeps recent events and passes new ones on. */
export class EventLog {
  readonly #recent: DaemonEvent[] = [];
  readonly #listeners = new Set<(event: DaemonEvent) => void>();

  add(type: DaemonEvent['type'], subject: string, message: string): void {
    this.push({ timeMs: Date.now(), type, subject, message });
  }

  push(event: DaemonEvent): void {
    this.#recent.push(event);
    if (this.#recent.length > KEPT) this.#recent.shift();
    for (const listener of this.#listeners) listener(event);
  }

  /** The last events, oldest first. */
  recent(limit = KEPT): DaemonEvent[] {
    return this.#recent.slice(Math.max(0, this.#recent.length - limit));
  }

  /** @returns call to stop */
  subscribe(listener: (event: DaemonEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
