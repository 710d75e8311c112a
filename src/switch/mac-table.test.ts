/** The MAC table against a plain map, and its limits. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Learned, MacTable } from './mac-table.ts';

test('it does what a map of maps does, over any sequence of learning, forgetting and time', () => {
  const key = fc.record({ vlan: fc.constantFrom(0, 1, 4095, 65_535), low: fc.integer({ min: 0, max: 40 }) });
  const step = fc.oneof(
    fc.record({ kind: fc.constant('learn' as const), key, port: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('static' as const), key, port: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('remove' as const), key }),
    fc.record({ kind: fc.constant('time' as const), seconds: fc.integer({ min: 0, max: 8 }) }),
    fc.record({ kind: fc.constant('flush' as const), port: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('sweep' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(), (steps, seed) => {
      const table = new MacTable({ capacity: 64, ageingSeconds: 10, seed });
      const model = new Map<string, { port: number; stamp: number; fixed: boolean }>();
      let now = 100;
      const alive = (entry: { stamp: number; fixed: boolean }): boolean => entry.fixed || now - entry.stamp <= 10;
      for (const action of steps) {
        if (action.kind === 'time') now += action.seconds;
        else if (action.kind === 'sweep') table.sweep(now);
        else if (action.kind === 'flush') {
          table.flush({ portId: action.port });
          for (const [name, entry] of model) if (entry.port === action.port && !entry.fixed) model.delete(name);
        } else {
          const { vlan, low } = action.key;
          const name = `${vlan} ${low}`;
          const known = model.get(name);
          if (action.kind === 'remove') {
            table.remove(vlan, 0x0200, low);
            model.delete(name);
          } else if (action.kind === 'static') {
            if (table.addStatic(vlan, 0x0200, low, action.port, 0)) {
              model.set(name, { port: action.port, stamp: 0, fixed: true });
            }
          } else {
            const learned = table.learn(vlan, 0x0200, low, action.port, 0, now);
            if (known?.fixed) {
              expect(learned).toBe(known.port === action.port ? Learned.KNOWN : Learned.STATIC_ELSEWHERE);
            } else if (learned === Learned.FULL) {
              expect(table.count).toBe(64);
            } else {
              model.set(name, { port: action.port, stamp: now, fixed: false });
            }
          }
        }
      }
      for (const [name, entry] of model) {
        const [vlan, low] = name.split(' ').map(Number);
        expect(table.lookup(vlan, 0x0200, low, now) & 0xffff).toBe(alive(entry) ? entry.port : 0);
      }
      const live = [...model.values()].filter(alive);
      expect(table.entries(now)).toHaveLength(live.length);
      for (const port of [1, 2, 3]) {
        const dynamic = [...model.values()].filter((entry) => entry.port === port && !entry.fixed && alive(entry));
        expect(table.countOf(port)).toBeGreaterThanOrEqual(dynamic.length);
      }
    }),
    { numRuns: 150 },
  );
});

test('learning tells new, known, moved and renewed apart', () => {
  const table = new MacTable({ capacity: 4, ageingSeconds: 10 });
  expect(table.learn(1, 2, 3, 7, 0, 100)).toBe(Learned.NEW);
  expect(table.learn(1, 2, 3, 7, 0, 105)).toBe(Learned.KNOWN);
  expect(table.wouldLearn(1, 2, 3, 8, 105)).toBe(Learned.MOVED);
  expect(table.learn(1, 2, 3, 8, 0, 106)).toBe(Learned.MOVED);
  expect(table.movedFrom).toBe(7);
  expect(table.learn(1, 2, 3, 7, 0, 120)).toBe(Learned.NEW);
  expect([table.countOf(7), table.countOf(8)]).toEqual([1, 0]);
});

test('a full table and a port at its limit learn nothing more, and ageing makes room', () => {
  const table = new MacTable({ capacity: 3, ageingSeconds: 10 });
  table.setLimit(1, 2);
  expect([1, 2, 3].map((low) => table.learn(1, 2, low, 1, 0, 0))).toEqual([Learned.NEW, Learned.NEW, Learned.LIMIT]);
  expect([4, 5].map((low) => table.learn(1, 2, low, 2, 0, 0))).toEqual([Learned.NEW, Learned.FULL]);
  expect(table.learn(1, 2, 4, 1, 0, 0)).toBe(Learned.LIMIT);
  for (let second = 11; second < 30; second += 1) table.sweep(second);
  expect(table.count).toBe(0);
  expect(table.learn(1, 2, 3, 1, 0, 30)).toBe(Learned.NEW);
});

test('ten thousand addresses are found again, whatever the seed', () => {
  for (const seed of [0, 1, 0x7fff_ffff]) {
    const table = new MacTable({ capacity: 10_000, ageingSeconds: 0, seed });
    for (let i = 0; i < 10_000; i += 1) table.learn(i & 7, 0x0200, i * 256, 1 + (i % 60_000), 3, 0);
    let wrong = 0;
    for (let i = 0; i < 10_000; i += 1) {
      if (table.lookup(i & 7, 0x0200, i * 256, 1e6) !== ((3 << 16) | (1 + i))) wrong += 1;
    }
    expect(wrong).toBe(0);
    expect(table.flush()).toBe(10_000);
    expect(table.count).toBe(0);
  }
});

test('a capacity out of range is refused', () => {
  expect(() => new MacTable({ capacity: 0, ageingSeconds: 1 })).toThrow('capacity 0');
});
