/** Who is behind a port, as it is learned from what comes in. */
import { expect, test } from 'vitest';
import { PacketPool } from '../../net/index.ts';
import { frame, mac } from '../testing.ts';
import { StationMacs } from './station-macs.ts';

const pool = new PacketPool({ packets: 1, bufferBytes: 512 });

function sends(macs: StationMacs, n: number): boolean {
  const packet = pool.allocate();
  if (packet === null) throw new Error('the pool is empty');
  packet.bytes.set(frame({ from: mac(n) }), packet.offset);
  packet.length = 60;
  const isLearned = macs.learn(packet);
  packet.release();
  return isLearned;
}

test('what was learned outlasts a link that is lost for a moment, and not for longer', () => {
  const macs = new StationMacs([], true);
  expect(sends(macs, 1)).toBe(true);
  expect(macs.linkChanged(false, 10_000)).toBe(false);
  expect(macs.linkChanged(true, 10_500)).toBe(false);
  expect(sends(macs, 2)).toBe(false);
  expect(macs.linkChanged(false, 20_000)).toBe(false);
  // Other settings change meanwhile.
  const later = new StationMacs([], true, macs);
  expect(later.list(null)).toEqual(['02:00:00:00:00:01']);
  expect(later.linkChanged(true, 21_000)).toBe(true);
  expect(sends(later, 2)).toBe(true);
  expect(later.list(null)).toEqual(['02:00:00:00:00:02']);
});

test('addresses that were named stay, whatever the link does', () => {
  const macs = new StationMacs(['02:00:00:00:00:07'], false);
  macs.linkChanged(false, 0);
  expect(macs.linkChanged(true, 100_000)).toBe(false);
  expect(macs.list(null)).toEqual(['02:00:00:00:00:07']);
});
