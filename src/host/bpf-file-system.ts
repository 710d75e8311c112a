/**
 * A bpf file system of one's own, for pins: mounted where a daemon keeps its state, so that nothing of the machine's is touched. What is pinned there
 * decides which programs run, so only its owner gets in (mode 0700; the kernel's default lets everybody make files). The source of the
 * mount is a name of the owner's: by that it is told from mounts of others at the same place, bind mounts of another daemon's included.
 */
import { mkdirSync, readdirSync, rmdirSync, statfsSync } from 'node:fs';
import { mountAt } from './mounts.ts';
import { checkOwnFolder, ForeignFileError, lookAt } from './own-files.ts';
import { Errno, MountFlag, mount, SystemError, unmount } from './sys/index.ts';

/** statfs(2) of a bpf file system. */
const BPF_FS_MAGIC = 0xcafe4a11;

/** Whether a folder is on a bpf file system, whoever mounted it. */
export function isBpfFileSystem(folder: string): boolean {
  // The kernel gives a signed word on some architectures.
  return lookAt(folder)?.isDirectory() === true && statfsSync(folder).type >>> 0 === BPF_FS_MAGIC;
}

/**
 * Whether one's own bpf file system is mounted at a folder.
 * @param owner what it was mounted as
 * @returns false when there is nothing, or an empty folder of this user's
 * @throws ForeignFileError when anything else is there
 */
export function hasOwnBpfFileSystem(folder: string, owner: string): boolean {
  const there = lookAt(folder);
  if (there === null) return false;
  checkOwnFolder(folder, there);
  const mounted = mountAt(folder);
  if (mounted !== null) {
    if (mounted.type === 'bpf' && mounted.source === owner && mounted.root === '/' && (there.mode & 0o077) === 0)
      return true;
    throw new ForeignFileError(
      folder,
      `has a mount of somebody else (${mounted.type}, ${mounted.source})`,
      `unmount it (umount ${folder}), or choose another path; nothing was touched`,
    );
  }
  if (readdirSync(folder).length > 0) throw new ForeignFileError(folder, 'is a folder with files in it');
  return false;
}

/**
 * Mount one at a folder, which is made when it is missing. One's own that is there already is left as it is.
 * @param owner what it is mounted as
 * @throws SystemError EPERM; ForeignFileError
 */
export function mountBpfFileSystem(folder: string, owner: string): void {
  if (hasOwnBpfFileSystem(folder, owner)) return;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const flags = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC;
  mount(owner, folder, 'bpf', flags, `mount a bpf file system at ${folder}`, 'mode=0700');
}

/** Unmount it and remove the folder. Nothing there is no error. @throws SystemError EBUSY; ForeignFileError */
export function unmountBpfFileSystem(folder: string, owner: string): void {
  if (hasOwnBpfFileSystem(folder, owner)) {
    try {
      unmount(folder, MountFlag.DETACH | MountFlag.NOFOLLOW, `unmount ${folder}`);
    } catch (error) {
      // It went at the same moment.
      if (!(error instanceof SystemError) || error.errno !== Errno.EINVAL) throw error;
    }
  }
  // The folder of a mount that went with its mount namespace is empty.
  if (lookAt(folder) !== null && !hasOwnBpfFileSystem(folder, owner)) rmdirSync(folder);
}
