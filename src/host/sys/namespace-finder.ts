/**
 * Finds network namespaces by the ids by which the calling thread's own knows them: the kernel names others by these alone, and names and
 * processes lead to what can be entered. Searching all processes costs a thousand times what trying the same place again does, so both what was
 * found and what was not is remembered. Nothing here keeps a namespace open: that would keep it alive after its owner has deleted it.
 */
import { statSync } from 'node:fs';
import { NetworkNamespace, namespacePlaces } from './network-namespace.ts';

/** How long one that was not found counts as such, without news and after news. */
const MISSING_MS = 10_000;
const MISSING_AFTER_NEWS_MS = 1_000;
const MOST_REMEMBERED = 1024;

export interface FinderOptions {
  /**
   * The id by which the calling thread's namespace knows another (RTM_GETNSID).
   * @param descriptor open reference to the other; undefined is answered where it has no id, or cannot be asked about
   */
  idOf(descriptor: number): number | undefined;
  /** Paths that lead to namespaces; by names and processes unless given. */
  places?(): Iterable<{ readonly path: string }>;
  /** Milliseconds of any clock that only goes forward. */
  nowMs?(): number;
}

export class NamespaceFinder {
  readonly #options: FinderOptions;
  /** Paths by ids. */
  readonly #found = new Map<number, string>();
  /** When each was not found. */
  readonly #missing = new Map<number, number>();
  #missingMs = MISSING_MS;
  /** Ids are those of this namespace. */
  #own = '';

  constructor(options: FinderOptions) {
    this.#options = options;
  }

  /**
   * Open the namespace with an id.
   * @returns null when nothing leads to it; else the caller closes it. Its label is the path
   */
  open(id: number): NetworkNamespace | null {
    const own = ownIdentity();
    if (own !== this.#own) this.#forget();
    this.#own = own;
    const known = this.#found.get(id);
    const there = known === undefined ? null : this.#tryOpen(known, id);
    if (there !== null) return there;
    this.#found.delete(id);
    const nowMs = this.#nowMs();
    const missedMs = this.#missing.get(id);
    if (missedMs !== undefined && nowMs < missedMs + this.#missingMs) return null;
    return this.#search(id, nowMs);
  }

  /** Something has happened to namespaces, or what is in them: one that was not found may be found soon. */
  news(): void {
    this.#missingMs = MISSING_AFTER_NEWS_MS;
  }

  #search(id: number, nowMs: number): NetworkNamespace | null {
    this.#missingMs = MISSING_MS;
    const places = this.#options.places ?? namespacePlaces;
    for (const { path } of places()) {
      const namespace = this.#tryOpen(path, id);
      if (namespace === null) continue;
      this.#missing.delete(id);
      if (this.#found.size >= MOST_REMEMBERED) this.#found.clear();
      this.#found.set(id, path);
      return namespace;
    }
    if (this.#missing.size >= MOST_REMEMBERED) this.#missing.clear();
    this.#missing.set(id, nowMs);
    return null;
  }

  /** What was asked about is what is given: a path may lead elsewhere by the next time. */
  #tryOpen(path: string, id: number): NetworkNamespace | null {
    let namespace: NetworkNamespace;
    try {
      namespace = NetworkNamespace.byPath(path);
    } catch {
      // It has gone meanwhile, or is none of ours to look at.
      return null;
    }
    let isIt = false;
    try {
      isIt = this.#options.idOf(namespace.fileDescriptor) === id;
    } finally {
      if (!isIt) namespace.close();
    }
    return isIt ? namespace : null;
  }

  #nowMs(): number {
    return this.#options.nowMs?.() ?? performance.now();
  }

  #forget(): void {
    this.#found.clear();
    this.#missing.clear();
  }
}

function ownIdentity(): string {
  const { dev, ino } = statSync('/proc/thread-self/ns/net');
  return `${dev}:${ino}`;
}
