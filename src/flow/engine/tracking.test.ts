/** What ct actions do to packets and keys: states go with packets, translations show in keys, fragments are put together, and what may not go on is a drop by name. */
import { expect, test } from 'vitest';
import { Connections } from '../../connections/index.ts';
import { echo, end, tcp, udp, unreachable } from '../../connections/testing/frames.ts';
import { Batch, describe, fragmentPacket, HeaderOffsets, PacketPool, toKeyPort } from '../../net/index.ts';
import { FlowKey } from '../key/key.ts';
import { Word } from '../key/layout.ts';
import { packetOf } from '../testing/frames.ts';
import { FlowLab } from '../testing/lab.ts';
import { parseActions } from '../text/actions.ts';
import { formatFlowKey } from '../text/flow-key.ts';
import type { FlowHooks } from './hooks.ts';

const IP = 'eth_type(0x0800),ipv4(frag=no)';
const [client, server, router] = [end('10.0.0.1', 1000), end('10.0.0.2', 80), end('10.0.0.9')];

/** The connection's part of a key, as text. */
function connectionText({ words }: FlowKey): string {
  const text = formatFlowKey(words);
  return [...text.matchAll(/ct_(?:state|zone|mark|label|tuple[46])\([^)]*\)/g)].map(([part]) => part).join(',');
}

/** A datapath whose packets, where no flow takes them, tell what is known of their connection. */
class TrackedLab extends FlowLab {
  readonly known: string[];
  readonly keys: string[];
  readonly connections: Connections;
  readonly clock: { nowMs: number };

  constructor(hooks: Partial<FlowHooks> = {}, maximum = 100) {
    const clock = { nowMs: 1000 };
    const known: string[] = [];
    const keys: string[] = [];
    const connections = new Connections({ nowMs: () => clock.nowMs, maximum });
    super(
      {
        miss: (packet, key) => {
          known.push(connectionText(key));
          keys.push(formatFlowKey(key.words));
          expect(describe(packet.frame()).every(({ error, fields }) => !error && fields.checksumState !== 'bad')).toBe(
            true,
          );
          return true;
        },
        ...hooks,
      },
      { connections, largePool: new PacketPool({ packets: 4, bufferBytes: 66_048 }) },
    );
    this.clock = clock;
    this.known = known;
    this.keys = keys;
    this.connections = connections;
  }

  /** Have packets of a port go through actions and be looked up again, where no flow is. */
  track(port: number, actions: string, match = IP): void {
    this.flow(`recirc_id(0),in_port(${port}),${match}`, `${actions},recirc(0x1)`);
  }

  /** @returns what is known of the packet's connection behind the actions */
  tell(frame: Uint8Array, port = 1): string {
    this.known.length = 0;
    this.receive(frame, port);
    return this.known.join(' ');
  }

  get drops(): Record<string, number> {
    return this.datapath.drops.toRecord();
  }
}

test('a packet of a new connection, its answer and what follows have their states, and the tuple that began it', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct(commit,zone=5)');
  lab.track(2, 'ct(zone=5)');
  const tuple = 'ct_tuple4(src=10.0.0.1,dst=10.0.0.2,proto=6,tp_src=1000,tp_dst=80)';
  const told = (state: string) => `ct_state(${state}),ct_zone(0x5),ct_mark(0),ct_label(0),${tuple}`;
  expect(lab.tell(tcp(client, server, 'S'))).toBe(told('+new-est-rel-rpl-inv+trk-snat-dnat'));
  expect(lab.tell(tcp(server, client, 'S.', { acknowledgment: 1 }), 2)).toBe(
    told('-new+est-rel+rpl-inv+trk-snat-dnat'),
  );
  expect(lab.tell(tcp(client, server, '.', { sequence: 1, acknowledgment: 1 }))).toBe(
    told('-new+est-rel-rpl-inv+trk-snat-dnat'),
  );
  expect(lab.tell(tcp(server, router, '.'), 2)).toContain('+new');
  expect(lab.held).toBe(0);
});

test('there is no table until something is tracked, and none where nobody tracks', () => {
  const lab = new TrackedLab();
  lab.flow('in_port(2)', '3');
  lab.track(1, 'ct');
  lab.receive(udp(client, server), 2);
  expect(lab.connections.table).toBe(null);
  lab.receive(udp(client, server));
  expect(lab.connections.table?.size).toBe(0);
  const without = new FlowLab();
  without.flow(`in_port(1),${IP}`, 'ct,1');
  without.receive(udp(client, server));
  expect(without.datapath.drops.toRecord()).toEqual({ 'connection-unavailable': 1 });
});

test('mark and label are set under their masks, and come back with every packet of the connection', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct(commit,mark=0x50/0xf0,label=0x1000000000000000000000002/0x1000000000000000000000003)');
  lab.track(2, 'ct(commit,mark=0x3/0xf)');
  lab.track(3, 'ct');
  expect(lab.tell(udp(client, server))).toContain('ct_mark(0x50),ct_label(0x1000000000000000000000002)');
  expect(lab.tell(udp(server, client), 2)).toContain('ct_mark(0x53),ct_label(0x1000000000000000000000002)');
  expect(lab.tell(udp(client, server), 3)).toContain('ct_mark(0x53)');
});

test('ct_clear forgets the connection; zones know nothing of each other', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct(commit,zone=1)');
  lab.flow('recirc_id(0x1),in_port(1)', 'ct_clear,recirc(0x2)');
  lab.track(2, 'ct(zone=1),ct(zone=2)');
  const nothing = 'ct_state(-new-est-rel-rpl-inv-trk-snat-dnat),ct_zone(0),ct_mark(0),ct_label(0)';
  expect(lab.tell(udp(client, server))).toContain(nothing);
  expect(lab.tell(udp(server, client), 2)).toContain('+new-est-rel-rpl-inv+trk-snat-dnat),ct_zone(0x2)');
});

test('what a clone tracks is the clone’s alone', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct(zone=1),clone(ct(commit,zone=2),recirc(0x7)),sample(sample=100%,actions(ct(zone=3),recirc(0x8)))');
  expect(lab.tell(udp(client, server)).match(/ct_zone\(\w+\)/g)).toEqual([
    'ct_zone(0x2)',
    'ct_zone(0x3)',
    'ct_zone(0x1)',
  ]);
  expect(lab.connections.table?.size).toBe(1);
});

test('a packet that goes through a zone twice is counted once, also when it was up in between', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct(zone=1)');
  lab.receive(tcp(client, server, 'S'));
  const key = new FlowKey();
  key.begin(toKeyPort(1));
  key.words[Word.CT] = 0x2100_0001;
  const { tracker } = lab.connections;
  const frame = tcp(client, server, 'S');
  lab.datapath.execute(packetOf(frame, lab.pool), key, parseActions('ct(commit,zone=1),3'));
  lab.datapath.execute(packetOf(frame, lab.pool), key, parseActions('ct(commit,zone=1),3'));
  expect([tracker.table.size, tracker.table.counters.created, lab.sent.length]).toEqual([1, 1, 2]);
});

test('what is found invalid stays so when it is tracked again in its zone', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct(commit)');
  lab.track(2, 'ct,ct');
  lab.receive(tcp(client, server, 'S'));
  const invalid = tcp(server, client, 'R');
  expect(lab.tell(invalid, 2)).toContain('+inv+trk');
});

test('source translation changes packet and key alike, answers come back, and errors about them too', () => {
  const lab = new TrackedLab();
  lab.keepOutputs();
  lab.track(1, '9,ct(commit,zone=1,nat(src=192.0.2.5:2000-2000))');
  lab.track(2, 'ct(zone=1,nat)');
  const out = udp(client, server);
  expect(lab.tell(out)).toContain('+new-est-rel-rpl-inv+trk+snat-dnat');
  expect(lab.keys[0]).toContain('ipv4(src=192.0.2.5,dst=10.0.0.2,proto=17');
  expect(lab.keys[0]).toContain('udp(src=2000,dst=80)');
  // Who was sent the packet before has it as it was.
  expect(lab.keptBytes()).toEqual([[...out]]);
  lab.release();
  lab.keys.length = 0;
  expect(lab.tell(udp(server, end('192.0.2.5', 2000)), 2)).toContain('-new+est-rel+rpl-inv+trk-snat+dnat');
  expect(lab.keys[0]).toContain('ipv4(src=10.0.0.2,dst=10.0.0.1,proto=17');
  expect(lab.keys[0]).toContain('udp(src=80,dst=1000)');
  lab.keys.length = 0;
  const error = unreachable('10.0.0.9', '192.0.2.5', udp(end('192.0.2.5', 2000), server));
  expect(lab.tell(error, 2)).toContain('-new-est+rel+rpl-inv+trk');
  expect(lab.keys[0]).toContain('ipv4(src=10.0.0.9,dst=10.0.0.1,proto=1');
  expect(lab.held).toBe(0);
});

test('destination translation works over IPv6, in both directions', () => {
  const lab = new TrackedLab();
  const ip6 = 'eth_type(0x86dd),ipv6(frag=no)';
  const [from, to] = [end('2001:db8::1', 5), end('2001:db8::2', 80)];
  lab.track(1, 'ct(commit,nat(dst=[2001:db8::7]:8080))', ip6);
  lab.track(2, 'ct(nat)', ip6);
  expect(lab.tell(tcp(from, to, 'S'))).toContain(
    'ct_tuple6(src=2001:db8::1,dst=2001:db8::2,proto=6,tp_src=5,tp_dst=80)',
  );
  expect(lab.keys[0]).toContain('dst=2001:db8::7');
  lab.keys.length = 0;
  lab.tell(tcp(end('2001:db8::7', 8080), from, 'S.', { acknowledgment: 1 }), 2);
  expect(lab.keys[0]).toContain('ipv6(src=2001:db8::2,dst=2001:db8::1');
  expect(lab.keys[0]).toContain('tcp(src=80,dst=5)');
});

test('the tuple of an echo request has type and code for ports', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct(commit)');
  expect(lab.tell(echo(client, server))).toContain('ct_tuple4(src=10.0.0.1,dst=10.0.0.2,proto=1,tp_src=8,tp_dst=0)');
});

test('connections that are refused are drops by name', () => {
  const lab = new TrackedLab({}, 16);
  lab.track(1, 'ct(commit,zone=1)');
  lab.track(2, 'ct(commit,zone=2,nat(src=192.0.2.5:2000-2001))');
  lab.track(3, 'ct(commit,zone=2)');
  lab.connections.tracker.limits.set(1, 2);
  for (let port = 1; port < 4; port += 1) lab.receive(udp(end('10.0.0.1', port), server), 1);
  for (let port = 1; port < 4; port += 1) lab.receive(udp(end('10.0.0.1', port), server), 2);
  expect(lab.drops).toEqual({ 'connection-zone-limit': 1, 'connection-nat-exhausted': 1 });
  expect(lab.known.length).toBe(4);
  expect(lab.held).toBe(0);
});

/** A frame in IP fragments of at most so many bytes. */
function pieces(frame: Uint8Array, mtuBytes: number): Uint8Array[] {
  const pool = new PacketPool({ packets: 64, bufferBytes: 2048 });
  const packet = packetOf(frame, new PacketPool({ packets: 1, bufferBytes: 66_000 }));
  const headers = new HeaderOffsets();
  headers.parse(packet);
  const out = new Batch();
  fragmentPacket(packet, headers, mtuBytes, 77, pool, out);
  return out.packets.slice(0, out.count).map((each) => each.frame().slice());
}

test.each(['10.0.0', '2001:db8:'])(
  'fragments of %s are tracked as one packet, which knows how large they were',
  (prefix) => {
    const isIpv6 = prefix.includes(':');
    const [from, to] = isIpv6 ? [end('2001:db8::1', 5), end('2001:db8::2', 6)] : [client, server];
    const sizes: [number, number][] = [];
    const lab = new TrackedLab({
      miss: (packet, key) => {
        sizes.push([packet.length, key.largestFragmentBytes]);
        expect(formatFlowKey(key.words)).toContain('frag=no');
        return true;
      },
    });
    const match = isIpv6 ? 'eth_type(0x86dd),ipv6()' : 'eth_type(0x0800),ipv4()';
    lab.track(1, 'ct(zone=3),ct(commit,zone=4)', match);
    const whole = udp(from, to, new Uint8Array(3000));
    const parts = pieces(whole, 1200);
    expect(parts.length).toBe(3);
    const largest = Math.max(...parts.map((part) => part.length - 14));
    for (const part of parts.toReversed()) lab.receive(part);
    expect(sizes).toEqual([[whole.length, largest]]);
    expect([lab.connections.table?.size, lab.drops, lab.held]).toEqual([1, {}, 0]);
    // The next packet was never in pieces.
    lab.receive(udp(from, to));
    expect(sizes[1][1]).toBe(0);
  },
);

test('of fragments that contradict each other nothing goes on, under a name of its own', () => {
  const lab = new TrackedLab();
  lab.track(1, 'ct', 'eth_type(0x0800),ipv4()');
  const [first, second] = pieces(udp(client, server, new Uint8Array(2000)), 1200);
  const overlapping = second.slice();
  overlapping[21] -= 1;
  lab.receive(first);
  lab.receive(first);
  lab.receive(overlapping);
  expect(lab.drops).toEqual({ 'fragment-duplicate': 1, 'fragment-overlap': 1 });
  expect([lab.known, lab.held]).toEqual([[], 0]);
});

test('a packet without an Ethernet header has no connection', () => {
  const lab = new TrackedLab();
  lab.flow('recirc_id(0),in_port(1),packet_type(ns=1,id=0x0800),eth_type(0x0800),ipv4()', 'ct(zone=9),recirc(0x1)');
  lab.receive(udp(client, server).slice(14), 1, () => {}, 0x0800);
  expect(lab.known.join()).toContain('+inv+trk-snat-dnat),ct_zone(0x9)');
});

test('thousands of packets of some connections leave nothing behind but these', () => {
  const lab = new TrackedLab({ miss: () => true });
  lab.track(1, 'ct(commit,zone=1,nat(src=192.0.2.1-192.0.2.9))');
  for (let i = 0; i < 20_000; i += 1) lab.receive(udp(end('10.0.0.1', (i % 50) + 1), server));
  expect([lab.connections.table?.size, lab.held]).toEqual([50, 0]);
  lab.clock.nowMs += 40_000;
  lab.connections.tick();
  expect(lab.connections.table?.size).toBe(0);
  expect(lab.drops).toEqual({});
});
