/**
 * What decisions rest on of the address table: entries, by address, be they there or not. An entry that decisions rest on is looked at when it would age: packets of these
 * decisions may have been counted elsewhere, and make it younger; otherwise it goes, and with it what rests on it. Neighbour: extension.ts decides.
 */
import { formatMac, macBytes } from '../../net/index.ts';
import { Anchor, FlowCounter } from '../../switch/index.ts';
import type { ForwardingDatabase, MacKey } from './forwarding-database.ts';

/** Makes a source as young as the packets that are counted for it. */
class SeenCounter extends FlowCounter {
  readonly portId: number;
  readonly #seen: (second: number) => void;
  readonly #nowMs: () => number;

  constructor(portId: number, nowMs: () => number, seen: (second: number) => void) {
    super('seen', () => {});
    this.portId = portId;
    this.#nowMs = nowMs;
    this.#seen = seen;
  }

  override add(_packets: number, _bytes: number, usedMs = Number.POSITIVE_INFINITY): void {
    // Clocks of others may be a little ahead.
    this.#seen(Math.floor(Math.min(usedMs, this.#nowMs()) / 1000));
  }
}

/** An address that decisions rest on. */
class AddressAnchor extends Anchor {
  readonly domain: number;
  readonly high: number;
  readonly low: number;
  readonly hash: number;
  /** Another one of this hash. */
  next: AddressAnchor | null = null;
  counter: SeenCounter | null = null;
  /** When it is looked at; 0 when it is not. Those of one second are a list. */
  dueSecond = 0;
  dueBefore: AddressAnchor | null = null;
  dueAfter: AddressAnchor | null = null;
  readonly #owner: AddressAnchors;

  constructor(owner: AddressAnchors, domain: number, { high, low }: MacKey, hash: number) {
    super('address');
    this.#owner = owner;
    this.domain = domain;
    this.high = high;
    this.low = low;
    this.hash = hash;
  }

  override get name(): string {
    const { domain, high, low } = this;
    return `address ${formatMac(macBytes(high, low))}${domain === 0 ? '' : ` in VLAN ${domain}`}`;
  }

  protected override freed(): void {
    this.#owner.forget(this);
  }
}

export class AddressAnchors {
  readonly #database: ForwardingDatabase;
  readonly #nowMs: () => number;
  readonly #byHash = new Map<number, AddressAnchor>();
  /** The first of each second. */
  readonly #due = new Map<number, AddressAnchor>();
  #lookedAt: number;
  /** Nobody outside can make addresses of one hash. */
  readonly #seed = Math.floor(Math.random() * 0x7fff_ffff);

  /** @param nowMs the host's clock */
  constructor(database: ForwardingDatabase, nowMs: () => number) {
    this.#database = database;
    this.#nowMs = nowMs;
    this.#lookedAt = Math.floor(nowMs() / 1000);
  }

  /** The decision that is being made rests on an address. */
  read(domain: number, address: MacKey): void {
    this.#read(domain, address);
  }

  /** As {@link read}, of a source. @returns counts packets from it that come in by a port where it is known */
  readSource(domain: number, address: MacKey, portId: number): FlowCounter {
    const anchor = this.#read(domain, address);
    if (anchor.counter?.portId !== portId) {
      const { high, low } = address;
      anchor.counter = new SeenCounter(portId, this.#nowMs, (second) => {
        const { table } = this.#database;
        const nowSeconds = Math.floor(this.#nowMs() / 1000);
        const wasKnown = table.validUntil(domain, high, low) >= nowSeconds;
        table.renew(domain, high, low, portId, second);
        // Who has looked since it seemed to have aged has not found it.
        if (!wasKnown && table.validUntil(domain, high, low) >= nowSeconds) this.changed(domain, high, low);
      });
    }
    return anchor.counter;
  }

  #read(domain: number, address: MacKey): AddressAnchor {
    const { high, low } = address;
    const hash = this.#hashOf(domain, high, low);
    let anchor = this.#find(hash, domain, high, low);
    if (anchor === null) {
      anchor = new AddressAnchor(this, domain, address, hash);
      anchor.next = this.#byHash.get(hash) ?? null;
      this.#byHash.set(hash, anchor);
    }
    anchor.read();
    const last = this.#database.table.validUntil(domain, high, low);
    if (last !== -1 && Number.isFinite(last)) this.#lookAt(anchor, last + 1);
    return anchor;
  }

  /** An address is elsewhere from now on: what rests on it ends. */
  changed(domain: number, high: number, low: number): void {
    this.#find(this.#hashOf(domain, high, low), domain, high, low)?.changed();
  }

  /** Time has passed: entries that have aged go. */
  advance(nowSeconds: number): void {
    const first = this.#lookedAt + 1;
    this.#lookedAt = nowSeconds;
    if (nowSeconds - first <= this.#due.size)
      for (let at = first; at <= nowSeconds; at += 1) this.#lookAll(at, nowSeconds);
    else for (const at of [...this.#due.keys()]) if (at <= nowSeconds) this.#lookAll(at, nowSeconds);
  }

  #lookAll(second: number, nowSeconds: number): void {
    for (let anchor = this.#due.get(second); anchor !== undefined; anchor = this.#due.get(second)) {
      this.#unlink(anchor);
      this.#look(anchor, nowSeconds);
    }
  }

  #look(anchor: AddressAnchor, nowSeconds: number): void {
    const { domain, high, low } = anchor;
    const { table } = this.#database;
    const last = () => table.validUntil(domain, high, low);
    if (last() < nowSeconds) anchor.bring(() => last() >= nowSeconds);
    if (last() >= nowSeconds) this.#lookAt(anchor, last() + 1);
    else table.remove(domain, high, low);
  }

  /** Look at an entry no later than that. */
  #lookAt(anchor: AddressAnchor, second: number): void {
    const due = Math.max(second, this.#lookedAt + 1);
    if (anchor.dueSecond !== 0 && anchor.dueSecond <= due) return;
    this.#unlink(anchor);
    anchor.dueSecond = due;
    anchor.dueAfter = this.#due.get(due) ?? null;
    if (anchor.dueAfter !== null) anchor.dueAfter.dueBefore = anchor;
    this.#due.set(due, anchor);
  }

  #unlink(anchor: AddressAnchor): void {
    const { dueSecond, dueBefore, dueAfter } = anchor;
    if (dueSecond === 0) return;
    if (dueAfter !== null) dueAfter.dueBefore = dueBefore;
    if (dueBefore !== null) dueBefore.dueAfter = dueAfter;
    else if (dueAfter !== null) this.#due.set(dueSecond, dueAfter);
    else this.#due.delete(dueSecond);
    anchor.dueSecond = 0;
    anchor.dueBefore = null;
    anchor.dueAfter = null;
  }

  /** Internal: nothing rests on it any more. */
  forget(anchor: AddressAnchor): void {
    this.#unlink(anchor);
    const first = this.#byHash.get(anchor.hash);
    if (first === anchor) {
      if (anchor.next === null) this.#byHash.delete(anchor.hash);
      else this.#byHash.set(anchor.hash, anchor.next);
      return;
    }
    let before = first ?? null;
    while (before !== null && before.next !== anchor) before = before.next;
    if (before !== null) before.next = anchor.next;
  }

  #find(hash: number, domain: number, high: number, low: number): AddressAnchor | null {
    let anchor = this.#byHash.get(hash) ?? null;
    while (anchor !== null && (anchor.low !== low || anchor.high !== high || anchor.domain !== domain))
      anchor = anchor.next;
    return anchor;
  }

  #hashOf(domain: number, high: number, low: number): number {
    let hash = Math.imul(low ^ this.#seed, 0x9e37_79b1) ^ Math.imul(((domain << 16) | high) + this.#seed, 0x85eb_ca6b);
    hash ^= hash >>> 15;
    hash = Math.imul(hash, 0x2c1b_3c6d);
    // What is a small integer makes maps quick.
    return (hash ^ (hash >>> 13)) >>> 2;
  }
}
