/** From what Linux has said of a route to what holds for a packet: interface, next hop, MAC addresses, length. */
import { PathState } from '../../net/index.ts';
import { getLink, parseLink } from '../../netlink/index.ts';
import type { HostInterfaces, HostLink } from './interfaces.ts';
import type { Neighbours } from './neighbours.ts';
import { type CachedPath, Cast, STALE } from './path.ts';
import { type KernelQuestions, passes } from './questions.ts';
import { failureOf, fillGroupMac } from './route-answer.ts';

export class Conclusions {
  readonly #interfaces: HostInterfaces;
  readonly #neighbours: Neighbours;
  readonly #questions: KernelQuestions;
  readonly #settle: (path: CachedPath) => void;

  /** @param settle called when more is known of a path that somebody wants */
  constructor(
    interfaces: HostInterfaces,
    neighbours: Neighbours,
    questions: KernelQuestions,
    settle: (path: CachedPath) => void,
  ) {
    this.#interfaces = interfaces;
    this.#neighbours = neighbours;
    this.#questions = questions;
    this.#settle = settle;
  }

  /**
   * Fill in what READY promises.
   * @param isWanted somebody sends by it now, so that what is missing is asked for
   * @returns the path's state
   */
  of(path: CachedPath, isWanted: boolean): number {
    const { answer } = path;
    if (answer === null) return PathState.RESOLVING;
    if (answer.state !== PathState.READY) {
      this.leave(path);
      return answer.state;
    }
    const link = this.#interfaces.link(answer.interfaceIndex);
    path.interfaceIndex = answer.interfaceIndex;
    if (link === null) {
      this.leave(path);
      path.state = PathState.RESOLVING;
      if (isWanted) this.#askForLink(path, answer.interfaceIndex);
      // The interface may be known by now, and with it the state.
      return path.state;
    }
    path.mtuBytes = mtuOf(path, link, answer.mtuBytes);
    path.hasEthernet = link.hasEthernet;
    path.sourceMac.set(link.macAddress);
    if (!link.isUp) {
      this.leave(path);
      return PathState.LINK_DOWN;
    }
    if (link.hasNeighbours && answer.cast === Cast.ONE) return this.#ofNeighbour(path, isWanted);
    this.leave(path);
    const { destination, isIpv6 } = path.query;
    if (answer.cast !== Cast.ONE) fillGroupMac(path.destinationMac, answer.cast, destination, isIpv6);
    else path.destinationMac.set(link.macAddress);
    return PathState.READY;
  }

  #ofNeighbour(path: CachedPath, isWanted: boolean): number {
    const neighbour = this.#neighbours.join(path, path.interfaceIndex, path.nextHopIsIpv6, path.nextHop);
    if (path.neighbour !== neighbour) {
      this.leave(path);
      path.neighbour = neighbour;
    }
    if (isWanted) this.#neighbours.want(neighbour);
    if (neighbour.isValid) {
      path.destinationMac.set(neighbour.macAddress);
      return PathState.READY;
    }
    if (neighbour.hasFailed) return PathState.NO_NEIGHBOUR;
    // Nobody asks for it at present, so that the next packet has to.
    if (!neighbour.isUnderWay) path.generation = STALE;
    return PathState.RESOLVING;
  }

  /** The path leads by no neighbour any more. */
  leave(path: CachedPath): void {
    const { neighbour } = path;
    path.neighbour = null;
    if (neighbour !== null) this.#neighbours.leave(path, neighbour);
  }

  /** An interface that was not read yet. */
  #askForLink(path: CachedPath, index: number): void {
    if (path.isAskingLink) return;
    path.isAskingLink = true;
    this.#questions.ask(getLink(index, { withoutStatistics: true }), (errno, message) => {
      path.isAskingLink = false;
      if (path.isGone) return;
      if (message !== null) {
        // What was read of it meanwhile is younger than the answer.
        if (this.#interfaces.link(index) === null) this.#interfaces.see(parseLink(message));
      } else {
        // It has gone meanwhile, and the route with it.
        path.generation = STALE;
        if (passes(errno)) return;
        path.answer = failureOf(errno, false);
      }
      this.#settle(path);
    });
  }
}

function mtuOf(path: CachedPath, link: HostLink, routeMtuBytes: number): number {
  let { mtuBytes } = link;
  if (routeMtuBytes !== 0 && routeMtuBytes < mtuBytes) mtuBytes = routeMtuBytes;
  if (path.learnedMtuBytes !== 0 && path.learnedMtuBytes < mtuBytes) mtuBytes = path.learnedMtuBytes;
  return mtuBytes;
}
