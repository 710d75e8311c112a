/**
 * Offload, as the daemon runs it: whether it is on, and what becomes of it when a daemon starts, ends, or leaves flows to the next. Packets of a
 * port with a program come in by the way up (way-up.ts); what the program carries never comes here at all. Neighbours: port-offloads.ts has
 * the ports, flow-tables.ts the tables, takeover.ts what a former daemon left.
 */
import type { CaptureHub } from '../../../extensions/capture/index.ts';
import type { FlowRegistration, FlowRegistry, FlowSource } from '../../../flow/index.ts';
import type { EventLoop, MovedTo } from '../../../host/index.ts';
import { decideOffload, type Marks, type OffloadDecision, offloadSupport } from '../../../offload/index.ts';
import type { VirtualSwitch } from '../../../switch/index.ts';
import type { OffloadFlow, OffloadInfo, PortInfo } from '../../api.ts';
import type { OffloadMode, Port } from '../../config/model.ts';
import { Failure } from '../../rpc/failure.ts';
import type { DatapathPort } from '../port.ts';
import { CaptureCopies } from './copies.ts';
import { FlowTables } from './flow-tables.ts';
import { puntNameOf, puntPathOf } from './pin-place.ts';
import { PortOffloads } from './port-offloads.ts';
import { showFlows, showPort, showTables } from './show.ts';
import { Takeover } from './takeover.ts';
import { WayUp } from './way-up.ts';

/** How often counts are brought to the tables. */
const SYNC_MS = 500;

export interface OffloadSurroundings {
  /** Runs of programs. */
  readonly programs: Marks;
  readonly loop: EventLoop;
  readonly virtualSwitch: VirtualSwitch;
  /** Who wants to see packets. */
  readonly captures: CaptureHub;
  /** Path that names this daemon among others: devices and pins are named after it. */
  readonly identity: string;
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /** @param port that it is about */
  warn(message: string, port?: string): void;
  /** Something about a port is as it should be again. */
  say(message: string, port: string): void;
  log(message: string, fields: Record<string, unknown>): void;
  /** A port by the switch's number. */
  portOf(id: number): DatapathPort | undefined;
  /** Whether an extension runs. */
  extensionRuns(name: string): boolean;
}

/** Offload of one switch. */
export class DatapathOffload implements FlowRegistry {
  readonly #around: OffloadSurroundings;
  #mode: OffloadMode = 'auto';
  #decision: OffloadDecision | null = null;
  readonly #takeover: Takeover;
  readonly #wayUp: WayUp;
  readonly #ports: PortOffloads;
  readonly #tables: FlowTables;
  readonly #copies: CaptureCopies;
  /** Why ports that were to have a program have none, by the switch's number. */
  readonly #refusals = new Map<number, string>();

  constructor(around: OffloadSurroundings) {
    this.#around = around;
    const { loop, captures, virtualSwitch, identity } = around;
    const warn = (message: string) => around.warn(message);
    const log = (message: string, fields: Record<string, unknown>) => around.log(message, fields);
    const nowMs = () => around.nowMs();
    const takeover = new Takeover({
      identity,
      nowMs,
      warn,
      log,
      extensionRuns: (name) => around.extensionRuns(name),
      portIdOf: (ifindex) => this.#ports.idOf(ifindex),
    });
    const wayUp = new WayUp({
      loop,
      warn,
      interfaceName: puntNameOf(identity),
      path: () => (takeover.folder === null ? null : puntPathOf(identity)),
    });
    const ports = new PortOffloads({
      loop,
      virtualSwitch,
      takeover,
      wayUp,
      nowMs,
      warn: (message, port) => around.warn(message, port),
      say: (message, port) => around.say(message, port),
      tables: () => this.#tables.running(),
      changed: () => this.#copies.portsChanged(),
    });
    this.#takeover = takeover;
    this.#wayUp = wayUp;
    this.#ports = ports;
    this.#copies = new CaptureCopies({
      loop,
      warn,
      hub: captures,
      ports: () => ports,
      hasPrograms: () => this.#tables.running().next().done !== true,
      setCopies: (copies) => this.#tables.setCopies(copies),
    });
    this.#tables = new FlowTables({
      programs: around.programs,
      loop,
      captures,
      takeover,
      wayUp,
      ports,
      nowMs,
      warn: (message, port) => around.warn(message, port),
      log,
      nameOf: (portId) => around.portOf(portId)?.name ?? '',
      isOn: () => this.#mode !== 'off' && this.#decide(),
      isRequired: () => this.#mode === 'require',
      absence: (portId) => this.#absence(portId),
      copiesRefused: (reason) => this.#copies.refused(reason),
      tableGone: () => this.#dropStale(),
    });
    loop.timers.every(SYNC_MS, {
      onTimer: () => {
        this.#tables.syncSoon();
        this.#dropStale();
      },
    });
  }

  /** Bring what the kernel has counted to the tables, and to the ports. */
  sync(): void {
    this.#tables.sync();
  }

  get mode(): OffloadMode {
    return this.#mode;
  }

  /** @throws Failure when it is required and impossible; then the mode stays as it was */
  setMode(mode: OffloadMode): void {
    const before = this.#mode;
    this.#mode = mode;
    this.#decision = null;
    try {
      if (mode === 'require') this.#decide();
    } catch (error) {
      this.#mode = before;
      this.#decision = null;
      throw error;
    }
    this.#tables.switched(mode === 'off');
  }

  /** Whether flows can run in the kernel, now that somebody wants it. @throws Failure when it is required and impossible */
  #decide(): boolean {
    if (this.#decision === null) {
      const base = offloadSupport();
      const isPossible = base.tc.possible && base.redirectPeer.possible && this.#mode !== 'off';
      const support = isPossible ? { ...base, pinning: this.#takeover.prepare() } : base;
      this.#decision = decideOffload(this.#mode, support);
      const { message, refuse } = this.#decision;
      if (refuse) throw new Failure('failed', `offload is required: ${message}`, 'set offload to auto to run without');
      if (message !== null) this.#around.warn(message);
    }
    return this.#decision.on;
  }

  register(source: FlowSource): FlowRegistration {
    return this.#tables.register(source);
  }

  // Ports.

  /** Whether the packets of a port of this configuration are to come through a program. @throws Failure */
  takes(config: Port): boolean {
    if (config.kind !== 'netdev') return false;
    const may = config.offload !== 'off' && config.isolate !== false;
    if (may && this.#decide()) return true;
    this.#ports.silence(config.device);
    return false;
  }

  /**
   * Put a program on a port, and take its punted packets.
   * @returns false when its packets must come by another way; the reason is said
   * @throws Failure when offload is required
   */
  begin(port: DatapathPort, ifindex: number): boolean {
    const reason = this.#ports.begin(port, ifindex);
    if (reason === null) {
      this.#refusals.delete(port.id);
      return true;
    }
    this.#refusals.set(port.id, reason);
    this.#around.warn(`port ${port.name} is not offloaded: ${reason}`);
    if (this.#mode !== 'require') return false;
    throw new Failure('failed', `port ${port.name} cannot be offloaded: ${reason}`);
  }

  /** A TAP is there: its descriptor is read as ever, and programs may carry its flows past it. */
  beginTap(port: DatapathPort, ifindex: number): void {
    if (this.#mode !== 'off' && this.#decide()) this.#ports.beginTap(port, ifindex);
  }

  /** The port's NIC has other properties. */
  nicChanged(port: DatapathPort): void {
    this.#ports.nicChanged(port);
  }

  /**
   * A device is gone from this network namespace.
   * @param movedTo where it is now; null for one that is no more, undefined where that is not known
   */
  gone(ifindex: number, movedTo: MovedTo | null | undefined): void {
    for (const remains of this.#takeover.changes.gone(ifindex, movedTo)) this.#around.warn(remains);
  }

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    this.#ports.heard(ifindex);
  }

  /** The port's device goes, or the port. */
  end(port: DatapathPort): void {
    this.#refusals.delete(port.id);
    this.#ports.end(port);
  }

  /** Why a port has no programs, as the rest of a sentence that begins with it; null when nothing keeps it from having some. */
  #absence(portId: number): string | null {
    const port = this.#around.portOf(portId);
    if (port === undefined) return null;
    const reason = this.#reasonOf(port);
    return reason === null ? null : `is not offloaded: ${reason}`;
  }

  #reasonOf(port: DatapathPort): string | null {
    const { config } = port;
    if (config.kind === 'memory' || config.kind === 'pcap') return `a port of kind ${config.kind} has no interface`;
    if (config.offload === 'off') return 'its configuration says offload=off';
    if (this.#mode === 'off') return 'the configuration says offload: off';
    if (this.#decision?.on === false) return this.#decision.message ?? 'the kernel does not allow it';
    if (config.kind === 'netdev' && config.isolate === false) return 'its configuration says isolate=false';
    if (config.kind === 'tap' && config.netns !== undefined) return `its interface is in the namespace ${config.netns}`;
    if (!port.attached) return 'its interface is not there';
    return this.#refusals.get(port.id) ?? null;
  }

  // A daemon's start and end.

  /** The configuration is in force: flows of a former daemon pass over to those who have them now, and end where nobody has. */
  started(): void {
    this.#takeover.start();
    this.#ports.started();
    this.#dropStale();
  }

  /** Whether flows of a former daemon are being taken up; should this one fail now, they go on. */
  get isTakingUp(): boolean {
    return this.#takeover.isUnderWay;
  }

  /** What becomes of what a former daemon has left, should this one fail now; null when that was nothing. */
  get fate(): string | null {
    return this.#takeover.fate;
  }

  #dropStale(): void {
    const isOff = this.#mode === 'off' || this.#decision?.on === false;
    this.#takeover.dropStale(isOff, (ifindex) => this.#ports.isTaken(ifindex));
  }

  /** End, and leave flows in the kernel for the next daemon. */
  leave(): void {
    this.#copies.close();
    if (this.#takeover.isUnderWay) {
      for (const { port } of [...this.#ports]) this.#ports.end(port);
      this.#takeover.restore();
    }
    // What has come up is for the engine to send.
    this.#wayUp.drain();
    this.#ports.leave();
    this.#tables.leave();
    this.#takeover.leave();
    this.#wayUp.close(false);
  }

  /** Take everything off the interfaces. */
  close(): void {
    this.#copies.close();
    this.#ports.close();
    this.#tables.close();
    this.#wayUp.close(true);
    this.#takeover.remove();
  }

  // For people.

  /** What the kernel does for a port, in short; null when it does nothing. */
  summaryOf(port: DatapathPort): PortInfo['offload'] {
    return this.#ports.summaryOf(port);
  }

  /** Packets of a port come up that nobody has room for: fewer of them are to come for a while. */
  holdBack(portId: number): void {
    this.#ports.holdBack(portId);
  }

  /** What a port has too much of, for the line that tells its state; null for nothing. */
  overloadOf(port: DatapathPort): string | null {
    return this.#ports.overloadOf(port);
  }

  show(): OffloadInfo {
    const decision = this.#mode === 'off' ? null : this.#decision;
    return {
      mode: this.#mode,
      pins: this.#decision?.on === true ? this.#takeover.folder : null,
      missing: decision === null || decision.on ? null : decision.message,
      channel: this.#wayUp.counters,
      tables: showTables(this.#tables.running()),
      ports: [...this.#ports].map(showPort),
    };
  }

  /** Flows of all tables. @param limit how many at most */
  flows(limit: number): OffloadFlow[] {
    return showFlows(this.#tables.running(), limit);
  }

  /** The program of a port. @throws Failure when it has none */
  dump(port: DatapathPort, verifier: boolean): string {
    const one = this.#ports.of(port);
    const program = one?.hook === 'xdp' ? one.source?.xdp : one?.hook === 'tc' ? one.source?.tc : null;
    if (program === undefined || program === null) {
      const why = one?.why ?? this.#reasonOf(port) ?? 'no flow has asked for one yet';
      throw new Failure('refused', `port ${port.name} has no generated program: ${why}`);
    }
    return verifier ? program.verifierLog() : program.listing();
  }
}
