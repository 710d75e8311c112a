/** Which ports flows have to do with: by which their packets come in, and where they are sent, however deep in their actions. */
import { expect, test } from 'vitest';
import { FlowTable, KEY_WORDS, PutMode, parseActions, Word } from '../../flow/index.ts';
import { toKeyPort } from '../../net/index.ts';
import { FlowReach, SomePorts } from './flow-reach.ts';

const ports = (...numbers: number[]) => new SomePorts(numbers.map(toKeyPort));

/** A flow of a port, or of any when it is -1. */
function put(table: FlowTable, port: number, actions: string): number {
  const key = new Uint32Array(KEY_WORDS);
  const mask = new Uint32Array(KEY_WORDS);
  mask[Word.RECIRC_ID] = 0xffff_ffff;
  if (port !== -1) mask[Word.IN_PORT] = 0xffff_ffff;
  key[Word.IN_PORT] = Math.max(port, 0);
  return table.put({ key, mask, actions: parseActions(actions), ufid: null, mode: PutMode.CREATE_OR_MODIFY });
}

test('a flow has to do with the ports that it comes in and goes out by, and not with others that share their bits', () => {
  const table = new FlowTable();
  const before = put(table, 1, '2');
  const reach = new FlowReach(table);
  const slots = [before, put(table, 3, '4,clone(push_vlan(vid=5,pcp=0),5)'), put(table, 6, 'drop')];
  const touched = (...numbers: number[]) => slots.filter((slot) => reach.touches(slot, ports(...numbers)));
  expect([1, 2, 3, 4, 5, 6].map((number) => touched(number))).toEqual([[0], [0], [1], [1], [1], [2]]);
  expect(touched(33, 34, 35)).toEqual([]);
  expect(reach.mayTouch(before, ports(33).bits)).toBe(true);
  expect(touched(34, 2)).toEqual([0]);
  expect(slots.filter((slot) => reach.touches(slot, new SomePorts(null)))).toEqual(slots);
  expect(touched()).toEqual([]);
});

test('other actions are other ports, and a flow of any port has to do with each', () => {
  const table = new FlowTable();
  const reach = new FlowReach(table);
  const slot = put(table, 1, '2');
  put(table, 1, '3');
  expect([2, 3].map((number) => reach.touches(slot, ports(number)))).toEqual([false, true]);
  const either = put(table, 2, 'check_pkt_len(size=100,gt(4),le(5))');
  expect([4, 5, 9].map((number) => reach.touches(either, ports(number)))).toEqual([true, true, false]);
  const others = new FlowTable();
  const any = put(others, -1, '3');
  expect(new FlowReach(others).touches(any, ports(9))).toBe(true);
});

test('very many flows are told apart', () => {
  const table = new FlowTable();
  const reach = new FlowReach(table);
  const slots = Array.from({ length: 5000 }, (_, port) => put(table, port, String(port + 1)));
  expect(slots.filter((slot) => reach.touches(slot, ports(4000)))).toEqual([3999, 4000]);
});

test('ports are equal when they are the same', () => {
  expect(ports(1, 2).equals(ports(2, 1))).toBe(true);
  expect(ports(1, 2).equals(ports(1, 3))).toBe(false);
  expect(new SomePorts(null).equals(ports())).toBe(false);
  expect([ports().isNone, ports(32).isNone, new SomePorts(null).isNone]).toEqual([true, false, false]);
});
