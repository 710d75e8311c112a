/** The MAC table against a plain map, and its limits. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Learned, MacTable } from './mac-table.ts';

test('it does what a map of maps does, over any sequence of learning, forgetting and time', () => {
  // Fewer addresses than there is room for.
  const key = fc.record({ vlan: fc.constantFrom(0, 1, 4095, 65_535), low: fc.integer({ min: 0, max: 15 }) });
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

test('an address that had aged is told when it is seen again, be it still in its place or not', () => {
  const table = new MacTable({ capacity: 4, ageingSeconds: 10 });
  const told: number[] = [];
  table.onChanged = (_domain, _high, low) => void told.push(low);
  table.learn(1, 2, 3, 7, 0, 100);
  table.learn(1, 2, 3, 7, 0, 110);
  expect(told).toEqual([3]);
  expect(table.lookup(1, 2, 3, 121)).toBe(0);
  expect(table.learn(1, 2, 3, 7, 0, 121)).toBe(Learned.NEW);
  expect(told).toEqual([3, 3]);
  expect(table.lookup(1, 2, 3, 121)).toBe(7);
});

test('a port at its limit learns nothing more, and ageing makes room', () => {
  const table = new MacTable({ capacity: 3, ageingSeconds: 10 });
  table.setLimit(1, 2);
  expect([1, 2, 3].map((low) => table.learn(1, 2, low, 1, 0, 0))).toEqual([Learned.NEW, Learned.NEW, Learned.LIMIT]);
  expect(table.learn(1, 2, 4, 2, 0, 0)).toBe(Learned.NEW);
  expect(table.learn(1, 2, 4, 1, 0, 0)).toBe(Learned.LIMIT);
  for (let second = 11; second < 30; second += 1) table.sweep(second);
  expect(table.count).toBe(0);
  expect(table.learn(1, 2, 3, 1, 0, 30)).toBe(Learned.NEW);
});

test('a full table takes in who speaks, and the port that has most gives up what it has not seen for longest', () => {
  const table = new MacTable({ capacity: 4, ageingSeconds: 0 });
  const gone: number[] = [];
  table.onChanged = (_domain, _high, low, portId) => {
    if (portId !== 0) gone.push(low);
  };
  for (const [second, low] of [1, 2, 3].entries()) table.learn(1, 2, low, 7, 0, second);
  table.learn(1, 2, 9, 8, 0, 3);
  expect(table.learn(1, 2, 1, 7, 0, 4)).toBe(Learned.KNOWN);
  expect(table.wouldLearn(1, 2, 10, 9, 5)).toBe(Learned.EXCHANGED);
  expect(table.learn(1, 2, 10, 9, 0, 5)).toBe(Learned.EXCHANGED);
  expect([gone, table.gaveUp, table.exchanged]).toEqual([[2], 7, 1]);
  // Its own addresses when it has as many as any other.
  expect(table.learn(1, 2, 11, 9, 0, 6)).toBe(Learned.EXCHANGED);
  expect([gone, table.gaveUp]).toEqual([[2, 10], 9]);
  expect(table.addStatic(1, 2, 20, 9, 0)).toBe(true);
  expect(gone).toEqual([2, 10, 11]);
  for (const low of [21, 22, 23]) expect(table.addStatic(1, 2, low, 9, 0)).toBe(true);
  expect(table.addStatic(1, 2, 24, 9, 0)).toBe(false);
  expect([table.wouldLearn(1, 2, 5, 7, 9), table.learn(1, 2, 5, 7, 0, 9)]).toEqual([Learned.FULL, Learned.FULL]);
  // One that is there already may become static.
  expect(table.addStatic(1, 2, 23, 7, 0)).toBe(true);
  expect(table.count).toBe(4);
});

test('whoever floods a table takes nothing from others: they keep what they have, and learn at once', () => {
  const table = new MacTable({ capacity: 1000, ageingSeconds: 300 });
  for (let low = 0; low < 50; low += 1) table.learn(1, 2, low, 1 + (low % 5), 0, 0);
  for (let low = 100; low < 20_100; low += 1) {
    expect(table.learn(1, 2, low, 9, 0, low >> 8)).toBe(low < 1050 ? Learned.NEW : Learned.EXCHANGED);
  }
  for (let low = 0; low < 50; low += 1) expect(table.lookup(1, 2, low, 100)).toBe(1 + (low % 5));
  for (let low = 50; low < 100; low += 1) {
    expect(table.learn(1, 2, low, 6, 0, 100)).toBe(Learned.EXCHANGED);
    expect(table.gaveUp).toBe(9);
    expect(table.lookup(1, 2, low, 100)).toBe(6);
  }
  expect([table.count, table.countOf(9), table.fullestPort]).toEqual([1000, 900, 9]);
  // The last ones that it has used are those that it keeps.
  for (let low = 20_100 - 900; low < 20_100; low += 1) expect(table.lookup(1, 2, low, 100)).toBe(9);
});

test('over any sequence: a full table gives up one address, of the port that has most, the one not seen for longest', () => {
  const key = fc.integer({ min: 0, max: 40 });
  const port = fc.integer({ min: 1, max: 90 }).map((number) => (number > 4 ? 1 + (number % 2) : number));
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('learn' as const), key, port }) },
    fc.record({ kind: fc.constant('renew' as const), key, port }),
    fc.record({ kind: fc.constant('static' as const), key, port }),
    fc.record({ kind: fc.constant('remove' as const), key }),
    fc.record({ kind: fc.constant('flush' as const), port }),
    fc.record({ kind: fc.constant('time' as const), seconds: fc.integer({ min: 1, max: 3 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.nat(), (steps, seed) => {
      const table = new MacTable({ capacity: 12, ageingSeconds: 0, seed });
      /** Learned addresses by port, those seen first first; and static ones. */
      const seen = new Map<number, number[]>();
      const fixed = new Set<number>();
      const stamps = new Map<number, number>();
      const portOf = (low: number) => [...seen].find(([, lows]) => lows.includes(low))?.[0];
      const leave = (low: number) => {
        for (const lows of seen.values()) if (lows.includes(low)) lows.splice(lows.indexOf(low), 1);
        fixed.delete(low);
      };
      const come = (low: number, at: number, second: number) => {
        leave(low);
        seen.set(at, [...(seen.get(at) ?? []), low]);
        stamps.set(low, second);
      };
      const countOf = (at: number) => seen.get(at)?.length ?? 0;
      let gone: number[] = [];
      table.onChanged = (_domain, _high, low, portId) => {
        if (portId !== 0) gone.push(low);
      };
      let now = 100;
      /** Who goes when another of this port comes. */
      const victim = (at: number): number | undefined => {
        const most = Math.max(
          0,
          ...[...seen].map(([other, lows]) => lows.length + (other === at && lows.length > 0 ? 1 : 0)),
        );
        const own = countOf(at) > 0 && countOf(at) + 1 === most ? at : undefined;
        const giver = own ?? [...seen.keys()].filter((other) => countOf(other) === most).sort((a, b) => a - b)[0];
        return giver === undefined ? undefined : seen.get(giver)?.[0];
      };
      for (const action of steps) {
        gone = [];
        if (action.kind === 'time') now += action.seconds;
        else if (action.kind === 'flush') {
          table.flush({ portId: action.port });
          for (const low of [...(seen.get(action.port) ?? [])]) leave(low);
        } else if (action.kind === 'remove') {
          table.remove(1, 2, action.key);
          leave(action.key);
        } else if (action.kind === 'renew') {
          table.renew(1, 2, action.key, action.port, now - 1);
          const isOlder = (stamps.get(action.key) ?? 0) < now - 1;
          if (portOf(action.key) === action.port && isOlder) come(action.key, action.port, now - 1);
        } else {
          const { key: low, port: at, kind } = action;
          const isThere = portOf(low) !== undefined || fixed.has(low);
          if (isThere && kind === 'static') leave(low);
          const isFull = table.count === 12 && !isThere;
          const giving = isFull ? victim(at) : undefined;
          if (kind === 'static') {
            expect(table.addStatic(1, 2, low, at, 0)).toBe(!isFull || giving !== undefined);
            if (isFull && giving === undefined) continue;
          } else {
            const learned = table.learn(1, 2, low, at, 0, now);
            if (fixed.has(low)) continue;
            expect(learned === Learned.EXCHANGED).toBe(giving !== undefined);
            expect(learned === Learned.FULL).toBe(isFull && giving === undefined);
            if (learned === Learned.FULL) continue;
          }
          if (giving !== undefined) {
            expect(gone).toEqual([giving]);
            leave(giving);
          }
          if (kind === 'static') fixed.add(low);
          else if (portOf(low) !== at || stamps.get(low) !== now) come(low, at, now);
        }
        expect(table.count).toBeLessThanOrEqual(12);
        for (const [at, lows] of seen) {
          expect(table.countOf(at)).toBe(lows.length);
          for (const low of lows) expect(table.lookup(1, 2, low, now)).toBe(at);
        }
        expect(table.entries(now)).toHaveLength([...seen.values()].flat().length + fixed.size);
      }
    }),
    { numRuns: 200 },
  );
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
