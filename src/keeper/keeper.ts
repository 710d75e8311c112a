/**
 * Keeps flows in the kernel for a switch: whether offload is on, and what becomes of it when a process starts, ends, or leaves flows to the next. Packets of
 * a port with a program come in by the punt path (punts/punt-path.ts); what the program carries never comes here at all. Neighbours: ports/ has
 * the ports, tables/ the flow tables, left/ what a former process left.
 */
import type { FlowRegistration, FlowRegistry, FlowSource } from '../flow/index.ts';
import type { MovedTo } from '../host/index.ts';
import type { InterfaceIndex, PortId } from '../net/index.ts';
import {
  type ConnectionReferences,
  decideOffload,
  type OffloadDecision,
  type OffloadSetting,
  offloadSupport,
} from '../offload/index.ts';
import { KeeperError, type KeeperHost, type KeptPort } from './contract.ts';
import { CaptureCopies } from './copies/copies.ts';
import { DownPath } from './downs/down-path.ts';
import { Takeover } from './left/takeover.ts';
import { KeptPorts } from './ports/ports.ts';
import { PuntPath } from './punts/punt-path.ts';
import { showFlows, showPort, showRefused, showTables } from './show.ts';
import type { OffloadFlow, OffloadInfo, OffloadPortInfo, PortSummary } from './shown.ts';
import { TableSet } from './tables/table-set.ts';
import { KeptTables, type OffloadSwitch } from './tables/tables.ts';

/** How often counts are brought to the tables. */
const SYNC_MS = 500;

/** Offload of one switch. */
export class OffloadKeeper implements FlowRegistry, OffloadSwitch {
  /** For whoever wants to see what the kernel carries. */
  readonly copies: CaptureCopies;
  readonly #host: KeeperHost;
  #mode: OffloadSetting = 'auto';
  #decision: OffloadDecision | null = null;
  readonly #takeover: Takeover;
  readonly #puntPath: PuntPath;
  readonly #downPath: DownPath;
  readonly #ports: KeptPorts;
  readonly #running = new TableSet();
  readonly #tables: KeptTables;
  /** Why ports that were to have a program have none, by the switch's number. */
  readonly #refusals = new Map<PortId, string>();

  constructor(host: KeeperHost) {
    this.#host = host;
    const takeover = new Takeover(host);
    const puntPath = new PuntPath(host, takeover);
    const ports = new KeptPorts(host, takeover, puntPath, this.#running);
    const copies = new CaptureCopies(host, this.#running, ports);
    ports.onChanged = () => copies.portsChanged();
    this.#takeover = takeover;
    this.#puntPath = puntPath;
    this.#downPath = new DownPath(host);
    this.#ports = ports;
    this.copies = copies;
    const absenceOf = (portId: PortId) => this.#absenceOf(portId);
    const room = { host, takeover, puntPath, downPath: this.#downPath, ports, copies, absenceOf };
    this.#tables = new KeptTables(this.#running, room, this);
    host.loop.timers.every(SYNC_MS, {
      onTimer: () => {
        this.#running.syncSoon();
        this.#dropStale();
      },
    });
  }

  /** Bring what the kernel has counted to the tables, and to the ports. */
  sync(): void {
    this.#running.sync();
  }

  /** There is a table of connections that programs can read, or there is none any more. */
  setConnections(connections: ConnectionReferences | null): void {
    this.#running.setConnections(connections);
  }

  get mode(): OffloadSetting {
    return this.#mode;
  }

  /** @throws KeeperError when it is required and impossible; then the mode stays as it was */
  setMode(mode: OffloadSetting): void {
    const before = this.#mode;
    this.#mode = mode;
    this.#decision = null;
    try {
      if (mode === 'require') this.#decide();
      this.#tables.switched(mode === 'off');
    } catch (error) {
      this.#mode = before;
      this.#decision = null;
      this.#tables.switched(before === 'off');
      throw error;
    }
  }

  isOn(): boolean {
    return this.#mode !== 'off' && this.#decide();
  }

  get isOffForNow(): boolean {
    return this.#mode !== 'off' && this.#decision?.on === false && this.#decision.passes;
  }

  get isRequired(): boolean {
    return this.#mode === 'require';
  }

  /** Whether flows can run in the kernel, now that somebody wants it. @throws KeeperError when it is required and impossible */
  #decide(): boolean {
    if (this.#decision === null || this.#decision.passes) {
      const said = this.#decision?.message ?? null;
      const base = offloadSupport();
      const isPossible = base.tc.possible && base.redirectPeer.possible && this.#mode !== 'off';
      const support = isPossible ? { ...base, pinning: this.#takeover.prepare() } : base;
      this.#decision = decideOffload(this.#mode, support);
      const { message, refuse } = this.#decision;
      if (refuse)
        throw new KeeperError('failed', `offload is required: ${message}`, 'set offload to auto to run without');
      if (message !== null && message !== said) this.#host.warn(message);
    }
    return this.#decision.on;
  }

  register(source: FlowSource): FlowRegistration {
    return this.#tables.register(source);
  }

  // Ports.

  /**
   * Whether the packets of a network device port are to come through a program.
   * @param bar as PortWishes
   * @throws KeeperError when they must and cannot
   */
  takes(device: string, bar: string | null): boolean {
    if (bar === null && this.#decide()) return true;
    this.#ports.silence(device);
    return false;
  }

  /**
   * Put a program on a port, and take its punted packets.
   * @returns false when its packets must come by another way; the reason is said
   * @throws KeeperError when offload is required
   */
  begin(port: KeptPort, ifindex: InterfaceIndex): boolean {
    const reason = this.#ports.begin(port, ifindex);
    if (reason === null) {
      this.#refusals.delete(port.id);
      return true;
    }
    this.#refusals.set(port.id, reason);
    for (const { flows } of this.#running.running()) flows.absencesChanged();
    this.#host.warn(`port ${port.name} is not offloaded: ${reason}`);
    if (this.#mode !== 'require') return false;
    throw new KeeperError('failed', `port ${port.name} cannot be offloaded: ${reason}`);
  }

  /** A TAP is there: its descriptor is read as ever, and programs may carry its flows past it. */
  beginTap(port: KeptPort, ifindex: InterfaceIndex): void {
    if (this.isOn()) this.#ports.beginTap(port, ifindex);
  }

  /** The port's NIC has other properties. */
  nicChanged(port: KeptPort): void {
    this.#ports.nicChanged(port);
  }

  /**
   * A device is gone from this network namespace.
   * @param movedTo where it is now; null for one that is no more, undefined where that is not known
   */
  gone(ifindex: number, movedTo: MovedTo | null | undefined): void {
    for (const remains of this.#takeover.changes.gone(ifindex, movedTo)) this.#host.warn(remains);
  }

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    this.#puntPath.heard(ifindex);
    this.#ports.heard(ifindex);
  }

  /** The port's device goes, or the port. */
  end(port: KeptPort): void {
    this.#refusals.delete(port.id);
    this.#ports.end(port);
  }

  /** Why a port has no programs, as the rest of a sentence that begins with it; null for one that the switch does not have. */
  #absenceOf(portId: PortId): string | null {
    const port = this.#host.portOf(portId);
    if (port === undefined) return null;
    const reason = this.#reasonOf(port);
    return reason === null ? 'has no programs yet' : `is not offloaded: ${reason}`;
  }

  #reasonOf({ id, wishes }: KeptPort): string | null {
    if (wishes.bar !== null) return wishes.bar;
    if (this.#mode === 'off') return 'the configuration says offload: off';
    if (this.#decision?.on === false) return this.#decision.message ?? 'the kernel does not allow it';
    return this.#refusals.get(id) ?? null;
  }

  // The start and the end of a process.

  /** The configuration is in force: flows of a former process pass over to those who have them now, and end where nobody has. */
  started(): void {
    this.#takeover.start();
    this.#ports.started();
    this.#dropStale();
  }

  /** Whether flows of a former process are being taken up; should this one fail now, they go on. */
  get isTakingUp(): boolean {
    return this.#takeover.isUnderWay;
  }

  /** What becomes of what a former process has left, should this one fail now; null when that was nothing. */
  get fate(): string | null {
    return this.#takeover.fate;
  }

  tableGone(): void {
    this.#dropStale();
  }

  #dropStale(): void {
    const isOff = this.#mode === 'off' || (this.#decision?.on === false && !this.isOffForNow);
    this.#takeover.dropStale({
      isOff,
      isTaken: (ifindex) => this.#running.isTaken(ifindex),
      isAwaited: (name) => this.#tables.isToOpen(name),
    });
  }

  /** End, and leave flows in the kernel for the next process. */
  leave(): void {
    this.copies.close();
    if (this.#takeover.isUnderWay) {
      for (const { port } of [...this.#ports]) this.#ports.end(port);
      this.#takeover.restore();
    } else this.#tables.complete();
    // What has come up is for the engine to send.
    this.#puntPath.drain();
    this.#ports.leave();
    this.#tables.settle();
    this.#tables.close();
    this.#downPath.close();
    this.#takeover.leave();
    this.#puntPath.close(false);
  }

  /** Take everything off the interfaces. */
  close(): void {
    this.copies.close();
    this.#ports.close();
    this.#tables.close();
    this.#downPath.close();
    this.#puntPath.close(true);
    this.#takeover.remove();
  }

  // For people.

  /** What the kernel does for a port, in short; null when it does nothing. */
  summaryOf({ id }: KeptPort): PortSummary | null {
    return this.#ports.summaryOf(id);
  }

  /** Packets of a port come up that nobody has room for: fewer of them are to come for a while. */
  holdBack(portId: PortId): void {
    this.#ports.holdBack(portId);
  }

  /** What a port has too much of, for the line that tells its state; null for nothing. */
  overloadOf({ id }: KeptPort): string | null {
    return this.#ports.of(id)?.overload ?? null;
  }

  show(): OffloadInfo {
    const decision = this.#mode === 'off' ? null : this.#decision;
    return {
      mode: this.#mode,
      pins: this.#decision?.on === true ? this.#takeover.folder : null,
      missing: decision === null || decision.on ? null : decision.message,
      channel: this.#puntPath.counters,
      tables: showTables(this.#running.running()),
      ports: [...[...this.#ports].map(showPort), ...this.#showRefused()],
    };
  }

  #showRefused(): OffloadPortInfo[] {
    return [...this.#refusals].flatMap(([portId, reason]) => {
      const port = this.#host.portOf(portId);
      return port === undefined || this.#ports.of(portId) !== undefined ? [] : [showRefused(port.name, reason)];
    });
  }

  /** Flows of all tables. @param limit how many at most */
  flows(limit: number): OffloadFlow[] {
    return showFlows(this.#running.running(), limit);
  }

  /** The program of a port. @throws KeeperError when it has none */
  dump(port: KeptPort, verifier: boolean): string {
    const one = this.#ports.of(port.id);
    const program = one?.hook === 'xdp' ? one.source?.xdp : one?.hook === 'tc' ? one.source?.tc : null;
    if (program === undefined || program === null) {
      const why = one?.why ?? this.#reasonOf(port) ?? 'no flow has asked for one yet';
      throw new KeeperError('refused', `port ${port.name} has no generated program: ${why}`);
    }
    return verifier ? program.verifierLog() : program.listing();
  }
}
