/** Which object an rtnetlink message is about, whether it is there or gone: for listeners of multicast groups and readers of dumps. */
import type { Message } from '../message.ts';
import { type InterfaceAddress, parseAddress } from './address.ts';
import { Rtm } from './constants.ts';
import { type Link, parseLink } from './link.ts';
import { type Neighbour, parseNeighbour } from './neighbour.ts';
import { parseRoute, type Route } from './route.ts';
import { type Filter, parseFilter, parseQdisc, type Qdisc } from './traffic.ts';

/** An object that exists (new or changed), or one that has gone (`gone`). */
export type RouteEvent = { readonly gone: boolean } & (
  | { readonly kind: 'link'; readonly object: Link }
  | { readonly kind: 'address'; readonly object: InterfaceAddress }
  | { readonly kind: 'neighbour'; readonly object: Neighbour }
  | { readonly kind: 'route'; readonly object: Route }
  | { readonly kind: 'qdisc'; readonly object: Qdisc }
  | { readonly kind: 'filter'; readonly object: Filter }
);

/**
 * Read a notification, or a message of a dump.
 * @returns null for a message of another kind
 * @throws NetlinkError when it is malformed
 */
export function parseRouteEvent(message: Message): RouteEvent | null {
  switch (message.type) {
    case Rtm.NEWLINK:
    case Rtm.DELLINK:
      return { kind: 'link', gone: message.type === Rtm.DELLINK, object: parseLink(message) };
    case Rtm.NEWADDR:
    case Rtm.DELADDR:
      return { kind: 'address', gone: message.type === Rtm.DELADDR, object: parseAddress(message) };
    case Rtm.NEWNEIGH:
    case Rtm.DELNEIGH:
      return { kind: 'neighbour', gone: message.type === Rtm.DELNEIGH, object: parseNeighbour(message) };
    case Rtm.NEWROUTE:
    case Rtm.DELROUTE:
      return { kind: 'route', gone: message.type === Rtm.DELROUTE, object: parseRoute(message) };
    case Rtm.NEWQDISC:
    case Rtm.DELQDISC:
      return { kind: 'qdisc', gone: message.type === Rtm.DELQDISC, object: parseQdisc(message) };
    case Rtm.NEWTFILTER:
    case Rtm.DELTFILTER:
      return { kind: 'filter', gone: message.type === Rtm.DELTFILTER, object: parseFilter(message) };
    default:
      return null;
  }
}
