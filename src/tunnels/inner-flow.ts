/**
 * What the outer header takes from the packet inside: its TOS, where its layer 3 is, and a hash of the flow that it belongs to, from which the outer UDP source port and
 * IPv6 flow label follow, so that routers spread flows and keep each in order.
 *
 * The hash is HalfSipHash-1-3 with a secret, so that nobody outside can have flows fall together or learn inner ports from outer ones, over these words. Both directions
 * of a flow have the same: its lower end comes first, ends being compared as unsigned addresses, then ports.
 *
 *      IPv4      lower address, other address, lower end's port 16 | other port 16, protocol
 *      IPv6      lower address (4), other address (4), ports, protocol
 *      others    MAC addresses as in the frame (3), EtherType; without an Ethernet header the EtherType alone
 *
 * Ports are those of TCP, UDP and SCTP; 0 for others and for fragments.
 */
import { type HashSecret, hashWords } from '../flow/index.ts';
import { Fragment, HeaderOffsets, type Packet } from '../net/index.ts';

/** First port that outer packets come from, as of Linux and Open vSwitch. */
export const FIRST_SOURCE_PORT = 32_768;
/** How many there are: up to 60,999. */
const SOURCE_PORTS = 61_000 - FIRST_SOURCE_PORT;

/** Reads inner packets; made once. */
export class InnerFlow {
  readonly headers = new HeaderOffsets();
  readonly #words = new Uint32Array(10);
  readonly #secret: HashSecret;
  /** TOS or traffic class; 0 for what is not IP. */
  tos = 0;
  /** 32 bits, signed. */
  hash = 0;

  constructor(secret: HashSecret) {
    this.#secret = secret;
  }

  /** @param l3Type EtherType of a packet without an Ethernet header, 0 for frames */
  read(packet: Packet, l3Type: number): void {
    const { headers } = this;
    if (l3Type === 0) headers.parse(packet);
    else headers.parseLayer3(packet, l3Type);
    const words = this.#words;
    const { view } = packet.region;
    this.tos = 0;
    let count = 0;
    if (headers.ipVersion === 4) {
      const ip = packet.offset + headers.l3Offset;
      this.tos = packet.bytes[ip + 1];
      words[0] = view.getUint32(ip + 12);
      words[1] = view.getUint32(ip + 16);
      count = this.#ends(1);
    } else if (headers.ipVersion === 6) {
      const ip = packet.offset + headers.l3Offset;
      this.tos = (view.getUint16(ip) >>> 4) & 0xff;
      for (let i = 0; i < 8; i += 1) words[i] = view.getUint32(ip + 8 + i * 4);
      count = this.#ends(4);
    } else {
      if (l3Type === 0 && packet.length >= 12) {
        for (; count < 3; count += 1) words[count] = view.getUint32(packet.offset + count * 4);
      }
      words[count] = headers.etherType;
      count += 1;
    }
    this.hash = hashWords(words, 0, count, this.#secret);
  }

  /** Put the lower end first and add ports and protocol. @param size words of an address @returns how many words there are */
  #ends(size: number): number {
    const { headers } = this;
    const words = this.#words;
    const isWhole = headers.fragment === Fragment.NONE;
    const source = isWhole ? headers.sourcePort : 0;
    const destination = isWhole ? headers.destinationPort : 0;
    let i = 0;
    while (i < size && words[i] === words[size + i]) i += 1;
    const isSwapped = i < size ? words[i] > words[size + i] : source > destination;
    if (isSwapped) {
      for (let k = i; k < size; k += 1) {
        const word = words[k];
        words[k] = words[size + k];
        words[size + k] = word;
      }
    }
    words[2 * size] = isSwapped ? (destination << 16) | source : (source << 16) | destination;
    words[2 * size + 1] = headers.ipProtocol;
    return 2 * size + 2;
  }

  /** The UDP or TCP port that the outer packet comes from. */
  get sourcePort(): number {
    return FIRST_SOURCE_PORT + (((this.hash >>> 0) * SOURCE_PORTS * 2 ** -32) | 0);
  }

  /** The outer IPv6 flow label (RFC 6438), never 0: that would say that there is none. */
  get flowLabel(): number {
    return this.hash & 0xf_ffff || 1;
  }
}
