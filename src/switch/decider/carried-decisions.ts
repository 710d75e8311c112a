/**
 * Decisions about packets that go past the switch: whoever looks at such a packet has a say in one pass, from the deciders that stand by themselves and the policies of ports to who forwards.
 * Each says what all of them say of packets like one, and rests on all that they rest on. While nobody but the forwarding extension and what it decides along has anything to say, they are
 * the decisions that it makes itself. Packets that come through the switch are judged there as ever, so that each is counted once; those like them are decided about here meanwhile.
 * One table has all ports, as programs send only to ports of their own table. Neighbours: ../policies/port-policies.ts; forwarding.ts and carried-flows.ts offer such a table.
 */
import { DecisionError, type PlacedDecider, portNumber, TRACKED_RECIRCULATION } from '../../decide/index.ts';
import {
  ConnectionState,
  Extraction,
  extract,
  FlowKey,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  KEY_WORDS,
  type RecalledFlow,
  Word,
} from '../../flow/index.ts';
import type { Packet, PortId } from '../../net/index.ts';
import type { ExtensionHandle } from '../extension.ts';
import { ContextFlag, contextOf } from '../path/context.ts';
import type { FlowForwarding, ForwardedPackets } from '../path/flow-forwarding.ts';
import type { StackedDecider } from './placed.ts';
import type { StackedFlows } from './stacked-flows.ts';

/** What is not kept is not decided about again so soon. A power of two of places, by the hash of keys. */
const REFUSED = 4096;
const REFUSED_MS = 1000;

export interface CarriedDecisionsOptions {
  readonly handle: ExtensionHandle;
  readonly registry: FlowRegistry;
  /** Counts what was carried, and shows what comes through the switch. */
  readonly forwarding: FlowForwarding;
  /** Keeps the decisions. */
  readonly decided: StackedFlows;
  /** What the extension decides. It knows packets by the switch's port numbers. */
  readonly forwarder: StackedDecider;
  /** Whoever runs the flows is told their name, and what these do not say of themselves. */
  readonly offer: Pick<FlowSource, 'name'> &
    Partial<Pick<FlowSource, 'numberOf' | 'carried' | 'hashSecret' | 'returnsWith'>>;
  /** Whether flows from before a restart can be decided about again from their keys. */
  readonly recalls: boolean;
  /** Whether packets of a port of the switch may fall to these flows. */
  hasPort(portId: PortId): boolean;
  /** Optional: where a key is put while it is decided about. */
  readonly present?: Uint32Array;
  /** Optional: whether packets with a key, whose input port is the switch's, are carried elsewhere with nothing decided about them. */
  runsAsItIs?(key: Uint32Array): boolean;
  /** Optional: all are about to be asked about a key. */
  asking?(): void;
  /** Optional: a decision about the key that was asked about last is kept in a slot. */
  kept?(slot: number): void;
}

export class CarriedDecisions implements ForwardedPackets {
  readonly decided: StackedFlows;
  readonly #options: CarriedDecisionsOptions;
  readonly #registration: FlowRegistration;
  readonly #key = new FlowKey();
  /** The key that is being decided about; its input port is the switch's. */
  readonly #present: Uint32Array;
  readonly #refused = new Uint32Array(REFUSED);
  #refusedSinceMs = 0;
  /** Whether ports are open, as far as that was asked since something changed. */
  readonly #open = new Map<PortId, boolean>();
  /** Deciders that stand by themselves, as they are asked here. */
  readonly #standing = new WeakMap<StackedDecider, StackedDecider>();
  #stopWatching: (() => void) | null = null;
  #wasTracking = false;

  /** Offers them from now on. */
  constructor(options: CarriedDecisionsOptions) {
    this.#options = options;
    this.decided = options.decided;
    this.#present = options.present ?? new Uint32Array(KEY_WORDS);
    this.#ask();
    const source = this.decided.source(options.offer.name);
    const carried = options.offer.carried ?? source.carried;
    this.#registration = options.registry.register({
      ...source,
      ...options.offer,
      beginsAnew: () => true,
      carried: (slot, packets, bytes) => {
        // Where packets are only tracked they count by the flow that they fall to next, or come up and are counted here.
        if (this.decided.flows.recordOf(slot)?.tracks !== true) carried?.(slot, packets, bytes);
      },
      isOpen: (portId) => options.handle.shortcuts.isOpen(portId),
      ...(options.recalls ? { recall: (flow) => this.#recall(flow) } : {}),
    });
  }

  /** Ports, policies or the stack may have changed. */
  changed(): void {
    this.#ask();
    this.#registration.portsChanged();
  }

  /** Find out who looks at packets. */
  #ask(): void {
    const { handle, forwarder } = this.#options;
    this.#open.clear();
    this.#refused.fill(0);
    const isTracking = handle.shortcuts.isTracking();
    // What was decided of connections, or of packets whose connection is not known, holds only as long as as much is known.
    if (isTracking !== this.#wasTracking)
      this.decided.flows.endWhere((slot, { tracks }) => tracks || this.#looksAtConnection(slot));
    this.#wasTracking = isTracking;
    const { standing, below } = handle.shortcuts.decidersOfCarried();
    // From the top of the stack.
    this.decided.decideBy([...standing.map((each) => this.#asStanding(each)), ...below, forwarder]);
  }

  #looksAtConnection(slot: number): boolean {
    const { words } = this.decided.flows.table.maskOf(slot);
    for (let word = Word.CT; word < Word.L2; word += 1) if (words[word] !== 0) return true;
    return false;
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

  /** Others than who forwards judge packets that come through the switch: those like them are decided about here. */
  watch(): void {
    if (this.#stopWatching !== null) return;
    const { handle, forwarding } = this.#options;
    const stopSettling = handle.shortcuts.settledBy(() => this.decided.settle());
    const stopLooking = forwarding.showTo(this);
    const stopDrops = handle.shortcuts.watchDrops((packet) => this.saw(packet));
    this.#stopWatching = () => {
      stopLooking();
      stopDrops();
      stopSettling();
    };
  }

  /** Nobody else does any more. */
  unwatch(): void {
    this.#stopWatching?.();
    this.#stopWatching = null;
  }

  /** They are offered no longer. */
  close(): void {
    this.#registration.close();
    this.unwatch();
  }

  /** A packet has come through the switch: those like it need not. */
  saw(packet: Packet): void {
    const { flows } = this.decided;
    const context = contextOf(packet);
    const { sourcePortId } = context;
    // What an extension made or changed says nothing about what comes from a NIC; below is an 802.3 length, which may lie.
    if (context.origin !== 0 || context.sourceNicIndex !== 0 || context.etherType < 0x0600) return;
    if ((context.flags & ~ContextFlag.REPORTED) !== ContextFlag.SOURCE_SET || !this.isCarried(sourcePortId)) return;
    const key = this.#key;
    key.begin(portNumber(sourcePortId, 0));
    if (extract(packet, key) !== Extraction.DONE) return;
    let slot = flows.table.match(key.words);
    if (slot === -1 && this.#options.runsAsItIs?.(key.words) === true) return;
    if (slot === -1) slot = this.decide(key.words, null);
    if (slot !== -1 && flows.recordOf(slot)?.tracks === true) this.#sawTracked(packet);
  }

  /** Packets like this one are tracked first. Only those of established connections are looked up again then: all others come up. */
  #sawTracked(packet: Packet): void {
    const { words } = this.#key;
    const connection = this.#options.handle.shortcuts.connectionOf(packet);
    if (((connection >>> 24) & ConnectionState.ESTABLISHED) === 0) return;
    words[Word.CT] = connection;
    words[Word.RECIRC_ID] = TRACKED_RECIRCULATION;
    if (this.decided.flows.table.match(words) === -1) this.decide(words, null);
  }

  /** Whether packets of a port may be carried elsewhere. */
  isCarried(portId: PortId): boolean {
    let isOpen = this.#open.get(portId);
    if (isOpen === undefined) {
      const { handle, hasPort } = this.#options;
      isOpen = hasPort(portId) && handle.shortcuts.isOpen(portId);
      this.#open.set(portId, isOpen);
    }
    return isOpen;
  }

  /** A flow from before a restart still runs: when it would be decided so again, it goes on. */
  #recall({ portId, key, outputPortIds }: RecalledFlow): void {
    if (!this.decided.ports.has(portId)) return;
    this.#present.set(key);
    this.#present[Word.IN_PORT] = portNumber(portId, 0);
    this.decide(this.#present, null, outputPortIds);
  }

  /**
   * Decide about packets with a key, whose input port is the switch's.
   * @param within keep it only when no more is looked at than this; null: in any case
   * @param ranTo where such packets went before a restart, when that is why; else null
   * @returns the slot of the flow; -1 when none is kept
   */
  decide(key: Uint32Array, within: Uint32Array | null, ranTo: readonly PortId[] | null = null): number {
    const { handle, offer, asking, kept } = this.#options;
    const place = within === null ? this.#refusedPlace(key) : -1;
    if (place !== -1 && this.#refused[place & (REFUSED - 1)] === place) return -1;
    if (key !== this.#present) this.#present.set(key);
    let slot = -1;
    asking?.();
    try {
      slot = this.decided.flows.recall(this.#present, within, ranTo);
    } catch (error) {
      if (!(error instanceof DecisionError)) throw error;
      handle.host.log('warn', `flows of ${offer.name}: ${error.message}`);
    }
    if (slot !== -1) kept?.(slot);
    else if (place !== -1) this.#refused[place & (REFUSED - 1)] = place;
    return slot;
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
