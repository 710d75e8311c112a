/**
 * Files and descriptors in general: open, read, write, ioctl, eventfd. Sockets are in socket.ts.
 * Calls named `raw...` return the kernel's result as it is (negative for failure, errno by lastErrno) for hot code.
 */
import { FileDescriptor } from './descriptor.ts';
import { Errno } from './errors.ts';
import { bindLibc, check, lastErrno } from './libc.ts';
import { NativeBlock } from './memory.ts';

const openCall = bindLibc<[string, number, number]>('int open(const char *path, int flags, int mode)');
const ioctlCall = bindLibc<[number, number, Uint8Array]>('int ioctl(int fd, unsigned long request, void *argument)');
const ioctlNumberCall = bindLibc<[number, number, number]>(
  'int ioctl(int fd, unsigned long request, intptr_t argument)',
);
const pollCall = bindLibc<[Uint8Array, number, number]>(
  'int poll(void *descriptors, unsigned long count, int timeout_ms)',
);
const eventfdCall = bindLibc<[number, number]>('int eventfd(unsigned int initial, int flags)');
const readBytesCall = bindLibc<[number, Uint8Array, number]>('int64_t read(int fd, void *to, size_t length)');
const writeBytesCall = bindLibc<[number, Uint8Array, number]>('int64_t write(int fd, const void *from, size_t length)');

/** Read into memory given by address. @returns bytes, or negative with lastErrno */
export const rawRead = bindLibc<[number, number, number]>('int64_t read(int fd, intptr_t to, size_t length)');
/** Write from an array of struct iovec given by address. @returns bytes, or negative with lastErrno */
export const rawWritev = bindLibc<[number, number, number]>('int64_t writev(int fd, intptr_t iovecs, int count)');

/** Flags of open(2) that are the same on every architecture Millrace runs on. */
export const Open = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  NONBLOCK: 0o4000,
  CLOEXEC: 0o2000000,
} as const;

/**
 * Open a file, close-on-exec.
 * @param flags or-ed {@link Open} bits
 * @param doing for the error message; 'open <path>' by default
 * @throws SystemError
 */
export function open(path: string, flags: number, doing = `open ${path}`): FileDescriptor {
  return new FileDescriptor(check(openCall(path, flags | Open.CLOEXEC, 0o600), 'open', doing));
}

/**
 * Make a device-specific request whose argument is a structure.
 * @throws SystemError
 */
export function ioctl(fd: number, request: number, argument: NativeBlock, doing: string): number {
  return check(ioctlCall(fd, request, argument.bytes), 'ioctl', doing);
}

/** Make a device-specific request whose argument is a number. @throws SystemError */
export function ioctlNumber(fd: number, request: number, argument: number, doing: string): number {
  return check(ioctlNumberCall(fd, request, argument), 'ioctl', doing);
}

/**
 * Read once into a typed array.
 * @returns bytes read, 0 at the end, or -1 when a non-blocking descriptor has nothing now
 * @throws SystemError
 */
export function read(fd: number, into: Uint8Array, doing = 'read'): number {
  return waitless(readBytesCall(fd, into, into.length), 'read', doing);
}

/** Write once from a typed array. @returns bytes written, or -1 when it would block @throws SystemError */
export function write(fd: number, from: Uint8Array, doing = 'write'): number {
  return waitless(writeBytesCall(fd, from, from.length), 'write', doing);
}

function waitless(result: number, call: string, doing: string): number {
  if (result < 0) {
    const errno = lastErrno();
    if (errno === Errno.EAGAIN || errno === Errno.EINTR) return -1;
  }
  return check(result, call, doing);
}

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

/** A non-blocking eventfd, counter at zero. Its number may be used by all threads of the process. @throws SystemError */
export function eventfd(): FileDescriptor {
  return new FileDescriptor(check(eventfdCall(0, EFD_NONBLOCK | EFD_CLOEXEC), 'eventfd', 'make an eventfd'));
}

const POLLIN = 1;
const POLLOUT = 4;

const looked = new NativeBlock(8);

/** Whether a descriptor is writable now, as epoll has it. @throws SystemError */
export function isWritable(fd: number): boolean {
  looked.i32[0] = fd;
  looked.u16[2] = POLLOUT;
  looked.u16[3] = 0;
  check(pollCall(looked.bytes, 1, 0), 'poll', `look at descriptor ${fd}`);
  return (looked.u16[3] & POLLOUT) !== 0;
}

/**
 * Block the thread until one descriptor is readable (or has an error to be read).
 * @param timeoutMs 0 only looks, -1 waits for ever
 * @returns whether it is
 * @throws SystemError
 */
export function waitReadable(fd: number, timeoutMs: number): boolean {
  const request = new NativeBlock(8);
  request.i32[0] = fd;
  request.u16[2] = POLLIN;
  const result = pollCall(request.bytes, 1, timeoutMs);
  if (result < 0 && lastErrno() === Errno.EINTR) return false;
  return check(result, 'poll', `wait for descriptor ${fd}`) > 0;
}
