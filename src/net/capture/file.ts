/** Capture files on disk: where chunks come from and go to. Plain synchronous calls, as the datapath thread needs them. */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/** Something that bytes are read from. */
export interface ByteSource {
  /** @returns how many bytes were read into the buffer; 0 at the end */
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
 * Open a file for reading.
 * @throws the error of node:fs, with its path and code
 */
export function openFileSource(path: string): ByteSource {
  const fd = openSync(path, 'r');
  let open = true;
  return {
    read: (into) => readSync(fd, into, 0, into.length, null),
    close() {
      if (!open) return;
      open = false;
      closeSync(fd);
    },
  };
}

/**
 * Create a file, or empty it.
 * @throws the error of node:fs, with its path and code
 */
export function openFileSink(path: string): ByteSink {
  const fd = openSync(path, 'w', 0o600);
  let open = true;
  return {
    write(chunk) {
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
    },
    close() {
      if (!open) return;
      open = false;
      closeSync(fd);
    },
  };
}

/** The chunks of a source, up to its end. Each is valid until the next. */
export function* chunksOf(source: ByteSource, chunkBytes = 64 * 1024): Generator<Uint8Array> {
  const buffer = new Uint8Array(chunkBytes);
  for (;;) {
    const length = source.read(buffer);
    if (length === 0) return;
    yield buffer.subarray(0, length);
  }
}
