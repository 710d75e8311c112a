import { expect, test } from 'vitest';
import { checkDeviceName } from './device.ts';

test.each(['eth0', 'enp3s0f1np1', 'a.b-c_d', 'tap%d'])('%s is a device name', (name) => {
  expect(() => checkDeviceName(name)).not.toThrow();
});

test.each(['', 'sixteen-bytes-xx', 'a/b', 'a b', 'a:b', '.', '..', 'tab\t', 'n\0l', 'ääääääää'])(
  '%j is no device name',
  (name) => {
    expect(() => checkDeviceName(name)).toThrow(RangeError);
  },
);
