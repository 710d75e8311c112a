/**
 * A forwarding decider in the stack: its decisions are kept as flows, which the engine runs here. What filtering deciders right above it decide is decided along, in one
 * pass, so that they need not see the packets. What runs in the kernel is carried-flows.ts's affair.
 */
import { type DecidedDrop, DecidedFlows, type KeptDecision } from '../../decide/index.ts';
import {
  Datapath,
  Drop,
  Extraction,
  extract,
  type FlowDescription,
  FlowKey,
  flowRegistryOf,
  formatActions,
  KEY_WORDS,
  outcomeOf,
  type RecalledFlow,
  Word,
} from '../../flow/index.ts';
import { type Batch, ClonePool, type Packet, PacketPool } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import type {
  ExplainedCopy,
  ExplainedDestination,
  Explanation,
  Extension,
  ExtensionHandle,
  TimerHandle,
} from '../extension.ts';
import type { OidRequest, Status } from '../oid/oid.ts';
import type { ForwardingContext } from '../path/context.ts';
import { FlowForwarding } from '../path/flow-forwarding.ts';
import { CarriedFlows } from './carried-flows.ts';
import type { DeciderExtension, DeciderHandle } from './define.ts';
import { describeDecision } from './explain.ts';
import { DeciderPlace, type StackedDecider } from './placed.ts';

const BUFFERS = { packets: 1024, bufferBytes: 2304, largePackets: 32, largeBufferBytes: 66_048, clones: 1024 };

/** How often flows are looked at that may be over, in milliseconds. */
const ADVANCE_MS = 250;

export class ForwardingDecider implements Extension {
  /** Of a forwarding extension: what stands right above it need not see packets. */
  readonly decidesAlong = true;
  readonly reconfigure?: (configuration: unknown) => void;
  readonly #handle: ExtensionHandle;
  readonly #place: DeciderPlace;
  readonly #flows: DecidedFlows;
  readonly #datapath: Datapath;
  readonly #forwarding: FlowForwarding;
  readonly #buffers = {
    pool: new PacketPool({ packets: BUFFERS.packets, bufferBytes: BUFFERS.bufferBytes }),
    largePool: new PacketPool({ packets: BUFFERS.largePackets, bufferBytes: BUFFERS.largeBufferBytes }),
    clones: new ClonePool(BUFFERS.clones),
  };
  readonly #carriedKey = new Uint32Array(KEY_WORDS);
  #along: readonly StackedDecider[] = [];
  #offered: CarriedFlows | null = null;
  #unwatch: (() => void) | null = null;
  #timer: TimerHandle | null = null;

  constructor(handle: ExtensionHandle, make: (handle: DeciderHandle) => DeciderExtension) {
    this.#handle = handle;
    this.#place = new DeciderPlace(handle, 'forwarding', make, () => this.#settle());
    this.#flows = new DecidedFlows({
      ports: this.#place.ports,
      deciders: () => [...this.#along.map(({ placed }) => placed), this.#place.placed],
      nowMs: () => handle.host.nowMs(),
    });
    const { decider } = this.#place;
    if (decider.reconfigure !== undefined) this.reconfigure = (given) => decider.reconfigure?.(given);
    this.#datapath = new Datapath({
      table: this.#flows.table,
      countsTcpFlags: false,
      nowMs: () => handle.host.nowMs(),
      ...this.#buffers,
      hooks: {
        outputIgnoresKey: true,
        output: (packet, portId) => {
          if (!this.#forwarding.forward(packet, portId)) this.#datapath.refuse(packet, Drop.OUTPUT_REFUSED);
        },
        decide: (packet, key) => this.#flows.decide(key, () => packet.frame()),
        dropped: (_, reason) => this.#forwarding.dropped(reason),
        ended: (reason) => {
          this.#countExcluded(this.#record(), 1);
          this.#forwarding.ended(reason);
        },
      },
    });
    this.#forwarding = new FlowForwarding(handle, {
      hasPort: () => true,
      receive: (batch, portId) => this.#receive(batch, portId),
      quick: this.#datapath,
      sentQuickly: (slot) => {
        if (this.#flows.hasExcluded(slot)) this.#countExcluded(this.#flows.recordOf(slot), 1);
      },
      unknownPort: DropReason.UNKNOWN_PORT,
      reasonOf: (drop) => (drop === Drop.FLOW ? this.#reasonOfFlow() : undefined),
      dropPort: (drop) => (drop === Drop.FLOW ? this.#portOf(this.#record()?.drop) : -1),
      describe: (name) => `What ${handle.name} decided could not be done: ${name}.`,
    });
  }

  attach(): void {
    this.#place.decider.attach?.();
  }

  restart(): void {
    this.#place.watch();
    this.#place.learnPorts();
    this.#lookAlong();
    this.#unwatch ??= this.#handle.shortcuts.watch((_portId, alsoOut) => {
      if (!alsoOut) return;
      this.#lookAlong();
      this.#offered?.changed();
    });
    this.#offered ??= this.#offer();
    this.#timer ??= this.#nextTurn();
  }

  switchActive(): void {
    this.#place.learnPorts();
  }

  detach(): void {
    this.#place.unwatch();
    this.#unwatch?.();
    this.#unwatch = null;
    this.#timer?.cancel();
    this.#timer = null;
    this.#flows.close();
    this.#beAlong([]);
    this.#offered?.close();
    this.#offered = null;
    this.#place.decider.detach?.();
  }

  #offer(): CarriedFlows | null {
    const { host, name } = this.#handle;
    const registry = flowRegistryOf(host.services);
    // What headers say counts only where those that lie are handed up.
    if (registry?.strict !== true) return null;
    const { ports } = this.#place;
    const offered = new CarriedFlows({
      handle: this.#handle,
      registry,
      forwarding: this.#forwarding,
      ports,
      forwarder: this.#place,
      recalls: true,
      own: {
        name,
        table: this.#flows.table,
        hashSecret: this.#datapath.hashSecret,
        portIdOf: (number) => (ports.has(number) ? number : -1),
        numberOf: (portId) => (ports.has(portId) ? portId : -1),
        describe: (slot) => this.#describe(slot),
        carried: (slot, packets, bytes) => this.#carried(slot, packets, bytes),
        recall: (flow) => this.#recall(flow),
      },
    });
    offered.start();
    return offered;
  }

  #describe(slot: number): FlowDescription {
    const { deciders = [], drop = null } = this.#flows.recordOf(slot) ?? {};
    return { deciders, drop: drop === null ? null : `${drop.by}:${drop.reason}` };
  }

  #nextTurn(): TimerHandle | null {
    if (this.#handle.host.setTimer === undefined) return null;
    return this.#handle.setTimer(ADVANCE_MS, () => {
      this.#flows.advance();
      this.#timer = this.#nextTurn();
    });
  }

  #settle(): void {
    this.#flows.table.refreshCounts(-1);
    this.#flows.settle();
  }

  /** Who is decided along may have changed: then every decision is another. */
  #lookAlong(): void {
    const along = this.#handle.shortcuts.decidersAbove();
    const isSame = along.length === this.#along.length && along.every((each, i) => each === this.#along[i]);
    if (isSame) return;
    // What was counted until now is of those who were decided along until now.
    this.#flows.flush();
    this.#beAlong(along);
  }

  #beAlong(along: readonly StackedDecider[]): void {
    for (const each of this.#along) each.settledBy(null);
    this.#along = along;
    for (const each of along) each.settledBy(() => this.#settle());
  }

  countersWanted(): void {
    this.#place.settle();
  }

  onOidComplete(request: OidRequest, status: Status): void {
    this.#place.note(request, status);
    this.#offered?.changed();
  }

  onIngress(batch: Batch, flags: number): void {
    this.#forwarding.onIngress(batch, flags);
  }

  #receive(batch: Batch, portId: number): void {
    this.#datapath.receive(batch, portId);
    this.#forwarding.flush();
  }

  /** Why the flow drops that the present packet falls to. */
  #reasonOfFlow(): DropReasonCode | undefined {
    return this.#reasonOf(this.#record()?.drop);
  }

  /** The port that packets were to leave by which are dropped because of that; -1 for another reason, and for a port that is not there. */
  #portOf(drop: DecidedDrop | null | undefined): number {
    const portId = drop?.portId ?? -1;
    return this.#place.ports.has(portId) ? portId : -1;
  }

  /** What was decided about the present packet. */
  #record(): KeptDecision | null {
    const { slot } = this.#datapath;
    return slot === -1 ? this.#flows.onlyRecord : this.#flows.recordOf(slot);
  }

  /** Copies that do not leave are counted where they were to leave. */
  #countExcluded(record: KeptDecision | null, packets: number): void {
    if (record === null || record.excluded.length === 0) return;
    for (const { portId, drop } of record.excluded) {
      const reason = this.#reasonOf(drop);
      if (reason !== undefined) this.#handle.shortcuts.droppedCopies(portId, reason, packets);
    }
  }

  #reasonOf(drop: DecidedDrop | null | undefined): DropReasonCode | undefined {
    if (drop == null) return undefined;
    const by = this.#along.find(({ placed }) => placed.name === drop.by) ?? this.#place;
    return by.reasonOf(drop.reason);
  }

  /** Told by the registry: packets of a flow went another way. */
  #carried(slot: number, packets: number, bytes: number): void {
    const { table } = this.#flows;
    table.readKey(slot, this.#carriedKey);
    const actions = table.actionsOf(slot);
    const outcome = outcomeOf(actions, 0, actions.length);
    const record = this.#flows.recordOf(slot);
    this.#flows.settle(slot);
    this.#countExcluded(record, packets);
    const outputs = outcome?.outputs ?? [];
    const dropPortId = this.#portOf(record?.drop);
    this.#forwarding.carried(
      {
        ...(dropPortId === -1 ? {} : { dropPortId }),
        sourcePortId: this.#carriedKey[Word.IN_PORT],
        isFirst: true,
        outputs,
        isSentOn: false,
        drop:
          outputs.length > 0 ? DropReason.NONE : (this.#reasonOf(record?.drop) ?? this.#forwarding.reasonOf(Drop.FLOW)),
      },
      packets,
      bytes,
    );
  }

  /** A flow from before a restart still runs: when it would be decided so again, it goes on. */
  #recall({ portId, key }: RecalledFlow): void {
    const present = key.slice();
    present[Word.IN_PORT] = portId;
    this.#flows.recall(present);
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    if (context.verdict !== DropReason.NONE) return { lines: [], drop: context.verdict };
    const key = new FlowKey();
    key.begin(context.sourcePortId);
    if (extract(packet, key) !== Extraction.DONE) return { lines: ['its headers make no key'] };
    const record = this.#flows.trace(key.words, () => packet.frame());
    const lines = describeDecision(record);
    if (record.drop === null) lines.push(`actions: ${formatActions(record.actions)}`);
    const drop = this.#reasonOf(record.drop);
    if (drop !== undefined) return { lines, drop };
    const { policies } = this.#handle;
    const destinations: ExplainedDestination[] = [];
    const copies: ExplainedCopy[] = [];
    const output = (sent: Packet, portId: number): void => {
      const destination = { portId, nicIndex: 0, flags: policies.destinationFlags(portId) };
      if (sent === packet) destinations.push(destination);
      else copies.push({ frame: Buffer.from(sent.frame()).toString('hex'), destinations: [destination] });
    };
    const scratch = new Datapath({ hooks: { output }, nowMs: () => 0, ...this.#buffers });
    // The reference is given away; with another one left, whoever changes the packet has to copy it.
    packet.hold();
    scratch.execute(packet, key, record.actions);
    const excluded = destinations
      .map(({ portId }) => ({ portId, reason: policies.egressVerdict(packet, portId) }))
      .filter(({ reason }) => reason !== DropReason.NONE);
    for (const { portId, drop: why } of record.excluded) {
      const reason = this.#reasonOf(why);
      if (reason === undefined) continue;
      if (!this.#place.ports.has(portId)) {
        lines.push(`there is no port ${portId}`);
        continue;
      }
      destinations.push({ portId, nicIndex: 0, flags: policies.destinationFlags(portId) });
      excluded.push({ portId, reason });
    }
    return { lines, destinations, copies, excluded };
  }

  status(): JsonValue {
    const { counters, table } = this.#flows;
    const { decider } = this.#place;
    if (decider.showsStatusAlone === true) return decider.status?.() ?? null;
    return {
      flows: table.size,
      masks: table.masks.length,
      ...counters,
      reasons: this.#flows.everyPacketReasons,
      decidedAlong: this.#along.map(({ placed }) => placed.name),
      carried: this.#offered?.status() ?? null,
      ...(decider.status === undefined ? {} : { state: decider.status() }),
    };
  }

  command(name: string, args: JsonValue): JsonValue {
    const { decider } = this.#place;
    if (decider.command === undefined) throw new TypeError(`${this.#handle.name} has no commands`);
    return decider.command(name, args);
  }
}
