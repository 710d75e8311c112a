/**
 * Offload, as the daemon runs it: whether it is on, the punt channel, the programs on the ports, and the flow tables that extensions
 * offer. Packets of a port with a program come in through the punt channel; what the program carries never comes here at all.
 */
import { createHash } from 'node:crypto';
import type { Program } from '../../../bpf/index.ts';
import type { CaptureHub } from '../../../extensions/capture/index.ts';
import {
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  formatActions,
  formatFlowKey,
  KEY_WORDS,
} from '../../../flow/index.ts';
import { type EventLoop, openPuntChannel, type PuntChannel, type Timer } from '../../../host/index.ts';
import type { Batch } from '../../../net/index.ts';
import {
  attach,
  type CopyMaps,
  decideOffload,
  type Hook,
  type Installation,
  type OffloadDecision,
  offloadSupport,
  type Refused,
  showOffload,
  xdpTarget,
} from '../../../offload/index.ts';
import type { VirtualSwitch } from '../../../switch/index.ts';
import type { OffloadInfo, OffloadPort, OffloadRefusal, OffloadTable } from '../../api.ts';
import type { OffloadMode, Port } from '../../config/model.ts';
import { Failure, messageOf } from '../../rpc/failure.ts';
import type { DatapathPort } from '../port.ts';
import { loadBaseProgram } from './base-program.ts';
import { CaptureCopies } from './copies.ts';
import { PortOffload } from './port-offload.ts';
import { OffloadedSource } from './source.ts';

/** Slots of the ring that all ports share. */
const PUNT_SLOTS = 255;
/** How often flow tables are asked what is due, at most, and how often counts are brought to them. */
const POLL_MS = 1;
const SYNC_MS = 500;

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
}

/** Offload of one switch. */
export class DatapathOffload implements FlowRegistry {
  readonly #around: OffloadSurroundings;
  readonly #ports = new Map<number, PortOffload>();
  /** Tables that are offered; null for one that does not run in the kernel now. */
  readonly #sources = new Map<FlowSource, OffloadedSource | null>();
  #mode: OffloadMode = 'auto';
  #decision: OffloadDecision | null = null;
  #channel: PuntChannel | null = null;
  #base: Program | null = null;
  readonly #copies: CaptureCopies;
  #polledMs = 0;
  #due: Timer | null = null;

  constructor(around: OffloadSurroundings) {
    this.#around = around;
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
      // Nothing is pinned yet: what is said of it would be said for nothing.
      const support = { ...offloadSupport(), pinning: { possible: true } as const };
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
    if (config.kind !== 'netdev' || config.offload === 'off' || config.isolate === false) return false;
    return this.#decide();
  }

  /**
   * Put a program on a port, and take its punted packets.
   * @returns false when its packets must come by another way; the reason is kept
   * @throws Failure when offload is required
   */
  begin(port: DatapathPort, ifindex: number): boolean {
    const one = new PortOffload(port, ifindex, false);
    try {
      const channel = this.#openChannel();
      this.#base ??= loadBaseProgram(channel.interfaceIndex);
      one.claim = channel.claim(ifindex, { onPunted: (batch) => this.#punted(one, batch) });
      this.#attach(one, 'tc-ingress', this.#base);
    } catch (error) {
      one.attachReason = messageOf(error);
    }
    if (one.tc !== null) {
      const { config } = port;
      if (config.kind === 'netdev' && config.offload === 'xdp') this.#wantXdp(one);
      this.#ports.set(port.id, one);
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

  /** A TAP is there: its descriptor is read as ever, and programs may carry its flows past it. */
  beginTap(port: DatapathPort, ifindex: number): void {
    if (this.#mode === 'off' || !this.#decide()) return;
    const one = new PortOffload(port, ifindex, true);
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
    if (one !== undefined) this.#assign(one);
  }

  /** The port's device goes, or the port. */
  end(port: DatapathPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#ports.delete(port.id);
    port.onWorkedOff = null;
    one.source?.flows.removePort(one.ifindex);
    this.#letGo(one);
    this.#copies.portsChanged();
  }

  #wantXdp(one: PortOffload): void {
    one.wanted = 'xdp';
    const target = xdpTarget(one.ifindex, true);
    one.xdpOutput = target.possible;
    if (target.possible) one.undoXdpOutput = target.undo;
    else this.#around.warn(`XDP cannot send to port ${one.port.name}: ${target.reason}`);
  }

  #punted(one: PortOffload, batch: Batch): void {
    const { count } = batch;
    this.#around.virtualSwitch.receive(one.port.id, 0, batch);
    one.source?.flows.drained(one.ifindex, count);
  }

  #letGo(one: PortOffload): void {
    one.detach();
    if (one.claim !== null) this.#channel?.disclaim(one.ifindex);
    one.claim = null;
    try {
      one.undoXdpOutput?.();
    } catch (error) {
      this.#around.warn(`port ${one.port.name}: ${messageOf(error)}`);
    }
    one.undoXdpOutput = undefined;
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
    const source = one.isOpen ? one.source : null;
    const tc = source?.tc?.program ?? (one.isTap ? null : this.#base);
    if (tc === null) {
      one.tc?.detach();
      one.tc = null;
    } else if (one.tc === null || !one.tc.replace(tc)) {
      this.#attach(one, one.isTap ? 'tc-egress' : 'tc-ingress', tc);
    }
    const xdp = one.wanted === 'xdp' ? (source?.xdp?.program ?? null) : null;
    if (xdp === null) {
      one.xdp?.detach();
      one.xdp = null;
    } else if (one.xdp === null || !one.xdp.replace(xdp)) {
      this.#attach(one, 'xdp', xdp);
    }
  }

  #attach(one: PortOffload, hook: Hook, program: Program): void {
    const result = attach({ program, netdev: one.ifindex, hook });
    if (result.attachment !== null) {
      if (hook === 'xdp') one.xdp = result.attachment;
      else one.tc = result.attachment;
      one.foreign = [...one.foreign.filter((other) => other.hook !== hook), ...result.attachment.foreign];
      return;
    }
    one.attachReason = result.reason;
    one.reason = result.reason;
    one.foreign = result.foreign;
    if (hook !== 'xdp') return;
    // It stays at tc.
    one.wanted = 'tc';
    one.xdp = null;
    one.source?.setPort(one);
    this.#around.warn(`port ${one.port.name} is offloaded at tc instead of xdp: ${result.reason}`);
  }

  // The punt channel.

  #openChannel(): PuntChannel {
    if (this.#channel !== null) return this.#channel;
    const name = `mr${createHash('sha256').update(this.#around.identity).digest('hex').slice(0, 8)}`;
    const channel = openPuntChannel({ interfaceName: name, receiveSlots: PUNT_SLOTS });
    for (const warning of channel.warnings) this.#around.warn(warning);
    this.#channel = channel;
    const { loop } = this.#around;
    loop.add(channel.fileDescriptor, { onReady: () => void channel.receive(), onError: () => void channel.refresh() });
    loop.addPoller({ poll: () => (this.#channel === channel ? channel.receive() : 0) });
    return channel;
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
      const { interfaceIndex } = this.#openChannel();
      const offloaded = new OffloadedSource(source, {
        nowMs: () => this.#around.nowMs(),
        puntIfindex: interfaceIndex,
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

  #closeSource(source: FlowSource, offloaded: OffloadedSource): void {
    offloaded.flows.sync();
    this.#sources.set(source, null);
    for (const one of this.#ports.values()) {
      if (one.source === offloaded) this.#assign(one);
    }
    offloaded.close();
    this.#around.captures.changed();
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

  #install(offloaded: OffloadedSource, { changed }: Installation): void {
    for (const one of this.#ports.values()) if (one.source === offloaded) this.#putPrograms(one);
    for (const { hook, instructions } of changed) {
      this.#around.log('another program', { table: offloaded.source.name, hook, instructions });
    }
  }

  #refused(offloaded: OffloadedSource, refusal: Refused, hookIsLost: boolean): void {
    if (hookIsLost) {
      offloaded[refusal.hook] = null;
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
        wait = offloaded.flows.poll();
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
  }

  // For people.

  show(): OffloadInfo {
    const decision = this.#mode === 'off' ? null : this.#decision;
    const tables: OffloadTable[] = [];
    for (const [source, offloaded] of this.#sources) {
      if (offloaded === null) continue;
      const shown = showOffload(offloaded.flows);
      tables.push({
        name: source.name,
        masks: shown.hooks.flatMap(({ hook, masks }) =>
          masks.map(({ text, flows, packets }) => ({ fields: `${hook}: ${text}`, flows, hits: packets })),
        ),
        flows: shown.flows,
        flowsInKernel: shown.offloadedFlows,
        reasons: [...shown.reasons],
      });
    }
    return {
      mode: this.#mode,
      missing: decision === null || decision.on ? null : decision.message,
      tables,
      ports: [...this.#ports.values()].map(describe),
    };
  }

  refused(limit: number): OffloadRefusal[] {
    const refusals: OffloadRefusal[] = [];
    const key = new Uint32Array(KEY_WORDS);
    for (const [{ name, table }, offloaded] of this.#sources) {
      for (const [slot, reason] of offloaded?.flows.reasons() ?? []) {
        if (refusals.length >= limit) return refusals;
        table.readKey(slot, key);
        const match = formatFlowKey(key, table.maskOf(slot).words);
        refusals.push({ table: name, match, actions: formatActions(table.actionsOf(slot)), reason });
      }
    }
    return refusals;
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
    this.#base?.close();
    this.#base = null;
    if (this.#channel === null) return;
    this.#around.loop.remove(this.#channel.fileDescriptor);
    this.#channel.remove();
    this.#channel = null;
  }
}

function describe(one: PortOffload): OffloadPort {
  const counters = one.source?.flows.portCounters(one.ifindex) ?? null;
  return {
    port: one.port.name,
    hook: one.hook,
    program: (one.xdp ?? one.tc)?.programId ?? null,
    foreign: one.foreign.map(({ name, hook }) => `${name} at ${hook}`),
    carriedPackets: counters?.carriedPackets ?? 0,
    carriedBytes: counters?.carriedBytes ?? 0,
    puntedPackets: one.isTap ? (counters?.punted ?? 0) : (one.claim?.handled ?? 0),
    passedPackets: counters?.passed ?? 0,
    lost: counters === null ? {} : { failed: counters.failed, copies: counters.lostCopies },
    reason: one.reason ?? one.attachReason,
  };
}
