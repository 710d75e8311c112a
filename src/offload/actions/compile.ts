/**
 * From an action list to a shape and its parameters, or to the reason why eBPF does not carry it. The walk follows what the
 * engine of flow/ would do, knows of the packet what the flow's key says, and gathers what must be checked before the first change.
 * What becomes of an action is in the file that table.ts names for it.
 */
import { Drop, eachAction, L3_MARKER, TAG_PRESENT, Word } from '../../flow/index.ts';
import { Compilation, type PacketState, type Piece } from './compilation.ts';
import type { CompileContext, Compiled } from './contract.ts';
import type { Step } from './shape.ts';
import { shapeId } from './steps.ts';
import { compilerOf } from './table.ts';

/** Longest parameters: the entries of the tables have a fixed length. */
export const MAXIMUM_PARAMETERS = 64;

/**
 * Compile a list.
 * @param words a list that validateActions takes
 * @param maskedKey the flow's key, bits outside the mask 0
 * @returns shape and parameters, or a reason for people: a short phrase
 */
export function compileActions(
  words: Int32Array,
  maskedKey: Uint32Array,
  mask: Uint32Array,
  context: CompileContext,
): Compiled {
  if ((maskedKey[Word.ETH_TYPE] & L3_MARKER) !== 0) return { reason: 'packets without an Ethernet header' };
  const state = stateOf(maskedKey, mask);
  const compilation = new Compilation(context, state.tags);
  const piece = new ListCompiler(compilation, state).compile(words, 0, words.length);
  if (piece === null) return { reason: compilation.reason ?? 'actions that eBPF cannot do' };
  if (piece.parameters.length > MAXIMUM_PARAMETERS) return { reason: 'more actions than an entry holds' };
  const { checks, keyWords, needsLayer3 } = compilation;
  const shape = {
    id: shapeId(context.hook, checks, piece.steps),
    hook: context.hook,
    steps: piece.steps,
    checks,
    parameterWords: piece.parameters.length,
    keyWords,
    needsLayer3,
  };
  return { shape, parameters: Uint32Array.from(piece.parameters) };
}

function stateOf(key: Uint32Array, mask: Uint32Array): PacketState {
  const outer = mask[Word.VLAN] & TAG_PRESENT;
  const hasOuter = (key[Word.VLAN] & TAG_PRESENT) !== 0;
  const hasInner = (key[Word.INNER_VLAN] & TAG_PRESENT) !== 0;
  return {
    etherType: mask[Word.ETH_TYPE] >>> 16 === 0xffff ? key[Word.ETH_TYPE] >>> 16 : -1,
    protocol: mask[Word.IP] >>> 24 === 0xff ? key[Word.IP] >>> 24 : -1,
    fragment: (mask[Word.IP] & 3) === 3 ? key[Word.IP] & 3 : -1,
    keyHolds: true,
    tags: outer === 0 ? -1 : hasOuter ? (hasInner ? 2 : 1) : 0,
    ttl: -1,
    decrements: 0,
    changed: false,
    sent: false,
    lost: false,
    marked: false,
    connection: 'as it came',
    popped: 0,
    layer3Known: true,
  };
}

/** Compiles one list, and those in it. */
export class ListCompiler {
  readonly all: Compilation;
  readonly state: PacketState;
  readonly piece: Piece = { steps: [], parameters: [] };
  /** Most bytes of the next output, -1 for no limit. */
  limit = -1;
  /** An output was truncated: the packet is not whole any more. */
  cut = false;
  /** The hash that a recirculation is to have, and whether the packet had been changed before. */
  hash: { readonly algorithm: number; readonly basis: number; readonly changed: boolean } | null = null;
  /** Where the list may be cut: steps and parameters up to the last output. */
  #usedSteps = 0;
  #usedParameters = 0;
  /** The path has ended: nothing behind it runs. */
  #ended = false;

  /** Whether the packet was changed before the list began. */
  readonly beginsChanged: boolean;

  constructor(all: Compilation, state: PacketState) {
    this.all = all;
    this.state = state;
    this.beginsChanged = state.changed;
  }

  compile(words: Int32Array, from: number, end: number): Piece | null {
    if (!this.actions(words, from, end, true)) return null;
    const { steps, parameters } = this.piece;
    if (this.#ended) return this.piece;
    // What comes behind the last output changes a packet that nobody sees.
    const used = steps.slice(0, this.#usedSteps);
    const last = used.at(-1);
    if (last?.kind === 'output') used[used.length - 1] = { kind: 'output', last: true };
    else used.push({ kind: 'drop', reason: this.#reasonOfEnd() });
    return { steps: used, parameters: parameters.slice(0, this.#usedParameters) };
  }

  /** Why packets end for which nothing is left to do; 0 when copies of them were sent. */
  #reasonOfEnd(): number {
    if (this.state.sent) return 0;
    return this.state.lost ? Drop.OUTPUT_REFUSED : Drop.FLOW;
  }

  refuse(reason: string): false {
    return this.all.refuse(reason);
  }

  /** @param isLast nothing runs behind the list @returns false when it is refused */
  actions(words: Int32Array, from: number, end: number, isLast: boolean): boolean {
    let isRefused = false;
    const isWhole = eachAction(words, from, end, ({ type }, at, next, lists) => {
      isRefused = !compilerOf(type)(this, words, at, isLast && next === end, lists);
      return !isRefused && !this.#ended;
    });
    if (isRefused) return false;
    return isWhole || this.#ended || this.refuse('a malformed action list');
  }

  /** A list that some of the packets run, from here to their end. */
  way(words: Int32Array, from: number, end: number): Piece | null {
    return new ListCompiler(this.all, { ...this.state }).compile(words, from, end);
  }

  push(step: Step, ...parameters: number[]): true {
    this.piece.steps.push(step);
    this.piece.parameters.push(...parameters);
    return true;
  }

  /** A step that comes before all that were pushed. */
  pushFirst(step: Step, ...parameters: number[]): void {
    this.piece.steps.unshift(step);
    this.piece.parameters.unshift(...parameters);
  }

  /** A step that changes the packet. */
  change(step: Step, ...parameters: number[]): true {
    this.state.changed = true;
    return this.push(step, ...parameters);
  }

  /** A step that ends the path. */
  end(step: Step, ...parameters: number[]): true {
    this.#ended = true;
    return this.push(step, ...parameters);
  }

  /** What was pushed so far is seen by somebody. */
  use(): void {
    this.#usedSteps = this.piece.steps.length;
    this.#usedParameters = this.piece.parameters.length;
  }

  /** @param bytes that must be there from layer 3 on @returns false when nothing says where that is */
  needLayer3(bytes: number): boolean {
    const { checks } = this.all;
    if (!this.state.layer3Known)
      return this.refuse('set behind a tag on packets of which the flow does not know the tags');
    checks.layer3Bytes = Math.max(checks.layer3Bytes, bytes);
    this.all.needsLayer3 = true;
    return true;
  }
}
