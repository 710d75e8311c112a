/**
 * Flows that somebody else makes for a forwarding extension, as they are carried elsewhere. They are offered as they are, but for those that come in or go out by ports of which others have a
 * say: packets of these are decided about (carried-decisions.ts), and who forwards says what its flows say. Both are one table to whoever runs them, so that a port's first policy, or the end of its
 * last, is nothing to flows between other ports. Open vSwitch has such flows; a forwarding decider has its decisions offered from the beginning (forwarding.ts).
 */
import {
  asPortNumber,
  type DecidedFlows,
  nicIn,
  type ObservedPorts,
  portIn,
  portNumber,
  sourceIn,
  TRACKED_RECIRCULATION,
} from '../../decide/index.ts';
import {
  type FlowKey,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  inPortOf,
  JoinedFlows,
  KEY_WORDS,
  resumedRecirculation,
  Word,
} from '../../flow/index.ts';
import type { KeyPort, Packet, PortId } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import type { ExtensionHandle, TimerHandle } from '../extension.ts';
import type { FlowForwarding } from '../path/flow-forwarding.ts';
import { CarriedDecisions } from './carried-decisions.ts';
import { FlowReach, SomePorts } from './flow-reach.ts';
import { Numbering } from './numbering.ts';
import type { StackedDecider } from './placed.ts';
import { StackedFlows } from './stacked-flows.ts';
import { Turns } from './turns.ts';

/**
 * Flows that are decided about at once when others begin to have a say, those that are looked through for it, and milliseconds until the next so many are. Packets of the others are met
 * meanwhile.
 */
const OFFERED_AT_ONCE = 64;
const SOUGHT_AT_ONCE = 4096;
const OFFER_MS = 5;

const NOBODY = new SomePorts([]);

export interface CarriedFlowsOptions {
  readonly handle: ExtensionHandle;
  readonly registry: FlowRegistry;
  /** Counts what was carried. */
  readonly forwarding: FlowForwarding;
  /** The table of the extension. */
  readonly own: FlowSource;
  /** Says what its flows do. It knows packets by the switch's port numbers. */
  readonly forwarder: StackedDecider;
  readonly ports: ObservedPorts;
  /** All are about to be asked about a key. */
  asking(): void;
  /** A decision about the key that was asked about last is kept in a slot of the table of decisions. */
  kept(slot: number): void;
  /** Packets of such a decision were carried, and are counted in that table. */
  carried(slot: number, packets: number, bytes: number): void;
  /** A flow of the extension's own is to be offered as it is: decisions that rest on it end. */
  runsAsItIs(slot: number): void;
}

/** What is offered. */
interface Offered {
  readonly decisions: CarriedDecisions;
  readonly flows: JoinedFlows;
}

export class CarriedFlows {
  readonly #options: CarriedFlowsOptions;
  /** The switch's ports by numbers of the extension's table, and the other way round. */
  readonly portIds: Numbering<KeyPort, PortId>;
  readonly numbers: Numbering<PortId, KeyPort>;
  /** The key that is being decided about; its input port is the switch's. */
  readonly present = new Uint32Array(KEY_WORDS);
  readonly #key = new Uint32Array(KEY_WORDS);
  readonly #turns: Turns;
  readonly #reach: FlowReach;
  /** Ports of which others have a say. */
  #judged = NOBODY;
  #offered: Offered | null = null;
  #registration: FlowRegistration | null = null;
  /** The next own flows are to be decided about. */
  #offering: TimerHandle | null = null;
  #stopObserving: (() => void) | null = null;

  constructor(options: CarriedFlowsOptions) {
    const { handle, own } = options;
    this.#options = options;
    this.portIds = new Numbering((number) => own.portIdOf(number));
    this.numbers = new Numbering((portId) => own.numberOf(portId));
    this.#reach = new FlowReach(own.table);
    this.#turns = new Turns(handle, () => this.flows?.advance());
  }

  /** Begin to offer flows. */
  start(): void {
    const { handle, own } = this.#options;
    this.#judged = this.#judgedPorts();
    const decided = new StackedFlows(handle, this.#options.ports, () => this.#options.forwarding, {
      tracks: () => handle.shortcuts.isTracking(),
      // The number of their port is in their keys, where they run.
      restsOn: (inPort) => this.numbers.of(inPort),
    });
    const flows = new JoinedFlows({
      own: own.table,
      mayRun: (slot) => this.#mayRun(slot),
      other: decided.flows.table,
      numberOf: (port) => {
        const number = asPortNumber(port);
        return nicIn(number) === 0 ? own.numberOf(portIn(number)) : -1;
      },
      otherNumberOf: (number) => {
        const portId = own.portIdOf(number);
        return portId === -1 ? -1 : portNumber(portId, 0);
      },
    });
    this.#offered = { flows, decisions: this.#decide(decided, flows) };
    this.#stopObserving = own.table.observe({
      flowAdded: (slot) => this.#offerAtOnce(slot),
      flowModified: (slot) => this.#offerAtOnce(slot),
      flowRemoved: () => {},
      flowsFlushed: () => {},
    });
    this.#watch();
  }

  #decide(decided: StackedFlows, flows: JoinedFlows): CarriedDecisions {
    const { handle, own, registry, forwarding, forwarder, asking, kept } = this.#options;
    return new CarriedDecisions({
      handle,
      registry: {
        register: (decisions) => {
          this.#registration = registry.register(this.#join(decisions, flows));
          return this.#registration;
        },
      },
      forwarding,
      decided,
      forwarder,
      offer: {
        name: own.name,
        carried: (slot, packets, bytes) => {
          decided.carried(slot, packets, bytes);
          this.#options.carried(slot, packets, bytes);
        },
      },
      recalls: false,
      hasPort: (portId) => own.numberOf(portId) !== -1,
      present: this.present,
      runsAsItIs: (key) => this.#runsAsItIs(key, flows),
      asking,
      kept,
    });
  }

  /** One table of both. Its numbers are the extension's. */
  #join(decisions: FlowSource, flows: JoinedFlows): FlowSource {
    const { own, handle } = this.#options;
    const { describe } = decisions;
    return {
      ...own,
      ...(decisions.apart === undefined ? {} : { apart: decisions.apart }),
      table: flows,
      isOpen: (portId) => handle.shortcuts.isOpen(portId),
      beginsAnew: (record) => resumedRecirculation(record) === TRACKED_RECIRCULATION,
      describe: (slot) => {
        const told = flows.isOther(slot) ? describe?.(flows.slotIn(slot)) : own.describe?.(flows.slotIn(slot));
        return told ?? { deciders: [handle.name], drop: null };
      },
      carried: (slot, packets, bytes) =>
        (flows.isOther(slot) ? decisions : own).carried?.(flows.slotIn(slot), packets, bytes),
    };
  }

  /** Decisions that are kept. */
  get flows(): DecidedFlows | null {
    return this.#offered?.decisions.decided.flows ?? null;
  }

  /** The port that packets of the present key come in by. */
  get presentPort(): PortId {
    return portIn(sourceIn(this.present));
  }

  /** Hand a packet of an own flow over to where flows run: see FlowRegistration. */
  handDown(slot: number, packet: Packet, key: FlowKey): boolean {
    const joined = this.#offered?.flows.offeredAs(slot) ?? -1;
    return joined !== -1 && (this.#registration?.handDown?.(joined, packet, key) ?? false);
  }

  /** As of FlowRegistration. */
  wentOn(slot: number, lookUps: number, isCopied: boolean): void {
    const joined = this.#offered?.flows.offeredAs(slot) ?? -1;
    if (joined !== -1) this.#registration?.wentOn?.(joined, lookUps, isCopied);
  }

  /** Ports, policies or the stack may have changed. */
  changed(): void {
    const offered = this.#offered;
    if (offered === null) return;
    this.portIds.changed();
    this.numbers.changed();
    const before = this.#judged;
    this.#judged = this.#judgedPorts();
    const isOther = !this.#judged.equals(before);
    // Whoever has a say now has it at once; what nobody has a say about any more is offered when decisions about it are gone.
    const free = isOther ? this.#holdBack(offered.flows, before) : [];
    offered.decisions.changed();
    for (const slot of free) {
      this.#options.runsAsItIs(slot);
      offered.flows.look(slot);
    }
    if (isOther) this.#watch();
  }

  /** Which ports others have a say about, by their numbers in the extension's table. */
  #judgedPorts(): SomePorts {
    const { handle, own } = this.#options;
    const judged = handle.shortcuts.judgedPorts();
    if (judged === null) return new SomePorts(null);
    return new SomePorts(
      judged.flatMap((portId) => {
        const number = own.numberOf(portId);
        return number === -1 ? [] : [number];
      }),
    );
  }

  /** Whether a flow of the extension's own may run as it is. */
  #mayRun(slot: number): boolean {
    return !this.#reach.touches(slot, this.#judged) && !this.#reach.isReserved(slot);
  }

  /** Hold flows back that others have a say about now. @returns those that are to be offered again */
  #holdBack(flows: JoinedFlows, before: SomePorts): number[] {
    const { table } = this.#options.own;
    const bits = before.bits | this.#judged.bits;
    const free: number[] = [];
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
      if (!this.#reach.mayTouch(slot, bits)) continue;
      if (flows.offers(slot)) flows.look(slot);
      else if (this.#mayRun(slot)) free.push(slot);
    }
    return free;
  }

  /** While others have a say, packets that come through the switch are looked at: those like them are decided about. */
  #watch(): void {
    const { registry } = this.#options;
    const decisions = this.#offered?.decisions;
    this.#offering?.cancel();
    this.#offering = null;
    if (registry.strict === true && !this.#judged.isNone) {
      decisions?.watch();
      this.#turns.start();
      this.#offerFrom(0);
      return;
    }
    decisions?.unwatch();
    this.#turns.stop();
    decisions?.decided.flows.flush();
  }

  /** Decide about own flows from a slot on that are held back, some at a time. */
  #offerFrom(first: number): void {
    const { handle, own } = this.#options;
    const isAtOnce = handle.host.setTimer === undefined;
    this.#offering = null;
    let slot = own.table.next(first);
    let decided = 0;
    for (
      let sought = 0;
      slot !== -1 && (isAtOnce || (decided < OFFERED_AT_ONCE && sought < SOUGHT_AT_ONCE));
      sought += 1
    ) {
      if (this.#offerAtOnce(slot)) decided += 1;
      slot = own.table.next(slot + 1);
    }
    if (slot !== -1) this.#offering = handle.setTimer(OFFER_MS, () => this.#offerFrom(slot));
  }

  close(): void {
    const offered = this.#offered;
    this.#turns.stop();
    this.#offering?.cancel();
    this.#offering = null;
    this.#stopObserving?.();
    this.#stopObserving = null;
    offered?.decisions.decided.flows.close();
    offered?.decisions.close();
    offered?.flows.close();
    this.#offered = null;
    this.#registration = null;
    this.#reach.close();
  }

  /** Whether packets with a key fall to a flow that is offered as it is. @param key its input port is the switch's */
  #runsAsItIs(key: Uint32Array, flows: JoinedFlows): boolean {
    const { own } = this.#options;
    const number = own.numberOf(portIn(sourceIn(key)));
    if (number === -1) return false;
    this.#key.set(key);
    this.#key[Word.IN_PORT] = number;
    const slot = own.table.match(this.#key);
    return slot !== -1 && flows.offers(slot);
  }

  /** A flow of the extension's own that is held back, and of which everybody says the same for all packets, need not wait for one. @returns whether it was decided about */
  #offerAtOnce(slot: number): boolean {
    const { own, registry } = this.#options;
    const offered = this.#offered;
    if (offered === null || registry.strict !== true || offered.flows.offers(slot)) return false;
    const { decisions } = offered;
    const mask = own.table.maskOf(slot).words;
    if (mask[Word.IN_PORT] !== 0xffff_ffff || mask[Word.RECIRC_ID] !== 0xffff_ffff) return false;
    const key = this.#key;
    own.table.readKey(slot, key);
    // What rests on a connection waits for a packet whose connection is known.
    if (key[Word.RECIRC_ID] !== 0 || key[Word.CT] !== 0) return false;
    const portId = own.portIdOf(inPortOf(key));
    if (portId === -1 || !decisions.isCarried(portId)) return false;
    key[Word.IN_PORT] = portNumber(portId, 0);
    if (decisions.decided.flows.table.match(key) !== -1) return false;
    decisions.decide(key, mask);
    return true;
  }

  /** For people; null while others have no say. */
  status(): JsonValue {
    const decided = this.#offered?.decisions.decided;
    if (decided === undefined || this.#judged.isNone) return null;
    return { deciders: decided.names, ...decided.status() };
  }
}
