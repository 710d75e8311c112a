import fc from 'fast-check';
import { expect, test } from 'vitest';
import { applyTagAction, PacketPool, TagAction } from '../../net/index.ts';
import { packetOf, randomFrame } from '../../net/match/testing.ts';
import { fuzzRounds, randomNumbers } from '../../net/wire/testing.ts';
import { type CapturedFrame, CaptureRing, newRingBuffer } from './ring.ts';

/** A ring of the smallest size holds six frames of this length. */
const SNAP_BYTES = 20_000;

interface Kept {
  readonly frame: string;
  readonly originalBytes: number;
  readonly seconds: number;
  readonly lostBefore: number;
}

function keep(record: CapturedFrame): Kept {
  return {
    frame: Buffer.from(record.frame()).toString('hex'),
    originalBytes: record.originalBytes,
    seconds: record.timestampSeconds,
    lostBefore: record.lostBefore,
  };
}

test('what is written comes out in order and whole, what does not fit is counted, whatever the order of writes and reads', () => {
  const step = fc.oneof(
    { arbitrary: fc.record({ write: fc.integer({ min: 14, max: 40_000 }) }), weight: 3 },
    { arbitrary: fc.record({ read: fc.integer({ min: 1, max: 3 }) }), weight: 1 },
  );
  let allLost = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 60 }), (steps) => {
      const writer = new CaptureRing(newRingBuffer(0));
      const reader = new CaptureRing(writer.buffer);
      const expected: Kept[] = [];
      let lost = 0;
      let serial = 0;
      for (const one of steps) {
        if ('read' in one) {
          const got: Kept[] = [];
          reader.take(one.read, (record) => got.push(keep(record)));
          expect(got).toEqual(expected.splice(0, one.read));
          continue;
        }
        serial += 1;
        const frame = new Uint8Array(one.write).fill(serial);
        const before = writer.pendingBytes;
        if (writer.write(packetOf(frame), TagAction.KEEP, SNAP_BYTES, serial, 5, 7, 0, 1)) {
          const kept = Buffer.from(frame.subarray(0, SNAP_BYTES)).toString('hex');
          expected.push({ frame: kept, originalBytes: one.write, seconds: serial, lostBefore: lost });
          lost = 0;
        } else {
          lost += 1;
          allLost += 1;
          expect(before).toBeGreaterThan(writer.capacityBytes - 2 * (SNAP_BYTES + 40));
        }
      }
      const rest: Kept[] = [];
      reader.take(1000, (record) => rest.push(keep(record)));
      expect(rest).toEqual(expected);
      expect(writer.pendingBytes).toBe(0);
    }),
    { numRuns: fuzzRounds(60) },
  );
  expect(allLost).toBeGreaterThan(0);
});

test('counters that run over 32 bits do no harm', () => {
  const ring = new CaptureRing(newRingBuffer(0));
  const control = new Int32Array(ring.buffer, 0, 2);
  control.fill(-1024);
  const packet = packetOf(new Uint8Array(200).fill(9));
  for (let round = 0; round < 40; round += 1) {
    expect(ring.write(packet, 0, 262_144, round, 0, 1, 0, 0)).toBe(true);
    expect(ring.take(9, (record) => expect(keep(record).seconds).toBe(round))).toBe(1);
  }
  expect(control[0]).toBeGreaterThan(0);
});

test('a record shows the frame as it is once its tag action has been carried out', () => {
  const random = randomNumbers(3);
  const pool = new PacketPool({ packets: 1, bufferBytes: 2048 });
  const ring = new CaptureRing(newRingBuffer(0));
  const actions = [TagAction.KEEP, TagAction.STRIP, TagAction.PUSH | 0x200a, TagAction.STRIP | TagAction.PUSH | 20];
  for (let round = 0; round < fuzzRounds(2000); round += 1) {
    const frame = randomFrame(random);
    const packet = pool.allocate();
    if (packet === null) throw new Error('the pool is empty');
    packet.bytes.set(frame, packet.offset);
    packet.length = frame.length;
    const action = actions[random(4)];
    ring.write(packet, action, 262_144, 0, 0, 1, 0, 0);
    // The slow way writes to the packet itself.
    const isCarriedOut = applyTagAction(packet, action) === 0;
    ring.take(1, (record) => {
      if (isCarriedOut)
        expect(Buffer.from(record.frame()).toString('hex')).toBe(Buffer.from(packet.frame()).toString('hex'));
      expect(record.originalBytes).toBe(record.lengthBytes);
    });
    packet.release();
  }
});

test('a consumer that throws loses that record alone', () => {
  const ring = new CaptureRing(newRingBuffer(0));
  for (const seconds of [1, 2]) ring.write(packetOf(new Uint8Array(60)), 0, 64, seconds, 0, 1, 0, 0);
  expect(() =>
    ring.take(9, () => {
      throw new Error('disk full');
    }),
  ).toThrow('disk full');
  const rest: number[] = [];
  ring.take(9, (record) => rest.push(record.timestampSeconds));
  expect(rest).toEqual([2]);
});
