import { expect, test } from 'vitest';
import { Fragment, HeaderOffsets, MAXIMUM_EXTENSION_HEADERS, Malformed, malformedName } from './dissect.ts';
import { PacketPool } from './pool.ts';
import { EtherType, IpProtocol } from './wire/numbers.ts';
import { fuzzRounds, mutate, randomNumbers } from './wire/testing.ts';

const MACS = '02000000000a02000000000b';
const IPV4 = '4500002800010000400600000a0000010a000002';
const IPV6_ADDRESSES = 'fd000000000000000000000000000001fd000000000000000000000000000002';
const TCP = '1f9000500000000100000000500220000000 0000'.replace(' ', '');

const headers = new HeaderOffsets();

function parse(hex: string): number {
  const frame = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  return headers.parseBytes(frame, 0, frame.length);
}

/** An IPv6 frame of one header chain: the first next-header number and the bytes behind the fixed header. */
function ipv6(next: string, payload: string): string {
  const length = (payload.length / 2).toString(16).padStart(4, '0');
  return `${MACS}86dd60000000${length}${next}40${IPV6_ADDRESSES}${payload}`;
}

test('TCP over IPv4 is found, padding behind it left out', () => {
  expect(parse(`${MACS}0800${IPV4}${TCP}000000000000`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({
    etherType: EtherType.IPV4,
    tagCount: 0,
    l3Offset: 14,
    l3End: 54,
    ipVersion: 4,
    ipProtocol: IpProtocol.TCP,
    fragment: Fragment.NONE,
    l4Offset: 34,
    payloadOffset: 54,
    sourcePort: 8080,
    destinationPort: 80,
  });
});

test('a packet inside a region is parsed at its own place', () => {
  const pool = new PacketPool({ packets: 2, bufferBytes: 256, headroomBytes: 32 });
  pool.allocate();
  const packet = pool.allocate();
  if (packet === null) throw new Error('a fresh pool is empty');
  const frame = Buffer.from(`${MACS}0800${IPV4}${TCP}`, 'hex');
  packet.bytes.set(frame, packet.offset);
  packet.length = frame.length;
  expect(headers.parse(packet)).toBe(Malformed.NOTHING);
  expect(headers.l4Offset).toBe(34);
  packet.length = 53;
  expect(headers.parse(packet)).toBe(Malformed.IPV4_TOTAL_LENGTH);
});

test('eight tags are read, a ninth is one too many; the first two are kept', () => {
  expect(parse(`${MACS}88a8 0064 8100 2005 0800${IPV4}${TCP}`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({
    tagCount: 2,
    outerTpid: EtherType.SERVICE_VLAN,
    outerTci: 100,
    innerTci: 0x2005,
    l3Offset: 22,
    l4Offset: 42,
  });
  expect(parse(`${MACS}88a8 0064 8100 2005 ${'8100 0001'.repeat(6)} 0800${IPV4}${TCP}`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ tagCount: 8, outerTci: 100, innerTci: 0x2005, l3Offset: 46, destinationPort: 80 });
  expect(parse(`${MACS}88a8 0064 8100 2005 ${'8100 0001'.repeat(7)} 0800${IPV4}${TCP}`)).toBe(Malformed.TOO_MANY_TAGS);
  expect(headers).toMatchObject({ tagCount: 8, etherType: EtherType.VLAN, l3Offset: -1 });
  expect(parse(`${MACS}8100 0064 08`)).toBe(Malformed.TAG_TRUNCATED);
});

test('IPv6 extension headers are stepped over', () => {
  const hopByHop = '2b00050200000000';
  const routing = '3300040000000000';
  const authentication = '3c0400000000000100000001000000000000000000000000';
  const destination = '0600010400000000';
  expect(parse(ipv6('00', hopByHop + routing + authentication + destination + TCP))).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({
    ipVersion: 6,
    ipProtocol: IpProtocol.TCP,
    routingOffset: 62,
    fragmentOffset: -1,
    l4Offset: 102,
    destinationPort: 80,
  });
});

test('fragments say which they are, and only the first has ports', () => {
  expect(
    parse(`${MACS}0800 45000028000120004011 0000 0a0000010a000002 1f9000500100 0000 000000000000000000000000`),
  ).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ fragment: Fragment.FIRST, sourcePort: 8080 });
  expect(
    parse(`${MACS}0800 45000028000120054011 0000 0a0000010a000002 1f9000500014 0000 000000000000000000000000`),
  ).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ fragment: Fragment.LATER, sourcePort: 0, l4Offset: 34, payloadOffset: -1 });
  expect(parse(ipv6('2c', `06000001 00000007${TCP}`.replace(' ', '')))).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ fragment: Fragment.FIRST, fragmentOffset: 54, l4Offset: 62, sourcePort: 8080 });
  expect(parse(ipv6('2c', `0600000900000007${TCP}`))).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ fragment: Fragment.LATER, ipProtocol: 6, sourcePort: 0 });
  expect(parse(ipv6('2c', `0600000000000007${TCP}`))).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ fragment: Fragment.NONE, sourcePort: 8080 });
});

test('ICMP and ICMPv6 give type and code', () => {
  expect(parse(`${MACS}0800 4500001c000000004001 0000 0a0000010a000002 0301000000000000`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ icmpType: 3, icmpCode: 1, sourcePort: 0, payloadOffset: 38 });
  expect(parse(ipv6('3a', '8800000000000000'))).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ icmpType: 136, icmpCode: 0 });
});

test('802.3 frames are told apart: bare LLC, and SNAP with an EtherType', () => {
  expect(parse(`${MACS}0003 424203 0000`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ etherType: EtherType.LLC, l3Offset: 14, l3End: 17 });
  expect(parse(`${MACS}0030 aaaa03000000 0800 ${IPV4}${TCP}`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ etherType: EtherType.IPV4, l3Offset: 22, destinationPort: 80 });
  expect(parse(`${MACS}0030 4242`)).toBe(Malformed.LLC_LENGTH);
});

test('SNAP is followed under either organization code, and tags are followed inside it', () => {
  expect(parse(`${MACS}0030 aaaa030000f8 0800 ${IPV4}${TCP}`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ etherType: EtherType.IPV4, destinationPort: 80 });
  expect(parse(`${MACS}8100 0001 0034 aaaa03000000 8100 0002 0800 ${IPV4}${TCP}`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ tagCount: 2, outerTci: 1, innerTci: 2, l3Offset: 30, destinationPort: 80 });
  expect(parse(`${MACS}0030 aaaa0300000c 0800 ${IPV4}${TCP}`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ etherType: EtherType.LLC, ipVersion: 0 });
  expect(parse(`${MACS}000a aaaa03000000 8100 0002 0800`)).toBe(Malformed.TAG_TRUNCATED);
});

test('an authentication header of IPv4 is stepped over, and one that does not fit is malformed', () => {
  const ip = IPV4.replace('45000028', '45000034').replace('4006', '4033');
  expect(parse(`${MACS}0800${ip} 06010000 00000001 00000001 ${TCP}`)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({
    ipProtocol: IpProtocol.TCP,
    authenticationOffset: 34,
    l4Offset: 46,
    destinationPort: 80,
  });
  expect(parse(`${MACS}0800${ip} 06200000 00000001 00000001 ${TCP}`)).toBe(Malformed.EXTENSION_TRUNCATED);
  expect(parse(`${MACS}0800${ip.replace('45000034', '45000018')} 06010000`)).toBe(Malformed.EXTENSION_TRUNCATED);
});

test.each([
  ['02000000', Malformed.ETHERNET_TRUNCATED],
  [`${MACS}0800${IPV4.slice(0, 38)}`, Malformed.IPV4_TRUNCATED],
  [`${MACS}08006${IPV4.slice(1)}${TCP}`, Malformed.IPV4_VERSION],
  [`${MACS}080044${IPV4.slice(2)}${TCP}`, Malformed.IPV4_HEADER_LENGTH],
  [`${MACS}08004f${IPV4.slice(2)}${TCP}`, Malformed.IPV4_HEADER_LENGTH],
  [`${MACS}08004500001 3${IPV4.slice(8)}${TCP}`, Malformed.IPV4_TOTAL_LENGTH],
  [`${MACS}0800${IPV4}${TCP.slice(2)}`, Malformed.IPV4_TOTAL_LENGTH],
  [`${MACS}86dd60`, Malformed.IPV6_TRUNCATED],
  [ipv6('06', TCP).replace('86dd6', '86dd4'), Malformed.IPV6_VERSION],
  [ipv6('06', TCP).slice(0, -2), Malformed.IPV6_PAYLOAD_LENGTH],
  [ipv6('00', '06ff000000000000'), Malformed.EXTENSION_TRUNCATED],
  [ipv6('00', '0600'), Malformed.EXTENSION_TRUNCATED],
  [ipv6('3c', '3c00000000000000'.repeat(MAXIMUM_EXTENSION_HEADERS + 1)), Malformed.TOO_MANY_EXTENSIONS],
  [`${MACS}08060001080006040001`, Malformed.ARP_TRUNCATED],
  [ipv6('06', TCP.slice(2)), Malformed.TRANSPORT_TRUNCATED],
  [ipv6('06', TCP.replace('5002', '4002')), Malformed.TCP_DATA_OFFSET],
  [ipv6('06', TCP.replace('5002', '6002')), Malformed.TCP_DATA_OFFSET],
  [ipv6('11', '0001000200070000'), Malformed.UDP_LENGTH],
  [ipv6('11', '0001000200090000'), Malformed.UDP_LENGTH],
])('frame %s is malformed in the way %i', (hex, malformed) => {
  expect(parse(hex)).toBe(malformed);
});

test('a packet without an Ethernet header is read as behind one', () => {
  const pool = new PacketPool({ packets: 1, bufferBytes: 256 });
  const packet = pool.allocate();
  if (packet === null) throw new Error('the pool is empty');
  const bytes = Buffer.from(`${IPV4}${TCP}`, 'hex');
  packet.bytes.set(bytes, packet.offset);
  packet.length = bytes.length;
  expect(headers.parseLayer3(packet, EtherType.IPV4)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ l3Offset: 0, l3End: 40, l4Offset: 20, payloadOffset: 40, destinationPort: 80 });
  expect(headers.parseLayer3(packet, EtherType.IPV6)).toBe(Malformed.IPV6_VERSION);
  expect(headers.parseLayer3(packet, 0x88b5)).toBe(Malformed.NOTHING);
  expect(headers).toMatchObject({ ipVersion: 0, etherType: 0x88b5, l3End: 40, l4Offset: -1 });
});

test('every way to be malformed has a name', () => {
  expect(malformedName(Malformed.IPV4_TOTAL_LENGTH)).toBe('ipv4-total-length');
  expect(malformedName(99)).toBe('malformed-99');
});

test('whatever the bytes, offsets stay within the frame and in order', () => {
  const random = randomNumbers(20260101);
  const seeds = [
    `${MACS}0800${IPV4}${TCP}`,
    `${MACS}88a8006481002005${ipv6('00', `2b000502000000003300040000000000${TCP}`).slice(24)}`,
    ipv6('2c', `0600000100000007${TCP}`),
    `${MACS}08060001080006040001${'00'.repeat(20)}`,
  ].map((hex) => Buffer.from(hex, 'hex'));
  for (let round = fuzzRounds(50_000); round > 0; round -= 1) {
    const frame = mutate(seeds[random(seeds.length)], random);
    const malformed = headers.parseBytes(frame, 0, frame.length);
    const { l3Offset, l3End, l4Offset, payloadOffset } = headers;
    const ordered =
      (l3Offset === -1 || (l3Offset >= 14 && l3Offset <= l3End && l3End <= frame.length)) &&
      (l4Offset === -1 || (l4Offset > l3Offset && l4Offset <= l3End)) &&
      (payloadOffset === -1 || (payloadOffset > l4Offset && payloadOffset <= l3End)) &&
      (malformed !== Malformed.NOTHING || l3Offset !== -1);
    if (!ordered) expect.fail(`offsets out of order for ${Buffer.from(frame).toString('hex')}`);
  }
});
