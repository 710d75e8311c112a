/** The benchmarks of bpf/ run, and are far from their limits even on a busy machine; their figures are measured by `npm run bench`. */
import { expect, test } from 'vitest';
import { benchBatchUpdate, benchGenerator, benchLoad, benchMappedReads } from '../bench/bpf.ts';

test('mapped memory is read more than 20 million times a second', () => {
  const { plainPerSecond, atomicPerSecond } = benchMappedReads(50);
  expect(plainPerSecond).toBeGreaterThan(20e6);
  expect(atomicPerSecond).toBeGreaterThan(20e6);
});

test('batches and loading take milliseconds', () => {
  expect(benchBatchUpdate(100_000, 3).medianMs).toBeLessThan(1000);
  expect(benchLoad(500, 5).medianMs).toBeLessThan(100);
});

test('the generator sends hundreds of thousands a second, and the receiver counts them', async () => {
  const { packetsPerSecond, packetsPerCpuSecond } = await benchGenerator(300);
  expect(packetsPerSecond).toBeGreaterThan(300_000);
  expect(packetsPerCpuSecond).toBeGreaterThan(300_000);
});
