import { expect, test } from 'vitest';
import { readVerifierLog } from './verifier.ts';

test('the walk, its branches and the last words are read', () => {
  const findings = readVerifierLog(`0: R1=ctx() R10=fp0
0: (61) r2 = *(u32 *)(r1 +12)         ; R1=ctx() R2_w=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
1: (b7) r0 = 0                        ; R0_w=0
2: (15) if r2 == 0x7 goto pc+2        ; R2_w=scalar(smin=0)
3: (b7) r0 = 1                        ; R0_w=1
4: (95) exit

from 2 to 5: R0_w=0 R1=ctx() R2_w=7 R10=fp0 fp-8=mmmmmmmm
5: (79) r0 = *(u64 *)(r10 -640)
invalid read from stack R10 off=-640 size=8
processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`);
  expect(findings.reason).toBe('invalid read from stack R10 off=-640 size=8');
  expect(findings.slot).toBe(5);
  expect(Object.fromEntries(findings.registers)).toEqual({
    R0: '0',
    R1: 'ctx()',
    R2: '7',
    R10: 'fp0',
    'fp-8': 'mmmmmmmm',
  });
});

test('complaints about the shape of a program name their instruction themselves', () => {
  expect(readVerifierLog('unreachable insn 3\nprocessed 0 insns\n')).toMatchObject({
    reason: 'unreachable insn 3',
    slot: 3,
  });
  expect(readVerifierLog('jump out of range from insn 4 to 9\n').slot).toBe(4);
  expect(readVerifierLog('back-edge from insn 7 to 2\n').slot).toBe(7);
});

test('source lines that the verifier prints between are no complaint', () => {
  const findings = readVerifierLog(`func#0 @0
0: R1=ctx() R10=fp0
; b.mov(R0, R6) @ a.ts:3
0: (bf) r0 = r6
R6 !read_ok
processed 1 insns (limit 1000000)
`);
  expect(findings).toMatchObject({ reason: 'R6 !read_ok', slot: 0 });
});

test('an empty or senseless log gives no findings and no exception', () => {
  expect(readVerifierLog('')).toEqual({ reason: 'no reason was given', slot: undefined, registers: new Map() });
  expect(readVerifierLog('\0\x01 99999999999: R\n(((').slot).toBeUndefined();
});
