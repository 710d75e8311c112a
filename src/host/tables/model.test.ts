/**
 * The tables against a plain model, in random orders: routes, links, addresses and neighbours change, news and answers are late or lost, packets wait. When all is quiet and
 * each path was asked for once, what the tables say is what the kernel has; and every packet has come back exactly once.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type HostPath, type Packet, PacketPool, PathQuery, PathState } from '../../net/index.ts';
import { NeighbourState } from '../../netlink/index.ts';
import { LinuxTables } from './linux-tables.ts';
import { FakeKernel, type FakeRoute, macOf } from './testing-kernel.ts';

const HOSTS = [1, 2, 3, 4];
const LINKS = [2, 3];
const GATEWAY = 9;
const addressOf = (last: number) => Uint8Array.of(10, 0, 0, last);

function queryTo(last: number, asker: number): PathQuery {
  const query = new PathQuery();
  query.destination[0] = 0x0a00_0000 | last;
  query.asker = asker;
  return query;
}

const host = fc.constantFrom(...HOSTS);
const index = fc.constantFrom(...LINKS);
const route = fc.oneof(
  fc.constant(null),
  fc.constantFrom<FakeRoute>({ errno: 13 }, { errno: 22 }, { type: 2 }),
  fc.record({ interfaceIndex: index }),
  fc.record({ interfaceIndex: index, gateway: fc.constant(addressOf(GATEWAY)), mtuBytes: fc.constantFrom(1300, 9000) }),
);
const state = fc.constantFrom(
  NeighbourState.REACHABLE,
  NeighbourState.STALE,
  NeighbourState.PERMANENT,
  NeighbourState.FAILED,
);
const neighbour = fc.option(fc.record({ state, mac: fc.integer({ min: 1, max: 5 }) }), { nil: null });

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('find' as const), host, wait: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('route' as const), host, route }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('link' as const), index, isUp: fc.boolean(), mac: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('unlink' as const), index }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('neighbour' as const),
      index,
      host: fc.constantFrom(...HOSTS, GATEWAY),
      neighbour,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('pass' as const), timeMs: fc.constantFrom(0, 1, 20, 150, 1100, 7000) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('hold' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('answer' as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('room' as const), news: fc.nat(3), interfaces: fc.nat(3) }) },
);

/** What a packet should meet with. */
function wanted(kernel: FakeKernel, last: number) {
  const found = kernel.routes.get(`10.0.0.${last}/0`);
  if (found === undefined) return { state: PathState.NO_ROUTE };
  if (found.errno !== undefined) return { state: found.errno === 13 ? PathState.PROHIBITED : PathState.BLACKHOLE };
  if (found.type === 2) return { state: PathState.LOCAL };
  const { interfaceIndex = 0, gateway, mtuBytes = 65_535 } = found;
  const link = kernel.links.get(interfaceIndex);
  // Linux takes routes of links that are gone away; this one leaves them, and the interface cannot be asked for.
  if (link === undefined) return { state: PathState.NO_ROUTE };
  if (!link.isUp) return { state: PathState.LINK_DOWN };
  const known = kernel.neighbours.get(`${interfaceIndex}/10.0.0.${gateway === undefined ? last : GATEWAY}`);
  const isValid = known !== undefined && (known.state & (NeighbourState.FAILED | NeighbourState.INCOMPLETE)) === 0;
  if (!isValid || known.state === NeighbourState.NONE) return { state: 'none' };
  return {
    state: PathState.READY,
    interfaceIndex,
    mtuBytes: Math.min(link.mtuBytes, mtuBytes),
    sourceMac: macOf(link.mac),
    destinationMac: macOf(known.mac),
  };
}

test('whatever is late or lost, in the end the tables say what the kernel has, and no packet is lost or given twice', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const kernel = new FakeKernel();
      for (const each of LINKS) kernel.setLink(each, {});
      const tables = new LinuxTables({
        loop: kernel.tablesLoop,
        sockets: kernel.sockets,
        nowMs: () => kernel.loop.nowMs,
        warn: () => {},
        paths: 16,
      });
      const pool = new PacketPool({ packets: 100, bufferBytes: 256 });
      const given = new Map<number, number>();
      let count = 0;
      const taker = {
        onPath(packet: Packet, path: HostPath, ended: number) {
          const number = packet.bytes[packet.offset];
          given.set(number, (given.get(number) ?? 0) + 1);
          expect(ended).not.toBe(PathState.RESOLVING);
          if (ended === PathState.READY) expect(path.destinationMac[0]).toBe(2);
          packet.release();
        },
      };
      for (const one of steps) {
        if (one.do === 'find') {
          const path = tables.find(queryTo(one.host, one.host & 1));
          const packet = one.wait ? pool.allocate() : null;
          if (packet === null) continue;
          packet.length = 60;
          packet.bytes[packet.offset] = count;
          if (tables.wait(path, packet, taker)) count += 1;
          else packet.release();
        } else if (one.do === 'route') kernel.setRoute(`10.0.0.${one.host}/0`, one.route);
        else if (one.do === 'link') kernel.setLink(one.index, { isUp: one.isUp, mac: one.mac });
        else if (one.do === 'unlink') kernel.removeLink(one.index);
        else if (one.do === 'neighbour') kernel.setNeighbour(`${one.index}/10.0.0.${one.host}`, one.neighbour);
        else if (one.do === 'pass') kernel.loop.pass(one.timeMs);
        else if (one.do === 'hold') kernel.holds = true;
        else if (one.do === 'answer') kernel.answer(one.count);
        else {
          kernel.news.room = one.news;
          kernel.interfaces.room = one.interfaces + 1;
        }
      }
      kernel.holds = false;
      kernel.news.room = 1000;
      kernel.interfaces.room = 1000;
      for (let i = 0; i < 4; i += 1) {
        kernel.answer();
        kernel.loop.pass(1000);
      }
      for (const last of HOSTS) tables.find(queryTo(last, last & 1));
      kernel.loop.pass(50);
      for (const last of HOSTS) {
        const path = tables.find(queryTo(last, last & 1));
        const model = wanted(kernel, last);
        if (model.state === 'none') expect([PathState.RESOLVING, PathState.NO_NEIGHBOUR]).toContain(path.state);
        else expect(path).toMatchObject(model);
      }
      kernel.loop.pass(10_000);
      expect([...given.values()].every((times) => times === 1) && given.size === count).toBe(true);
      expect(pool.available).toBe(pool.capacity);
      tables.close();
    }),
    { numRuns: 300 },
  );
});
