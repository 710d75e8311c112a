/**
 * Checksum arithmetic of generated code (RFC 1624). A difference is the sum of ~before + after over the changed words; it gathers in a
 * 64-bit register and is folded at the end. Bytes stay in network order, which ones' complement sums do not mind. At tc the kernel's helper
 * updates a transport checksum, as it knows whether it is partial.
 */
import {
  type Address,
  type Label,
  type ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R8,
  type Register,
} from '../../bpf/index.ts';
import type { WordForm } from './shape.ts';
import type { ShapeWriter } from './writer.ts';

/** Flags of bpf_l4_csum_replace: the change is of the pseudo header; 0 means no checksum. */
export const PSEUDO_HEADER = 0x10;
export const MANGLED_0 = 0x20;

/** Where a protocol's checksum lies in its header, and how much of the header has to be there. */
export const TRANSPORT: Readonly<Record<'tcp' | 'udp' | 'icmp6', { readonly field: number; readonly bytes: number }>> =
  {
    tcp: { field: 16, bytes: 20 },
    udp: { field: 6, bytes: 8 },
    icmp6: { field: 2, bytes: 8 },
  };

/**
 * Set a 32-bit field as its form says, and add what that changes to sums. Uses R1 to R3.
 * @param unchanged where to go when the field has its value already; the end of this code when left out
 */
export function setWord(
  writer: ShapeWriter,
  field: Address,
  form: WordForm,
  sums: readonly Register[],
  unchanged?: Label,
): void {
  if (form === '-') return;
  const { b } = writer;
  const value = writer.next();
  b.block((leave) => {
    b.load(R1, 'u32', field);
    b.load(R2, 'u32', value);
    if (form === 'm') {
      b.load(R3, 'u32', writer.next());
      b.and(R3, R1);
      b.or(R2, R3);
    }
    b.jumpIf(R1, '==', R2, unchanged ?? leave);
    b.store('u32', field, R2);
    difference(b, 32, sums);
  });
}

/** Set a field within 16 bits: the parameter holds the bits that stay above the value. Uses R1 to R3. */
export function setHalf(writer: ShapeWriter, field: Address, sums: readonly Register[]): void {
  const { b } = writer;
  b.block((leave) => {
    b.load(R1, 'u16', field);
    b.load(R3, 'u32', writer.next());
    b.mov(R2, R3);
    b.shr(R2, 16);
    b.and(R2, R1);
    b.and(R3, 0xffff);
    b.or(R2, R3);
    b.jumpIf(R1, '==', R2, leave);
    b.store('u16', field, R2);
    difference(b, 16, sums);
  });
}

/** Add ~R1 + R2 to sums. R1 is lost. */
export function difference(b: ProgramBuilder, bits: 16 | 32, sums: readonly Register[]): void {
  if (sums.length === 0) return;
  if (bits === 32) b.xor32(R1, 0xffff_ffff);
  else b.xor(R1, 0xffff);
  b.add(R1, R2);
  for (const sum of sums) b.add(sum, R1);
}

/** Fold a sum to 32 bits. */
export function fold32(b: ProgramBuilder, sum: Register, scratch: Register): void {
  for (let turn = 0; turn < 2; turn += 1) {
    b.mov(scratch, sum);
    b.shr(scratch, 32);
    b.mov32(sum, sum);
    b.add(sum, scratch);
  }
}

/**
 * Update a checksum field by a difference. Uses R1 and R3; the difference is lost.
 * @param isUdp a checksum of 0 is none and stays, and a result of 0 is sent as all ones
 */
export function updateSum(b: ProgramBuilder, field: Address, sum: Register, isUdp: boolean): void {
  b.block((leave) => {
    b.jumpIf(sum, '==', 0, leave);
    b.load(R1, 'u16', field);
    if (isUdp) b.jumpIf(R1, '==', 0, leave);
    b.xor(R1, 0xffff);
    b.mov(R3, sum);
    b.shr(R3, 32);
    b.mov32(sum, sum);
    b.add(sum, R3);
    b.add(sum, R1);
    for (let turn = 0; turn < 3; turn += 1) {
      b.mov(R3, sum);
      b.shr(R3, 16);
      b.and(sum, 0xffff);
      b.add(sum, R3);
    }
    b.xor(sum, 0xffff);
    if (isUdp) b.if(sum, '==', 0, () => b.mov(sum, 0xffff));
    b.store('u16', field, sum);
  });
}

/** tc: update a transport checksum, which may be partial, by a difference. */
export function replaceSum(writer: ShapeWriter, field: number, sum: Register, flags: number): void {
  const { b } = writer;
  b.mov(R1, R6);
  b.mov(R2, R8);
  b.add(R2, field);
  b.mov(R3, 0);
  b.mov(R4, sum);
  b.mov(R5, flags);
  b.callHelper('l4_csum_replace');
  b.jumpIf(R0, '!=', 0, writer.emit.failed);
}
