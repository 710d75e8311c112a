/**
 * The program at the device by which packets are handed down: it finds the entry of the table that a packet is for. header.ts draws where it says which.
 */
import {
  at,
  loadProgram,
  type Program,
  ProgramArrayMap,
  ProgramBuilder,
  R1,
  R3,
  R6,
  R7,
  R8,
  TC,
} from '../../bpf/index.ts';
import type { DownEntry } from './entry.ts';
import { DOWN_HEADER_BYTES, DownByte } from './header.ts';

/** Tables that packets can be handed down to. */
const MOST_TABLES = 64;

export class DownDoor {
  readonly program: Program;
  readonly #tables = ProgramArrayMap.create({ name: 'mr_down', maxEntries: MOST_TABLES });
  readonly #free = Array.from({ length: MOST_TABLES }, (_, place) => place);

  /** @throws VerifierError, PrivilegeError, SystemError */
  constructor() {
    try {
      this.program = loadProgram({ type: 'sched_cls', code: this.#generate() });
    } catch (error) {
      this.#tables.close();
      throw error;
    }
  }

  /** Packets may come for a table. @returns its place; -1 when all are taken */
  open(entry: DownEntry): number {
    const place = this.#free.shift();
    if (place === undefined) return -1;
    this.#tables.put(place, entry.program);
    return place;
  }

  /** Nothing comes for a table any more. */
  shut(place: number): void {
    this.#tables.delete(place);
    this.#free.push(place);
  }

  #generate(): ProgramBuilder {
    const b = new ProgramBuilder('millrace_door');
    const drop = b.label('nowhere to go');
    b.mov(R6, R1);
    b.packetOfTc(R6, R7, R8);
    b.needBytes(R7, R8, DOWN_HEADER_BYTES, R1, drop);
    b.loadNetwork(R3, 'u16', at(R7, DownByte.TABLE));
    b.call('tail_call', R6, this.#tables, R3);
    b.place(drop);
    b.return(TC.SHOT);
    return b;
  }

  close(): void {
    this.program.close();
    this.#tables.close();
  }
}
