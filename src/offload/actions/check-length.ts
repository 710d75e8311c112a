/** CHECK_PKT_LEN as eBPF: two ways for packets, by their length. */
import { R1, R2 } from '../../bpf/index.ts';
import { isSameOutcome, type ListBounds, outcomeOf } from '../../flow/index.ts';
import type { ListCompiler } from './compile.ts';
import { emitLength } from './length.ts';
import type { Step, StepCode } from './shape.ts';

/** A parameter: length. `longer` runs for packets longer than it, `otherwise` for the others; their parameters follow. */
export interface LengthStep {
  readonly kind: 'length';
  readonly longer: readonly Step[];
  readonly otherwise: readonly Step[];
}

export function compileCheckLength(
  list: ListCompiler,
  words: Int32Array,
  at: number,
  isLast: boolean,
  [first, second]: readonly ListBounds[],
): boolean {
  if (!isLast) return list.refuse('actions behind check_pkt_len');
  if (list.limit !== -1 || list.cut) return list.refuse('truncation across check_pkt_len');
  if (list.state.sent && list.all.context.hook === 'xdp') return list.refuse('output to several ports');
  // What a flow carries is counted at the ports where it leads, and a flow does not count its ways apart.
  if (!isSameOutcome(outcomeOf(words, first.from, first.end), outcomeOf(words, second.from, second.end))) {
    return list.refuse('check_pkt_len whose ways lead to different ports');
  }
  list.all.checks.single = true;
  const longer = list.way(words, first.from, first.end);
  const otherwise = longer === null ? null : list.way(words, second.from, second.end);
  if (longer === null || otherwise === null) return false;
  return list.end(
    { kind: 'length', longer: longer.steps, otherwise: otherwise.steps },
    words[at + 1],
    ...longer.parameters,
    ...otherwise.parameters,
  );
}

export const length: StepCode<LengthStep> = {
  name: ({ longer, otherwise }, names) => `length(${names(longer)} : ${names(otherwise)})`,
  parameters: ({ longer, otherwise }, words) => 1 + words(longer) + words(otherwise),
  leavesNoTrace: true,
  emit(writer, step) {
    const { b } = writer;
    const limit = writer.next();
    emitLength(b, writer.isTc);
    b.load(R2, 'u32', limit);
    const { changed, shown, kept, layer3Valid, layer3Moved, window, windowLoaded, hashed } = writer;
    b.if(
      R1,
      '>',
      R2,
      () => writer.steps(step.longer),
      () => {
        Object.assign(writer, { changed, shown, kept, layer3Valid, layer3Moved, window, windowLoaded, hashed });
        writer.steps(step.otherwise);
      },
    );
  },
};
