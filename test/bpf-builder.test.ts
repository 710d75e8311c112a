/** The builder's constructs, run by the kernel: what is built is what happens. */
import { afterAll, expect, test } from 'vitest';
import {
  ArrayMap,
  at,
  HashMap,
  loadProgram,
  ProgramArrayMap,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R6,
  R7,
  R8,
  R9,
  struct,
  u32,
  u64,
  XDP,
} from '../src/bpf/index.ts';

const cleanups: (() => void)[] = [];
afterAll(() => {
  for (const cleanup of cleanups.reverse()) cleanup();
});
function own<T extends { close(): void }>(resource: T): T {
  cleanups.push(() => resource.close());
  return resource;
}

/** Run an XDP program on a packet whose first byte is the input; what it returns. */
function evaluate(write: (b: ProgramBuilder) => void, input = 0, lengthBytes = 64): number {
  const b = new ProgramBuilder('built');
  write(b);
  const program = own(loadProgram({ type: 'xdp', code: b }));
  const data = new Uint8Array(lengthBytes);
  data[0] = input;
  return program.run({ data }).result;
}

/** The first byte of the packet into R6. */
function input(b: ProgramBuilder): void {
  b.packetOfXdp(R1, R2, R3);
  b.needBytes(R2, R3, 14, R0, () => b.return(1000));
  b.load(R6, 'u8', at(R2));
}

test('if and else choose, also for the condition that has no opposite', () => {
  const choose = (value: number) =>
    evaluate((b) => {
      input(b);
      b.mov(R7, 0);
      b.if(
        R6,
        '>',
        10,
        () => b.add(R7, 1),
        () => b.add(R7, 2),
      );
      b.if(R6, '&', 4, () => b.add(R7, 10));
      b.if32(
        R6,
        '==',
        12,
        () => b.return(7),
        () => b.add(R7, 100),
      );
      b.return(R7);
    }, value);
  expect(choose(3)).toBe(102);
  expect(choose(4)).toBe(112);
  expect(choose(11)).toBe(101);
  expect(choose(12)).toBe(7);
});

test('a switch of many cases finds each, and its default for the rest', () => {
  const constants = [-5, 0, 1, 3, 4, 9, 17, 20, 33, 47, 60, 99, 200];
  const pick = (value: number) =>
    evaluate((b) => {
      input(b);
      b.sub(R6, 5);
      b.switch(
        R6,
        constants.map((constant, index) => [constant, () => (index % 2 === 0 ? b.return(index) : b.mov(R7, index))]),
        () => b.return(500),
      );
      b.return(R7);
    }, value);
  for (let value = 0; value < 256; value++) {
    const index = constants.indexOf(value - 5);
    if (index >= 0 || value % 16 === 0) expect(pick(value), `${value}`).toBe(index < 0 ? 500 : index);
  }
});

test('loops count to a constant or a bounded register, and can be left or cut short', () => {
  const sum = evaluate((b) => {
    b.mov(R7, 0);
    b.repeat(R6, 10, (leave, next) => {
      b.jumpIf(R6, '==', 2, next);
      b.jumpIf(R6, '==', 8, leave);
      b.add(R7, R6);
    });
    b.return(R7);
  });
  expect(sum).toBe(0 + 1 + 3 + 4 + 5 + 6 + 7);
  const bounded = (value: number) =>
    evaluate((b) => {
      input(b);
      b.mov(R8, R6);
      b.and(R8, 15);
      b.mov(R7, 0);
      b.repeat(R9, R8, () => b.add(R7, 3));
      b.return(R7);
    }, value);
  expect(bounded(0)).toBe(0);
  expect(bounded(5)).toBe(15);
  expect(bounded(31)).toBe(45);
  const unrolled = evaluate((b) => {
    b.mov(R0, 0);
    b.unroll(4, (turn) => b.add(R0, 10 ** turn));
    b.exit();
  });
  expect(unrolled).toBe(1111);
});

test('stack slots are aligned, given back with their scope, and cleared whole', () => {
  const result = evaluate((b) => {
    const odd = b.stack(3, 1);
    expect(odd.sizeBytes).toBe(3);
    let inner = 0;
    b.scope(() => {
      const slot = b.stack(8);
      inner = slot.offset;
      expect(-slot.offset % 8).toBe(0);
    });
    const again = b.stack(8);
    expect(again.offset).toBe(inner);
    const blank = b.stack(31, 1);
    b.zero(blank);
    b.store('u64', again, 0);
    b.mov(R0, 0);
    for (let byte = 0; byte < 31; byte++) {
      b.load(R1, 'u8', blank.at(byte));
      b.or(R0, R1);
    }
    b.exit();
  });
  expect(result).toBe(0);
});

test('packet bounds are checked, and numbers come in network order', () => {
  const read = (lengthBytes: number) =>
    evaluate(
      (b) => {
        b.packetOfXdp(R1, R6, R7);
        const short = b.label('too short');
        b.needBytes(R6, R7, 40, R0, short);
        b.store('u16', at(R6, 20), 0x3412);
        b.loadNetwork(R0, 'u16', at(R6, 20));
        b.exit();
        b.place(short);
        b.return(XDP.DROP);
      },
      0,
      lengthBytes,
    );
  expect(read(40)).toBe(0x1234);
  expect(read(39)).toBe(XDP.DROP);
});

test('a look-up runs one of two bodies, and map values are plain memory', () => {
  const value = struct({ hits: u64, limit: u32 });
  const map = own(HashMap.create({ name: 'lookup', key: u32, value, maxEntries: 8 }));
  map.set(7, { hits: 0n, limit: 3 });
  const look = (key: number) =>
    evaluate((b) => {
      input(b);
      const slot = b.stack(4);
      b.store('u32', slot, R6);
      b.lookup(
        map,
        slot,
        () => {
          b.mov(R1, 1);
          b.atomic('add', 'u64', at(R0, value.offsetOf('hits')), R1);
          b.load(R0, 'u32', at(R0, value.offsetOf('limit')));
          b.exit();
        },
        () => b.return(404),
      );
    }, key);
  expect(look(7)).toBe(3);
  expect(look(7)).toBe(3);
  expect(look(8)).toBe(404);
  expect(map.get(7)).toEqual({ hits: 2n, limit: 3 });
});

test('functions have parameters, a frame of their own, and may call each other', () => {
  const result = evaluate((b) => {
    const square = b.function('square', () => {
      const slot = b.stack(400);
      b.store('u64', slot, R1);
      b.load(R0, 'u64', slot);
      b.mul(R0, R1);
      b.exit();
    });
    const sumOfSquares = b.function('sum_of_squares', () => {
      b.mov(R6, R2);
      b.callLocal(square, R1);
      b.mov(R7, R0);
      b.callLocal(square, R6);
      b.add(R0, R7);
      b.exit();
    });
    b.callLocal(sumOfSquares, 3, 4);
    b.exit();
  });
  expect(result).toBe(25);
});

test('global values are read and written without a look-up', () => {
  const globals = struct({ limit: u32, seen: u32 });
  const map = own(ArrayMap.create({ name: 'globals', value: globals, maxEntries: 1, mappable: true }));
  const values = map.map();
  values.set(0, { limit: 41, seen: 0 });
  const result = evaluate((b) => {
    b.loadMapValue(R1, map);
    b.load(R0, 'u32', at(R1, globals.offsetOf('limit')));
    b.loadMapValue(R2, map, globals.offsetOf('seen'));
    b.store('u32', at(R2), 9);
    b.add(R0, 1);
    b.exit();
  });
  expect(result).toBe(42);
  expect(values.get(0)).toEqual({ limit: 41, seen: 9 });
});

test('a tail call goes to the program in the slot, and falls through an empty one', () => {
  const programs = own(ProgramArrayMap.create({ name: 'stages', maxEntries: 2 }));
  const stage = new ProgramBuilder('stage');
  stage.return(77);
  programs.put(1, own(loadProgram({ type: 'xdp', code: stage })));
  const jump = (slot: number) =>
    evaluate((b) => {
      b.call('tail_call', R1, programs, slot);
      b.return(5);
    });
  expect(jump(1)).toBe(77);
  expect(jump(0)).toBe(5);
});
