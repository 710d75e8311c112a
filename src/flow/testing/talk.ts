/** For tests only: what hosts say to each other, with right checksums. Host n has the address 10.0.0.n and the MAC address 02:00:00:00:00:0n. */
import fc from 'fast-check';
import { internetChecksum } from '../../net/index.ts';
import { ethernet, icmp, ipv4, tcp, udp } from './frames.ts';

/** TCP flags. */
export const SYN = 0x02;
export const ACK = 0x10;

/** @param rest from the EtherType on */
export function frameOf(from: number, to: number, rest: readonly number[]): Uint8Array {
  const bytes = [2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, ...rest];
  while (bytes.length < 60) bytes.push(0);
  return Uint8Array.from(bytes);
}

const addresses = (from: number, to: number) => [10, 0, 0, from, 10, 0, 0, to];

export function ip(from: number, to: number, protocol: number, payload: readonly number[], fragment = 0): Uint8Array {
  const packet = ipv4(protocol, payload, { src: `10.0.0.${from}`, dst: `10.0.0.${to}`, fragment });
  return frameOf(from, to, ethernet(0x0800, packet).slice(12));
}

type Ports = readonly [source: number, destination: number];

/** @param says the payload; nothing when left out */
export function segment(from: number, to: number, flags: number, [src, dst]: Ports, says = ''): Uint8Array {
  const payload = [...Buffer.from(says)];
  return ip(from, to, 6, tcp({ src, dst, flags, payload, addresses: addresses(from, to) }));
}

export function datagram(from: number, to: number, [src, dst]: Ports): Uint8Array {
  return ip(from, to, 17, udp({ src, dst, addresses: addresses(from, to) }));
}

/** An ICMP error from a host about a packet that came to it. */
export function unreachable(from: number, to: number, about: Uint8Array): Uint8Array {
  const message = Uint8Array.from([3, 1, 0, 0, 0, 0, 0, 0, ...about.subarray(14, 42)]);
  const sum = internetChecksum(message, 0, message.length);
  message[2] = sum >>> 8;
  message[3] = sum & 255;
  return ip(from, to, 1, [...message]);
}

const FLAGS: Readonly<Record<string, number>> = { syn: SYN, synack: SYN | ACK, ack: ACK, fin: 0x11, rst: 0x04 };
const KINDS = [...Object.keys(FLAGS), 'udp', 'echo', 'answer', 'piece', 'error', 'other'];

/** One thing that a host may say to another. */
export const saying = fc.record({
  from: fc.constantFrom(1, 2, 3),
  to: fc.constantFrom(1, 2, 3),
  kind: fc.constantFrom(...KINDS),
  client: fc.integer({ min: 1, max: 2 }),
  isBack: fc.boolean(),
});

type Saying = typeof saying extends fc.Arbitrary<infer T> ? T : never;

export function frameFor({ from, to, kind, client, isBack }: Saying): Uint8Array {
  const ports: Ports = isBack ? [80, 4000 + client] : [4000 + client, 80];
  const flags = FLAGS[kind];
  if (flags !== undefined) return segment(from, to, flags, ports);
  switch (kind) {
    case 'udp':
      return datagram(from, to, ports);
    case 'echo':
      return ip(from, to, 1, icmp(8, 0));
    case 'answer':
      return ip(from, to, 1, icmp(0, 0));
    case 'piece':
      return ip(from, to, 17, udp({ addresses: addresses(from, to) }), 0x2000);
    case 'error':
      return unreachable(from, to, datagram(to, from, [ports[1], ports[0]]));
    default:
      return frameOf(from, to, [0x88, 0xb5]);
  }
}

/** Sets of states that a rule may have; undefined: none. */
export const ruleStates = fc.option(
  fc.uniqueArray(fc.constantFrom('new', 'established', 'related', 'invalid'), { minLength: 1 }),
  { nil: undefined },
);
