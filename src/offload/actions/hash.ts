/** HASH as eBPF: the engine's number, from the words of the key; flow/actions/hash/ has the twin. It is for a look-up that follows. */
import { R0, R1, R2, R3, R4, R5, R9, type Register } from '../../bpf/index.ts';
import { HashAlgorithm, Word } from '../../flow/index.ts';
import { EtherType } from '../../net/index.ts';
import type { ListCompiler } from './compile.ts';
import type { StepCode } from './shape.ts';
import { emitSipEnd, emitSipStart, emitSipWord, type SipRegisters } from './sip.ts';
import type { ShapeWriter } from './writer.ts';

/** Parameters: basis; the secret is two more. R9 becomes the hash of the connection, or of the Ethernet header. */
export interface HashStep {
  readonly kind: 'hash';
  readonly algorithm: number;
  readonly over: 'ipv4' | 'ipv6' | 'ethernet';
}

const SIP: SipRegisters = { state: [R1, R2, R3, R4], word: R5, scratch: R0 };

/** It is noted alone: only a recirculation makes use of it. */
export function compileHash(list: ListCompiler, words: Int32Array, at: number): boolean {
  list.hash = { algorithm: words[at + 1], basis: words[at + 2], changed: list.state.changed };
  return true;
}

export function hashStep(list: ListCompiler, algorithm: number, basis: number): boolean {
  const { context, keyWords } = list.all;
  const { etherType } = list.state;
  const secret = context.hashSecret;
  if (secret === undefined && algorithm === HashAlgorithm.L4) return list.refuse('action hash');
  if (etherType === -1) return list.refuse('hash without a match on the EtherType');
  const over = etherType === EtherType.IPV4 ? 'ipv4' : etherType === EtherType.IPV6 ? 'ipv6' : 'ethernet';
  if (over === 'ethernet') keyWords.push(Word.MAC, Word.MAC + 1, Word.MAC + 2, Word.ETH_TYPE);
  else {
    keyWords.push(Word.PORTS, Word.IP);
    const addresses = over === 'ipv4' ? 2 : 8;
    for (let i = 0; i < addresses; i += 1) keyWords.push(Word.IPV4_SOURCE + i);
  }
  const mixed = Math.imul(basis, 0xc2b2_ae35) >>> 0;
  return list.push({ kind: 'hash', algorithm, over }, mixed, (secret?.low ?? 0) >>> 0, (secret?.high ?? 0) >>> 0);
}

export const hash: StepCode<HashStep> = {
  name: ({ algorithm, over }) => `hash${algorithm}(${over})`,
  parameters: () => 3,
  leavesNoTrace: true,
  emit: emitHash,
};

/** Uses R0 to R5. */
function emitHash(writer: ShapeWriter, { algorithm, over }: HashStep): void {
  const { b } = writer;
  const basis = writer.next();
  const low = writer.next();
  const high = writer.next();
  const key = (word: number, into: Register) => b.load(into, 'u32', writer.emit.key(word));
  const addressWords = over === 'ipv4' ? 2 : 8;
  if (over === 'ethernet') {
    key(Word.MAC, R9);
    for (const word of [Word.MAC + 1, Word.MAC + 2, Word.ETH_TYPE]) {
      key(word, R1);
      b.xor32(R9, R1);
    }
  } else if (algorithm === HashAlgorithm.SYMMETRIC_L4) {
    key(Word.PORTS, R9);
    b.mov32(R1, R9);
    b.shr32(R9, 16);
    b.and32(R1, 0xffff);
    b.xor32(R9, R1);
    key(Word.IP, R1);
    b.shr32(R1, 24);
    b.xor32(R9, R1);
    for (let i = 0; i < addressWords; i += 1) {
      key(Word.IPV4_SOURCE + i, R1);
      b.mul32(R1, 0x9e37_79b1);
      b.add32(R9, R1);
    }
  } else {
    const words: number[] = [Word.PORTS, Word.IP];
    for (let i = 0; i < addressWords; i += 1) words.push(Word.IPV4_SOURCE + i);
    b.load(R1, 'u32', low);
    b.load(R2, 'u32', high);
    emitSipStart(b, SIP);
    for (const word of words) {
      key(word, R5);
      if (word === Word.IP) b.and32(R5, 0xff00_0000);
      emitSipWord(b, SIP);
    }
    b.mov32(R5, words.length << 26);
    emitSipWord(b, SIP);
    emitSipEnd(b, SIP);
    b.mov32(R9, R2);
  }
  b.mov32(R1, R9);
  b.shr32(R1, 16);
  b.xor32(R9, R1);
  b.mul32(R9, 0x85eb_ca6b);
  b.load(R1, 'u32', basis);
  b.xor32(R9, R1);
  b.mov32(R1, R9);
  b.shr32(R1, 13);
  b.xor32(R9, R1);
  b.if(R9, '==', 0, () => b.mov(R9, 1));
  writer.hashed = true;
}
