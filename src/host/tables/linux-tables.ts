/**
 * The host's tables of one network namespace, for the datapath thread. A path that is asked for again and again costs one look-up in memory; Linux decides about each new one
 * (RTM_GETROUTE), so that policy rules, several next hops, VRFs, metrics and path MTU are as it has them, and nothing of its tables is read whole.
 *
 * When routes, rules, interfaces or addresses change, every path is out of date at once, by one number (generation). The next packet asks again before it goes; where more is
 * asked than may be (allowance), the former answer goes on until its turn comes. Path MTU that Linux has learned is told by no notification, so that a path in use is
 * asked again every few seconds.
 */
import {
  type FollowedPath,
  type HostPath,
  type HostTables,
  type Packet,
  type PathFollower,
  PathQuery,
  PathState,
  type PathTaker,
} from '../../net/index.ts';
import { getRoute, type Message, parseRoute, type RouteSelection } from '../../netlink/index.ts';
import type { KnownAddresses } from './addresses.ts';
import { Conclusions } from './conclusions.ts';
import { HostInterfaces } from './interfaces.ts';
import type { Neighbour } from './neighbour.ts';
import { NeighbourNews } from './neighbour-news.ts';
import { type NeighbourCounters, Neighbours } from './neighbours.ts';
import { CachedPath, Follower, STALE } from './path.ts';
import { type PathErrorSocket, PathErrors } from './path-errors.ts';
import { PathIndex } from './path-index.ts';
import { KernelQuestions, passes } from './questions.ts';
import { Renewals } from './renewals.ts';
import { failureOf, takeRoute } from './route-answer.ts';
import { RouteBell } from './route-bell.ts';
import type { TablesLoop, TablesSocket } from './socket.ts';
import { type WaitingCounters, WaitingPackets } from './waiting.ts';
import { bytesOfWords, isUnsaid, sameWords } from './words.ts';

/** Paths that there is room for: some kilobytes each, when used. */
const PATHS = 4096;
const TICK_MS = 1000;
/** A path in use is asked again in so many ticks. */
const RENEW_TICKS = 5;
/** A path that nobody uses goes after so many. */
const IDLE_TICKS = 60;
/** A path is in use when it was asked for in this tick or the one before. */
const USED_TICKS = 1;
/** Linux tells of an interface or address before it has changed the routes that go by it, and of these changes, for IPv4, nobody (__dev_notify_flags, __inet_del_ifa). */
const SETTLED_MS = 100;
/** As long as Linux remembers path MTU (net.ipv4.route.mtu_expires). */
const LEARNED_TICKS = 600;

/** Sockets in the namespace that the tables are of. The tables close them. */
export interface TablesSockets {
  /** For questions; in no group. */
  readonly questions: TablesSocket;
  /** In the groups of route-bell.ts. */
  readonly bell: TablesSocket;
  /** In the groups of interfaces.ts. */
  readonly interfaces: TablesSocket;
  /** In the group of neighbour-news.ts. */
  readonly neighbours: TablesSocket;
  /** Those of path-errors.ts; none where the kernel does not allow them. */
  readonly errors: readonly PathErrorSocket[];
}

export interface TablesOptions {
  readonly loop: TablesLoop;
  readonly sockets: TablesSockets;
  /** On the clock of the loop's timers. */
  readonly nowMs: () => number;
  /** Told what people should know, seldom. */
  warn(message: string): void;
  /** Room for so many paths, a power of two; {@link PATHS} when left out. */
  readonly paths?: number;
}

/** What the tables have and have done. */
export interface TablesReport {
  readonly paths: number;
  readonly pathsMaximum: number;
  readonly lookups: number;
  readonly misses: number;
  /** Questions to the kernel, and paths that had to wait for their turn to be asked for again. */
  readonly questions: number;
  readonly deferred: number;
  /** How often all that is known was out of date. */
  readonly changes: number;
  readonly interfaces: number;
  readonly addresses: number;
  readonly neighbours: number;
  readonly neighbourCounters: Readonly<NeighbourCounters>;
  readonly waiting: number;
  readonly waitingCounters: Readonly<WaitingCounters>;
  /** How often notifications were lost. */
  readonly overflows: number;
}

export class LinuxTables implements HostTables {
  readonly #loop: TablesLoop;
  readonly #nowMs: () => number;
  readonly #warn: (message: string) => void;
  readonly #questions: KernelQuestions;
  readonly #bell: RouteBell;
  readonly #interfaces: HostInterfaces;
  readonly #neighbours: Neighbours;
  readonly #news: NeighbourNews;
  readonly #errors: readonly PathErrors[];
  readonly #waiting = new WaitingPackets();
  readonly #paths: PathIndex;
  readonly #renewals: Renewals;
  readonly #conclusions: Conclusions;
  readonly #noRoom: CachedPath;
  readonly #isUsed = (path: CachedPath) => path.followers.size > 0 || this.#tick - path.usedTick <= USED_TICKS;
  #isSettling = false;
  #isTicking = false;
  #hasWarned = false;
  #generation = 0;
  #tick = 0;
  #lookups = 0;
  #misses = 0;
  #overflows = 0;
  #isClosed = false;

  constructor(options: TablesOptions) {
    const { loop, nowMs, sockets, warn } = options;
    this.#loop = loop;
    this.#nowMs = nowMs;
    this.#warn = warn;
    this.#paths = new PathIndex(options.paths ?? PATHS);
    this.#renewals = new Renewals(
      loop,
      nowMs,
      (path) => this.#ask(path),
      (path) => !path.isGone && (path.generation !== this.#generation || path.isNeeded),
    );
    this.#noRoom = new CachedPath(new PathQuery());
    this.#noRoom.state = PathState.NO_ROOM;
    const questions = new KernelQuestions(sockets.questions, loop, nowMs);
    this.#questions = questions;
    this.#neighbours = new Neighbours(questions, (neighbour) => this.#onNeighbour(neighbour));
    this.#news = new NeighbourNews(sockets.neighbours, loop, this.#neighbours, () => {
      this.#neighbours.lost();
      this.#onLost('neighbours');
    });
    this.#bell = new RouteBell(sockets.bell, loop, nowMs, () => this.#onChange());
    this.#interfaces = new HostInterfaces(sockets.interfaces, loop, nowMs, {
      onLink: (index) => this.#onLink(index),
      onAddresses: () => this.#onInterfaces(),
      onLost: () => this.#onLost('interfaces and addresses'),
      warn,
    });
    this.#errors = sockets.errors.map(
      (socket) => new PathErrors(socket, loop, this.addresses, (...said) => this.#learnMtu(...said)),
    );
    this.#conclusions = new Conclusions(this.#interfaces, this.#neighbours, questions, (path) =>
      this.#settle(path, true),
    );
  }

  get addresses(): KnownAddresses {
    return this.#interfaces.addresses;
  }

  /** Per packet: nothing is allocated for a path that is known. */
  find(query: PathQuery): HostPath {
    this.#lookups += 1;
    const path = this.#paths.find(query);
    if (path === null) return this.#miss(query);
    path.usedTick = this.#tick;
    if (path.generation !== this.#generation) this.#renewals.now(path);
    return path;
  }

  wait(path: HostPath, packet: Packet, taker: PathTaker): boolean {
    if (path.state !== PathState.RESOLVING) {
      taker.onPath(packet, path, path.state);
      return true;
    }
    if (!(path instanceof CachedPath) || path.isGone || this.#isClosed) return false;
    if (!this.#waiting.keep(path, packet, taker, this.#tick)) return false;
    // What had no reason to be asked for, as nobody waited, has one now.
    if (!path.isAsking && !path.isQueued) this.#settle(path);
    return true;
  }

  giveBack(taker: PathTaker): void {
    this.#waiting.giveBack(taker);
  }

  follow(query: PathQuery, follower: PathFollower): FollowedPath | null {
    const path = this.find(query);
    if (!(path instanceof CachedPath) || path === this.#noRoom) return null;
    const followed = new Follower(path, follower);
    path.told = textOf(path);
    this.#settle(path);
    return followed;
  }

  /** A router has said that packets to a destination may be no longer than this. */
  #learnMtu(isIpv6: boolean, destination: Int32Array, mtuBytes: number): void {
    for (const path of this.#paths.all()) {
      if (isIpv6 !== path.query.isIpv6 || !sameWords(destination, path.query.destination)) continue;
      if (path.learnedMtuBytes !== 0 && path.learnedMtuBytes < mtuBytes) continue;
      path.learnedMtuBytes = mtuBytes;
      path.learnedTick = this.#tick;
      this.#settle(path);
    }
  }

  describe(): TablesReport {
    return {
      paths: this.#paths.size,
      pathsMaximum: this.#paths.capacity,
      lookups: this.#lookups,
      misses: this.#misses,
      questions: this.#questions.asked,
      deferred: this.#renewals.deferred,
      changes: this.#generation,
      interfaces: this.#interfaces.linkCount,
      addresses: this.addresses.count,
      neighbours: this.#neighbours.size,
      neighbourCounters: { ...this.#neighbours.counters },
      waiting: this.#waiting.size,
      waitingCounters: { ...this.#waiting.counters },
      overflows: this.#overflows,
    };
  }

  #miss(query: PathQuery): HostPath {
    this.#misses += 1;
    if (this.#isClosed) return this.#noRoom;
    const path = new CachedPath(query);
    path.usedTick = this.#tick;
    const gone = this.#paths.insert(path);
    if (gone === undefined) return this.#noRoom;
    if (gone !== null) this.#conclusions.leave(gone);
    this.#keepTime();
    this.#renewals.now(path);
    return path;
  }

  #ask(path: CachedPath): void {
    const { query } = path;
    const { isIpv6, source, mark, interfaceIndex, protocol, destinationPort } = query;
    const generation = this.#generation;
    path.isAsking = true;
    path.askedTick = this.#tick;
    const selection: RouteSelection = {
      typeOfService: query.trafficClass & 0xff,
      ...(isUnsaid(source, isIpv6) ? {} : { source: bytesOfWords(source, isIpv6) }),
      ...(mark === 0 ? {} : { mark: mark >>> 0 }),
      ...(interfaceIndex === 0 ? {} : { outputIndex: interfaceIndex }),
      ...(protocol === 0 ? {} : { ipProtocol: protocol, destinationPort }),
    };
    this.#questions.ask(getRoute(bytesOfWords(query.destination, isIpv6), selection), (errno, message) =>
      this.#answered(path, generation, errno, message),
    );
  }

  #answered(path: CachedPath, generation: number, errno: number, message: Message | null): void {
    path.isAsking = false;
    if (path.isGone) return;
    if (passes(errno)) {
      this.#renewals.inTurn(path);
      return;
    }
    path.generation = generation;
    path.answer =
      message === null ? failureOf(errno, this.#isForeign(path.query)) : takeRoute(path, parseRoute(message));
    this.#settle(path, true);
  }

  #isForeign({ isIpv6, source }: PathQuery): boolean {
    if (isUnsaid(source, isIpv6)) return false;
    return !this.addresses.has(isIpv6, source[0], source[1], source[2], source[3], 0);
  }

  /**
   * See what follows from all that is known of a path, and tell who waits or follows.
   * @param isWanted somebody sends by it now
   */
  #settle(path: CachedPath, isWanted = false): void {
    path.state = this.#conclusions.of(path, isWanted || path.isNeeded);
    if (path.waiting > 0 && path.state !== PathState.RESOLVING) this.#waiting.settle(path, path.state);
    if (path.followers.size === 0) return;
    const text = textOf(path);
    if (text === path.told) return;
    path.told = text;
    for (const follower of [...path.followers]) follower.tell();
  }

  #onNeighbour(neighbour: Neighbour): void {
    for (const path of [...neighbour.paths]) this.#settle(path);
  }

  #onLink(index: number): void {
    if (this.#paths.size === 0) return;
    for (const path of this.#paths.all()) if (path.answer?.interfaceIndex === index) this.#settle(path);
    this.#onInterfaces();
  }

  /** Interfaces or addresses have changed, and routes with them or right after them. */
  #onInterfaces(): void {
    this.#onChange();
    if (this.#isSettling || this.#isClosed) return;
    this.#isSettling = true;
    const later = () => {
      this.#isSettling = false;
      this.#onChange();
    };
    this.#loop.timers.once(SETTLED_MS, { onTimer: later }, this.#nowMs());
  }

  /** Whatever is known of routes is out of date. */
  #onChange(): void {
    if (this.#isClosed) return;
    this.#generation += 1;
    for (const path of this.#paths.all()) if (path.isNeeded) this.#renewals.inTurn(path);
  }

  #onLost(what: string): void {
    this.#overflows += 1;
    this.#onChange();
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    this.#warn(
      `so much changes in the host's ${what} that notifications of the kernel were lost; they are read again whenever that happens`,
    );
  }

  #keepTime(): void {
    if (this.#isTicking || this.#isClosed) return;
    this.#isTicking = true;
    this.#loop.timers.once(TICK_MS, { onTimer: () => this.#onTick() }, this.#nowMs());
  }

  #onTick(): void {
    this.#isTicking = false;
    if (this.#isClosed) return;
    this.#tick += 1;
    const tick = this.#tick;
    this.#waiting.look(tick);
    for (const path of this.#paths.all()) {
      if (!path.isNeeded && tick - path.usedTick > IDLE_TICKS) {
        this.#paths.remove(path);
        this.#conclusions.leave(path);
        continue;
      }
      if (path.learnedMtuBytes !== 0 && tick - path.learnedTick > LEARNED_TICKS) {
        path.learnedMtuBytes = 0;
        this.#settle(path);
      }
      if (this.#isUsed(path) && tick - path.askedTick >= RENEW_TICKS) {
        path.generation = STALE;
      }
      // Nobody else asks for it: packets wait, or somebody follows.
      if (path.isNeeded && path.generation !== this.#generation) this.#renewals.inTurn(path);
    }
    this.#neighbours.look(tick, this.#isUsed);
    // An idle switch has no clock.
    if (this.#paths.size > 0) this.#keepTime();
  }

  /** Give back what waits, and close the sockets. Closing twice is harmless. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#renewals.close();
    this.#waiting.close();
    this.#bell.close();
    this.#interfaces.close();
    this.#news.close();
    for (const errors of this.#errors) errors.close();
    this.#questions.close();
  }
}

/** What a follower sees of a path, to tell whether it has changed. */
function textOf({
  state,
  interfaceIndex,
  mtuBytes,
  hasEthernet,
  source,
  sourceMac,
  destinationMac,
}: CachedPath): string {
  if (state !== PathState.READY) return String(state);
  return [interfaceIndex, mtuBytes, hasEthernet, source, sourceMac, destinationMac].join('|');
}
