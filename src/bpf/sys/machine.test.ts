import { expect, test } from 'vitest';
import { parseCpuList } from './machine.ts';

test('lists of CPUs are read as the kernel writes them', () => {
  expect(parseCpuList('0\n')).toEqual([0]);
  expect(parseCpuList('0-3,8,10-11\n')).toEqual([0, 1, 2, 3, 8, 10, 11]);
  expect(parseCpuList('\n')).toEqual([]);
});
