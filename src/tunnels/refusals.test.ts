/** Each way in which a tunnel packet can be wrong has its name, and leaves packet and key as they were; what is nobody's tunnel is left to others. */
import { expect, test } from 'vitest';
import { TunnelFlag, TunnelOptions } from '../flow/index.ts';
import {
  Batch,
  Checksum,
  completeChecksum,
  composeFrame,
  EtherType,
  fragmentPacket,
  Gso,
  HeaderOffsets,
  header,
  IpProtocol,
  internetChecksum,
  type Packet,
  VlanTag,
} from '../net/index.ts';
import { Decapsulator } from './decapsulate.ts';
import { TunnelWord } from './key.ts';
import { TunnelKind, TunnelPort, TunnelPorts } from './port.ts';
import { TUNNEL_RESULTS, tunnelResultName } from './result.ts';
import {
  encapsulatorOf,
  ethernet,
  hex,
  ipv4,
  packetOf,
  pathOf,
  payloadOf,
  smallPool,
  tcp,
  udp,
  udpFrame,
  wordsOf,
} from './testing.ts';
import { geneveFrame, greFrame, l4Of, vxlanFrame } from './testing-outer.ts';

function portsOf(...ports: TunnelPort[]): TunnelPorts {
  const all = new TunnelPorts();
  for (const port of ports) expect(all.add(port)).toBe(true);
  return all;
}

const usual = () => [TunnelKind.VXLAN, TunnelKind.GENEVE, TunnelKind.GRE].map((kind) => new TunnelPort({ kind }));

/** The name of what becomes of a frame; unless it is taken, packet and words are as before. */
function resultOf(frame: Uint8Array, change: (packet: Packet) => void = () => {}, ports = usual()): string {
  const packet = packetOf(frame);
  change(packet);
  const before = {
    bytes: packet.bytes.slice(),
    offset: packet.offset,
    length: packet.length,
    checksum: packet.checksum,
  };
  const words = new Uint32Array(77);
  const result = new Decapsulator(portsOf(...ports)).decapsulate(packet, words);
  if (result !== 0) {
    const { bytes, offset, length, checksum } = packet;
    expect({ bytes, offset, length, checksum }).toEqual(before);
    expect(words).toEqual(new Uint32Array(77));
  }
  return tunnelResultName(result);
}

/** A copy with some bytes written over; the outer UDP checksum is taken out, so that it is not what is wrong. */
function edited(frame: Uint8Array, edits: Record<number, number>, udpAt = 34): Uint8Array {
  const copy = frame.slice();
  if (copy[23] === 17) copy.fill(0, udpAt + 6, udpAt + 8);
  for (const [at, value] of Object.entries(edits)) copy[Number(at)] = value;
  if (copy[12] === 8) {
    copy.fill(0, 24, 26);
    const sum = internetChecksum(copy, 14, 20);
    copy[24] = sum >>> 8;
    copy[25] = sum;
  }
  return copy;
}

const vxlan = vxlanFrame();
const geneve = geneveFrame();
const gre = greFrame();
const v6 = vxlanFrame(udpFrame(), { isIpv6: true });

test.each([vxlan, geneve, gre, v6])('sound frames are taken', (frame) => {
  expect(resultOf(frame)).toBe('done');
});

test('what is not for a tunnel is left to others', () => {
  const tagged = composeFrame(
    [
      ethernet(EtherType.VLAN),
      header(VlanTag, { priority: 0, dropEligible: false, vlanId: 5, etherType: EtherType.IPV4 }),
    ],
    vxlan.subarray(14),
  );
  const cases = {
    plain: udpFrame(),
    tcp: composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.TCP), tcp(1000, 4789)]),
    short: vxlan.subarray(0, 10),
    ipLength: edited(vxlan, { 16: 0xff }),
    tagged,
  };
  for (const [name, frame] of Object.entries(cases)) expect([name, resultOf(frame)]).toEqual([name, 'not-tunnelled']);
  expect(resultOf(vxlan, undefined, [])).toBe('not-tunnelled');
  expect(resultOf(gre, undefined, [])).toBe('not-tunnelled');
  expect(resultOf(vxlan, undefined, [new TunnelPort({ kind: TunnelKind.VXLAN, transportPort: 4790 })])).toBe(
    'not-tunnelled',
  );
});

test('the lengths of outer headers', () => {
  // Total length, UDP length, and packets cut at each byte of their headers.
  expect(resultOf(edited(vxlan, { 38: 0xff }))).toBe('bad-length');
  expect(resultOf(edited(vxlan, { 38: 0, 39: 7 }))).toBe('bad-length');
  expect(resultOf(edited(vxlan, { 38: 0, 39: 15 }))).toBe('bad-length');
  expect(resultOf(edited(vxlan, { 38: 0, 39: 16 + 13 }))).toBe('bad-length');
  expect(resultOf(edited(vxlan, { 38: 0, 39: 16 + 14 }))).toBe('done');
  for (const frame of [vxlan, geneve, gre]) {
    // Up to the last byte of the Ethernet header inside.
    const headers = frame === gre ? 34 + 8 + 14 : 34 + 8 + 8 + 14;
    for (let length = 38; length < headers; length += 1) {
      const cut = edited(frame, {
        16: (length - 14) >>> 8,
        17: length - 14,
        ...(frame === gre ? {} : { 38: 0, 39: Math.max(8, length - 34) }),
      });
      expect([length, resultOf(cut.subarray(0, length))]).toEqual([length, 'bad-length']);
    }
  }
});

test('checksums: of IPv4, of UDP, of GRE', () => {
  const wrongIp = vxlan.slice();
  wrongIp[22] ^= 1;
  expect(resultOf(wrongIp)).toBe('bad-checksum');
  for (const frame of [vxlan, v6, geneve]) {
    const wrong = frame.slice();
    wrong[wrong.length - 1] ^= 1;
    expect(resultOf(wrong)).toBe('bad-checksum');
    // Whoever has checked vouches for it, as does who has yet to write it.
    expect(resultOf(wrong, (packet) => Object.assign(packet, { checksum: Checksum.VALID }))).toBe('done');
    const l4 = frame === v6 ? 54 : 34;
    const partial = { checksum: Checksum.PARTIAL, checksumStart: l4, checksumOffset: 6 };
    expect(resultOf(wrong, (packet) => Object.assign(packet, partial))).toBe('done');
    wrong.fill(0, l4 + 6, l4 + 8);
    expect(resultOf(wrong)).toBe('done');
  }
  const summed = greFrame(udpFrame(), {}, { hasChecksum: true });
  expect(resultOf(summed)).toBe('done');
  summed[summed.length - 1] ^= 1;
  expect(resultOf(summed)).toBe('bad-checksum');
});

test('flags, versions and reserved bits as Linux treats them', () => {
  const at = 42;
  expect(resultOf(edited(vxlan, { [at]: 0 }))).toBe('bad-flags');
  for (let bit = 0; bit < 64; bit += 1) {
    // The I flag and the identifier aside, bits of VXLAN are 0.
    const byte = at + (bit >>> 3);
    if (byte >= at + 4 && byte < at + 7) continue;
    const wanted = bit === 4 ? 'bad-flags' : bit >>> 3 === 0 ? 'bad-flags' : 'bad-flags';
    expect([bit, resultOf(edited(vxlan, { [byte]: vxlan[byte] ^ (0x80 >>> (bit & 7)) }))]).toEqual([bit, wanted]);
  }
  // With group policy G and all of its three bytes may be set; no other flag and not the last byte.
  const policy = [new TunnelPort({ kind: TunnelKind.VXLAN, groupPolicy: true })];
  expect(resultOf(edited(vxlan, { [at]: 0x88, [at + 1]: 0xff, [at + 2]: 1, [at + 3]: 2 }), undefined, policy)).toBe(
    'done',
  );
  expect(resultOf(edited(vxlan, { [at]: 0x0c }), undefined, policy)).toBe('bad-flags');
  expect(resultOf(edited(vxlan, { [at + 7]: 1 }), undefined, policy)).toBe('bad-flags');
  expect(resultOf(edited(geneve, { [at]: 0x40 }))).toBe('bad-flags');
  expect(resultOf(edited(geneve, { [at + 1]: 0x3f, [at + 7]: 0xff }))).toBe('done');
  expect(resultOf(edited(gre, { 34: 0x60 }))).toBe('bad-flags');
  expect(resultOf(edited(gre, { 35: 1 }))).toBe('bad-flags');
  expect(resultOf(edited(gre, { 34: 0x2f, 35: 0xf8 }))).toBe('done');
});

test('options of Geneve that do not add up, and critical ones that nobody knows', () => {
  const data = new Uint8Array(4);
  const withOptions = geneveFrame(udpFrame(), {}, [
    { optionClass: 0x102, type: 0x80, data },
    { optionClass: 0x103, type: 1, data },
  ]);
  expect(resultOf(withOptions)).toBe('done');
  expect(resultOf(edited(withOptions, { [50 + 11]: 2 }))).toBe('malformed-option');
  expect(resultOf(edited(withOptions, { [50 + 11]: 31 }))).toBe('malformed-option');
  expect(resultOf(edited(withOptions, { 42: 3 }))).toBe('malformed-option');
  // Options longer than the packet.
  expect(resultOf(edited(withOptions, { 42: 63 }))).toBe('bad-length');
  const knowing = (...known: number[]) => [new TunnelPort({ kind: TunnelKind.GENEVE, criticalOptions: known })];
  expect(resultOf(withOptions, undefined, knowing())).toBe('unknown-critical-option');
  expect(resultOf(withOptions, undefined, knowing(0x0103_80, 0x0102_00))).toBe('unknown-critical-option');
  expect(resultOf(withOptions, undefined, knowing(0x0102_80))).toBe('done');
});

test('what is inside has to be what the tunnel carries', () => {
  const layer3 = (kind: number) => [new TunnelPort({ kind, layer3: true })];
  const packet = udpFrame().subarray(14);
  for (const [kind, frame] of [
    [TunnelKind.GENEVE, geneveFrame(packet, {}, [], EtherType.IPV4)],
    [TunnelKind.GRE, greFrame(packet, {}, { protocol: EtherType.IPV4 })],
  ] as const) {
    expect(resultOf(frame)).toBe('unknown-protocol');
    expect(resultOf(frame, undefined, layer3(kind))).toBe('done');
  }
  expect(resultOf(greFrame(packet, {}, { protocol: 0x88be }), undefined, layer3(TunnelKind.GRE))).toBe(
    'unknown-protocol',
  );
  expect(
    resultOf(greFrame(new Uint8Array(0), {}, { protocol: EtherType.IPV4 }), undefined, layer3(TunnelKind.GRE)),
  ).toBe('bad-length');
});

test('sources that no host has', () => {
  for (const source of ['0.0.0.0', '224.0.0.1', '255.255.255.255']) {
    expect(resultOf(vxlanFrame(udpFrame(), { source }))).toBe('bad-source');
  }
  for (const source of ['::', 'ff02::1']) {
    expect(resultOf(geneveFrame(udpFrame(), { source, isIpv6: true }))).toBe('bad-source');
  }
});

test('fragments are named, those of others are left alone', () => {
  const headers = new HeaderOffsets();
  const fragments = (frame: Uint8Array) => {
    const packet = packetOf(frame);
    headers.parse(packet);
    const out = new Batch();
    expect(fragmentPacket(packet, headers, 600, 1, smallPool(), out)).toBe(0);
    return out.packets.slice(0, out.count).map((each) => each.frame().slice());
  };
  const big = udpFrame(1000);
  for (const frame of [vxlanFrame(big), geneveFrame(big, { isIpv6: true }), greFrame(big)]) {
    expect(fragments(frame).map((each) => resultOf(each))).toEqual(['fragment', 'fragment']);
  }
  expect(fragments(udpFrame(1000)).map((each) => resultOf(each))).toEqual(['not-tunnelled', 'fragment']);
  expect(fragments(udpFrame(1000)).map((each) => resultOf(each, undefined, []))).toEqual([
    'not-tunnelled',
    'not-tunnelled',
  ]);
});

test('congestion that cannot be told is a drop; all else is joined inside, behind tags as well', () => {
  const inner = (ecn: number) => udpFrame(20, { ecn });
  expect(resultOf(vxlanFrame(inner(0), { tos: 3 }))).toBe('congestion');
  expect(resultOf(vxlanFrame(inner(0), { tos: 3, isIpv6: true }))).toBe('congestion');
  const tag = header(VlanTag, { priority: 0, dropEligible: false, vlanId: 5, etherType: EtherType.IPV4 });
  const tagged = (ecn: number) =>
    composeFrame([ethernet(EtherType.VLAN), tag, ipv4(IpProtocol.UDP, { ecn }), udp()], payloadOf(9));
  for (const make of [inner, tagged]) {
    for (const [inside, outside, joined] of [
      [2, 3, 3],
      [2, 1, 1],
      [1, 3, 3],
      [3, 0, 3],
      [0, 2, 0],
    ]) {
      const packet = packetOf(vxlanFrame(make(inside), { tos: outside }));
      const decapsulator = new Decapsulator(portsOf(...usual()));
      expect(decapsulator.decapsulate(packet, new Uint32Array(77))).toBe(0);
      expect(packet.frame()).toEqual(make(joined));
    }
  }
});

test('metadata that contradicts the headers', () => {
  const set = (metadata: Partial<Packet>) => (packet: Packet) => void Object.assign(packet, metadata);
  const partial = (checksumStart: number, checksumOffset = 6) => ({
    checksum: Checksum.PARTIAL,
    checksumStart,
    checksumOffset,
  });
  // In the outer IP header, in the VXLAN header, behind the end.
  for (const start of [14, 42, vxlan.length - 4, -1, 1.5])
    expect([start, resultOf(vxlan, set(partial(start)))]).toEqual([start, 'bad-offload']);
  expect(resultOf(vxlan, set({ ...partial(34), gsoType: Gso.TCPV4, gsoSizeBytes: 100 }))).toBe('bad-offload');
  expect(resultOf(vxlan, set({ gsoType: 7, gsoSizeBytes: 100 }))).toBe('bad-offload');
  expect(resultOf(vxlan, set({ ...partial(34), gsoType: Gso.UDP_L4, gsoSizeBytes: 10 }))).toBe('segment-first');
  expect(resultOf(vxlan, set({ gsoType: Gso.UDP_L4, gsoSizeBytes: 10 }))).toBe('segment-first');
});

test('a super-packet inside comes out as one, and what was said of the outer datagram ends with it', () => {
  const frame = composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.TCP), tcp()], payloadOf(3000));
  const packet = packetOf(vxlanFrame(frame));
  Object.assign(packet, {
    checksum: Checksum.PARTIAL,
    checksumStart: 50 + 34,
    checksumOffset: 16,
    gsoType: Gso.TCPV4 | Gso.ECN,
    gsoSizeBytes: 1000,
    headerLengthBytes: 104,
  });
  const decapsulator = new Decapsulator(portsOf(...usual()));
  expect(decapsulator.decapsulate(packet, new Uint32Array(77))).toBe(0);
  const { checksum, checksumStart, checksumOffset, gsoType, gsoSizeBytes, headerLengthBytes } = packet;
  expect({ checksum, checksumStart, checksumOffset, gsoType, gsoSizeBytes, headerLengthBytes }).toEqual({
    checksum: Checksum.PARTIAL,
    checksumStart: 34,
    checksumOffset: 16,
    gsoType: Gso.TCPV4 | Gso.ECN,
    gsoSizeBytes: 1000,
    headerLengthBytes: 54,
  });
  const datagram = packetOf(vxlanFrame());
  Object.assign(datagram, {
    checksum: Checksum.PARTIAL,
    checksumStart: 34,
    checksumOffset: 6,
    gsoType: Gso.UDP,
    gsoSizeBytes: 40,
  });
  expect(decapsulator.decapsulate(datagram, new Uint32Array(77))).toBe(0);
  expect([datagram.gsoType, datagram.gsoSizeBytes, datagram.checksum]).toEqual([Gso.NONE, 0, Checksum.UNKNOWN]);
});

test('padding behind the outer packet does not come out', () => {
  const packet = packetOf(Uint8Array.from([...greFrame(), 0, 0, 0, 0, 0, 0]));
  expect(new Decapsulator(portsOf(...usual())).decapsulate(packet, new Uint32Array(77))).toBe(0);
  expect(packet.frame()).toEqual(udpFrame());
});

test('group policy in the key is what the header may carry', () => {
  const packet = packetOf(edited(vxlan, { 42: 0x88, 43: 0xff, 44: 0x12, 45: 0x34 }));
  const words = new Uint32Array(77);
  const port = new TunnelPort({ kind: TunnelKind.VXLAN, groupPolicy: true });
  expect(new Decapsulator(portsOf(port)).decapsulate(packet, words)).toBe(0);
  expect([words[TunnelWord.IP] & 0xff, words[TunnelWord.OPTIONS], words[TunnelWord.FLAGS]]).toEqual([
    TunnelOptions.VXLAN_GBP,
    0x0048_1234,
    (TunnelFlag.KEY << 16) | (4 << 8),
  ]);
});

test('a transport port belongs to one tunnel, and goes back to nobody', () => {
  const ports = portsOf(...usual());
  const again = new TunnelPort({ kind: TunnelKind.GENEVE, transportPort: 4789 });
  expect([ports.add(again), ports.add(new TunnelPort({ kind: TunnelKind.GRE })), ports.remove(again)]).toEqual([
    false,
    false,
    false,
  ]);
  const first = ports.udp(4789);
  if (first === null) throw new Error('the VXLAN port is not there');
  expect([ports.remove(first), ports.udp(4789), ports.add(again), ports.udp(4789)]).toEqual([true, null, true, again]);
  expect(() => new TunnelPort({ kind: 9 })).toThrow('no kind of tunnel 9');
  expect(() => new TunnelPort({ kind: TunnelKind.GRE, transportPort: 5 })).toThrow('no transport port 5');
  expect(() => new TunnelPort({ kind: TunnelKind.VXLAN, transportPort: 65_536 })).toThrow('no transport port 65536');
});

test('what cannot be encapsulated is refused by name, and is as it was', () => {
  const vxlanPort = new TunnelPort({ kind: TunnelKind.VXLAN });
  const genevePort = new TunnelPort({ kind: TunnelKind.GENEVE });
  const refused = (
    port: TunnelPort,
    words: Uint32Array,
    options: { l3Type?: number; headroom?: number; change?: (packet: Packet) => void; frame?: Uint8Array } = {},
  ) => {
    const packet = packetOf(options.frame ?? udpFrame(), options.headroom);
    options.change?.(packet);
    const before = [packet.bytes.slice(), packet.offset, packet.length, packet.checksumStart];
    const result = encapsulatorOf().encapsulate(packet, options.l3Type ?? 0, port, words, 0, pathOf());
    expect([packet.bytes.slice(), packet.offset, packet.length, packet.checksumStart]).toEqual(before);
    return tunnelResultName(result);
  };
  expect(refused(vxlanPort, wordsOf({}), { headroom: 49 })).toBe('no-headroom');
  expect(refused(vxlanPort, wordsOf({}), { l3Type: EtherType.IPV4 })).toBe('unknown-protocol');
  expect(refused(vxlanPort, wordsOf({}), { frame: hex('0011') })).toBe('bad-length');
  expect(refused(vxlanPort, wordsOf({ destination: '0.0.0.0' }))).toBe('bad-key');
  expect(refused(vxlanPort, wordsOf({ destination: '::' }))).toBe('bad-key');
  expect(refused(vxlanPort, new Uint32Array(77))).toBe('bad-key');
  expect(refused(genevePort, wordsOf({ options: hex('0102 81 02 deadbeef') }))).toBe('malformed-option');
  const superPacket = (packet: Packet) => void Object.assign(packet, { gsoType: Gso.TCPV4, gsoSizeBytes: 100 });
  expect(refused(vxlanPort, wordsOf({}), { change: superPacket })).toBe('segment-first');
  const sctp = (packet: Packet) =>
    void Object.assign(packet, { checksum: Checksum.PARTIAL, checksumStart: 34, checksumOffset: 8 });
  expect(refused(vxlanPort, wordsOf({ flags: TunnelFlag.CHECKSUM }), { change: sctp })).toBe('segment-first');
});

test('source ports spread flows, keep each flow, and are the same for both of its directions', () => {
  const port = new TunnelPort({ kind: TunnelKind.VXLAN });
  const encapsulator = encapsulatorOf();
  const sourcePortOf = (frame: Uint8Array) => {
    const packet = packetOf(frame);
    encapsulator.encapsulate(packet, 0, port, wordsOf({}), 0, pathOf());
    return packet.region.view.getUint16(packet.offset + l4Of());
  };
  const there = (a: string, b: string, x: number, y: number, length = 20) =>
    composeFrame(
      [ethernet(EtherType.IPV4), ipv4(IpProtocol.UDP, { source: a, destination: b }), udp(x, y)],
      payloadOf(length),
    );
  const seen = new Set<number>();
  for (let i = 0; i < 200; i += 1) {
    const source = sourcePortOf(there('10.0.0.1', '10.0.0.2', i, 53));
    expect(source).toBeGreaterThanOrEqual(32_768);
    expect(source).toBeLessThan(61_000);
    expect(sourcePortOf(there('10.0.0.2', '10.0.0.1', 53, i))).toBe(source);
    expect(sourcePortOf(there('10.0.0.1', '10.0.0.2', i, 53, 30))).toBe(source);
    seen.add(source);
  }
  expect(seen.size).toBeGreaterThan(190);
});

test('every result has a name of its own', () => {
  const names = Array.from({ length: TUNNEL_RESULTS }, (_, result) => tunnelResultName(result));
  expect(new Set(names).size).toBe(TUNNEL_RESULTS);
  expect(names.every((name) => /^[a-z-]+$/.test(name))).toBe(true);
});

test('frames that net/ has composed come out whole when their checksum is finished by it', () => {
  const packet = packetOf(vxlanFrame());
  completeChecksum(packet);
  expect(new Decapsulator(portsOf(...usual())).decapsulate(packet, new Uint32Array(77))).toBe(0);
  expect(packet.frame()).toEqual(udpFrame());
});
