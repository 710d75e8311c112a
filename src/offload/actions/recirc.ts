/** RECIRC as eBPF: the program looks the packet up again. */
import { R8, R9 } from '../../bpf/index.ts';
import type { ListCompiler } from './compile.ts';
import { hashStep } from './hash.ts';
import type { StepCode } from './shape.ts';

/** A parameter: the recirculation id. */
export type RecirculateStep = { readonly kind: 'recirculate' };

export function compileRecirc(list: ListCompiler, words: Int32Array, at: number, isLast: boolean): boolean {
  if (!isLast) return list.refuse('actions behind recirculation');
  if (list.state.changed) return list.refuse('recirculation of a changed packet');
  if (list.state.sent) return list.refuse('recirculation behind an output');
  if (list.hash !== null && !hashStep(list, list.hash.algorithm, list.hash.basis)) return false;
  return list.end({ kind: 'recirculate' }, words[at + 1] >>> 0);
}

export const recirculate: StepCode<RecirculateStep> = {
  name: () => 'recirc',
  parameters: () => 1,
  leavesNoTrace: true,
  emit(writer) {
    const { b, emit } = writer;
    if (emit.recirculate === undefined) throw new Error('nothing to recirculate with');
    if (!writer.hashed) b.mov(R9, 0);
    b.load(R8, 'u32', writer.next());
    emit.recirculate();
  },
};
