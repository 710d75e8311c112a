/** Frames of capture files, for commands that take them (`trace --pcap`). Loaded by client.ts on demand. */
import { chunksOf, openFileSource, readCapture } from '../net/index.ts';
import { Failure, messageOf } from './rpc/failure.ts';

/** More frames than anybody traces. */
const MAX_FRAMES = 100_000;

/**
 * All frames of a pcap or pcapng file, in hexadecimal.
 * @throws Failure naming the file and what is wrong with it
 */
export function readFrames(path: string): string[] {
  try {
    const source = openFileSource(path, { waits: true });
    try {
      const frames: string[] = [];
      for (const record of readCapture(chunksOf(source))) {
        if (record.kind !== 'packet') continue;
        if (frames.length === MAX_FRAMES) throw new Error(`it holds more than ${MAX_FRAMES} packets`);
        frames.push(Buffer.from(record.packet.data).toString('hex'));
      }
      return frames;
    } finally {
      source.close();
    }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
    throw new Failure('failed', `cannot read ${path}: ${code}`);
  }
}
