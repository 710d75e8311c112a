/** Two tables as one: what is told of it, and what can be read of it, is what of both is offered. */
import { expect, test } from 'vitest';
import { toKeyPort } from '../../net/index.ts';
import { ActionBuilder } from '../actions/builder.ts';
import { KEY_WORDS, Word } from '../key/layout.ts';
import { fuzzRounds, randomNumbers } from '../testing/frames.ts';
import type { FlowObserver } from './contract.ts';
import { PutMode } from './contract.ts';
import { JoinedFlows } from './joined.ts';
import { FlowTable } from './table.ts';

/** Ports of the second table have numbers that are larger by so much. */
const APART = 100;

function put(table: FlowTable, port: number, address: number, output: number): number {
  const key = new Uint32Array(KEY_WORDS);
  const mask = new Uint32Array(KEY_WORDS);
  key[Word.IN_PORT] = port;
  key[Word.IPV4_DESTINATION] = address;
  mask[Word.IN_PORT] = 0xffff_ffff;
  mask[Word.IPV4_DESTINATION] = 0xffff_ffff;
  const inner = new ActionBuilder().output(toKeyPort(output)).finish();
  const actions = new ActionBuilder().output(toKeyPort(output)).clone(inner).finish();
  return table.put({ key, mask, actions, ufid: null, mode: PutMode.CREATE_OR_MODIFY });
}

/** Both tables, and which flows of the first may run. */
class Lab {
  readonly own = new FlowTable();
  readonly other = new FlowTable();
  readonly held = new Set<number>();
  readonly joined: JoinedFlows;

  constructor() {
    this.joined = new JoinedFlows({
      own: this.own,
      mayRun: (slot) => !this.held.has(slot),
      other: this.other,
      numberOf: (port) => toKeyPort(port - APART),
      otherNumberOf: (port) => toKeyPort(port + APART),
    });
  }

  /** Flows as they should be seen: port, address and output. */
  expected(): string[] {
    const flows: string[] = [];
    for (const [table, apart] of [
      [this.own, 0],
      [this.other, APART],
    ] as const)
      for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1))
        if (table === this.other || !this.held.has(slot)) flows.push(describe(table, slot, apart));
    return flows.sort();
  }

  seen(): string[] {
    const flows: string[] = [];
    for (let slot = this.joined.next(0); slot !== -1; slot = this.joined.next(slot + 1))
      flows.push(describe(this.joined, slot, 0));
    return flows.sort();
  }
}

const key = new Uint32Array(KEY_WORDS);

function describe(table: FlowTable | JoinedFlows, slot: number, apart: number): string {
  table.readKey(slot, key);
  const actions = table.actionsOf(slot);
  const [port, output, inner] = [key[Word.IN_PORT], actions[1], actions[actions.length - 1]].map((one) => one - apart);
  expect(table.portOf(slot)).toBe(key[Word.IN_PORT]);
  return `${port} ${key[Word.IPV4_DESTINATION]} ${output} ${inner}`;
}

/** What somebody knows who only listens: flows by slot. */
class Listener implements FlowObserver {
  readonly flows = new Map<number, string>();
  readonly withdrawn: number[] = [];
  readonly #table: JoinedFlows;

  constructor(table: JoinedFlows) {
    this.#table = table;
  }

  flowAdded(slot: number): void {
    expect(this.flows.has(slot)).toBe(false);
    this.flows.set(slot, describe(this.#table, slot, 0));
  }

  flowModified(slot: number): void {
    expect(this.flows.has(slot)).toBe(true);
    this.flows.set(slot, describe(this.#table, slot, 0));
  }

  flowRemoved(slot: number): void {
    // It can still be read.
    describe(this.#table, slot, 0);
    expect(this.flows.delete(slot)).toBe(true);
  }

  flowWithdrawn(slot: number): void {
    this.withdrawn.push(slot);
    this.flowRemoved(slot);
  }

  flowsFlushed(): void {
    this.flows.clear();
  }
}

test('flows of the second table have the ports of the first, in their keys and wherever they are sent', () => {
  const { own, other, joined } = new Lab();
  put(own, 1, 10, 2);
  put(other, 1 + APART, 11, 3 + APART);
  const slots = [joined.next(0), joined.next(1)];
  expect(slots.map((slot) => describe(joined, slot, 0))).toEqual(['1 10 2 2', '1 11 3 3']);
  expect(slots.map((slot) => joined.isOther(slot))).toEqual([false, true]);
  for (const slot of slots) {
    joined.readKey(slot, key);
    expect(joined.match(key)).toBe(slot);
  }
});

test('a flow that is held back can be counted yet, and is told of as withdrawn', () => {
  const { own, held, joined } = new Lab();
  const listener = new Listener(joined);
  joined.observe(listener);
  const slot = put(own, 1, 10, 2);
  const at = joined.next(0);
  const generation = joined.generationOf(at);
  held.add(slot);
  joined.look(slot);
  expect([listener.withdrawn, joined.size, joined.next(0)]).toEqual([[at], 0, -1]);
  joined.readKey(at, key);
  expect(joined.match(key)).toBe(-1);
  expect([joined.has(at), joined.generationOf(at)]).toEqual([true, generation]);
  joined.addCounts(at, 3, 300, 0, 5);
  expect([own.packetsOf(slot), own.bytesOf(slot)]).toEqual([3, 300]);
  own.remove(slot);
  expect(joined.has(at)).toBe(false);
  put(own, 1, 11, 2);
  expect(joined.has(at) && joined.generationOf(at) === generation).toBe(false);
});

test('statistics are wanted of the flow in question, and of all', () => {
  const { own, other, held, joined } = new Lab();
  const asked: number[] = [];
  const listener: FlowObserver = new Listener(joined);
  listener.statisticsWanted = (slot) => asked.push(slot);
  joined.observe(listener);
  held.add(0);
  put(own, 1, 10, 2);
  const of = put(own, 1, 11, 2);
  const slot = put(other, 1 + APART, 12, 2 + APART);
  own.refreshCounts(0);
  own.refreshCounts(of);
  other.refreshCounts(slot);
  other.refreshCounts(-1);
  expect(asked.map((one) => (one === -1 ? 'all' : describe(joined, one, 0)))).toEqual(['1 11 2 2', '1 12 2 2', 'all']);
});

test('whatever happens to both, and whatever is held back, it is what is offered of them', () => {
  const pick = randomNumbers(7);
  for (let round = 0; round < fuzzRounds(5); round += 1) {
    const lab = new Lab();
    const { own, other, held, joined } = lab;
    const listener = new Listener(joined);
    joined.observe(listener);
    for (let step = 0; step < 200; step += 1) {
      const [table, apart] = pick(2) === 0 ? [own, 0] : [other, APART];
      const slot = table.next(pick(60));
      switch (pick(8)) {
        case 0:
        case 1:
        case 2:
          // A flow that takes the place of one that was held is not held itself.
          put(table, 1 + pick(3) + apart, pick(40), 1 + pick(3) + apart);
          break;
        case 3:
          if (slot !== -1) table.remove(slot);
          if (table === own) held.delete(slot);
          break;
        case 4:
          if (pick(20) !== 0) break;
          table.flush();
          if (table === own) held.clear();
          break;
        case 5: {
          const many = [slot, slot === -1 ? -1 : table.next(slot + 1)].filter((one) => one !== -1);
          table.removeMany(many);
          if (table === own) for (const one of many) held.delete(one);
          break;
        }
        default: {
          const one = own.next(pick(60));
          if (one === -1) break;
          if (!held.delete(one)) held.add(one);
          joined.look(one);
        }
      }
      const seen = lab.seen();
      expect(seen).toEqual(lab.expected());
      expect(joined.size).toBe(seen.length);
      expect([...listener.flows.values()].sort()).toEqual(seen);
    }
  }
});

test('nothing is told of the two once it is closed', () => {
  const { own, joined } = new Lab();
  const listener = new Listener(joined);
  joined.observe(listener);
  joined.close();
  put(own, 1, 10, 2);
  expect(listener.flows.size).toBe(0);
});
