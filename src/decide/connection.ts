/**
 * What deciders see of a packet's connection. Tracking fills in the connection word of its key (flow/'s Word.CT); the names of states are those of nftables.
 * Neighbours: packet-view.ts reads it; whoever owns packets has them tracked, in a zone of the switch's own.
 */
import { ConnectionState, Word } from '../flow/index.ts';
import type { PacketState } from './packet-state.ts';

/** What a packet can be to its connection. */
export const CONNECTION_STATES = ['new', 'established', 'related', 'invalid'] as const;

export type ConnectionStateName = (typeof CONNECTION_STATES)[number];

/** ICMPv6 messages that belong to no connection: multicast listeners, router and neighbour discovery. As in Linux they are not invalid. */
export const ICMPV6_APART: ReadonlySet<number> = new Set([130, 131, 132, 133, 134, 135, 136, 143]);

/** The zone of connections that a switch tracks for its own rules: the last one. */
export const SWITCH_ZONE = 0xffff;

/**
 * Where packets are looked up again when they have been tracked for a decision elsewhere, such as in the kernel. Programs of Open vSwitch, whose flows may run beside decisions, count theirs from 1 on.
 */
export const TRACKED_RECIRCULATION = 0x7fff_ffff;

/** The connection word's bits that tell the state, and the one that says that it was tracked. */
const STATE_BITS =
  (ConnectionState.NEW |
    ConnectionState.ESTABLISHED |
    ConnectionState.RELATED |
    ConnectionState.INVALID |
    ConnectionState.TRACKED) *
  0x100_0000;
const TRACKED_BIT = ConnectionState.TRACKED * 0x100_0000;
const REPLY_BIT = ConnectionState.REPLY * 0x100_0000;

/** The connection word of a key for a packet that was tracked in the switch's zone. @param state bits of ConnectionState */
export function connectionWord(state: number): number {
  return ((state << 24) | SWITCH_ZONE) >>> 0;
}

/** The state that a connection word tells; null for one that was not tracked, and for what belongs to no connection. */
export function connectionStateOf(word: number): ConnectionStateName | null {
  const state = word >>> 24;
  if ((state & ConnectionState.TRACKED) === 0) return null;
  if ((state & ConnectionState.INVALID) !== 0) return 'invalid';
  // Of a connection that another has announced only the beginning is related.
  if ((state & ConnectionState.ESTABLISHED) !== 0) return 'established';
  if ((state & ConnectionState.RELATED) !== 0) return 'related';
  return (state & ConnectionState.NEW) !== 0 ? 'new' : null;
}

/** The connection of a packet that is decided about. */
export class ConnectionView {
  readonly #state: PacketState;

  constructor(state: PacketState) {
    this.#state = state;
  }

  /** Whether the packet was tracked. Looks at one bit. */
  get isTracked(): boolean {
    return this.#state.look(Word.CT, TRACKED_BIT) !== 0;
  }

  /** Null for what belongs to no connection, such as neighbour discovery. */
  get state(): ConnectionStateName | null {
    this.#state.marks.note('connection.state', 5, 5);
    return connectionStateOf(this.#state.look(Word.CT, STATE_BITS) >>> 0);
  }

  /** Whether it goes against the direction in which the connection was begun. */
  get isReply(): boolean {
    this.#state.marks.note('connection.isReply', 1, 1);
    return this.#state.look(Word.CT, REPLY_BIT) !== 0;
  }
}
