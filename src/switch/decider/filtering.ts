/**
 * A filtering decider that stands in the stack by itself, because who forwards does not decide it along: packets come through its handlers, and what it
 * decided about them before is found in flows of its own.
 */
import {
  DecidedFlows,
  type KeptDecision,
  ObservedPorts,
  type PlacedDecider,
  type PortNumber,
  portNumber,
} from '../../decide/index.ts';
import { Datapath, Drop, dropName, Extraction, extract, FlowKey, RecentFlows, Word } from '../../flow/index.ts';
import { Batch, ClonePool, type Packet, PacketPool, type PortId, toPortId } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import type { Explanation, ExtensionHandle } from '../extension.ts';
import { DEFAULT_PORT_ID } from '../oid/oid.ts';
import { ContextFlag, contextOf, type ForwardingContext } from '../path/context.ts';
import type { DeciderExtension, DeciderHandle } from './define.ts';
import { describeDecision } from './explain.ts';
import { DeciderAdapter, type StackedDecider } from './placed.ts';
import { connectionOf } from './stacked-flows.ts';
import { Turns } from './turns.ts';

const BUFFERS = { packets: 256, bufferBytes: 2304, largePackets: 16, largeBufferBytes: 66_048, clones: 64 };

/** The only port there is for what a filter lets pass. */
const ON = toPortId(1);

/** Stands where the forwarding extension does: whatever comes so far goes on. */
const PASSES: PlacedDecider = {
  name: '',
  type: 'forwarding',
  decider: { decide: (_, decision) => decision.output(ON) },
};

/** What becomes of one list of packets. Ending packets may bring others here, so that one is not enough. */
class Work {
  /** By packet of the list: what it has become, null when it went nowhere, and why. */
  readonly results: (Packet | null)[] = [];
  readonly reasons: DropReasonCode[] = [];
  /** Packets of one source on their way through the datapath, and their places in the list. */
  readonly packets = new Batch();
  readonly places: number[] = [];
  /** Of these the packets that are through. */
  count = 0;
  /** What the present packet has become so far. */
  result: Packet | null = null;
  /** Packets that are dropped for one reason, and that. */
  readonly dropped = new Batch();
  droppedFor: DropReasonCode = DropReason.NONE;
  readonly changed = new Batch();
  readonly replaced = new Batch();
}

export class FilteringDecider extends DeciderAdapter {
  readonly decider: StackedDecider = this;
  readonly onEgress?: (batch: Batch, flags: number) => void;
  readonly #flows: DecidedFlows;
  readonly #outputs: DecidedFlows;
  readonly #recentOutputs: RecentFlows;
  readonly #datapath: Datapath;
  readonly #key = new FlowKey();
  readonly #spare: Work[] = [];
  #work = new Work();
  #outputPort: PortId = DEFAULT_PORT_ID;
  readonly #turns: Turns;

  constructor(handle: ExtensionHandle, make: (handle: DeciderHandle) => DeciderExtension) {
    super(handle, 'filtering', make);
    const { own, placed } = this;
    const ports = new ObservedPorts();
    ports.set(ON, 'on');
    const nowMs = () => handle.host.nowMs();
    const down: PlacedDecider = {
      ...placed,
      decider: { decide: (packet, decision) => own.decide?.(packet, decision) },
    };
    this.#flows = new DecidedFlows({ ports, deciders: () => [down, PASSES], nowMs });
    // What is decided about the way out is of one port each: it stands where recirculated packets have their number, which every decision looks at.
    const up: PlacedDecider = {
      ...placed,
      decider: { decide: (packet, decision) => own.decideOutput?.(packet, this.#outputPort, decision) },
    };
    this.#outputs = new DecidedFlows({ ports, deciders: () => [up, PASSES], nowMs });
    this.#recentOutputs = new RecentFlows(this.#outputs.table, false);
    if (own.decideOutput !== undefined) this.onEgress = (batch, flags) => this.#goUp(batch, flags);
    this.#turns = new Turns(handle, () => {
      this.#flows.advance();
      this.#outputs.advance();
    });
    this.#datapath = new Datapath({
      table: this.#flows.table,
      countsTcpFlags: false,
      nowMs,
      pool: new PacketPool({ packets: BUFFERS.packets, bufferBytes: BUFFERS.bufferBytes }),
      largePool: new PacketPool({ packets: BUFFERS.largePackets, bufferBytes: BUFFERS.largeBufferBytes }),
      clones: new ClonePool(BUFFERS.clones),
      hooks: {
        outputIgnoresKey: true,
        connectionOf,
        output: (packet) => {
          this.#work.result = packet;
          // The list has a reference of its own to the packet itself.
          if (packet.attachment === null) packet.hold();
        },
        decide: (packet, key) => this.#flows.decide(key, () => packet.frame()),
        ended: (reason) => this.#ended(reason),
      },
    });
  }

  restart(): void {
    this.learnPorts();
    this.#turns.start();
  }

  detach(): void {
    this.#turns.stop();
    this.#flows.flush();
    this.#outputs.flush();
    this.own.detach?.();
  }

  protected override settleOwn(): void {
    this.#flows.settle();
    this.#outputs.settle();
  }

  /** Whether it has anything to say, for now. */
  #mayDecide(isOutput: boolean): boolean {
    const { own } = this;
    const says = isOutput ? own.decideOutput : own.decide;
    return says !== undefined && own.mayDecide?.(isOutput) !== false;
  }

  onIngress(batch: Batch, flags: number): void {
    if (this.#mayDecide(false)) this.#goDown(batch);
    if (batch.count !== 0) this.handle.sendIngress(batch, flags);
  }

  #goDown(batch: Batch): void {
    const { packets, count } = batch;
    const before = this.#work;
    const work = this.#spare.pop() ?? new Work();
    this.#work = work;
    const nowMs = this.handle.host.nowMs();
    for (let i = 0; i < count; ) {
      const number = sourceOf(contextOf(packets[i]));
      work.count = 0;
      for (; i < count && sourceOf(contextOf(packets[i])) === number; i += 1) this.#enter(packets[i], i, number, nowMs);
      if (work.packets.count !== 0) this.#datapath.receive(work.packets, number);
    }
    this.#work = before;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      const result = work.results[i];
      if (result === packet) {
        packets[kept] = packet;
        kept += 1;
      } else if (result === null) this.#drop(packet, work.reasons[i], work);
      else if (this.#originate(result, packet, work)) work.replaced.push(packet);
      else {
        result.release();
        this.#drop(packet, this.reasonOf('NOT_CARRIED_OUT'), work);
      }
    }
    batch.count = kept;
    if (work.dropped.count !== 0) this.#finishDrops(work);
    if (work.replaced.count !== 0) this.handle.consumeIngress(work.replaced);
    if (work.changed.count !== 0) this.handle.injectIngress(work.changed, 0);
    work.results.fill(null, 0, count);
    this.#spare.push(work);
  }

  /** A packet passes as it is, or goes through the datapath. @param place in its list; @param number where it came from */
  #enter(packet: Packet, place: number, number: PortNumber, nowMs: number): void {
    const work = this.#work;
    if (contextOf(packet).connection === 0 && this.#datapath.glance(packet, number) === 1) {
      this.#datapath.take(packet, nowMs);
      this.#datapath.took(1);
      work.results[place] = packet;
      return;
    }
    packet.hold();
    work.places[work.packets.count] = place;
    work.packets.push(packet);
  }

  /** Told by the datapath: the next packet is through. */
  #ended(reason: number): void {
    const work = this.#work;
    const place = work.places[work.count];
    work.count += 1;
    work.results[place] = work.result;
    if (work.result === null) work.reasons[place] = this.#reasonOfEnd(reason);
    work.result = null;
  }

  /** Why the datapath dropped the present packet. */
  #reasonOfEnd(reason: number): DropReasonCode {
    if (reason !== Drop.FLOW) return this.reasonOf(dropName(reason).toUpperCase().replaceAll('-', '_'));
    const { slot } = this.#datapath;
    return this.#reasonIn(slot === -1 ? this.#flows.onlyRecord : this.#flows.recordOf(slot));
  }

  /** Give a changed packet a context and the source of the one that it was. */
  #originate(changed: Packet, from: Packet, work: Work): boolean {
    const { sourcePortId, sourceNicIndex } = contextOf(from);
    if (!this.handle.allocateContext(changed)) return false;
    this.handle.setSource(changed, sourcePortId, sourceNicIndex);
    if ((contextOf(changed).flags & ContextFlag.MALFORMED) !== 0) {
      this.handle.freeContext(changed);
      return false;
    }
    work.changed.push(changed);
    return true;
  }

  /** Drops of one port for one reason are told in one call. */
  #drop(packet: Packet, reason: DropReasonCode, work: Work): void {
    const { dropped } = work;
    if (dropped.count !== 0) {
      const [first] = dropped.packets;
      const isSame = work.droppedFor === reason && contextOf(first).sourcePortId === contextOf(packet).sourcePortId;
      if (!isSame) this.#finishDrops(work);
    }
    work.droppedFor = reason;
    dropped.push(packet);
  }

  #finishDrops({ dropped, droppedFor }: Work): void {
    this.handle.dropIngress(dropped, contextOf(dropped.packets[0]).sourcePortId, droppedFor, true);
  }

  #reasonIn(record: Pick<KeptDecision, 'drop'> | null): DropReasonCode {
    return this.reasonOf(record?.drop?.reason ?? 'NOT_CARRIED_OUT');
  }

  #goUp(batch: Batch, flags: number): void {
    if (this.#mayDecide(true)) {
      const nowMs = this.handle.host.nowMs();
      for (let i = 0; i < batch.count; i += 1) this.#judge(batch.packets[i], nowMs);
    }
    this.handle.indicateEgress(batch, flags);
  }

  /** Exclude the ports that a packet may not leave through. */
  #judge(packet: Packet, nowMs: number): void {
    const context = contextOf(packet);
    for (let index = 0; index < context.numDestinations; index += 1) {
      if (context.isExcluded(index)) continue;
      const record = this.#recordOfOutput(packet, sourceOf(context), context.destinationPort(index), nowMs);
      if (record?.drop == null) continue;
      this.handle.excludeDestination(packet, index, this.#reasonIn(record));
    }
  }

  /** What is decided about a packet that is to leave through a port. */
  #recordOfOutput(packet: Packet, source: PortNumber, portId: PortId, nowMs: number): KeptDecision | null {
    const { table } = this.#outputs;
    // Those that came lately are known by their bytes, which do not tell of connections.
    const isPlain = contextOf(packet).connection === 0;
    let decided: number | Int32Array = isPlain ? this.#recentOutputs.find(packet, source, portId) : -1;
    if (decided === -1) decided = this.#lookUpOutput(packet, source, portId, isPlain);
    if (typeof decided !== 'number') return this.#outputs.onlyRecord;
    if (decided === -1) return null;
    table.count(decided, packet.length, 0, nowMs);
    return this.#outputs.recordOf(decided);
  }

  /** @returns the slot of its flow; -1 for one whose headers make no key; or what is decided about it alone */
  #lookUpOutput(packet: Packet, source: PortNumber, portId: PortId, isPlain: boolean): number | Int32Array {
    const key = this.#key;
    key.begin(source);
    key.words[Word.RECIRC_ID] = portId;
    key.words[Word.CT] = connectionOf(packet);
    if (extract(packet, key) !== Extraction.DONE) return -1;
    const found = this.#outputs.table.lookup(key);
    if (found !== -1) {
      if (isPlain) this.#recentOutputs.remember(found);
      return found;
    }
    this.#outputPort = portId;
    return this.#outputs.decide(key, () => packet.frame());
  }

  explain(packet: Packet, context: ForwardingContext): Explanation {
    const isUp = (context.flags & ContextFlag.EGRESS) !== 0;
    const lines: string[] = [];
    const excluded: { portId: PortId; reason: DropReasonCode }[] = [];
    const places = isUp
      ? Array.from({ length: context.numDestinations }, (_, index) => context.destinationPort(index))
      : [context.sourcePortId];
    for (const portId of places) {
      const key = new FlowKey();
      key.begin(sourceOf(context));
      key.words[Word.CT] = context.connection;
      if (isUp) key.words[Word.RECIRC_ID] = portId;
      if (extract(packet, key) !== Extraction.DONE) return { lines: ['its headers make no key'] };
      this.#outputPort = portId;
      const record = (isUp ? this.#outputs : this.#flows).trace(key.words, () => packet.frame());
      lines.push(...describeDecision(record));
      if (record.drop === null) continue;
      if (!isUp) return { lines, drop: this.#reasonIn(record) };
      excluded.push({ portId, reason: this.#reasonIn(record) });
    }
    return { lines, excluded };
  }

  protected override flowStatus(): Record<string, JsonValue> {
    const decidedBy = this.handle.shortcuts.decidedBy();
    // Its decisions are flows of the one that forwards.
    if (decidedBy !== null) return { decidedBy };
    const { counters, table } = this.#flows;
    return { decidedBy, flows: table.size + this.#outputs.table.size, masks: table.masks.length, ...counters };
  }
}

/** Where a packet came from, as keys have it. */
function sourceOf({ sourcePortId, sourceNicIndex }: ForwardingContext): PortNumber {
  return portNumber(sourcePortId, sourceNicIndex);
}
