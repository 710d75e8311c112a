/**
 * The host's tables (host/tables/): what the look-up of a path costs that is known, what a new one costs, and what a burst of changed routes takes from the thread. In a namespace of
 * its own, against the running kernel. Short runs: the figures are for comparing with themselves.
 */
import { performance } from 'node:perf_hooks';
import { Clock, EventLoop, NetworkNamespace, openHostTables, RouteClient } from '../src/host/index.ts';
import { PathQuery, PathState } from '../src/net/index.ts';
import { addAddress, addNeighbour, addRoute } from '../src/netlink/index.ts';
import { median } from './statistics.ts';

/** Processor time of this thread, in milliseconds: the machine may have other things to do. */
const THREAD_TIME = new Clock(3);
const threadMs = () => THREAD_TIME.milliseconds();

/** Figures of the tables, by processor time. */
export interface HostTablesBench {
  /** Nanoseconds for a path that is known, 1,000 destinations in turn, IPv4 and IPv6. */
  lookupNs: number;
  lookupIpv6Ns: number;
  /** Microseconds until a path is known of which nothing was, its neighbour being in Linux's table, the median. */
  newPathP50Us: number;
  /** Milliseconds for 20,000 changed routes beside packets to 100 destinations, beyond those of a loop without tables, and the longest turn of the loop. */
  burstMs: number;
  burstLongestMs: number;
  burstRoutes: number;
}

const DESTINATIONS = 1000;
const ROUTES = 20_000;
const ROUNDS = 2000;
const NEIGHBOUR = Uint8Array.of(10, 0, 0, 2);
const NEIGHBOUR_IPV6 = Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
const [INET, INET6] = [2, 10];

function queries(isIpv6: boolean): PathQuery[] {
  return Array.from({ length: DESTINATIONS }, (_, i) => {
    const query = new PathQuery();
    query.isIpv6 = isIpv6;
    query.destination[0] = isIpv6 ? 0x2001_0db8 : 0xac10_0000 + i;
    query.destination[3] = isIpv6 ? i + 1 : 0;
    return query;
  });
}

/** A namespace with one link, default routes and their next hops. */
function prepare(client: RouteClient): void {
  client.createVeth('eth0', { name: 'far' }, { up: true });
  client.changeLink('far', { up: true });
  const { index } = client.link('eth0');
  const own = NEIGHBOUR_IPV6.slice();
  own[15] = 1;
  client.request(addAddress({ index, prefixLength: 24, local: Uint8Array.of(10, 0, 0, 1) }));
  // IFA_F_NODAD: usable at once.
  client.request(addAddress({ index, prefixLength: 64, local: own, flags: 2 }));
  for (const [family, gateway] of [
    [INET, NEIGHBOUR],
    [INET6, NEIGHBOUR_IPV6],
  ] as const) {
    const macAddress = Uint8Array.of(2, 0, 0, 0, 0, 2);
    client.request(addNeighbour({ index, destination: gateway, macAddress }));
    client.request(addRoute({ family, gateway, outputIndex: index }));
  }
}

/** Measure; takes some seconds and needs root. */
export function benchHostTables(): HostTablesBench {
  const namespace = NetworkNamespace.make('bench');
  try {
    return namespace.run(measure);
  } finally {
    namespace.close();
  }
}

function measure(): HostTablesBench {
  const client = new RouteClient();
  const loop = new EventLoop({ busyPollUs: 0 });
  prepare(client);
  const tables = openHostTables(loop);
  while (!tables.addresses.isComplete) loop.poll(1);
  const newPathsUs: number[] = [];
  const [four, six] = [queries(false), queries(true)];
  for (const query of [...four, ...six]) {
    // Within the allowance, as a new destination is in practice.
    const until = performance.now() + 0.6;
    while (performance.now() < until) loop.poll(0);
    const started = threadMs();
    const path = tables.find(query);
    newPathsUs.push((threadMs() - started) * 1000);
    if (path.state !== PathState.READY) throw new Error(`a path is in state ${path.state}`);
  }
  const lookups = (list: readonly PathQuery[]): number => {
    const started = threadMs();
    for (let round = 0; round < ROUNDS; round += 1) for (const query of list) tables.find(query);
    return ((threadMs() - started) * 1e6) / (ROUNDS * list.length);
  };
  const lookupRounds = Array.from({ length: 5 }, () => [lookups(four), lookups(six)] as const);
  const few = four.slice(0, 100);
  const bare = new EventLoop({ busyPollUs: 0 });
  const { index: outputIndex } = client.link('eth0');
  let [burstMs, burstLongestMs] = [0, 0];
  for (let i = 0; i < ROUTES; i += 1) {
    const destination = Uint8Array.of(100, 64 + (i >> 16), i >> 8, i);
    client.request(
      addRoute({ family: INET, destination, destinationPrefixLength: 32, gateway: NEIGHBOUR, outputIndex }),
    );
    const started = threadMs();
    loop.poll(0);
    tables.find(few[i % few.length]);
    const between = threadMs();
    bare.poll(0);
    const tookMs = between - started;
    burstMs += tookMs - (threadMs() - between);
    burstLongestMs = Math.max(burstLongestMs, tookMs);
  }
  bare.close();
  tables.close();
  loop.close();
  client.close();
  return {
    lookupNs: median(lookupRounds.map(([ns]) => ns)),
    lookupIpv6Ns: median(lookupRounds.map(([, ns]) => ns)),
    newPathP50Us: median(newPathsUs),
    burstMs,
    burstLongestMs,
    burstRoutes: ROUTES,
  };
}
