/**
 * Which addresses and ports a new connection gets: network address translation decided once, when the connection is made, and kept in its two tuples. Every packet follows from
 * these (rewrite.ts). A choice is good when nobody else's packets come back by the same tuple; where there is none left, it is said.
 */
import { parseIpv4Into, parseIpv6Into } from '../net/index.ts';
import type { ConnectionTable } from './table.ts';
import { hasPorts, isIcmp, kindOf, Tuple, TupleWord } from './tuple.ts';

type PortChoice = 'own' | 'hash' | 'random';

/** Where one end of a connection may be moved to. */
export interface NatTarget {
  /** First and last address, as text, of one family. Left out, or all zeros, the address stays and the port changes only if it must. */
  readonly addresses?: readonly [first: string, last: string];
  /** First and last port, or identifier of ICMP. */
  readonly ports?: readonly [first: number, last: number];
  /** How a port is chosen: the packet's own when it is free (the default), or another one in any case, by a hash of the ends or at random. */
  readonly choice?: PortChoice;
  /** The same source gets the same address in all zones, and as a destination too, whatever it speaks to; and after a restart. */
  readonly isPersistent?: boolean;
}

/** Addresses of a range that are used; of a larger one, the first ones. */
const MOST_ADDRESSES = 2 ** 32;
/** Ports that are tried for one address, and addresses that are tried. Smaller ranges are tried to the end. */
const PORT_TRIES = 256;
const ADDRESS_TRIES = 8;

/** A {@link NatTarget} that was checked. Made once for an action. */
export class NatRange {
  readonly isIpv6: boolean;
  /** Addresses there are; 0 where the address stays. */
  readonly addresses: number;
  readonly firstPort: number;
  /** 0 where no ports are given. */
  readonly ports: number;
  readonly choice: PortChoice;
  readonly isPersistent: boolean;
  readonly #first = new Int32Array(4);

  /** @throws RangeError when the range is none */
  constructor(target: NatTarget) {
    this.choice = target.choice ?? 'own';
    this.isPersistent = target.isPersistent ?? false;
    this.isIpv6 = target.addresses?.[0].includes(':') ?? false;
    const [first, last] = (target.addresses ?? ['0.0.0.0', '0.0.0.0']).map((text) => addressNumber(text, this.isIpv6));
    if (last < first) throw new RangeError(`an address range ends before it begins: ${target.addresses?.join(' to ')}`);
    const isKept = first === 0n && last === 0n;
    this.addresses = isKept ? 0 : Math.min(Number(last - first + 1n), MOST_ADDRESSES);
    for (let i = 0; i < 4; i += 1) {
      // An IPv4 address is the first of the four words.
      const shift = this.isIpv6 ? BigInt(96 - i * 32) : 0n;
      this.#first[i] = this.isIpv6 || i === 0 ? Number(BigInt.asIntN(32, first >> shift)) : 0;
    }
    const [firstPort, lastPort] = target.ports ?? [0, -1];
    if (target.ports !== undefined) {
      const arePorts = [firstPort, lastPort].every((port) => Number.isInteger(port) && port >= 0 && port <= 0xffff);
      if (!arePorts || lastPort < firstPort) {
        throw new RangeError(`ports are a range from 0 to 65535, not ${firstPort} to ${lastPort}`);
      }
    }
    this.firstPort = firstPort;
    this.ports = lastPort - firstPort + 1;
  }

  /** Write the address of a number into the words of a tuple. @param at its first word */
  writeAddress(index: number, words: Int32Array, at: number): void {
    if (!this.isIpv6) {
      words[at] = this.#first[0] + index;
      return;
    }
    let carry = index;
    for (let i = 3; i >= 0; i -= 1) {
      const sum = (this.#first[i] >>> 0) + carry;
      words[at + i] = sum | 0;
      carry = sum > 0xffff_ffff ? 1 : 0;
    }
  }

  /** The number of the address in the words of a tuple, or -1 when it is not of the range. */
  indexOf(words: Int32Array, at: number): number {
    if (!this.isIpv6) {
      const index = (words[at] >>> 0) - (this.#first[0] >>> 0);
      return index >= 0 && index < this.addresses ? index : -1;
    }
    let index = 0;
    for (let i = 0; i < 4; i += 1) index = index * 2 ** 32 + ((words[at + i] >>> 0) - (this.#first[i] >>> 0));
    return index >= 0 && index < this.addresses ? index : -1;
  }
}

/** What an action does to new connections; packets of translated ones are translated in any case. */
export interface NatSettings {
  readonly source: NatRange | null;
  readonly destination: NatRange | null;
}

function addressNumber(text: string, isIpv6: boolean): bigint {
  const bytes = new Uint8Array(isIpv6 ? 16 : 4);
  if (!(isIpv6 ? parseIpv6Into(text, bytes, 0) : parseIpv4Into(text, bytes, 0))) {
    throw new RangeError(`"${text}" is no ${isIpv6 ? 'IPv6' : 'IPv4'} address`);
  }
  return bytes.reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

/** Chooses for new connections of a table. */
export class NatChooser {
  readonly #table: ConnectionTable;
  readonly #random: () => number;
  readonly #tuple = new Tuple();
  readonly #inverse = new Tuple();
  readonly #scratch = new Tuple();
  #now = 0;

  /** @param random numbers from 0 to below 1 */
  constructor(table: ConnectionTable, random: () => number) {
    this.#table = table;
    this.#random = random;
  }

  /**
   * Choose for a connection.
   * @param original its tuple as it comes
   * @param reply gets the tuple of packets that come back
   * @param now a 32-bit time in milliseconds
   * @returns false when there is nothing left to choose
   */
  choose(original: Tuple, nat: NatSettings, reply: Tuple, now: number): boolean {
    const tuple = this.#tuple;
    this.#now = now;
    tuple.copy(original);
    if (nat.destination !== null && !this.#move(tuple, nat.destination, TupleWord.DESTINATION, nat.source !== null)) {
      return false;
    }
    if (nat.source !== null && !this.#move(tuple, nat.source, TupleWord.SOURCE, false)) return false;
    return reply.invert(tuple);
  }

  /**
   * For a connection that goes on as a tuple, or, when another connection's packets come back that way, from another port.
   * @param reply gets the tuple of packets that come back; it may be the tuple itself
   */
  chooseFree(tuple: Tuple, reply: Tuple, now: number): boolean {
    this.#now = now;
    this.#tuple.copy(tuple);
    if (!this.#isFree(this.#tuple) && !this.#changeSourcePort(this.#tuple, 'own')) return false;
    return reply.invert(this.#tuple);
  }

  #isFree(tuple: Tuple): boolean {
    return this.#inverse.invert(tuple) && this.#table.find(this.#inverse, this.#now) === 0;
  }

  /** @param isOneOfTwo whether the other end is moved next, so that a clash is no matter yet */
  #move(tuple: Tuple, range: NatRange, side: number, isOneOfTwo: boolean): boolean {
    if (range.addresses > 0 && range.isIpv6 !== tuple.isIpv6) return false;
    // A destination is chosen anew even if it is one of the range's: as in Linux, the source alone may stay.
    const isOneOfRange =
      range.addresses === 0 || (side === TupleWord.SOURCE && range.indexOf(tuple.words, side) !== -1);
    const mayStay = range.choice === 'own' && isOneOfRange;
    if (mayStay && this.#isInPorts(tuple, range, side) && (isOneOfTwo || this.#isFree(tuple))) return true;
    const first = range.addresses <= 1 ? 0 : this.#pick(tuple, range, side);
    const tries = Math.max(Math.min(range.addresses, ADDRESS_TRIES), 1);
    for (let i = 0; i < tries; i += 1) {
      if (range.addresses > 0) range.writeAddress((first + i) % range.addresses, tuple.words, side);
      if (this.#choosePort(tuple, range, side, isOneOfTwo)) return true;
    }
    return false;
  }

  /**
   * The address by a hash, so that it does not depend on what was before. A source has one public address for all it speaks to: it goes by the source's address alone. A destination
   * goes by both addresses, where it need not be the same for all. Protocol and ports count in neither, and the zone not where it is to be persistent.
   */
  #pick(tuple: Tuple, range: NatRange, side: number): number {
    const scratch = this.#scratch;
    scratch.copy(tuple);
    scratch.kind = kindOf(range.isPersistent ? 0 : tuple.zone, 0, tuple.isIpv6);
    scratch.words[TupleWord.PORTS] = 0;
    if (range.isPersistent || side === TupleWord.SOURCE) scratch.words.fill(0, TupleWord.DESTINATION);
    return Math.floor(((this.#table.hash(scratch) >>> 0) * range.addresses) / 2 ** 32);
  }

  #isInPorts(tuple: Tuple, range: NatRange, side: number): boolean {
    if (range.ports === 0 || !canMovePort(tuple, side)) return true;
    const port = side === TupleWord.SOURCE ? tuple.sourcePort : tuple.destinationPort;
    return port >= range.firstPort && port < range.firstPort + range.ports;
  }

  #choosePort(tuple: Tuple, range: NatRange, side: number, isOneOfTwo: boolean): boolean {
    if (!canMovePort(tuple, side)) return isOneOfTwo || this.#isFree(tuple);
    if (range.ports === 0) {
      const mayStay = side === TupleWord.DESTINATION || range.choice === 'own';
      if (isOneOfTwo || (mayStay && this.#isFree(tuple))) return true;
      // A destination keeps its port: it is the service. Another source port tells the connections apart.
      return this.#changeSourcePort(tuple, range.choice);
    }
    if (range.choice === 'own' && this.#isInPorts(tuple, range, side) && (isOneOfTwo || this.#isFree(tuple))) {
      return true;
    }
    const start = this.#startPort(tuple, range, side);
    for (let i = 0; i < Math.min(range.ports, PORT_TRIES); i += 1) {
      const port = range.firstPort + ((start + i) % range.ports);
      if (side === TupleWord.SOURCE) tuple.sourcePort = port;
      else tuple.destinationPort = port;
      if (isOneOfTwo || this.#isFree(tuple)) return true;
    }
    return side === TupleWord.DESTINATION && this.#changeSourcePort(tuple, 'own');
  }

  #startPort(tuple: Tuple, range: NatRange, side: number): number {
    if (range.choice !== 'own') return this.#place(tuple, range.choice, range.ports);
    // A destination goes to the first one that is free. A source port goes where its number says, so that it is the same for other destinations.
    if (side === TupleWord.DESTINATION) return 0;
    return (tuple.sourcePort + range.ports - (range.firstPort % range.ports)) % range.ports;
  }

  /** A place among some, by a hash of the ends or at random. */
  #place(tuple: Tuple, choice: PortChoice, count: number): number {
    return choice === 'hash' ? (this.#table.hash(tuple) >>> 0) % count : Math.floor(this.#random() * count);
  }

  /** Another source port of the same class: privileged ones stay so. */
  #changeSourcePort(tuple: Tuple, choice: PortChoice): boolean {
    if (!canMovePort(tuple, TupleWord.SOURCE)) return false;
    const own = tuple.sourcePort;
    const isId = !hasPorts(tuple.protocol);
    const first = isId ? 0 : own < 512 ? 1 : own < 1024 ? 600 : 1024;
    const last = isId || own >= 1024 ? 0xffff : own < 512 ? 511 : 1023;
    const count = last - first + 1;
    const start = this.#place(tuple, choice, count);
    for (let i = 0; i < Math.min(count, PORT_TRIES); i += 1) {
      tuple.sourcePort = first + ((start + i) % count);
      if (this.#isFree(tuple)) return true;
    }
    return false;
  }
}

/** Whether the port of an end can be another: ICMP has one identifier for both ends, which counts as the source's. */
function canMovePort(tuple: Tuple, side: number): boolean {
  if (hasPorts(tuple.protocol)) return true;
  return side === TupleWord.SOURCE && isIcmp(tuple.protocol, tuple.isIpv6);
}
