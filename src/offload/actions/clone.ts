/** CLONE and SAMPLE as eBPF: a list over a copy, of all packets. */
import { Action, everyAction, type ListBounds } from '../../flow/index.ts';
import type { ListCompiler } from './compile.ts';

/** As the last action it may have the packet itself, else it must leave it as it is. */
export function compileClone(
  list: ListCompiler,
  words: Int32Array,
  _at: number,
  isLast: boolean,
  [{ from, end }]: readonly ListBounds[],
): boolean {
  if (isLast) return list.actions(words, from, end, true);
  if (list.limit !== -1) return list.refuse('truncation across a clone');
  if (!everyAction(words, from, end, ({ type }) => type === Action.OUTPUT)) {
    return list.refuse('a clone that does more than output');
  }
  return list.actions(words, from, end, false);
}

/** A sample of all packets is a clone. */
export function compileSample(
  list: ListCompiler,
  words: Int32Array,
  at: number,
  isLast: boolean,
  lists: readonly ListBounds[],
): boolean {
  return words[at + 1] === -1 ? compileClone(list, words, at, isLast, lists) : list.refuse('action sample');
}
