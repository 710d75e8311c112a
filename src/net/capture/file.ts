/**
 * Capture files on disk: where chunks come from and go to. Plain synchronous calls, as the datapath thread needs them. Opening and reading
 * never wait for another process: a named pipe that nobody writes has nothing yet, and what is neither file nor pipe is refused.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, type Stats, writeSync } from 'node:fs';
import { CaptureError } from './error.ts';
import { endOfBlocks } from './pcapng-end.ts';

/** What {@link ByteSource.read} gives while nothing is there, and more may come. */
export const NOTHING_YET = -1;

/** Something that bytes are read from. */
export interface ByteSource {
  /** @returns how many bytes were read into the buffer; 0 at the end; {@link NOTHING_YET} while a pipe has none */
  read(into: Uint8Array): number;
  close(): void;
}

/** Something that bytes are written to. */
export interface ByteSink {
  /** Write all of the chunk. */
  write(chunk: Uint8Array): void;
  close(): void;
}

/**
 * Open a file or a named pipe for reading.
 * @param options.waits block until a pipe has something, and take any kind of file: for programs that have nothing else to do
 * @throws the error of node:fs, with its path and code; CaptureError when it is neither a file nor a pipe
 */
export function openFileSource(path: string, options: { waits?: boolean } = {}): ByteSource {
  const waits = options.waits === true;
  const flags = constants.O_RDONLY | constants.O_NOCTTY | (waits ? 0 : constants.O_NONBLOCK);
  const fd = openAtOnce(path, flags);
  const close = closeOnce(fd);
  if (waits) return { read: (into) => readSync(fd, into, 0, into.length, null), close };
  const stats = fstatSync(fd);
  if (stats.isFile()) return { read: (into) => readSync(fd, into, 0, into.length, null), close };
  if (stats.isFIFO()) return { read: pipeReader(fd), close };
  close();
  throw new CaptureError(`it is ${kindOf(stats)}; captures are read from files and named pipes`);
}

/** A socket, and a pipe that nobody reads, cannot be opened without waiting. */
function openAtOnce(path: string, flags: number): number {
  try {
    return openSync(path, flags, 0o600);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENXIO') {
      throw new CaptureError('it is a named pipe that nobody reads, a socket, or a device without a driver');
    }
    throw error;
  }
}

/** Until the first byte, an empty pipe looks the same as one whose writers have gone. */
function pipeReader(fd: number): (into: Uint8Array) => number {
  let begun = false;
  return (into) => {
    try {
      const length = readSync(fd, into, 0, into.length, null);
      if (length > 0) begun = true;
      return length > 0 || begun ? length : NOTHING_YET;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return NOTHING_YET;
      throw error;
    }
  };
}

/**
 * Create a file, or go on behind what is in one: the pcapng that is written to it is a further section. Part of a packet at its end, which a writer that was
 * killed has left, is cut off.
 * @throws the error of node:fs, with its path and code; CaptureError for anything but a file that is empty or pcapng, which is left as it was
 */
export function openFileSink(path: string): ByteSink {
  const { O_WRONLY, O_CREAT, O_APPEND, O_NOCTTY, O_NONBLOCK } = constants;
  const fd = openAtOnce(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_NONBLOCK);
  const close = closeOnce(fd);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) {
      throw new CaptureError(`it is ${kindOf(stats)}; a port writes files only, \`millrace capture\` writes anywhere`);
    }
    if (stats.size > 0) goOn(fd, stats.size);
  } catch (error) {
    close();
    throw error;
  }
  return {
    write(chunk) {
      try {
        for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
        throw new CaptureError(`cannot write ${path}: ${code}`);
      }
    },
    close,
  };
}

/** Let the file end where its last whole block does. The end is read by way of its descriptor, so that it is the same file. */
function goOn(fd: number, sizeBytes: number): void {
  const reading = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY);
  let end: number | null;
  try {
    end = endOfBlocks(reading, sizeBytes);
  } finally {
    closeSync(reading);
  }
  if (end === null) {
    throw new CaptureError('there is such a file, and it is not a whole pcapng; take it away, or name another');
  }
  if (end < sizeBytes) ftruncateSync(fd, end);
}

function closeOnce(fd: number): () => void {
  let open = true;
  return () => {
    if (!open) return;
    open = false;
    closeSync(fd);
  };
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a named pipe';
  if (stats.isSocket()) return 'a socket';
  return stats.isBlockDevice() || stats.isCharacterDevice() ? 'a device' : 'no file';
}

/** The chunks of a source that waits, up to its end. Each is valid until the next. */
export function* chunksOf(source: ByteSource, chunkBytes = 64 * 1024): Generator<Uint8Array> {
  const buffer = new Uint8Array(chunkBytes);
  for (;;) {
    const length = source.read(buffer);
    if (length <= 0) return;
    yield buffer.subarray(0, length);
  }
}
