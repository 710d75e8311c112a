/** Numbers of ports: each kind is its own to the compiler, and checked where it is made. */
import { expect, expectTypeOf, test } from 'vitest';
import {
  type InterfaceIndex,
  type KeyPort,
  type KeyPortOf,
  type PortId,
  toInterfaceIndex,
  toKeyPort,
  toPortId,
} from './port-numbers.ts';

test('a number is taken as it is where a port can have it, and refused where none can', () => {
  expect([toPortId(0), toPortId(0xffff), toKeyPort(0), toKeyPort(-1 | 0), toInterfaceIndex(1)]).toEqual([
    0, 0xffff, 0, 0xffff_ffff, 1,
  ]);
  for (const value of [0x1_0000, -1, 1.5, Number.NaN]) expect(() => toPortId(value)).toThrow(RangeError);
  for (const value of [0, 2 ** 31, -1]) expect(() => toInterfaceIndex(value)).toThrow('is no index of an interface');
});

test('no kind is taken for another, nor a plain number for any of them; all of them are numbers', () => {
  type Ours = KeyPortOf<'ours'>;
  expectTypeOf<PortId | KeyPort | InterfaceIndex>().toExtend<number>();
  expectTypeOf<number>().not.toExtend<PortId | KeyPort | InterfaceIndex>();
  expectTypeOf<PortId>().not.toExtend<KeyPort | InterfaceIndex>();
  expectTypeOf<KeyPort>().not.toExtend<PortId | InterfaceIndex>();
  expectTypeOf<InterfaceIndex>().not.toExtend<PortId | KeyPort>();
  expectTypeOf<Ours>().toExtend<KeyPort>();
  expectTypeOf<KeyPort>().not.toExtend<Ours>();
  expectTypeOf<Ours>().not.toExtend<KeyPortOf<'theirs'>>();
});
