/**
 * Ownership of file descriptors. A raw number can be closed twice, and the second time it may be somebody else's;
 * a {@link FileDescriptor} closes once. All descriptors of host/ are owned by one of these.
 */
import { bindLibc, check, closeDescriptor } from './libc.ts';

const fcntl = bindLibc<[number, number, number]>('int fcntl(int fd, int command, int argument)');
const F_DUPFD_CLOEXEC = 1030;

let openCount = 0;

/** How many {@link FileDescriptor}s of this thread are open: for tests and for debugging leaks. */
export function openDescriptors(): number {
  return openCount;
}

/** An open file descriptor with exactly one owner. */
export class FileDescriptor {
  /** The number while it is open, -1 afterwards. Read it for each call; do not keep copies. */
  number: number;

  /** @param number a descriptor that belongs to nobody else; close-on-exec should be set on it */
  constructor(number: number) {
    if (!Number.isInteger(number) || number < 0) throw new RangeError(`not a file descriptor: ${number}`);
    this.number = number;
    openCount += 1;
  }

  get closed(): boolean {
    return this.number < 0;
  }

  /** Close it. Closing twice is harmless. */
  close(): void {
    const number = this.number;
    if (number < 0) return;
    this.number = -1;
    openCount -= 1;
    closeDescriptor(number);
  }

  /** Give up ownership: the caller now has to close the number. */
  release(): number {
    const number = this.number;
    if (number < 0) throw new Error('the descriptor is closed already');
    this.number = -1;
    openCount -= 1;
    return number;
  }
}

/** Another descriptor of the same thing, which the caller has to close. @throws SystemError */
export function duplicate(fd: number): number {
  return check(fcntl(fd, F_DUPFD_CLOEXEC, 0), 'fcntl', 'duplicate a descriptor');
}
