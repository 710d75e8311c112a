/**
 * The program of a port whose flow table has none yet: whatever comes goes up to the engine, as far as the port's share of the punt path goes. What
 * it counts by interface:
 *
 *     0 handed up | 4 worked off or lost | 8 share, 0 for any number | 12 dropped beyond the share
 *
 * Interfaces with an index beyond MAXIMUM_IFINDEX share with nobody: they are counted nowhere.
 */
import {
  ArrayMap,
  at,
  bytes,
  loadProgram,
  type Program,
  ProgramBuilder,
  R1,
  R6,
  R7,
  SK_BUFF,
  TC,
} from '../../bpf/index.ts';
import type { InterfaceIndex } from '../../net/index.ts';
import { emitPunt, emitWithinShare, MAXIMUM_IFINDEX, type ShareWords, takeCount } from '../../offload/index.ts';

const Count: ShareWords = { handedUp: 0, workedOff: 1, share: 2, refused: 3 };
const COUNT_WORDS = 4;

export class BaseProgram {
  readonly program: Program;
  readonly #map: ArrayMap<Uint8Array>;
  readonly #counts: Int32Array;
  /** Interfaces of ports, and what had been handed up of each when this was last looked at. */
  readonly #seen = new Map<number, number>();

  /** @param puntIndex interface index of the punt channel @throws VerifierError, PrivilegeError, SystemError */
  constructor(puntIndex: number) {
    const sizeBytes = (MAXIMUM_IFINDEX + 1) * COUNT_WORDS * 4;
    this.#map = ArrayMap.create({ name: 'mr_base', value: bytes(sizeBytes), maxEntries: 1, mappable: true });
    try {
      this.#counts = this.#map.map().s32;
      this.program = loadProgram({ type: 'sched_cls', code: generate(this.#map, puntIndex) });
    } catch (error) {
      this.#map.close();
      throw error;
    }
  }

  /** A port begins: nothing of its interface is on its way. */
  begin(ifindex: InterfaceIndex): void {
    if (ifindex > MAXIMUM_IFINDEX) return;
    const handedUp = Atomics.load(this.#counts, ifindex * COUNT_WORDS + Count.handedUp);
    Atomics.store(this.#counts, ifindex * COUNT_WORDS + Count.workedOff, handedUp);
    this.#seen.set(ifindex, handedUp);
  }

  /** A port ends. */
  end(ifindex: InterfaceIndex): void {
    this.#seen.delete(ifindex);
  }

  /** The engine is done with packets of a port. Those that another program handed up are not in the count. */
  workedOff(ifindex: InterfaceIndex, packets: number): void {
    if (ifindex > MAXIMUM_IFINDEX) return;
    const at = ifindex * COUNT_WORDS;
    const counts = this.#counts;
    const worked = (counts[at + Count.workedOff] + packets) | 0;
    const handedUp = Atomics.load(counts, at + Count.handedUp);
    Atomics.store(counts, at + Count.workedOff, ((worked - handedUp) | 0) > 0 ? handedUp : worked);
  }

  /**
   * Look at what is on its way.
   * @param haveCome whether all has come by now that was handed up when this was last called: what has not was lost
   * @returns whether something is still on its way
   */
  look(haveCome: boolean): boolean {
    const counts = this.#counts;
    let isWaiting = false;
    for (const [ifindex, seen] of this.#seen) {
      const at = ifindex * COUNT_WORDS;
      if (haveCome && ((seen - counts[at + Count.workedOff]) | 0) > 0)
        Atomics.store(counts, at + Count.workedOff, seen);
      const handedUp = Atomics.load(counts, at + Count.handedUp);
      this.#seen.set(ifindex, handedUp);
      isWaiting ||= handedUp !== counts[at + Count.workedOff];
    }
    return isWaiting;
  }

  /** Packets that went up and are not known to have come. */
  underWay(ifindex: InterfaceIndex): number {
    if (ifindex > MAXIMUM_IFINDEX) return 0;
    const at = ifindex * COUNT_WORDS;
    const worked = this.#counts[at + Count.workedOff];
    return Math.max(0, (Atomics.load(this.#counts, at + Count.handedUp) - worked) | 0);
  }

  setShare(ifindex: InterfaceIndex, packets: number): void {
    if (ifindex <= MAXIMUM_IFINDEX) Atomics.store(this.#counts, ifindex * COUNT_WORDS + Count.share, packets);
  }

  /** Packets of a port that were dropped beyond its share, since this was last asked. */
  takeRefused(ifindex: InterfaceIndex): number {
    return ifindex > MAXIMUM_IFINDEX ? 0 : takeCount(this.#counts, ifindex * COUNT_WORDS + Count.refused);
  }

  close(): void {
    this.program.close();
    this.#map.close();
  }
}

function generate(map: ArrayMap<Uint8Array>, puntIndex: number): ProgramBuilder {
  const b = new ProgramBuilder('millrace_punt');
  b.mov(R6, R1);
  b.load(R1, 'u32', at(R6, SK_BUFF.ifindex));
  b.block((uncounted) => {
    b.jumpIf(R1, '>', MAXIMUM_IFINDEX, uncounted);
    const refused = b.label('beyond its share');
    const within = b.label('within its share');
    b.shl(R1, Math.log2(COUNT_WORDS * 4));
    b.loadMapValue(R7, map);
    b.add(R7, R1);
    b.mov(R1, 1);
    b.atomic('add', 'u32', at(R7, Count.handedUp * 4), R1);
    emitWithinShare(b, R7, Count, refused);
    b.jump(within);
    b.place(refused);
    b.return(TC.SHOT);
    b.place(within);
  });
  emitPunt(b, R6, puntIndex);
  return b;
}
