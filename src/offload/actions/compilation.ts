/** What the compilation of a flow knows and gathers while it walks the list. */
import type { CompileContext } from './contract.ts';
import { network16, network32 } from './order.ts';
import { type Checks, noChecks, type Step, type WordForm } from './shape.ts';

/** Steps with their parameters, while they are being gathered. */
export interface Piece {
  readonly steps: Step[];
  readonly parameters: number[];
}

/** What is known of the packet at some point of the list. */
export interface PacketState {
  /** -1 when the flow does not say. */
  etherType: number;
  protocol: number;
  /** nw_frag, -1 when the flow does not say. */
  fragment: number;
  /** Whether layer 3 is still the one that the key describes. */
  keyHolds: boolean;
  /** Tags, -1 when the flow does not say. */
  tags: number;
  /** Time to live: a number that was set, or -1 for the packet's less `decrements`, or -2 for neither. */
  ttl: number;
  decrements: number;
  changed: boolean;
  sent: boolean;
  /** An output went nowhere. */
  lost: boolean;
  /** A mark or a priority was set. */
  marked: boolean;
  /** Its connection is tracked in this pass, or was forgotten in it. */
  connection: 'as it came' | 'forgotten' | 'tracked';
  /** Label stack entries taken off. */
  popped: number;
  /** tc: whether the offset of layer 3 is known again after tags were put on or taken off. */
  layer3Known: boolean;
}

/** What all lists of one flow share. */
export class Compilation {
  readonly context: CompileContext;
  readonly checks: Checks = noChecks();
  readonly keyWords: number[] = [];
  needsLayer3 = false;
  reason: string | null = null;
  /** The tags that packets of the flow begin with, -1 when it does not say. */
  readonly firstTags: number;

  constructor(context: CompileContext, firstTags: number) {
    this.context = context;
    this.firstTags = firstTags;
  }

  refuse(reason: string): false {
    this.reason ??= reason;
    return false;
  }
}

/** How a word is set, its parameters added. */
export function word(piece: Piece, value: number, mask: number): WordForm {
  if (mask === 0) return '-';
  piece.parameters.push(network32(value & mask));
  if (mask === -1) return 'f';
  piece.parameters.push(network32(~mask));
  return 'm';
}

/** A field within 16 bits: value and the bits that stay, in one parameter. */
export function half(piece: Piece, value: number, mask: number): boolean {
  if (mask === 0) return false;
  piece.parameters.push(((network16(~mask & 0xffff) << 16) | network16(value & mask)) >>> 0);
  return true;
}
