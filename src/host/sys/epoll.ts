/** epoll(7): waiting for many descriptors at once. loop.ts is its user; this file only knows the structures. */
import { FileDescriptor } from './descriptor.ts';
import { Errno } from './errors.ts';
import { bindLibc, check, lastErrno } from './libc.ts';
import { NativeBlock } from './memory.ts';

const createCall = bindLibc<[number]>('int epoll_create1(int flags)');
const controlCall = bindLibc<[number, number, number, number]>(
  'int epoll_ctl(int epfd, int op, int fd, intptr_t event)',
);
const waitCall = bindLibc<[number, number, number, number]>(
  'int epoll_wait(int epfd, intptr_t events, int maximum, int timeout_ms)',
);

/** Event bits (sys/epoll.h). */
export const EpollEvent = { IN: 0x1, OUT: 0x4, ERR: 0x8, HUP: 0x10, RDHUP: 0x2000 } as const;

const EPOLL_CLOEXEC = 0o2000000;
const CTL_ADD = 1;
const CTL_DEL = 2;
const CTL_MOD = 3;

// struct epoll_event is packed on x86-64 alone: events u32, data u64, 12 bytes; elsewhere data is aligned and it has 16.
const packed = process.arch === 'x64';
const entryWords = packed ? 3 : 4;
const dataWord = packed ? 1 : 2;

/** An epoll instance with room for a fixed number of events per wait. */
export class Epoll {
  readonly descriptor: FileDescriptor;
  readonly #events: NativeBlock;
  readonly #maximum: number;
  readonly #control = new NativeBlock(16);

  /** @throws SystemError */
  constructor(maximumEvents = 64) {
    this.descriptor = new FileDescriptor(check(createCall(EPOLL_CLOEXEC), 'epoll_create1', 'make an epoll instance'));
    this.#maximum = maximumEvents;
    this.#events = new NativeBlock(maximumEvents * entryWords * 4);
  }

  /** @param events or-ed {@link EpollEvent} bits; level-triggered @throws SystemError (EEXIST when it is there already) */
  add(fd: number, events: number): void {
    this.#ctl(CTL_ADD, fd, events, 'wait for');
  }

  /** @throws SystemError */
  modify(fd: number, events: number): void {
    this.#ctl(CTL_MOD, fd, events, 'change the events of');
  }

  /** Stop waiting for it. One that has been closed, or was never added, is no error. */
  remove(fd: number): void {
    controlCall(this.descriptor.number, CTL_DEL, fd, this.#control.address);
  }

  #ctl(operation: number, fd: number, events: number, doing: string): void {
    this.#control.u32[0] = events;
    this.#control.i32[dataWord] = fd;
    check(
      controlCall(this.descriptor.number, operation, fd, this.#control.address),
      'epoll_ctl',
      `${doing} descriptor ${fd}`,
    );
  }

  /**
   * Wait. The results are read by {@link descriptorOf} and {@link eventsOf} until the next wait.
   * @param timeoutMs 0 returns at once, -1 waits for ever
   * @returns how many descriptors are ready; 0 after a signal
   * @throws SystemError
   */
  wait(timeoutMs: number): number {
    const count = waitCall(this.descriptor.number, this.#events.address, this.#maximum, timeoutMs);
    if (count < 0) {
      if (lastErrno() === Errno.EINTR) return 0;
      return check(count, 'epoll_wait', 'wait for events');
    }
    return count;
  }

  descriptorOf(index: number): number {
    return this.#events.i32[index * entryWords + dataWord];
  }

  eventsOf(index: number): number {
    return this.#events.u32[index * entryWords];
  }

  close(): void {
    this.descriptor.close();
  }
}
