/**
 * CT and CT_CLEAR as eBPF. Programs know established connections: for their packets a commit is nothing to do, unless it changes mark or label. All others go up before
 * anything was changed, so that the engine does all of the pass. Hence the packet is tracked before all other steps of its list, which must be none that
 * tracking would see.
 */
import { at, R7 } from '../../bpf/index.ts';
import { Ct, CtFlag } from '../../flow/index.ts';
import { EtherType } from '../../net/index.ts';
import { TrackRequest } from '../connections/request.ts';
import type { ListCompiler } from './compile.ts';
import type { Step, StepCode } from './shape.ts';

/** Parameters: zone 16 and request 16; then value and mask of the mark, if it is to have one; then four words of value and four of mask of the label. */
export type TrackStep = { readonly kind: 'track'; readonly mark: boolean; readonly label: boolean };

/** Addresses and ports become what tracking has told. */
export type TranslateStep = { readonly kind: 'translate' };

/** The packet's connection is forgotten. */
export type ForgetStep = { readonly kind: 'forget' };

const LABEL_WORDS = 4;

/** Whether tracking finds the same before a step and behind it. */
function isUnseen(step: Step): boolean {
  if (step.kind === 'ipv4' || step.kind === 'ipv6') return step.words.every((form) => form === '-');
  return step.kind === 'ethernet' || step.kind === 'decTtl' || step.kind === 'metadata' || step.kind === 'forget';
}

export function compileCt(list: ListCompiler, words: Int32Array, at: number): boolean {
  const { all, state, piece } = list;
  const { context } = all;
  if (context.connections !== true) return list.refuse('action ct');
  if (state.connection === 'tracked') return list.refuse('ct twice before a recirculation');
  if (state.sent) return list.refuse('ct behind an output');
  if (list.beginsChanged || !piece.steps.every(isUnseen)) return list.refuse('ct of a packet that was changed');
  if (state.etherType !== EtherType.IPV4 && state.etherType !== EtherType.IPV6) {
    return list.refuse('ct without a match on the EtherType');
  }
  if (!list.needLayer3(state.etherType === EtherType.IPV4 ? 20 : 40)) return false;
  const flags = words[at + Ct.FLAGS];
  const has = (flag: number) => (flags & flag) !== 0;
  let request: number = TrackRequest.LIBERAL;
  if (has(CtFlag.NAT)) request |= TrackRequest.TRANSLATES;
  if (has(CtFlag.FORCE)) request |= TrackRequest.FORCED;
  if (state.connection === 'forgotten') request |= TrackRequest.ANEW;
  const parameters = [((words[at + Ct.ZONE] << 16) | request) >>> 0];
  const four = (from: number) => Array.from(words.subarray(from, from + LABEL_WORDS), (word) => word >>> 0);
  if (has(CtFlag.MARK)) parameters.push(words[at + Ct.MARK] >>> 0, words[at + Ct.MARK_MASK] >>> 0);
  if (has(CtFlag.LABEL)) parameters.push(...four(at + Ct.LABEL), ...four(at + Ct.LABEL_MASK));
  const kept = piece.steps.filter(({ kind }) => kind !== 'forget');
  piece.steps.splice(0, piece.steps.length, ...kept);
  list.pushFirst({ kind: 'track', mark: has(CtFlag.MARK), label: has(CtFlag.LABEL) }, ...parameters);
  state.connection = 'tracked';
  if (has(CtFlag.NAT)) list.change({ kind: 'translate' });
  // At tc what tracking has told goes up with a packet, as if it had been changed; what XDP hands up is tracked again.
  if (context.hook === 'tc') state.changed = true;
  list.use();
  return true;
}

export function compileCtClear(list: ListCompiler): boolean {
  const { all, state } = list;
  // Then packets have none.
  if (all.context.connections !== true) return true;
  state.connection = 'forgotten';
  if (all.context.hook === 'tc') state.changed = true;
  return list.push({ kind: 'forget' });
}

export const track: StepCode<TrackStep> = {
  name: ({ mark, label }) => `track(${mark ? 'mark' : ''}${label ? 'label' : ''})`,
  parameters: ({ mark, label }) => 1 + (mark ? 2 : 0) + (label ? 2 * LABEL_WORDS : 0),
  leavesNoTrace: 'xdp',
  check({ emit, parameter }, { mark, label }) {
    if (emit.track === undefined) throw new Error('no connections to track packets with');
    const place = (word: number) => at(R7, (parameter + word) * 4);
    emit.track(place(0), mark ? place(1) : null, label ? place(mark ? 3 : 1) : null);
  },
  emit(writer, step) {
    writer.parameter += track.parameters(step, () => 0);
  },
};

export const translate: StepCode<TranslateStep> = {
  name: () => 'translate',
  parameters: () => 0,
  emit(writer) {
    const { emit } = writer;
    if (emit.translate === undefined) throw new Error('no connections to translate packets by');
    emit.translate(emit.failed);
    writer.windowLoaded = false;
  },
};

export const forget: StepCode<ForgetStep> = {
  name: () => 'ct_clear',
  parameters: () => 0,
  leavesNoTrace: 'xdp',
  emit: ({ emit }) => emit.forget?.(),
};
