/**
 * What flow/ says of each action: how it lies in words, what it asks of a packet and makes of it, where it leads, how people write it,
 * how it travels in netlink, and what the engine does. Each folder here describes an action or a few that belong together; table.ts has them all.
 */
import type { KeyPort } from '../../net/index.ts';
import type { ActionEngine } from '../engine/engine.ts';
import type { Scanner } from '../text/scanner.ts';
import type { ActionBuilder } from './builder.ts';
import type { ActionType } from './encoding.ts';
import type { ActionNetlink } from './netlink.ts';

/** The words behind an action's head. */
export interface ActionLayout {
  /** Names of the words that every action of the type has, in order. */
  readonly fields: readonly string[];
  /** Names of the lists behind the fields, at most two. Of two, a word before the first says how many words that has. */
  readonly lists?: readonly string[];
  /** How many words follow the fields of an action at `at` that holds no lists; -1 when its fields make no sense. */
  readonly tail?: (words: Int32Array, at: number) => number;
}

/** Where a list lies inside an action, in words. */
export interface ListBounds {
  readonly from: number;
  readonly end: number;
}

/** What is known of the packet at some point of a list. */
export interface PacketShape {
  hasEthernet: boolean;
  /** 0 when unknown. */
  etherType: number;
  hasTag: boolean;
  labels: number;
  /** Whether the key's layers 3 and 4 still describe the packet. */
  keyHolds: boolean;
}

/** An action in its place, about to be judged. */
export interface Judgement {
  readonly words: Int32Array;
  /** The flow's key with the bits outside its mask 0. */
  readonly key: Uint32Array;
  /** Ports are less than this. */
  readonly portLimit: number;
  /** Refuse what only Open vSwitch's userspace datapath can set. */
  readonly kernelOnly: boolean;
  /** The packet as the actions before have left it; an action that changes it says so here. */
  readonly shape: PacketShape;
  /** Nothing follows in its list. */
  readonly isLast: boolean;
}

/** Where lists lead, gathered action by action. */
export interface Leads {
  /** A packet is sent to a port. */
  output(port: KeyPort): void;
  /** It goes on in another way: to be looked up again, or up to programs. */
  sentOn(): void;
  /** It ends for a reason of Drop, and with it the list. */
  dropped(reason: number): void;
  /** It depends on the packet. */
  open(): void;
  /** A list of this action runs, over a copy. */
  list(list: ListBounds): void;
  /** Exactly one of two lists runs. */
  either(one: ListBounds, other: ListBounds): void;
}

/** An action as text, in Open vSwitch's syntax. */
export interface ActionText {
  /** What it begins with; empty for an output, which is a number alone. Actions with one name are one to text. */
  readonly name: string;
  /** Whether it may stand without parentheses. */
  readonly isBare?: boolean;
  /** @param lists the texts of the lists inside */
  format(words: Int32Array, at: number, lists: readonly string[]): string;
  /**
   * Read what follows the name, and the opening parenthesis unless it is bare, up to the end of the action.
   * @param list reads a list inside and the parenthesis behind it
   */
  parse(scanner: Scanner, builder: ActionBuilder, list: () => Int32Array): void;
}

export interface ActionDescription<Type extends ActionType = ActionType> {
  readonly type: Type;
  readonly layout: ActionLayout;
  /**
   * Why it cannot stand where it does, or null. Lengths and the lists inside are judged by validate.ts.
   */
  flaw(its: Judgement, at: number): string | null;
  /**
   * Where it leads packets for which there is time, header and room; see outcome.ts.
   * @param lists the lists inside
   */
  leads(to: Leads, words: Int32Array, at: number, lists: readonly ListBounds[]): void;
  readonly text: ActionText;
  readonly netlink: ActionNetlink;
  /**
   * Do it to the engine's packet and key. The list has been validated, the packet not.
   * @param end the word behind it
   * @param isLast nothing follows in its list
   * @returns false when nothing is left to do for this packet in this list
   */
  run(engine: ActionEngine, words: Int32Array, at: number, end: number, isLast: boolean): boolean;
}

/** For actions that can stand anywhere. */
export function noFlaw(): null {
  return null;
}

/** For actions behind which the list goes on with the same packet, and that send nothing. */
export function leadsNowhere(): void {}

/** The text of an action with a number as its only argument. */
export function numberText(
  name: string,
  add: (builder: ActionBuilder, value: number) => void,
  format: (value: number) => string = String,
): ActionText {
  return {
    name,
    format: (words, at) => `${name}(${format(words[at + 1] >>> 0)})`,
    parse(scanner, builder) {
      add(builder, scanner.number(32));
      scanner.expect(')');
    },
  };
}

/** The text of an action without arguments. */
export function bareText(name: string, add: (builder: ActionBuilder) => void): ActionText {
  return { name, isBare: true, format: () => name, parse: (_scanner, builder) => add(builder) };
}
