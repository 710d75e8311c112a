/**
 * One flow table that an extension offers, with what of it runs in the kernel: its ports as programs know them, and its programs, which are pinned and put
 * on their ports as they come. A table that a former process has left goes on as it is, and is settled step by step:
 *
 *      held -- the configuration is in force --> recalling -- all flows are told --> claimable -- the time is over --> removing --> own
 *
 *      held        programs and entries of the former process go on
 *      recalling   the source is told which flows still run, so that it puts again those that it would make now
 *      claimable   flows that it puts are found in the tables, with what they have counted
 *      removing    what nobody has claimed goes, a few at a time
 *      own         all that runs is this process's
 *
 * Neighbours: tables.ts keeps all of them, left/ has what was left.
 */
import type { FlowSource } from '../../flow/index.ts';
import type { PortId } from '../../net/index.ts';
import {
  FlowOffload,
  type Installation,
  type LeftFlow,
  type LoadedProgram,
  type Refused,
  type Workshop,
} from '../../offload/index.ts';
import { type KeeperHost, messageOf } from '../contract.ts';
import type { CaptureCopies } from '../copies/copies.ts';
import type { DownPath } from '../downs/down-path.ts';
import { TableDown } from '../downs/table-down.ts';
import type { LeftTables } from '../left/kept.ts';
import type { Takeover } from '../left/takeover.ts';
import type { PortPrograms } from '../ports/port.ts';
import type { KeptPorts } from '../ports/ports.ts';
import { MOST_UNDER_WAY, type PuntPath } from '../punts/punt-path.ts';

/** How long flows go on of a source whose program is to decide anew, from when the source is back. */
const GRACE_MS = 10_000;
/** Flows told to their source at once, and flows taken out at once: their packets come up until they are put again. */
const RECALL_FLOWS = 256;
const REMOVE_FLOWS = 16;

/** What all tables work with. */
export interface TableRoom {
  readonly host: KeeperHost;
  readonly takeover: Takeover;
  readonly puntPath: PuntPath;
  readonly ports: KeptPorts;
  readonly copies: CaptureCopies;
  readonly downPath: DownPath;
  /** Where programs and tables are made. */
  readonly workshop: Workshop;
  /** Why programs do not have a port of the switch, as the rest of a sentence that begins with it; null when that is not known. */
  absenceOf(portId: PortId): string | null;
}

type State =
  | { readonly at: 'held' }
  | { readonly at: 'recalling'; readonly flows: Iterator<LeftFlow> }
  | { readonly at: 'claimable' }
  | { readonly at: 'removing' }
  | { readonly at: 'own' };

export class KeptTable {
  readonly source: FlowSource;
  readonly flows: FlowOffload;
  /** What of it is handed down. */
  readonly down: TableDown;
  /** What runs now, by hook. */
  tc: LoadedProgram | null = null;
  xdp: LoadedProgram | null = null;
  /** What a former process left; null when that was nothing. */
  readonly left: LeftTables | null;
  readonly #room: TableRoom;
  #state: State;
  /** When what is not claimed ends, and how many flows have ended so far. */
  readonly #untilMs: number;
  #ended = 0;

  /**
   * @param left tables to go on with
   * @throws UnsupportedError, PrivilegeError, SystemError
   */
  constructor(source: FlowSource, left: LeftTables | null, room: TableRoom) {
    this.source = source;
    this.left = left;
    this.#room = room;
    const { host, puntPath, ports, copies } = room;
    this.flows = new FlowOffload({
      table: source.table,
      nowMs: () => host.nowMs(),
      programs: host.programs,
      puntPath,
      workshop: room.workshop,
      install: (installation) => this.#install(installation),
      refused: (refusal, hookIsLost) => this.#refused(refusal, hookIsLost),
      copiesRefused: ({ reason }) => copies.refused(reason),
      masksFull: (number, masks) => this.#masksFull(number === -1 ? -1 : source.portIdOf(number), masks),
      lost: (ifindex, packets) => ports.lost(ifindex, packets),
      absence: (number) => this.#absenceOf(source.portIdOf(number)),
      mostUnderWay: MOST_UNDER_WAY,
      carried: (slot, packets, bytes) => source.carried?.(slot, packets, bytes),
      resumes: source.resume !== undefined || source.beginsAnew !== undefined,
      ...(source.hashSecret === undefined ? {} : { hashSecret: source.hashSecret }),
      ...(left === null ? {} : { adopt: left }),
    });
    this.down = new TableDown(this.flows, room.downPath);
    this.#state = { at: left === null ? 'own' : 'held' };
    if (left !== null) this.#ended = this.flows.retain(room.takeover.interfaces);
    this.#untilMs = source.returnsWith === undefined ? 0 : host.nowMs() + GRACE_MS;
  }

  /** Whether something of what was left is still to be settled. */
  get isSettling(): boolean {
    return this.#state.at !== 'own';
  }

  /** Whether programs of the former process go on with these tables, and none of this one do yet. */
  get isTakenOver(): boolean {
    return this.isSettling && this.tc === null;
  }

  /** Whether it decides about an interface as the former process left it. */
  hasTaken(ifindex: number): boolean {
    return this.isSettling && this.left?.interfaces.has(ifindex) === true;
  }

  /** Whether this table decides about the packets of a port. */
  has(one: PortPrograms): boolean {
    return this.source.numberOf(one.port.id) !== -1;
  }

  /** Whether nothing else looks at the packets of a port. */
  isOpen(one: PortPrograms): boolean {
    return this.source.isOpen?.(one.port.id) ?? true;
  }

  /** Why a port of the switch is not among its ports, as the rest of a sentence that begins with the port; null when that is not known. */
  #absenceOf(portId: PortId | -1): string | null {
    // It is none of the switch's, such as a tunnel.
    if (portId === -1) return null;
    const by = this.#room.ports.of(portId)?.source ?? null;
    if (by !== null && by !== this) return `is decided about by ${by.source.name}`;
    return this.#room.absenceOf(portId);
  }

  /** Tell the tables what a port is now. */
  setPort(one: PortPrograms): void {
    const number = this.source.numberOf(one.port.id);
    if (number === -1) {
      this.flows.removePort(one.ifindex);
      return;
    }
    const { isOpen } = one;
    const refusal = this.flows.setPort({
      ifindex: one.ifindex,
      number,
      hook: isOpen ? one.wanted : null,
      tapLike: one.isTap,
      mtuBytes: one.port.nicMtuBytes,
      puntIfindex: one.isTap ? 0 : this.#room.puntPath.open(),
      output: isOpen && this.source.takesOutput?.(one.port.id) !== false,
      xdpOutput: isOpen && one.xdpOutput,
      isDown: one.port.isLinkDown,
    });
    if (one.share !== null) this.flows.setShare(one.ifindex, one.share.packets);
    one.reason = refusal ?? (isOpen ? one.attachReason : 'something else looks at its packets');
  }

  /**
   * Do what is due.
   * @returns milliseconds until more is; -1 for nothing
   * @throws Error when a program cannot be made or put on its ports; the former ones go on
   */
  step(): number {
    if (this.isSettling) this.#settle(this.#state);
    const waitMs = this.flows.poll();
    return this.isSettling ? 0 : waitMs;
  }

  #settle(state: State): void {
    const { host, takeover } = this.#room;
    switch (state.at) {
      case 'held':
        if (!takeover.isStarted) return;
        this.#state =
          this.source.recall === undefined
            ? { at: 'claimable' }
            : { at: 'recalling', flows: this.flows.leftFlows()[Symbol.iterator]() };
        return;
      case 'recalling':
        for (let count = 0; count < RECALL_FLOWS; count += 1) {
          const next = state.flows.next();
          if (next.done === true) {
            this.#state = { at: 'claimable' };
            return;
          }
          this.#recall(next.value);
        }
        return;
      case 'claimable':
        if (host.nowMs() < this.#untilMs) return;
        for (const ifindex of this.left?.interfaces ?? []) takeover.dropPrograms(ifindex);
        this.#state = { at: 'removing' };
        return;
      case 'removing':
        this.#ended += this.flows.reconcile(REMOVE_FLOWS);
        if (!this.flows.isReconciled) return;
        host.log('flows of the former process were taken over', { table: this.source.name, ended: this.#ended });
        this.#state = { at: 'own' };
        return;
      case 'own':
    }
  }

  #recall({ ifindex, outputs, key }: LeftFlow): void {
    const { ports } = this.#room;
    const portId = ifindex === 0 ? -1 : ports.idOf(ifindex);
    const ids = (outputs ?? []).map((output) => ports.idOf(output));
    const outputPortIds = ids.flatMap((id) => (id === -1 ? [] : [id]));
    if (portId !== -1 && outputPortIds.length === ids.length) this.source.recall?.({ portId, outputPortIds, key });
  }

  /** Whenever the process is killed, what runs is pinned: it is pinned first, and is what the next one takes up when it runs everywhere. */
  #install(installation: Installation): void {
    const { takeover, ports, host } = this.#room;
    const { tc, xdp } = this;
    const of = (hook: LoadedProgram['hook']) => installation.programs.find((program) => program.hook === hook);
    const prepared = takeover.prepareTables(this.source, installation);
    // Without one over the same tables, a hook that is not used now has none.
    this.tc = of('tc') ?? (installation.newMaps ? null : tc);
    this.xdp = of('xdp') ?? (installation.newMaps ? null : xdp);
    try {
      ports.putPrograms(this);
      if (this.isSettling && this.left !== null) takeover.exchange(this.left, this);
    } catch (error) {
      this.#goBack(tc, xdp);
      prepared?.abandon();
      throw error;
    }
    prepared?.commit();
    for (const { hook, instructions } of installation.changed) {
      host.log('another program', { table: this.source.name, hook, instructions });
    }
  }

  /** The former programs go on, also on ports that have others by now, as far as that can be. */
  #goBack(tc: LoadedProgram | null, xdp: LoadedProgram | null): void {
    const { ports, host } = this.#room;
    this.tc = tc;
    this.xdp = xdp;
    try {
      ports.putPrograms(this);
    } catch (error) {
      host.log('former programs could not be put back', { table: this.source.name, why: messageOf(error) });
    }
  }

  #refused(refusal: Refused, hookIsLost: boolean): void {
    const { ports, host } = this.#room;
    if (hookIsLost) {
      this[refusal.hook] = null;
      this.#state = { at: 'own' };
      ports.putPrograms(this);
    }
    const what = hookIsLost ? `${refusal.hook} runs on the engine` : 'some flows stay in the engine';
    host.warn(`${this.source.name}: ${what}, as the verifier refuses a program: ${refusal.reason}`);
    host.log('a program was refused', { listing: refusal.listing, log: refusal.log });
  }

  #masksFull(portId: PortId | -1, masks: number): void {
    const { host } = this.#room;
    const name = portId === -1 ? '' : (host.portOf(portId)?.name ?? '');
    const whose = name === '' ? '' : `, ${masks} of them for port ${name}`;
    const what = `flows of ${this.source.name} ask for more masks than the kernel looks up${whose}`;
    host.warn(`${what}: those that carry most are there, the others in the engine`, name);
  }

  close(): void {
    this.down.close();
    this.flows.close();
  }
}
