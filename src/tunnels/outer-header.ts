/**
 * The outer Ethernet and IP header of a packet that is encapsulated, written into its headroom. Neighbours: encapsulate.ts writes what follows, decapsulate.ts reads it all.
 * The formats are drawn in ipv4.ts of net/ and ipv6.ts of net/.
 */
import { TunnelFlag } from '../flow/index.ts';
import { ETHERNET_BYTES, EtherType, finishSum, foldSum, type HostPath, type Packet } from '../net/index.ts';
import { encapsulatedTos } from './ecn.ts';
import type { InnerFlow } from './inner-flow.ts';
import { TunnelWord } from './key.ts';

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;

/** Hop limit where the key says 0: that of Linux. */
const USUAL_TTL = 64;

const IDENTIFICATIONS = 2048;

/** Ethernet and IP header of an outer packet, by its IP version. */
export function outerHeaderBytes(version: number): number {
  return ETHERNET_BYTES + (version === 4 ? IPV4_BYTES : IPV6_BYTES);
}

/** Writes outer headers, and keeps what one needs of the one before: identifications. */
export class OuterHeader {
  /**
   * Counters of identifications, each for the remotes that fall to it, as in Linux' ip_idents: what goes to one remote does not come round sooner because others are
   * sent to.
   */
  readonly #identifications = new Uint16Array(IDENTIFICATIONS);
  /** An odd number that nobody outside knows. */
  readonly #factor: number;

  /** @param random for tests that must repeat: numbers from 0 to 1 */
  constructor(random: () => number = Math.random) {
    for (let i = 0; i < IDENTIFICATIONS; i += 1) this.#identifications[i] = random() * 0x1_0000;
    this.#factor = Math.floor(random() * 0x1_0000_0000) | 1;
  }

  /**
   * Write Ethernet and IP header. The packet begins at the Ethernet header already, and its length counts all that will be there.
   * @param words the tunnel's key, from `at` on
   * @param protocol of what follows the IP header
   * @returns the sum of the pseudo header without the length, folded
   */
  write(
    packet: Packet,
    words: Uint32Array,
    at: number,
    path: HostPath,
    inner: InnerFlow,
    protocol: number,
    copies: number,
  ): number {
    const { view } = packet.region;
    writeMacAddresses(packet, path);
    const isIpv4 = words[at + TunnelWord.IP] >>> 24 === 4;
    view.setUint16(packet.offset + ETHERNET_BYTES - 2, isIpv4 ? EtherType.IPV4 : EtherType.IPV6);
    return isIpv4
      ? this.#writeIpv4(packet, words, at, path, inner, protocol, copies)
      : writeIpv6(packet, words, at, path, inner, protocol);
  }

  /** Count identifications of IPv4 on, for packets that get theirs from another. */
  skip(words: Uint32Array, at: number, count: number): void {
    if (words[at + TunnelWord.IP] >>> 24 === 4) {
      this.#identifications[this.#counterOf(words[at + TunnelWord.DESTINATION])] += count;
    }
  }

  #counterOf(destination: number): number {
    return Math.imul(destination, this.#factor) >>> 21;
  }

  #writeIpv4(
    packet: Packet,
    words: Uint32Array,
    at: number,
    path: HostPath,
    inner: InnerFlow,
    protocol: number,
    copies: number,
  ): number {
    const { view } = packet.region;
    const ip = packet.offset + ETHERNET_BYTES;
    const keyIp = words[at + TunnelWord.IP];
    const named = words[at + TunnelWord.SOURCE];
    const source = named === 0 ? path.source[0] >>> 0 : named;
    const destination = words[at + TunnelWord.DESTINATION];
    const first = 0x4500 | encapsulatedTos((keyIp >>> 16) & 0xff, inner.tos);
    const length = packet.length - ETHERNET_BYTES;
    const counter = this.#counterOf(destination);
    const identification = this.#identifications[counter];
    this.#identifications[counter] = identification + copies;
    const fragment = ((words[at + TunnelWord.FLAGS] >>> 16) & TunnelFlag.DONT_FRAGMENT) !== 0 ? 0x4000 : 0;
    const ttlAndProtocol = (((keyIp >>> 8) & 0xff || USUAL_TTL) << 8) | protocol;
    const addresses = (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff);
    view.setUint16(ip, first);
    view.setUint16(ip + 2, length);
    view.setUint16(ip + 4, identification);
    view.setUint16(ip + 6, fragment);
    view.setUint16(ip + 8, ttlAndProtocol);
    view.setUint16(ip + 10, finishSum(first + length + identification + fragment + ttlAndProtocol + addresses));
    view.setUint32(ip + 12, source);
    view.setUint32(ip + 16, destination);
    return foldSum(addresses + protocol);
  }
}

function writeMacAddresses(packet: Packet, path: HostPath): void {
  const { bytes, offset } = packet;
  const { sourceMac, destinationMac } = path;
  for (let i = 0; i < 6; i += 1) {
    bytes[offset + i] = destinationMac[i];
    bytes[offset + 6 + i] = sourceMac[i];
  }
}

function writeIpv6(
  packet: Packet,
  words: Uint32Array,
  at: number,
  path: HostPath,
  inner: InnerFlow,
  protocol: number,
): number {
  const { view } = packet.region;
  const ip = packet.offset + ETHERNET_BYTES;
  const keyIp = words[at + TunnelWord.IP];
  const from = at + TunnelWord.SOURCE;
  const isNamed = (words[from] | words[from + 1] | words[from + 2] | words[from + 3]) !== 0;
  const trafficClass = encapsulatedTos((keyIp >>> 16) & 0xff, inner.tos);
  view.setUint32(ip, 0x6000_0000 | (trafficClass << 20) | inner.flowLabel);
  view.setUint16(ip + 4, packet.length - ETHERNET_BYTES - IPV6_BYTES);
  view.setUint16(ip + 6, (protocol << 8) | ((keyIp >>> 8) & 0xff || USUAL_TTL));
  let sum = protocol;
  for (let i = 0; i < 4; i += 1) {
    const source = isNamed ? words[from + i] : path.source[i] >>> 0;
    const destination = words[at + TunnelWord.DESTINATION + i];
    view.setUint32(ip + 8 + i * 4, source);
    view.setUint32(ip + 24 + i * 4, destination);
    sum += (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff);
  }
  return foldSum(sum);
}
