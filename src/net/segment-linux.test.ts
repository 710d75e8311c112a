import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Batch } from './batch.ts';
import { Checksum, Gso } from './packet.ts';
import { PacketPool } from './pool.ts';
import { segment } from './segment.ts';
import { SegmentResult } from './segment-result.ts';

/** One super-packet and the frames that Linux cut it into; see fixtures/README.md. */
interface Vector {
  name: string;
  gsoType: number;
  gsoSizeBytes: number;
  checksumStart: number;
  checksumOffset: number;
  frame: string;
  linux: string[];
}

const vectors: Vector[] = JSON.parse(readFileSync(new URL('./fixtures/linux-segments.json', import.meta.url), 'utf8'));

/** The identification of IPv6 fragments is random on both sides. */
function withoutFragmentId(frame: string, vector: Vector): string {
  const isFragment = vector.gsoType === Gso.UDP && frame.slice(24, 28) === '86dd';
  return isFragment ? `${frame.slice(0, 116)}........${frame.slice(124)}` : frame;
}

test.each(vectors)('$name: segments are byte for byte those of Linux', (vector) => {
  const pool = new PacketPool({ packets: 8, bufferBytes: 1024 });
  const packet = pool.allocate();
  if (packet === null) throw new Error('a fresh pool is empty');
  packet.bytes.set(Buffer.from(vector.frame, 'hex'), packet.offset);
  packet.length = vector.frame.length / 2;
  packet.gsoType = vector.gsoType;
  packet.gsoSizeBytes = vector.gsoSizeBytes;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = vector.checksumStart;
  packet.checksumOffset = vector.checksumOffset;
  const out = new Batch();
  expect(segment(packet, pool, out)).toBe(SegmentResult.DONE);
  const ours = out.packets.slice(0, out.count).map((made) => Buffer.from(made.frame()).toString('hex'));
  expect(ours.map((frame) => withoutFragmentId(frame, vector))).toEqual(
    vector.linux.map((frame) => withoutFragmentId(frame, vector)),
  );
});
