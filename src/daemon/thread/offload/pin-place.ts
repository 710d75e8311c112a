/**
 * Where a daemon keeps in the kernel what outlives it: a folder for pins, and the devices of its punt channel. All names follow from the path
 * of its socket, so that the next daemon finds them, and `millrace down` when there is none.
 *
 *      /sys/fs/bpf/millrace/<hash>/   where a bpf file system is mounted there
 *      <socket>.bpf/                  else: a bpf file system of its own
 *      <socket>.punt                  keeps the private namespace of the punt channel
 *
 * Neighbours: kept.ts fills the folder.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { isBpfFileSystem, mountBpfFileSystem, removeLeftPuntPair, unmountBpfFileSystem } from '../../../host/index.ts';
import { removeOffloadState } from '../../../offload/index.ts';
import { takeBackLeft } from './links-manifest.ts';

const SHARED = '/sys/fs/bpf';

function hashOf(identity: string): string {
  return createHash('sha256').update(identity).digest('hex').slice(0, 8);
}

/** The name of the punt channel's device. @param identity path of the socket */
export function puntNameOf(identity: string): string {
  return `mr${hashOf(identity)}`;
}

/** The file that keeps the punt channel's namespace. */
export function puntPathOf(identity: string): string {
  return `${identity}.punt`;
}

function ownFolderOf(identity: string): string {
  return `${identity}.bpf`;
}

function sharedFolderOf(identity: string): string {
  return join(SHARED, 'millrace', hashOf(identity));
}

/** The folder where something is pinned; null when nothing is. */
export function findPins(identity: string): string | null {
  const own = ownFolderOf(identity);
  if (isBpfFileSystem(own)) return own;
  const shared = sharedFolderOf(identity);
  return existsSync(shared) ? shared : null;
}

/**
 * The folder for pins, made when it is missing.
 * @throws SystemError when there is no bpf file system and none can be mounted
 */
export function makePins(identity: string): string {
  const found = findPins(identity);
  if (found !== null) return found;
  if (!isBpfFileSystem(SHARED)) {
    const own = ownFolderOf(identity);
    mountBpfFileSystem(own);
    return own;
  }
  const shared = sharedFolderOf(identity);
  mkdirSync(shared, { recursive: true, mode: 0o700 });
  return shared;
}

/** The state of programs on interfaces. */
export const LINKS = 'links';
const TABLE_PREFIX = 'table-';

/** The state of a flow source's tables. */
export function tableFolderOf(name: string): string {
  // A bpf file system takes no dots.
  const isPlain = /^[A-Za-z0-9_-]{1,64}$/.test(name);
  return `${TABLE_PREFIX}${isPlain ? name : createHash('sha256').update(name).digest('hex').slice(0, 16)}`;
}

/** Names of all states of flow sources in a folder. */
export function tableFolders(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.startsWith(TABLE_PREFIX));
}

/** What was removed. */
export interface RemovedPins {
  /** Programs that were taken off interfaces. */
  programs: number;
  /** The punt channel's devices. */
  devices: boolean;
}

/**
 * Take everything off the interfaces that was pinned, change back what was changed about them, and leave nothing of the folder, nor of the
 * punt channel.
 * @returns null when there was nothing
 * @throws SystemError, PrivilegeError
 */
export function removePins(identity: string): RemovedPins | null {
  const folder = findPins(identity);
  const removed: RemovedPins = { programs: 0, devices: false };
  if (folder !== null) {
    takeBackLeft(join(folder, LINKS));
    // The kernel has files of its own at the top of a bpf file system.
    for (const name of [LINKS, ...tableFolders(folder)]) {
      const links = join(folder, name, 'links');
      if (existsSync(links)) removed.programs += readdirSync(links).length;
      removeOffloadState(join(folder, name));
    }
    if (folder === sharedFolderOf(identity)) {
      rmdirSync(folder);
      removeEmpty(join(SHARED, 'millrace'));
    }
  }
  // The folder of a mount that went with its mount namespace is empty.
  unmountBpfFileSystem(ownFolderOf(identity));
  removed.devices = removeLeftPuntPair(puntNameOf(identity), puntPathOf(identity));
  return folder === null && !removed.devices ? null : removed;
}

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    // Other daemons have theirs there.
    const code = error instanceof Error && 'code' in error ? error.code : null;
    if (code !== 'ENOTEMPTY' && code !== 'EBUSY' && code !== 'ENOENT') throw error;
  }
}
