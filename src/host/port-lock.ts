/**
 * A lock on a network device, so that two adapters never share one: neither two of this process, nor of two processes. It is a
 * bound Unix socket with an abstract name, because such names belong to a network namespace and vanish with their process.
 */
import { bind, Errno, type FileDescriptor, NativeBlock, Socket, SystemError, socket } from './sys/index.ts';

/**
 * Lock a device.
 * @param interfaceIndex in the calling thread's network namespace
 * @param name for the message
 * @returns the lock; closing it unlocks
 * @throws SystemError EBUSY when somebody has it
 */
export function lockPort(interfaceIndex: number, name: string): FileDescriptor {
  const path = Buffer.from(`\0millrace/port/${interfaceIndex}`);
  const address = new NativeBlock(2 + path.length);
  address.u16[0] = Socket.AF_UNIX;
  address.bytes.set(path, 2);
  const lock = socket(Socket.AF_UNIX, Socket.DGRAM, 0, `lock ${name}`);
  try {
    bind(lock.number, address, 2 + path.length, `lock ${name}`);
  } catch (error) {
    lock.close();
    if (error instanceof SystemError && error.code === 'EADDRINUSE') {
      throw new SystemError(
        'bind',
        Errno.EBUSY,
        `take over ${name}`,
        'another Millrace port holds this interface; remove that port first',
      );
    }
    throw error;
  }
  return lock;
}
