/**
 * What a decider says about a packet. Everything is carried out in the order in which it is said: an output sends the packet as it has been changed
 * until then. Neighbours: rewrites.ts has the fields that can be set, pass.ts hands decisions to deciders and makes a record of them.
 */
import { ActionBuilder, CtFlag, TAG_PRESENT, Word } from '../flow/index.ts';
import { EtherType, type KeyPort, type PortId, TagAction } from '../net/index.ts';
import { SWITCH_ZONE, TRACKED_RECIRCULATION } from './connection.ts';
import { FlowCounter } from './counter.ts';
import { DecisionError, mustBeFunction, mustBeText, shown } from './errors.ts';
import { followActions } from './follow.ts';
import { WaitingOutputs } from './outputs.ts';
import type { PacketState } from './packet-state.ts';
import { tagValue } from './packet-view.ts';
import { isNicIndex, isPortId, MOST_NIC_INDEX, MOST_PORT_ID, portIn, portNumber } from './port-number.ts';
import type { DecidedDrop, DecisionRecord } from './record.ts';
import { ArpRewrite, EthernetRewrite, IpRewrite, PendingSets, PortsRewrite, VlanRewrite } from './rewrites.ts';
import { withoutReading } from './state/observed.ts';
import type { ObservedPorts } from './state/ports.ts';

/** Most outputs, rewrites and the like of one decision. */
const MOST_STEPS = 4096;

/** Why nothing is sent to a port that is not there. */
const MISSING = 'PORT_MISSING';

/** A tag to push. */
export interface NewTag {
  /** 0 to 4095. */
  readonly id: number;
  /** 802.1p, 0 to 7; 0 when left out. */
  readonly priority?: number;
  /** 0x8100 when left out, or 0x88a8. */
  readonly tpid?: number;
}

/** Whether a packet may leave through a port; called while it is as it would leave. @returns why not, or null */
export type OutputJudge = (portId: PortId) => DecidedDrop | null;

/** How the outermost tag of a packet changes while it leaves by a port; called likewise. @returns a TagAction of net/ */
export type OutputTag = (portId: PortId) => number;

/** A flow of somebody else that a decision does as it is. */
export interface FollowedFlow {
  /** What the flow looks at, in the shape of a flow key. */
  readonly mask: Uint32Array;
  readonly actions: Int32Array;
  /** Why its packets go nowhere, as in {@link Decision.drop}; null when they do not. */
  readonly drop: string | null;
  /** The switch's port for a number in the actions; -1 for none that frames can simply be sent to. */
  portIdOf(number: KeyPort): PortId | -1;
}

/** Check the reason of a drop and what is said of it once and for all. @throws DecisionError @param by whose they are */
export function checkDropText(by: string, reason: unknown, text: unknown): void {
  checkDrop(by, reason, undefined);
  mustBeText(text, `${by}: what ${shown(reason)} means`);
}

/** Check the reason of a drop and its sentence. @throws DecisionError @param by whose they are */
export function checkDrop(by: string, reason: unknown, why: unknown): void {
  if (typeof reason !== 'string' || !/^[A-Z0-9_]{1,64}$/.test(reason))
    throw new DecisionError(`${by}: ${shown(reason)} is no name of a reason: capitals, digits and _`);
  if (why !== undefined) mustBeFunction(why, `${by}: the sentence of a drop`);
}

/** What one pass has come to so far. Internal to the room. */
export interface DecisionSoFar {
  readonly actions: Int32Array;
  readonly drop: DecidedDrop | null;
  readonly excluded: DecisionRecord['excluded'];
  readonly counters: readonly FlowCounter[];
  readonly endsInMs: number;
  readonly everyPacket: string | null;
  readonly notes: readonly { readonly by: string; readonly text: () => string }[];
  readonly tracks: boolean;
}

export class Decision {
  readonly #state: PacketState;
  readonly #ports: ObservedPorts;
  readonly #sets: PendingSets;
  readonly #ethernet: EthernetRewrite;
  readonly #ipv4: IpRewrite;
  readonly #ipv6: IpRewrite;
  readonly #arp: ArpRewrite;
  readonly #transport: PortsRewrite;
  readonly #vlan: VlanRewrite;
  #builder = new ActionBuilder();
  readonly #waiting = new WaitingOutputs();
  #judge: OutputJudge | null = null;
  #tag: OutputTag | null = null;
  /** The extension whose turn it is, and whether it may forward. */
  #by = '';
  #mayForward = false;
  #steps = 0;
  #outputs = 0;
  #excluded: { readonly portId: PortId; readonly drop: DecidedDrop }[] = [];
  #drop: DecidedDrop | null = null;
  #counters: FlowCounter[] = [];
  #endsInMs = Number.POSITIVE_INFINITY;
  #everyPacket: string | null = null;
  #mayAct = false;
  /** Nothing can be said about the packet any more. */
  #isMade = true;
  #mayTrack = false;
  /** Somebody asks for the connection, which is not known: it is tracked, and then all is decided anew. */
  #tracks = false;
  /** Internal: whether something was done because the packet came. */
  hasActed = false;
  /** Internal: where such packets went before a restart, when that is why it is decided about them again. */
  ranTo: readonly PortId[] | null = null;
  #notes: { by: string; text: () => string }[] = [];

  /** Internal: passes make it. */
  constructor(state: PacketState, ports: ObservedPorts) {
    this.#state = state;
    this.#ports = ports;
    this.#sets = new PendingSets(state);
    this.#ethernet = new EthernetRewrite(state, this.#sets);
    this.#ipv4 = new IpRewrite(state, this.#sets, 'ipv4');
    this.#ipv6 = new IpRewrite(state, this.#sets, 'ipv6');
    this.#arp = new ArpRewrite(state, this.#sets);
    this.#transport = new PortsRewrite(state, this.#sets);
    this.#vlan = new VlanRewrite(state, this.#sets);
    state.onBeyondFlows = (reason) => this.everyPacket(reason);
    state.onUntracked = () => {
      if (!this.#mayTrack || this.#drop !== null) return;
      this.#tracks = true;
      state.marks.settle();
    };
  }

  /** Internal: begin anew. */
  begin(judge: OutputJudge | null, tag: OutputTag | null, mayAct: boolean, mayTrack: boolean): void {
    this.#builder = new ActionBuilder();
    this.#sets.clear();
    this.#waiting.clear();
    this.#judge = judge;
    this.#tag = tag;
    this.#steps = 0;
    this.#outputs = 0;
    this.#excluded = [];
    this.#drop = null;
    this.#counters = [];
    this.#endsInMs = Number.POSITIVE_INFINITY;
    this.#everyPacket = null;
    this.#mayAct = mayAct;
    this.#isMade = false;
    this.#mayTrack = mayTrack;
    this.#tracks = false;
    this.hasActed = false;
    this.#notes = [];
  }

  /** Internal: whose turn it is. */
  turn(by: string, mayForward: boolean): void {
    this.#by = by;
    this.#mayForward = mayForward;
    this.#state.marks.by = by;
  }

  /** Internal: nothing is said about the packet any more, whoever kept this object. */
  close(): void {
    this.#isMade = true;
  }

  /** Internal: what all have said; nothing is said afterwards. */
  soFar(): DecisionSoFar {
    if (this.#tracks) return this.#tracking();
    const isSent = this.#outputs > 0 && this.#drop === null;
    if (isSent) this.#waiting.flush(this.#builder, true);
    const excluded = this.#drop === null ? this.#excluded : [];
    const last = isSent || excluded.length === 0 ? undefined : this.#standsForPacket(excluded);
    return {
      actions: isSent ? this.#builder.finish() : new Int32Array(0),
      drop: this.#drop ?? last?.drop ?? null,
      excluded,
      counters: this.#counters,
      endsInMs: this.#endsInMs,
      everyPacket: this.#everyPacket,
      notes: this.#notes,
      tracks: false,
    };
  }

  /** The packet is tracked, and looked up again as one whose connection is known: what was said so far was said without knowing it. */
  #tracking(): DecisionSoFar {
    const actions = new ActionBuilder()
      .ct({ flags: CtFlag.ZONE, zone: SWITCH_ZONE })
      .recirc(TRACKED_RECIRCULATION)
      .finish();
    const everyPacket = this.#everyPacket;
    const endsInMs = this.#endsInMs;
    return { actions, drop: null, excluded: [], counters: [], endsInMs, everyPacket, notes: [], tracks: true };
  }

  /** Take out the copy that stands for a packet of which none leaves: one that has a port, if any has. */
  #standsForPacket(excluded: { readonly portId: PortId; readonly drop: DecidedDrop }[]): { drop: DecidedDrop } {
    // Whose time is up ends before the port that refuses it is asked.
    if (this.#state.isTimeUp()) this.everyPacket('its time to live runs out');
    const present = excluded.findLastIndex(({ drop }) => drop.reason !== MISSING);
    return excluded.splice(present, 1)[0];
  }

  /** Whether it has been dropped: nothing that is said afterwards counts. */
  get isDropped(): boolean {
    return this.#drop !== null;
  }

  /** Internal: whether nobody need be asked any more. */
  get isOver(): boolean {
    return this.#drop !== null || this.#tracks;
  }

  /**
   * Send the packet, as it is now, through a port. Without such a port it is not sent there.
   * @param port its number, as of {@link ObservedPorts.named} or `packet.inPort`
   * @param nic index of the NIC behind it, as `packet.inNic`, where a port has several; while that one is not connected, whichever is
   * @throws DecisionError in an extension that does not forward; for what can be no port or NIC
   */
  output(port: number, nic = 0): void {
    this.#mustForward('output');
    if (!isPortId(port)) throw this.#error(`output to ${shown(port)}: a port is a number from 0 to ${MOST_PORT_ID}`);
    if (!isNicIndex(nic)) throw this.#error(`output to NIC ${shown(nic)}: an index is 0 to ${MOST_NIC_INDEX}`);
    // Where there is no such port nothing is sent, and what is told of it goes by that number.
    this.#send(port as PortId, nic, this.#ports.has(port));
  }

  /**
   * Send the packet, as it is now, through all ports but the one that it came in by.
   * @param isMeant says of which of them; left out, of all
   * @returns of how many
   */
  flood(isMeant?: (port: PortId) => boolean): number {
    this.#mustForward('flood');
    if (isMeant !== undefined) mustBeFunction(isMeant, `${this.#by}: what chooses the ports of a flood`);
    const inPort = portIn(this.#state.lookAtPort());
    let meant = 0;
    for (const portId of this.#ports.others(inPort)) {
      if (isMeant?.(portId) === false) continue;
      meant += 1;
      this.#send(portId, 0, true);
    }
    return meant;
  }

  #error(text: string): DecisionError {
    return new DecisionError(`${this.#by}: ${text}`);
  }

  /** @throws DecisionError when the decision is made already */
  #mustBeOpen(): void {
    if (this.#isMade) throw this.#error('it said something about a packet after the decision was made');
  }

  #mustForward(what: string): void {
    this.#mustBeOpen();
    if (!this.#mayForward) throw new DecisionError(`${this.#by} filters: it cannot ${what}`);
  }

  #send(portId: PortId, nic: number, isThere: boolean): void {
    if (this.#drop !== null) return;
    this.#step();
    const refusal = isThere ? (this.#judge?.(portId) ?? null) : { by: this.#by, reason: MISSING };
    if (refusal !== null) {
      this.#excluded.push({ portId, drop: { ...refusal, portId } });
      return;
    }
    const tag = this.#tag?.(portId) ?? TagAction.KEEP;
    if (this.#sets.isWaiting) this.#writeChanges();
    this.#waiting.add(portNumber(portId, nic), tag);
    this.#outputs += 1;
  }

  /** Write what was sent, then what was set: something else is done to the packet next. */
  #writeChanges(): void {
    this.#waiting.flush(this.#builder, false);
    this.#sets.flush(this.#builder);
  }

  /**
   * Internal: do to the packet what a flow does, and look at what it looks at. Each of its outputs is judged like one of {@link output}. What a flow does that can
   * be done in the engine alone makes the decision one for this packet.
   */
  follow({ mask, actions, drop, portIdOf }: FollowedFlow): void {
    this.#mustForward('follow a flow');
    this.#state.marks.note('the flow that it falls to', 1, 1);
    for (let word = 0; word < mask.length; word += 1)
      if (word !== Word.IN_PORT) this.#state.marks.add(word, mask[word]);
    if (drop !== null) {
      this.drop(drop);
      return;
    }
    const unfollowed = followActions(actions, this.#state, {
      output: (number) => {
        const portId = portIdOf(number);
        if (portId === -1 || !this.#ports.has(portId)) return false;
        this.#send(portId, 0, true);
        return true;
      },
      copy: (words) => {
        this.#step();
        this.#writeChanges();
        this.#builder.append(words);
      },
    });
    if (unfollowed !== null) this.everyPacket(unfollowed);
  }

  /**
   * Drop the packet: whatever was said before, it goes nowhere.
   * @param reason in capitals, such as `DENIED`: counted under the extension's name
   * @param why a sentence for people, made only when somebody asks
   */
  drop(reason: string, why?: () => string): void {
    this.#mustBeOpen();
    checkDrop(this.#by, reason, why);
    this.#drop ??= { by: this.#by, reason };
    if (why !== undefined) this.note(why);
  }

  /** Let each packet of this decision count into a counter of `handle.counter`. */
  count(counter: FlowCounter): void {
    this.#checkCounter(counter);
    this.#step();
    if (!this.#counters.includes(counter)) this.#counters.push(counter);
  }

  /** Internal: a packet that was changed so far is decided about by itself. */
  mustBeAsItCame(reason: string): void {
    if (this.#drop === null && this.#state.isChanged) this.everyPacket(reason);
  }

  #checkCounter(counter: unknown): void {
    if (counter instanceof FlowCounter) return;
    throw this.#error(`it counts into ${shown(counter)}: a counter is one of handle.counter`);
  }

  /** Internal: as {@link count}, for each copy of a packet. */
  countCopy(counter: FlowCounter): void {
    this.#checkCounter(counter);
    this.#step();
    this.#counters.push(counter);
  }

  /** Say something to people who trace a packet. The sentence is made only when somebody asks. */
  note(text: () => string): void {
    mustBeFunction(text, `${this.#by}: what is noted`);
    this.#step();
    this.#notes.push({ by: this.#by, text });
  }

  /** The decision holds no longer than this. The shortest of several counts. @param ms milliseconds from now, more than 0 */
  until(ms: number): void {
    this.#mustBeOpen();
    if (!(typeof ms === 'number' && ms > 0))
      throw this.#error(`a decision cannot hold for ${shown(ms)} milliseconds: they are more than 0`);
    this.#endsInMs = Math.min(this.#endsInMs, ms);
  }

  /**
   * Do something because this packet came, such as to learn an address: at once, or not at all when a decision is only traced or made again after a
   * restart. When it changes what was read before, the packet is decided about once more.
   */
  effect(run: () => void): void {
    mustBeFunction(run, `${this.#by}: an effect`);
    this.#step();
    if (!this.#mayAct || this.#tracks) return;
    this.hasActed = true;
    withoutReading(run);
  }

  /**
   * Learn from a flow that went on over a restart, when that is why it is decided about its packets again; {@link effect} is for packets that come.
   * @param run is given the ports that they went to
   */
  recall(run: (ranTo: readonly PortId[]) => void): void {
    mustBeFunction(run, `${this.#by}: what recalls`);
    const { ranTo } = this;
    if (ranTo !== null) withoutReading(() => run(ranTo));
  }

  /** Packets like this one have to be decided about one by one. @param reason for people, such as "it counts to ten" */
  everyPacket(reason: string): void {
    mustBeText(reason, `${this.#by}: the reason to decide about every packet`);
    // What is said of a packet whose connection is not known does not count.
    if (this.#tracks) return;
    this.#everyPacket ??= this.#by === '' ? reason : `${this.#by}: ${reason}`;
  }

  /** Set addresses of the Ethernet header. */
  get ethernet(): EthernetRewrite {
    return this.#ethernet;
  }

  /** Set fields of IPv4. @throws DecisionError when the packet is none; likewise below */
  get ipv4(): IpRewrite {
    if (!this.#state.isNetwork(EtherType.IPV4)) throw this.#missing('IPv4');
    return this.#ipv4;
  }

  get ipv6(): IpRewrite {
    if (!this.#state.isNetwork(EtherType.IPV6)) throw this.#missing('IPv6');
    return this.#ipv6;
  }

  get arp(): ArpRewrite {
    if (!this.#state.isNetwork(EtherType.ARP)) throw this.#missing('ARP');
    return this.#arp;
  }

  /** Set ports of TCP. */
  get tcp(): PortsRewrite {
    return this.#portsOf('TCP', 6);
  }

  get udp(): PortsRewrite {
    return this.#portsOf('UDP', 17);
  }

  get sctp(): PortsRewrite {
    return this.#portsOf('SCTP', 132);
  }

  #portsOf(name: string, protocol: number): PortsRewrite {
    if (!this.#state.isTransport(protocol)) throw this.#missing(name);
    return this.#transport;
  }

  #missing(what: string): DecisionError {
    return new DecisionError(`${this.#by} sets a field of ${what}, and the packet is no ${what}`);
  }

  /** Set fields of the outermost VLAN tag. @throws DecisionError when there is none */
  get vlan(): VlanRewrite {
    if (!this.#state.hasTag(0)) throw this.#missing('tagged frame');
    return this.#vlan;
  }

  /** Put a VLAN tag before all others. */
  pushVlan(tag: NewTag): void {
    if (typeof tag !== 'object' || tag === null) throw this.#error(`${shown(tag)} is no VLAN tag: it has an id`);
    const { id, priority = 0, tpid = EtherType.VLAN } = tag;
    const isTag =
      Number.isInteger(id) && id >= 0 && id <= 4095 && Number.isInteger(priority) && priority >= 0 && priority <= 7;
    if (!isTag || (tpid !== EtherType.VLAN && tpid !== EtherType.SERVICE_VLAN))
      throw this.#error(`there is no VLAN tag of id ${shown(id)}, priority ${shown(priority)} and TPID ${shown(tpid)}`);
    this.#step();
    this.#writeChanges();
    const value = tagValue(tpid, id, priority);
    this.#builder.pushVlan(tpid, (value & 0xffff) | TAG_PRESENT);
    this.#state.pushTag(value);
  }

  /** Take the outermost VLAN tag away. @throws DecisionError when there is none */
  popVlan(): void {
    if (!this.#state.hasTag(0)) throw this.#missing('tagged frame');
    this.#step();
    this.#writeChanges();
    this.#builder.popVlan();
    this.#state.popTag();
  }

  /** Decrement time to live or hop limit, as a router does; a packet whose time is up goes no further. @throws DecisionError when it is not IP */
  decrementTtl(): void {
    if (!this.#state.isIp()) throw this.#missing('IP');
    this.#step();
    this.#writeChanges();
    this.#builder.decTtl(new Int32Array(0));
    this.#state.decrementTtl();
  }

  /**
   * Do something with one packet in some, drawn anew for each packet. What is changed within is changed for these copies alone.
   * @param probability 0 to 1
   */
  sample(probability: number, within: (decision: Decision) => void): void {
    this.#mustForward('sample');
    if (!(typeof probability === 'number' && probability >= 0 && probability <= 1))
      throw this.#error(`${shown(probability)} is no probability: 0 to 1`);
    mustBeFunction(within, `${this.#by}: what is sampled`);
    this.#step();
    this.#writeChanges();
    const outer = this.#builder;
    const saved = this.#state.save();
    const outputs = this.#outputs;
    this.#builder = new ActionBuilder();
    try {
      within(this);
    } finally {
      this.#waiting.flush(this.#builder, true);
      const list = this.#builder.finish();
      this.#builder = outer;
      this.#sets.clear();
      this.#state.restore(saved);
      if (list.length > 0) outer.sample(Math.round(probability * 0xffff_ffff), list);
      // A packet that is not drawn has gone nowhere by this.
      this.#outputs = outputs + (list.length > 0 ? 1 : 0);
    }
  }

  #step(): void {
    this.#mustBeOpen();
    this.#steps += 1;
    if (this.#steps > MOST_STEPS)
      throw new DecisionError(`${this.#by} says more than ${MOST_STEPS} things about one packet`);
  }
}
