/**
 * What the stages of this folder find out about a packet, and where it is kept. R6 is the context in all code of a program: no stage may change
 * it. The words of the flow key are facts of their own (`key` and `givesKey` of a stage); they lie in this CPU's part of `cpus` and not
 * on the stack: the verifier follows what is on the stack, and would walk the look-up anew for each way through the parser.
 */
import { R5, R7, R8 } from '../../bpf/index.ts';
import { Fact } from './stage.ts';

export const Found = {
  /** Address of this CPU's part of `cpus`. */
  CPU: new Fact('the CPU', { registers: [R5], slotBytes: 8, bring: (writer) => writer.cpu(R5) }),
  /** The CPU's number. */
  CPU_NUMBER: new Fact('the number of the CPU', { slotBytes: 4 }),
  /** Address of the port's words; the packet is one of a port whose programs are on. */
  PORT: new Fact('the port', { slotBytes: 8 }),
  /** The port's place in `cpus`. */
  LANE: new Fact('the counters of the port', { slotBytes: 4 }),
  /** Passes before this one; in the program for recirculated packets. */
  DEPTH: new Fact('the passes before', { slotBytes: 4 }),
  /** Where the engine would go on with a packet that was changed: see {@link ResumeSlot}. In programs that change packets before they look them up again. */
  RESUME: new Fact('where the engine would go on', { slotBytes: 16 }),
  /** First byte of the packet's linear part, and one behind the last; how many there are each stage looks for itself. */
  PACKET: new Fact('the packet’s bytes', { registers: [R7, R8], bring: (writer) => writer.packet() }),
  /** The parser has been through, and found nothing that only the engine should see. */
  HEADERS: new Fact('the headers'),
  /**
   * Where layer 3 begins, counted from the first byte in the buffer, if some shape or stage asks for it; else 0. In the upper half of its eight bytes
   * (`writer.layer3`): there the verifier does not follow 32 bits, and does not walk the look-up anew for each place where layer 3 can begin.
   */
  LAYER3: new Fact('where layer 3 begins', { slotBytes: 8 }),
  /** What tracking has told of the packet lies in this CPU's part of `cpus` (TrackedWord). */
  CONNECTION: new Fact('the connection'),
  /** Address of the entry that the packet falls to. */
  ENTRY: new Fact('the entry', { registers: [R7] }),
  /** Its number. */
  NUMBER: new Fact('the number of the entry', { registers: [R8] }),
  /** Nothing of the flow is on its way through the engine: the packet is carried, and counted as arrived. */
  ORDERED: new Fact('that the packet is carried'),
  /** The packet is counted: the number of its entry, and the address of the entry's counters on this CPU. */
  COUNTED: new Fact('the counted entry', { slotBytes: 4 }),
  COUNTERS: new Fact('the counters of the entry', { slotBytes: 8 }),
} as const;

/** Bytes of {@link Found.RESUME}: the look-up that comes next, and whether a pass before has changed the packet. */
export const ResumeSlot = { RECIRC_ID: 0, DP_HASH: 4, PASSES: 8, CHANGED: 12 } as const;
