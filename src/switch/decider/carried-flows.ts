/**
 * Flows of a forwarding extension as they are carried elsewhere. While nobody else looks at packets, its own table is offered as it is. As soon as policies of a port
 * or deciders that stand by themselves do, a table of decisions is offered in its place: each says what all of them say of packets like one, and rests on all that they rest on.
 * Only packets that go elsewhere fall to it. Those that come through the switch are judged there as ever, so that each is counted once. One table has all ports, as
 * programs send only to ports of their own table. Neighbours: ../policies/port-policies.ts, forwarding.ts; Open vSwitch has megaflows decided along.
 */
import {
  type DecidedFlows,
  type DecidedFlowsLimits,
  DecisionError,
  type ObservedPorts,
  type PlacedDecider,
  portIn,
  portNumber,
  sourceIn,
} from '../../decide/index.ts';
import {
  Extraction,
  extract,
  FlowKey,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  inPortOf,
  KEY_WORDS,
  type RecalledFlow,
  Word,
} from '../../flow/index.ts';
import type { Packet, PortId } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import type { ExtensionHandle, TimerHandle } from '../extension.ts';
import { ContextFlag, contextOf } from '../path/context.ts';
import type { FlowForwarding, ForwardedPackets } from '../path/flow-forwarding.ts';
import type { StackedDecider } from './placed.ts';
import { StackedFlows } from './stacked-flows.ts';
import { Turns } from './turns.ts';

/** Own flows that are decided about at once when decisions begin to be offered, and milliseconds until the next so many are. Packets of the others are met meanwhile. */
const OFFERED_AT_ONCE = 64;
const OFFER_MS = 5;

/** What is not kept is not decided about again so soon. A power of two of places, by the hash of keys. */
const REFUSED = 4096;
const REFUSED_MS = 1000;

export interface CarriedFlowsOptions {
  readonly handle: ExtensionHandle;
  readonly registry: FlowRegistry;
  /** Counts what was carried. */
  readonly forwarding: FlowForwarding;
  /** The table of the extension. */
  readonly own: FlowSource;
  /** What the extension decides. It knows packets by the switch's port numbers. */
  readonly forwarder: StackedDecider;
  readonly ports: ObservedPorts;
  /** Whether flows from before a restart can be decided about again from their keys. */
  readonly recalls: boolean;
  /** Optional: bounds of the flows of decisions. */
  readonly limits?: DecidedFlowsLimits;
  /** Optional: all are about to be asked about a key. */
  asking?(): void;
  /** Optional: a decision about the key that was asked about last is kept in a slot of `table`. */
  kept?(slot: number): void;
  /** Optional: packets of such a flow were carried, and are counted in the table. */
  carried?(slot: number, packets: number, bytes: number): void;
}

/** The table of decisions, while it is offered. */
interface Offered {
  readonly decided: StackedFlows;
  readonly registration: FlowRegistration;
  readonly stopWatching: () => void;
}

export class CarriedFlows implements ForwardedPackets {
  readonly #options: CarriedFlowsOptions;
  #own: FlowRegistration | null = null;
  readonly #key = new FlowKey();
  /** The key that is being decided about; its input port is the switch's. */
  readonly present = new Uint32Array(KEY_WORDS);
  readonly #refused = new Uint32Array(REFUSED);
  #refusedSinceMs = 0;
  /** Whether ports are open, as far as that was asked since something changed. */
  readonly #open = new Map<PortId, boolean>();
  /** Deciders that stand by themselves, as they are asked here. */
  readonly #standing = new WeakMap<StackedDecider, StackedDecider>();
  readonly #turns: Turns;
  #limits: DecidedFlowsLimits;
  #isDecided = false;
  #offered: Offered | null = null;
  /** The next own flows are to be decided about. */
  #offering: TimerHandle | null = null;

  constructor(options: CarriedFlowsOptions) {
    this.#options = options;
    this.#limits = options.limits ?? {};
    this.#turns = new Turns(options.handle, () => this.flows?.advance());
  }

  /** Other bounds of the flows of decisions from now on. */
  limit(limits: DecidedFlowsLimits): void {
    this.#limits = limits;
    this.flows?.limit(limits);
  }

  /** Begin to offer flows. */
  start(): void {
    const { handle, own, registry } = this.#options;
    this.#isDecided = this.#look();
    this.#own = registry.register({
      ...own,
      numberOf: (portId) => (this.#isDecided ? -1 : own.numberOf(portId)),
      isOpen: (portId) => handle.shortcuts.isOpen(portId),
    });
    if (this.#isDecided) this.#begin();
  }

  /** The table of decisions; null while the extension's own is offered. */
  get flows(): DecidedFlows | null {
    return this.#offered?.decided.flows ?? null;
  }

  /** The port that packets of the present key come in by. */
  get presentPort(): PortId {
    return portIn(sourceIn(this.present));
  }

  /** Ports, policies or the stack may have changed. */
  changed(): void {
    const isDecided = this.#look();
    if (isDecided !== this.#isDecided) {
      this.#isDecided = isDecided;
      if (isDecided) this.#begin();
      else this.#end();
    }
    this.#own?.portsChanged();
    this.#offered?.registration.portsChanged();
  }

  /** Find out who looks at packets. @returns whether decisions are to be offered */
  #look(): boolean {
    const { handle, registry } = this.#options;
    const { shortcuts } = handle;
    this.#open.clear();
    this.#refused.fill(0);
    this.#offered?.decided.decideBy(this.#deciders());
    return registry.strict === true && !shortcuts.isPlain();
  }

  /** From the top of the stack. */
  #deciders(): StackedDecider[] {
    const { handle, forwarder } = this.#options;
    const { standing, below } = handle.shortcuts.decidersOfCarried();
    return [...standing.map((each) => this.#asStanding(each)), ...below, forwarder];
  }

  #asStanding(decider: StackedDecider): StackedDecider {
    let found = this.#standing.get(decider);
    if (found === undefined) {
      found = {
        placed: standing(decider.placed),
        reasonOf: (reason) => decider.reasonOf(reason),
        settledBy: (settle) => decider.settledBy(settle),
      };
      this.#standing.set(decider, found);
    }
    return found;
  }

  #begin(): void {
    const { handle, own, ports, registry, recalls, forwarding } = this.#options;
    const decided = new StackedFlows(handle, ports, () => forwarding, this.#limits);
    decided.decideBy(this.#deciders());
    const { flows } = decided;
    const { returnsWith } = own;
    const registration = registry.register({
      ...decided.source(`${own.name} with policies`),
      ...(returnsWith === undefined ? {} : { returnsWith }),
      numberOf: (portId) => (this.#isDecided && own.numberOf(portId) !== -1 ? portNumber(portId, 0) : -1),
      isOpen: (portId) => handle.shortcuts.isOpen(portId),
      carried: (slot, packets, bytes) => {
        decided.carried(slot, packets, bytes);
        this.#options.carried?.(slot, packets, bytes);
      },
      ...(recalls ? { recall: (flow) => this.#recall(flows, flow) } : {}),
    });
    const stopSettling = handle.shortcuts.settledBy(() => decided.settle());
    const stopLooking = forwarding.showTo(this);
    const stopWatching = handle.shortcuts.watchDrops((packet) => this.saw(packet));
    const stopObserving = own.table.observe({
      flowAdded: (slot) => this.#offerAtOnce(slot),
      flowModified: (slot) => this.#offerAtOnce(slot),
      flowRemoved: () => {},
      flowsFlushed: () => {},
    });
    this.#offered = {
      decided,
      registration,
      stopWatching: () => {
        stopObserving();
        stopLooking();
        stopWatching();
        stopSettling();
      },
    };
    this.#turns.start();
    this.#offerFrom(0);
  }

  /** Decide about own flows from a slot on, some at a time. */
  #offerFrom(first: number): void {
    const { handle, own } = this.#options;
    const most = handle.host.setTimer === undefined ? Number.POSITIVE_INFINITY : OFFERED_AT_ONCE;
    this.#offering = null;
    let slot = own.table.next(first);
    for (let count = 0; slot !== -1 && count < most; count += 1) {
      this.#offerAtOnce(slot);
      slot = own.table.next(slot + 1);
    }
    if (slot !== -1) this.#offering = handle.setTimer(OFFER_MS, () => this.#offerFrom(slot));
  }

  #end(): void {
    this.#turns.stop();
    this.#offering?.cancel();
    this.#offering = null;
    this.#offered?.decided.flows.close();
    this.#offered?.registration.close();
    this.#offered?.stopWatching();
    this.#offered = null;
  }

  close(): void {
    this.#isDecided = false;
    this.#end();
    this.#own?.close();
    this.#own = null;
  }

  /** A packet has come through the switch: those like it need not. */
  saw(packet: Packet): void {
    const { flows } = this;
    const context = contextOf(packet);
    const { sourcePortId } = context;
    // What an extension made or changed says nothing about what comes from a NIC; below is an 802.3 length, which may lie.
    if (flows === null || context.origin !== 0 || context.sourceNicIndex !== 0 || context.etherType < 0x0600) return;
    if ((context.flags & ~ContextFlag.REPORTED) !== ContextFlag.SOURCE_SET || !this.#isCarried(sourcePortId)) return;
    const key = this.#key;
    key.begin(portNumber(sourcePortId, 0));
    if (extract(packet, key) !== Extraction.DONE || flows.table.match(key.words) !== -1) return;
    this.#decide(flows, key.words, null);
  }

  /** Whether packets of a port may be carried elsewhere. */
  #isCarried(portId: PortId): boolean {
    let isOpen = this.#open.get(portId);
    if (isOpen === undefined) {
      const { handle, own } = this.#options;
      isOpen = own.numberOf(portId) !== -1 && handle.shortcuts.isOpen(portId);
      this.#open.set(portId, isOpen);
    }
    return isOpen;
  }

  /** A flow of the extension's own of which everybody says the same for all packets: it need not wait for one. */
  #offerAtOnce(slot: number): void {
    const { own } = this.#options;
    const { flows } = this;
    const mask = own.table.maskOf(slot).words;
    if (flows === null || mask[Word.IN_PORT] !== 0xffff_ffff || mask[Word.RECIRC_ID] !== 0xffff_ffff) return;
    const key = this.present;
    own.table.readKey(slot, key);
    if (key[Word.RECIRC_ID] !== 0) return;
    const portId = own.portIdOf(inPortOf(key));
    if (portId === -1 || !this.#isCarried(portId)) return;
    key[Word.IN_PORT] = portNumber(portId, 0);
    this.#decide(flows, key, mask);
  }

  /** A flow from before a restart still runs: when it would be decided so again, it goes on. */
  #recall(flows: DecidedFlows, { portId, key, outputPortIds }: RecalledFlow): void {
    if (!this.#options.ports.has(portId)) return;
    this.present.set(key);
    this.present[Word.IN_PORT] = portNumber(portId, 0);
    this.#decide(flows, this.present, null, outputPortIds);
  }

  /**
   * @param within keep it only when no more is looked at than this; null: in any case
   * @param ranTo where such packets went before a restart, when that is why; else null
   */
  #decide(
    flows: DecidedFlows,
    key: Uint32Array,
    within: Uint32Array | null,
    ranTo: readonly PortId[] | null = null,
  ): void {
    const place = within === null ? this.#refusedPlace(key) : -1;
    if (place !== -1 && this.#refused[place & (REFUSED - 1)] === place) return;
    if (key !== this.present) this.present.set(key);
    let slot = -1;
    this.#options.asking?.();
    try {
      slot = flows.recall(this.present, within, ranTo);
    } catch (error) {
      if (!(error instanceof DecisionError)) throw error;
      this.#options.handle.host.log('warn', `flows of ${this.#options.own.name}: ${error.message}`);
    }
    if (slot !== -1) this.#options.kept?.(slot);
    else if (place !== -1) this.#refused[place & (REFUSED - 1)] = place;
  }

  /** A number that stands for a key among those that were not kept lately. Two that share it wait for each other, and no longer than that. */
  #refusedPlace(key: Uint32Array): number {
    const nowMs = this.#options.handle.host.nowMs();
    if (nowMs - this.#refusedSinceMs >= REFUSED_MS) {
      this.#refusedSinceMs = nowMs;
      this.#refused.fill(0);
    }
    let hash = 1;
    for (let word = 0; word < Word.TUNNEL; word += 1) hash = Math.imul(hash ^ key[word], 0x9e37_79b1) ^ (hash >>> 15);
    return ((hash ^ (hash >>> 13)) | 1) >>> 0;
  }

  /** For people. */
  status(): JsonValue {
    const decided = this.#offered?.decided;
    return decided === undefined ? null : { deciders: decided.names, ...decided.status() };
  }
}

/** A decider that stands by itself: a packet that it changes comes to those below as one of its own making. */
function standing(placed: PlacedDecider): PlacedDecider {
  const { decider } = placed;
  if (decider.decide === undefined) return placed;
  return {
    ...placed,
    decider: {
      decide(packet, decision) {
        decider.decide?.(packet, decision);
        decision.mustBeAsItCame('it changes the packet');
      },
      ...(decider.decideOutput === undefined
        ? {}
        : { decideOutput: (packet, portId, decision) => decider.decideOutput?.(packet, portId, decision) }),
    },
  };
}
