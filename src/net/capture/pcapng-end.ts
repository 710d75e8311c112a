/**
 * Where a pcapng file can be gone on with. Each block begins and ends with its length, so the end is checked without reading what is before it. A writer
 * that was killed, or whose disk was full, may have left part of a block there.
 */
import { readSync } from 'node:fs';
import { BlockType } from './pcapng-options.ts';

/** Type, both lengths. */
const FRAME_BYTES = 12;
/** What is looked at: room for a torn block and for whole ones before it, each of at most a frame of 64 KB. */
const WINDOW_BYTES = 512 * 1024;
/** Whole blocks one behind the other that bytes of packets do not look like by chance. */
const BLOCKS_IN_ROW = 3;

/**
 * The end of the last whole block.
 * @param fd open for reading
 * @returns null when this is no pcapng, or no whole blocks are near its end
 * @throws the error of node:fs
 */
export function endOfBlocks(fd: number, sizeBytes: number): number | null {
  const head = new Uint8Array(FRAME_BYTES);
  if (readFully(fd, head, 0) < FRAME_BYTES) return null;
  const first = new DataView(head.buffer);
  const magic = first.getUint32(8);
  if (first.getUint32(0) !== BlockType.SECTION_HEADER || (magic !== 0x1a2b3c4d && magic !== 0x4d3c2b1a)) return null;
  const from = Math.max(0, (sizeBytes & ~3) - WINDOW_BYTES) & ~3;
  const bytes = new Uint8Array(sizeBytes - from);
  const view = new DataView(bytes.buffer, 0, readFully(fd, bytes, from));
  for (let end = view.byteLength & ~3; end >= FRAME_BYTES; end -= 4) {
    // Sections of one file may differ in their byte order.
    if (isEnd(view, end, from === 0, true) || isEnd(view, end, from === 0, false)) return from + end;
  }
  return null;
}

/** Whether whole blocks end here: several, or all up to the start of the file. */
function isEnd(view: DataView, end: number, isWhole: boolean, littleEndian: boolean): boolean {
  let at = end;
  for (let blocks = 0; blocks < BLOCKS_IN_ROW; blocks += 1) {
    if (at === 0) return isWhole;
    if (at < FRAME_BYTES) return false;
    const length = view.getUint32(at - 4, littleEndian);
    if (length < FRAME_BYTES || length % 4 !== 0 || length > at) return false;
    if (view.getUint32(at - length + 4, littleEndian) !== length) return false;
    at -= length;
  }
  return true;
}

function readFully(fd: number, into: Uint8Array, position: number): number {
  let at = 0;
  while (at < into.length) {
    const length = readSync(fd, into, at, into.length - at, position + at);
    if (length === 0) break;
    at += length;
  }
  return at;
}
