import { expect, test } from 'vitest';
import { type PuntCounts, PuntShares } from './punt-shares.ts';

/** A port's counts as its programs and the engine would keep them. */
class Counts implements PuntCounts {
  underWay = 0;
  refused = 0;
  share = 0;

  /** Packets that come in, as many of them handed up as the share lets. */
  flood(packets: number): void {
    const room = Math.max(0, this.share - this.underWay);
    this.underWay += Math.min(room, packets);
    this.refused += Math.max(0, packets - room);
  }

  takeRefused(): number {
    const { refused } = this;
    this.refused = 0;
    return refused;
  }

  setShare(packets: number): void {
    this.share = packets;
  }
}

const SLOTS = 255;

function ring(ports: number) {
  const refusals = new Map<Counts, number>();
  const shares = new PuntShares(SLOTS, (share, packets) => {
    const counts = share.counts as Counts;
    refusals.set(counts, (refusals.get(counts) ?? 0) + packets);
  });
  const all = Array.from({ length: ports }, () => new Counts());
  const opened = all.map((counts) => shares.open(counts));
  let nowMs = 1000;
  const workOff = (which: readonly number[], packets: number, costMs: number) => {
    nowMs += 3;
    for (const i of which) {
      all[i].underWay = Math.max(0, all[i].underWay - packets);
      shares.workedOff(opened[i], packets, packets * costMs, nowMs);
    }
  };
  return { shares, all, opened, refusals, workOff };
}

test('ports that flood leave room in the ring for one more, however many they are', () => {
  const { all, refusals, workOff } = ring(8);
  for (let flooding = 1; flooding <= 7; flooding += 1) {
    const which = all.map((_, i) => i).slice(0, flooding);
    for (let round = 0; round < 20; round += 1) {
      for (const i of which) all[i].flood(1000);
      workOff(which, 16, 0.001);
    }
    for (const i of which) all[i].flood(1000);
    const filled = which.reduce((sum, i) => sum + all[i].underWay, 0);
    expect(filled).toBeLessThan(SLOTS);
    expect(Math.min(SLOTS - filled, all[7].share)).toBeGreaterThanOrEqual(8);
  }
  expect(refusals.get(all[0]) ?? 0).toBeGreaterThan(0);
  expect(refusals.has(all[7])).toBe(false);
});

test('a port whose packets take long has fewer of them under way', () => {
  const { all, workOff } = ring(2);
  for (let round = 0; round < 100; round += 1) {
    for (const counts of all) counts.flood(300);
    workOff([0], 8, 0.2);
    workOff([1], 8, 0.001);
  }
  expect(all[0].share).toBe(20);
  expect(all[1].share).toBeGreaterThan(90);
});

test('when the others have stopped, a port has most of the ring again', () => {
  const { all, workOff } = ring(2);
  const alone = all[0].share;
  for (let round = 0; round < 10; round += 1) {
    for (const counts of all) counts.flood(300);
    workOff([0, 1], 16, 0.001);
  }
  expect(all[0].share).toBeLessThan(alone);
  for (let round = 0; round < 100; round += 1) workOff([0], 16, 0.001);
  expect(all[0].share).toBe(alone);
});

test('a port whose packets come up in vain has the least share for a while', () => {
  const { all, opened, workOff } = ring(1);
  const before = all[0].share;
  opened[0].holdBack(1000);
  workOff([0], 16, 0.001);
  expect(all[0].share).toBe(16);
  for (let round = 0; round < 5; round += 1) workOff([0], 16, 0.001);
  expect(all[0].share).toBe(before);
});

test('a port that goes is no longer counted', () => {
  const { shares, all, opened, workOff } = ring(2);
  for (let round = 0; round < 10; round += 1) {
    for (const counts of all) counts.flood(300);
    workOff([0, 1], 16, 0.001);
  }
  const both = all[0].share;
  shares.close(opened[1]);
  workOff([0], 16, 0.001);
  expect(all[0].share).toBeGreaterThan(both);
});
