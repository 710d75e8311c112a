/** Which masks programs can look up. */
import { expect, test } from 'vitest';
import { KEY_WORDS, parseFlowKey, Sound, Word } from '../../flow/index.ts';
import { planMask, zeroReason } from './mask-plan.ts';

const maskOf = (text: string) => parseFlowKey(text).mask;

test('bits that are 0 for every packet in the kernel are not looked at', () => {
  const plan = planMask(maskOf('ct_state(-trk),skb_mark(0),recirc_id(0),in_port(1),eth(),eth_type(0x0800)'), true);
  expect(plan.reason).toBeNull();
  expect(plan.index).toEqual([Word.RECIRC_ID, Word.IN_PORT, Word.ETH_TYPE, Word.VLAN]);
  expect(plan.zeroIndex).toEqual(expect.arrayContaining([Word.MARK, Word.CT]));
  expect(plan.values[plan.index.indexOf(Word.ETH_TYPE)]).toBe(0xffff_0000);
});

test('which headers could be read is looked at', () => {
  const words = new Uint32Array(KEY_WORDS);
  words[Word.ETH_TYPE] = 0xffff_0000 | Sound.NETWORK | Sound.TRANSPORT;
  const { index, values, zeroIndex } = planMask(words, false);
  expect([index, values, zeroIndex]).toEqual([[Word.ETH_TYPE], [0xffff_0300], []]);
});

test('masks that differ only in such bits are one to programs', () => {
  const one = planMask(maskOf('in_port(1),eth(),eth_type(0x0800)'), false);
  const other = planMask(maskOf('ct_state(-trk),in_port(1),eth(),eth_type(0x0800)'), false);
  expect(other.id).toBe(one.id);
});

test('neighbour discovery and masks over too many words are refused', () => {
  const words = new Uint32Array(KEY_WORDS);
  words[Word.ND_TARGET] = 1;
  expect(planMask(words, false).reason).toBe('matches on neighbour discovery');
  words.fill(0).fill(1, 0, 3).fill(1, 20, 38).fill(0xffff_0000, 20, 21).fill(0xffff_0000, 28, 29);
  expect(planMask(words, false).reason).toBeNull();
});

test('every bit that must be 0 has a reason', () => {
  const words = new Uint32Array(KEY_WORDS).fill(0xffff_ffff);
  const reasons = planMask(words, false).zeroIndex.map(zeroReason);
  expect(new Set(reasons)).toEqual(
    new Set([
      'matches on a priority',
      'matches on a mark',
      'matches on the state of a connection',
      'packets without an Ethernet header',
      'matches on IPv6 extension headers',
      'matches on a tunnel',
    ]),
  );
});
