/**
 * How a forwarding extension whose decisions are flows runs the switch's packets through a datapath of flow/: outputs become destinations. A packet that no action
 * changes goes on as it is, whatever the number of its outputs; changed copies, and what else the datapath sends, are originated here. Each packet counts once: what
 * became of it is told by the datapath in the order in which packets were taken.
 */
import { asPortNumber, nicIn, type PortNumber, portIn, portNumber } from '../../decide/index.ts';
import { type Datapath, Drop, dropName, dropText } from '../../flow/index.ts';
import { Batch, type Packet, type PortId } from '../../net/index.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import { RuleError } from '../errors.ts';
import type { ExtensionHandle } from '../extension.ts';
import { DEFAULT_PORT_ID } from '../oid/oid.ts';
import { ContextFlag, contextOf, type ForwardingContext, PacketFlag } from './context.ts';

/** What is forwarded through. */
export interface FlowForwarder {
  hasPort(portId: PortId): boolean;
  /** Take packets of a port that it has. Their references pass over. @param nicIndex of the NIC behind it that they came from */
  receive(batch: Batch, portId: PortId, nicIndex: number): void;
  /**
   * Optional: the datapath, when packets whose flow is known at once, and only sends them as they are, need not go through it. Its ports are numbered as those of decisions
   * (portNumber of decide/).
   */
  quick?(): Datapath;
  /** Why packets of ports that it does not have are dropped. */
  readonly unknownPort: DropReasonCode;
  /** The reason of the datapath's own drops, where the forwarder knows better; else one is made of the name. @param drop of Drop of flow/ */
  reasonOf?(drop: number): DropReasonCode | undefined;
  /** The port that the present packet was to leave by, when the datapath's own drop is because of that; else -1. */
  dropPort?(drop: number): PortId | -1;
  /** What is told of a drop of the datapath. @param text a sentence that says what it means */
  describe(text: string): string;
}

/** Packets that a flow has carried elsewhere, and what became of each. */
export interface CarriedPackets {
  /** Where they came in; -1 when that is not known. */
  readonly sourcePortId: PortId | -1;
  /** False for recirculated packets, which have come in before. */
  readonly isFirst: boolean;
  /** Ports that they were sent to; -1 for one that is not there. */
  readonly outputs: readonly (PortId | -1)[];
  /** They go on elsewhere, where their end is counted. */
  readonly isSentOn: boolean;
  /** Why they were dropped, when they were sent nowhere: a reason of flow/'s Drop; 0 when ports that they were sent to are not there. */
  readonly drop: number;
  /** The switch's reason for it, when that is known better than {@link FlowForwarding.reasonOf} does. */
  readonly reason?: DropReasonCode;
  /** The port that they were to leave by, when they were dropped because of that. */
  readonly dropPortId?: PortId;
}

/** Looks at packets once they have been forwarded or dropped; it may do nothing to them. They have their contexts still. */
export interface ForwardedPackets {
  saw(packet: Packet): void;
}

export class FlowForwarding {
  readonly #handle: ExtensionHandle;
  readonly #forwarder: FlowForwarder;
  readonly #reasons = new Map<number, DropReasonCode>();
  /** Packets of one source on their way into the datapath. */
  readonly #work = new Batch();
  /** Packets of ours, with destinations, that go down at the next flush. */
  readonly #originated = new Batch();
  readonly #dropped = new Batch();
  /** Packets of the present list that the datapath has taken, in their order, and why each went nowhere; NONE when it did not. */
  readonly #taken: Packet[] = [];
  readonly #fates: number[] = [];
  /** Why the present packet and its copies were dropped. Both are as {@link refusalOf} makes them. */
  readonly #refusals: number[] = [];
  /** Why the switch does not take an output, and the port, when it is because of that. */
  #verdict: number = DropReason.NONE;
  #verdictPort: PortId | -1 = -1;
  readonly #lookers: ForwardedPackets[] = [];
  #sourcePortId: PortId = DEFAULT_PORT_ID;
  #sourceNicIndex = 0;
  #nowMs = 0;

  constructor(handle: ExtensionHandle, forwarder: FlowForwarder) {
    this.#handle = handle;
    this.#forwarder = forwarder;
  }

  /** Told by the datapath: a packet or a copy of one was dropped. What it led to is told by {@link ended}. */
  dropped(reason: number): void {
    this.#refusals.push(
      this.#verdict === DropReason.NONE
        ? refusalOf(this.reasonOf(reason), this.#forwarder.dropPort?.(reason) ?? -1)
        : refusalOf(this.#verdict, this.#verdictPort),
    );
    this.#verdict = DropReason.NONE;
    this.#verdictPort = -1;
  }

  /** Told by the datapath. What it dropped but the packet itself were copies. */
  ended(reason: number, executedPortId?: PortId | -1): void {
    const refusals = this.#refusals;
    const isTaken = executedPortId === undefined;
    // What a program hands in came in before, and was counted then.
    const fate = reason !== 0 && isTaken ? (refusals.pop() ?? refusalOf(this.reasonOf(reason), -1)) : DropReason.NONE;
    if (isTaken) this.#fates.push(fate);
    const portId = executedPortId === undefined ? this.#sourcePortId : counted(executedPortId);
    for (const each of refusals) {
      const refusedPort = refusedPortIn(each);
      this.#handle.shortcuts.droppedCopies(refusedPort === -1 ? portId : refusedPort, reasonIn(each), 1);
    }
    refusals.length = 0;
  }

  /** Packets of a flow went another way: they are the switch's packets all the same. */
  carried(flow: CarriedPackets, packets: number, bytes: number): void {
    const { sourcePortId, isFirst, outputs, isSentOn, drop, reason, dropPortId } = flow;
    const { shortcuts } = this.#handle;
    const source = counted(sourcePortId);
    if (isFirst) shortcuts.arrived(source, packets, bytes);
    const reached = outputs.flatMap((portId) => (portId === -1 ? [] : [portId]));
    let missing = (outputs.length - reached.length) * packets;
    if (isSentOn) for (const portId of reached) shortcuts.carriedCopies(portId, packets, bytes);
    else if (reached.length > 0) shortcuts.delivered(reached, packets, bytes);
    else {
      shortcuts.dropped(dropPortId ?? source, reason ?? this.reasonOf(drop || Drop.PORT_MISSING), packets);
      if (missing > 0) missing -= packets;
    }
    if (missing > 0) shortcuts.droppedCopies(source, this.reasonOf(Drop.PORT_MISSING), missing);
  }

  /**
   * A packet that came in and was carried elsewhere goes on in the datapath: what is made of it is originated, and comes from its port.
   * @param portId where it came in; -1 when that is not known
   * @param run has the datapath go on with it; what it leads to is told by {@link ended}, as of a packet that is executed
   */
  resume(portId: PortId | -1, run: () => void): void {
    this.#handle.shortcuts.takenUp(1);
    this.#sourcePortId = counted(portId);
    this.#sourceNicIndex = 0;
    try {
      run();
    } finally {
      this.#sourcePortId = DEFAULT_PORT_ID;
    }
  }

  /** Told by the datapath: a packet goes on elsewhere. It ends there, and is told of by {@link carried} as others that end there: it is none that ended here. */
  handedDown(): void {
    this.#handle.shortcuts.takenUp(-1);
  }

  /** Forward packets on their way down: an extension's onIngress. @param nowMs of the host's clock */
  onIngress(batch: Batch, flags: number, nowMs = this.#handle.host.nowMs()): void {
    const { packets, count } = batch;
    this.#nowMs = nowMs;
    let allQuick = true;
    let i = 0;
    while (i < count) {
      const first = contextOf(packets[i]);
      let end = i + 1;
      if ((flags & PacketFlag.SINGLE_SOURCE) !== 0) end = count;
      else while (end < count && sameSource(contextOf(packets[end]), first)) end += 1;
      if (!this.#take(packets, i, end, first)) allQuick = false;
      i = end;
    }
    if (allQuick) this.#handle.sendIngress(batch, flags & PacketFlag.SINGLE_SOURCE);
    else this.#settle(batch, flags);
  }

  /** Let somebody look at packets. @returns call to stop */
  showTo(looker: ForwardedPackets): () => void {
    this.#lookers.push(looker);
    return () => {
      const at = this.#lookers.indexOf(looker);
      if (at !== -1) this.#lookers.splice(at, 1);
    };
  }

  #show(packet: Packet): void {
    for (const looker of this.#lookers) looker.saw(packet);
  }

  /** Run packets of one source through the datapath. @returns whether all have their destinations, and none had to */
  #take(packets: readonly Packet[], from: number, end: number, source: ForwardingContext): boolean {
    if (!this.#forwarder.hasPort(source.sourcePortId)) return false;
    this.#sourcePortId = source.sourcePortId;
    this.#sourceNicIndex = source.sourceNicIndex;
    const work = this.#work;
    const quick = this.#forwarder.quick?.();
    const number = portNumber(source.sourcePortId, source.sourceNicIndex);
    let quickly = 0;
    for (let i = from; i < end; i += 1) {
      const packet = packets[i];
      const { verdict, flags, connection } = contextOf(packet);
      if (verdict !== DropReason.NONE || (flags & ContextFlag.NATIVE_FORWARDING) !== 0) continue;
      // Of a packet whose connection is known the bytes do not tell the flow.
      if (quick !== undefined && connection === 0 && this.#sendQuickly(packet, number, quick)) {
        quickly += 1;
        continue;
      }
      // The switch's reference stays with the list, so that whatever changes the packet changes a copy.
      packet.hold();
      work.push(packet);
      this.#taken.push(packet);
    }
    try {
      if (work.count !== 0) this.#forwarder.receive(work, source.sourcePortId, source.sourceNicIndex);
    } finally {
      this.#sourcePortId = DEFAULT_PORT_ID;
      this.#sourceNicIndex = 0;
    }
    if (quickly !== 0) quick?.took(quickly);
    if (this.#lookers.length !== 0) for (let i = from; i < end; i += 1) this.#show(packets[i]);
    return quickly === end - from;
  }

  /** Give a packet its destinations without the datapath, if that is all that there is to do. */
  #sendQuickly(packet: Packet, number: PortNumber, quick: Datapath): boolean {
    const outputs = quick.glance(packet, number);
    if (outputs === 0) return false;
    const handle = this.#handle;
    if (outputs !== 1) {
      const { policies } = handle;
      for (let i = 1; i < outputs; i += 1)
        if (policies.egressVerdict(packet, portIn(asPortNumber(quick.outputAt(i)))) !== DropReason.NONE) return false;
    }
    for (let i = 0; i < outputs; i += 1) {
      const output = asPortNumber(quick.outputAt(i));
      // The others are let out, so that it is the first of all when it is not.
      if (handle.addAllowedDestination(packet, portIn(output), nicIn(output)) !== DropReason.NONE) return false;
    }
    quick.take(packet, this.#nowMs);
    return true;
  }

  /** Pass on what has destinations, and end the rest: dropped, or sent up, or sent as changed copies. */
  #settle(batch: Batch, flags: number): void {
    const { packets, count } = batch;
    const rest = this.#work;
    let kept = 0;
    let next = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      const context = contextOf(packet);
      let fate: number = DropReason.NONE;
      if (this.#taken[next] === packet) {
        fate = this.#fates[next] ?? DropReason.NONE;
        next += 1;
      }
      const isNative = (context.flags & ContextFlag.NATIVE_FORWARDING) !== 0 && context.verdict === DropReason.NONE;
      if (context.numDestinations !== 0 || isNative) {
        packets[kept] = packet;
        kept += 1;
      } else if (context.verdict !== DropReason.NONE) this.#drop(packet, context, context.verdict);
      else if (!this.#forwarder.hasPort(context.sourcePortId)) this.#drop(packet, context, this.#forwarder.unknownPort);
      else if (fate !== DropReason.NONE) this.#drop(packet, context, reasonIn(fate), refusedPortIn(fate));
      else rest.push(packet);
    }
    this.#taken.length = 0;
    this.#fates.length = 0;
    batch.count = kept;
    if (rest.count !== 0) this.#handle.consumeIngress(rest);
    if (kept !== 0) this.#handle.sendIngress(batch, flags & PacketFlag.SINGLE_SOURCE);
  }

  /** @param portId where it was to leave, when it is dropped because of that; else -1 */
  #drop(packet: Packet, context: ForwardingContext, reason: number, portId = -1): void {
    this.#dropped.push(packet);
    const isSource = portId === -1;
    this.#handle.dropIngress(this.#dropped, isSource ? context.sourcePortId : portId, reason, isSource);
  }

  /** The switch's number for a reason of the datapath. */
  reasonOf(drop: number): DropReasonCode {
    const known = this.#forwarder.reasonOf?.(drop);
    if (known !== undefined) return known;
    let reason = this.#reasons.get(drop);
    if (reason === undefined) {
      const name = dropName(drop).toUpperCase().replaceAll('-', '_');
      reason = this.#handle.registerDropReason(name, this.#forwarder.describe(dropText(drop)));
      this.#reasons.set(drop, reason);
    }
    return reason;
  }

  /**
   * Told by the datapath: send a packet.
   * @param nicIndex of the NIC behind the port, where it has several
   * @returns false when it cannot go there: the datapath then counts it as refused
   */
  forward(packet: Packet, portId: PortId, nicIndex = 0): boolean {
    if (packet.attachment === null && !this.#originate(packet)) return false;
    const verdict = this.#handle.addAllowedDestination(packet, portId, nicIndex);
    if (verdict === DropReason.NONE) return true;
    this.#verdict = verdict;
    // What is not there has no counters.
    this.#verdictPort = verdict === DropReason.NIC_NOT_CONNECTED ? -1 : portId;
    return false;
  }

  /** Give a packet of ours a context, and the source of what is being received. */
  #originate(packet: Packet): boolean {
    const handle = this.#handle;
    if (!handle.allocateContext(packet)) {
      this.#verdict = DropReason.NO_CONTEXT;
      return false;
    }
    if (this.#sourcePortId !== DEFAULT_PORT_ID) handle.setSource(packet, this.#sourcePortId, this.#sourceNicIndex);
    const { flags, verdict: malformed } = contextOf(packet);
    if ((flags & ContextFlag.MALFORMED) !== 0) {
      handle.freeContext(packet);
      this.#verdict = malformed;
      return false;
    }
    packet.hold();
    this.#originated.push(packet);
    return true;
  }

  /** Send what was originated. */
  flush(): void {
    const batch = this.#originated;
    const { packets, count } = batch;
    if (count === 0) return;
    let kept = 0;
    for (let i = 0; i < count; i += 1) {
      const packet = packets[i];
      if (contextOf(packet).numDestinations !== 0) {
        packets[kept] = packet;
        kept += 1;
      } else {
        this.#handle.freeContext(packet);
        packet.release();
      }
    }
    batch.count = kept;
    if (kept === 0) return;
    try {
      this.#handle.injectIngress(batch, PacketFlag.NONE);
    } catch (error) {
      // Between pause and restart nothing can be sent.
      if (!(error instanceof RuleError)) throw error;
      this.#abandon(batch);
    }
  }

  #abandon(batch: Batch): void {
    for (let i = 0; i < batch.count; i += 1) {
      const packet = batch.packets[i];
      const { sourcePortId } = contextOf(packet);
      this.#handle.shortcuts.droppedCopies(sourcePortId, DropReason.STACK_PAUSED, 1);
      this.#handle.freeContext(packet);
      packet.release();
    }
    batch.count = 0;
  }
}

/** The port that has the counts of packets, also of those whose port is gone. */
function counted(portId: PortId | -1): PortId {
  return portId === -1 ? DEFAULT_PORT_ID : portId;
}

/** A reason with the port that a packet was to leave by, or -1, in one number: reasons are less than 256. */
function refusalOf(reason: number, portId: PortId | -1): number {
  return ((portId + 1) << 8) | reason;
}

function reasonIn(refusal: number): number {
  return refusal & 0xff;
}

function refusedPortIn(refusal: number): PortId | -1 {
  return ((refusal >>> 8) - 1) as PortId | -1;
}

function sameSource(a: ForwardingContext, b: ForwardingContext): boolean {
  return a.sourcePortId === b.sourcePortId && a.sourceNicIndex === b.sourceNicIndex;
}
