/**
 * The way up: the punt channel by which packets that programs do not carry come to the engine, and the program that hands up everything. It is
 * there from the first port or table on that needs it. Neighbours: port-offloads.ts and flow-tables.ts.
 */
import type { Program } from '../../../bpf/index.ts';
import {
  type EventLoop,
  openPuntChannel,
  type PuntChannel,
  type PuntClaim,
  type PuntCounters,
} from '../../../host/index.ts';
import { BATCH_SIZE, type Batch } from '../../../net/index.ts';
import { loadBaseProgram } from './base-program.ts';

/** Slots of the ring that all ports share. */
const RING_SLOTS = 255;
/** Most packets of a port that programs have handed up and the engine is not done with. */
export const MOST_UNDER_WAY = RING_SLOTS + BATCH_SIZE;
/** Batches that are taken at the end, at most. */
const LAST_TURNS = 1000;

export interface WayUpOptions {
  readonly loop: EventLoop;
  /** Of the device that programs redirect to. */
  readonly interfaceName: string;
  /** Where the devices are kept, so that they outlive the process; null when they need not. */
  path(): string | null;
  warn(message: string): void;
}

export class WayUp {
  readonly #options: WayUpOptions;
  #channel: PuntChannel | null = null;
  #base: Program | null = null;

  constructor(options: WayUpOptions) {
    this.#options = options;
  }

  /** The program that hands up everything; null before a port has asked for it. */
  get base(): Program | null {
    return this.#base;
  }

  /** What has come, and what was lost by cause; null while nothing can come. */
  get counters(): PuntCounters | null {
    return this.#channel?.counters ?? null;
  }

  /** @returns the interface that programs redirect to @throws SystemError, as openPuntChannel */
  open(): number {
    return this.#open().interfaceIndex;
  }

  /** @returns the program that hands up everything @throws SystemError, PrivilegeError, VerifierError */
  openForPorts(): Program {
    this.#base ??= loadBaseProgram(this.#open().interfaceIndex);
    return this.#base;
  }

  /** Take the packets that come up of an interface. @throws RangeError when somebody has them already */
  claim(ifindex: number, onPunted: (batch: Batch) => void): PuntClaim {
    return this.#open().claim(ifindex, { onPunted });
  }

  disclaim(ifindex: number): void {
    this.#channel?.disclaim(ifindex);
  }

  /** Take what has come up until now. */
  drain(): void {
    for (let turn = 0; turn < LAST_TURNS && this.#channel !== null; turn += 1)
      if (this.#channel.receive() === 0) return;
  }

  /** @param remove whether devices that could outlive the process go, too */
  close(remove: boolean): void {
    this.#base?.close();
    this.#base = null;
    const channel = this.#channel;
    if (channel === null) return;
    this.#channel = null;
    this.#options.loop.remove(channel.fileDescriptor);
    if (remove) channel.remove();
    else channel.close();
  }

  #open(): PuntChannel {
    if (this.#channel !== null) return this.#channel;
    const { loop, interfaceName, warn } = this.#options;
    const channel = openPuntChannel({ interfaceName, receiveSlots: RING_SLOTS, namespacePath: this.#options.path() });
    for (const warning of channel.warnings) warn(warning);
    this.#channel = channel;
    loop.add(channel.fileDescriptor, { onReady: () => void channel.receive(), onError: () => void channel.refresh() });
    loop.addPoller({ poll: () => (this.#channel === channel ? channel.receive() : 0) });
    return channel;
  }
}
