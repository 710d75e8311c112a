/**
 * Files of Unix sockets: made where nothing is, or in the place of a socket of this user that nobody listens on any more; removed only while they are still
 * the same. What else is at the path stays. Neighbours: own-files.ts; seqpacket-server.ts and the daemon's control socket listen on them.
 */
import { chmodSync, type Stats, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { ForeignFileError, isOwn, kindOf, lookAt, makeSafeFolder } from './own-files.ts';
import { bind, Errno, NativeBlock, Socket, SystemError, socket } from './sys/index.ts';
import { bindLibc, lastErrno } from './sys/libc.ts';

const connectCall = bindLibc<[number, Uint8Array, number]>(
  'int connect(int fd, const void *address, unsigned int length)',
);

// struct sockaddr_un: family u16, path of 108 bytes.
const ADDRESS_BYTES = 110;
const PATH_BYTES = 108;
const ECONNREFUSED = 111;

/** A socket file that was made. */
export interface SocketFile {
  readonly path: string;
  /** Whether it is still there. */
  isThere(): boolean;
  /** Remove it, if it is still the one that was made. */
  remove(): void;
}

/**
 * Bind a Unix socket that does not listen yet to a path.
 * @param path 1 to 107 bytes; its folder is made when it is missing
 * @param mode permissions of the file
 * @throws RangeError for an impossible path; ForeignFileError when something else is there; SystemError EADDRINUSE when somebody listens there
 */
export function bindSocketFile(fd: number, path: string, mode: number): SocketFile {
  if (path === '' || Buffer.byteLength(path) >= PATH_BYTES) {
    throw new RangeError(`'${path}' cannot be the path of a Unix socket: 1 to ${PATH_BYTES - 1} bytes are allowed`);
  }
  makeSafeFolder(dirname(path));
  if (isAbandonedSocket(path)) unlinkSync(path);
  // bind(2) makes the file or fails: it follows no link. Nobody can connect before the socket listens.
  bind(fd, addressOf(path), ADDRESS_BYTES, `listen on ${path}`);
  chmodSync(path, mode);
  return socketFileAt(path);
}

/** The socket file that is at a path now. */
export function socketFileAt(path: string): SocketFile {
  const made = lookAt(path);
  const isThere = () => {
    const there = lookAt(path);
    return there !== null && isSame(there, made);
  };
  return {
    path,
    isThere,
    remove() {
      if (isThere()) unlinkSync(path);
    },
  };
}

/**
 * Whether there is a socket file of this user that nobody listens on.
 * @returns false when there is nothing
 * @throws ForeignFileError when something else is there; SystemError EADDRINUSE when somebody listens
 */
export function isAbandonedSocket(path: string): boolean {
  const there = lookAt(path);
  if (there === null) return false;
  if (!there.isSocket()) throw new ForeignFileError(path, `is ${kindOf(there)}, and not a socket`);
  if (!isOwn(there)) throw new ForeignFileError(path, `belongs to another user (uid ${there.uid})`);
  const doing = `look at ${path}`;
  // A socket of another type that listens says EPROTOTYPE.
  const probe = socket(Socket.AF_UNIX, Socket.SEQPACKET, 0, doing);
  try {
    const errno = connectCall(probe.number, addressOf(path).bytes, ADDRESS_BYTES) === 0 ? 0 : lastErrno();
    if (errno === ECONNREFUSED) return true;
    if (errno === Errno.ENOENT) return false;
    throw new SystemError('bind', Errno.EADDRINUSE, `listen on ${path}`, 'another program listens there');
  } finally {
    probe.close();
  }
}

function addressOf(path: string): NativeBlock {
  const address = new NativeBlock(ADDRESS_BYTES);
  address.u16[0] = Socket.AF_UNIX;
  address.setString(2, PATH_BYTES, path);
  return address;
}

function isSame(one: Stats, other: Stats | null): boolean {
  return one.ino === other?.ino && one.dev === other.dev;
}
