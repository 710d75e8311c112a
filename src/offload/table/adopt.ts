/**
 * What one process tells the next of its tables, and taking over those that a former process has left working. Its entries are read back; a flow that is put again with the same mask, key
 * and actions claims its entry, counters included, and what nobody claims (left-flows.ts) is removed in the end. Programs go on meanwhile.
 */
import type { InterfaceIndex, KeyPort } from '../../net/index.ts';
import type { Shape } from '../actions/shape.ts';
import type { HashSecrets } from '../layout/hash.ts';
import { PROBES } from '../layout/limits.ts';
import type { Description } from '../layout/maps.ts';
import type { PortTable } from '../layout/port-table.ts';
import { ENTRY_MASK, TAG_MASK } from '../layout/sizes.ts';
import type { HookState } from './hook-state.ts';
import { LeftFlows } from './left-flows.ts';
import type { Placement } from './placement.ts';

/** What tables say of themselves, but for what their maps know. */
type TableDescription = Omit<Description, 'version' | 'shape'>;

/** What the numbers in entries mean, for {@link adoptEntries} of the next process. */
export function describe(states: readonly HookState[], secrets: HashSecrets): TableDescription {
  return {
    secrets: [...secrets.words],
    masks: states.flatMap(({ hook, masks }) =>
      [...masks.all()].map(({ number, value }) => ({
        number,
        hook,
        words: value.index.map((word, i): [number, number] => [word, value.values[i]]),
      })),
    ),
    shapes: states.flatMap(({ shapes }) => [...shapes.all()].map(({ number, value }) => ({ number, shape: value }))),
  };
}

/**
 * Read back masks, shapes and entries. What makes no sense is taken out of the index.
 * @returns the entries that wait for their flows
 */
export function adoptEntries(
  description: Description,
  placement: Placement,
  ports: PortTable,
  states: readonly HookState[],
): LeftFlows {
  for (const state of states) {
    for (const { number, hook, words } of description.masks) {
      if (hook !== state.hook) continue;
      const id = words.map(([word, value]) => `${word}:${value.toString(16)}`).join(' ');
      const value = { index: words.map(([word]) => word), values: words.map(([, bits]) => bits) };
      // Programs that run know it: its number must not be given to another.
      state.masks.adopt(number, id, value).running = true;
    }
    for (const { number, shape } of description.shapes as readonly { number: number; shape: Shape }[]) {
      if (shape.hook === state.hook) state.shapes.adopt(number, shape.id, shape).running = true;
    }
    // Programs of this process, whatever they were before.
    state.dirty = true;
  }
  const used = new Set<number>();
  const { index, maps } = placement.tables;
  for (let place = 0; place < maps.sizes.indexPlaces + PROBES; place += 1) {
    const entry = index.words[place] & ENTRY_MASK;
    if (entry === 0) continue;
    if (!used.has(entry) && isSound(placement, states, place, entry)) used.add(entry);
    else Atomics.store(index.words, place, TAG_MASK | 0);
  }
  const { entries } = placement.tables;
  for (let entry = 1; entry < maps.sizes.entries; entry += 1) {
    if (!used.has(entry) && entries.maskOf(entry) !== -1) entries.kill(entry);
  }
  entries.adopt(used.size, maps.sizes.entries);
  for (const entry of used) hold(placement, states, entry);
  const numbers = new Map(
    ports.adopt().map((ifindex): [KeyPort, InterfaceIndex] => [ports.numberOf(ifindex), ifindex]),
  );
  const left = new LeftFlows(placement, states, numbers);
  left.removeWhere(({ recirculates }) => recirculates);
  return left;
}

/** An entry whose packets have not been worked off by the engine that had them: what has come up since then is this one's. */
function hold({ tables, order }: Placement, states: readonly HookState[], entry: number): void {
  const { entries } = tables;
  if (entries.orderOf(entry) === 0) return;
  const state = states.find(({ masks }) => masks.byNumber(entries.maskOf(entry)) !== undefined);
  const mask = state?.masks.byNumber(entries.maskOf(entry));
  const shape = state?.shapes.byNumber(entries.shapeOf(entry));
  if (state === undefined || mask === undefined || shape === undefined) return;
  order.hold(entry, state.hook, mask, shape);
}

/** Whether an index place and the entry that it names belong together; then the entry counts. */
function isSound(placement: Placement, states: readonly HookState[], place: number, entry: number): boolean {
  const { tables } = placement;
  const { entries, index, secrets, maps } = tables;
  if (entry >= maps.sizes.entries) return false;
  const number = entries.maskOf(entry);
  const state = states.find(({ masks }) => masks.byNumber(number) !== undefined);
  const mask = state?.masks.byNumber(number);
  const shape = state?.shapes.byNumber(entries.shapeOf(entry));
  if (mask === undefined || shape === undefined) return false;
  const { index: words } = mask.value;
  const key = entries.keyOf(entry, words.length);
  const hash = secrets.hash(number, words, key) | 0;
  const home = index.home(hash);
  if ((index.words[place] & TAG_MASK) !== (hash & TAG_MASK) || place < home || place >= home + PROBES) return false;
  tables.hashes[entry] = hash;
  tables.keyLengths[entry] = words.length;
  mask.entries += 1;
  shape.entries += 1;
  return true;
}
