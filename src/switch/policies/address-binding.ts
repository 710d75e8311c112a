/**
 * Which IP addresses are bound to a port: fixed ones, and those that were learned from DHCP and neighbour discovery (RFC 7039). Neighbours: binding-check.ts
 * judges packets by them, binding-learn.ts finds them out.
 */
import { Anchor, FlowCounter } from '../../decide/index.ts';
import { formatIpv4, formatIpv6, formatMac, macHighAt, macLowAt, parseMac } from '../../net/index.ts';
import type { BindingProperty } from '../control/properties.ts';
import { type IpPrefix, parseIpPrefix, prefixMatches } from './acl.ts';
import { Exchanges } from './dhcp-exchanges.ts';
import { macText } from './station-macs.ts';

/** How long somebody else has to say that a claimed address is his (TENT_LT of RFC 6620). */
const TENTATIVE_MS = 500;
/** How long what was learned outlasts the link (OFFLINK_DELAY of RFC 7513): a host whose cable is out for a moment does not ask for its addresses again. */
const OFFLINK_MS = 30_000;
/** Addresses that may be claimed in a second: hosts test a few when they start, and a flood is not to push out what is used. */
const CLAIMS_PER_SECOND = 8;
/** Timers are set for no longer. */
const LONGEST_TIMER_MS = 3_600_000;
/** Lists of entries by what little of them is compared first. A power of two. */
const BUCKETS = 64;

/** What bindings need from the switch. */
export interface BindingHost {
  nowMs(): number;
  readonly setTimer?: ((delayMs: number, callback: () => void) => { cancel(): void }) | undefined;
  /** What was let in until now may be let in no longer. */
  changed(): void;
  /** An address was not bound, as the port has learned as many as it may. */
  full(limit: number): void;
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
  readonly version: number;
  /** Something was let in by it: others may rest on that. */
  hasLetIn: boolean;
  /** Before, somebody else may still object. */
  readonly validFromMs: number;
  expiresMs: number;
  usedMs: number;
  /** Nobody objected. */
  settled: boolean;
  /** What is let in by it elsewhere rests on this, and counts as use of it. */
  readonly anchor: Anchor;
  readonly use: FlowCounter;
}

/** An address that was learned, for whoever decides about packets that use it. */
export type LearnedBinding = Pick<Entry, 'validFromMs' | 'expiresMs' | 'anchor' | 'use'>;

/** Packets that were let in elsewhere by what was learned use it. */
class UseCounter extends FlowCounter {
  readonly #used: (atMs: number) => void;

  constructor(used: (atMs: number) => void) {
    super('binding', () => {});
    this.#used = used;
  }

  override add(packets: number, _bytes: number, usedMs?: number): void {
    if (packets > 0 && usedMs !== undefined) this.#used(usedMs);
  }
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

/** An address or prefix that stays bound. */
export interface Fixed {
  readonly prefix: IpPrefix;
  readonly text: string;
  readonly mac: Uint8Array | null;
}

/** What a port has learned; it lives as long as the port is bound, whatever else of the property changes. */
class LearnedBindings {
  readonly #host: BindingHost;
  readonly entries: Entry[] = [];
  /** What rests on an address not being bound rests on this. */
  readonly added = new Anchor('bindings');
  readonly #buckets: Entry[][] = Array.from({ length: BUCKETS }, () => []);
  /** The last that was found. */
  #last: Entry | null = null;
  /** When all goes, as the link is down. */
  #offlinkMs = Number.POSITIVE_INFINITY;
  #claimSecond = -1;
  #claims = 0;
  readonly exchanges = new Exchanges();
  #timer: { cancel(): void } | null = null;

  constructor(host: BindingHost) {
    this.#host = host;
  }

  add(entry: Entry): void {
    this.entries.push(entry);
    this.#buckets[bucketOf(entry.address, 15, entry.vlan)].push(entry);
    this.#schedule();
    this.added.changed();
  }

  /** The entry of a station for an address; null for none. @param macAt where its MAC address lies */
  find(bytes: Uint8Array, at: number, version: number, vlan: number, macAt: number): Entry | null {
    const last = this.#last;
    if (last !== null && isOf(last, bytes, at, version, vlan, macAt)) return last;
    const bucket = this.#buckets[bucketOf(bytes, at + (version === 4 ? 3 : 15), vlan)];
    for (let i = 0; i < bucket.length; i += 1) {
      const entry = bucket[i];
      if (!isOf(entry, bytes, at, version, vlan, macAt)) continue;
      this.#last = entry;
      return entry;
    }
    return null;
  }

  /** Whether one more address may be claimed in this second. */
  mayClaim(nowMs: number): boolean {
    const second = Math.floor(nowMs / 1000);
    return second !== this.#claimSecond || this.#claims < CLAIMS_PER_SECOND;
  }

  countClaim(nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    if (second !== this.#claimSecond) this.#claims = 0;
    this.#claimSecond = second;
    this.#claims += 1;
  }

  /** A lease is renewed. */
  prolong(entry: Entry, expiresMs: number): void {
    entry.expiresMs = expiresMs;
    this.#schedule();
  }

  remove(isGone: (entry: Entry) => boolean): void {
    const gone = this.entries.filter(isGone);
    if (gone.length === 0) return;
    const kept = this.entries.filter((entry) => !gone.includes(entry));
    this.entries.splice(0, this.entries.length, ...kept);
    this.#last = null;
    for (const entry of gone) {
      const bucket = this.#buckets[bucketOf(entry.address, 15, entry.vlan)];
      bucket.splice(bucket.indexOf(entry), 1);
    }
    this.#schedule();
    for (const { anchor } of gone) anchor.changed();
    // A claim that has not become valid, and an address that nobody has used, have let nothing in.
    if (gone.some(({ hasLetIn }) => hasLetIn)) this.#host.changed();
  }

  /** The link went down, or came back. */
  linkChanged(isUp: boolean): void {
    const now = this.#host.nowMs();
    const isOver = now >= this.#offlinkMs;
    if (isUp) this.#offlinkMs = Number.POSITIVE_INFINITY;
    else if (this.#offlinkMs === Number.POSITIVE_INFINITY) this.#offlinkMs = now + OFFLINK_MS;
    if (isOver) this.remove(() => true);
    this.#schedule();
  }

  #schedule(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.entries.length === 0) return;
    let next = this.#offlinkMs;
    for (const entry of this.entries) next = Math.min(next, entry.settled ? entry.expiresMs : entry.validFromMs);
    if (next === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.min(Math.max(1, next - this.#host.nowMs()), LONGEST_TIMER_MS);
    this.#timer = this.#host.setTimer?.(delayMs, () => this.#due()) ?? null;
  }

  #due(): void {
    const now = this.#host.nowMs();
    const isOver = now >= this.#offlinkMs;
    this.remove((entry) => isOver || entry.expiresMs <= now);
    for (const entry of this.entries) {
      if (entry.settled || entry.validFromMs > now) continue;
      entry.settled = true;
      // Whoever had it by a claim has not objected. What a server gave is the server's to take.
      for (const other of this.#host.all()) if (other.learned !== this) other.release(entry, 'nd');
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
  readonly fixed: readonly Fixed[];
  readonly #limit: number;
  #isFullTold = false;

  /**
   * @param previous the bindings until now: what was learned is kept
   * @throws TypeError for an address that does not parse
   */
  constructor(property: BindingProperty, host: BindingHost, previous: AddressBinding | null) {
    this.learnsDhcp = property.dhcp;
    this.learnsNd = property.nd;
    this.#limit = property.limit;
    this.#host = host;
    this.fixed = property.addresses.map(({ ip, mac }) => ({
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
    for (let i = 0; i < this.fixed.length; i += 1) {
      const { prefix, mac } = this.fixed[i];
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
    const entry = this.learned.find(bytes, at, version, vlan, macAt);
    if (entry === null || nowMs < entry.validFromMs || nowMs >= entry.expiresMs) return false;
    entry.usedMs = nowMs;
    entry.hasLetIn = true;
    return true;
  }

  /**
   * What was learned of an address, for whoever decides about packets of a station that uses it; null for nothing. The answer rests on what it is about.
   * @param at where the address lies, and `macAt` the station's MAC address
   */
  learnedOf(bytes: Uint8Array, at: number, version: number, vlan: number, macAt: number): LearnedBinding | null {
    const entry = this.learned.find(bytes, at, version, vlan, macAt);
    (entry?.anchor ?? this.learned.added).read();
    return entry;
  }

  /**
   * Somebody tests whether an IPv6 address is free, to use it: it is his once nobody has objected (RFC 6620).
   * @param commit false only looks
   * @returns whether he may
   */
  claim(bytes: Uint8Array, at: number, vlan: number, macAt: number, nowMs: number, commit: boolean): boolean {
    if (this.learned.find(bytes, at, 6, vlan, macAt) !== null) return true;
    if (!this.learnsNd || !this.learned.mayClaim(nowMs) || this.#isTaken(bytes, at, vlan, nowMs)) return false;
    if (!commit) return true;
    const holding = holdingAt(bytes, at, 6, vlan, macAt);
    const isBound = this.#bind(holding, 6, 'nd', nowMs + TENTATIVE_MS, Number.POSITIVE_INFINITY, nowMs);
    if (isBound) this.learned.countClaim(nowMs);
    return isBound;
  }

  /** A server gave somebody behind this port an address for a time. */
  lease(holding: Holding, version: number, leaseMs: number, nowMs: number): void {
    const isWanted = leaseMs > 0 && !this.#isFixedElsewhere(holding.address, version === 4 ? 12 : 0, version);
    const own = this.learned.entries.find((entry) => isSame(entry, holding) && isOfMac(entry, holding));
    const isRenewal = isWanted && own?.origin === 'dhcp';
    this.learned.remove((entry) => isSame(entry, holding) && !(isRenewal && entry === own));
    if (!isWanted) return;
    // The server has the last word about who has it.
    for (const other of this.#host.all()) if (other.learned !== this.learned) other.release(holding);
    if (isRenewal) this.learned.prolong(own, nowMs + leaseMs);
    else this.#bind(holding, version, 'dhcp', nowMs, nowMs + leaseMs, nowMs);
  }

  /** Whether an IPv6 address is another's, by list or by lease. */
  #isTaken(bytes: Uint8Array, at: number, vlan: number, nowMs: number): boolean {
    if (this.hasFixed(bytes, at, 6, -1) || this.#hasLease(bytes, at, vlan, nowMs)) return true;
    for (const other of this.#host.all()) {
      if (other.learned === this.learned) continue;
      if (other.hasFixed(bytes, at, 6, -1) || other.#hasLease(bytes, at, vlan, nowMs)) return true;
    }
    return false;
  }

  #hasLease(bytes: Uint8Array, at: number, vlan: number, nowMs: number): boolean {
    const { entries } = this.learned;
    for (let i = 0; i < entries.length; i += 1) {
      const { origin, expiresMs, address } = entries[i];
      if (origin !== 'dhcp' || entries[i].vlan !== vlan || nowMs >= expiresMs) continue;
      if (sameBytes(bytes, at, address)) return true;
    }
    return false;
  }

  #isFixedElsewhere(bytes: Uint8Array, at: number, version: number): boolean {
    for (const other of this.#host.all()) {
      if (other.learned !== this.learned && other.hasFixed(bytes, at, version, -1)) return true;
    }
    return false;
  }

  /** @returns false when there is no room for it */
  #bind(
    holding: Holding,
    version: number,
    origin: Entry['origin'],
    validFromMs: number,
    expiresMs: number,
    nowMs: number,
  ): boolean {
    const { entries } = this.learned;
    if (entries.length >= this.#limit) {
      // An address of autoconfiguration that is used no more ends by nothing else.
      let oldest: Entry | null = null;
      for (const entry of entries) {
        if (entry.origin === 'nd' && (oldest === null || entry.usedMs < oldest.usedMs)) oldest = entry;
      }
      if (oldest === null) {
        if (!this.#isFullTold) this.#host.full(this.#limit);
        this.#isFullTold = true;
        return false;
      }
      this.learned.remove((entry) => entry === oldest);
    }
    const settled = validFromMs <= nowMs;
    const entry: Entry = {
      ...holding,
      version,
      origin,
      validFromMs,
      expiresMs,
      usedMs: nowMs,
      settled,
      hasLetIn: false,
      anchor: new Anchor('bound address'),
      use: new UseCounter((usedMs) => {
        entry.usedMs = Math.max(entry.usedMs, usedMs);
      }),
    };
    this.learned.add(entry);
    return true;
  }

  /** Who had an address has it no more. @param origin only what was learned so */
  release(holding: Holding, origin: Entry['origin'] | null = null): void {
    this.learned.remove((entry) => isSame(entry, holding) && (origin === null || entry.origin === origin));
  }

  /** A client gives an address back that is its own. */
  giveBack(holding: Holding): void {
    this.learned.remove((entry) => isSame(entry, holding) && isOfMac(entry, holding));
  }

  /** Somebody says that an IPv6 address is his: claims that have not become valid are void. */
  object(bytes: Uint8Array, at: number, vlan: number, nowMs: number): void {
    this.learned.remove(
      (entry) => entry.validFromMs > nowMs && entry.vlan === vlan && sameBytes(bytes, at, entry.address),
    );
  }

  /** The link of the port went down, or came back: what was learned is forgotten when it stays down. */
  linkChanged(isUp: boolean): void {
    this.learned.linkChanged(isUp);
  }

  /** Forget what was learned: somebody else may be behind the port from now on. */
  forget(): void {
    this.#isFullTold = false;
    this.learned.remove(() => true);
  }

  list(nowMs: number): BindingInfo[] {
    const fixed = this.fixed.map(
      ({ text, mac }): BindingInfo => ({
        address: text,
        mac: mac === null ? null : formatMac(mac),
        origin: 'fixed',
        vlan: null,
        expiresInSeconds: null,
      }),
    );
    const learned = this.learned.entries.map(
      (entry): BindingInfo => ({
        address: entry.version === 4 ? formatIpv4(entry.address, 12) : formatIpv6(entry.address),
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
  return { address, vlan, macHigh: macHighAt(bytes, macAt), macLow: macLowAt(bytes, macAt) };
}

/** Where to look for an address. @param lastAt where its last byte lies */
function bucketOf(bytes: Uint8Array, lastAt: number, vlan: number): number {
  return (bytes[lastAt] ^ (bytes[lastAt - 1] << 2) ^ (bytes[lastAt - 2] << 4) ^ vlan) & (BUCKETS - 1);
}

/** Whether an entry is for an address and a MAC address that lie somewhere. */
function isOf(entry: Entry, bytes: Uint8Array, at: number, version: number, vlan: number, macAt: number): boolean {
  if (entry.version !== version || entry.vlan !== vlan) return false;
  const { address } = entry;
  const start = version === 4 ? 12 : 0;
  for (let b = 15; b >= start; b -= 1) if (address[b] !== bytes[at + b - start]) return false;
  return sameMac(bytes, macAt, entry);
}

function isSame(a: Holding, b: Holding): boolean {
  return a.vlan === b.vlan && sameBytes(a.address, 0, b.address);
}

function isOfMac(a: Holding, b: Holding): boolean {
  return a.macHigh === b.macHigh && a.macLow === b.macLow;
}

function sameBytes(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  for (let i = 0; i < wanted.length; i += 1) if (bytes[at + i] !== wanted[i]) return false;
  return true;
}

function sameMac(bytes: Uint8Array, at: number, { macHigh, macLow }: Holding): boolean {
  return macHighAt(bytes, at) === macHigh && macLowAt(bytes, at) === macLow;
}
