/** What waits until packets of a flow that are on their way through the engine have been worked off. order.ts settles it, endings.ts says what has ended. */
import type { InterfaceIndex } from '../../net/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import type { PortTable } from '../layout/port-table.ts';

/** Of an entry, whether programs that run know it. */
export interface Known {
  readonly running: boolean;
}

/** An entry whose word is not 0, by itself. */
export interface Unsettled {
  readonly entry: number;
  readonly hook: OffloadHook;
  /** Interface of the one port that it is for; 0 when it is for several. */
  readonly ifindex: InterfaceIndex | 0;
  readonly mask: Known;
  readonly shape: Known;
}

export interface Waiting extends Unsettled {
  /** The word as it was last seen, before the programs ended that `mark` is behind. */
  seen: number;
  /** -1 while programs that ran when the word was seen may not have ended. */
  mark: number;
  /** Since when programs that know it run everywhere, and others have ended; infinite while that is not so. */
  readyMs: number;
  /** The word when that began. */
  readyWord: number;
  /** When its packets were stopped. */
  stoppedMs: number;
}

/**
 * Entries that were put one after another, and at which no packet has waited so far: their words are as they were written. Most settle so, many at
 * a time.
 */
export interface Group {
  readonly number: number;
  readonly hook: OffloadHook;
  readonly entries: number[];
  /** Interface of the one port of each; 0 for several. */
  readonly ifindexes: (InterfaceIndex | 0)[];
  /** All that are among them. */
  readonly ports: Set<InterfaceIndex | 0>;
  /** Programs that had begun when the last of them was put have ended. */
  isReady: boolean;
  mark: number;
}

/** A port to which programs have come, and at which everything goes up meanwhile. */
export interface HeldPort {
  readonly ifindex: InterfaceIndex;
  mark: number;
}

export type Pending = Waiting | Group | HeldPort;

export function isPort(one: Pending): one is HeldPort {
  return !('entry' in one || 'entries' in one);
}

/** The interfaces that packets of it come in by. */
export function portsOf(one: Waiting | Group, ports: PortTable): readonly InterfaceIndex[] {
  const interfaces = 'entries' in one ? [...one.ports] : [one.ifindex];
  return interfaces.includes(0) ? ports.ifindexes() : interfaces.flatMap((ifindex) => (ifindex === 0 ? [] : [ifindex]));
}
