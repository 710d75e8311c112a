/**
 * Which IP addresses are bound to a port: fixed ones, and those that were learned from DHCP and neighbour discovery (RFC 7039). Neighbours: binding-check.ts
 * judges packets by them, binding-learn.ts finds them out.
 */
import { formatIpv4, formatIpv6, parseMac } from '../../net/index.ts';
import type { BindingProperty } from '../properties.ts';
import { type IpPrefix, parseIpPrefix, prefixMatches } from './acl.ts';
import { Exchanges } from './dhcp-exchanges.ts';
import { macText } from './station-macs.ts';

/** How long somebody else has to say that a claimed address is his (TENT_LT of RFC 6620). */
const TENTATIVE_MS = 500;
/** Timers are set for no longer. */
const LONGEST_TIMER_MS = 3_600_000;

/** What bindings need from the switch. */
export interface BindingHost {
  nowMs(): number;
  readonly setTimer?: ((delayMs: number, callback: () => void) => { cancel(): void }) | undefined;
  /** What was let in until now may be let in no longer. */
  changed(): void;
  /** The bindings of all ports. */
  all(): Iterable<AddressBinding>;
}

/** An address that somebody has, in a forwarding domain. IPv4 addresses are kept in their IPv4-mapped form. */
export interface Holding {
  readonly address: Uint8Array;
  readonly vlan: number;
  readonly macHigh: number;
  readonly macLow: number;
}

interface Entry extends Holding {
  readonly origin: 'dhcp' | 'nd';
  /** Before, somebody else may still object. */
  readonly validFromMs: number;
  expiresMs: number;
  usedMs: number;
  /** Nobody objected. */
  settled: boolean;
}

/** A binding, for people. */
export interface BindingInfo {
  readonly address: string;
  /** Null: any that the port may use. */
  readonly mac: string | null;
  readonly origin: 'fixed' | 'dhcp' | 'nd';
  /** Forwarding domain; null: all. */
  readonly vlan: number | null;
  /** Seconds until it ends; null: it stays. */
  readonly expiresInSeconds: number | null;
}

interface Fixed {
  readonly prefix: IpPrefix;
  readonly text: string;
  readonly mac: Uint8Array | null;
}

/** What a port has learned; it lives as long as the port is bound, whatever else of the property changes. */
class LearnedBindings {
  readonly #host: BindingHost;
  readonly entries: Entry[] = [];
  readonly exchanges = new Exchanges();
  #timer: { cancel(): void } | null = null;

  constructor(host: BindingHost) {
    this.#host = host;
  }

  add(entry: Entry): void {
    this.entries.push(entry);
    this.#schedule();
  }

  remove(isGone: (entry: Entry) => boolean): void {
    const before = this.entries.length;
    const kept = this.entries.filter((entry) => !isGone(entry));
    if (kept.length === before) return;
    this.entries.splice(0, before, ...kept);
    this.#schedule();
    this.#host.changed();
  }

  #schedule(): void {
    this.#timer?.cancel();
    this.#timer = null;
    let next = Number.POSITIVE_INFINITY;
    for (const entry of this.entries) next = Math.min(next, entry.settled ? entry.expiresMs : entry.validFromMs);
    if (next === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.min(Math.max(1, next - this.#host.nowMs()), LONGEST_TIMER_MS);
    this.#timer = this.#host.setTimer?.(delayMs, () => this.#due()) ?? null;
  }

  #due(): void {
    const now = this.#host.nowMs();
    this.remove((entry) => entry.expiresMs <= now);
    for (const entry of this.entries) {
      if (entry.settled || entry.validFromMs > now) continue;
      entry.settled = true;
      // Whoever had it has not objected.
      for (const other of this.#host.all()) if (other.learned !== this) other.release(entry);
    }
    this.#schedule();
  }
}

/** The bindings of one port. */
export class AddressBinding {
  readonly learnsDhcp: boolean;
  readonly learnsNd: boolean;
  readonly learned: LearnedBindings;
  readonly #host: BindingHost;
  readonly #fixed: readonly Fixed[];
  readonly #limit: number;

  /**
   * @param previous the bindings until now: what was learned is kept
   * @throws TypeError for an address that does not parse
   */
  constructor(property: BindingProperty, host: BindingHost, previous: AddressBinding | null) {
    this.learnsDhcp = property.dhcp;
    this.learnsNd = property.nd;
    this.#limit = property.limit;
    this.#host = host;
    this.#fixed = property.addresses.map(({ ip, mac }) => ({
      prefix: parseIpPrefix(ip),
      text: ip,
      mac: mac === undefined ? null : parseMac(mac),
    }));
    this.learned = previous?.learned ?? new LearnedBindings(host);
  }

  get learns(): boolean {
    return this.learnsDhcp || this.learnsNd;
  }

  get exchanges(): Exchanges {
    return this.learned.exchanges;
  }

  /** Whether an address is one of the fixed ones. @param macAt where the MAC address lies that uses it; -1: any */
  hasFixed(bytes: Uint8Array, at: number, version: number, macAt: number): boolean {
    for (let i = 0; i < this.#fixed.length; i += 1) {
      const { prefix, mac } = this.#fixed[i];
      if (!prefixMatches(bytes, at, version, prefix)) continue;
      if (mac === null || macAt === -1 || sameBytes(bytes, macAt, mac)) return true;
    }
    return false;
  }

  /**
   * Whether a station may use an address.
   * @param at where the address lies
   * @param macAt where the station's MAC address lies
   */
  allows(bytes: Uint8Array, at: number, version: number, vlan: number, macAt: number, nowMs: number): boolean {
    if (this.hasFixed(bytes, at, version, macAt)) return true;
    const entry = this.#find(bytes, at, version, vlan, macAt);
    if (entry === null || nowMs < entry.validFromMs || nowMs >= entry.expiresMs) return false;
    entry.usedMs = nowMs;
    return true;
  }

  #find(bytes: Uint8Array, at: number, version: number, vlan: number, macAt: number): Entry | null {
    const { entries } = this.learned;
    const start = version === 4 ? 12 : 0;
    for (let i = 0; i < entries.length; i += 1) {
      const entry = entries[i];
      if (entry.vlan !== vlan || isMapped(entry.address) !== (version === 4)) continue;
      let b = start;
      while (b < 16 && entry.address[b] === bytes[at + b - start]) b += 1;
      if (b === 16 && sameMac(bytes, macAt, entry)) return entry;
    }
    return null;
  }

  /**
   * Somebody tests whether an IPv6 address is free, to use it: it is his once nobody has objected (RFC 6620).
   * @returns whether he may
   */
  claim(bytes: Uint8Array, at: number, vlan: number, macAt: number, nowMs: number): boolean {
    if (this.#find(bytes, at, 6, vlan, macAt) !== null) return true;
    if (!this.learnsNd || this.#isFixedElsewhere(bytes, at, 6)) return false;
    this.#bind(holdingAt(bytes, at, 6, vlan, macAt), 'nd', nowMs + TENTATIVE_MS, Number.POSITIVE_INFINITY, nowMs);
    return true;
  }

  /** A server gave somebody behind this port an address for a time. */
  lease(holding: Holding, version: number, leaseMs: number, nowMs: number): void {
    this.learned.remove((entry) => isSame(entry, holding));
    if (leaseMs <= 0 || this.#isFixedElsewhere(holding.address, version === 4 ? 12 : 0, version)) return;
    // The server has the last word about who has it.
    for (const other of this.#host.all()) if (other !== this) other.release(holding);
    this.#bind(holding, 'dhcp', nowMs, nowMs + leaseMs, nowMs);
  }

  #isFixedElsewhere(bytes: Uint8Array, at: number, version: number): boolean {
    for (const other of this.#host.all()) {
      if (other.learned !== this.learned && other.hasFixed(bytes, at, version, -1)) return true;
    }
    return false;
  }

  #bind(holding: Holding, origin: Entry['origin'], validFromMs: number, expiresMs: number, nowMs: number): void {
    const { entries } = this.learned;
    if (entries.length >= this.#limit) {
      // An address of autoconfiguration that is used no more ends by nothing else.
      let oldest: Entry | null = null;
      for (const entry of entries) {
        if (entry.origin === 'nd' && (oldest === null || entry.usedMs < oldest.usedMs)) oldest = entry;
      }
      if (oldest === null) return;
      this.learned.remove((entry) => entry === oldest);
    }
    this.learned.add({ ...holding, origin, validFromMs, expiresMs, usedMs: nowMs, settled: validFromMs <= nowMs });
  }

  /** Who had an address has it no more. */
  release(holding: Holding): void {
    this.learned.remove((entry) => isSame(entry, holding));
  }

  /** Somebody says that an IPv6 address is his: claims that have not become valid are void. */
  object(bytes: Uint8Array, at: number, vlan: number, nowMs: number): void {
    this.learned.remove(
      (entry) => entry.validFromMs > nowMs && entry.vlan === vlan && sameBytes(bytes, at, entry.address),
    );
  }

  /** Forget what was learned: somebody else may be behind the port from now on. */
  forget(): void {
    this.learned.remove(() => true);
  }

  list(nowMs: number): BindingInfo[] {
    const fixed = this.#fixed.map(
      ({ text, mac }): BindingInfo => ({
        address: text,
        mac:
          mac === null ? null : macText((mac[0] << 8) | mac[1], new DataView(mac.buffer, mac.byteOffset).getInt32(2)),
        origin: 'fixed',
        vlan: null,
        expiresInSeconds: null,
      }),
    );
    const learned = this.learned.entries.map(
      (entry): BindingInfo => ({
        address: isMapped(entry.address) ? formatIpv4(entry.address, 12) : formatIpv6(entry.address),
        mac: macText(entry.macHigh, entry.macLow),
        origin: entry.origin,
        vlan: entry.vlan,
        expiresInSeconds: Number.isFinite(entry.expiresMs) ? Math.ceil((entry.expiresMs - nowMs) / 1000) : null,
      }),
    );
    return [...fixed, ...learned];
  }
}

/** The address at a place, with the MAC address of who has it. */
export function holdingAt(bytes: Uint8Array, at: number, version: number, vlan: number, macAt: number): Holding {
  const address = new Uint8Array(16);
  if (version === 4) {
    address[10] = 0xff;
    address[11] = 0xff;
    address.set(bytes.subarray(at, at + 4), 12);
  } else {
    address.set(bytes.subarray(at, at + 16));
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { address, vlan, macHigh: view.getUint16(macAt), macLow: view.getInt32(macAt + 2) };
}

function isMapped(address: Uint8Array): boolean {
  for (let i = 0; i < 10; i += 1) if (address[i] !== 0) return false;
  return address[10] === 0xff && address[11] === 0xff;
}

function isSame(a: Holding, b: Holding): boolean {
  return a.vlan === b.vlan && sameBytes(a.address, 0, b.address);
}

function sameBytes(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  for (let i = 0; i < wanted.length; i += 1) if (bytes[at + i] !== wanted[i]) return false;
  return true;
}

function sameMac(bytes: Uint8Array, at: number, { macHigh, macLow }: Holding): boolean {
  const high = (bytes[at] << 8) | bytes[at + 1];
  return (
    high === macHigh &&
    ((bytes[at + 2] << 24) | (bytes[at + 3] << 16) | (bytes[at + 4] << 8) | bytes[at + 5]) === macLow
  );
}
