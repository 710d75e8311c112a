/**
 * Flows that somebody else makes for a forwarding extension, as they are carried elsewhere. While nobody else looks at packets, its own table is offered as it is. As soon as
 * policies of a port or deciders do, a table of decisions is offered in its place (carried-decisions.ts), in which who forwards says what its flows say. Open vSwitch has such flows; a
 * forwarding decider has its decisions offered from the beginning (forwarding.ts).
 */
import { type DecidedFlows, type ObservedPorts, portIn, portNumber, sourceIn } from '../../decide/index.ts';
import {
  type FlowKey,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  inPortOf,
  KEY_WORDS,
  Word,
} from '../../flow/index.ts';
import type { Packet, PortId } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
import type { ExtensionHandle, TimerHandle } from '../extension.ts';
import type { FlowForwarding } from '../path/flow-forwarding.ts';
import { CarriedDecisions } from './carried-decisions.ts';
import type { StackedDecider } from './placed.ts';
import { StackedFlows } from './stacked-flows.ts';
import { Turns } from './turns.ts';

/** Own flows that are decided about at once when decisions begin to be offered, and milliseconds until the next so many are. Packets of the others are met meanwhile. */
const OFFERED_AT_ONCE = 64;
const OFFER_MS = 5;

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
}

/** The decisions, while they are offered. */
interface Offered {
  readonly decisions: CarriedDecisions;
  readonly stopObserving: () => void;
}

export class CarriedFlows {
  readonly #options: CarriedFlowsOptions;
  #own: FlowRegistration | null = null;
  /** The key that is being decided about; its input port is the switch's. */
  readonly present = new Uint32Array(KEY_WORDS);
  readonly #turns: Turns;
  #isDecided = false;
  #offered: Offered | null = null;
  /** The next own flows are to be decided about. */
  #offering: TimerHandle | null = null;

  constructor(options: CarriedFlowsOptions) {
    this.#options = options;
    this.#turns = new Turns(options.handle, () => this.flows?.advance());
  }

  /** Begin to offer flows. */
  start(): void {
    const { handle, own, registry } = this.#options;
    this.#isDecided = this.#isJudged();
    this.#own = registry.register({
      ...own,
      numberOf: (portId) => (this.#isDecided ? -1 : own.numberOf(portId)),
      isOpen: (portId) => handle.shortcuts.isOpen(portId),
    });
    if (this.#isDecided) this.#begin();
  }

  /** Decisions that are kept; null while the extension's own flows are offered. */
  get flows(): DecidedFlows | null {
    return this.#offered?.decisions.decided.flows ?? null;
  }

  /** The port that packets of the present key come in by. */
  get presentPort(): PortId {
    return portIn(sourceIn(this.present));
  }

  /** Hand a packet of an own flow over to where flows run: see FlowRegistration. While decisions are offered nobody takes any. */
  handDown(slot: number, packet: Packet, key: FlowKey): boolean {
    return this.#own?.handDown?.(slot, packet, key) ?? false;
  }

  /** As of FlowRegistration. */
  wentOn(slot: number, lookUps: number, isCopied: boolean): void {
    this.#own?.wentOn?.(slot, lookUps, isCopied);
  }

  /** Ports, policies or the stack may have changed. */
  changed(): void {
    const isDecided = this.#isJudged();
    if (isDecided !== this.#isDecided) {
      this.#isDecided = isDecided;
      if (isDecided) this.#begin();
      else this.#end();
    }
    this.#own?.portsChanged();
    this.#offered?.decisions.changed();
  }

  /** Whether others have a say, and headers that lie are handed up to them. */
  #isJudged(): boolean {
    const { handle, registry } = this.#options;
    return registry.strict === true && !handle.shortcuts.isPlain();
  }

  #begin(): void {
    const { handle, own, ports, registry, forwarder, forwarding, asking, kept } = this.#options;
    const decided = new StackedFlows(
      handle,
      ports,
      () => forwarding,
      () => handle.shortcuts.isTracking(),
    );
    const { returnsWith } = own;
    const hasPort = (portId: PortId) => own.numberOf(portId) !== -1;
    const decisions = new CarriedDecisions({
      handle,
      registry,
      forwarding,
      decided,
      forwarder,
      offer: {
        name: `${own.name} with policies`,
        ...(returnsWith === undefined ? {} : { returnsWith }),
        numberOf: (portId) => (this.#isDecided && hasPort(portId) ? portNumber(portId, 0) : -1),
        carried: (slot, packets, bytes) => {
          decided.carried(slot, packets, bytes);
          this.#options.carried(slot, packets, bytes);
        },
      },
      recalls: false,
      hasPort,
      present: this.present,
      asking,
      kept,
    });
    decisions.watch();
    const stopObserving = own.table.observe({
      flowAdded: (slot) => this.#offerAtOnce(slot),
      flowModified: (slot) => this.#offerAtOnce(slot),
      flowRemoved: () => {},
      flowsFlushed: () => {},
    });
    this.#offered = { decisions, stopObserving };
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
    this.#offered?.decisions.decided.flows.close();
    this.#offered?.decisions.close();
    this.#offered?.stopObserving();
    this.#offered = null;
  }

  close(): void {
    this.#isDecided = false;
    this.#end();
    this.#own?.close();
    this.#own = null;
  }

  /** A flow of the extension's own of which everybody says the same for all packets: it need not wait for one. */
  #offerAtOnce(slot: number): void {
    const { own } = this.#options;
    const decisions = this.#offered?.decisions;
    const mask = own.table.maskOf(slot).words;
    if (decisions === undefined || mask[Word.IN_PORT] !== 0xffff_ffff || mask[Word.RECIRC_ID] !== 0xffff_ffff) return;
    const key = this.present;
    own.table.readKey(slot, key);
    // What rests on a connection waits for a packet whose connection is known.
    if (key[Word.RECIRC_ID] !== 0 || key[Word.CT] !== 0) return;
    const portId = own.portIdOf(inPortOf(key));
    if (portId === -1 || !decisions.isCarried(portId)) return;
    key[Word.IN_PORT] = portNumber(portId, 0);
    decisions.decide(key, mask);
  }

  /** For people. */
  status(): JsonValue {
    const decided = this.#offered?.decisions.decided;
    return decided === undefined ? null : { deciders: decided.names, ...decided.status() };
  }
}
