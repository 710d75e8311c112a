/** The assembler against the running kernel: it runs what each instruction says, and the verifier prints it as our disassembler does. */
import { expect, test } from 'vitest';
import { printAt } from '../src/bpf/asm/disassemble.ts';
import { slotStarts } from '../src/bpf/asm/encode.ts';
import {
  ArrayMap,
  Assembler,
  at,
  decode,
  encode,
  kernelFunctionId,
  loadProgram,
  type Program,
  type ProgramType,
  R0,
  R1,
  R2,
  R3,
  R4,
  R6,
  R10,
  u64,
} from '../src/bpf/index.ts';

/** What a fragment leaves in R0, as a signed 64-bit number: stored to a map, as a test run returns 32 bits only. */
function evaluate(write: (a: Assembler) => void, type: ProgramType = 'xdp'): bigint {
  const result = ArrayMap.create({ name: 'result', value: u64, maxEntries: 1, mappable: true });
  const a = new Assembler('evaluate');
  a.mov(R6, R1);
  write(a);
  a.loadMapValue(R1, result);
  a.store('u64', at(R1), R0);
  a.mov(R0, 0);
  a.exit();
  let program: Program | undefined;
  try {
    program = loadProgram({ type, code: a });
    program.run({ data: Uint8Array.from({ length: 64 }, (_, index) => index) });
    return BigInt.asIntN(64, result.map().u64[0] ?? 0n);
  } finally {
    program?.close();
    result.close();
  }
}

type Case = readonly [name: string, expected: bigint, write: (a: Assembler) => void];

const from = (value: bigint, then: (a: Assembler) => void) => (a: Assembler) => {
  a.load64(R0, value);
  a.mov(R2, 3);
  then(a);
};

const cases: readonly Case[] = [
  ['mov', -7n, (a) => a.mov(R0, -7)],
  ['mov from a register', 3n, from(1n, (a) => a.mov(R0, R2))],
  ['mov32 clears the upper half', 0xfffffff9n, from(-1n, (a) => a.mov32(R0, -7))],
  ['mov32 of an unsigned constant', 0xfffffffen, from(-1n, (a) => a.mov32(R0, 0xfffffffe))],
  ['movSigned 8', -1n, from(0xffn, (a) => a.movSigned(R0, R0, 8))],
  ['movSigned 16', -2n, from(0x1fffen, (a) => a.movSigned(R0, R0, 16))],
  ['movSigned 32', -3n, from(0xfffffffdn, (a) => a.movSigned(R0, R0, 32))],
  ['movSigned32 8', 0xffffffffn, from(0xffn, (a) => a.movSigned32(R0, R0, 8))],
  ['movSigned32 16', 0xfffffffen, from(0xfffen, (a) => a.movSigned32(R0, R0, 16))],
  ['add', 8n, from(5n, (a) => a.add(R0, R2))],
  ['add of a negative constant', 3n, from(5n, (a) => a.add(R0, -2))],
  ['add32 wraps', 2n, from(0xffffffffn, (a) => a.add32(R0, R2))],
  ['sub', 2n, from(5n, (a) => a.sub(R0, R2))],
  ['sub32', 0xffffffffn, from(2n, (a) => a.sub32(R0, 3))],
  ['mul', 0x300000000n, from(0x100000000n, (a) => a.mul(R0, R2))],
  ['mul32', 6n, from(0x100000002n, (a) => a.mul32(R0, 3))],
  ['div', 0x5555555555555552n, from(-10n, (a) => a.div(R0, R2))],
  ['div32', 0x55555552n, from(-10n, (a) => a.div32(R0, 3))],
  ['divSigned', -3n, from(-10n, (a) => a.divSigned(R0, R2))],
  ['divSigned32', 0xfffffffdn, from(-10n, (a) => a.divSigned32(R0, 3))],
  ['mod', 1n, from(10n, (a) => a.mod(R0, R2))],
  ['mod32', 1n, from(0x10000000an, (a) => a.mod32(R0, R2))],
  ['modSigned', -1n, from(-10n, (a) => a.modSigned(R0, R2))],
  ['modSigned32', 0xffffffffn, from(-10n, (a) => a.modSigned32(R0, 3))],
  ['or', 7n, from(4n, (a) => a.or(R0, R2))],
  ['or32', 7n, from(0x100000004n, (a) => a.or32(R0, 3))],
  ['and', 2n, from(6n, (a) => a.and(R0, R2))],
  ['and32 with an unsigned constant', 0xf0000000n, from(-1n, (a) => a.and32(R0, 0xf0000000))],
  ['xor', 5n, from(6n, (a) => a.xor(R0, R2))],
  ['xor32', 5n, from(0x100000006n, (a) => a.xor32(R0, R2))],
  ['shl', 1n << 43n, from(1n << 40n, (a) => a.shl(R0, R2))],
  ['shl32', 8n, from(0x100000001n, (a) => a.shl32(R0, 3))],
  ['shr fills with zeros', 0x1fffffffffffffffn, from(-1n, (a) => a.shr(R0, R2))],
  ['shr32', 0x1fffffffn, from(-1n, (a) => a.shr32(R0, 3))],
  ['sar keeps the sign', -2n, from(-16n, (a) => a.sar(R0, R2))],
  ['sar32', 0xfffffffen, from(-16n, (a) => a.sar32(R0, 3))],
  ['neg', -5n, from(5n, (a) => a.neg(R0))],
  ['neg32', 0xfffffffbn, from(5n, (a) => a.neg32(R0))],
  ['toBigEndian 16', 0x3412n, from(0x991234n, (a) => a.toBigEndian(R0, 16))],
  ['toBigEndian 32', 0x78563412n, from(0x9912345678n, (a) => a.toBigEndian(R0, 32))],
  ['toBigEndian 64', 0x0807060504030201n, from(0x0102030405060708n, (a) => a.toBigEndian(R0, 64))],
  ['toLittleEndian 16 cuts', 0x1234n, from(0x991234n, (a) => a.toLittleEndian(R0, 16))],
  ['toLittleEndian 32', 0x12345678n, from(0x9912345678n, (a) => a.toLittleEndian(R0, 32))],
  ['toLittleEndian 64', 0x0102030405060708n, from(0x0102030405060708n, (a) => a.toLittleEndian(R0, 64))],
  ['swapBytes 16', 0x3412n, from(0x991234n, (a) => a.swapBytes(R0, 16))],
  ['swapBytes 32', 0x78563412n, from(0x9912345678n, (a) => a.swapBytes(R0, 32))],
  ['swapBytes 64', 0x0807060504030201n, from(0x0102030405060708n, (a) => a.swapBytes(R0, 64))],
  ...(['u8', 'u16', 'u32', 'u64', 's8', 's16', 's32'] as const).map((width): Case => {
    const bits = Number(width.slice(1));
    const value = 0xf1f2f3f4f5f6f7f8n;
    const expected = width.startsWith('s') ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
    return [
      `load ${width}`,
      BigInt.asIntN(64, expected),
      from(value, (a) => {
        a.store('u64', at(R10, -8), R0);
        a.load(R0, width, at(R10, -8));
      }),
    ];
  }),
  ...(['u8', 'u16', 'u32', 'u64'] as const).flatMap((width): Case[] => {
    const bits = Number(width.slice(1));
    const base = 0x1111111111111111n;
    const stored = (value: bigint) =>
      BigInt.asIntN(64, ((base >> BigInt(bits)) << BigInt(bits)) | BigInt.asUintN(bits, value));
    return [
      [
        `store ${width} of a register`,
        stored(-2n),
        from(base, (a) => {
          a.store('u64', at(R10, -8), R0);
          a.mov(R3, -2);
          a.store(width, at(R10, -8), R3);
          a.load(R0, 'u64', at(R10, -8));
        }),
      ],
      [
        `store ${width} of a constant`,
        stored(-2n),
        from(base, (a) => {
          a.store('u64', at(R10, -8), R0);
          a.store(width, at(R10, -8), -2);
          a.load(R0, 'u64', at(R10, -8));
        }),
      ],
    ];
  }),
  ...(
    [
      ['add', 13n, undefined],
      ['or', 11n, undefined],
      ['and', 2n, undefined],
      ['xor', 9n, undefined],
      ['fetch_add', 13n, 10n],
      ['fetch_or', 11n, 10n],
      ['fetch_and', 2n, 10n],
      ['fetch_xor', 9n, 10n],
      ['xchg', 3n, 10n],
    ] as const
  ).flatMap(([operation, after, before]): Case[] =>
    (['u32', 'u64'] as const).map((width) => [
      `atomic ${operation} ${width}`,
      after * 100n + (before ?? 3n),
      from(10n, (a) => {
        a.store('u64', at(R10, -8), R0);
        a.atomic(operation, width, at(R10, -8), R2);
        a.load(R0, 'u64', at(R10, -8));
        a.mul(R0, 100);
        a.add(R0, R2);
      }),
    ]),
  ),
  ...(['u32', 'u64'] as const).map(
    (width): Case => [
      `atomic cmpxchg ${width}`,
      3n * 100n + 10n,
      from(10n, (a) => {
        a.store('u64', at(R10, -8), R0);
        a.atomic('cmpxchg', width, at(R10, -8), R2);
        a.mov(R3, R0);
        a.load(R0, 'u64', at(R10, -8));
        a.mul(R0, 100);
        a.add(R0, R3);
      }),
    ],
  ),
  ...(['u8', 'u16', 'u32', 'u64'] as const).map(
    (width): Case => [
      `storeRelease and loadAcquire ${width}`,
      0x71n,
      from(0x71n, (a) => {
        a.store('u64', at(R10, -8), 0);
        a.storeRelease(width, at(R10, -8), R0);
        a.mov(R0, 0);
        a.loadAcquire(R0, width, at(R10, -8));
      }),
    ],
  ),
  ['load64', -0x123456789abcdefn, (a) => a.load64(R0, -0x123456789abcdefn)],
];

test.each(cases)('the kernel computes %s as documented', (_name, expected, write) => {
  expect(evaluate(write)).toBe(expected);
});

const conditions = [
  ['==', (a: bigint, b: bigint) => a === b],
  ['!=', (a: bigint, b: bigint) => a !== b],
  ['>', (a: bigint, b: bigint) => BigInt.asUintN(64, a) > BigInt.asUintN(64, b)],
  ['>=', (a: bigint, b: bigint) => BigInt.asUintN(64, a) >= BigInt.asUintN(64, b)],
  ['<', (a: bigint, b: bigint) => BigInt.asUintN(64, a) < BigInt.asUintN(64, b)],
  ['<=', (a: bigint, b: bigint) => BigInt.asUintN(64, a) <= BigInt.asUintN(64, b)],
  ['s>', (a: bigint, b: bigint) => a > b],
  ['s>=', (a: bigint, b: bigint) => a >= b],
  ['s<', (a: bigint, b: bigint) => a < b],
  ['s<=', (a: bigint, b: bigint) => a <= b],
  ['&', (a: bigint, b: bigint) => (a & b) !== 0n],
] as const;

test.each(conditions)('the kernel jumps on %s, 64 and 32 bits, constant and register', (condition, holds) => {
  for (const [left, right] of [
    [1n, 2n],
    [2n, 2n],
    [-1n, 2n],
    [6n, -3n],
  ] as const) {
    const forms = [
      (a: Assembler, label: ReturnType<Assembler['label']>) => a.jumpIf(R1, condition, Number(right), label),
      (a: Assembler, label: ReturnType<Assembler['label']>) => a.jumpIf(R1, condition, R2, label),
      (a: Assembler, label: ReturnType<Assembler['label']>) => a.jumpIf32(R1, condition, Number(right), label),
      (a: Assembler, label: ReturnType<Assembler['label']>) => a.jumpIf32(R1, condition, R2, label),
    ];
    for (const form of forms) {
      const taken = evaluate((a) => {
        const label = a.label();
        a.load64(R1, left);
        a.load64(R2, right);
        a.mov(R0, 1);
        form(a, label);
        a.mov(R0, 0);
        a.place(label);
      });
      expect(taken, `${left} ${condition} ${right}`).toBe(holds(left, right) ? 1n : 0n);
    }
  }
});

test('goto, gotol and may_goto go where they say', () => {
  const walked = evaluate((a) => {
    const [one, two, three] = [a.label(), a.label(), a.label()];
    a.mov(R0, 1);
    a.jump(one);
    a.place(two);
    a.add(R0, 100);
    a.mayGoto(three);
    a.place(three);
    const end = a.label();
    a.jump(end);
    a.place(one);
    a.add(R0, 10);
    a.jumpLong(two);
    a.place(end);
  });
  expect(walked).toBe(111n);
});

test('loads through the packet pseudo-instructions read in network order', () => {
  const a = new Assembler('skb');
  a.mov(R6, R1);
  a.loadPacket('u16', 2);
  a.mov(R2, R0);
  a.mov(R3, 20);
  a.store('u64', at(R10, -8), R2);
  a.loadPacketAt('u8', R3, 1);
  a.load(R2, 'u64', at(R10, -8));
  a.shl(R2, 8);
  a.or(R0, R2);
  a.exit();
  const program = loadProgram({ type: 'sched_cls', code: a });
  const data = Uint8Array.from({ length: 64 }, (_, index) => index);
  expect(program.run({ data }).result).toBe(0x020315);
  program.close();
});

test('functions are called, handed to helpers, and kernel functions are called by their BTF id', () => {
  const a = new Assembler('functions');
  const [twice, each] = [a.label('twice'), a.label('each')];
  a.mov(R6, R1);
  a.mov(R1, 21);
  a.callFunction(twice);
  a.store('u64', at(R10, -8), R0);
  a.mov(R1, 5);
  a.loadFunction(R2, each);
  a.mov(R3, R10);
  a.add(R3, -8);
  a.mov(R4, 0);
  a.callHelper('loop');
  a.callKfunc(kernelFunctionId('bpf_rcu_read_lock'));
  a.callKfunc(kernelFunctionId('bpf_rcu_read_unlock'));
  a.load(R0, 'u64', at(R10, -8));
  a.exit();
  a.startFunction('twice', twice);
  a.mov(R0, R1);
  a.add(R0, R0);
  a.exit();
  a.startFunction('each', each);
  a.load(R1, 'u64', at(R2));
  a.add(R1, 1);
  a.store('u64', at(R2), R1);
  a.mov(R0, 0);
  a.exit();
  const program = loadProgram({ type: 'sched_cls', code: a });
  expect(program.run({ data: new Uint8Array(64) }).result).toBe(47);
  program.close();
});

/** Instructions that the verifier prints as it walks, slot to text. */
function printedByVerifier(log: string): Map<number, string> {
  const printed = new Map<number, string>();
  for (const line of log.split('\n')) {
    const match = /^(\d+): (\([0-9a-f]{2}\) .*?)\s*(?:;.*)?$/.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) printed.set(Number(match[1]), match[2]);
  }
  return printed;
}

test('the disassembler prints every instruction as the verifier does, before and after a round trip through bytes', () => {
  let compared = 0;
  for (const [name, , write] of cases) {
    const a = new Assembler('listing');
    a.mov(R6, R1);
    write(a);
    const label = a.label();
    a.jumpIf(R0, 's>', 5, label);
    a.jumpIf32(R0, '&', 0xf0, label);
    a.callHelper('get_smp_processor_id');
    a.place(label);
    a.mov(R0, 2);
    a.exit();
    const program = loadProgram({ type: 'xdp', code: a, logLevel: 2 });
    const printed = printedByVerifier(program.log);
    program.close();
    for (const instructions of [a.instructions, decode(encode(a.instructions))]) {
      const starts = slotStarts(instructions);
      instructions.forEach((instruction, index) => {
        const theirs = printed.get(starts[index] ?? -1);
        if (theirs === undefined) return;
        compared++;
        expect(printAt(instruction, index, starts), `${name}, slot ${starts[index]}`).toBe(theirs);
      });
    }
  }
  expect(compared).toBeGreaterThan(cases.length * 8);
});
