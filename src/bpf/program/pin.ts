/**
 * Pinning: a name below a bpf file system that keeps a program, map or link alive when its last descriptor is closed, so that a
 * restarted process can adopt it. Neighbours: program.ts, map/handle.ts and link/link.ts use it.
 */
import { rmSync } from 'node:fs';
import { FileDescriptor, SystemError } from '../../host/sys/index.ts';
import { Attributes, blockOfString, bpf, Errno, failure } from '../sys/bpf.ts';
import { COMMAND } from '../uapi/commands.ts';

/**
 * Pin what a descriptor stands for.
 * @param what for the message: 'map "flows"'
 * @throws SystemError: EEXIST when the path is taken, EPERM when it is not below a bpf file system
 */
export function pinObject(fd: number, path: string, what: string): void {
  const attributes = new Attributes(16);
  attributes.point(0, blockOfString(path));
  attributes.u32[2] = fd;
  const result = bpf(COMMAND.OBJ_PIN, attributes, 16);
  if (result >= 0) return;
  const doing = `pin ${what} to ${path}`;
  if (result === -Errno.EPERM) {
    throw new SystemError(
      'BPF_OBJ_PIN',
      Errno.EPERM,
      `${doing} (is the path below a mounted bpf file system, such as /sys/fs/bpf?)`,
    );
  }
  throw failure(COMMAND.OBJ_PIN, result, doing);
}

/**
 * Open a pinned object.
 * @throws SystemError: ENOENT when nothing is pinned there
 */
export function openPinned(path: string, what: string): FileDescriptor {
  const attributes = new Attributes(16);
  attributes.point(0, blockOfString(path));
  const result = bpf(COMMAND.OBJ_GET, attributes, 16);
  if (result < 0) throw failure(COMMAND.OBJ_GET, result, `open ${what} pinned at ${path}`);
  return new FileDescriptor(result);
}

/** Remove a pin. The object lives on while something else holds it; a path that is not there is no error. */
export function unpin(path: string): void {
  rmSync(path, { force: true });
}
