/**
 * Offload, as the daemon runs it: whether it is on, the punt channel, the programs on the ports, and the flow tables that extensions
 * offer. Packets of a port with a program come in through the punt channel; what the program carries never comes here at all.
 */
import { createHash } from 'node:crypto';
import type { Program } from '../../../bpf/index.ts';
import type { FlowRegistration, FlowRegistry, FlowSource } from '../../../flow/index.ts';
import { type EventLoop, openPuntChannel, type PuntChannel } from '../../../host/index.ts';
import { attach, decideOffload, type OffloadDecision, offloadSupport } from '../../../offload/index.ts';
import type { VirtualSwitch } from '../../../switch/index.ts';
import type { OffloadInfo, OffloadPort, OffloadRefusal } from '../../api.ts';
import type { OffloadMode, Port } from '../../config/model.ts';
import { Failure, messageOf } from '../../rpc/failure.ts';
import type { DatapathPort } from '../port.ts';
import { loadBaseProgram } from './base-program.ts';
import { PortOffload } from './port-offload.ts';

/** Slots of the ring that all ports share. */
const PUNT_SLOTS = 255;

export interface OffloadSurroundings {
  readonly loop: EventLoop;
  readonly virtualSwitch: VirtualSwitch;
  /** Path that names this daemon among others: devices and pins are named after it. */
  readonly identity: string;
  warn(message: string): void;
}

/** Offload of one switch. */
export class DatapathOffload implements FlowRegistry {
  readonly #around: OffloadSurroundings;
  readonly #ports = new Map<number, PortOffload>();
  readonly #sources = new Set<FlowSource>();
  #mode: OffloadMode = 'auto';
  #decision: OffloadDecision | null = null;
  #channel: PuntChannel | null = null;
  #base: Program | null = null;

  constructor(around: OffloadSurroundings) {
    this.#around = around;
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
  }

  /** Whether flows can run in the kernel, now that somebody wants it. @throws Failure when it is required and impossible */
  #decide(): boolean {
    if (this.#decision === null) {
      this.#decision = decideOffload(this.#mode, offloadSupport());
      const { message, refuse } = this.#decision;
      if (refuse) throw new Failure('failed', `offload is required: ${message}`, 'set offload to auto to run without');
      if (message !== null) this.#around.warn(message);
    }
    return this.#decision.on;
  }

  /** Whether the packets of a port of this configuration are to come through a program. @throws Failure */
  takes(config: Port): boolean {
    if (config.kind !== 'netdev' || config.offload === 'off' || config.isolate === false) return false;
    return this.#decide();
  }

  /**
   * Put a program on a port, and take its punted packets.
   * @returns false when its packets must come by another way; the reason is kept
   */
  begin(port: DatapathPort, ifindex: number, isTap: boolean): boolean {
    const one = new PortOffload(port, ifindex, isTap);
    this.#ports.set(port.id, one);
    try {
      const channel = this.#openChannel();
      this.#base ??= loadBaseProgram(channel.interfaceIndex);
      one.claim = channel.claim(ifindex, {
        onPunted: (batch) => this.#around.virtualSwitch.receive(port.id, 0, batch),
      });
      const result = attach({ program: this.#base, netdev: ifindex, hook: 'tc-ingress' });
      if (result.attachment !== null) {
        one.tc = result.attachment;
        one.foreign = result.attachment.foreign;
        return true;
      }
      one.reason = result.reason;
      one.foreign = result.foreign;
    } catch (error) {
      one.reason = messageOf(error);
    }
    this.#letGo(one);
    this.#around.warn(`port ${port.name} is not offloaded: ${one.reason}`);
    if (this.#mode === 'require') throw new Failure('failed', `port ${port.name} cannot be offloaded: ${one.reason}`);
    return false;
  }

  /** The port's device goes, or the port. */
  end(port: DatapathPort): void {
    const one = this.#ports.get(port.id);
    if (one === undefined) return;
    this.#letGo(one);
    this.#ports.delete(port.id);
  }

  #letGo(one: PortOffload): void {
    one.xdp?.detach();
    one.tc?.detach();
    one.xdp = null;
    one.tc = null;
    if (one.claim !== null) this.#channel?.disclaim(one.ifindex);
    one.claim = null;
  }

  #openChannel(): PuntChannel {
    if (this.#channel !== null) return this.#channel;
    const name = `mr${createHash('sha256').update(this.#around.identity).digest('hex').slice(0, 8)}`;
    const channel = openPuntChannel({ interfaceName: name, receiveSlots: PUNT_SLOTS });
    for (const warning of channel.warnings) this.#around.warn(warning);
    this.#channel = channel;
    const { loop } = this.#around;
    const poller = { poll: () => channel.receive() };
    loop.add(channel.fileDescriptor, { onReady: () => void channel.receive(), onError: () => void channel.refresh() });
    loop.addPoller(poller);
    return channel;
  }

  register(source: FlowSource): FlowRegistration {
    this.#sources.add(source);
    return {
      portsChanged: () => {},
      close: () => void this.#sources.delete(source),
    };
  }

  show(): OffloadInfo {
    const support = this.#mode === 'off' ? null : decideOffload(this.#mode, offloadSupport());
    return {
      mode: this.#mode,
      missing: support === null || support.on ? null : support.message,
      tables: [],
      ports: [...this.#ports.values()].map(describe),
    };
  }

  refused(_limit: number): OffloadRefusal[] {
    return [];
  }

  dump(port: DatapathPort, _verifier: boolean): string {
    const one = this.#ports.get(port.id);
    if (one === undefined) throw new Failure('refused', `port ${port.name} has no program`);
    return '';
  }

  /** Take everything off the interfaces. */
  close(): void {
    for (const one of this.#ports.values()) this.#letGo(one);
    this.#ports.clear();
    this.#base?.close();
    this.#base = null;
    if (this.#channel === null) return;
    this.#around.loop.remove(this.#channel.fileDescriptor);
    this.#channel.remove();
    this.#channel = null;
  }
}

function describe(one: PortOffload): OffloadPort {
  return {
    port: one.port.name,
    hook: one.hook,
    program: (one.xdp ?? one.tc)?.programId ?? null,
    foreign: one.foreign.map(({ name, hook }) => `${name} at ${hook}`),
    carriedPackets: 0,
    carriedBytes: 0,
    puntedPackets: one.claim?.handled ?? 0,
    passedPackets: 0,
    lost: {},
    reason: one.reason,
  };
}
