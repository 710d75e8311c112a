/**
 * The capturing extension: shows packets to the capture hub on their way in, before any filter, and on their way out, behind all
 * of them. It never changes or keeps a packet. Neighbours: hub.ts decides what is recorded.
 */
import { z } from 'zod';
import type { Batch, Packet } from '../../net/index.ts';
import {
  ContextFlag,
  command,
  contextOf,
  type Explanation,
  type Extension,
  type ExtensionFactory,
  type ExtensionHandle,
  type ForwardingContext,
  type JsonValue,
  runCommand,
} from '../../switch/index.ts';
import type { CaptureHub } from './hub.ts';
import { CaptureFlag } from './ring.ts';
import type { ShownSession } from './session.ts';

/** What the extension says of itself. */
export type CaptureStatus = { readonly sessions: readonly ShownSession[] };

function statusOf(hub: CaptureHub): CaptureStatus {
  return { sessions: hub.sessions.map((session) => session.describe()) };
}

/** All commands; see the README. */
export const CAPTURE_COMMANDS = {
  show: command(z.strictObject({}), statusOf),
  close: command(z.strictObject({ id: z.int() }), (hub: CaptureHub, { id }) => {
    const session = hub.sessions.find((candidate) => candidate.id === id);
    if (session === undefined) throw new TypeError(`there is no capture session ${id}`);
    session.close();
    return statusOf(hub);
  }),
};

class CaptureExtension implements Extension {
  readonly #handle: ExtensionHandle;
  readonly #hub: CaptureHub;
  #stopWatching: (() => void) | null = null;

  constructor(handle: ExtensionHandle, hub: CaptureHub) {
    this.#handle = handle;
    this.#hub = hub;
  }

  attach(): void {
    this.#stopWatching = this.#hub.watch(() => this.#handle.shortcuts.changed());
  }

  detach(): void {
    this.#stopWatching?.();
  }

  /** Only what sessions want to see must come, and only while there are no copies of it. */
  passByPort(portId: number): boolean {
    return !this.#hub.needsPort(portId);
  }

  onIngress(batch: Batch, flags: number): void {
    this.#hub.drain();
    if (this.#hub.wantsIngress) {
      const packets = batch.packets;
      for (let i = 0; i < batch.count; i += 1) {
        const packet = packets[i];
        const context = contextOf(packet);
        this.#hub.offer(packet, 0, context.sourcePortId, context.sourceNicIndex, 0);
      }
    }
    this.#handle.sendIngress(batch, flags);
  }

  onEgress(batch: Batch, flags: number): void {
    this.#hub.drain();
    if (this.#hub.wantsEgress) {
      const packets = batch.packets;
      for (let i = 0; i < batch.count; i += 1) this.#offerCopies(packets[i]);
    }
    this.#handle.indicateEgress(batch, flags);
  }

  #offerCopies(packet: Packet): void {
    const context = contextOf(packet);
    const count = context.numDestinations;
    for (let index = 0; index < count; index += 1) {
      if (context.isExcluded(index)) continue;
      const tagAction = this.#handle.policies.tagAction(packet, index);
      const portId = context.destinationPorts[index];
      this.#hub.offer(packet, tagAction, portId, context.destinationNics[index], CaptureFlag.OUT);
    }
  }

  status(): CaptureStatus {
    return statusOf(this.#hub);
  }

  command(name: string, args: JsonValue): JsonValue {
    return runCommand(CAPTURE_COMMANDS, this.#hub, name, args);
  }

  explain(_packet: Packet, context: ForwardingContext): Explanation {
    const isEgress = (context.flags & ContextFlag.EGRESS) !== 0;
    const waiting = isEgress ? this.#hub.wantsEgress : this.#hub.wantsIngress;
    return { lines: waiting ? [`shown to the capture sessions (${this.#hub.sessions.length} open)`] : [] };
  }
}

/** The capturing extension `capture` of one switch, for one hub. It takes no configuration. */
export function captureExtension(hub: CaptureHub): ExtensionFactory {
  return {
    descriptor: {
      name: 'capture',
      type: 'capturing',
      version: '1.0.0',
      description: 'records packets for capture sessions',
    },
    create: (handle) => new CaptureExtension(handle, hub),
  };
}
