/**
 * A filtering decider that stands in the stack by itself, because who forwards does not decide it along: packets come through its handlers, and what it
 * decided about them before is found in flows of its own. Neighbours: placed.ts, forwarding.ts.
 */
import { DecidedFlows, type KeptDecision, ObservedPorts, type PlacedDecider } from '../../decide/index.ts';
import { Datapath, Extraction, extract, FlowKey, Word } from '../../flow/index.ts';
import { Batch, ClonePool, type Packet, PacketPool } from '../../net/index.ts';
import { ContextFlag, contextOf, type ForwardingContext } from '../context.ts';
import type { DropReasonCode } from '../drop-reason.ts';
import type { Explanation, Extension, ExtensionHandle, TimerHandle } from '../extension.ts';
import type { OidRequest, Status } from '../oid.ts';
import type { JsonValue } from '../properties.ts';
import type { DeciderExtension, DeciderHandle } from './define.ts';
import { describeDecision } from './explain.ts';
import { DeciderPlace } from './placed.ts';

const BUFFERS = { packets: 256, bufferBytes: 2304, largePackets: 16, largeBufferBytes: 66_048, clones: 64 };
const ADVANCE_MS = 250;

/** The only port there is for what a filter lets pass. */
const ON = 1;

/** Stands where the forwarding extension does: whatever comes so far goes on. */
const PASSES: PlacedDecider = {
  name: '',
  type: 'forwarding',
  decider: { decide: (_, decision) => decision.output(ON) },
};

export class FilteringDecider implements Extension {
  readonly decider: DeciderPlace;
  readonly reconfigure?: (configuration: unknown) => void;
  readonly onEgress?: (batch: Batch, flags: number) => void;
  readonly #handle: ExtensionHandle;
  readonly #flows: DecidedFlows;
  readonly #outputs: DecidedFlows;
  readonly #datapath: Datapath;
  readonly #key = new FlowKey();
  readonly #one = new Batch();
  readonly #dropped = new Batch();
  readonly #changed = new Batch();
  readonly #replaced = new Batch();
  /** What has become of the packet under way: null when it went nowhere. */
  #result: Packet | null = null;
  #outputPort = 0;
  #timer: TimerHandle | null = null;

  constructor(handle: ExtensionHandle, make: (handle: DeciderHandle) => DeciderExtension) {
    this.#handle = handle;
    this.decider = new DeciderPlace(handle, 'filtering', make, () => this.#settle());
    const { decider } = this.decider;
    if (decider.reconfigure !== undefined) this.reconfigure = (given) => decider.reconfigure?.(given);
    const ports = new ObservedPorts();
    ports.set(ON, 'on');
    const nowMs = () => handle.host.nowMs();
    const down: PlacedDecider = {
      ...this.decider.placed,
      decider: { decide: (packet, decision) => decider.decide?.(packet, decision) },
    };
    this.#flows = new DecidedFlows({ ports, deciders: () => [down, PASSES], nowMs });
    // What is decided about the way out is of one port each: it stands where recirculated packets have their number, which every decision looks at.
    const up: PlacedDecider = {
      ...this.decider.placed,
      decider: { decide: (packet, decision) => decider.decideOutput?.(packet, this.#outputPort, decision) },
    };
    this.#outputs = new DecidedFlows({ ports, deciders: () => [up, PASSES], nowMs });
    if (decider.decideOutput !== undefined) this.onEgress = (batch, flags) => this.#goUp(batch, flags);
    this.#datapath = new Datapath({
      table: this.#flows.table,
      nowMs,
      pool: new PacketPool({ packets: BUFFERS.packets, bufferBytes: BUFFERS.bufferBytes }),
      largePool: new PacketPool({ packets: BUFFERS.largePackets, bufferBytes: BUFFERS.largeBufferBytes }),
      clones: new ClonePool(BUFFERS.clones),
      hooks: {
        outputIgnoresKey: true,
        output: (packet) => {
          this.#result = packet;
          packet.hold();
        },
        decide: (packet, key) => this.#flows.decide(key, () => packet.frame()),
      },
    });
  }

  attach(): void {
    this.decider.decider.attach?.();
  }

  restart(): void {
    this.decider.learnPorts();
    this.#timer ??= this.#nextTurn();
  }

  switchActive(): void {
    this.decider.learnPorts();
  }

  detach(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#flows.flush();
    this.#outputs.flush();
    this.decider.decider.detach?.();
  }

  #nextTurn(): TimerHandle | null {
    if (this.#handle.host.setTimer === undefined) return null;
    return this.#handle.setTimer(ADVANCE_MS, () => {
      this.#flows.advance();
      this.#outputs.advance();
      this.#timer = this.#nextTurn();
    });
  }

  #settle(): void {
    this.#flows.settle();
    this.#outputs.settle();
  }

  countersWanted(): void {
    this.decider.settle();
  }

  onOidComplete(request: OidRequest, status: Status): void {
    this.decider.note(request, status);
  }

  onIngress(batch: Batch, flags: number): void {
    const { packets, count } = batch;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      const result = this.#decide(packet);
      if (result === packet) {
        packets[kept] = packet;
        kept += 1;
      } else if (result === null) this.#drop(packet);
      else if (this.#originate(result, packet)) this.#replaced.push(packet);
      else {
        result.release();
        this.#drop(packet);
      }
    }
    batch.count = kept;
    if (this.#replaced.count !== 0) this.#handle.consumeIngress(this.#replaced);
    if (this.#changed.count !== 0) this.#handle.injectIngress(this.#changed, 0);
    if (kept !== 0) this.#handle.sendIngress(batch, flags);
  }

  /** @returns the packet itself, one that it has become, or null when it is dropped */
  #decide(packet: Packet): Packet | null {
    const context = contextOf(packet);
    this.#result = null;
    packet.hold();
    this.#one.push(packet);
    this.#datapath.receive(this.#one, context.sourcePortId);
    const result = this.#result as Packet | null;
    this.#result = null;
    // One that it has become goes on by itself; the packet has the list's reference.
    if (result === packet) packet.release();
    return result;
  }

  /** Give a changed packet a context and the source of the one that it was. */
  #originate(changed: Packet, from: Packet): boolean {
    const { sourcePortId, sourceNicIndex } = contextOf(from);
    if (!this.#handle.allocateContext(changed)) return false;
    this.#handle.setSource(changed, sourcePortId, sourceNicIndex);
    if ((contextOf(changed).flags & ContextFlag.MALFORMED) !== 0) {
      this.#handle.freeContext(changed);
      return false;
    }
    this.#changed.push(changed);
    return true;
  }

  #drop(packet: Packet): void {
    const { slot } = this.#datapath;
    const record = slot === -1 ? this.#flows.onlyRecord : this.#flows.recordOf(slot);
    this.#dropped.push(packet);
    const { sourcePortId } = contextOf(packet);
    this.#handle.dropIngress(this.#dropped, sourcePortId, this.#reasonOf(record), true);
  }

  #reasonOf(record: KeptDecision | null): DropReasonCode {
    return this.decider.reasonOf(record?.drop?.reason ?? 'NOT_CARRIED_OUT');
  }

  #goUp(batch: Batch, flags: number): void {
    for (let i = 0; i < batch.count; i += 1) {
      const packet = batch.packets[i];
      const context = contextOf(packet);
      for (let index = 0; index < context.numDestinations; index += 1) {
        if (context.isExcluded(index)) continue;
        const reason = this.#judge(packet, context.destinationPorts[index]);
        if (reason !== null) this.#handle.excludeDestination(packet, index, reason);
      }
    }
    this.#handle.indicateEgress(batch, flags);
  }

  /** Why a packet may not leave through a port, or null. */
  #judge(packet: Packet, portId: number): DropReasonCode | null {
    const key = this.#key;
    key.begin(contextOf(packet).sourcePortId);
    key.words[Word.RECIRC_ID] = portId;
    if (extract(packet, key) !== Extraction.DONE) return null;
    this.#outputPort = portId;
    const { table } = this.#outputs;
    const found = table.lookup(key);
    const decided = found === -1 ? this.#outputs.decide(key, () => packet.frame()) : found;
    if (typeof decided === 'number') table.count(decided, packet.length, 0, this.#handle.host.nowMs());
    const record = typeof decided === 'number' ? this.#outputs.recordOf(decided) : this.#outputs.onlyRecord;
    return record?.drop == null ? null : this.#reasonOf(record);
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    const isUp = (context.flags & ContextFlag.EGRESS) !== 0;
    const lines: string[] = [];
    const excluded: { portId: number; reason: DropReasonCode }[] = [];
    const places = isUp
      ? Array.from(context.destinationPorts.subarray(0, context.numDestinations))
      : [context.sourcePortId];
    for (const portId of places) {
      const key = new FlowKey();
      key.begin(context.sourcePortId);
      if (isUp) key.words[Word.RECIRC_ID] = portId;
      if (extract(packet, key) !== Extraction.DONE) return { lines: ['its headers make no key'] };
      this.#outputPort = portId;
      const record = (isUp ? this.#outputs : this.#flows).trace(key.words, () => packet.frame());
      lines.push(...describeDecision(record));
      if (record.drop === null) continue;
      if (!isUp) return { lines, drop: this.#reasonOf(record) };
      excluded.push({ portId, reason: this.#reasonOf(record) });
    }
    return { lines, excluded };
  }

  status(): JsonValue {
    const { counters, table } = this.#flows;
    const { decider } = this.decider;
    const decidedBy = this.#handle.shortcuts.decidedBy();
    const own = decider.status === undefined ? {} : { state: decider.status() };
    // Its decisions are flows of the one that forwards.
    if (decidedBy !== null) return { decidedBy, ...own };
    return {
      decidedBy,
      flows: table.size + this.#outputs.table.size,
      masks: table.masks.length,
      ...counters,
      ...own,
    };
  }

  command(name: string, args: JsonValue): JsonValue {
    const { decider } = this.decider;
    if (decider.command === undefined) throw new TypeError(`${this.#handle.name} has no commands`);
    return decider.command(name, args);
  }
}
