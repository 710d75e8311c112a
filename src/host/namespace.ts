/**
 * Make and delete named network namespaces as `ip netns` does (ip-netns(8)), so that both see the same. Neighbour: sys/network-namespace.ts opens
 * and enters them.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, unlinkSync } from 'node:fs';
import { mountAt } from './mounts.ts';
import { ForeignFileError, isOwn, kindOf, lookAt } from './own-files.ts';
import {
  CloneFlag,
  Errno,
  MountFlag,
  mount,
  NAMESPACE_DIRECTORY,
  NetworkNamespace,
  namespacePath,
  Open,
  open,
  SystemError,
  unmount,
  unshare,
} from './sys/index.ts';

const OWN = '/proc/thread-self/ns/net';

/**
 * Make a named namespace, with its loopback interface down as the kernel makes it.
 * @throws SystemError EEXIST when the name is taken, EPERM; RangeError
 */
export function createNamespace(name: string): void {
  const path = namespacePath(name);
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
  mkdirSync(NAMESPACE_DIRECTORY, { recursive: true, mode: 0o755 });
  try {
    mount('', NAMESPACE_DIRECTORY, 'none', MountFlag.SHARED | MountFlag.REC, doing);
  } catch (error) {
    // EINVAL: it is no mount point yet.
    if (!(error instanceof SystemError) || error.errno !== Errno.EINVAL) throw error;
    mount(NAMESPACE_DIRECTORY, NAMESPACE_DIRECTORY, 'none', MountFlag.BIND | MountFlag.REC, doing);
    mount('', NAMESPACE_DIRECTORY, 'none', MountFlag.SHARED | MountFlag.REC, doing);
  }
}

/**
 * Delete a named namespace. It lives on as long as processes, sockets or references are in it.
 * @returns whether there was one
 * @throws SystemError; RangeError
 */
export function deleteNamespace(name: string): boolean {
  return deleteNamespaceAt(namespacePath(name), name);
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
