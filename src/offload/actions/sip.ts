/** HalfSipHash-1-3 as eBPF, over 32-bit words: the hash of packets for a look-up that follows, and of tuples of connections. */
import type { ProgramBuilder, Register } from '../../bpf/index.ts';

/** Registers of a hash; all are lost. */
export interface SipRegisters {
  readonly state: readonly [Register, Register, Register, Register];
  /** Holds each word to take in. */
  readonly word: Register;
  readonly scratch: Register;
}

/** Begin: the first two registers of the state hold the secret. */
export function emitSipStart(b: ProgramBuilder, { state: [v0, v1, v2, v3] }: SipRegisters): void {
  b.mov32(v2, v0);
  b.xor32(v2, 0x6c79_6765);
  b.mov32(v3, v1);
  b.xor32(v3, 0x7465_6462);
}

/** Take in the word in `word`. */
export function emitSipWord(b: ProgramBuilder, registers: SipRegisters): void {
  const { state, word } = registers;
  b.xor32(state[3], word);
  round(b, registers);
  b.xor32(state[0], word);
}

/** The second register of the state becomes the hash. */
export function emitSipEnd(b: ProgramBuilder, registers: SipRegisters): void {
  const { state } = registers;
  b.xor32(state[2], 0xff);
  for (let turn = 0; turn < 3; turn += 1) round(b, registers);
  b.xor32(state[1], state[3]);
}

function round(b: ProgramBuilder, { state: [v0, v1, v2, v3], scratch }: SipRegisters): void {
  const rotate = (register: Register, bits: number) => {
    b.mov32(scratch, register);
    b.shl32(register, bits);
    b.shr32(scratch, 32 - bits);
    b.or32(register, scratch);
  };
  b.add32(v0, v1);
  rotate(v1, 5);
  b.xor32(v1, v0);
  rotate(v0, 16);
  b.add32(v2, v3);
  rotate(v3, 8);
  b.xor32(v3, v2);
  b.add32(v0, v3);
  rotate(v3, 7);
  b.xor32(v3, v0);
  b.add32(v2, v1);
  rotate(v1, 13);
  b.xor32(v1, v2);
  rotate(v2, 16);
}
