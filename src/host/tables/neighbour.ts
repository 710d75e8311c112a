/** A neighbour: the next hop of paths on one interface. neighbours.ts keeps it up to date. */
import { NeighbourState } from '../../netlink/index.ts';
import type { CachedPath } from './path.ts';

export const MAC_BYTES = 6;
/** States with an address that frames are sent to. */
export const VALID_STATES =
  NeighbourState.REACHABLE |
  NeighbourState.STALE |
  NeighbourState.DELAY |
  NeighbourState.PROBE |
  NeighbourState.NOARP |
  NeighbourState.PERMANENT;

/** A neighbour that paths lead by. */
export class Neighbour {
  readonly interfaceIndex: number;
  readonly isIpv6: boolean;
  readonly words = new Int32Array(4);
  readonly macAddress = new Uint8Array(MAC_BYTES);
  readonly paths = new Set<CachedPath>();
  /** Bits of NeighbourState; NONE when Linux has no entry, or nothing is known yet. */
  state: number = NeighbourState.NONE;
  /** Linux has no entry. */
  isAbsent = true;
  isAsking = false;
  /** What is known is of this generation of news; older knowledge is asked for again. */
  generation = -1;
  /** How often Linux has told of it by itself. */
  told = 0;
  /** When it was asked for, or has failed. */
  tick = 0;

  constructor(interfaceIndex: number, isIpv6: boolean, words: Int32Array) {
    this.interfaceIndex = interfaceIndex;
    this.isIpv6 = isIpv6;
    this.words.set(words);
  }

  /** Frames can be sent to it. */
  get isValid(): boolean {
    return (this.state & VALID_STATES) !== 0;
  }

  /** Linux is being asked about it, or asks the network. */
  get isUnderWay(): boolean {
    return this.isAsking || this.state === NeighbourState.INCOMPLETE;
  }

  get hasFailed(): boolean {
    return this.state === NeighbourState.FAILED;
  }
}
