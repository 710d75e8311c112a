import { expect, test } from 'vitest';
import { Operation } from '../../switch/index.ts';
import { sequence } from './sequence.ts';

test('calls are made one after another, each when the one before is done', () => {
  const made: string[] = [];
  const pending = new Operation<void>();
  const whole = sequence([
    () => {
      made.push('a');
      return null;
    },
    () => {
      made.push('b');
      return pending;
    },
    () => {
      made.push('c');
      return Operation.done(1);
    },
  ]);
  expect([made.join(''), whole.state]).toEqual(['ab', 'pending']);
  pending.resolve();
  expect([made.join(''), whole.state]).toEqual(['abc', 'done']);
});

test('the first that fails, throws, or fails later ends the sequence', () => {
  let made = 0;
  const count = () => {
    made += 1;
    return null;
  };
  const late = new Operation<void>();
  const outcomes = [
    sequence([count, () => Operation.failed(new Error('failed')), count]),
    sequence([
      count,
      () => {
        throw new Error('thrown');
      },
      count,
    ]),
    sequence([count, () => late, count]),
  ];
  late.reject(new Error('late'));
  expect(outcomes.map((outcome) => outcome.error?.message)).toEqual(['failed', 'thrown', 'late']);
  expect(made).toBe(3);
});

test('a long sequence does not grow the stack', () => {
  expect(sequence(Array.from({ length: 100_000 }, () => () => Operation.done(null))).state).toBe('done');
});
