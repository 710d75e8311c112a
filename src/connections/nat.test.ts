/** Translation: what goes out comes back as it was, checksums hold in each of their states, ranges are kept to, and what is used up is said. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  Checksum,
  completeChecksum,
  composeFrame,
  describe as describeFrame,
  Gso,
  HeaderOffsets,
  type SctpChunk,
  SegmentResult,
} from '../net/index.ts';
import { ConnectionAction, type ConnectionRequest, Refusal, Tracked } from './action.ts';
import type { NatTarget } from './nat.ts';
import { type End, echo, end, redirect, sctp, tcp, udp, unreachable } from './testing/frames.ts';
import { Lab, makePartial, packetOf } from './testing/lab.ts';

/** Source and destination of a frame as text, its checksums and whether each is right. */
function seen(frame: Uint8Array): { from: string; to: string; checksums: unknown[] } {
  const layers = describeFrame(frame);
  const field = (name: string) => layers.map((layer) => layer.fields[name]).filter((value) => value !== undefined);
  const [ip] = layers.filter((layer) => layer.protocol.startsWith('ipv'));
  const port = (name: string) => field(name)[0] ?? field('identifier')[0] ?? '';
  return {
    from: `${ip?.fields.source} ${port('sourcePort')}`,
    to: `${ip?.fields.destination} ${port('destinationPort')}`,
    checksums: field('checksumState'),
  };
}

const isGood = (frame: Uint8Array) => seen(frame).checksums.every((state) => state === 'good');

const a4 = end('10.0.0.1', 4000);
const b4 = end('192.0.2.9', 53);
const a6 = end('fd00::1', 4000);
const b6 = end('2001:db8::9', 53);
const source4 = { addresses: ['198.51.100.1', '198.51.100.1'] } as const;
const source6 = { addresses: ['2001:db8:1::1', '2001:db8:1::1'] } as const;
const chunk = {
  kind: 'init' as const,
  flags: 0,
  initiateTag: 1,
  receiverWindow: 1,
  outboundStreams: 1,
  inboundStreams: 1,
  initialTsn: 1,
  parameters: new Uint8Array(0),
} satisfies SctpChunk;

test('a source is translated on the way out and back, with the bits of each direction', () => {
  const lab = new Lab();
  const out = lab.send(udp(a4, b4), { commit: true, nat: { source: { ...source4, ports: [7000, 7000] } } });
  expect([out.state, seen(out.frame)]).toEqual([
    'new|trk|snat',
    { from: '198.51.100.1 7000', to: '192.0.2.9 53', checksums: ['good', 'good'] },
  ]);
  const back = lab.send(udp(b4, end('198.51.100.1', 7000)), { nat: {} });
  expect([back.state, back.frame]).toEqual(['est|rpl|trk|dnat', udp(b4, a4)]);
  expect(lab.send(udp(a4, b4), { nat: {} }).frame).toEqual(out.frame);
  // Without NAT in the action a packet stays as it is.
  expect(lab.send(udp(a4, b4), {}).frame).toEqual(udp(a4, b4));
});

test('a destination is translated, and a client that is its own server comes back through the translation', () => {
  const lab = new Lab();
  const service = end('203.0.113.1', 80);
  const nat = {
    destination: { addresses: ['10.0.0.1', '10.0.0.1'], ports: [8080, 8080] },
    source: { addresses: ['10.0.0.254', '10.0.0.254'] },
  } as const;
  const out = lab.send(udp(a4, service), { commit: true, nat });
  expect([out.state, seen(out.frame).from, seen(out.frame).to]).toEqual([
    'new|trk|snat|dnat',
    '10.0.0.254 4000',
    '10.0.0.1 8080',
  ]);
  const back = lab.send(udp(end('10.0.0.1', 8080), end('10.0.0.254', 4000)), { nat: {} });
  expect([back.state, back.frame]).toEqual(['est|rpl|trk|snat|dnat', udp(service, a4)]);
});

test('a translated packet that passes the same zone again is known, and not translated twice', () => {
  const lab = new Lab();
  const commit: ConnectionRequest = { commit: true, nat: { source: source4 } };
  const out = lab.send(udp(a4, b4), commit);
  const packet = packetOf(out.frame);
  const again = lab.sendPacket(packet, { nat: {} }, 0, out.tracked);
  expect([again.state, again.frame, again.tracked.record]).toEqual(['new|trk|snat', out.frame, out.tracked.record]);
  const back = lab.send(udp(b4, end('198.51.100.1', 4000)), { nat: {} });
  const backAgain = lab.sendPacket(packetOf(back.frame), { nat: {} }, 0, back.tracked);
  expect([backAgain.state, backAgain.tracked.direction]).toEqual(['est|rpl|trk|dnat', 1]);
  expect(lab.table.size).toBe(1);
});

test('an all-zero source changes only ports that clash', () => {
  const lab = new Lab();
  const backend = { addresses: ['10.0.0.5', '10.0.0.5'], ports: [80, 80] } as const;
  const zero = { addresses: ['0.0.0.0', '0.0.0.0'] } as const;
  const nat = { destination: backend, source: zero };
  const first = lab.send(udp(a4, end('203.0.113.1', 80)), { commit: true, nat });
  expect(seen(first.frame).from).toBe('10.0.0.1 4000');
  // Another service with the same backend: the same client port would come back by the same tuple.
  const second = lab.send(udp(a4, end('203.0.113.2', 80)), { commit: true, nat });
  expect(seen(second.frame).to).toBe('10.0.0.5 80');
  expect(seen(second.frame).from).not.toBe('10.0.0.1 4000');
  const port = Number(seen(second.frame).from.split(' ')[1]);
  expect(lab.send(udp(end('10.0.0.5', 80), end('10.0.0.1', port)), { nat: {} }).frame).toEqual(
    udp(end('203.0.113.2', 80), a4),
  );
});

test('what clashes and may not be translated is refused', () => {
  const lab = new Lab();
  lab.send(udp(a4, end('203.0.113.1', 80)), {
    commit: true,
    nat: { destination: { addresses: ['10.0.0.5', '10.0.0.5'] } },
  });
  expect(lab.send(udp(a4, end('10.0.0.5', 80)), { commit: true }).state).toBe('connection-clash');
  expect(lab.send(udp(a4, end('10.0.0.5', 80)), { commit: true, nat: {} }).state).toBe('new|trk|snat');
});

test('a range is used up to its last port, then it is said, and what expires is free again', () => {
  const lab = new Lab(1024);
  const nat = { source: { addresses: ['198.51.100.1', '198.51.100.4'], ports: [5000, 5019] } } as const;
  const send = (port: number) => lab.send(udp(end('10.0.0.1', port), b4), { commit: true, nat });
  const used = new Set<string>();
  for (let port = 1; port <= 80; port += 1) {
    const { state, frame } = send(port);
    expect(state).toBe('new|trk|snat');
    used.add(seen(frame).from);
  }
  expect(used.size).toBe(80);
  expect([send(81).state, lab.tracker.counters.refused[3], lab.table.size]).toEqual(['nat-exhausted', 1, 80]);
  // Another destination is another tuple.
  expect(lab.send(udp(end('10.0.0.1', 82), end('192.0.2.10', 53)), { commit: true, nat }).state).toBe('new|trk|snat');
  lab.nowMs += 30_000;
  expect(send(81).state).toBe('new|trk|snat');
});

test("a family that is not the packet's has nothing to choose from", () => {
  const lab = new Lab();
  expect(lab.send(udp(a6, b6), { commit: true, nat: { source: source4 } }).state).toBe('nat-exhausted');
});

const HOSTS = Array.from({ length: 50 }, (_, i) => `192.0.2.${i + 1}`);
const MANY = ['198.51.100.0', '198.51.100.255'] as const;

test('a source has one public address and port for all that it speaks to, by each protocol, and sources are spread', () => {
  const lab = new Lab(2048);
  const nat = { source: { addresses: MANY } };
  const outside = (from: End, to: string, make: (from: End, to: End) => Uint8Array = udp, zone = 1) =>
    seen(lab.send(make(from, end(to, 53)), { commit: true, zone, nat }).frame).from;
  expect(new Set(HOSTS.map((host) => outside(a4, host))).size).toBe(1);
  expect(outside(a4, HOSTS[0], (from, to) => tcp(from, to, 'S'))).toBe(outside(a4, HOSTS[1]));
  // Another port of the same host is behind the same address.
  expect(outside(end(a4.address, 4001), HOSTS[0]).split(' ')[0]).toBe(outside(a4, HOSTS[1]).split(' ')[0]);
  expect(new Set(HOSTS.map((host, i) => outside(end(`10.0.1.${i}`, 1), host))).size).toBeGreaterThan(20);
});

test('a persistent source has the same address in each zone and by each protocol', () => {
  const lab = new Lab(2048);
  const outside = (make: (from: End, to: End) => Uint8Array, zone: number, from: string, isPersistent = true) => {
    const nat = { source: { addresses: MANY, isPersistent } };
    return seen(lab.send(make(end(from, 1), b4), { commit: true, zone, nat }).frame).from.split(' ')[0];
  };
  const hosts = Array.from({ length: 20 }, (_, i) => `10.0.1.${i}`);
  for (const host of hosts) {
    const address = outside(udp, 1, host);
    expect([outside(udp, 2, host), outside((from, to) => tcp(from, to, 'S'), 1, host)]).toEqual([address, address]);
  }
  expect(hosts.some((host) => outside(udp, 3, host, false) !== outside(udp, 4, host, false))).toBe(true);
});

test('destinations are spread for one client, and are the same for it when they are persistent', () => {
  const lab = new Lab(2048);
  const targets = (isPersistent: boolean) => {
    const nat = { destination: { addresses: ['10.7.0.0', '10.7.0.255'] as const, isPersistent } };
    const zone = isPersistent ? 1 : 2;
    const sent = HOSTS.map((host) => lab.send(udp(a4, end(host, 53)), { commit: true, zone, nat }).frame);
    return new Set(sent.map((frame) => seen(frame).to)).size;
  };
  expect([targets(true), targets(false) > 20]).toEqual([1, true]);
});

test('ports of a destination are used from the first one on, and its own stays when it is among them', () => {
  const lab = new Lab();
  const to = (port: number) => {
    const nat = { destination: { addresses: ['10.7.0.1', '10.7.0.1'] as const, ports: [8080, 8089] as const } };
    return seen(lab.send(udp(a4, end('192.0.2.9', port)), { commit: true, nat }).frame).to;
  };
  expect([to(83), to(8085), to(84)]).toEqual(['10.7.0.1 8080', '10.7.0.1 8085', '10.7.0.1 8081']);
});

test.each(['hash', 'random'] as const)('by %s a source gets another port, although its own is free', (choice) => {
  for (const target of [
    source4,
    { ...source4, ports: [1, 65_535] as const },
    { addresses: [a4.address, a4.address] },
  ]) {
    const nat = { source: { ...target, choice } as NatTarget };
    const { frame } = new Lab().send(udp(a4, b4), { commit: true, nat });
    expect(seen(frame).from).toMatch(target === source4 ? /^198.51.100.1 / : /./);
    expect(seen(frame).from.split(' ')[1]).not.toBe('4000');
  }
});

test('a redirect about a translated connection is dropped, and about one that is not translated it passes', () => {
  const [lab, plain] = [new Lab(), new Lab()];
  const out = lab.send(udp(a4, b4), { commit: true, nat: { source: source4 } });
  const wrong = redirect('198.51.100.254', '198.51.100.1', '198.51.100.253', out.frame);
  expect(lab.send(wrong, { nat: {} }).state).toBe('redirect');
  expect(lab.tracker.counters.refused[Refusal.REDIRECT]).toBe(1);
  // Without NAT in the action nothing is translated.
  expect(lab.send(wrong).state).toBe('rel|rpl|trk');
  plain.send(udp(a4, b4), { commit: true });
  expect(plain.send(redirect('10.0.0.254', a4.address, '10.0.0.253', udp(a4, b4)), { nat: {} }).state).toBe(
    'rel|rpl|trk',
  );
});

const request = fc.record({
  isIpv6: fc.boolean(),
  protocol: fc.constantFrom('udp', 'tcp', 'sctp', 'echo'),
  payload: fc.uint8Array({ maxLength: 41 }),
  port: fc.integer({ min: 1, max: 65_535 }),
  ends: fc.constantFrom('source', 'destination', 'both'),
  choice: fc.constantFrom('own', 'hash', 'random'),
  addresses: fc.integer({ min: 1, max: 255 }),
  ports: fc.option(fc.tuple(fc.integer({ min: 0, max: 65_535 }), fc.integer({ min: 0, max: 65_535 }))),
});

function natOf({ isIpv6, ends, choice, addresses, ports }: typeof request extends fc.Arbitrary<infer R> ? R : never) {
  const range = ports === null ? {} : { ports: [Math.min(...ports), Math.max(...ports)] as const };
  const target = (net: string) => {
    const [first, last] = isIpv6
      ? [`${net}::1`, `${net}::${addresses.toString(16)}`]
      : [`${net}.1`, `${net}.${addresses}`];
    return { addresses: [first, last] as const, choice, ...range };
  };
  return {
    ...(ends !== 'destination' ? { source: target(isIpv6 ? '2001:db8:5' : '198.51.100') } : {}),
    ...(ends !== 'source' ? { destination: target(isIpv6 ? 'fd00:7' : '10.7.0') } : {}),
  };
}

function frameOf(protocol: string, from: End, to: End, payload: Uint8Array, isBack: boolean): Uint8Array {
  if (protocol === 'udp') return udp(from, to, payload);
  if (protocol === 'sctp') return sctp(from, to, isBack ? 1 : 0, [isBack ? { ...chunk, kind: 'init-ack' } : chunk]);
  if (protocol === 'echo') return echo(from, to, isBack);
  return tcp(
    from,
    to,
    isBack ? 'S.' : 'S',
    isBack ? { acknowledgment: payload.length + 1 } : {},
    isBack ? '' : payload,
  );
}

/** The ends of a frame as whoever gets it would answer. */
function answerEnds(frame: Uint8Array): [End, End] {
  const { from, to } = seen(frame);
  const parse = (text: string) => end(text.split(' ')[0], Number(text.split(' ')[1]));
  return [parse(to), parse(from)];
}

test('whatever is translated out comes back as it went, with right checksums and inside of the ranges', () => {
  fc.assert(
    fc.property(request, (options) => {
      const { isIpv6, protocol, payload, port } = options;
      const lab = new Lab();
      const [from, to] = isIpv6 ? [end('fd00::1', port), end('2001:db8::9', 53)] : [end('10.0.0.1', port), b4];
      const nat = natOf(options);
      const there = frameOf(protocol, from, to, payload, false);
      const out = lab.send(there, { commit: true, nat });
      const wanted = [nat.source && 'snat', nat.destination && 'dnat'].filter((bit) => bit !== undefined);
      expect(out.state).toBe(['new', 'trk', ...wanted].join('|'));
      expect(isGood(out.frame)).toBe(true);
      const moved = seen(out.frame);
      if (nat.source !== undefined) {
        expect(moved.from.startsWith(isIpv6 ? '2001:db8:5::' : '198.51.100.')).toBe(true);
        const [first, last] =
          options.ports === null ? [0, 65_535] : [Math.min(...options.ports), Math.max(...options.ports)];
        const chosen = Number(moved.from.split(' ')[1]);
        expect(chosen >= first && chosen <= last).toBe(true);
      } else expect(moved.from).toBe(seen(there).from);
      const [server, client] = answerEnds(out.frame);
      const back = lab.send(frameOf(protocol, server, client, payload, true), { nat: {} });
      expect(back.frame).toEqual(frameOf(protocol, to, from, payload, true));
      expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
    }),
    { numRuns: 400 },
  );
});

test('errors of both sides about translated packets come through as the other side knows them, quoted packet and checksums included', () => {
  fc.assert(
    // Of even length, so that no quote ends within a checksum: the half that is left could not follow.
    fc.property(request, fc.integer({ min: 4, max: 50 }), (options, quotedWords) => {
      const quotedPayload = quotedWords * 2;
      const { isIpv6, protocol, payload, port } = options;
      const lab = new Lab();
      const [from, to] = isIpv6 ? [end('fd00::1', port), end('2001:db8::9', 53)] : [end('10.0.0.1', port), b4];
      const header = isIpv6 ? 40 : 20;
      const there = frameOf(protocol, from, to, payload, false);
      const out = lab.send(there, { commit: true, nat: natOf(options) });
      const [server, client] = answerEnds(out.frame);
      const before = frameOf(protocol, server, client, payload, true);
      const back = lab.send(before, { nat: {} });

      // From the host behind the translation, about what it got: the sender sees an error about what it has sent.
      const fromServer = unreachable(server.address, client.address, out.frame, header + quotedPayload);
      const error = lab.send(fromServer, { nat: {} });
      expect(error.state.startsWith('rel|rpl|trk')).toBe(true);
      const asSent = unreachable(to.address, from.address, there, header + quotedPayload);
      expect(isGood(error.frame)).toBe(true);
      expect(sameButQuotedChecksum(error.frame, asSent, isIpv6)).toBe(true);

      // From the host in front of it, about the answer.
      const fromClient = unreachable(from.address, to.address, back.frame, header + quotedPayload);
      const other = lab.send(fromClient, { nat: {} });
      expect(other.state.startsWith('rel|trk')).toBe(true);
      const asAnswered = unreachable(client.address, server.address, before, header + quotedPayload);
      expect(isGood(other.frame)).toBe(true);
      expect(sameButQuotedChecksum(other.frame, asAnswered, isIpv6)).toBe(true);
    }),
    { numRuns: 400 },
  );
});

/**
 * Whether two errors agree but for what a quote that is cut cannot tell: SCTP's checksum covers what is not there. The outer checksum, which
 * `isGood` has looked at, follows from it.
 */
function sameButQuotedChecksum(one: Uint8Array, other: Uint8Array, isIpv6: boolean): boolean {
  const quote = 14 + (isIpv6 ? 40 : 20) + 8;
  const l4 = quote + (isIpv6 ? 40 : 20);
  const isSctp = one[quote + (isIpv6 ? 6 : 9)] === 132;
  const outerChecksum = quote - 6;
  return (
    one.length === other.length &&
    one.every((byte, i) => {
      const isOpen = isSctp && ((i >= l4 + 8 && i < l4 + 12) || i === outerChecksum || i === outerChecksum + 1);
      return isOpen || byte === other[i];
    })
  );
}

test('an error by a router on the way keeps its source unless that end is translated', () => {
  const lab = new Lab();
  const out = lab.send(udp(a4, b4), { commit: true, nat: { source: source4 } });
  const error = lab.send(unreachable('172.16.0.1', '198.51.100.1', out.frame), { nat: {} });
  expect([seen(error.frame).from.split(' ')[0], seen(error.frame).to.split(' ')[0]]).toEqual([
    '172.16.0.1',
    '10.0.0.1',
  ]);
});

test('a partial checksum stays partial, and is right once it is completed', () => {
  const headers = new HeaderOffsets();
  for (const [from, to, source] of [
    [a4, b4, source4],
    [a6, b6, source6],
  ] as const) {
    for (const protocol of ['tcp', 'udp', 'sctp'] as const) {
      const lab = new Lab();
      const packet = packetOf(frameOf(protocol, from, to, new Uint8Array(20), false));
      const field = protocol === 'tcp' ? 16 : protocol === 'udp' ? 6 : 8;
      makePartial(packet, field, headers);
      writePseudoSum(packet.bytes, packet.offset, headers, field, protocol);
      const nat = { source: { ...source, ports: [7, 7] as const } };
      expect(lab.sendPacket(packet, { commit: true, nat }).state).toBe('new|trk|snat');
      expect(packet.checksum).toBe(Checksum.PARTIAL);
      expect(completeChecksum(packet)).toBe(SegmentResult.DONE);
      expect(isGood(packet.frame())).toBe(true);
      expect(seen(packet.frame()).from).toBe(`${source.addresses[0]} 7`);
    }
  }
});

/** What a sender leaves in the checksum field that it has not computed: the sum of the pseudo header; nothing with SCTP. */
function writePseudoSum(
  bytes: Uint8Array,
  start: number,
  headers: HeaderOffsets,
  field: number,
  protocol: string,
): void {
  const at = start + headers.l4Offset + field;
  if (protocol === 'sctp') {
    bytes.fill(0, at, at + 4);
    return;
  }
  const isIpv6 = headers.ipVersion === 6;
  const first = start + headers.l3Offset + (isIpv6 ? 8 : 12);
  let sum = headers.ipProtocol + (headers.l3End - headers.l4Offset);
  for (let i = first; i < first + (isIpv6 ? 32 : 8); i += 2) sum += (bytes[i] << 8) | bytes[i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes[at] = sum >>> 8;
  bytes[at + 1] = sum;
}

test('a super-packet is translated whole', () => {
  const lab = new Lab();
  const headers = new HeaderOffsets();
  lab.send(tcp(a4, b4, 'S', { sequence: 0 }), { commit: true, nat: { source: source4 } });
  lab.send(tcp(b4, end('198.51.100.1', 4000), 'S.', { sequence: 0, acknowledgment: 1 }), { nat: {} });
  const big = packetOf(tcp(a4, b4, '.', { sequence: 1, acknowledgment: 1 }, new Uint8Array(40_000)));
  makePartial(big, 16, headers);
  writePseudoSum(big.bytes, big.offset, headers, 16, 'tcp');
  big.gsoType = Gso.TCPV4;
  big.gsoSizeBytes = 1448;
  expect(lab.sendPacket(big, { nat: {} }).state).toBe('est|trk|snat');
  expect([big.gsoType, big.gsoSizeBytes, big.checksum]).toEqual([Gso.TCPV4, 1448, Checksum.PARTIAL]);
  completeChecksum(big);
  expect(isGood(big.frame())).toBe(true);
});

test('UDP without a checksum stays without', () => {
  const lab = new Lab();
  const frame = udp(a4, b4);
  frame[40] = 0;
  frame[41] = 0;
  const { frame: out } = lab.send(frame, { commit: true, nat: { source: source4 } });
  expect([out[40], out[41]]).toEqual([0, 0]);
});

test('a port is chosen again when the connection that had it is gone', () => {
  const lab = new Lab();
  const action = new ConnectionAction({
    commit: true,
    nat: { source: { ...source4, ports: [9, 9], choice: 'random' } },
  });
  for (let port = 1; port < 20; port += 1) {
    expect(lab.send(udp(end('10.0.0.1', port), b4), action, 0, new Tracked()).state).toBe('new|trk|snat');
    lab.table.flush();
  }
});

test('composed frames are what these tests take for right', () => {
  expect(composeFrame([]).length).toBe(0);
  expect([udp(a4, b4), udp(a6, b6), echo(a4, b4), echo(a6, b6), tcp(a6, b6, 'S')].every(isGood)).toBe(true);
});
