/** What tables answer about themselves, and that decisions that ask for it rest on it. */
import { expect, test } from 'vitest';
import { KEY_WORDS } from '../../flow/index.ts';
import { Reading, untieAll, whileReading } from './observed.ts';
import { ObservedPrefixes } from './prefixes.ts';
import { DeciderState } from './state.ts';
import { WeightedChoice } from './weighted.ts';

/** @returns how often something ends that rests on what `read` reads */
function endsOf(read: () => unknown): { count: number } {
  const ended = { count: 0 };
  const reading = new Reading();
  whileReading(reading, () => void read());
  const dependent = {
    end: () => {
      ended.count += 1;
      untieAll(tie);
    },
  };
  const tie = reading.tieAll(dependent, new Uint32Array(KEY_WORDS));
  return ended;
}

test.each(['size', 'entries'] as const)('%s of a choice rests on all of its keys', (what) => {
  const choice = new WeightedChoice<number>('choice');
  choice.set('a', 1, 1);
  const ended = endsOf(() => (what === 'size' ? choice.size : choice.entries()));
  choice.set('a', 1, 1);
  expect(ended.count).toBe(0);
  choice.set('b', 0.001, 2);
  expect(ended.count).toBe(1);
});

test.each(['size', 'entries'] as const)('%s of a table of prefixes rests on all of them', (what) => {
  const prefixes = new ObservedPrefixes<string>('prefixes');
  prefixes.set('10.0.0.0/8', 'a');
  const ended = endsOf(() => (what === 'size' ? prefixes.size : prefixes.entries()));
  prefixes.replace([['10.0.0.0/8', 'a']]);
  expect(ended.count).toBe(0);
  prefixes.set('2001:db8::/32', 'b');
  expect(ended.count).toBe(1);
});

test('a table of prefixes says what is wrong with a text, and takes the kinds that it is for', () => {
  const addresses = new DeciderState().prefixes<string>('addresses', ['ipv4', 'ipv6']);
  expect(addresses.flaw('10.0.0.0/8')).toBeNull();
  expect(addresses.flaw('fd00::/8')).toBeNull();
  expect(addresses.flaw('10.0.0.0/33')).toBe('10.0.0.0/33 is no IPv4 address or prefix');
  expect(addresses.flaw('80')).toBe('80 is no IPv4 address or prefix, nor IPv6 address or prefix');
  expect(addresses.flaw('02:00:00:00:00:01')).toMatch(/^02:00:00:00:00:01 is no IPv4/);
  addresses.set('10.0.0.0/8', 'a');
  expect(() =>
    addresses.replace([
      ['fd00::/8', 'b'],
      ['443', 'c'],
    ]),
  ).toThrow('443 is no IPv4');
  expect(addresses.entries()).toEqual([{ prefix: '10.0.0.0/8', value: 'a' }]);
  expect(new ObservedPrefixes('all').flaw('443')).toBeNull();
});
