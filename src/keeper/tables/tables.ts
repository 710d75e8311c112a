/**
 * The flow tables that extensions offer: each runs in the kernel while offload is on, with programs that come and change as its flows ask
 * for them. Neighbours: source.ts is one table, port-offloads.ts has the ports that they decide about.
 */
import type { CaptureHub } from '../../../extensions/capture/index.ts';
import type { FlowRegistration, FlowRegistry, FlowSource } from '../../../flow/index.ts';
import type { EventLoop, Timer } from '../../../host/index.ts';
import {
  type CopyMaps,
  type Installation,
  type Marks,
  type Refused,
  startWorkshop,
  type WorkshopAside,
} from '../../../offload/index.ts';
import { messageOf } from '../../../switch/index.ts';
import type { PortOffloads } from './port-offloads.ts';
import { OffloadedSource, type SourceSurroundings } from './source.ts';
import type { Takeover } from './takeover.ts';
import { MOST_UNDER_WAY, type WayUp } from './way-up.ts';

/** How often tables are asked what is due, at most, and how long one that failed is left alone. */
const POLL_MS = 1;
const PAUSE_MS = 500;

export interface TablesSurroundings {
  /** Runs of programs. */
  readonly programs: Marks;
  readonly loop: EventLoop;
  readonly captures: CaptureHub;
  readonly takeover: Takeover;
  readonly wayUp: WayUp;
  readonly ports: PortOffloads;
  /** Whether flows are to run in the kernel. @throws Failure when they must and cannot */
  isOn(): boolean;
  /** Whether they must. */
  isRequired(): boolean;
  /** See SourceSurroundings.absence. */
  absence(portId: number): string | null;
  /** Programs make no copies any more, though they were asked for. */
  copiesRefused(reason: string): void;
  /** A table is gone: with it may go what a former process left. */
  tableGone(): void;
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /** Name of a port of the switch; empty for none. */
  nameOf(portId: number): string;
  /** @param port that it is about */
  warn(message: string, port?: string): void;
  log(message: string, fields: Record<string, unknown>): void;
}

export class FlowTables implements FlowRegistry {
  readonly #around: TablesSurroundings;
  /** Tables that are offered; null for one that does not run in the kernel now. */
  readonly #tables = new Map<FlowSource, OffloadedSource | null>();
  #polledMs = 0;
  #due: Timer | null = null;
  /** Makes programs and tables on a thread of its own; null before the first table needs some. */
  #workshop: WorkshopAside | null = null;

  constructor(around: TablesSurroundings) {
    this.#around = around;
    around.loop.addPoller({ poll: () => this.#poll() });
  }

  /** Those that run in the kernel, in the order in which they were offered. */
  *running(): Generator<OffloadedSource, undefined> {
    for (const table of this.#tables.values()) if (table !== null) yield table;
  }

  register(source: FlowSource): FlowRegistration {
    this.#tables.set(source, null);
    this.#open(source);
    return {
      portsChanged: () => this.#around.ports.assign(),
      close: () => {
        const table = this.#tables.get(source) ?? null;
        if (table !== null) this.#close(source, table);
        this.#tables.delete(source);
      },
    };
  }

  /** Offload was switched on or off. @throws Failure when it is required and impossible */
  switched(isOff: boolean): void {
    for (const [source, table] of this.#tables) {
      if (isOff && table !== null) this.#close(source, table);
      else if (!isOff && table === null) this.#open(source);
    }
  }

  #open(source: FlowSource): void {
    const { captures, ports, wayUp, warn } = this.#around;
    try {
      if (!this.#around.isOn()) return;
      this.#workshop ??= startWorkshop((message) => warn(message));
      const table = this.#make(source, {
        workshop: this.#workshop,
        nowMs: () => this.#around.nowMs(),
        puntIfindex: wayUp.open(),
        wayUp,
        programs: this.#around.programs,
        mostUnderWay: MOST_UNDER_WAY,
        lost: (ifindex, packets) => ports.lost(ifindex, packets),
        install: (of, installation) => this.#install(of, installation),
        masksFull: (of, portId, masks) => this.#masksFull(of, portId, masks),
        refused: (of, refusal, hookIsLost) => this.#refused(of, refusal, hookIsLost),
        absence: (portId) => this.#around.absence(portId),
        copiesRefused: ({ reason }) => this.#around.copiesRefused(reason),
      });
      this.#tables.set(source, table);
      captures.changed();
      ports.assign();
    } catch (error) {
      if (this.#around.isRequired()) throw error;
      warn(`flows of ${source.name} stay in the engine: ${messageOf(error)}`);
    }
  }

  /** A table as the former process left it, if that can be read. */
  #make(source: FlowSource, around: SourceSurroundings): OffloadedSource {
    const { takeover, warn } = this.#around;
    const left = takeover.takeTables(source.name);
    if (left !== null) {
      try {
        const table = new OffloadedSource(source, left, around);
        table.taken = takeover.begin(table, left);
        return table;
      } catch (error) {
        left.maps.close();
        warn(`flows of ${source.name} that were left in the kernel end: ${messageOf(error)}`);
      }
    }
    return new OffloadedSource(source, null, around);
  }

  #close(source: FlowSource, table: OffloadedSource): void {
    const { takeover, ports, captures } = this.#around;
    table.flows.sync();
    this.#tables.set(source, null);
    const { taken } = table;
    // It is being configured, or the start has failed: what was left goes on.
    const comesBack = taken !== null && takeover.isUnderWay;
    ports.closeTable(table, comesBack);
    table.close();
    captures.changed();
    if (comesBack) {
      takeover.giveBackTables(taken.left);
      return;
    }
    takeover.removeTables(source.name);
    this.#around.tableGone();
  }

  /** Have the programs of all tables copy what they carry, or none. @returns whether it is so now */
  setCopies(copies: CopyMaps | null): boolean {
    let isSo = true;
    for (const { flows } of this.running()) if (!flows.setCopies(copies)) isSo = false;
    return isSo;
  }

  /** Bring what the kernel has counted to the tables, little by little. */
  syncSoon(): void {
    for (const { flows } of this.running()) flows.syncSoon();
  }

  /** Bring what the kernel has counted to the tables. */
  sync(): void {
    for (const { flows } of this.running()) flows.sync();
  }

  /** End, and leave flows in the kernel for the next daemon. */
  leave(): void {
    for (const table of this.running()) {
      table.flows.settle();
      table.close();
    }
    this.#end();
  }

  close(): void {
    for (const table of this.running()) table.close();
    this.#end();
  }

  #end(): void {
    this.#tables.clear();
    this.#workshop?.close();
    this.#workshop = null;
  }

  #install(table: OffloadedSource, installation: Installation): void {
    const { takeover, ports, log } = this.#around;
    const prepared = takeover.prepareTables(table.source, installation);
    try {
      ports.putPrograms(table);
      takeover.exchange(table.taken, table);
    } catch (error) {
      prepared?.abandon();
      throw error;
    }
    prepared?.commit();
    for (const { hook, instructions } of installation.changed) {
      log('another program', { table: table.source.name, hook, instructions });
    }
  }

  #refused(table: OffloadedSource, refusal: Refused, hookIsLost: boolean): void {
    const { ports, warn, log } = this.#around;
    if (hookIsLost) {
      table[refusal.hook] = null;
      table.taken = null;
      ports.putPrograms(table);
    }
    const what = hookIsLost ? `${refusal.hook} runs on the engine` : 'some flows stay in the engine';
    warn(`${table.source.name}: ${what}, as the verifier refuses a program: ${refusal.reason}`);
    log('a program was refused', { listing: refusal.listing, log: refusal.log });
  }

  #masksFull(table: OffloadedSource, portId: number, masks: number): void {
    const name = this.#around.nameOf(portId);
    const whose = name === '' ? '' : `, ${masks} of them for port ${name}`;
    const what = `flows of ${table.source.name} ask for more masks than the kernel looks up${whose}`;
    this.#around.warn(`${what}: those that carry most are there, the others in the engine`, name);
  }

  #poll(): number {
    const nowMs = this.#around.nowMs();
    if (nowMs < this.#polledMs + POLL_MS) return 0;
    this.#polledMs = nowMs;
    let waitMs = -1;
    for (const table of this.#tables.values()) {
      if (table === null) continue;
      const wait = this.#step(table);
      if (wait >= 0 && (waitMs < 0 || wait < waitMs)) waitMs = wait;
    }
    if (waitMs >= 0 && this.#due === null) {
      this.#due = this.#around.loop.timers.once(Math.max(waitMs, POLL_MS), {
        onTimer: () => {
          this.#due = null;
        },
      });
    }
    return 0;
  }

  /** Do what is due for a table. @returns milliseconds until more is; -1 for nothing */
  #step(table: OffloadedSource): number {
    const { takeover, warn } = this.#around;
    try {
      if (table.taken !== null) table.taken = takeover.step(table, table.taken);
      return table.taken === null ? table.flows.poll() : Math.max(0, table.flows.poll());
    } catch (error) {
      warn(`flows of ${table.source.name}: ${messageOf(error)}`);
      return PAUSE_MS;
    }
  }
}
