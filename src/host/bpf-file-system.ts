/** A bpf file system of one's own, for pins: mounted where a daemon keeps its state, so that nothing of the machine's is touched. */
import { existsSync, mkdirSync, rmdirSync, statfsSync } from 'node:fs';
import { Errno, MountFlag, mount, SystemError, unmount } from './sys/index.ts';

/** statfs(2) of a bpf file system. */
const BPF_FS_MAGIC = 0xcafe4a11;

/** Whether a folder is on a bpf file system. */
export function isBpfFileSystem(folder: string): boolean {
  // The kernel gives a signed word on some architectures.
  return existsSync(folder) && statfsSync(folder).type >>> 0 === BPF_FS_MAGIC;
}

/**
 * Mount one at a folder, which is made when it is missing. One that is there already is left as it is.
 * @throws SystemError EPERM
 */
export function mountBpfFileSystem(folder: string): void {
  if (isBpfFileSystem(folder)) return;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  mount(
    'bpf',
    folder,
    'bpf',
    MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC,
    `mount a bpf file system at ${folder}`,
  );
}

/** Unmount it and remove the folder. Nothing there is no error. @throws SystemError EBUSY */
export function unmountBpfFileSystem(folder: string): void {
  if (isBpfFileSystem(folder)) {
    try {
      unmount(folder, MountFlag.DETACH, `unmount ${folder}`);
    } catch (error) {
      // The folder of somebody else's mount.
      if (!(error instanceof SystemError) || error.errno !== Errno.EINVAL) throw error;
    }
  }
  if (existsSync(folder) && !isBpfFileSystem(folder)) rmdirSync(folder);
}
