/**
 * What routers say of packets that were too long (ICMP "fragmentation needed", RFC 1191; ICMPv6 "packet too big", RFC 8201). Linux learns path MTU only for packets of its own
 * sockets: for UDP it looks for the socket that has sent one (__udp4_lib_err), and an outer packet of a tunnel has none, as its source port is a hash. So the errors are
 * read here as well, by a socket that gets nothing else, and count for paths that are in use.
 *
 * Anybody can send such an error. It is believed when the packet in it has an address of the host as its source, and down to the length below which Linux does not go either
 * (net.ipv4.route.min_pmtu; 1280 for IPv6).
 */
import type { LocalAddresses } from '../../net/index.ts';
import { type FileDescriptor, NativeBlock, receiveFrom, Socket, SystemError, setOption, socket } from '../sys/index.ts';
import type { TablesLoop } from './socket.ts';
import { fillWords } from './words.ts';

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const AF_INET6 = 10;
/** ICMP_FILTER at SOL_RAW and ICMP6_FILTER at SOL_ICMPV6 have the same number; each bit that is set keeps a type away. */
const SOL_RAW = 255;
const FILTER = 1;
const UNREACHABLE = 3;
const FRAGMENTATION_NEEDED = 4;
const PACKET_TOO_BIG = 2;
const MINIMUM_MTU = 552;
const MINIMUM_MTU_IPV6 = 1280;
const ICMP_BYTES = 8;
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
/** Errors that are read at a time. */
const SLICE = 16;
const DOING = 'listen to ICMP errors';

/** A socket that is given ICMP errors about length. */
export interface PathErrorSocket {
  readonly isIpv6: boolean;
  readonly fileDescriptor: number;
  /** @returns bytes received into the buffer, or -1 when there is nothing */
  receive(into: Uint8Array): number;
  close(): void;
}

/** Open one for a family, in the namespace of the thread. @throws SystemError */
export function openPathErrorSocket(isIpv6: boolean): PathErrorSocket {
  const descriptor = isIpv6
    ? socket(AF_INET6, Socket.RAW, IPPROTO_ICMPV6, DOING)
    : socket(Socket.AF_INET, Socket.RAW, IPPROTO_ICMP, DOING);
  try {
    const filter = new NativeBlock(32);
    filter.bytes.fill(0xff);
    const type = isIpv6 ? PACKET_TOO_BIG : UNREACHABLE;
    filter.u32[0] &= ~(1 << type);
    setOption(descriptor.number, isIpv6 ? IPPROTO_ICMPV6 : SOL_RAW, FILTER, filter, isIpv6 ? 32 : 4, DOING);
  } catch (error) {
    descriptor.close();
    throw error;
  }
  return new RawSocket(descriptor, isIpv6);
}

class RawSocket implements PathErrorSocket {
  readonly isIpv6: boolean;
  readonly #descriptor: FileDescriptor;
  /** struct sockaddr_in6 is the longer one. */
  readonly #sender = new NativeBlock(28);

  constructor(descriptor: FileDescriptor, isIpv6: boolean) {
    this.#descriptor = descriptor;
    this.isIpv6 = isIpv6;
  }

  get fileDescriptor(): number {
    return this.#descriptor.number;
  }

  receive(into: Uint8Array): number {
    return receiveFrom(this.#descriptor.number, into, 0, this.#sender, DOING);
  }

  close(): void {
    this.#descriptor.close();
  }
}

/**
 * Takes what routers have said.
 * @param destination of the packet that was too long
 */
export type TakePathMtu = (isIpv6: boolean, destination: Int32Array, mtuBytes: number) => void;

export class PathErrors {
  readonly #socket: PathErrorSocket;
  readonly #loop: TablesLoop;
  readonly #addresses: LocalAddresses;
  readonly #take: TakePathMtu;
  readonly #buffer = new Uint8Array(2048);
  readonly #source = new Int32Array(4);
  readonly #destination = new Int32Array(4);

  constructor(from: PathErrorSocket, loop: TablesLoop, addresses: LocalAddresses, take: TakePathMtu) {
    this.#socket = from;
    this.#loop = loop;
    this.#addresses = addresses;
    this.#take = take;
    loop.add(from.fileDescriptor, { onReady: () => this.#process(), onError: () => {} });
  }

  #process(): void {
    for (let taken = 0; taken < SLICE; taken += 1) {
      try {
        const length = this.#socket.receive(this.#buffer);
        if (length < 0) return;
        this.#read(this.#buffer.subarray(0, Math.min(length, this.#buffer.length)));
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        return;
      }
    }
  }

  #read(bytes: Uint8Array): void {
    const { isIpv6 } = this.#socket;
    // IPv4 comes with its header, IPv6 without.
    const at = isIpv6 ? 0 : (bytes[0] & 0xf) * 4;
    const inner = at + ICMP_BYTES;
    if (bytes.length < inner + (isIpv6 ? IPV6_BYTES : IPV4_BYTES)) return;
    const [type, code] = [bytes[at], bytes[at + 1]];
    if (isIpv6 ? type !== PACKET_TOO_BIG : type !== UNREACHABLE || code !== FRAGMENTATION_NEEDED) return;
    if (bytes[inner] >>> 4 !== (isIpv6 ? 6 : 4)) return;
    const [source, destination] = [this.#source, this.#destination];
    fillWords(source, isIpv6 ? bytes.subarray(inner + 8, inner + 24) : bytes.subarray(inner + 12, inner + 16));
    fillWords(destination, isIpv6 ? bytes.subarray(inner + 24, inner + 40) : bytes.subarray(inner + 16, inner + 20));
    if (!this.#addresses.has(isIpv6, source[0], source[1], source[2], source[3], 0)) return;
    const low = (bytes[at + 6] << 8) | bytes[at + 7];
    const mtuBytes = isIpv6 ? ((bytes[at + 4] << 24) | (bytes[at + 5] << 16) | low) >>> 0 : low;
    this.#take(isIpv6, destination, Math.max(mtuBytes, isIpv6 ? MINIMUM_MTU_IPV6 : MINIMUM_MTU));
  }

  /** Closing twice is harmless. */
  close(): void {
    if (this.#socket.fileDescriptor < 0) return;
    this.#loop.remove(this.#socket.fileDescriptor);
    this.#socket.close();
  }
}
