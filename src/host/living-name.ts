/**
 * A name that a process has as long as it lives: an abstract Unix socket, which no file stands for, so that nobody can remove it or move it away. Such names
 * belong to a network namespace. Whoever connects is told by the kernel which process has the name. Neighbours: port-lock.ts, socket-file.ts.
 */
import {
  bind,
  Errno,
  type FileDescriptor,
  NativeBlock,
  type PeerCredentials,
  peerCredentials,
  Socket,
  SystemError,
  socket,
} from './sys/index.ts';
import { bindLibc, check, closeDescriptor } from './sys/libc.ts';

const connectCall = bindLibc<[number, Uint8Array, number]>(
  'int connect(int fd, const void *address, unsigned int length)',
);
const listenCall = bindLibc<[number, number]>('int listen(int fd, int backlog)');
const acceptCall = bindLibc<[number, number, number, number]>(
  'int accept4(int fd, intptr_t address, intptr_t length, int flags)',
);

/** Most who may ask before {@link forgetAskers}; the kernel takes its own maximum when that is less. */
const BACKLOG = 4096;

function addressOf(name: string): { address: NativeBlock; lengthBytes: number } {
  const path = Buffer.from(`\0millrace/${name}`);
  const lengthBytes = 2 + path.length;
  const address = new NativeBlock(lengthBytes);
  address.u16[0] = Socket.AF_UNIX;
  address.bytes.set(path, 2);
  return { address, lengthBytes };
}

/**
 * Take a name in the calling thread's network namespace.
 * @param name at most 90 bytes
 * @returns it is given back when this is closed, or the process ends; null when another socket has it
 * @throws SystemError
 */
export function takeLivingName(name: string): FileDescriptor | null {
  const { address, lengthBytes } = addressOf(name);
  const taken = socket(Socket.AF_UNIX, Socket.STREAM, 0, 'take a name');
  try {
    bind(taken.number, address, lengthBytes, 'take a name');
    // The kernel keeps who listens, for those who ask.
    check(listenCall(taken.number, BACKLOG), 'listen', 'take a name');
    return taken;
  } catch (error) {
    taken.close();
    if (error instanceof SystemError && error.errno === Errno.EADDRINUSE) return null;
    throw error;
  }
}

/** Close the connections of those who have asked who has a name. To be called now and then by its owner. */
export function forgetAskers(taken: number): void {
  for (let count = 0; count < BACKLOG; count += 1) {
    const fd = acceptCall(taken, 0, 0, Socket.CLOEXEC);
    if (fd < 0) return;
    closeDescriptor(fd);
  }
}

/**
 * The process that has a name in the calling thread's network namespace; its `pid` is 0 when it cannot be seen from here.
 * @returns null when nobody has it
 * @throws SystemError
 */
export function ownerOfLivingName(name: string): PeerCredentials | null {
  const { address, lengthBytes } = addressOf(name);
  const asking = socket(Socket.AF_UNIX, Socket.STREAM, 0, 'ask who has a name');
  try {
    return connectCall(asking.number, address.bytes, lengthBytes) === 0 ? peerCredentials(asking.number) : null;
  } finally {
    asking.close();
  }
}
