import { expect, test } from 'vitest';
import { FlowKey } from '../key/key.ts';
import { KEY_WORDS, Word } from '../key/layout.ts';
import { fuzzRounds, randomNumbers } from '../testing/frames.ts';
import { FlowError, type FlowPut, PutMode } from './contract.ts';
import { FlowTable } from './table.ts';

type Words = Record<number, number>;

function words(given: Words): Uint32Array {
  const all = new Uint32Array(KEY_WORDS);
  for (const [index, value] of Object.entries(given)) all[Number(index)] = value;
  return all;
}

function keyOf(given: Words): FlowKey {
  const key = new FlowKey();
  key.words.set(words(given));
  return key;
}

const ALL = 0xffff_ffff;
const portMask = words({ [Word.IN_PORT]: ALL });
const addressMask = words({ [Word.IN_PORT]: ALL, [Word.IPV4_DESTINATION]: 0xffff_ff00 });

function put(table: FlowTable, flow: Partial<FlowPut>): number {
  return table.put({
    key: flow.key ?? words({ [Word.IN_PORT]: 1 }),
    mask: flow.mask ?? portMask,
    actions: flow.actions ?? Int32Array.of(7),
    ufid: flow.ufid ?? null,
    mode: flow.mode ?? PutMode.CREATE,
  });
}

const ufid = (...bytes: number[]) => Uint8Array.from(bytes);

test('a flow answers for every key that is equal under its mask', () => {
  const table = new FlowTable();
  const slot = put(table, {
    key: words({ [Word.IN_PORT]: 1, [Word.IPV4_DESTINATION]: 0x0a00_0005 }),
    mask: addressMask,
  });
  expect(table.lookup(keyOf({ [Word.IN_PORT]: 1, [Word.IPV4_DESTINATION]: 0x0a00_00ff, [Word.MARK]: 9 }))).toBe(slot);
  expect(table.lookup(keyOf({ [Word.IN_PORT]: 1, [Word.IPV4_DESTINATION]: 0x0a00_01ff }))).toBe(-1);
  expect(table.lookup(keyOf({ [Word.IN_PORT]: 2, [Word.IPV4_DESTINATION]: 0x0a00_00ff }))).toBe(-1);
  expect([table.hits, table.misses]).toEqual([1, 2]);
});

test('the mask that looks at nothing matches everything', () => {
  const table = new FlowTable();
  const slot = put(table, { mask: words({}) });
  expect(table.lookup(keyOf({ [Word.IN_PORT]: 99 }))).toBe(slot);
  expect([table.masks[0].firstWord, table.masks[0].lastWord]).toEqual([-1, -1]);
});

test('a mask knows the range of words that it looks at', () => {
  const table = new FlowTable();
  put(table, { mask: addressMask });
  expect([table.masks[0].firstWord, table.masks[0].lastWord, table.masks[0].count]).toEqual([
    Word.IN_PORT,
    Word.IPV4_DESTINATION,
    2,
  ]);
});

test('create refuses a flow that is there, by identifier or by overlap', () => {
  const table = new FlowTable();
  put(table, { ufid: ufid(1) });
  expect(put(table, { ufid: ufid(1), key: words({ [Word.IN_PORT]: 2 }) })).toBe(FlowError.EXISTS);
  expect(put(table, { ufid: ufid(2) })).toBe(FlowError.EXISTS);
  expect(put(table, { mask: addressMask })).toBe(FlowError.EXISTS);
  expect(table.size).toBe(1);
});

test('modify changes the actions of the flow with that identifier or that very key, and of no other', () => {
  const table = new FlowTable();
  const byId = put(table, { ufid: ufid(1, 2, 3) });
  const byKey = put(table, { key: words({ [Word.IN_PORT]: 2, [Word.MARK]: 5 }) });
  const change = { actions: Int32Array.of(8, 9), mode: PutMode.MODIFY };
  expect(put(table, { ...change, ufid: ufid(1, 2, 3) })).toBe(byId);
  expect([...table.actionsOf(byId)]).toEqual([8, 9]);
  expect(put(table, { ...change, ufid: ufid(1, 2) })).toBe(FlowError.NOT_FOUND);
  expect(put(table, { ...change, key: words({ [Word.IN_PORT]: 2 }) })).toBe(FlowError.NOT_FOUND);
  expect(put(table, { ...change, key: words({ [Word.IN_PORT]: 2, [Word.MARK]: 5 }) })).toBe(byKey);
  expect(put(table, { ...change, actions: new Int32Array(0), ufid: ufid(1, 2, 3) })).toBe(byId);
  expect(table.actionsOf(byId).length).toBe(0);
});

test('create-or-modify adds, changes, and refuses an identifier whose key is another', () => {
  const table = new FlowTable();
  const mode = PutMode.CREATE_OR_MODIFY;
  const slot = put(table, { ufid: ufid(1), mode });
  expect(put(table, { ufid: ufid(1), mode, actions: Int32Array.of(1) })).toBe(slot);
  expect(put(table, { ufid: ufid(1), mode, key: words({ [Word.IN_PORT]: 3 }) })).toBe(FlowError.NOT_FOUND);
  expect([...table.actionsOf(slot)]).toEqual([1]);
});

test('keys of the wrong length and identifiers that are too long are refused', () => {
  const table = new FlowTable();
  expect(put(table, { key: new Uint32Array(3) })).toBe(FlowError.INVALID);
  expect(put(table, { ufid: new Uint8Array(17) })).toBe(FlowError.INVALID);
  expect(put(table, { actions: new Int32Array(100_000) })).toBe(FlowError.INVALID);
  expect(table.findUfid(new Uint8Array(17))).toBe(-1);
});

test('a full table refuses more and goes on', () => {
  const table = new FlowTable({ maximumFlows: 2 });
  put(table, {});
  put(table, { key: words({ [Word.IN_PORT]: 2 }) });
  expect(put(table, { key: words({ [Word.IN_PORT]: 3 }) })).toBe(FlowError.FULL);
  expect(table.size).toBe(2);
});

test('keys, masks and identifiers read back; without an identifier the bits outside the mask do too', () => {
  const table = new FlowTable();
  const given = words({ [Word.IN_PORT]: 1, [Word.MARK]: 5, [KEY_WORDS - 1]: 0xdead_beef });
  const byKey = put(table, { key: given });
  const byId = put(table, { key: words({ [Word.IN_PORT]: 2, [Word.MARK]: 5 }), ufid: ufid(9, 8, 7, 6, 5) });
  const into = new Uint32Array(KEY_WORDS);
  table.readKey(byKey, into);
  expect(into).toEqual(given);
  table.readKey(byId, into);
  expect(into).toEqual(words({ [Word.IN_PORT]: 2 }));
  expect(table.maskOf(byId).words).toEqual(portMask);
  expect(table.ufidOf(byId)).toEqual(ufid(9, 8, 7, 6, 5));
  expect(table.ufidOf(byKey)).toBe(null);
  expect(table.findUfid(ufid(9, 8, 7, 6, 5))).toBe(byId);
});

test('statistics count, add up and clear', () => {
  const table = new FlowTable();
  const slot = put(table, {});
  table.count(slot, 60, 0x02, 1000);
  table.count(slot, 1500, 0x10, 2000);
  table.addCounts(slot, 10, 1000, 0x01, 1500);
  expect([table.packetsOf(slot), table.bytesOf(slot), table.usedMsOf(slot), table.tcpFlagsOf(slot)]).toEqual([
    12, 2560, 2000, 0x13,
  ]);
  table.clearCounts(slot);
  expect([table.packetsOf(slot), table.bytesOf(slot), table.usedMsOf(slot), table.tcpFlagsOf(slot)]).toEqual([
    0, 0, 0, 0,
  ]);
});

test('observers hear of what was added, modified, removed and flushed, while the slot can still be read', () => {
  const table = new FlowTable();
  const heard: string[] = [];
  const observer = {
    flowAdded: (slot: number) => heard.push(`+${table.actionsOf(slot)}`),
    flowModified: (slot: number) => heard.push(`~${table.actionsOf(slot)}`),
    flowRemoved: (slot: number) => heard.push(`-${table.actionsOf(slot)}`),
    flowsFlushed: () => heard.push(`flush ${table.size}`),
  };
  table.observe(observer);
  const slot = put(table, {});
  put(table, { mode: PutMode.MODIFY, actions: Int32Array.of(8) });
  put(table, {});
  table.remove(slot);
  put(table, {});
  table.flush();
  table.unobserve(observer);
  put(table, {});
  expect(heard).toEqual(['+7', '~8', '-8', '+7', 'flush 1']);
});

test.each(['remove', 'removeMany', 'flush'] as const)(
  '%s: flows go, and all observers hear it, though one throws',
  (how) => {
    const table = new FlowTable();
    const slots = [1, 2, 3].map((port) => put(table, { key: words({ [Word.IN_PORT]: port }) }));
    const heard: number[] = [];
    const throwing = () => {
      throw new Error(`no ${heard.length}`);
    };
    const quiet = { flowAdded: () => {}, flowModified: () => {} };
    table.observe({ ...quiet, flowRemoved: throwing, flowsFlushed: throwing });
    table.observe({ ...quiet, flowRemoved: (slot) => heard.push(slot), flowsFlushed: () => heard.push(...slots) });
    const going = how === 'remove' ? slots.slice(0, 1) : how === 'removeMany' ? slots.slice(0, 2) : slots;
    expect(() => {
      if (how === 'remove') table.remove(slots[0]);
      else if (how === 'removeMany') table.removeMany(going);
      else table.flush();
    }).toThrow('no 0');
    expect(heard).toEqual(going);
    expect(table.size).toBe(slots.length - going.length);
    for (const [i, slot] of slots.entries()) {
      expect(table.match(words({ [Word.IN_PORT]: i + 1 }))).toBe(going.includes(slot) ? -1 : slot);
    }
  },
);

test('a slot that is used again has another generation and no statistics', () => {
  const table = new FlowTable();
  const slot = put(table, {});
  const generation = table.generationOf(slot);
  table.count(slot, 60, 0, 1);
  table.remove(slot);
  expect([table.has(slot), table.masks.length]).toEqual([false, 0]);
  expect(put(table, {})).toBe(slot);
  expect(table.generationOf(slot)).not.toBe(generation);
  expect(table.packetsOf(slot)).toBe(0);
});

test('a dump ends and meets every lasting flow exactly once while others come and go', () => {
  const table = new FlowTable();
  const random = randomNumbers(5);
  for (let i = 0; i < 500; i += 1) put(table, { key: words({ [Word.IN_PORT]: i }) });
  const lasting = new Set<number>();
  for (let i = 0; i < 500; i += 2) lasting.add(table.findExact(words({ [Word.IN_PORT]: i })));
  const met: number[] = [];
  let next = 1000;
  const end = table.slotEnd;
  for (let slot = table.next(0, end); slot !== -1; slot = table.next(slot + 1, end)) {
    met.push(slot);
    const odd = table.findExact(words({ [Word.IN_PORT]: random(250) * 2 + 1 }));
    if (odd !== -1) table.remove(odd);
    put(table, { key: words({ [Word.IN_PORT]: next }) });
    next += 1;
  }
  expect(met.length).toBeLessThanOrEqual(500);
  for (const slot of lasting) expect(met.filter((each) => each === slot).length).toBe(1);
});

test('a block that is freed while somebody reads stays as it is until they are done', () => {
  const table = new FlowTable();
  const slot = put(table, { actions: Int32Array.of(1, 2, 3) });
  const offset = table.actionsOffset(slot);
  const heap = table.heap;
  heap.beginRead();
  const held = heap.words;
  table.remove(slot);
  for (let i = 0; i < 2000; i += 1) put(table, { key: words({ [Word.IN_PORT]: i }), actions: Int32Array.of(9, 9, 9) });
  expect([...held.slice(offset, offset + 3)]).toEqual([1, 2, 3]);
  heap.endRead();
  put(table, { key: words({ [Word.IN_PORT]: 5000 }), actions: Int32Array.of(4, 4, 4) });
  expect(heap.words[offset]).toBe(4);
});

test('flushing and filling again does not grow the heap', () => {
  const table = new FlowTable();
  for (let round = 0; round < 20; round += 1) {
    for (let i = 0; i < 100; i += 1) put(table, { key: words({ [Word.IN_PORT]: i }), actions: new Int32Array(i % 20) });
    table.flush();
    expect(table.heap.usedWords).toBe(0);
  }
  expect(table.memoryBytes).toBeLessThan(2_300_000);
});

test('the busiest mask of a port comes to be tried first, whatever other ports find', () => {
  const table = new FlowTable({ cacheEntries: 4 });
  const keys = (port: number) =>
    Array.from({ length: 8 }, (_, i) => words({ [Word.IN_PORT]: port, [Word.MARK]: 1 << i, [Word.CT_MARK]: i }));
  for (const port of [1, 2]) {
    keys(port).forEach((key, i) => {
      put(table, { key, mask: words({ [Word.IN_PORT]: ALL, [Word.MARK]: 1 << i, [Word.CT_MARK]: ALL }) });
    });
  }
  const probe = new FlowKey();
  const look = (key: Uint32Array) => {
    probe.words.set(key);
    // Another connection each time: the cache knows it not.
    probe.words[Word.IPV4_SOURCE] = round += 1;
    table.lookup(probe);
  };
  let round = 0;
  for (let i = 0; i < 5000; i += 1) {
    look(keys(1)[7]);
    if (i % 4 === 0) look(keys(1)[3]);
    look(keys(2)[5]);
  }
  const first = (port: number) => table.masksOf(port).trials.map(({ mask }) => mask.words[Word.MARK]);
  expect(first(1).slice(0, 2)).toEqual([1 << 7, 1 << 3]);
  expect(first(2)[0]).toBe(1 << 5);
});

test('a look-up, and a put, try the masks of their own port and those for any port alone', () => {
  const table = new FlowTable({ cacheEntries: 4 });
  const any = put(table, { key: words({ [Word.MARK]: 5 }), mask: words({ [Word.MARK]: ALL }) });
  const own = put(table, {
    key: words({ [Word.IN_PORT]: 1, [Word.CT_MARK]: 9 }),
    mask: words({ [Word.IN_PORT]: ALL, [Word.CT_MARK]: ALL }),
  });
  const { version } = table.masksOf(1);
  // A mask for each pair of prefixes, as packets make Open vSwitch put them.
  for (let i = 0; i < 32; i += 1) {
    for (let j = 0; j < 32; j += 1) {
      const mask = words({ [Word.IN_PORT]: ALL, [Word.IPV4_SOURCE]: (1 << i) >>> 0, [Word.PORTS]: (1 << j) >>> 0 });
      put(table, { key: words({ [Word.IN_PORT]: 3, [Word.IPV4_SOURCE]: ALL, [Word.PORTS]: ALL }), mask });
    }
  }
  expect(table.masks.length).toBeGreaterThan(32);
  const tried = (given: Words) => {
    const before = table.masksTried;
    return [table.lookup(keyOf(given)), table.masksTried - before];
  };
  expect(tried({ [Word.IN_PORT]: 1, [Word.IPV4_SOURCE]: 7 })).toEqual([-1, 2]);
  expect(tried({ [Word.IN_PORT]: 1, [Word.CT_MARK]: 9, [Word.IPV4_SOURCE]: 8 })[0]).toBe(own);
  expect(tried({ [Word.IN_PORT]: 2, [Word.MARK]: 5 })).toEqual([any, 1]);
  expect(tried({ [Word.IN_PORT]: 3, [Word.MARK]: 5 })[0]).toBe(any);
  expect(table.masksOf(1).version).toBe(version);
  for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1))
    if (table.portOf(slot) === 3) table.remove(slot);
  expect(table.masksOf(3)).toBe(table.masksOf(77));
  expect(tried({ [Word.IN_PORT]: 3, [Word.MARK]: 6, [Word.IPV4_SOURCE]: 11 })).toEqual([-1, 1]);
});

/** The plainest table that can be: a list, scanned from its beginning. */
class NaiveTable {
  flows: { key: Uint32Array; mask: Uint32Array; id: number }[] = [];

  matching(key: Uint32Array): number[] {
    return this.flows
      .filter((flow) => flow.key.every((word, i) => ((word ^ key[i]) & flow.mask[i]) === 0))
      .map((flow) => flow.id);
  }
}

test('random flows, removals and look-ups agree with a linear scan', () => {
  const random = randomNumbers(77);
  const used = [
    Word.IN_PORT,
    Word.ETH_TYPE,
    Word.IP,
    Word.IPV4_SOURCE,
    Word.IPV4_DESTINATION,
    Word.PORTS,
    KEY_WORDS - 1,
  ];
  const masks = Array.from({ length: 12 }, () =>
    words(
      Object.fromEntries(
        used.filter(() => random(2) === 0).map((word) => [word, [ALL, 0xff, 0xffff_0000, 3][random(4)]]),
      ),
    ),
  );
  const randomKey = () =>
    words(Object.fromEntries(used.map((word) => [word, [0, 1, 2, 0x0001_0000, 0xff00_0003][random(5)]])));
  for (let round = 0; round < 5; round += 1) {
    const table = new FlowTable({ cacheEntries: 64 });
    const naive = new NaiveTable();
    const probe = new FlowKey();
    for (let step = fuzzRounds(3000); step > 0; step -= 1) {
      const what = random(10);
      if (what < 3) {
        const key = randomKey();
        const mask = masks[random(masks.length)];
        const masked = key.map((word, i) => word & mask[i]);
        const expected = naive.matching(masked).length > 0;
        const slot = put(table, { key, mask, actions: Int32Array.of(step) });
        expect(Math.min(slot, 0)).toBe(expected ? FlowError.EXISTS : 0);
        if (slot >= 0) naive.flows.push({ key: masked, mask, id: slot });
      } else if (what === 3 && naive.flows.length > 0) {
        const [gone] = naive.flows.splice(random(naive.flows.length), 1);
        table.remove(gone.id);
      } else if (what === 4 && random(20) === 0) {
        // Some masks lose all of their flows, others some.
        const mask = masks[random(masks.length)];
        const going = naive.flows.filter((flow) => flow.mask === mask || random(3) === 0);
        table.removeMany(going.map(({ id }) => id));
        naive.flows = naive.flows.filter((flow) => !going.includes(flow));
        if (random(2) === 0) table.giveBack();
      } else if (what === 4 && random(200) === 0) {
        table.flush();
        naive.flows.length = 0;
      } else {
        probe.words.set(randomKey());
        const wanted = naive.matching(probe.words);
        const found = table.lookup(probe);
        if (wanted.length === 0) expect(found).toBe(-1);
        else expect(wanted).toContain(found);
      }
    }
    expect(table.size).toBe(naive.flows.length);
    const dumped: number[] = [];
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) dumped.push(slot);
    expect(dumped.sort()).toEqual(naive.flows.map((flow) => flow.id).sort());
  }
});

/** Flows of three masks with and without identifiers, numbered. */
function numbered(number: number): FlowPut {
  const key = words({ [Word.IN_PORT]: 1 + (number % 3), [Word.IPV4_DESTINATION]: number << 8, [Word.MARK]: number });
  const mask = words({ [Word.IN_PORT]: ALL, [Word.IPV4_DESTINATION]: ALL << 8, [Word.IP]: number % 3 });
  const id = number % 2 === 0 ? null : ufid(1, number & 255, number >> 8);
  const actions = Int32Array.from({ length: number % 40 }, (_, i) => number + i);
  return { key, mask, actions, ufid: id, mode: PutMode.CREATE };
}

function expectFlow(table: FlowTable, slot: number, number: number): void {
  const { key, mask, actions, ufid: id } = numbered(number);
  const packet = new FlowKey();
  packet.words.set(key);
  expect(table.lookup(packet)).toBe(slot);
  expect(table.actionsOf(slot)).toEqual(actions);
  expect(table.ufidOf(slot)).toEqual(id);
  expect(id === null ? table.findExact(key) : table.findUfid(id)).toBe(slot);
  const read = new Uint32Array(KEY_WORDS);
  table.readKey(slot, read);
  expect(read).toEqual(id === null ? key : key.map((word, i) => word & mask[i]));
}

test('a table from which most flows go gives their memory back, and the others stay what they were', () => {
  const empty = new FlowTable().memoryBytes;
  const next = randomNumbers(7);
  for (let round = 0; round < 3; round += 1) {
    const table = new FlowTable();
    const slots = Array.from({ length: 12_000 }, (_, number) => put(table, numbered(number)));
    const full = table.memoryBytes;
    const kept = new Set(Array.from({ length: 200 }, () => next(round === 0 ? 1000 : 12_000)));
    const generations = slots.map((slot) => table.generationOf(slot));
    for (const [number, slot] of [...slots.entries()].reverse()) if (!kept.has(number)) table.remove(slot);
    expect(table.size).toBe(kept.size);
    for (const number of kept) expectFlow(table, slots[number], number);
    // Slots stay where they are, so those of early flows can be cut off behind them.
    expect(table.memoryBytes - empty).toBeLessThan((full - empty) * (round === 0 ? 0.15 : 0.6));
    for (const [number, slot] of slots.entries())
      expect(table.isStill(slot, generations[number])).toBe(kept.has(number));
    const again = Array.from({ length: 12_000 }, (_, number) =>
      kept.has(number) ? slots[number] : put(table, numbered(number)),
    );
    for (let number = 0; number < 12_000; number += 100) expectFlow(table, again[number], number);
    for (const [number, slot] of slots.entries()) {
      if (!kept.has(number)) expect(table.isStill(slot, generations[number])).toBe(false);
    }
  }
});

test('a table that becomes empty takes no more memory than a new one, flow by flow or at once', () => {
  const empty = new FlowTable().memoryBytes;
  for (const isFlushed of [true, false]) {
    const table = new FlowTable();
    for (let time = 0; time < 2; time += 1) {
      const slots = Array.from({ length: 10_000 }, (_, number) => put(table, numbered(number)));
      expect(table.memoryBytes).toBeGreaterThan(empty + 1_000_000);
      const stale = table.generationOf(slots[5000]);
      if (isFlushed) table.flush();
      else for (const slot of slots) table.remove(slot);
      expect(table.memoryBytes).toBeLessThan(empty + 20_000);
      expect(table.isStill(slots[5000], stale)).toBe(false);
      expect(table.next(0)).toBe(-1);
    }
  }
});

test('while an action list runs, its words stay, and memory is given back with a later removal', () => {
  const table = new FlowTable();
  const slots = Array.from({ length: 10_000 }, (_, number) => put(table, numbered(number)));
  table.heap.beginRead();
  const [held, offset] = [table.heap.words, table.actionsOffset(slots[39])];
  const full = table.memoryBytes;
  for (const slot of slots.slice(0, -3)) table.remove(slot);
  expect(table.memoryBytes).toBe(full);
  expect(table.heap.words).toBe(held);
  expect([...held.subarray(offset, offset + 39)]).toEqual([...numbered(39).actions]);
  table.heap.endRead();
  table.remove(slots[9999]);
  expect(table.heap.words.length).toBeLessThan(held.length / 8);
});

test('what a large table gives back is collected soon, though nothing else asks for memory', async () => {
  const table = new FlowTable();
  for (let number = 0; number < 60_000; number += 1) put(table, numbered(number));
  const full = process.memoryUsage().arrayBuffers;
  const bytes = table.memoryBytes;
  expect(bytes).toBeGreaterThan(15e6);
  table.flush();
  const turn = () => new Promise((resume) => setTimeout(resume, 50));
  for (let time = 0; time < 200 && process.memoryUsage().arrayBuffers > full - bytes / 2; time += 1) await turn();
  expect(process.memoryUsage().arrayBuffers).toBeLessThan(full - bytes / 2);
});
