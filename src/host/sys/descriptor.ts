/**
 * Ownership of file descriptors. A raw number can be closed twice, and the second time it may be somebody else's;
 * a {@link FileDescriptor} closes once. All descriptors of host/ are owned by one of these.
 */
import { closeDescriptor } from './libc.ts';

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
