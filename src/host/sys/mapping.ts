/**
 * Memory of descriptors, mapped: rings of packet sockets, eBPF arrays, event buffers. Whoever maps owns the mapping and gives it back.
 *
 * Views of it may be anywhere, and one over addresses that are somebody else's by then could do anything. So giving back takes two steps: the
 * memory goes at once, and zero pages that take no room stand in its place, so that a stale view reads nonsense but harms nobody; the
 * addresses go when the last view has been collected. Collection is a net, too: what was never given back is unmapped then, and reported.
 */
import { bindLibc, check, nativeView } from './libc.ts';

const mmapCall = bindLibc<[number, number, number, number, number, number]>(
  'intptr_t mmap(intptr_t addr, size_t length, int prot, int flags, int fd, int64_t offset)',
);
const munmapCall = bindLibc<[number, number]>('int munmap(intptr_t addr, size_t length)');

/** Protection and flag bits of mmap(2). */
export const Mmap = { PROT_READ: 1, PROT_WRITE: 2, SHARED: 1, PRIVATE: 2, POPULATE: 0x8000 } as const;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

/** A mapping and the view over it. */
export interface Mapping {
  readonly address: number;
  readonly buffer: ArrayBuffer;
  readonly lengthBytes: number;
  /** Give the memory back. Views of it then read zeros, and what they write is seen by nobody else. Twice is harmless. */
  unmap(): void;
}

/** Addresses that a view points to. */
interface Range {
  readonly address: number;
  readonly lengthBytes: number;
  readonly doing: string;
  isMapped: boolean;
}

/** What this thread has mapped, and what was collected without having been given back. */
export interface MappedMemory {
  readonly mappings: number;
  readonly bytes: number;
  readonly lost: number;
}

/** Told of memory that its owner forgot. @param doing what it was mapped for: 'map array "flows"' */
export type LostMappingListener = (doing: string, lengthBytes: number) => void;

const counts = { mappings: 0, bytes: 0, lost: 0 };

let tellLost: LostMappingListener = (doing, lengthBytes) => {
  process.emitWarning(`${lengthBytes} bytes were collected that nobody had given back: ${doing}`, 'LostMapping');
};

/** Have mappings that were forgotten told to somebody on this thread; without it, they are warnings of the process. */
export function onLostMapping(listener: LostMappingListener): void {
  tellLost = listener;
}

/** What is mapped now through {@link mmap} on this thread. */
export function mappedMemory(): MappedMemory {
  return { ...counts };
}

function noteUnmapped(range: Range): void {
  range.isMapped = false;
  counts.mappings -= 1;
  counts.bytes -= range.lengthBytes;
}

// Runs in a turn of Node's event loop. Nothing else may give addresses back: by then others may have them.
const collected = new FinalizationRegistry<Range>((range) => {
  munmapCall(range.address, range.lengthBytes);
  if (!range.isMapped) return;
  noteUnmapped(range);
  counts.lost += 1;
  tellLost(range.doing, range.lengthBytes);
});

/** Memory that a thread of this process has mapped for another one, which owns it by {@link takeMapped}. */
export interface MappedRange {
  readonly address: number;
  readonly lengthBytes: number;
}

/** Map a descriptor's memory for another thread of this process: for much memory it takes milliseconds. @throws SystemError */
export function mapForAnother(fd: number, lengthBytes: number, doing: string): MappedRange {
  const address = mmapCall(0, lengthBytes, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.SHARED, fd, 0);
  return { address: check(address, 'mmap', doing), lengthBytes };
}

/** Give memory back that nobody has taken. */
export function unmapRange({ address, lengthBytes }: MappedRange): void {
  munmapCall(address, lengthBytes);
}

/**
 * Map a descriptor's memory.
 * @param options.protection or-ed PROT bits; read and write by default
 * @param options.flags or-ed MAP bits; shared by default
 * @param options.doing what for, for errors and reports: 'map array "flows"'
 * @throws SystemError
 */
export function mmap(
  fd: number,
  lengthBytes: number,
  options: { protection?: number; flags?: number; offsetBytes?: number; doing: string },
): Mapping {
  const { doing } = options;
  const protection = options.protection ?? Mmap.PROT_READ | Mmap.PROT_WRITE;
  const address = mmapCall(0, lengthBytes, protection, options.flags ?? Mmap.SHARED, fd, options.offsetBytes ?? 0);
  check(address, 'mmap', doing);
  return takeMapped({ address, lengthBytes }, doing);
}

/** Own memory that another thread has mapped for this one. @param doing as in {@link mmap} */
export function takeMapped({ address, lengthBytes }: MappedRange, doing: string): Mapping {
  const buffer = nativeView(address, lengthBytes);
  const range: Range = { address, lengthBytes, doing, isMapped: true };
  collected.register(buffer, range);
  counts.mappings += 1;
  counts.bytes += lengthBytes;
  return {
    address,
    lengthBytes,
    buffer,
    unmap() {
      if (!range.isMapped) return;
      const flags = Mmap.PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE;
      // Where the kernel has no room to note it, the memory stays until the last view is collected, and counts as lost then.
      if (mmapCall(address, lengthBytes, Mmap.PROT_READ | Mmap.PROT_WRITE, flags, -1, 0) < 0) return;
      noteUnmapped(range);
    },
  };
}
