/**
 * For tests only: random frames whose fields come from a few values, so that filters hit them often. Neighbours: the tests of
 * this folder and of the filter and capture extensions.
 */
import { Packet, type PacketOwner } from '../packet.ts';
import { Region } from '../region.ts';
import { mutate } from '../wire/testing.ts';

const MACS = ['02000000000a', '02000000000b', 'ffffffffffff', '01005e000001'];
const IPV4 = ['0a000001', '0a000002', 'c0a80001', 'e0000001'];
const IPV6 = [
  'fd000000000000000000000000000001',
  'fd000000000000010000000000000002',
  'ff020000000000000000000000000001',
  '20010db8000000000000000000000001',
];
const PORTS = [22, 53, 80, 443, 8080, 65535];

type Random = (limit: number) => number;

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

function one<T>(list: readonly T[], random: Random): T {
  return list[random(list.length)];
}

function transport(protocol: number, random: Random): string {
  const ports = hex(one(PORTS, random), 4) + hex(one(PORTS, random), 4);
  if (protocol === 6) return `${ports}0000000100000000${hex(0x50, 2)}${hex(random(256), 2)}200000000000`;
  if (protocol === 17) return `${ports}000c000061626364`;
  if (protocol === 132) return `${ports}0000000000000000`;
  if (protocol === 1 || protocol === 58) return `${hex(one([0, 8, 128, 129, 135], random), 2)}00000012345678`;
  return '00000800abcdef';
}

function ipv4(random: Random): string {
  const protocol = one([1, 6, 6, 17, 17, 132, 47, 58], random);
  const fragment = one(['4000', '0000', '0000', '2000', '2005', '0010'], random);
  const payload = transport(protocol, random);
  const total = hex(20 + payload.length / 2, 4);
  return `0800 4500${total}0001${fragment}40${hex(protocol, 2)}0000${one(IPV4, random)}${one(IPV4, random)}${payload}`;
}

function ipv6(random: Random): string {
  const protocol = one([58, 6, 6, 17, 17, 132, 47, 1], random);
  let payload = transport(protocol, random);
  let next = protocol;
  const extension = random(6);
  if (extension === 0) {
    payload = `${hex(next, 2)}00000000000000${payload}`;
    next = 0;
  } else if (extension === 1) {
    payload = `${hex(next, 2)}00${one(['0000', '0001', '0009', '0040'], random)}00000001${payload}`;
    next = 44;
  }
  const length = hex(payload.length / 2, 4);
  return `86dd 60000000${length}${hex(next, 2)}40${one(IPV6, random)}${one(IPV6, random)}${payload}`;
}

function arp(random: Random): string {
  const request = `0806 0001080006040001${one(MACS, random)}${one(IPV4, random)}000000000000${one(IPV4, random)}`;
  return random(8) === 0 ? request.replace('00010800', '00010806') : request;
}

/** One frame; about one in five is damaged. */
export function randomFrame(random: Random): Uint8Array {
  const tags = one(
    ['', '', '', '8100000a', '81006014', '81000000', '88a80014 8100000a', '8100000a8100000a8100000a'],
    random,
  );
  const kind = random(10);
  let behind: string;
  if (kind < 4) behind = ipv4(random);
  else if (kind < 7) behind = ipv6(random);
  else if (kind === 7) behind = arp(random);
  else behind = one(['88cc0207040200', '0004aaaa0300', '0800', '8847000011ff'], random);
  const text = `${one(MACS, random)}${one(MACS, random)}${tags}${behind}`.replaceAll(' ', '');
  const frame = Uint8Array.from(Buffer.from(text, 'hex'));
  return random(5) === 0 ? mutate(frame, random) : frame;
}

const NOBODY: PacketOwner = { recycle() {} };

/** A packet of its own around a frame, not at the start of its memory. */
export function packetOf(frame: Uint8Array): Packet {
  const region = new Region(new ArrayBuffer(frame.length + 32));
  const packet = new Packet(NOBODY, region, 0);
  region.bytes.set(frame, 16);
  packet.offset = 16;
  packet.length = frame.length;
  packet.limit = 16 + frame.length;
  packet.references = 1;
  return packet;
}
