/**
 * One flow table that an extension offers, with what of it runs in the kernel: its ports as programs know them, and the programs as they come.
 * Neighbours: flow-tables.ts keeps all tables, port-offload.ts puts programs on interfaces.
 */
import type { FlowSource } from '../../../flow/index.ts';
import {
  FlowOffload,
  type Installation,
  type LoadedProgram,
  type Marks,
  type Refused,
  type Workshop,
} from '../../../offload/index.ts';
import type { LeftTables } from './kept.ts';
import type { PortOffload } from './port-offload.ts';
import type { TakenTables } from './takeover.ts';

export interface SourceSurroundings {
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /** Interface of the punt channel. */
  readonly puntIfindex: number;
  /** Where programs and tables are made. */
  readonly workshop: Workshop;
  /** Put programs on the ports of this source. */
  install(source: OffloadedSource, installation: Installation): void;
  /** Runs of programs, and what they have handed up. */
  readonly programs: Marks;
  readonly wayUp: Marks;
  /** Packets that the punt channel holds at most. */
  readonly mostUnderWay: number;
  /** Packets that programs had handed up and that have not come. */
  lost(ifindex: number, packets: number): void;
  /** Flows ask for more masks than programs have; `portId` is the switch's port that asks for most. */
  masksFull(source: OffloadedSource, portId: number, masks: number): void;
  refused(source: OffloadedSource, refusal: Refused, hookIsLost: boolean): void;
  /** Why programs cannot have a port of the switch, as the rest of a sentence that begins with it; null when that is not known. */
  absence(portId: number): string | null;
  /** Programs make no copies any more, though they were asked for. */
  copiesRefused(refusal: Refused): void;
}

export class OffloadedSource {
  readonly source: FlowSource;
  readonly flows: FlowOffload;
  /** What runs now, by hook. */
  tc: LoadedProgram | null = null;
  xdp: LoadedProgram | null = null;
  /** What is still to be settled of the tables that a former process left. */
  taken: TakenTables | null = null;
  readonly #around: SourceSurroundings;

  /**
   * @param left tables to go on with
   * @throws UnsupportedError, PrivilegeError, SystemError
   */
  constructor(source: FlowSource, left: LeftTables | null, around: SourceSurroundings) {
    this.source = source;
    this.#around = around;
    this.flows = new FlowOffload({
      table: source.table,
      nowMs: () => around.nowMs(),
      programs: around.programs,
      workshop: around.workshop,
      wayUp: around.wayUp,
      install: (installation) => {
        for (const program of installation.programs) this[program.hook] = program;
        around.install(this, installation);
      },
      refused: (refusal, hookIsLost) => around.refused(this, refusal, hookIsLost),
      copiesRefused: (refusal) => around.copiesRefused(refusal),
      masksFull: (number, masks) => around.masksFull(this, source.portIdOf(number), masks),
      lost: (ifindex, packets) => around.lost(ifindex, packets),
      absence: (number) => around.absence(source.portIdOf(number)),
      mostUnderWay: around.mostUnderWay,
      carried: (slot, packets, bytes) => source.carried?.(slot, packets, bytes),
      resumes: source.resume !== undefined,
      ...(source.hashSecret === undefined ? {} : { hashSecret: source.hashSecret }),
      ...(left === null ? {} : { adopt: left }),
    });
  }

  /** Whether programs of the former process go on with these tables, and none of this one do yet. */
  get isTakenOver(): boolean {
    return this.taken !== null && this.tc === null;
  }

  /** Whether this table decides about the packets of a port. */
  has(port: PortOffload): boolean {
    return this.source.numberOf(port.port.id) !== -1;
  }

  /** Whether nothing else looks at the packets of a port. */
  isOpen(port: PortOffload): boolean {
    return this.source.isOpen?.(port.port.id) ?? true;
  }

  /** Tell the tables what a port is now. */
  setPort(one: PortOffload): void {
    const number = this.source.numberOf(one.port.id);
    if (number === -1) {
      this.flows.removePort(one.ifindex);
      return;
    }
    const { isOpen } = one;
    const hook = isOpen ? one.wanted : null;
    const refusal = this.flows.setPort({
      ifindex: one.ifindex,
      number,
      hook,
      tapLike: one.isTap,
      mtuBytes: one.mtuBytes,
      puntIfindex: one.isTap ? 0 : this.#around.puntIfindex,
      output: isOpen,
      xdpOutput: isOpen && one.xdpOutput,
      isDown: one.port.isLinkDown,
    });
    if (one.share !== null) this.flows.setShare(one.ifindex, one.share.packets);
    one.reason = refusal ?? (isOpen ? one.attachReason : 'something else looks at its packets');
  }

  close(): void {
    this.flows.close();
  }
}
