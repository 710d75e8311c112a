/** RECIRC as eBPF: the program looks the packet up again. */
import { R8, R9 } from '../../bpf/index.ts';
import type { ListCompiler } from './compile.ts';
import { hashStep } from './hash.ts';
import type { Step, StepCode } from './shape.ts';

/** A parameter: the recirculation id. */
export type RecirculateStep = { readonly kind: 'recirculate' };

/** Steps that change nothing, or headers that stay where they are. */
const IN_PLACE: ReadonlySet<Step['kind']> = new Set<Step['kind']>([
  ...(['ethernet', 'ipv4', 'ipv6', 'ports', 'decTtl', 'setMpls'] as const),
  ...(['track', 'translate', 'forget'] as const),
]);

export function compileRecirc(list: ListCompiler, words: Int32Array, at: number, isLast: boolean): boolean {
  const { changed, marked, sent } = list.state;
  const { context, checks } = list.all;
  if (!isLast) return list.refuse('actions behind recirculation');
  if (sent) return list.refuse('recirculation behind an output');
  // What XDP hands up comes to tc as if it had just come: it has to be what it was.
  const isTc = context.hook === 'tc';
  const mayChange = isTc
    ? context.resumes === true
    : !list.beginsChanged && list.piece.steps.every(({ kind }) => IN_PLACE.has(kind));
  if (changed && !mayChange) return list.refuse('recirculation of a changed packet');
  // Programs take it that packets have none when they are looked up.
  if (marked) return list.refuse('recirculation of a packet with a mark or a priority');
  // Words of the key are those that the packet came with.
  if (list.hash?.changed === true) return list.refuse('hash of a changed packet');
  if (changed && isTc) checks.resumes = true;
  if (changed && !isTc) checks.undoes = true;
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
    emit.recirculate(writer.changed);
  },
};
