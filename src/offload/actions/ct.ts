/**
 * CT and CT_CLEAR as eBPF. Programs know established connections: for their packets a commit is nothing to do, unless it changes mark or label. All others go up before
 * anything was changed, so that the engine does all of the pass. Hence the packet is tracked before all other steps of its list, which must be none that
 * tracking would see. Several ct of a list are tracked one after the other there, each as those before it have translated the packet; its bytes follow behind all of them, at once.
 */
import { at, R7 } from '../../bpf/index.ts';
import { Ct, CtFlag } from '../../flow/index.ts';
import { EtherType } from '../../net/index.ts';
import { TrackRequest } from '../connections/request.ts';
import type { ListCompiler } from './compile.ts';
import type { TrackPlaces } from './contract.ts';
import type { Step, StepCode } from './shape.ts';

/** What a ct wants of mark and label: that they have values already. */
interface Marks {
  readonly mark: boolean;
  readonly label: boolean;
}

/**
 * Parameters, for each ct in turn: zone 16 and request 16; then value and mask of the mark, if it is to have one; then four words of value and four of mask of the
 * label. `more` are those behind the first.
 */
export interface TrackStep extends Marks {
  readonly kind: 'track';
  readonly more?: readonly Marks[];
}

/** Addresses and ports become what tracking has told. */
export type TranslateStep = { readonly kind: 'translate' };

/** The packet's connection is forgotten. */
export type ForgetStep = { readonly kind: 'forget' };

const LABEL_WORDS = 4;

/** Most ct of one list: each takes its share of what the verifier follows. */
const MAXIMUM_CTS = 4;

/** Whether tracking finds the same before a step and behind it, or knows what it changes. */
function isUnseen(step: Step): boolean {
  if (step.kind === 'ipv4' || step.kind === 'ipv6') return step.words.every((form) => form === '-');
  return ['ethernet', 'decTtl', 'metadata', 'track', 'translate', 'forget'].includes(step.kind);
}

export function compileCt(list: ListCompiler, words: Int32Array, at: number): boolean {
  const { all, state, piece } = list;
  const { context } = all;
  if (context.connections !== true) return list.refuse('action ct');
  if (state.sent) return list.refuse('ct behind an output');
  if (list.beginsChanged || !piece.steps.every(isUnseen)) return list.refuse('ct of a packet that was changed');
  if (state.etherType !== EtherType.IPV4 && state.etherType !== EtherType.IPV6) {
    return list.refuse('ct without a match on the EtherType');
  }
  if (!list.needLayer3(state.etherType === EtherType.IPV4 ? 20 : 40)) return false;
  const flags = words[at + Ct.FLAGS];
  const has = (flag: number) => (flags & flag) !== 0;
  // The engine gives connections a helper, those that are established too, and reads all packets of connections that have one.
  if (has(CtFlag.COMMIT | CtFlag.FORCE) && words[at + Ct.NAME_BYTES] >>> 16 !== 0)
    return list.refuse('ct with a helper');
  const isTranslated = piece.steps.some(({ kind }) => kind === 'translate');
  let request: number = TrackRequest.LIBERAL;
  if (has(CtFlag.NAT)) request |= TrackRequest.TRANSLATES;
  if (has(CtFlag.FORCE)) request |= TrackRequest.FORCED;
  if (state.connection === 'tracked') request |= TrackRequest.GOES_ON;
  if (state.connection === 'forgotten') request |= TrackRequest.ANEW;
  if (isTranslated) request |= TrackRequest.BEHIND;
  const parameters = [((words[at + Ct.ZONE] << 16) | request) >>> 0];
  const four = (from: number) => Array.from(words.subarray(from, from + LABEL_WORDS), (word) => word >>> 0);
  if (has(CtFlag.MARK)) parameters.push(words[at + Ct.MARK] >>> 0, words[at + Ct.MARK_MASK] >>> 0);
  if (has(CtFlag.LABEL)) parameters.push(...four(at + Ct.LABEL), ...four(at + Ct.LABEL_MASK));
  const kept = piece.steps.filter(({ kind }) => kind !== 'forget');
  piece.steps.splice(0, piece.steps.length, ...kept);
  const marks = { mark: has(CtFlag.MARK), label: has(CtFlag.LABEL) };
  const first = piece.steps.at(0);
  if (first?.kind !== 'track') list.pushFirst({ kind: 'track', ...marks }, ...parameters);
  else {
    const more = [...(first.more ?? []), marks];
    if (more.length >= MAXIMUM_CTS) return list.refuse(`more than ${MAXIMUM_CTS} ct before a recirculation`);
    piece.parameters.splice(parametersOf(first), 0, ...parameters);
    piece.steps[0] = { ...first, more };
  }
  state.connection = 'tracked';
  if (has(CtFlag.NAT)) {
    state.changed = true;
    if (!isTranslated) list.push({ kind: 'translate' });
  }
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

function allOf(step: TrackStep): readonly Marks[] {
  return [step, ...(step.more ?? [])];
}

function wordsOf({ mark, label }: Marks): number {
  return 1 + (mark ? 2 : 0) + (label ? 2 * LABEL_WORDS : 0);
}

function parametersOf(step: TrackStep): number {
  return allOf(step).reduce((sum, marks) => sum + wordsOf(marks), 0);
}

export const track: StepCode<TrackStep> = {
  name: (step) => {
    const marks = allOf(step).map(({ mark, label }) => `(${mark ? 'mark' : ''}${label ? 'label' : ''})`);
    return `track${marks.join('')}`;
  },
  parameters: parametersOf,
  leavesNoTrace: 'xdp',
  check({ emit, parameter }, step) {
    if (emit.track === undefined) throw new Error('no connections to track packets with');
    let word = parameter;
    const place = (behind: number) => at(R7, (word + behind) * 4);
    const requests = allOf(step).map((marks): TrackPlaces => {
      const { mark, label } = marks;
      const places = { request: place(0), mark: mark ? place(1) : null, label: label ? place(mark ? 3 : 1) : null };
      word += wordsOf(marks);
      return places;
    });
    emit.track(requests);
  },
  emit(writer, step) {
    writer.parameter += parametersOf(step);
  },
};

export const translate: StepCode<TranslateStep> = {
  name: () => 'translate',
  parameters: () => 0,
  keepsHeaders: true,
  emit(writer) {
    const { emit } = writer;
    if (emit.translate === undefined) throw new Error('no connections to translate packets by');
    emit.translate(emit.failed, writer.shape.checks.undoes);
    writer.windowLoaded = false;
  },
};

export const forget: StepCode<ForgetStep> = {
  name: () => 'ct_clear',
  parameters: () => 0,
  leavesNoTrace: 'xdp',
  emit: ({ emit }) => emit.forget?.(),
};
