/**
 * Offload, as the daemon runs it: whether it is on, the ports, and the flow tables that extensions offer. Packets of a port with a program
 * come in by the way up (way-up.ts); what the program carries never comes here at all.
 */
import type { CaptureHub } from '../../../extensions/capture/index.ts';
import type { FlowRegistration, FlowRegistry, FlowSource } from '../../../flow/index.ts';
import { type EventLoop, type Timer, withRouteClient } from '../../../host/index.ts';
import type { Batch } from '../../../net/index.ts';
import {
  type CopyMaps,
  decideOffload,
  type Installation,
  type OffloadDecision,
  offloadSupport,
  type Refused,
} from '../../../offload/index.ts';
import type { VirtualSwitch } from '../../../switch/index.ts';
import type { OffloadInfo, OffloadRefusal } from '../../api.ts';
import type { OffloadMode, Port } from '../../config/model.ts';
import { Failure, messageOf } from '../../rpc/failure.ts';
import type { DatapathPort } from '../port.ts';
import { CaptureCopies } from './copies.ts';
import { CHANGES, type Change } from './interface-changes.ts';
import { transientHolder } from './kept.ts';
import { puntNameOf, puntPathOf } from './pin-place.ts';
import { PortOffload } from './port-offload.ts';
import { showPort, showRefused, showTables } from './show.ts';
import { OffloadedSource, type SourceSurroundings } from './source.ts';
import { Takeover } from './takeover.ts';
import { MOST_UNDER_WAY, WayUp } from './way-up.ts';

/** How often flow tables are asked what is due, at most, and how often counts are brought to them. */
const POLL_MS = 1;
const SYNC_MS = 500;

const FAILED_CHANGE: Readonly<Record<Change, string>> = {
  up: 'cannot set up the interface of',
  promiscuous: 'without a daemon a network card may take only what is sent to itself, on',
  gro: 'XDP cannot send to',
};

export interface OffloadSurroundings {
  readonly loop: EventLoop;
  readonly virtualSwitch: VirtualSwitch;
  /** Who wants to see packets. */
  readonly captures: CaptureHub;
  /** Path that names this daemon among others: devices and pins are named after it. */
  readonly identity: string;
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  warn(message: string): void;
  log(message: string, fields: Record<string, unknown>): void;
  /** Whether an extension runs. */
  extensionRuns(name: string): boolean;
}

/** Offload of one switch. */
export class DatapathOffload implements FlowRegistry {
  readonly #around: OffloadSurroundings;
  readonly #ports = new Map<number, PortOffload>();
  /** Tables that are offered; null for one that does not run in the kernel now. */
  readonly #sources = new Map<FlowSource, OffloadedSource | null>();
  #mode: OffloadMode = 'auto';
  #decision: OffloadDecision | null = null;
  readonly #wayUp: WayUp;
  readonly #copies: CaptureCopies;
  #polledMs = 0;
  #due: Timer | null = null;
  readonly #takeover: Takeover;

  constructor(around: OffloadSurroundings) {
    this.#around = around;
    this.#takeover = new Takeover({
      identity: around.identity,
      nowMs: () => around.nowMs(),
      warn: (message) => around.warn(message),
      log: (message, fields) => around.log(message, fields),
      extensionRuns: (name) => around.extensionRuns(name),
      portIdOf: (ifindex) => this.#portIdOf(ifindex),
    });
    this.#wayUp = new WayUp({
      loop: around.loop,
      interfaceName: puntNameOf(around.identity),
      path: () => (this.#takeover.folder === null ? null : puntPathOf(around.identity)),
      warn: (message) => around.warn(message),
    });
    this.#copies = new CaptureCopies({
      loop: around.loop,
      hub: around.captures,
      ports: () => this.#ports.values(),
      hasPrograms: () => [...this.#sources.values()].some((offloaded) => offloaded !== null),
      setCopies: (copies) => this.#setCopies(copies),
      warn: (message) => around.warn(message),
    });
    around.loop.addPoller({ poll: () => this.#poll() });
    around.loop.timers.every(SYNC_MS, { onTimer: () => this.#sync() });
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
    for (const [source, offloaded] of this.#sources) {
      if (mode === 'off' && offloaded !== null) this.#closeSource(source, offloaded);
      else if (mode !== 'off' && offloaded === null) this.#openSource(source);
    }
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

  // Ports.

  /** Whether the packets of a port of this configuration are to come through a program. @throws Failure */
  takes(config: Port): boolean {
    if (config.kind !== 'netdev') return false;
    const may = config.offload !== 'off' && config.isolate !== false;
    if (may && this.#decide()) return true;
    const link = withRouteClient((client) => client.findLink(config.device));
    if (link !== null) this.#takeover.silence(link.index);
    return false;
  }

  #portIdOf(ifindex: number): number {
    for (const one of this.#ports.values()) if (one.ifindex === ifindex) return one.port.id;
    return -1;
  }

  /**
   * Put a program on a port, and take its punted packets.
   * @returns false when its packets must come by another way; the reason is kept
   * @throws Failure when offload is required
   */
  begin(port: DatapathPort, ifindex: number): boolean {
    const one = new PortOffload(port, ifindex, false, this.#takeover.holder);
    try {
      const base = this.#wayUp.openForPorts();
      one.claim = this.#wayUp.claim(ifindex, (batch) => this.#punted(one, batch));
      if (!this.#takeUp(one)) one.attach('tc-ingress', base);
    } catch (error) {
      one.attachReason = messageOf(error);
    }
    if (one.tc !== null) {
      const { config } = port;
      if (config.kind === 'netdev' && config.offload === 'xdp') one.wanted = 'xdp';
      this.#ports.set(port.id, one);
      this.#changeInterface(one);
      this.#copies.portsChanged();
      this.#assign(one);
      return true;
    }
    this.#letGo(one);
    this.#around.warn(`port ${port.name} is not offloaded: ${one.attachReason}`);
    if (this.#mode === 'require') {
      throw new Failure('failed', `port ${port.name} cannot be offloaded: ${one.attachReason}`);
    }
    return false;
  }

  /**
   * Take up the programs that a former process left on a port. They stay as long as the tables decide that they belong to.
   * @returns whether a program is there now
   */
  #takeUp(one: PortOffload): boolean {
    const left = this.#takeover.takePrograms(one.ifindex);
    if (left?.tc === undefined) return false;
    one.left = left;
    one.tc = left.tc;
    one.xdp = left.xdp ?? null;
    one.foreign = left.tc.foreign;
    const { config } = one.port;
    const wantsXdp = config.kind === 'netdev' && config.offload === 'xdp';
    const goesOn = this.#takeover.isWaiting(one.ifindex) || this.#isTaken(one.ifindex);
    if (one.xdp !== null && !(wantsXdp && goesOn)) {
      this.#takeover.park(one.xdp);
      one.xdp = null;
    }
    if (goesOn || (this.#wayUp.base !== null && one.tc.replace(this.#wayUp.base))) return true;
    one.tc = null;
    return false;
  }

  /** Whether tables decide about an interface that a source has taken up from a former process. */
  #isTaken(ifindex: number): boolean {
    for (const offloaded of this.#sources.values()) if (offloaded?.taken?.left.interfaces.has(ifindex)) return true;
    return false;
  }

  /** A TAP is there: its descriptor is read as ever, and programs may carry its flows past it. */
  beginTap(port: DatapathPort, ifindex: number): void {
    if (this.#mode === 'off' || !this.#decide()) return;
    // It ends with the process, and its programs with it.
    const one = new PortOffload(port, ifindex, true, transientHolder);
    port.onWorkedOff = (packets) => {
      if (one.tc !== null) one.source?.flows.drained(one.ifindex, packets);
    };
    this.#ports.set(port.id, one);
    this.#copies.portsChanged();
    this.#assign(one);
  }

  /** The port's NIC has other properties. */
  nicChanged(port: DatapathPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#takeover.readdress(one.ifindex);
    this.#assign(one);
  }

  /** The port's device goes, or the port. */
  end(port: DatapathPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#ports.delete(port.id);
    port.onWorkedOff = null;
    if (one.left !== null && this.#takeover.isUnderWay) {
      // The start has failed: what was left is left again.
      this.#disclaim(one);
      this.#takeover.giveBack(one.left);
      return;
    }
    one.source?.flows.removePort(one.ifindex);
    this.#letGo(one);
    this.#copies.portsChanged();
  }

  #disclaim(one: PortOffload): void {
    if (one.claim !== null) this.#wayUp.disclaim(one.ifindex);
    one.claim = null;
  }

  /** Have the interface as the programs need it, also when this process is no more. */
  #changeInterface(one: PortOffload): void {
    const { changes, folder } = this.#takeover;
    for (const change of CHANGES) {
      if (!one.needs(change, folder !== null)) continue;
      try {
        changes.make(one.ifindex, change);
        if (change === 'gro') one.xdpOutput = true;
      } catch (error) {
        this.#around.warn(`${FAILED_CHANGE[change]} port ${one.port.name}: ${messageOf(error)}`);
      }
    }
    if (!this.#takeover.isUnderWay) this.#changeBack(one);
  }

  /** Change back what a former process has changed about an interface and this one does not need. */
  #changeBack(one: PortOffload): void {
    const { changes, folder } = this.#takeover;
    for (const change of CHANGES) if (!one.needs(change, folder !== null)) changes.takeBack(one.ifindex, change);
  }

  #punted(one: PortOffload, batch: Batch): void {
    const { count } = batch;
    this.#around.virtualSwitch.receive(one.port.id, 0, batch);
    one.source?.flows.drained(one.ifindex, count);
  }

  #lost(ifindex: number, packets: number): void {
    for (const one of this.#ports.values()) {
      if (one.ifindex !== ifindex) continue;
      one.lostPunts += packets;
      // What a TAP has no room for its adapter knows.
      if (!one.isTap) one.port.countLost(packets);
    }
  }

  #letGo(one: PortOffload): void {
    try {
      // It is set down, where it was down, before anybody else has it.
      this.#takeover.changes.takeAllBack(one.ifindex);
    } catch (error) {
      this.#around.warn(`port ${one.port.name}: ${messageOf(error)}`);
    }
    one.detach();
    this.#disclaim(one);
  }

  /** Find the table that decides about a port, and put its programs on it. */
  #assign(one: PortOffload): void {
    let wanted: OffloadedSource | null = null;
    for (const offloaded of this.#sources.values()) if (offloaded?.has(one) === true) wanted ??= offloaded;
    one.mtuBytes = this.#around.virtualSwitch.port(one.port.id).nics[0]?.mtuBytes ?? 0;
    const before = one.source;
    const wasOpen = one.isOpen;
    one.source = wanted;
    one.isOpen = wanted?.isOpen(one) ?? false;
    const isOther = before !== wanted || wasOpen !== one.isOpen;
    // A program that does not know the port any more would leave its packets to the kernel: another comes first.
    if (isOther && !one.isOpen) this.#putPrograms(one);
    if (before !== null && before !== wanted) before.flows.removePort(one.ifindex);
    wanted?.setPort(one);
    if (isOther && one.isOpen) this.#putPrograms(one);
  }

  /** Put the programs of a port's table on it, or those that hand everything up. */
  #putPrograms(one: PortOffload): void {
    const staysAtTc = one.putPrograms(this.#wayUp.base);
    if (staysAtTc === null) return;
    this.#around.warn(`port ${one.port.name} is offloaded at tc instead of xdp: ${staysAtTc}`);
  }

  // Flow tables.

  register(source: FlowSource): FlowRegistration {
    this.#sources.set(source, null);
    if (this.#mode !== 'off') this.#openSource(source);
    return {
      portsChanged: () => this.#portsChanged(),
      close: () => {
        const offloaded = this.#sources.get(source) ?? null;
        if (offloaded !== null) this.#closeSource(source, offloaded);
        this.#sources.delete(source);
      },
    };
  }

  #openSource(source: FlowSource): void {
    try {
      if (!this.#decide()) return;
      const interfaceIndex = this.#wayUp.open();
      const offloaded = this.#makeSource(source, {
        nowMs: () => this.#around.nowMs(),
        puntIfindex: interfaceIndex,
        mostUnderWay: MOST_UNDER_WAY,
        lost: (ifindex, packets) => this.#lost(ifindex, packets),
        install: (of, installation) => this.#install(of, installation),
        refused: (of, refusal, hookIsLost) => this.#refused(of, refusal, hookIsLost),
        copiesRefused: (refusal) => this.#copies.refused(refusal.reason),
      });
      this.#sources.set(source, offloaded);
      this.#around.captures.changed();
      this.#portsChanged();
    } catch (error) {
      if (this.#mode === 'require') throw error;
      this.#around.warn(`flows of ${source.name} stay in the engine: ${messageOf(error)}`);
    }
  }

  /** A source with the tables of the former process, if these can be read. */
  #makeSource(source: FlowSource, around: SourceSurroundings): OffloadedSource {
    const left = this.#takeover.takeTables(source.name);
    if (left !== null) {
      try {
        const offloaded = new OffloadedSource(source, left, around);
        offloaded.taken = this.#takeover.begin(offloaded, left);
        return offloaded;
      } catch (error) {
        this.#around.warn(`flows of ${source.name} that were left in the kernel end: ${messageOf(error)}`);
      }
    }
    return new OffloadedSource(source, null, around);
  }

  #closeSource(source: FlowSource, offloaded: OffloadedSource): void {
    offloaded.flows.sync();
    this.#sources.set(source, null);
    const { taken } = offloaded;
    // It is being configured, or the start has failed: what was left goes on.
    const comesBack = taken !== null && this.#takeover.isUnderWay;
    for (const one of this.#ports.values()) {
      if (one.source !== offloaded) continue;
      if (comesBack && one.left !== null) Object.assign(one, { source: null, isOpen: false });
      else this.#assign(one);
    }
    offloaded.close();
    this.#around.captures.changed();
    if (comesBack) {
      this.#takeover.giveBackTables(taken.left);
      return;
    }
    this.#takeover.removeTables(source.name);
    this.#dropStale();
  }

  /** Have the programs of all tables copy what they carry, or none. @returns whether it is so now */
  #setCopies(copies: CopyMaps | null): boolean {
    let isSo = true;
    for (const offloaded of this.#sources.values()) if (offloaded?.flows.setCopies(copies) === false) isSo = false;
    return isSo;
  }

  #portsChanged(): void {
    for (const one of this.#ports.values()) this.#assign(one);
  }

  #install(offloaded: OffloadedSource, installation: Installation): void {
    const prepared = this.#takeover.prepareTables(offloaded.source, installation);
    try {
      for (const one of this.#ports.values()) if (one.source === offloaded) this.#putPrograms(one);
      this.#takeover.exchange(offloaded.taken, offloaded);
    } catch (error) {
      prepared?.abandon();
      throw error;
    }
    prepared?.commit();
    for (const { hook, instructions } of installation.changed) {
      this.#around.log('another program', { table: offloaded.source.name, hook, instructions });
    }
  }

  #refused(offloaded: OffloadedSource, refusal: Refused, hookIsLost: boolean): void {
    if (hookIsLost) {
      offloaded[refusal.hook] = null;
      offloaded.taken = null;
      for (const one of this.#ports.values()) if (one.source === offloaded) this.#putPrograms(one);
    }
    const what = hookIsLost ? `${refusal.hook} runs on the engine` : 'some flows stay in the engine';
    this.#around.warn(`${offloaded.source.name}: ${what}, as the verifier refuses a program: ${refusal.reason}`);
    this.#around.log('a program was refused', { listing: refusal.listing, log: refusal.log });
  }

  #poll(): number {
    const nowMs = this.#around.nowMs();
    if (nowMs < this.#polledMs + POLL_MS) return 0;
    this.#polledMs = nowMs;
    let waitMs = -1;
    for (const offloaded of this.#sources.values()) {
      if (offloaded === null) continue;
      let wait: number;
      try {
        if (offloaded.taken !== null) offloaded.taken = this.#takeover.step(offloaded, offloaded.taken);
        wait = offloaded.taken === null ? offloaded.flows.poll() : Math.max(0, offloaded.flows.poll());
      } catch (error) {
        this.#around.warn(`flows of ${offloaded.source.name}: ${messageOf(error)}`);
        wait = SYNC_MS;
      }
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

  #sync(): void {
    for (const offloaded of this.#sources.values()) offloaded?.flows.sync();
    this.#dropStale();
  }

  #dropStale(): void {
    const isOff = this.#mode === 'off' || this.#decision?.on === false;
    this.#takeover.dropStale(isOff, (ifindex) => this.#isTaken(ifindex));
  }

  // A daemon's start and end.

  /** The configuration is in force: flows of a former daemon pass over to those who have them now, and end where nobody has. */
  started(): void {
    this.#takeover.start();
    for (const one of this.#ports.values()) this.#changeBack(one);
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

  /** End, and leave flows in the kernel for the next daemon. */
  leave(): void {
    this.#copies.close();
    if (this.#takeover.isUnderWay) {
      for (const { port } of [...this.#ports.values()]) this.end(port);
      this.#takeover.restore();
    }
    // What has come up is for the engine to send.
    this.#wayUp.drain();
    for (const one of this.#ports.values()) {
      one.port.onWorkedOff = null;
      this.#disclaim(one);
      if (one.isTap) one.detach();
    }
    this.#ports.clear();
    for (const offloaded of this.#sources.values()) {
      offloaded?.flows.settle();
      offloaded?.close();
    }
    this.#sources.clear();
    this.#takeover.leave();
    this.#wayUp.close(false);
  }

  // For people.

  show(): OffloadInfo {
    const decision = this.#mode === 'off' ? null : this.#decision;
    return {
      mode: this.#mode,
      pins: this.#decision?.on === true ? this.#takeover.folder : null,
      missing: decision === null || decision.on ? null : decision.message,
      channel: this.#wayUp.counters,
      tables: showTables(this.#sources.values()),
      ports: [...this.#ports.values()].map(showPort),
    };
  }

  refused(limit: number): OffloadRefusal[] {
    return showRefused(this.#sources.values(), limit);
  }

  /** The program of a port. @throws Failure when it has none */
  dump(port: DatapathPort, verifier: boolean): string {
    const one = this.#ports.get(port.id);
    const program = one?.hook === 'xdp' ? one.source?.xdp : one?.hook === 'tc' ? one.source?.tc : null;
    if (program === undefined || program === null) {
      const why = one?.reason ?? 'no flow has asked for one yet';
      throw new Failure('refused', `port ${port.name} has no generated program: ${why}`);
    }
    return verifier ? program.verifierLog() : program.listing();
  }

  /** Take everything off the interfaces. */
  close(): void {
    this.#copies.close();
    for (const one of this.#ports.values()) this.#letGo(one);
    this.#ports.clear();
    for (const offloaded of this.#sources.values()) offloaded?.close();
    this.#sources.clear();
    this.#wayUp.close(true);
    this.#takeover.remove();
  }
}
