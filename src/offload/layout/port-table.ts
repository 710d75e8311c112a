/** Ports as TypeScript writes them, and the counters that programs keep of each. */

import { type InterfaceIndex, type KeyPort, toInterfaceIndex, toKeyPort } from '../../net/index.ts';
import { MAXIMUM_IFINDEX, MAXIMUM_PORTS } from './limits.ts';
import type { OffloadMaps } from './maps.ts';
import {
  ANY_LENGTH,
  CPU_BYTES,
  CpuByte,
  DROP_REASONS,
  LANE_BYTES,
  LaneByte,
  MTU_SHIFT,
  PORT_WORDS,
  PortFlag,
  PortWord,
} from './sizes.ts';

/** What programs did with the packets of a port. */
export interface PortCounters {
  /** Packets of flows that are offloaded, dropped ones included. */
  readonly carriedPackets: number;
  readonly carriedBytes: number;
  /** Handed up. */
  readonly punted: number;
  /** Left to what runs behind an XDP program. */
  readonly passed: number;
  /** Of the carried ones: dropped because their flow says so. */
  readonly dropped: number;
  /** Lost because something failed after the packet had been changed, or because the flow was too fast to be taken over without a gap. */
  readonly failed: number;
  /** Copies that could not be sent. */
  readonly lostCopies: number;
  readonly recirculated: number;
}

/** One port. */
export interface PortRecord {
  readonly ifindex: InterfaceIndex;
  readonly number: KeyPort;
  readonly puntIfindex: InterfaceIndex | 0;
  /** Or-ed {@link PortFlag}, but for ON and HELD. */
  readonly flags: number;
  /** 0 for frames of any length. */
  readonly mtuBytes: number;
}

const NAMES = [
  ['carriedPackets', LaneByte.PACKETS],
  ['carriedBytes', LaneByte.BYTES],
  ['punted', LaneByte.PUNTED],
  ['passed', LaneByte.PASSED],
  ['dropped', LaneByte.DROPPED],
  ['failed', LaneByte.FAILED],
  ['lostCopies', LaneByte.LOST_COPIES],
  ['recirculated', LaneByte.RECIRCULATED],
] as const;

/** Set, one or the other, for an interface that is a port. */
const IS_PORT = PortFlag.ON | PortFlag.HELD;

/** Interfaces whose packets programs look at by these tables. */
export function interfacesIn({ ports }: Pick<OffloadMaps, 'ports'>): InterfaceIndex[] {
  const found: InterfaceIndex[] = [];
  for (let ifindex = 1; ifindex <= MAXIMUM_IFINDEX; ifindex += 1) {
    if ((ports[ifindex * PORT_WORDS + PortWord.FLAGS] & IS_PORT) !== 0) found.push(toInterfaceIndex(ifindex));
  }
  return found;
}

/** Programs hand up what they have to, however much is on its way. */
export function liftShares(maps: OffloadMaps): void {
  for (const ifindex of interfacesIn(maps)) Atomics.store(maps.ports, ifindex * PORT_WORDS + PortWord.SHARE, 0);
}

/** What a program has counted in a word since this was last asked. */
export function takeCount(words: Int32Array | Uint32Array, at: number): number {
  return Atomics.load(words, at) === 0 ? 0 : Atomics.exchange(words, at, 0) >>> 0;
}

export class PortTable {
  readonly #maps: Pick<OffloadMaps, 'ports' | 'cpus' | 'sizes'>;
  /** Places of counters by ifindex. */
  readonly #lanes = new Map<InterfaceIndex, number>();
  readonly #free: number[] = [];
  /** Punts that nobody has had, by ifindex, until somebody asks. */
  readonly #lost = new Map<InterfaceIndex, number>();

  constructor(maps: Pick<OffloadMaps, 'ports' | 'cpus' | 'sizes'>) {
    this.#maps = maps;
    for (let lane = MAXIMUM_PORTS - 1; lane >= 0; lane -= 1) this.#free.push(lane);
  }

  /** Take over the ports that another process has left. @returns their interfaces */
  adopt(): InterfaceIndex[] {
    const { ports } = this.#maps;
    for (const ifindex of interfacesIn(this.#maps)) {
      const at = ifindex * PORT_WORDS;
      const lane = ports[at + PortWord.LANE] & (MAXIMUM_PORTS - 1);
      const place = this.#free.indexOf(lane);
      if (place === -1) continue;
      this.#free.splice(place, 1);
      this.#lanes.set(ifindex, lane);
      // Whatever waited for the former process is gone, and what came while there was none: nobody worked anything off then, so no port had too much.
      this.resign(ifindex);
      const refused = this.takeRefused(ifindex);
      if (refused > 0) this.#lost.set(ifindex, (this.#lost.get(ifindex) ?? 0) + refused);
    }
    return [...this.#lanes.keys()];
  }

  /** The number of a port in flow keys. */
  numberOf(ifindex: InterfaceIndex): KeyPort {
    return toKeyPort(this.#maps.ports[ifindex * PORT_WORDS + PortWord.NUMBER] >>> 0);
  }

  /** Interfaces that are looked at. */
  ifindexes(): InterfaceIndex[] {
    return [...this.#lanes.keys()];
  }

  /** Whether an interface is a port. */
  has(ifindex: InterfaceIndex): boolean {
    return this.#lanes.has(ifindex);
  }

  /** Whether everything goes up from a port. */
  isHeld(ifindex: InterfaceIndex): boolean {
    return (this.#maps.ports[ifindex * PORT_WORDS + PortWord.FLAGS] & PortFlag.HELD) !== 0;
  }

  /** From now on everything goes up from a port, or no longer. */
  hold(ifindex: InterfaceIndex, isHeld: boolean): void {
    if (!this.#lanes.has(ifindex)) return;
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS + PortWord.FLAGS;
    Atomics.store(ports, at, (ports[at] & ~IS_PORT) | (isHeld ? PortFlag.HELD : PortFlag.ON));
  }

  /**
   * Whether all that programs have handed up of a port has been worked off. What was handed up before this is called was then worked off before it
   * returns.
   * @param isPassed whether that is asked of what XDP has passed on to tc, too
   */
  isClear(ifindex: InterfaceIndex, isPassed: boolean): boolean {
    // A packet that goes up from tc counts as arrived there when it is counted as handed up.
    if (isPassed && !this.hasArrived(ifindex)) return false;
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS;
    const drained = Atomics.load(ports, at + PortWord.DRAINED);
    return drained === Atomics.load(ports, at + PortWord.PUNTED);
  }

  /** Whether all that XDP has passed on has been counted at tc. */
  hasArrived(ifindex: InterfaceIndex): boolean {
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS;
    const arrived = Atomics.load(ports, at + PortWord.ARRIVED);
    return arrived === Atomics.load(ports, at + PortWord.PASSED);
  }

  /** Write a port. @returns why it cannot be offloaded, or null */
  set({ ifindex, number, puntIfindex, flags, mtuBytes }: PortRecord): string | null {
    if (!(ifindex > 0 && ifindex <= MAXIMUM_IFINDEX)) {
      return `its interface has the index ${ifindex}, and the highest that is offloaded is ${MAXIMUM_IFINDEX}`;
    }
    let lane = this.#lanes.get(ifindex);
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS;
    if (lane === undefined) {
      lane = this.#free.pop();
      if (lane === undefined) return `${MAXIMUM_PORTS} ports are offloaded already, which is the most`;
      this.#lanes.set(ifindex, lane);
      this.#clear(lane);
      ports.fill(0, at, at + PORT_WORDS);
    }
    ports[at + PortWord.NUMBER] = number;
    ports[at + PortWord.PUNT_IFINDEX] = puntIfindex;
    ports[at + PortWord.LANE] = lane;
    const mtu = mtuBytes > 0 && mtuBytes < ANY_LENGTH ? mtuBytes : ANY_LENGTH;
    const state = ports[at + PortWord.FLAGS] & IS_PORT || PortFlag.ON;
    Atomics.store(ports, at + PortWord.FLAGS, (mtu << MTU_SHIFT) | flags | state);
    return null;
  }

  /** How long packets may be that are sent by an interface at which none is looked at; 0 for any length. */
  setMtu(ifindex: InterfaceIndex, mtuBytes: number): void {
    if (!(ifindex > 0 && ifindex <= MAXIMUM_IFINDEX) || this.#lanes.has(ifindex)) return;
    const mtu = mtuBytes < ANY_LENGTH ? mtuBytes : 0;
    Atomics.store(this.#maps.ports, ifindex * PORT_WORDS + PortWord.FLAGS, mtu << MTU_SHIFT);
  }

  /** No packet of the interface is looked at any more. */
  remove(ifindex: InterfaceIndex): void {
    const lane = this.#lanes.get(ifindex);
    if (lane === undefined) return;
    Atomics.store(this.#maps.ports, ifindex * PORT_WORDS + PortWord.FLAGS, 0);
    this.#lanes.delete(ifindex);
    this.#free.unshift(lane);
  }

  /** Packets that went up so far, as programs count them (32 bits). */
  punted(ifindex: InterfaceIndex): number {
    return Atomics.load(this.#maps.ports, ifindex * PORT_WORDS + PortWord.PUNTED);
  }

  /** The engine is done with some more packets of a port. Those that came before the program did are not in its count of punts. */
  drained(ifindex: InterfaceIndex, packets: number): void {
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS;
    const drained = (ports[at + PortWord.DRAINED] + packets) >>> 0;
    const punted = Atomics.load(ports, at + PortWord.PUNTED);
    Atomics.store(ports, at + PortWord.DRAINED, ((drained - punted) | 0) > 0 ? punted : drained);
  }

  /** One number that changes with each packet that goes up or is worked off. */
  activity(ifindex: InterfaceIndex): number {
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS;
    const moved = Math.imul(ports[at + PortWord.PUNTED], 3) + Math.imul(ports[at + PortWord.DRAINED], 5);
    return (moved + Math.imul(ports[at + PortWord.PASSED], 7) + Math.imul(ports[at + PortWord.ARRIVED], 11)) | 0;
  }

  /** Nothing moves: what has not come by now was lost. */
  resign(ifindex: InterfaceIndex): void {
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS;
    this.resignBeyond(ifindex, 0);
    const arrived = Atomics.load(ports, at + PortWord.ARRIVED);
    const passed = Atomics.load(ports, at + PortWord.PASSED);
    if (arrived !== passed) Atomics.compareExchange(ports, at + PortWord.ARRIVED, arrived, passed);
  }

  /** Of the punts that have not come, so many may still be under way: the others were lost. */
  resignBeyond(ifindex: InterfaceIndex, mostUnderWay: number): void {
    const { ports } = this.#maps;
    const at = ifindex * PORT_WORDS;
    const drained = Atomics.load(ports, at + PortWord.DRAINED);
    const lost = ((Atomics.load(ports, at + PortWord.PUNTED) - drained) | 0) - mostUnderWay;
    if (lost <= 0) return;
    if (Atomics.compareExchange(ports, at + PortWord.DRAINED, drained, (drained + lost) | 0) !== drained) return;
    this.#lost.set(ifindex, (this.#lost.get(ifindex) ?? 0) + lost);
  }

  /** Packets that went up and are not known to have come. */
  underWay(ifindex: InterfaceIndex): number {
    const drained = Atomics.load(this.#maps.ports, ifindex * PORT_WORDS + PortWord.DRAINED);
    return Math.max(0, (this.punted(ifindex) - drained) | 0);
  }

  /** Of the first so many that went up, those that are not known to have come were lost. */
  resignTo(ifindex: InterfaceIndex, punted: number): void {
    if (!this.#lanes.has(ifindex)) return;
    const underWay = (this.punted(ifindex) - punted) | 0;
    this.resignBeyond(ifindex, Math.max(0, underWay));
  }

  /** From now on at most so many packets of a port are on their way up at a time. */
  setShare(ifindex: InterfaceIndex, packets: number): void {
    if (this.#lanes.has(ifindex)) Atomics.store(this.#maps.ports, ifindex * PORT_WORDS + PortWord.SHARE, packets);
  }

  /** Packets of a port that programs have dropped because as many as its share were on their way, since this was last asked. */
  takeRefused(ifindex: InterfaceIndex): number {
    return takeCount(this.#maps.ports, ifindex * PORT_WORDS + PortWord.REFUSED);
  }

  /** Whether what goes up of a port does so by the descriptor of a TAP. */
  isTap(ifindex: InterfaceIndex): boolean {
    return (this.#maps.ports[ifindex * PORT_WORDS + PortWord.FLAGS] & PortFlag.EGRESS) !== 0;
  }

  /** How many punts of a port were lost since this was last asked. */
  takeLost(ifindex: InterfaceIndex): number {
    const lost = this.#lost.get(ifindex) ?? 0;
    this.#lost.delete(ifindex);
    return lost;
  }

  counters(ifindex: InterfaceIndex): PortCounters | null {
    const lane = this.#lanes.get(ifindex);
    if (lane === undefined) return null;
    const { sizes, cpus } = this.#maps;
    const counters = Object.fromEntries(NAMES.map(([name]) => [name, 0])) as Record<(typeof NAMES)[number][0], number>;
    for (let cpu = 0; cpu < sizes.cpus; cpu += 1) {
      const at = cpu * CPU_BYTES + CpuByte.LANES + lane * LANE_BYTES;
      for (const [name, byte] of NAMES) counters[name] += cpus.count(at + byte);
    }
    return counters;
  }

  /** Packets dropped in the kernel by flows, by reason of flow/'s Drop. */
  drops(): Map<number, number> {
    return dropsIn(this.#maps);
  }

  #clear(lane: number): void {
    const { sizes, cpus } = this.#maps;
    for (let cpu = 0; cpu < sizes.cpus; cpu += 1) {
      const at = cpu * CPU_BYTES + CpuByte.LANES + lane * LANE_BYTES;
      cpus.u8.fill(0, at, at + LANE_BYTES);
    }
  }
}

/** Packets that programs have dropped, by reason of flow/'s Drop. */
export function dropsIn({ sizes, cpus }: Pick<OffloadMaps, 'sizes' | 'cpus'>): Map<number, number> {
  const drops = new Map<number, number>();
  for (let reason = 1; reason < DROP_REASONS; reason += 1) {
    let count = 0;
    for (let cpu = 0; cpu < sizes.cpus; cpu += 1) count += cpus.count(cpu * CPU_BYTES + CpuByte.DROPS + reason * 8);
    if (count > 0) drops.set(reason, count);
  }
  return drops;
}
