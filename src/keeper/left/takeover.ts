/**
 * A daemon's start after one that was killed or that left its flows in the kernel. Until the new one has its ports and tables, what was left
 * goes on working; then tables and programs pass over one by one, and what nobody wants any more is taken off. Nothing of it makes a packet
 * go two ways: an interface always has a program that carries its packets or hands them up, until the port is a port no more.
 * Neighbours: kept.ts is what there is; ports/ and tables/ have those of this process, and a table settles its own flows.
 */
import type { FlowSource } from '../../flow/index.ts';
import { comesOfShortage, type Timer } from '../../host/index.ts';
import type { Ability, Attachment, Installation, LoadedProgram } from '../../offload/index.ts';
import { type KeeperHost, messageOf } from '../contract.ts';
import { Condition } from '../ports/condition.ts';
import { InterfaceChanges } from '../ports/interface-changes.ts';
import {
  KeptState,
  type LeftPrograms,
  type LeftTables,
  type PreparedTables,
  type ProgramHolder,
  transientHolder,
} from './kept.ts';
import { ParkedPrograms } from './parked.ts';
import { findPins, makePins, removePins, restorePins } from './pin-place.ts';

/** How long an extension may take to come back that may offer its tables. */
const GRACE_MS = 10_000;

/** How often it is looked whether what is pinned still is. */
const PINS_MS = 1_000;

const GO_ON =
  'the flows that the daemon before left in the kernel go on: the next `millrace up` takes them up, `millrace down` ends them';

/** What is being taken up of what was left. */
export interface TakenUp {
  /** Nothing is to run in the kernel. */
  readonly isOff: boolean;
  /** Whether tables that were taken up decide about an interface. */
  isTaken(ifindex: number): boolean;
  /** Whether a source has come whose tables could not be opened so far. */
  isAwaited(name: string): boolean;
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
  readonly #host: KeeperHost;
  readonly #pinWatch: Timer;
  /** Why pins that somebody has removed are not back, when that was last tried. */
  readonly #pinTrouble = new Condition();
  /** Why programs that nobody has taken up are still on an interface, by its index. */
  readonly #dropTrouble = new Map<number, Condition>();

  constructor(host: KeeperHost) {
    this.#host = host;
    this.#pinWatch = host.loop.timers.every(PINS_MS, { onTimer: () => this.#lookAfterPins() });
    const folder = findPins(host.identity);
    if (folder === null) return;
    try {
      this.#open(folder);
    } catch (error) {
      host.warn(`what was left in the kernel cannot be taken up: ${messageOf(error)}`);
    }
  }

  #open(folder: string): void {
    const kept = new KeptState(folder);
    this.#kept = kept;
    for (const refusal of [...kept.refusals, ...kept.remains.splice(0)]) this.#host.warn(refusal);
    if (!kept.hasLeft) return;
    const interfaces = kept.interfaces.size;
    const tables = [...kept.tables.keys()].join(', ');
    this.#host.log('flows that were left in the kernel go on', { interfaces, tables });
  }

  /** Where pins are; null when nothing outlives the process. */
  get folder(): string | null {
    return this.#kept?.folder ?? null;
  }

  /** See that things can be kept. */
  prepare(): Ability {
    try {
      if (this.#kept === null) this.#open(makePins(this.#host.identity));
      return { possible: true };
    } catch (error) {
      return { possible: false, reason: messageOf(error), passes: comesOfShortage(error) };
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
    return takeFrom(this.#kept?.programs, ifindex);
  }

  /** The start has failed at a port that had taken programs up: its interface is what it was before. */
  giveBack(left: LeftPrograms): void {
    const { ifindex } = left;
    this.#parked.restore((attachment) => attachment.ifindex === ifindex);
    this.#kept?.programs.set(ifindex, left);
    try {
      this.changes.takeOwnBack(ifindex);
    } catch (error) {
      this.#host.warn(`an interface of the former process is not what it was: ${messageOf(error)}`);
    }
  }

  /** Whether tables of the former process that were not taken up yet decide about an interface. */
  isWaiting(ifindex: number): boolean {
    for (const { interfaces } of this.#kept?.tables.values() ?? []) if (interfaces.has(ifindex)) return true;
    return false;
  }

  /** The packets of an interface shall come by another way: nothing that was left there carries them any more, nor hands them to the kernel. */
  silence(ifindex: number): void {
    const left = this.#kept?.programs.get(ifindex);
    if (left === undefined) return;
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
    try {
      if (this.#kept === null) this.#transientChanges.readdress(ifindex);
      else this.#kept.readdress(ifindex);
    } catch (error) {
      this.#host.warn(`should the daemon be killed, the next may not know an interface again: ${messageOf(error)}`);
    }
  }

  /** An interface has no link. */
  lostLink(ifindex: number): void {
    try {
      this.changes.lostLink(ifindex);
    } catch (error) {
      this.#host.warn(`an interface that was set down may be set down once more in the end: ${messageOf(error)}`);
    }
  }

  // Tables.

  /** The tables that a source had before; from now on they are the caller's. */
  takeTables(name: string): LeftTables | null {
    return takeFrom(this.#kept?.tables, name);
  }

  /** Interfaces that are what they were when the former process left them. */
  get interfaces(): ReadonlySet<number> {
    return this.#kept?.interfaces ?? new Set();
  }

  /** Pin what is about to run. @returns null when nothing is kept */
  prepareTables(source: FlowSource, installation: Installation): PreparedTables | null {
    try {
      return this.#kept?.prepare(source.name, source.returnsWith ?? null, installation) ?? null;
    } catch (error) {
      this.#host.warn(`a restart will interrupt flows of ${source.name}: ${messageOf(error)}`);
      return null;
    }
  }

  /** Programs that have changed come to interfaces, too, whose ports are not there yet. */
  exchange(
    { interfaces }: LeftTables,
    programs: { readonly tc: LoadedProgram | null; readonly xdp: LoadedProgram | null },
  ): void {
    for (const { ifindex, tc, xdp } of this.#kept?.programs.values() ?? []) {
      if (!interfaces.has(ifindex)) continue;
      if (programs.tc !== null && tc !== undefined) this.#parked.replace(tc, programs.tc.program);
      if (programs.xdp !== null && xdp !== undefined) this.#parked.replace(xdp, programs.xdp.program);
    }
  }

  /** They were not used, and wait for their source to come again. */
  returnTables(left: LeftTables): void {
    this.#kept?.tables.set(left.name, left);
  }

  giveBackTables(left: LeftTables): void {
    this.#kept?.giveBackTables(left);
  }

  removeTables(name: string): void {
    this.#kept?.removeTables(name);
  }

  // In the course of time.

  /** See that what is to outlive the process is pinned, and pin it again where somebody has removed it. */
  #lookAfterPins(): void {
    const kept = this.#kept;
    if (kept === null) return;
    let trouble: string | null = null;
    const path = kept.missing;
    if (path !== null) {
      try {
        restorePins(this.#host.identity, kept.folder);
        const lost = kept.pinAgain();
        const until = lost.length === 0 ? '' : `; of ${lost.join(', ')} only with its next program`;
        this.#host.warn(`${path} was removed by somebody: what is to outlive the daemon is pinned again${until}`);
      } catch (error) {
        trouble = messageOf(error);
      }
    }
    if (!this.#pinTrouble.see(trouble, this.#host.nowMs()) || trouble === null) return;
    this.#host.warn(
      `${path} is not pinned any more: a restart will interrupt flows, as it cannot be pinned: ${trouble}`,
    );
  }

  /** The configuration is in force, and the start cannot fail any more: programs at XDP that stand aside for other ones go. */
  start(): void {
    for (const attachment of this.#parked.forgetXdp()) this.#kept?.detach(attachment);
    this.#started = true;
    this.#startedMs = this.#host.nowMs();
  }

  /** Whether the configuration is in force. */
  get isStarted(): boolean {
    return this.#started;
  }

  /** Take off what nobody is going to take up. */
  dropStale({ isOff, isTaken, isAwaited }: TakenUp): void {
    const kept = this.#kept;
    if (kept === null || !this.#started) return;
    for (const { name, returnsWith } of [...kept.tables.values()]) {
      // The extension itself may be asked for a little later.
      const isEarly = this.#host.nowMs() < this.#startedMs + GRACE_MS;
      if (isAwaited(name)) continue;
      if (!isOff && returnsWith !== null && (isEarly || this.#host.extensionRuns(returnsWith))) continue;
      this.#host.log('flows of the former process end, as nobody has them now', { table: name });
      kept.removeTables(name);
    }
    for (const { ifindex } of [...kept.programs.values()]) {
      if (!this.isWaiting(ifindex) && !isTaken(ifindex)) this.dropPrograms(ifindex);
    }
  }

  /** Take programs off an interface that nobody has taken up. What fails is said, and tried again with {@link dropStale}. */
  dropPrograms(ifindex: number): void {
    let trouble: string | null = null;
    try {
      this.#kept?.dropPrograms(ifindex, this.#silenced.has(ifindex));
    } catch (error) {
      trouble = messageOf(error);
    }
    const condition = this.#dropTrouble.get(ifindex) ?? new Condition();
    if (trouble === null) this.#dropTrouble.delete(ifindex);
    else this.#dropTrouble.set(ifindex, condition);
    if (!condition.see(trouble, this.#host.nowMs()) || trouble === null) return;
    this.#host.warn(`programs of the former process stay on interface ${ifindex} for now: ${trouble}`);
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
        this.#host.warn(remains);
      }
      this.#end();
      removePins(this.#host.identity);
    } catch (error) {
      this.#host.warn(`something stays in the kernel; try \`millrace down\` once more: ${messageOf(error)}`);
    }
  }

  #end(): void {
    this.#pinWatch.cancel();
    this.#kept = null;
    this.#parked.close();
  }
}

/** What was left under a key, which is nobody else's then. */
function takeFrom<Key, Left>(all: Map<Key, Left> | undefined, key: Key): Left | null {
  const left = all?.get(key) ?? null;
  all?.delete(key);
  return left;
}
