/** A path that is remembered: what was asked, what Linux has said, and what follows for a packet. linux-tables.ts keeps it up to date. */
import { type FollowedPath, type HostPath, type PathFollower, PathQuery, PathState } from '../../net/index.ts';
import type { Neighbour } from './neighbour.ts';

/** A generation that never is: the path is asked for again when it is used next. */
export const STALE = -1;

/** To whom a frame goes that takes the path. */
export const Cast = { ONE: 0, GROUP: 1, ALL: 2 } as const;

/** What Linux has said of a route. */
export interface RouteAnswer {
  /** READY, LOCAL, or why there is none. */
  readonly state: number;
  readonly interfaceIndex: number;
  readonly cast: number;
  /** 0: as long as the interface takes. */
  readonly mtuBytes: number;
}

export class CachedPath implements HostPath {
  state: number = PathState.RESOLVING;
  interfaceIndex = 0;
  mtuBytes = 0;
  hasEthernet = true;
  readonly source = new Int32Array(4);
  readonly sourceMac = new Uint8Array(6);
  readonly destinationMac = new Uint8Array(6);

  readonly query = new PathQuery();
  /** Its place in the index. */
  slot = -1;
  /** The answer counts for this generation of the host's tables; another one is to be asked for when they have changed. */
  generation = STALE;
  /** Ticks of the tables' clock. */
  usedTick = 0;
  askedTick = 0;
  isAsking = false;
  isQueued = false;
  /** It was taken out: what is still asked for it is of no use. */
  isGone = false;

  answer: RouteAnswer | null = null;
  readonly nextHop = new Int32Array(4);
  nextHopIsIpv6 = false;
  isAskingLink = false;
  neighbour: Neighbour | null = null;
  /** Longest packet that routers have said; 0 for nothing. */
  learnedMtuBytes = 0;
  learnedTick = 0;
  /** How many packets wait for it. */
  waiting = 0;
  readonly followers = new Set<Follower>();
  /** What followers were told last. */
  told = '';

  constructor(query: PathQuery) {
    this.query.copy(query);
  }

  /** It may not be taken out. */
  get isNeeded(): boolean {
    return this.waiting > 0 || this.followers.size > 0;
  }
}

/** Somebody who follows a path. */
export class Follower implements FollowedPath {
  readonly path: CachedPath;
  readonly #follower: PathFollower;

  constructor(path: CachedPath, follower: PathFollower) {
    this.path = path;
    this.#follower = follower;
    path.followers.add(this);
  }

  tell(): void {
    if (this.path.followers.has(this)) this.#follower.onPathChanged(this.path);
  }

  close(): void {
    this.path.followers.delete(this);
  }
}
