/**
 * Where packets that the engine hands down come into the programs of their table: each field of what lies before the frame is checked, the look-up's surroundings go to
 * where a pass leaves them, the bytes before the frame go, and the packet goes on with the program for packets that are looked up again. header.ts draws what is before the frame.
 *
 * Whoever may send here could as well send on any port; still, what makes no sense is dropped, under the reason that the engine has for such records.
 */
import {
  at,
  loadProgram,
  type MapReference,
  type Program,
  ProgramArrayMap,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R6,
  R7,
  R8,
  R9,
  TC,
} from '../../bpf/index.ts';
import {
  Drop,
  RESUME_BYTES,
  RESUME_VERSION,
  ResumeByte,
  ResumePosition,
  resumeByteOf,
  Word,
} from '../../flow/index.ts';
import { ofTracked } from '../connections/code.ts';
import { MAXIMUM_IFINDEX, MAXIMUM_PORTS, MAXIMUM_RECIRCULATIONS } from '../layout/limits.ts';
import type { ProgramMaps } from '../layout/maps.ts';
import {
  CPU_BYTES,
  CpuByte,
  LANE_BYTES,
  LaneByte,
  PORT_WORDS,
  PortFlag,
  PortWord,
  TrackedWord,
} from '../layout/sizes.ts';
import { DOWN_HEADER_BYTES, DownByte } from './header.ts';

const BEFORE_FRAME_BYTES = DOWN_HEADER_BYTES + RESUME_BYTES;
const ETHERNET_BYTES = 14;
const ROOM_BEHIND_ETHERNET = 1;
const SAME_SEGMENTS = 1;

/** Words of the key that go on with a packet, and where; the port is only compared. All others before layer 2 have to be 0. */
const PLACES = new Map<number, number>([
  [Word.RECIRC_ID, CpuByte.RECIRC_ID],
  [Word.DP_HASH, CpuByte.DP_HASH],
]);
for (let word: number = Word.CT; word < Word.L2; word += 1)
  PLACES.set(word, CpuByte.TRACKED + (TrackedWord.KEY + word - Word.CT) * 4);

/** The entry of one table. */
export class DownEntry {
  readonly program: Program;
  readonly #goOn = ProgramArrayMap.create({ name: 'mr_go_on', maxEntries: 1 });

  /**
   * @param maps of the table; those that it uses do not change with its size
   * @throws VerifierError, PrivilegeError, SystemError
   */
  constructor(maps: ProgramMaps) {
    try {
      this.program = loadProgram({ type: 'sched_cls', code: downProgram(maps, this.#goOn) });
    } catch (error) {
      this.#goOn.close();
      throw error;
    }
  }

  /** Packets go on with this program from now on: one for packets that are looked up again, of a plan that hands down. */
  goOnWith(again: Program): void {
    this.#goOn.put(0, again);
  }

  close(): void {
    this.program.close();
    this.#goOn.close();
  }
}

/** @param goOn has the program for packets that are looked up again in slot 0 */
function downProgram({ sizes, maps }: ProgramMaps, goOn: MapReference): ProgramBuilder {
  const b = new ProgramBuilder('millrace_down');
  const malformed = b.label('it makes no sense');
  const failed = b.label('it is lost');
  const header = (byte: number) => at(R7, byte);
  const record = (byte: number) => at(R7, DOWN_HEADER_BYTES + byte);
  b.mov(R6, R1);
  // R9 is this CPU's part of `cpus`, R7 the packet, R8 the port.
  b.callHelper('get_smp_processor_id');
  b.and(R0, sizes.cpus - 1);
  b.shl(R0, Math.log2(CPU_BYTES));
  b.loadMapValue(R9, maps.cpus);
  b.add(R9, R0);
  const needed = BEFORE_FRAME_BYTES + ETHERNET_BYTES;
  b.packetOfTc(R6, R7, R8);
  b.block((isThere) => {
    b.mov(R1, R7);
    b.add(R1, needed);
    b.jumpIf(R1, '<=', R8, isThere);
    b.mov(R1, R6);
    b.mov(R2, needed);
    b.callHelper('skb_pull_data');
    b.packetOfTc(R6, R7, R8);
  });
  b.needBytes(R7, R8, needed, R1, malformed);

  // The port: one whose programs run, and that has a way up for what is not found.
  b.loadNetwork(R1, 'u32', header(DownByte.INTERFACE));
  b.jumpIf(R1, '>', MAXIMUM_IFINDEX, malformed);
  b.store('u32', at(R9, CpuByte.IFINDEX), R1);
  b.shl(R1, Math.log2(PORT_WORDS * 4));
  b.loadMapValue(R8, maps.ports);
  b.add(R8, R1);
  b.load(R1, 'u32', at(R8, PortWord.FLAGS * 4));
  b.and(R1, PortFlag.ON | PortFlag.EGRESS);
  b.jumpIf(R1, '!=', PortFlag.ON, malformed);
  b.load(R1, 'u32', at(R8, PortWord.PUNT_IFINDEX * 4));
  b.jumpIf(R1, '==', 0, malformed);

  // The record.
  b.loadNetwork(R1, 'u32', record(ResumeByte.LENGTH));
  b.jumpIf(R1, '!=', (RESUME_BYTES << 16) | (RESUME_VERSION << 8) | ResumePosition.LOOK_UP, malformed);
  b.load(R1, 'u8', record(ResumeByte.TUNNEL_WORDS));
  b.jumpIf(R1, '!=', 0, malformed);
  b.load(R1, 'u8', record(ResumeByte.PASSES));
  b.jumpIf(R1, '==', 0, malformed);
  b.jumpIf(R1, '>', MAXIMUM_RECIRCULATIONS, malformed);
  b.store('u32', at(R9, CpuByte.DEPTH), R1);
  b.loadNetwork(R1, 'u16', record(ResumeByte.TICKET));
  b.store('u32', at(R9, CpuByte.TICKET), R1);
  for (let word = 0; word < Word.L2; word += 1) {
    b.loadNetwork(R1, 'u32', record(resumeByteOf(word)));
    const place = PLACES.get(word);
    if (word === Word.IN_PORT) {
      b.load(R2, 'u32', at(R8, PortWord.NUMBER * 4));
      b.jumpIf(R1, '!=', R2, malformed);
    } else if (place === undefined) b.jumpIf(R1, '!=', 0, malformed);
    else b.store('u32', at(R9, place), R1);
    if (word === Word.RECIRC_ID) b.jumpIf(R1, '==', 0, malformed);
  }
  b.store('u32', ofTracked(TrackedWord.TRANSLATES, R9), 0);
  b.store('u32', at(R9, CpuByte.CHANGED), 1);

  // The frame: its Ethernet header takes the place of the other one, once what lies between that and layer 3 is gone.
  b.load(R1, 'u16', at(R7, BEFORE_FRAME_BYTES + DownByte.TYPE));
  b.load(R2, 'u16', header(DownByte.TYPE));
  b.jumpIf(R1, '!=', R2, malformed);
  const ethernet = b.stack(16, 8);
  for (let byte = 0; byte < 12; byte += 4) {
    b.load(R2, 'u32', at(R7, BEFORE_FRAME_BYTES + byte));
    b.store('u32', ethernet.at(byte), R2);
  }
  b.store('u16', ethernet.at(12), R1);
  b.call('skb_adjust_room', R6, -BEFORE_FRAME_BYTES, ROOM_BEHIND_ETHERNET, SAME_SEGMENTS);
  b.jumpIf(R0, '!=', 0, failed);
  b.call('skb_store_bytes', R6, 0, ethernet, ETHERNET_BYTES, 0);
  b.jumpIf(R0, '!=', 0, failed);
  b.call('tail_call', R6, goOn, 0);

  b.place(failed);
  b.load(R1, 'u32', at(R8, PortWord.LANE * 4));
  b.and(R1, MAXIMUM_PORTS - 1);
  b.shl(R1, Math.log2(LANE_BYTES));
  b.add(R9, R1);
  count(b, CpuByte.LANES + LaneByte.FAILED);
  b.place(malformed);
  count(b, CpuByte.DROPS + Drop.RESUME_MALFORMED * 8);
  return b;
}

/** One more at R9 and a distance; the packet is dropped. */
function count(b: ProgramBuilder, byte: number): void {
  b.load(R1, 'u64', at(R9, byte));
  b.add(R1, 1);
  b.store('u64', at(R9, byte), R1);
  b.return(TC.SHOT);
}
