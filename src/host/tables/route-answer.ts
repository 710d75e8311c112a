/** What the kernel answers when it is asked for a route (RTM_GETROUTE), and what it means for a packet. */

import { PathState } from '../../net/index.ts';
import { AddressFamily, type Route, RouteType } from '../../netlink/index.ts';
import { Errno } from '../sys/index.ts';
import { type CachedPath, Cast, type RouteAnswer } from './path.ts';
import { fillWords, isUnsaid } from './words.ts';

const EHOSTUNREACH = 113;

/**
 * What an error means. Linux answers with that of the route or rule that decided: fib_props[] of net/ipv4/fib_semantics.c and ip6_rt_err() of net/ipv6/route.c.
 * @param isSourceForeign a source was asked for that is no address of the host; IPv4 refuses such (ip_route_output_key_hash_rcu)
 */
export function failureOf(errno: number, isSourceForeign: boolean): RouteAnswer {
  return { state: stateOf(errno, isSourceForeign), interfaceIndex: 0, cast: Cast.ONE, mtuBytes: 0 };
}

function stateOf(errno: number, isSourceForeign: boolean): number {
  if (errno === Errno.EACCES) return PathState.PROHIBITED;
  if (errno === EHOSTUNREACH) return PathState.UNREACHABLE;
  if (isSourceForeign) return PathState.NO_SOURCE;
  return errno === Errno.EINVAL ? PathState.BLACKHOLE : PathState.NO_ROUTE;
}

const STATE_OF_TYPE: Readonly<Record<number, number>> = {
  [RouteType.UNICAST]: PathState.READY,
  [RouteType.BROADCAST]: PathState.READY,
  [RouteType.MULTICAST]: PathState.READY,
  [RouteType.LOCAL]: PathState.LOCAL,
  // An address of this host that others have as well.
  [RouteType.ANYCAST]: PathState.LOCAL,
  [RouteType.BLACKHOLE]: PathState.BLACKHOLE,
  [RouteType.UNREACHABLE]: PathState.UNREACHABLE,
  [RouteType.PROHIBIT]: PathState.PROHIBITED,
};

/** Take a route: its next hop and source go into the path, the rest is the answer. */
export function takeRoute(path: CachedPath, route: Route): RouteAnswer {
  const { query } = path;
  const { gateway, via, preferredSource } = route;
  path.nextHop.set(query.destination);
  path.nextHopIsIpv6 = query.isIpv6;
  if (gateway !== undefined) {
    fillWords(path.nextHop, gateway);
  } else if (via !== undefined) {
    fillWords(path.nextHop, via.address);
    path.nextHopIsIpv6 = via.family === AddressFamily.INET6;
  }
  // Where a source was asked for, Linux says none.
  if (!isUnsaid(query.source, query.isIpv6)) path.source.set(query.source);
  else if (preferredSource !== undefined) fillWords(path.source, preferredSource);
  else path.source.fill(0);
  return {
    state: STATE_OF_TYPE[route.type] ?? PathState.NO_ROUTE,
    interfaceIndex: route.outputIndex ?? 0,
    cast: castOf(path, route.type),
    mtuBytes: route.metrics?.mtuBytes ?? 0,
  };
}

function castOf({ query }: CachedPath, type: number): number {
  if (type === RouteType.MULTICAST || (query.isIpv6 && query.destination[0] >>> 24 === 0xff)) return Cast.GROUP;
  return type === RouteType.BROADCAST ? Cast.ALL : Cast.ONE;
}

/** The MAC address of a group (RFC 1112, section 6.4; RFC 2464, section 7), or of all. */
export function fillGroupMac(mac: Uint8Array, cast: number, destination: Int32Array, isIpv6: boolean): void {
  if (cast === Cast.ALL) {
    mac.fill(0xff);
    return;
  }
  const word = destination[isIpv6 ? 3 : 0];
  mac[0] = isIpv6 ? 0x33 : 0x01;
  mac[1] = isIpv6 ? 0x33 : 0x00;
  mac[2] = isIpv6 ? word >>> 24 : 0x5e;
  mac[3] = isIpv6 ? word >>> 16 : (word >>> 16) & 0x7f;
  mac[4] = word >>> 8;
  mac[5] = word;
}
