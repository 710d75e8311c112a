/**
 * Network namespaces: open them, find them, run a function inside one. A namespace belongs to a thread: entering one moves the calling thread
 * alone. Sockets stay in the namespace where they were made, and a child process starts in that of the thread that spawned it.
 * Neighbours: namespace-finder.ts finds one by the id that the kernel tells; ../namespace.ts makes and deletes named ones.
 */
import { fstatSync, readdirSync, statSync } from 'node:fs';
import type { FileDescriptor } from './descriptor.ts';
import { Errno, SystemError } from './errors.ts';
import { Open, open } from './files.ts';
import { CloneFlag, setns, unshare } from './namespaces.ts';

/** Where named namespaces are, for `ip netns` and for us. */
export const NAMESPACE_DIRECTORY = '/run/netns';
const OWN = '/proc/thread-self/ns/net';

/** A reference to a network namespace, which exists at least as long as the reference is open. */
export class NetworkNamespace {
  /** For messages: its name, or where it was found. */
  readonly label: string;
  readonly #descriptor: FileDescriptor;

  private constructor(path: string, label: string) {
    this.label = label;
    try {
      // What is no namespace is told apart when it is entered; a named pipe must not be waited for.
      this.#descriptor = open(path, Open.RDONLY | Open.NONBLOCK, `open network namespace ${label}`);
    } catch (error) {
      if (error instanceof SystemError && error.errno === Errno.ENOENT) {
        throw new SystemError(
          'open',
          Errno.ENOENT,
          `open network namespace ${label}`,
          '`ip netns` lists the named ones',
        );
      }
      throw error;
    }
  }

  /** The calling thread's own. @throws SystemError */
  static current(): NetworkNamespace {
    return new NetworkNamespace(OWN, 'of this thread');
  }

  /** The {@link identity} of the calling thread's own, without opening it. */
  static identityHere(): string {
    return identityOf(statSync(OWN));
  }

  /** A new one that nothing but this reference, and what is opened inside, keeps alive. @throws SystemError EPERM */
  static make(label: string): NetworkNamespace {
    const home = NetworkNamespace.current();
    try {
      unshare(CloneFlag.NEWNET, `make network namespace ${label}`);
      return new NetworkNamespace(OWN, label);
    } finally {
      home.enter();
      home.close();
    }
  }

  /** One made by `ip netns add` or `createNamespace`. @throws SystemError ENOENT; RangeError for an impossible name */
  static byName(name: string): NetworkNamespace {
    return new NetworkNamespace(namespacePath(name), name);
  }

  /** @param path such as /proc/17/ns/net @throws SystemError */
  static byPath(path: string): NetworkNamespace {
    return new NetworkNamespace(path, path);
  }

  /** That of a process, such as a container's first. @throws SystemError */
  static byPid(pid: number): NetworkNamespace {
    return new NetworkNamespace(`/proc/${pid}/ns/net`, `of process ${pid}`);
  }

  /**
   * One that a former process has been in.
   * @param link what /proc/<pid>/ns/net pointed to, such as `net:[4026531840]`
   * @returns null when neither a name nor a process leads to it
   */
  static find(link: string): NetworkNamespace | null {
    for (const { path, inode } of namespacePlaces()) {
      if (`net:[${inode}]` !== link) continue;
      try {
        return NetworkNamespace.byPath(path);
      } catch {
        // It has gone meanwhile.
      }
    }
    return null;
  }

  /** All that a name or a process leads to, each once, and closed when the next one is asked for. */
  static *all(): Generator<NetworkNamespace, void, undefined> {
    for (const { path } of namespacePlaces()) {
      let namespace: NetworkNamespace;
      try {
        namespace = NetworkNamespace.byPath(path);
      } catch {
        // It has gone meanwhile, or is none of ours to look at.
        continue;
      }
      try {
        yield namespace;
      } finally {
        namespace.close();
      }
    }
  }

  /** Its descriptor, for rtnetlink requests that move a device. */
  get fileDescriptor(): number {
    return this.#descriptor.number;
  }

  /** The same for two references to one namespace, and different for different ones. */
  get identity(): string {
    return identityOf(fstatSync(this.#descriptor.number));
  }

  /**
   * Run a function with the calling thread inside the namespace.
   * @param body synchronous: what it started that goes on later would find the thread elsewhere
   * @returns its result
   * @throws what it throws; SystemError when the namespace cannot be entered; TypeError when it is asynchronous
   */
  run<Result>(body: () => Result): Result {
    const home = NetworkNamespace.current();
    try {
      this.enter();
      const result = body();
      if (result instanceof Promise) throw new TypeError('a function that runs in a namespace must be synchronous');
      return result;
    } finally {
      home.enter();
      home.close();
    }
  }

  /** Move the calling thread into the namespace for good. @throws SystemError */
  enter(): void {
    setns(this.#descriptor.number, CloneFlag.NEWNET, `enter network namespace ${this.label}`);
  }

  /** Drop the reference. Closing twice is harmless. */
  close(): void {
    this.#descriptor.close();
  }
}

function identityOf({ dev, ino }: { readonly dev: number; readonly ino: number }): string {
  return `${dev}:${ino}`;
}

/** Where a named one is. @throws RangeError for an impossible name */
export function namespacePath(name: string): string {
  if (!/^[^/\0]{1,255}$/.test(name) || name === '.' || name === '..') {
    throw new RangeError(`'${name}' is no name for a network namespace`);
  }
  return `${NAMESPACE_DIRECTORY}/${name}`;
}

/** Where namespaces are found, each once: by name first, then by the processes in them. */
export function* namespacePlaces(): Generator<{ readonly path: string; readonly inode: number }, void, undefined> {
  const named = namespaceNames().map((name) => `${NAMESPACE_DIRECTORY}/${name}`);
  const ofProcesses = list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => `/proc/${pid}/ns/net`);
  const seen = new Set<number>();
  for (const path of [...named, ...ofProcesses]) {
    try {
      const { ino: inode } = statSync(path);
      if (seen.has(inode)) continue;
      seen.add(inode);
      yield { path, inode };
    } catch {
      // It has gone meanwhile, or is none of ours to look at.
    }
  }
}

/** The names of all named namespaces, sorted. */
export function namespaceNames(): string[] {
  return list(NAMESPACE_DIRECTORY).sort();
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
