import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PacketPool, TagAction } from '../net/index.ts';
import { FrameVectors } from './frame-vectors.ts';
import { nativeView } from './sys/index.ts';

const pool = new PacketPool({ packets: 1, bufferBytes: 4096 });

/** What the kernel would gather from an entry's vectors. */
function gather(vectors: FrameVectors, index: number, count: number): Uint8Array {
  const entries = new BigUint64Array(nativeView(vectors.vectorsAddress(index), count * 16));
  const parts: Uint8Array[] = [];
  for (let i = 0; i < count; i += 1) {
    const bytes = nativeBytes(Number(entries[2 * i]), Number(entries[2 * i + 1]));
    parts.push(bytes);
  }
  return new Uint8Array(Buffer.concat(parts));
}

function nativeBytes(address: number, length: number): Uint8Array {
  return length === 0 ? new Uint8Array(0) : new Uint8Array(nativeView(address, length)).slice();
}

/** The frame after a tag action, made the plain way. */
function expected(frame: Uint8Array, tag: number): Uint8Array {
  const type = frame.length >= 18 ? (frame[12] << 8) | frame[13] : 0;
  const strip = (tag & TagAction.STRIP) !== 0 && (type === 0x8100 || type === 0x88a8);
  const rest = frame.subarray(strip ? 16 : 12);
  const pushed = (tag & TagAction.PUSH) === 0 ? [] : [0x81, 0, (tag >> 8) & 0xff, tag & 0xff];
  return new Uint8Array([...frame.subarray(0, 12), ...pushed, ...rest]);
}

const frames = fc
  .tuple(fc.uint8Array({ minLength: 14, maxLength: 300 }), fc.constantFrom(0, 0x8100, 0x88a8, 0x0800))
  .map(([frame, type]) => {
    if (type !== 0) new DataView(frame.buffer, frame.byteOffset).setUint16(12, type);
    return frame;
  });
const tags = fc
  .tuple(fc.constantFrom(0, TagAction.STRIP, TagAction.PUSH, TagAction.STRIP | TagAction.PUSH), fc.nat(0xffff))
  .map(([action, tci]) => (action & TagAction.PUSH ? action | tci : action));

test('the vectors hold the virtio header and the frame as the tag action wants it; the frame itself is untouched', () => {
  const vectors = new FrameVectors(3);
  fc.assert(
    fc.property(frames, tags, fc.nat(2), fc.constantFrom(0, 9, 10, 128), (frame, tag, index, headroom) => {
      const packet = pool.allocate();
      if (packet === null) throw new Error('pool is empty');
      packet.bytes.set(frame, packet.offset);
      packet.length = frame.length;
      packet.headroomStart = packet.offset - headroom;
      const count = vectors.set(index, packet, tag);
      const sent = gather(vectors, index, count);
      expect(sent.subarray(0, 10)).toEqual(new Uint8Array(10));
      expect(sent.subarray(10)).toEqual(expected(frame, tag));
      expect(vectors.lengths[index]).toBe(sent.length - 10);
      expect(packet.frame()).toEqual(frame);
      if (tag === TagAction.KEEP) expect(count).toBe(headroom >= 10 ? 1 : 2);
      packet.release();
    }),
  );
});

test('a plain frame after a super-packet has a clear header, and what is too short for a frame is refused', () => {
  const vectors = new FrameVectors(1);
  const packet = pool.allocate();
  if (packet === null) throw new Error('pool is empty');
  packet.length = 100;
  packet.gsoType = 1;
  packet.gsoSizeBytes = 1448;
  expect(gather(vectors, 0, vectors.set(0, packet, TagAction.KEEP))[1]).toBe(1);
  packet.resetMetadata();
  expect(gather(vectors, 0, vectors.set(0, packet, TagAction.KEEP)).subarray(0, 10)).toEqual(new Uint8Array(10));
  packet.length = 13;
  expect(vectors.set(0, packet, TagAction.KEEP)).toBe(0);
  packet.release();
});
