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
import { mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  checkSafeFolder,
  ForeignFileError,
  hasOwnBpfFileSystem,
  isBpfFileSystem,
  isOwnFolder,
  lookAt,
  mountAt,
  mountBpfFileSystem,
  removeLeftPuntPair,
  unmountBpfFileSystem,
} from '../../host/index.ts';
import { checkPinFolder, leftData, removeOffloadState } from '../../offload/index.ts';
import { readLinksData, takeBackLeft } from './links-manifest.ts';

const SHARED = '/sys/fs/bpf';

function hashOf(identity: string): string {
  return createHash('sha256').update(identity).digest('hex').slice(0, 8);
}

/** The name of the punt channel's device. @param identity path of the socket */
export function puntNameOf(identity: string): string {
  return `mr${hashOf(identity)}`;
}

/** The name of the device by which packets are handed down. */
export function downNameOf(identity: string): string {
  return `${puntNameOf(identity)}d`;
}

/** The file that keeps the punt channel's namespace. */
export function puntPathOf(identity: string): string {
  return `${identity}.punt`;
}

function ownFolderOf(identity: string): string {
  return `${identity}.bpf`;
}

/** What the bpf file system is mounted as: by it a daemon knows its own. */
function ownerOf(identity: string): string {
  return `millrace-${hashOf(identity)}`;
}

const SHARED_MILLRACE = join(SHARED, 'millrace');

function sharedFolderOf(identity: string): string {
  return join(SHARED_MILLRACE, hashOf(identity));
}

/** Whether a folder and those above it on the machine's bpf file system are this user's, and no mounts of their own. */
function isOwnOnShared(folder: string): boolean {
  const isOwnPlain = (path: string) => isOwnFolder(path) && mountAt(path) === null;
  return isOwnPlain(SHARED_MILLRACE) && isOwnPlain(folder);
}

/**
 * The folder where something is pinned; null when nothing is. What somebody else has put in its place is none.
 * @throws ForeignFileError when something else is beside the socket in the place of one's own bpf file system
 */
export function findPins(identity: string): string | null {
  const own = ownFolderOf(identity);
  if (hasOwnBpfFileSystem(own, ownerOf(identity))) return own;
  const shared = sharedFolderOf(identity);
  return isOwnOnShared(shared) ? shared : null;
}

/**
 * The folder for pins, made when it is missing.
 * @throws SystemError when there is no bpf file system and none can be mounted; ForeignFileError
 */
export function makePins(identity: string): string {
  const found = findPins(identity);
  if (found !== null) return found;
  const shared = sharedFolderOf(identity);
  if (canShare(shared)) {
    mkdirSync(shared, { recursive: true, mode: 0o700 });
    return shared;
  }
  const own = ownFolderOf(identity);
  mountBpfFileSystem(own, ownerOf(identity));
  return own;
}

/**
 * Make the folder for pins again in its place, where somebody has removed it or unmounted what it was on. Nothing is done where it is there.
 * @param folder from {@link makePins}
 * @throws SystemError when it cannot be made, PinningError when it is not on a bpf file system any more; ForeignFileError
 */
export function restorePins(identity: string, folder: string): void {
  if (folder === ownFolderOf(identity)) {
    mountBpfFileSystem(folder, ownerOf(identity));
    return;
  }
  if (isOwnOnShared(folder)) return;
  checkPinFolder(folder);
  if (!canShare(folder)) throw new ForeignFileError(folder, 'is not for this daemon alone any more');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
}

/** Whether the machine's bpf file system is there, and nobody else has the place on it or could take it. */
function canShare(folder: string): boolean {
  if (!isBpfFileSystem(SHARED)) return false;
  try {
    checkSafeFolder(SHARED);
  } catch (error) {
    if (error instanceof ForeignFileError) return false;
    throw error;
  }
  if (lookAt(SHARED_MILLRACE) === null) return true;
  return isOwnFolder(SHARED_MILLRACE) && mountAt(SHARED_MILLRACE) === null && lookAt(folder) === null;
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
  return readdirSync(folder).filter((name) => name.startsWith(TABLE_PREFIX) && isOwnFolder(join(folder, name)));
}

/** What there is of all this, in words; nothing is changed. @throws the error of node:fs */
export function remainingPins(identity: string): string[] {
  const remains: string[] = [];
  for (const path of [ownFolderOf(identity), puntPathOf(identity)]) if (lookAt(path) !== null) remains.push(path);
  const shared = sharedFolderOf(identity);
  if (isOwnOnShared(shared)) remains.push(shared);
  return remains;
}

/** The network namespace of the interfaces whose programs are pinned, as `/proc/self/ns/net` names it; null when nothing tells. @throws ForeignFileError */
export function namespaceOfPins(identity: string): string | null {
  const folder = findPins(identity);
  return folder === null ? null : (readLinksData(leftData(join(folder, LINKS)))?.namespace ?? null);
}

/** What was removed. */
export interface RemovedPins {
  /** Programs that were taken off interfaces. */
  programs: number;
  /** The punt channel's devices. */
  devices: boolean;
  /** What was changed about interfaces and could not be changed back, a sentence each. */
  unrestored: string[];
}

/**
 * Take everything off the interfaces that was pinned, change back what was changed about them, and leave nothing of the folder, nor of the
 * punt channel, whose device is looked for in the calling thread's namespace.
 * @returns null when there was nothing
 * @throws SystemError, PrivilegeError; ForeignFileError when something else is in the place of what is removed
 */
export function removePins(identity: string): RemovedPins | null {
  const folder = findPins(identity);
  const removed: RemovedPins = { programs: 0, devices: false, unrestored: [] };
  if (folder !== null) {
    removed.unrestored = takeBackLeft(join(folder, LINKS));
    // The kernel has files of its own at the top of a bpf file system.
    for (const name of [LINKS, ...tableFolders(folder)]) {
      const links = join(folder, name, 'links');
      if (isOwnFolder(links)) removed.programs += readdirSync(links).length;
      removeOffloadState(join(folder, name));
    }
    if (folder === sharedFolderOf(identity)) {
      rmSync(folder, { recursive: true, force: true });
      removeEmpty(SHARED_MILLRACE);
    }
  }
  // The folder of a mount that went with its mount namespace is empty.
  unmountBpfFileSystem(ownFolderOf(identity), ownerOf(identity));
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
