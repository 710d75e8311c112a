/** Attempts to load a program, with a kernel that answers as it is told. */
import { expect, test } from 'vitest';
import { Errno } from '../sys/bpf.ts';
import { tryUntilAnswered } from './load-tries.ts';

/** A kernel that gives these answers, the last for ever. @returns the sizes of logs that it was offered */
function ask(answers: readonly number[], hasLog: boolean): { sizes: number[]; result: number } {
  const sizes: number[] = [];
  const { result } = tryUntilAnswered((logBytes) => {
    const answer = answers[Math.min(sizes.length, answers.length - 1)];
    sizes.push(logBytes);
    return { result: answer, log: '' };
  }, hasLog);
  return { sizes, result };
}

test('a signal in between costs another attempt, and no larger log', () => {
  expect(ask([-Errno.EAGAIN, -Errno.EAGAIN, 7], true)).toEqual({ sizes: [65536, 65536, 65536], result: 7 });
  expect(ask([-Errno.EAGAIN, 7], false)).toEqual({ sizes: [0, 0], result: 7 });
});

test('a log that does not fit is asked for again in a larger buffer', () => {
  expect(ask([-Errno.ENOSPC, -Errno.EAGAIN, -Errno.ENOSPC, -Errno.EINVAL], true)).toEqual({
    sizes: [65536, 262144, 262144, 1048576],
    result: -Errno.EINVAL,
  });
});

test('what never ends is given up', () => {
  expect(ask([-Errno.EAGAIN], true)).toMatchObject({ sizes: { length: 101 }, result: -Errno.EAGAIN });
  const { sizes, result } = ask([-Errno.ENOSPC], true);
  expect([sizes.at(-1), result]).toEqual([1 << 28, -Errno.ENOSPC]);
  expect(ask([-Errno.ENOSPC], false).sizes).toEqual([0]);
});
