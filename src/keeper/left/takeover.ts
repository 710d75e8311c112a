/**
 * A daemon's start after one that was killed or that left its flows in the kernel. Until the new one has its ports and tables, what was left
 * goes on working; then tables and programs pass over one by one, and what nobody wants any more is taken off. Nothing of it makes a packet
 * go two ways: an interface always has a program that carries its packets or hands them up, until the port is a port no more.
 * Neighbours: kept.ts is what there is; port-offloads.ts has the ports, flow-tables.ts the tables of this process.
 */
import type { FlowSource } from '../../../flow/index.ts';
import type { Ability, Attachment, Installation, LoadedProgram } from '../../../offload/index.ts';
import { messageOf } from '../../../switch/index.ts';
import { InterfaceChanges } from './interface-changes.ts';
import {
  KeptState,
  type LeftPrograms,
  type LeftTables,
  type PreparedTables,
  type ProgramHolder,
  transientHolder,
} from './kept.ts';
import { ParkedPrograms } from './parked.ts';
import { findPins, makePins, removePins } from './pin-place.ts';
import type { OffloadedSource } from './source.ts';

/** How long flows go on of a source whose program is to decide anew, from when the source is back. */
const GRACE_MS = 10_000;
/** Flows told to their source at once, and flows taken out at once: their packets come up until they are put again. */
const RECALL_FLOWS = 256;
const REMOVE_FLOWS = 16;

const GO_ON =
  'the flows that the daemon before left in the kernel go on: the next `millrace up` takes them up, `millrace down` ends them';

export interface TakeoverSurroundings {
  readonly identity: string;
  nowMs(): number;
  warn(message: string): void;
  log(message: string, fields: Record<string, unknown>): void;
  /** Whether an extension is there that may offer its tables later. */
  extensionRuns(name: string): boolean;
  /** The switch's port behind an interface; -1 for none. */
  portIdOf(ifindex: number): number;
}

/** What of a former process's tables is still to be settled. */
export interface TakenTables {
  readonly left: LeftTables;
  /** Tells flows to the source; null when all are told. */
  recall: Iterator<{
    readonly ifindex: number;
    readonly outputs: readonly number[] | null;
    readonly key: Uint32Array;
  }> | null;
  /** When what is not claimed ends. */
  untilMs: number;
  removed: number;
}

export class Takeover {
  #kept: KeptState | null = null;
  #started = false;
  #startedMs = 0;
  /** Programs that stand aside. */
  readonly #parked = new ParkedPrograms();
  /** Interfaces whose packets come by another way now. */
  readonly #silenced = new Set<number>();
  /** Where nothing is kept. */
  readonly #transientChanges = new InterfaceChanges(() => {});
  readonly #around: TakeoverSurroundings;

  constructor(around: TakeoverSurroundings) {
    this.#around = around;
    const folder = findPins(around.identity);
    if (folder === null) return;
    try {
      this.#open(folder);
    } catch (error) {
      around.warn(`what was left in the kernel cannot be taken up: ${messageOf(error)}`);
    }
  }

  #open(folder: string): void {
    const kept = new KeptState(folder);
    this.#kept = kept;
    for (const refusal of [...kept.refusals, ...kept.remains.splice(0)]) this.#around.warn(refusal);
    if (!kept.hasLeft) return;
    const interfaces = kept.interfaces.size;
    const tables = [...kept.tables].map(({ name }) => name).join(', ');
    this.#around.log('flows that were left in the kernel go on', { interfaces, tables });
  }

  /** Where pins are; null when nothing outlives the process. */
  get folder(): string | null {
    return this.#kept?.folder ?? null;
  }

  /** See that things can be kept. */
  prepare(): Ability {
    try {
      if (this.#kept === null) this.#open(makePins(this.#around.identity));
      return { possible: true };
    } catch (error) {
      return { possible: false, reason: messageOf(error) };
    }
  }

  get holder(): ProgramHolder {
    return this.#kept ?? transientHolder;
  }

  /** Whether things were left and the process has not yet all that it shall have: should it fail, they stay. */
  get isUnderWay(): boolean {
    return !this.#started && this.#kept?.hasLeft === true;
  }

  /** What becomes of what was left, should the process fail now, as one sentence; null when that was nothing. */
  get fate(): string | null {
    const removed = (this.#kept?.refusals ?? []).map((refusal) => `${refusal}, and was removed`);
    return [...(this.isUnderWay ? [GO_ON] : []), ...removed].join('; ') || null;
  }

  // Ports.

  /** What was left on an interface; from now on it is the caller's. */
  takePrograms(ifindex: number): LeftPrograms | null {
    return this.#kept?.takePrograms(ifindex) ?? null;
  }

  /** The start has failed at a port that had taken programs up: its interface is what it was before. */
  giveBack(left: LeftPrograms): void {
    const { ifindex } = left;
    this.#parked.restore((attachment) => attachment.ifindex === ifindex);
    this.changes.takeOwnBack(ifindex);
    this.#kept?.giveBack(left);
  }

  /** Whether tables of the former process that were not taken up yet decide about an interface. */
  isWaiting(ifindex: number): boolean {
    return this.#kept?.isWaiting(ifindex) ?? false;
  }

  /** The packets of an interface shall come by another way: nothing that was left there carries them any more, nor hands them to the kernel. */
  silence(ifindex: number): void {
    const left = this.#kept?.programsOf(ifindex) ?? null;
    if (left === null) return;
    this.#silenced.add(ifindex);
    if (left.xdp !== undefined) this.park(left.xdp);
    if (left.tc !== undefined) this.#parked.park(left.tc);
  }

  /** A program of the former process is not to run any more; should the start fail, it does again. */
  park(xdp: Attachment): void {
    if (this.isUnderWay) this.#parked.park(xdp);
    else this.#kept?.detach(xdp);
  }

  /** What was changed about interfaces. */
  get changes(): InterfaceChanges {
    return this.#kept?.changes ?? this.#transientChanges;
  }

  /** An interface may have another MAC address now. */
  readdress(ifindex: number): void {
    if (this.#kept === null) this.#transientChanges.readdress(ifindex);
    else this.#kept.readdress(ifindex);
  }

  // Tables.

  /** The tables that a source had before; from now on they are the caller's. */
  takeTables(name: string): LeftTables | null {
    return this.#kept?.takeTables(name) ?? null;
  }

  /** What is to be done about tables that a source has taken up. */
  begin({ source, flows }: OffloadedSource, left: LeftTables): TakenTables {
    const removed = flows.retain(this.#kept?.interfaces ?? new Set());
    const returns = source.returnsWith !== undefined;
    const recall = source.recall === undefined ? null : flows.leftFlows()[Symbol.iterator]();
    return { left, recall, untilMs: returns ? this.#around.nowMs() + GRACE_MS : 0, removed };
  }

  /** Pin what is about to run. @returns null when nothing is kept */
  prepareTables(source: FlowSource, installation: Installation): PreparedTables | null {
    try {
      return this.#kept?.prepare(source.name, source.returnsWith ?? null, installation) ?? null;
    } catch (error) {
      this.#around.warn(`a restart will interrupt flows of ${source.name}: ${messageOf(error)}`);
      return null;
    }
  }

  /** Programs that have changed come to interfaces, too, whose ports are not there yet. */
  exchange(
    tables: TakenTables | null,
    programs: { readonly tc: LoadedProgram | null; readonly xdp: LoadedProgram | null },
  ): void {
    if (this.#kept === null || tables === null) return;
    for (const { ifindex, tc, xdp } of this.#kept.programs) {
      if (!tables.left.interfaces.has(ifindex)) continue;
      if (programs.tc !== null && tc !== undefined) this.#parked.replace(tc, programs.tc.program);
      if (programs.xdp !== null && xdp !== undefined) this.#parked.replace(xdp, programs.xdp.program);
    }
  }

  giveBackTables(left: LeftTables): void {
    this.#kept?.giveBackTables(left);
  }

  removeTables(name: string): void {
    this.#kept?.removeTables(name);
  }

  // In the course of time.

  /** The configuration is in force: whoever is not there now was not wanted. */
  start(): void {
    for (const attachment of this.#parked.forgetXdp()) this.#kept?.detach(attachment);
    this.#started = true;
    this.#startedMs = this.#around.nowMs();
  }

  /**
   * Go on with tables that were taken up.
   * @returns null when nothing is left to be done about them
   */
  step({ source, flows }: OffloadedSource, tables: TakenTables): TakenTables | null {
    if (!this.#started) return tables;
    if (tables.recall !== null) {
      for (let count = 0; count < RECALL_FLOWS; count += 1) {
        const next = tables.recall.next();
        if (next.done === true) {
          tables.recall = null;
          break;
        }
        const { ifindex, outputs, key } = next.value;
        const portId = this.#around.portIdOf(ifindex);
        const outputPortIds = (outputs ?? []).map((output) => this.#around.portIdOf(output));
        if (portId !== -1 && !outputPortIds.includes(-1)) source.recall?.({ portId, outputPortIds, key });
      }
      return tables;
    }
    if (this.#around.nowMs() < tables.untilMs) return tables;
    for (const ifindex of tables.left.interfaces) this.#drop(ifindex);
    tables.removed += flows.reconcile(REMOVE_FLOWS);
    if (!flows.isReconciled) return tables;
    this.#around.log('flows of the former process were taken over', { table: source.name, ended: tables.removed });
    return null;
  }

  /**
   * Take off what nobody is going to take up.
   * @param isOff nothing is to run in the kernel
   * @param isTaken whether tables that were taken up decide about an interface
   */
  dropStale(isOff: boolean, isTaken: (ifindex: number) => boolean): void {
    const kept = this.#kept;
    if (kept === null || !this.#started) return;
    for (const { name, returnsWith } of [...kept.tables]) {
      // The extension itself may be asked for a little later.
      const isEarly = this.#around.nowMs() < this.#startedMs + GRACE_MS;
      if (!isOff && returnsWith !== null && (isEarly || this.#around.extensionRuns(returnsWith))) continue;
      this.#around.log('flows of the former process end, as nobody has them now', { table: name });
      kept.removeTables(name);
    }
    for (const { ifindex } of [...kept.programs]) {
      if (!kept.isWaiting(ifindex) && !isTaken(ifindex)) this.#drop(ifindex);
    }
  }

  #drop(ifindex: number): void {
    this.#kept?.dropPrograms(ifindex, this.#silenced.has(ifindex));
  }

  /** The start has failed: what was left is what it was before. */
  restore(): void {
    this.#parked.restore(() => true);
  }

  /** Let go; everything that is pinned goes on working. */
  leave(): void {
    this.#kept?.close();
    this.#end();
  }

  /** Take everything off, and leave nothing. */
  remove(): void {
    try {
      this.#kept?.removeAll();
      for (const remains of [...(this.#kept?.remains ?? []), ...this.#transientChanges.seekLost()]) {
        this.#around.warn(remains);
      }
      this.#end();
      removePins(this.#around.identity);
    } catch (error) {
      this.#around.warn(`something stays in the kernel; try \`millrace down\` once more: ${messageOf(error)}`);
    }
  }

  #end(): void {
    this.#kept = null;
    this.#parked.close();
  }
}
