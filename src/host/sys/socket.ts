/** Sockets: creation, options, sending many frames at once, errors, credentials of a peer. */
import { FileDescriptor } from './descriptor.ts';
import { Errno } from './errors.ts';
import { bindLibc, bindLibcAside, check, lastErrno } from './libc.ts';
import { NativeBlock } from './memory.ts';

const socketCall = bindLibc<[number, number, number]>('int socket(int family, int type, int protocol)');
const bindCall = bindLibc<[number, Uint8Array, number]>('int bind(int fd, void *address, unsigned int length)');
const setCall = bindLibc<[number, number, number, Uint8Array, number]>(
  'int setsockopt(int fd, int level, int option, void *value, unsigned int length)',
);
const getCall = bindLibc<[number, number, number, Uint8Array, Uint8Array]>(
  'int getsockopt(int fd, int level, int option, void *value, void *length)',
);
const nameCall = bindLibc<[number, Uint8Array, Uint8Array]>('int getsockname(int fd, void *address, void *length)');
const receiveFromCall = bindLibc<[number, Uint8Array, number, number, Uint8Array, Uint8Array]>(
  'int64_t recvfrom(int fd, void *to, size_t length, int flags, void *address, void *address_length)',
);
const sendBytesCall = bindLibc<[number, Uint8Array, number, number]>(
  'int64_t send(int fd, void *from, size_t length, int flags)',
);

/** sendmmsg(2) by address. @returns messages sent, or negative with lastErrno when the first of them failed */
export const rawSendmmsg = bindLibc<[number, number, number, number]>(
  'int sendmmsg(int fd, intptr_t messages, unsigned int count, int flags)',
);
/** send(2) by address. @returns bytes, or negative with lastErrno */
export const rawSend = bindLibc<[number, number, number, number]>(
  'int64_t send(int fd, intptr_t from, size_t length, int flags)',
);
/** send(2) by address, on another thread, for what the kernel may take long to take. Its last argument is told of the end, with the bytes sent, or -1. */
export const rawSendAside = bindLibcAside<[number, number, number, number]>(
  'int64_t send(int fd, intptr_t from, size_t length, int flags)',
);
/** recvmsg(2), the message header by address. @returns bytes, or negative with lastErrno */
export const rawReceiveMessage = bindLibc<[number, number, number]>(
  'int64_t recvmsg(int fd, intptr_t message, int flags)',
);
/** Numbers of sys/socket.h that Millrace uses. */
export const Socket = {
  AF_UNIX: 1,
  AF_INET: 2,
  AF_NETLINK: 16,
  AF_PACKET: 17,
  STREAM: 1,
  DGRAM: 2,
  RAW: 3,
  SEQPACKET: 5,
  NONBLOCK: 0o4000,
  CLOEXEC: 0o2000000,
  SOL_SOCKET: 1,
  SO_ERROR: 4,
  SO_SNDBUF: 7,
  SO_RCVBUF: 8,
  SO_PEERCRED: 17,
  SO_SNDBUFFORCE: 32,
  SO_RCVBUFFORCE: 33,
  SO_MARK: 36,
  SOL_PACKET: 263,
  SOL_NETLINK: 270,
  MSG_PEEK: 0x2,
  MSG_TRUNC: 0x20,
  MSG_DONTWAIT: 0x40,
  MSG_NOSIGNAL: 0x4000,
} as const;

/**
 * Make a socket, close-on-exec and non-blocking.
 * @param doing for the error message: 'open a packet socket'
 * @throws SystemError
 */
export function socket(family: number, type: number, protocol: number, doing: string): FileDescriptor {
  const result = socketCall(family, type | Socket.CLOEXEC | Socket.NONBLOCK, protocol);
  return new FileDescriptor(check(result, 'socket', doing));
}

/** Bind to an address given as a structure. @param lengthBytes of the structure @throws SystemError */
export function bind(fd: number, address: NativeBlock, lengthBytes: number, doing: string): void {
  check(bindCall(fd, address.bytes, lengthBytes), 'bind', doing);
}

/** Set an option that is a structure. @throws SystemError */
export function setOption(
  fd: number,
  level: number,
  option: number,
  value: NativeBlock,
  lengthBytes: number,
  doing: string,
): void {
  check(setCall(fd, level, option, value.bytes, lengthBytes), 'setsockopt', doing);
}

/** Set an option that is an int. @throws SystemError */
export function setNumberOption(fd: number, level: number, option: number, value: number, doing: string): void {
  const block = new NativeBlock(4);
  block.i32[0] = value;
  setOption(fd, level, option, block, 4, doing);
}

/** Set an option that the kernel may lack or refuse. @returns whether it took it */
export function tryNumberOption(fd: number, level: number, option: number, value: number): boolean {
  const block = new NativeBlock(4);
  block.i32[0] = value;
  return setCall(fd, level, option, block.bytes, 4) === 0;
}

/**
 * Read an option into a structure.
 * @param lengthBytes room in it
 * @returns the length that the kernel wrote
 * @throws SystemError
 */
export function getOption(
  fd: number,
  level: number,
  option: number,
  into: NativeBlock,
  lengthBytes: number,
  doing: string,
): number {
  const length = new NativeBlock(4);
  length.u32[0] = lengthBytes;
  check(getCall(fd, level, option, into.bytes, length.bytes), 'getsockopt', doing);
  return length.u32[0];
}

/** The address a socket is bound to, into a structure. @returns its length @throws SystemError */
export function socketName(fd: number, into: NativeBlock, lengthBytes: number, doing: string): number {
  const length = new NativeBlock(4);
  length.u32[0] = lengthBytes;
  check(nameCall(fd, into.bytes, length.bytes), 'getsockname', doing);
  return length.u32[0];
}

/** Send a typed array as one message. @returns bytes, or -1 when it would block @throws SystemError */
export function send(fd: number, from: Uint8Array, doing: string): number {
  const result = sendBytesCall(fd, from, from.length, Socket.MSG_NOSIGNAL);
  if (result < 0 && lastErrno() === Errno.EAGAIN) return -1;
  return check(result, 'send', doing);
}

/**
 * Receive one message.
 * @param flags or-ed MSG bits of {@link Socket}; with MSG_TRUNC the result is the message's real length
 * @param sender filled with the sender's address, as far as it fits
 * @returns bytes, or -1 when there is none now
 * @throws SystemError
 */
export function receiveFrom(fd: number, into: Uint8Array, flags: number, sender: NativeBlock, doing: string): number {
  const length = new NativeBlock(4);
  length.u32[0] = sender.bytes.length;
  const result = receiveFromCall(fd, into, into.length, flags, sender.bytes, length.bytes);
  if (result < 0) {
    const errno = lastErrno();
    if (errno === Errno.EAGAIN || errno === Errno.EINTR) return -1;
  }
  return check(result, 'recvfrom', doing);
}

/**
 * Take a socket's pending error, which clears it: until then epoll reports the socket for ever.
 * @returns the errno, 0 for none, or -1 when the descriptor is not a socket
 */
export function takeSocketError(fd: number): number {
  const value = new NativeBlock(4);
  const length = new NativeBlock(4);
  length.u32[0] = 4;
  if (getCall(fd, Socket.SOL_SOCKET, Socket.SO_ERROR, value.bytes, length.bytes) !== 0) return -1;
  return value.i32[0];
}

/** Who is at the other end of a Unix socket, as the kernel vouches for it at connect time (unix(7), SO_PEERCRED). */
export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

/** @param fd a connected Unix socket @throws SystemError */
export function peerCredentials(fd: number): PeerCredentials {
  const block = new NativeBlock(12);
  getOption(fd, Socket.SOL_SOCKET, Socket.SO_PEERCRED, block, 12, 'ask who is at the other end of a Unix socket');
  return { pid: block.i32[0], uid: block.u32[1], gid: block.u32[2] };
}
