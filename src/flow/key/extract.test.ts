import { afterEach, beforeEach, expect, test } from 'vitest';
import { Gso, type Packet, PacketPool, toKeyPort } from '../../net/index.ts';
import {
  arp,
  ethernet,
  freePackets,
  fuzzRounds,
  hex,
  icmp,
  icmpv6,
  ipv4,
  ipv6,
  packetOf,
  randomNumbers,
  sctp,
  tcp,
  udp,
} from '../testing/frames.ts';
import { Extraction, extract } from './extract.ts';
import { FlowKey } from './key.ts';
import { ExtensionHeader, Sound, Word } from './layout.ts';

const key = new FlowKey();
let free = 0;

beforeEach(() => {
  free = freePackets();
});
afterEach(() => {
  expect(freePackets()).toBe(free);
});

/** Extract and give back the words, with the packet changed first if asked. */
function extracted(bytes: readonly number[] | Uint8Array, change: (packet: Packet) => void = () => {}): Uint32Array {
  const packet = packetOf(bytes);
  change(packet);
  key.begin(toKeyPort(7));
  expect(extract(packet, key)).toBe(Extraction.DONE);
  packet.release();
  return key.words;
}

const target = hex('20010db8000000000000000000000009');

const ports = (words: Uint32Array) => [words[Word.PORTS] >>> 16, words[Word.PORTS] & 0xffff];
const ipWord = (words: Uint32Array) => [
  words[Word.IP] >>> 24,
  (words[Word.IP] >>> 16) & 0xff,
  (words[Word.IP] >>> 8) & 0xff,
  words[Word.IP] & 0xff,
];

test('a TCP packet fills addresses, protocol, ports and flags, and says where its headers are', () => {
  const words = extracted(ethernet(0x0800, ipv4(6, tcp({ flags: 0x12 }), { tos: 3, ttl: 9 })));
  expect(words[Word.IN_PORT]).toBe(7);
  expect(words[Word.ETH_TYPE]).toBe(0x0800_0000 | Sound.NETWORK | Sound.TRANSPORT);
  expect(words.slice(Word.MAC, Word.MAC + 3)).toEqual(Uint32Array.of(0x0200_0000, 0x0002_0200, 0x0000_0001));
  expect(ipWord(words)).toEqual([6, 3, 9, 0]);
  expect(words[Word.IPV4_SOURCE]).toBe(0x0a00_0001);
  expect(words[Word.IPV4_DESTINATION]).toBe(0x0a00_0002);
  expect(ports(words)).toEqual([1000, 80]);
  expect(words[Word.TCP_FLAGS]).toBe(0x0012_0000);
  expect([key.l3Offset, key.l4Offset]).toEqual([14, 34]);
});

test('two tags are kept with their TPIDs and the CFI bit set, a third is the EtherType', () => {
  const words = extracted(
    ethernet(0x0800, ipv4(17, udp()), [
      [0x88a8, 5],
      [0x8100, 0x6007],
    ]),
  );
  expect(words[Word.VLAN]).toBe(0x88a8_1005);
  expect(words[Word.INNER_VLAN]).toBe(0x8100_7007);
  expect(ports(words)).toEqual([1000, 53]);
  const three = extracted(
    ethernet(0x0800, ipv4(17, udp()), [
      [0x8100, 1],
      [0x8100, 2],
      [0x8100, 3],
    ]),
  );
  expect(three[Word.ETH_TYPE]).toBe(0x8100_0000);
  expect(three[Word.IP]).toBe(0);
});

test('a frame that ends inside its tag is a frame of EtherType 0x8100 without a tag', () => {
  const words = extracted(ethernet(0x0800, [], [[0x8100, 5]]).slice(0, 16));
  expect([words[Word.VLAN], words[Word.ETH_TYPE]]).toEqual([0, 0x8100_0000]);
});

test('a bad IPv4 header leaves all of layer 3 zero, and the packet goes on', () => {
  const short = extracted(ethernet(0x0800, ipv4(6, tcp()).slice(0, 19)));
  expect([short[Word.IP], short[Word.IPV4_SOURCE], short[Word.PORTS]]).toEqual([0, 0, 0]);
  const badLength = ethernet(0x0800, ipv4(6, tcp()));
  badLength[14] = 0x44;
  expect(extracted(badLength)[Word.IPV4_SOURCE]).toBe(0);
  badLength[14] = 0x4f;
  expect(extracted(badLength.slice(0, 60))[Word.IPV4_SOURCE]).toBe(0);
});

test('a first fragment has ports, a later one has none', () => {
  const first = extracted(ethernet(0x0800, ipv4(17, udp(), { fragment: 0x2000 })));
  expect([ipWord(first)[3], ...ports(first)]).toEqual([1, 1000, 53]);
  const later = extracted(ethernet(0x0800, ipv4(17, udp(), { fragment: 0x2003 })));
  expect([ipWord(later)[0], ipWord(later)[3], ...ports(later)]).toEqual([17, 2, 0, 0]);
  expect(key.l4Offset).toBe(-1);
});

test('a super-packet of UDP fragmentation counts as a first fragment', () => {
  const words = extracted(ethernet(0x0800, ipv4(17, udp())), (packet) => {
    packet.gsoType = Gso.UDP;
  });
  expect(ipWord(words)[3]).toBe(1);
});

test('a truncated transport header leaves ports and flags zero but keeps the protocol', () => {
  for (const [protocol, header] of [
    [6, tcp()],
    [17, udp()],
    [132, sctp()],
    [1, icmp(8, 0)],
  ] as const) {
    const words = extracted(ethernet(0x0800, ipv4(protocol, header.slice(0, 7))));
    expect([ipWord(words)[0], words[Word.PORTS], words[Word.TCP_FLAGS]]).toEqual([protocol, 0, 0]);
  }
  const badOffset = tcp();
  badOffset[12] = 0x40;
  expect(extracted(ethernet(0x0800, ipv4(6, badOffset)))[Word.PORTS]).toBe(0);
});

test('ICMP type and code lie where ports would; SCTP has ports', () => {
  expect(ports(extracted(ethernet(0x0800, ipv4(1, icmp(8, 3)))))).toEqual([8, 3]);
  expect(ports(extracted(ethernet(0x0800, ipv4(132, sctp()))))).toEqual([1000, 2000]);
});

test('ARP fills addresses and an operation of one byte; another hardware type fills nothing', () => {
  const words = extracted(ethernet(0x0806, arp(2)));
  expect(ipWord(words)[0]).toBe(2);
  expect(words.slice(Word.IPV4_SOURCE, Word.ARP_MAC + 3)).toEqual(
    Uint32Array.of(0x0a00_0001, 0x0a00_0002, 0x0200_0000, 0x0001_0000, 0),
  );
  expect(ipWord(extracted(ethernet(0x0806, arp(0x0102))))[0]).toBe(0);
  const other = ethernet(0x0806, arp());
  other[15] = 6;
  expect(extracted(other)[Word.IPV4_SOURCE]).toBe(0);
});

test('MPLS keeps three labels and counts those up to the bottom of the stack', () => {
  const two = extracted(ethernet(0x8847, hex('00005040 00007140')));
  expect(two.slice(Word.MPLS, Word.MPLS + 3)).toEqual(Uint32Array.of(0x5040, 0x7140, 0));
  expect(two[Word.MPLS_LABELS]).toBe(0b11);
  const five = extracted(ethernet(0x8847, hex('00001040 00002040 00003040 00004040 00005140')));
  expect(five[Word.MPLS_LABELS]).toBe(0b111);
  const bottomless = extracted(ethernet(0x8847, hex('00001040 00002040')));
  expect([bottomless[Word.MPLS], bottomless[Word.MPLS_LABELS]]).toEqual([0x1040, 0]);
});

test('IPv6 fills addresses, traffic class, label and hop limit', () => {
  const words = extracted(ethernet(0x86dd, ipv6(17, udp(), { classAndLabel: 0x0ab1_2345, hopLimit: 3 })));
  expect(words[Word.IPV6_SOURCE]).toBe(0x2001_0db8);
  expect(words[Word.IPV6_DESTINATION + 3]).toBe(2);
  expect(words[Word.IPV6_LABEL]).toBe(0x1_2345);
  expect(ipWord(words)).toEqual([17, 0xab, 3, 0]);
  expect(key.l4Offset).toBe(54);
});

test('IPv6 extension headers are stepped over and noted', () => {
  const chain = [...hex('2b00000000000000'), ...hex('3c00000000000000'), ...hex('1100000000000000'), ...udp()];
  const words = extracted(ethernet(0x86dd, ipv6(0, chain)));
  expect([ipWord(words)[0], ...ports(words)]).toEqual([17, 1000, 53]);
  expect(words[Word.TCP_FLAGS] & 0xffff).toBe(
    ExtensionHeader.HOP_BY_HOP | ExtensionHeader.ROUTING | ExtensionHeader.DESTINATION | ExtensionHeader.OUT_OF_ORDER,
  );
});

test('of an IPv6 packet that ends inside its extension headers, or whose header goes beyond its end, only addresses are known', () => {
  for (const chain of [
    hex('3c05'),
    [...hex('1103000000000000'), ...udp()],
    [...hex('3300000000000000'), ...hex('11ff')],
  ]) {
    const words = extracted(ethernet(0x86dd, ipv6(0, chain, { classAndLabel: 0x0ab1_2345 })));
    expect(words[Word.IPV6_DESTINATION + 3]).toBe(2);
    expect([...ipWord(words), words[Word.IPV6_LABEL], words[Word.PORTS], words[Word.TCP_FLAGS]]).toEqual([
      0, 0, 0, 0, 0, 0, 0,
    ]);
    expect([key.l4Offset, key.l3End]).toEqual([-1, -1]);
  }
});

test('IPv6 fragments: the first has ports, a later one says protocol 44, an atomic one is a whole packet', () => {
  const first = extracted(ethernet(0x86dd, ipv6(44, [...hex('1100000100000001'), ...udp()])));
  expect([ipWord(first)[0], ipWord(first)[3], ...ports(first)]).toEqual([17, 1, 1000, 53]);
  const later = extracted(ethernet(0x86dd, ipv6(44, [...hex('1100001100000001'), ...udp()])));
  expect([ipWord(later)[0], ipWord(later)[3], ...ports(later)]).toEqual([44, 2, 0, 0]);
  const atomic = extracted(ethernet(0x86dd, ipv6(44, [...hex('1100000000000001'), ...udp()])));
  expect([ipWord(atomic)[3], ...ports(atomic)]).toEqual([0, 1000, 53]);
  const reserved = extracted(ethernet(0x86dd, ipv6(44, [...hex('1100000400000001'), ...udp()])));
  expect(ipWord(reserved)[3]).toBe(1);
});

test('extension headers are followed to their end, however many there are', () => {
  const chain = Array.from({ length: 200 }, (_, i) => hex(i === 199 ? '1100000000000000' : '3c00000000000000')).flat();
  const words = extracted(ethernet(0x86dd, ipv6(60, [...chain, ...udp()])));
  expect([ipWord(words)[0], ...ports(words)]).toEqual([17, 1000, 53]);
  expect(words[Word.TCP_FLAGS] & 0xffff).toBe(ExtensionHeader.DESTINATION | ExtensionHeader.REPEATED);
});

/** A frame with another 16-bit number at a place. */
function withHalf(frame: readonly number[], at: number, value: number): number[] {
  return frame.with(at, value >>> 8).with(at + 1, value & 0xff);
}

const LAYER3_AND_4 = [Word.IP, Word.TUNNEL] as const;

test.each([
  ['IPv4, longer than the frame', 0x0800, ipv4(17, udp()), 16, 600],
  ['IPv4, shorter than its header', 0x0800, ipv4(17, udp()), 16, 10],
  ['IPv4, nothing', 0x0800, ipv4(6, tcp()), 16, 0],
  ['IPv6, longer than the frame', 0x86dd, ipv6(17, udp()), 18, 900],
] as const)('a length that lies leaves nothing of layers 3 and 4 in the key: %s', (_what, type, body, at, length) => {
  const words = extracted(withHalf(ethernet(type, body), at, length));
  expect(words[Word.ETH_TYPE]).toBe((type << 16) >>> 0);
  expect(words.slice(...LAYER3_AND_4).every((word) => word === 0)).toBe(true);
  expect([key.l3Offset, key.l4Offset, key.l3End]).toEqual([14, -1, -1]);
});

test.each([
  ['TCP', 0x0800, ipv4(6, tcp()), 16, 20 + 19],
  ['the options of TCP', 0x0800, ipv4(6, tcp().with(12, 0x60)), 16, 20 + 20],
  ['UDP', 0x0800, ipv4(17, udp()), 16, 20 + 7],
  ['SCTP', 0x0800, ipv4(132, sctp()), 16, 20 + 11],
  ['ICMP', 0x0800, ipv4(1, icmp(8, 3)), 16, 20 + 7],
  ['TCP over IPv6', 0x86dd, ipv6(6, tcp()), 18, 19],
  ['UDP over IPv6', 0x86dd, ipv6(17, udp()), 18, 7],
  ['ICMPv6', 0x86dd, ipv6(58, icmpv6(128, 3, [])), 18, 7],
] as const)('a transport header that goes on behind the IP packet is not read: %s', (_what, type, body, at, length) => {
  const whole = ethernet(type, [...body, ...new Array<number>(20).fill(0)]);
  const words = extracted(withHalf(whole, at, length));
  expect(ipWord(words)[2]).toBe(64);
  expect([words[Word.PORTS], words[Word.TCP_FLAGS]]).toEqual([0, 0]);
});

test('neighbour discovery ends where the IP packet does', () => {
  const body = [0, 0, 0, 0, ...target, ...hex('0101 020000000011')];
  const frame = ethernet(0x86dd, ipv6(58, icmpv6(135, 0, body)));
  const withoutOption = extracted(withHalf(frame, 18, 24));
  expect([withoutOption[Word.ND_TARGET + 3], withoutOption[Word.ND_MAC]]).toEqual([9, 0]);
  const withoutTarget = extracted(withHalf(frame, 18, 23));
  expect([...ports(withoutTarget), withoutTarget[Word.ND_TARGET + 3]]).toEqual([135, 0, 0]);
});

test('more padding than a length can tell of makes the length a lie', () => {
  const large = new PacketPool({ packets: 1, bufferBytes: 70_000, headroomBytes: 128 });
  for (const [padding, protocol] of [
    [0xffff, 17],
    [0x1_0000, 0],
  ]) {
    const packet = packetOf(ethernet(0x0800, ipv4(17, udp())), large);
    packet.length += padding;
    key.begin(toKeyPort(1));
    extract(packet, key);
    packet.release();
    expect(key.protocol).toBe(protocol);
  }
});

test('neighbour discovery gives target and both link-layer addresses', () => {
  const body = [0, 0, 0, 0, ...target, ...hex('0101 020000000011'), ...hex('0201 020000000022')];
  const words = extracted(ethernet(0x86dd, ipv6(58, icmpv6(135, 0, body))));
  expect(ports(words)).toEqual([135, 0]);
  expect(words[Word.ND_TARGET + 3]).toBe(9);
  expect(words.slice(Word.ND_MAC, Word.ND_MAC + 3)).toEqual(Uint32Array.of(0x0200_0000, 0x0011_0200, 0x0000_0022));
});

test('a link-layer address given twice voids the whole of neighbour discovery', () => {
  const body = [0, 0, 0, 0, ...target, ...hex('0101 020000000011'), ...hex('0101 020000000022')];
  const words = extracted(ethernet(0x86dd, ipv6(58, icmpv6(135, 0, body))));
  expect(words.slice(Word.ND_TARGET, Word.ND_MAC + 3).every((word) => word === 0)).toBe(true);
});

test('NSH of metadata type 1 fills base, path and context', () => {
  const header = hex('0fc6 01 03 000010ff 00000001 00000002 00000003 00000004');
  const words = extracted(ethernet(0x894f, header));
  expect(words[Word.NSH_BASE]).toBe(0x003f_0103);
  expect(words[Word.NSH_PATH]).toBe(0x0000_10ff);
  expect(words[Word.NSH_CONTEXT + 3]).toBe(4);
});

test('a broken NSH header and a frame shorter than Ethernet are refused', () => {
  const cases: [number[], number][] = [
    [ethernet(0x894f, hex('0fc6 01 03 0000')), Extraction.NSH_MALFORMED],
    [ethernet(0x894f, hex('4fc6 01 03 000010ff 00000001 00000002 00000003 00000004')), Extraction.NSH_MALFORMED],
    [ethernet(0x894f, hex('0fc2 05 03 000010ff')), Extraction.NSH_MALFORMED],
    [ethernet(0x894f, hex('0fc6 11 03 000010ff 00000001 00000002 00000003 00000004')), Extraction.NSH_MALFORMED],
    [hex('0200000000020200000000'), Extraction.ETHERNET_TRUNCATED],
  ];
  for (const [bytes, wanted] of cases) {
    const packet = packetOf(bytes);
    key.begin(toKeyPort(1));
    expect(extract(packet, key)).toBe(wanted);
    packet.release();
  }
});

test('802.3 frames: SNAP names an EtherType, anything else is LLC', () => {
  const snap = extracted(ethernet(36, [...hex('aaaa03 000000 0806'), ...arp()]));
  expect([snap[Word.ETH_TYPE], ipWord(snap)[0]]).toEqual([0x0806_0000 | Sound.NETWORK, 1]);
  expect(extracted(ethernet(3, hex('424203')))[Word.ETH_TYPE]).toBe(0x05ff_0000);
  // SNAP is read behind unnumbered information alone.
  expect(extracted(ethernet(36, [...hex('aaaa13 000000 0806'), ...arp()]))[Word.ETH_TYPE]).toBe(0x05ff_0000);
});

test('a packet without an Ethernet header is marked and parsed from its first byte', () => {
  const packet = packetOf(ipv4(17, udp()));
  key.begin(toKeyPort(1), 0x0800);
  expect(extract(packet, key)).toBe(Extraction.DONE);
  packet.release();
  expect(key.words[Word.ETH_TYPE]).toBe(0x0800_0001 | Sound.NETWORK | Sound.TRANSPORT);
  expect([key.l3Offset, key.l4Offset, ...ports(key.words)]).toEqual([0, 20, 1000, 53]);
});

test('metadata, connection and tunnel survive a second extraction; begin clears them', () => {
  extracted(ethernet(0x0806, arp()));
  key.words[Word.RECIRC_ID] = 5;
  key.words[Word.CT_MARK] = 6;
  key.words[Word.TUNNEL_ID + 1] = 7;
  key.hasTunnel = true;
  const packet = packetOf(ethernet(0x0800, ipv4(17, udp())));
  extract(packet, key);
  packet.release();
  expect([key.recircId, key.words[Word.CT_MARK], key.words[Word.TUNNEL_ID + 1]]).toEqual([5, 6, 7]);
  key.begin(toKeyPort(1));
  expect([key.recircId, key.words[Word.CT_MARK], key.words[Word.TUNNEL_ID + 1]]).toEqual([0, 0, 0]);
});

/** Frames that random ones are made from. */
const SEEDS = [
  ethernet(0x0800, ipv4(6, tcp())),
  ethernet(
    0x86dd,
    ipv6(0, [
      ...hex('2b00000000000000'),
      ...hex('3a00000000000000'),
      ...icmpv6(135, 0, [0, 0, 0, 0, ...target, ...hex('0101 020000000011')]),
    ]),
  ),
  ethernet(0x8847, hex('00001040 00002140')),
  ethernet(0x894f, hex('0fc6 01 03 000010ff 00000001 00000002 00000003 00000004')),
  ethernet(0x0806, arp(), [
    [0x88a8, 1],
    [0x8100, 2],
  ]),
];
test('what lies behind the IP packet never gets into the key', () => {
  const random = randomNumbers(3);
  const second = new FlowKey();
  let padded = 0;
  for (let round = fuzzRounds(20_000); round > 0; round -= 1) {
    const bytes = Uint8Array.from(SEEDS[random(2)]);
    // Low bytes of total and payload length, protocol, header lengths of transport and extensions.
    for (let change = random(3); change >= 0; change -= 1) {
      const at = [17, 17, 19, 19, 20, 23, 46, 54, 55, 62][random(10)];
      if (at < bytes.length) bytes[at] = random(2) === 0 ? random(bytes.length) : random(256);
    }
    const packet = packetOf(bytes);
    key.begin(toKeyPort(1));
    if (extract(packet, key) === Extraction.DONE && key.l3End !== -1 && key.l3End < packet.length) {
      padded += 1;
      packet.bytes.fill(random(256), packet.offset + key.l3End, packet.offset + packet.length);
      second.begin(toKeyPort(1));
      extract(packet, second);
      expect(second.words).toEqual(key.words);
      packet.length = key.l3End;
      extract(packet, second);
      expect(second.words).toEqual(key.words);
    }
    packet.release();
  }
  expect(padded).toBeGreaterThan(fuzzRounds(20_000) / 20);
});

test('no bytes make extraction read outside the packet or throw', () => {
  const random = randomNumbers(1);
  const second = new FlowKey();
  for (let round = fuzzRounds(20_000); round > 0; round -= 1) {
    const seed = SEEDS[random(SEEDS.length)];
    const bytes = Uint8Array.from(seed.slice(0, random(4) === 0 ? random(seed.length + 1) : seed.length));
    for (let change = random(6); change > 0 && bytes.length > 0; change -= 1) bytes[random(bytes.length)] = random(256);
    // The same frame before different surroundings: a key that differs has read outside of it.
    const packet = packetOf(bytes);
    packet.bytes.fill(0xff, packet.offset + packet.length, packet.limit);
    // Without a new beginning what the frame before has left must be cleared.
    if (random(2) === 0) key.begin(toKeyPort(1));
    const first = extract(packet, key);
    packet.bytes.fill(0x01, packet.offset + packet.length, packet.limit);
    second.begin(toKeyPort(1));
    expect(extract(packet, second)).toBe(first);
    packet.release();
    if (
      first === Extraction.DONE &&
      Buffer.compare(Buffer.from(key.words.buffer), Buffer.from(second.words.buffer)) !== 0
    ) {
      expect(second.words).toEqual(key.words);
    }
  }
});
