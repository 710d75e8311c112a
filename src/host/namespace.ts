/**
 * Network namespaces: open them, run a function inside one, make and delete named ones as `ip netns` does (ip-netns(8)), so that both
 * see the same. A namespace belongs to a thread: entering one moves the calling thread alone. Sockets stay in the namespace where
 * they were made, and a child process starts in that of the thread that spawned it.
 */
import { spawnSync } from 'node:child_process';
import { fstatSync, mkdirSync, readdirSync, statSync, unlinkSync } from 'node:fs';
import { mountAt } from './mounts.ts';
import { ForeignFileError, isOwn, kindOf, lookAt } from './own-files.ts';
import {
  CloneFlag,
  Errno,
  type FileDescriptor,
  MountFlag,
  mount,
  Open,
  open,
  SystemError,
  setns,
  unmount,
  unshare,
} from './sys/index.ts';

/** Where named namespaces are, for `ip netns` and for us. */
const DIRECTORY = '/run/netns';
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

  /** One made by `ip netns add` or {@link createNamespace}. @throws SystemError ENOENT; RangeError for an impossible name */
  static byName(name: string): NetworkNamespace {
    return new NetworkNamespace(namedPath(name), name);
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
    const { dev, ino } = fstatSync(this.#descriptor.number);
    return `${dev}:${ino}`;
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

function namedPath(name: string): string {
  if (!/^[^/\0]{1,255}$/.test(name) || name === '.' || name === '..') {
    throw new RangeError(`'${name}' is no name for a network namespace`);
  }
  return `${DIRECTORY}/${name}`;
}

/** Where namespaces are found, each once: by name first, then by the processes in them. */
function* namespacePlaces(): Generator<{ readonly path: string; readonly inode: number }, void, undefined> {
  const named = namespaceNames().map((name) => `${DIRECTORY}/${name}`);
  const ofProcesses = readdirSync('/proc')
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
  try {
    return readdirSync(DIRECTORY).sort();
  } catch {
    return [];
  }
}

/**
 * Make a named namespace, with its loopback interface down as the kernel makes it.
 * @throws SystemError EEXIST when the name is taken, EPERM; RangeError
 */
export function createNamespace(name: string): void {
  const path = namedPath(name);
  shareDirectory(`make network namespace ${name}`);
  createNamespaceAt(path, name);
}

/**
 * Make a namespace that lives as long as a file is there, whatever becomes of the process. `ip netns` does not list it.
 * @param path of the file, which must not exist; its directory must
 * @param label for messages
 * @throws SystemError EEXIST, ENOENT, EPERM
 */
export function createNamespaceAt(path: string, label = path): void {
  const doing = `make network namespace ${label}`;
  const flags = Open.RDONLY | Open.CREAT | Open.EXCL;
  open(path, flags, doing).close();
  const home = NetworkNamespace.current();
  try {
    unshare(CloneFlag.NEWNET, doing);
    mount(OWN, path, null, MountFlag.BIND, doing);
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    home.enter();
    home.close();
  }
}

/** Make the directory a mount point of its own whose mounts reach other mount namespaces, so that deleting works from any of them. */
function shareDirectory(doing: string): void {
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o755 });
  try {
    mount('', DIRECTORY, 'none', MountFlag.SHARED | MountFlag.REC, doing);
  } catch (error) {
    // EINVAL: it is no mount point yet.
    if (!(error instanceof SystemError) || error.errno !== Errno.EINVAL) throw error;
    mount(DIRECTORY, DIRECTORY, 'none', MountFlag.BIND | MountFlag.REC, doing);
    mount('', DIRECTORY, 'none', MountFlag.SHARED | MountFlag.REC, doing);
  }
}

/**
 * Delete a named namespace. It lives on as long as processes, sockets or references are in it.
 * @returns whether there was one
 * @throws SystemError; RangeError
 */
export function deleteNamespace(name: string): boolean {
  return deleteNamespaceAt(namedPath(name), name);
}

/**
 * Whether a file keeps a namespace, or is an empty one of this user's, as a restart of the machine leaves it.
 * @returns null when there is nothing
 * @throws ForeignFileError when anything else is there
 */
export function keepsNamespace(path: string): boolean | null {
  const there = lookAt(path);
  if (there === null) return null;
  if (there.isFile() && mountAt(path)?.type === 'nsfs') return true;
  if (there.isFile() && isOwn(there) && there.size === 0) return false;
  throw new ForeignFileError(path, `is ${kindOf(there)} of somebody else, and keeps no network namespace`);
}

/**
 * Delete a namespace made by {@link createNamespaceAt}, and the file.
 * @returns whether the file was there
 * @throws SystemError; ForeignFileError when something else is there
 */
export function deleteNamespaceAt(path: string, label = path): boolean {
  const keeps = keepsNamespace(path);
  if (keeps === null) return false;
  if (keeps) unmount(path, MountFlag.DETACH | MountFlag.NOFOLLOW, `delete network namespace ${label}`);
  unlinkSync(path);
  return true;
}

// A thread of a running Node process cannot make a user namespace (the kernel wants a process of one thread), so util-linux does.
const USER_NAMESPACE_COMMAND = ['unshare', '--user', '--map-root-user', '--net', '--mount'] as const;

/**
 * A command line that runs another with all network privileges inside namespaces of its own: what an unprivileged user can do.
 * @param command program and arguments
 */
export function inUserNamespace(command: readonly string[]): string[] {
  return [...USER_NAMESPACE_COMMAND, '--', ...command];
}

/** Whether this user may make user namespaces here. @returns null when so, otherwise a sentence that says why not */
export function userNamespaceProblem(): string | null {
  const [program, ...args] = inUserNamespace(['true']);
  const result = spawnSync(program, args, { encoding: 'utf8' });
  if (result.error !== undefined) return `cannot run unshare (package util-linux): ${result.error.message}`;
  if (result.status === 0) return null;
  return `this kernel lets this user make no user namespaces: ${result.stderr.trim()}`;
}
