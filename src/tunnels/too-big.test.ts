/** Too big for the path: what would fit, what is cut, and the answer to the sender inside. */
import { expect, test } from 'vitest';
import { TunnelFlag } from '../flow/index.ts';
import {
  Batch,
  composeFrame,
  describe,
  EtherType,
  fragmentPacket,
  HeaderOffsets,
  header,
  Icmpv4,
  IpProtocol,
  SegmentResult,
  VlanTag,
} from '../net/index.ts';
import { TunnelKind, TunnelPort } from './port.ts';
import { TunnelResult, tunnelResultName } from './result.ts';
import {
  encapsulatorOf,
  ethernet,
  ipv4,
  ipv6,
  isSound,
  type Key,
  packetOf,
  pathOf,
  payloadOf,
  smallPool,
  udp,
  udpFrame,
  wordsOf,
} from './testing.ts';
import { tooBigAnswer } from './too-big.ts';

const DF = TunnelFlag.KEY | TunnelFlag.DONT_FRAGMENT;
const vxlan = new TunnelPort({ kind: TunnelKind.VXLAN });
const geneve = new TunnelPort({ kind: TunnelKind.GENEVE });
const gre = new TunnelPort({ kind: TunnelKind.GRE, layer3: true });

/** The frame's layer-3 packet has so many bytes. */
const frameOf = (bytes: number) => udpFrame(bytes - 28);

test('the answer says exactly what fits: one byte more is too big', () => {
  const cases: [TunnelPort, Key, number][] = [
    // The usual numbers: 1450 and 1430 for VXLAN, 1462 for GRE.
    [vxlan, { flags: DF }, 1450],
    [vxlan, { flags: DF, destination: 'fd00:1::2' }, 1430],
    [geneve, { flags: DF, options: new Uint8Array(8).fill(1, 0, 3).fill(1, 3, 4) }, 1442],
    [gre, { flags: TunnelFlag.DONT_FRAGMENT }, 1462],
    [gre, { flags: DF }, 1458],
  ];
  for (const [port, key, fits] of cases) {
    const encapsulator = encapsulatorOf();
    const path = pathOf(key.destination?.includes(':'));
    const attempt = (bytes: number) =>
      tunnelResultName(encapsulator.encapsulate(packetOf(frameOf(bytes)), 0, port, wordsOf(key), 0, path));
    expect(attempt(fits)).toBe('done');
    expect(attempt(fits + 1)).toBe('too-big');
    expect(encapsulator.innerMtuBytes).toBe(fits);
  }
});

test('tags inside take from it, a packet without an Ethernet header has more of it, and a path too short for the headers none', () => {
  const encapsulator = encapsulatorOf();
  const tag = header(VlanTag, { priority: 0, dropEligible: false, vlanId: 5, etherType: EtherType.IPV4 });
  const tagged = composeFrame([ethernet(EtherType.VLAN), tag, ipv4(IpProtocol.UDP), udp()], payloadOf(1500));
  encapsulator.encapsulate(packetOf(tagged), 0, vxlan, wordsOf({ flags: DF }), 0, pathOf());
  expect(encapsulator.innerMtuBytes).toBe(1446);
  const bare = packetOf(frameOf(1600).subarray(14));
  encapsulator.encapsulate(bare, EtherType.IPV4, gre, wordsOf({ flags: DF }), 0, pathOf());
  expect(encapsulator.innerMtuBytes).toBe(1472);
  expect(encapsulator.encapsulate(packetOf(frameOf(100)), 0, vxlan, wordsOf({ flags: DF }), 0, pathOf(false, 40))).toBe(
    TunnelResult.TOO_BIG,
  );
  expect(encapsulator.innerMtuBytes).toBe(0);
});

test('without "do not fragment" the outer packet is cut, over both families; more than 64 KB is too big all the same', () => {
  const headers = new HeaderOffsets();
  for (const destination of ['10.1.0.2', 'fd00:1::2']) {
    const packet = packetOf(frameOf(3000));
    const path = pathOf(destination.includes(':'));
    expect(encapsulatorOf().encapsulate(packet, 0, vxlan, wordsOf({ destination }), 0, path)).toBe(
      TunnelResult.TO_FRAGMENT,
    );
    headers.parse(packet);
    const out = new Batch();
    expect(fragmentPacket(packet, headers, 1500, 9, smallPool(), out)).toBe(SegmentResult.DONE);
    expect(out.count).toBe(3);
  }
  const huge = packetOf(frameOf(65_520));
  expect(encapsulatorOf().encapsulate(huge, 0, vxlan, wordsOf({}), 0, pathOf())).toBe(TunnelResult.TOO_BIG);
});

test('a host of IPv4 hears "fragmentation needed" from the address that it sent to', () => {
  const pool = smallPool(1);
  const answer = tooBigAnswer(packetOf(frameOf(1500)), 0, 1450, pool);
  if (answer === null) throw new Error('there was no answer');
  expect(isSound(answer.frame())).toBe(true);
  expect(describe(answer.frame())).toMatchObject([
    { fields: { destination: '02:00:00:00:00:01', source: '02:00:00:00:00:02' } },
    { fields: { source: '192.168.0.2', destination: '192.168.0.1', timeToLive: 64 } },
    { fields: { kind: 'unreachable', code: 4, mtu: 1450 } },
    {},
  ]);
  expect(answer.length).toBe(14 + 576);
  expect(answer.frame().subarray(42)).toEqual(frameOf(1500).subarray(14, 14 + 548));
  answer.release();
  expect(pool.available).toBe(1);
});

test('a host of IPv6 hears "packet too big", tags and all', () => {
  const tag = header(VlanTag, { priority: 3, dropEligible: false, vlanId: 5, etherType: EtherType.IPV6 });
  const packet = composeFrame([ethernet(EtherType.VLAN), tag, ipv6(IpProtocol.UDP), udp()], payloadOf(1500));
  const answer = tooBigAnswer(packetOf(packet), 0, 1430, smallPool());
  if (answer === null) throw new Error('there was no answer');
  expect(isSound(answer.frame())).toBe(true);
  expect(describe(answer.frame())).toMatchObject([
    { fields: { destination: '02:00:00:00:00:01' } },
    { fields: { vlanId: 5, priority: 3 } },
    { fields: { source: 'fd00::2', destination: 'fd00::1' } },
    { fields: { kind: 'packet-too-big', mtu: 1430 } },
    {},
  ]);
  expect(answer.length).toBe(18 + 1280);
});

test('a packet without an Ethernet header is answered by one without', () => {
  const answer = tooBigAnswer(packetOf(frameOf(600).subarray(14)), EtherType.IPV4, 560, smallPool());
  if (answer === null) throw new Error('there was no answer');
  expect(answer.bytes[answer.offset]).toBe(0x45);
  expect(answer.length).toBe(576);
});

test('there is no answer where there must be none', () => {
  const pool = smallPool(1);
  const ask = (frame: Uint8Array, mtuBytes = 1400) => tooBigAnswer(packetOf(frame), 0, mtuBytes, pool);
  const of4 = (change: Parameters<typeof ipv4>[1], protocol: number = IpProtocol.UDP) =>
    composeFrame([ethernet(EtherType.IPV4), ipv4(protocol, change), udp()], payloadOf(1500));
  const of6 = (change: Parameters<typeof ipv6>[1]) =>
    composeFrame([ethernet(EtherType.IPV6), ipv6(IpProtocol.UDP, change), udp()], payloadOf(1500));
  const toMany = frameOf(1500);
  toMany[0] |= 1;
  const error = header(Icmpv4, { kind: 'time-exceeded', code: 0 });
  const silent: Record<string, Uint8Array> = {
    'may be fragmented': of4({ dontFragment: false }),
    'later fragment': of4({ fragmentOffset: 800 }),
    'to many, by its MAC address': toMany,
    'to many, by its address': of4({ destination: '224.0.0.5' }),
    'by nobody': of4({ source: '0.0.0.0' }),
    'an error': composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.ICMPV4), error], payloadOf(1500)),
    'IPv6 to many': of6({ destination: 'ff02::1' }),
    'IPv6 by nobody': of6({ source: '::' }),
    'not IP': composeFrame([ethernet(0x88b5)], payloadOf(1500)),
    cut: frameOf(1500).subarray(0, 30),
  };
  for (const [name, frame] of Object.entries(silent)) expect([name, ask(frame)]).toEqual([name, null]);
  expect(ask(frameOf(1500), 551)).toBe(null);
  expect(ask(of6({}), 1279)).toBe(null);
  const echo = header(Icmpv4, { kind: 'echo-request', code: 0, identifier: 1, sequence: 1 });
  const ping = composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.ICMPV4), echo], payloadOf(1500));
  expect(ask(ping)).not.toBe(null);
  // The pool is empty now.
  expect(ask(ping)).toBe(null);
});
