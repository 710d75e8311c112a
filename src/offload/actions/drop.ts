/** DROP as eBPF, and the end of packets that nothing is done with. */
import { explicitDrop } from '../../flow/index.ts';
import type { ListCompiler } from './compile.ts';
import type { StepCode } from './shape.ts';

/** The packet ends here, counted under a reason of flow/'s Drop, or not at all for 0. */
export type DropStep = { readonly kind: 'drop'; readonly reason: number };

export function compileDrop(list: ListCompiler, words: Int32Array, at: number): boolean {
  if (list.state.sent) return list.refuse('drop behind an output');
  return list.end({ kind: 'drop', reason: explicitDrop(words[at + 1]) });
}

export const drop: StepCode<DropStep> = {
  name: ({ reason }) => `drop(${reason})`,
  parameters: () => 0,
  emit: (writer, { reason }) => writer.emit.drop(reason),
};
