/**
 * What the recorder knows of each of its flows besides what is in the flow table, by the table's slot: who sends to whom through
 * which ports, when it was last used, and whom to tell what was carried.
 */
import type { Shortcut } from '../../switch/index.ts';
import { AddressIndex, grown } from './address-index.ts';

/** Who sends to whom. Addresses are the first two bytes and the last four. */
export interface FlowPath {
  readonly sourcePortId: number;
  /** 0: the packets are dropped before anybody asks for their addresses. */
  readonly portId: number;
  /** The forwarding domain. */
  readonly domain: number;
  readonly sourceHigh: number;
  readonly sourceLow: number;
  readonly high: number;
  readonly low: number;
}

/** Words of a flow. */
const Field = { PORTS: 0, DOMAIN: 1, HIGHS: 2, SOURCE_LOW: 3, LOW: 4, USED: 5 } as const;
const SHIFT = 3;

export class FlowRecords {
  readonly bySource = new AddressIndex();
  readonly byDestination = new AddressIndex();
  /** By slot; null where there is no flow. */
  readonly shortcuts: (Shortcut | null)[] = [];
  #words = new Int32Array(0);

  add(slot: number, path: FlowPath, shortcut: Shortcut, nowSeconds: number): void {
    this.#words = grown(this.#words, (slot + 1) << SHIFT);
    this.bySource.reach(slot + 1);
    this.byDestination.reach(slot + 1);
    const words = this.#words;
    const at = slot << SHIFT;
    words[at + Field.PORTS] = (path.sourcePortId << 16) | path.portId;
    words[at + Field.DOMAIN] = path.domain;
    words[at + Field.HIGHS] = (path.sourceHigh << 16) | path.high;
    words[at + Field.SOURCE_LOW] = path.sourceLow;
    words[at + Field.LOW] = path.low;
    words[at + Field.USED] = nowSeconds;
    this.shortcuts[slot] = shortcut;
    if (path.portId === 0) return;
    this.bySource.add(slot, path.domain, path.sourceHigh, path.sourceLow);
    this.byDestination.add(slot, path.domain, path.high, path.low);
  }

  remove(slot: number): void {
    if (this.shortcuts[slot] === null) return;
    this.shortcuts[slot] = null;
    if ((this.#words[(slot << SHIFT) + Field.PORTS] & 0xffff) === 0) return;
    this.bySource.remove(slot);
    this.byDestination.remove(slot);
  }

  clear(): void {
    this.shortcuts.length = 0;
    this.bySource.clear();
    this.byDestination.clear();
  }

  pathOf(slot: number): FlowPath {
    const words = this.#words;
    const at = slot << SHIFT;
    return {
      sourcePortId: words[at + Field.PORTS] >>> 16,
      portId: words[at + Field.PORTS] & 0xffff,
      domain: words[at + Field.DOMAIN],
      sourceHigh: words[at + Field.HIGHS] >>> 16,
      sourceLow: words[at + Field.SOURCE_LOW],
      high: words[at + Field.HIGHS] & 0xffff,
      low: words[at + Field.LOW],
    };
  }

  /** The second in which the flow was last seen to be used. */
  usedOf(slot: number): number {
    return this.#words[(slot << SHIFT) + Field.USED];
  }

  use(slot: number, second: number): void {
    const at = (slot << SHIFT) + Field.USED;
    if (this.#words[at] < second) this.#words[at] = second;
  }

  /** Slots of the flows of what comes in through a port. @param alsoOut and of what goes out there */
  ofPort(portId: number, alsoOut: boolean): number[] {
    const slots: number[] = [];
    for (let slot = 0; slot < this.shortcuts.length; slot += 1) {
      if (this.shortcuts[slot] == null) continue;
      const ports = this.#words[(slot << SHIFT) + Field.PORTS];
      if (ports >>> 16 === portId || (alsoOut && (ports & 0xffff) === portId)) slots.push(slot);
    }
    return slots;
  }

  /** Slots of the flows from an address. */
  from(domain: number, macHigh: number, macLow: number): number[] {
    const slots: number[] = [];
    const { bySource } = this;
    for (let slot = bySource.first(domain, macHigh, macLow); slot !== -1; slot = bySource.next(slot)) {
      const at = slot << SHIFT;
      const words = this.#words;
      if (words[at + Field.SOURCE_LOW] !== macLow || words[at + Field.DOMAIN] !== domain) continue;
      if (words[at + Field.HIGHS] >>> 16 === macHigh) slots.push(slot);
    }
    return slots;
  }

  /** Slots of the flows to an address. */
  to(domain: number, macHigh: number, macLow: number): number[] {
    const slots: number[] = [];
    const { byDestination } = this;
    for (let slot = byDestination.first(domain, macHigh, macLow); slot !== -1; slot = byDestination.next(slot)) {
      const at = slot << SHIFT;
      const words = this.#words;
      if (words[at + Field.LOW] !== macLow || words[at + Field.DOMAIN] !== domain) continue;
      if ((words[at + Field.HIGHS] & 0xffff) === macHigh) slots.push(slot);
    }
    return slots;
  }
}
