/**
 * Mapped memory that cannot be used after it is gone: it is unmapped when the last typed array over it has been collected, not before.
 * A typed array over unmapped memory would end the process. Neighbours: map/array.ts, reader/.
 */
import { type Mapping, mmap } from '../../host/sys/index.ts';

const unmapping = new FinalizationRegistry<() => void>((unmap) => unmap());

/**
 * Map a descriptor's memory, shared.
 * @param protection or-ed Mmap.PROT bits
 * @throws SystemError
 */
export function mapUntilCollected(
  fd: number,
  lengthBytes: number,
  protection: number,
  offsetBytes: number,
  doing: string,
): ArrayBuffer {
  const mapping: Mapping = mmap(fd, lengthBytes, { protection, offsetBytes, doing });
  // `unmap` knows address and length only, and so does not keep the buffer alive.
  unmapping.register(mapping.buffer, mapping.unmap);
  return mapping.buffer;
}
