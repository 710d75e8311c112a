/**
 * Positions in the extension stack, which are those of `extension list`: packets pass capturing extensions first, then filtering ones, then the one that
 * forwards, whatever order the configuration has them in. Here a position of the list becomes a place in the configuration.
 */
import type { ExtensionInfo } from '../api.ts';
import type { Extension } from '../config/model.ts';
import { Failure } from '../rpc/failure.ts';

const ORDER = 'capturing extensions stand above filtering ones, and those above the one that forwards';

/** The type of one whose module has not been loaded, as it was left out after it had stopped the datapath. */
const NOT_LOADED = 'unknown';

type Shown = Pick<ExtensionInfo, 'name' | 'type'>;

/**
 * The configuration's stack with one more, above the one that stands at a position.
 * @param shown the list as it is
 * @param position from 1
 */
export function insertedAt(
  stack: readonly Extension[],
  shown: readonly Shown[],
  added: Extension,
  position: number,
): Extension[] {
  const below = shown[position - 1]?.name;
  const index = stack.findIndex(({ name }) => name === below);
  return index === -1 ? [...stack, added] : stack.toSpliced(index, 0, added);
}

/**
 * The configuration's stack with one at another position.
 * @param shown the list as it is
 * @param position from 1
 * @throws Failure 'refused' for one at which its type cannot stand; 'not-found' when there is no such extension
 */
export function movedTo(
  stack: readonly Extension[],
  shown: readonly Shown[],
  name: string,
  position: number,
): Extension[] {
  const from = stack.findIndex((extension) => extension.name === name);
  const type = shown.find((extension) => extension.name === name)?.type;
  if (from === -1 || type === undefined) throw new Failure('not-found', `there is no extension "${name}" in the stack`);
  const mayChange = (other: Shown) => type === NOT_LOADED || other.type === NOT_LOADED || other.type === type;
  const places = shown.flatMap((other, index) => (mayChange(other) ? [index + 1] : []));
  if (!places.includes(position)) {
    const [first, last] = [places[0], places[places.length - 1]];
    const where = first === last ? `position ${first} only` : `positions ${first} to ${last}`;
    throw new Failure('refused', `${name} is ${type} and can have ${where}: ${ORDER}`);
  }
  const to = stack.findIndex((extension) => extension.name === shown[position - 1].name);
  return stack.toSpliced(from, 1).toSpliced(to, 0, stack[from]);
}
