/**
 * Megaflows where others look at packets too: what Open vSwitch does with packets of a key is that of the megaflow that the key falls to, as one decision among those of
 * policies and filters. It looks at what the megaflow looks at, rests on it, and its packets count as the megaflow's. A miss is an upcall, and never kept. Neighbour:
 * mount.ts; CarriedFlows of the switch keeps the decisions.
 */
import {
  Drop,
  type FlowRegistration,
  type FlowRegistry,
  type FlowSource,
  KEY_WORDS,
  type OfferedFlows,
  outcomeOf,
  Word,
} from '../../flow/index.ts';
import {
  Anchor,
  CarriedFlows,
  type DropReasonCode,
  type ExtensionHandle,
  type FlowForwarding,
  type JsonValue,
  type StackedDecider,
} from '../../switch/index.ts';

/** Names of the datapath's reasons, by number. */
const DROP_NAMES = new Map<number, string>(Object.entries(Drop).map(([name, drop]) => [drop, name]));

/** A megaflow that decisions rest on. */
class Megaflow {
  readonly slot: number;
  readonly anchor = new Anchor('megaflow');
  /** Slots of such decisions; some may be empty by now. */
  readonly kept = new Set<number>();

  constructor(slot: number) {
    this.slot = slot;
  }
}

/** One datapath's megaflows. */
class CarriedMegaflows {
  readonly carried: CarriedFlows;
  readonly #own: FlowSource;
  readonly #forwarding: FlowForwarding;
  /** By slot of the megaflow, and by slot of the decision. */
  readonly #megaflows = new Map<number, Megaflow>();
  readonly #bySlot: (Megaflow | null)[] = [];
  readonly #key = new Uint32Array(KEY_WORDS);
  /** What the present decision rests on; null when Open vSwitch is not asked, or has no flow for it. */
  #present: Megaflow | null = null;
  readonly #stopObserving: () => void;

  constructor(handle: ExtensionHandle, registry: FlowRegistry, forwarding: FlowForwarding, own: FlowSource) {
    this.#own = own;
    this.#forwarding = forwarding;
    this.#stopObserving = own.table.observe({
      flowAdded: () => {},
      flowModified: (slot) => this.#ended(slot),
      flowRemoved: (slot) => this.#ended(slot),
      flowsFlushed: () => {
        for (const slot of [...this.#megaflows.keys()]) this.#ended(slot);
      },
      statisticsWanted: (slot) => this.#bring(slot),
    });
    this.carried = new CarriedFlows({
      handle,
      registry,
      forwarding,
      own,
      forwarder: this.#decider(handle.name),
      ports: handle.shortcuts.ports,
      asking: () => {
        this.#present = null;
      },
      kept: (slot) => this.#kept(slot),
      carried: (slot, packets, bytes) => this.#count(slot, packets, bytes),
      runsAsItIs: (slot) => this.#ended(slot),
    });
    this.carried.start();
  }

  close(): void {
    this.carried.close();
    this.#stopObserving();
  }

  #decider(name: string): StackedDecider {
    return {
      placed: {
        name,
        type: 'forwarding',
        decider: {
          decide: (_packet, decision) => {
            const slot = this.#match();
            if (slot === -1) {
              decision.everyPacket('no megaflow is there for it');
              return;
            }
            const { table } = this.#own;
            const megaflow = this.#megaflows.get(slot) ?? new Megaflow(slot);
            this.#megaflows.set(slot, megaflow);
            megaflow.anchor.read();
            this.#present = megaflow;
            const actions = table.actionsOf(slot);
            const drop = outcomeOf(actions, 0, actions.length)?.drop ?? 0;
            decision.follow({
              mask: table.maskOf(slot).words,
              actions,
              drop: drop === 0 ? null : (DROP_NAMES.get(drop) ?? 'FLOW'),
              portIdOf: (number) => this.carried.portIds.of(number),
            });
          },
        },
      },
      reasonOf: (reason) => this.#reasonOf(reason),
      settledBy: () => {},
    };
  }

  /** The megaflow of the packet that is decided about, or -1. */
  #match(): number {
    const key = this.#key;
    key.set(this.carried.present);
    // That the switch has tracked it for rules of its own is nothing to Open vSwitch.
    key[Word.RECIRC_ID] = 0;
    key.fill(0, Word.CT, Word.L2);
    key[Word.IN_PORT] = this.carried.numbers.of(this.carried.presentPort);
    return this.#own.table.match(key);
  }

  #reasonOf(reason: string): DropReasonCode {
    return this.#forwarding.reasonOf(Drop[reason as keyof typeof Drop] ?? Drop.FLOW);
  }

  #kept(slot: number): void {
    // Of what is dropped before, nothing comes to a megaflow.
    const present = this.#present;
    const before = this.#bySlot[slot];
    if (before !== present) before?.kept.delete(slot);
    present?.kept.add(slot);
    this.#bySlot[slot] = present;
  }

  /** A megaflow does something else from now on, or nothing. What was carried until now counts as its packets. */
  #ended(slot: number): void {
    this.#megaflows.get(slot)?.anchor.changed();
    this.#megaflows.delete(slot);
  }

  /** Statistics of a megaflow are wanted; -1: of all. */
  #bring(slot: number): void {
    const table = this.carried.flows?.table;
    if (table === undefined) return;
    if (slot === -1) table.refreshCounts(-1);
    else for (const each of this.#megaflows.get(slot)?.kept ?? []) if (table.has(each)) table.refreshCounts(each);
  }

  #count(slot: number, packets: number, bytes: number): void {
    const megaflow = this.#bySlot[slot];
    const kept = this.carried.flows?.table;
    if (megaflow == null || kept === undefined) return;
    this.#own.table.addCounts(megaflow.slot, packets, bytes, kept.tcpFlagsOf(slot), kept.usedMsOf(slot));
  }
}

/** Offers the tables of datapaths to a registry, with what others who look at packets say. */
export class OfferedDatapaths implements FlowRegistry {
  readonly strict: boolean;
  readonly #handle: ExtensionHandle;
  readonly #registry: FlowRegistry;
  readonly #forwarding: FlowForwarding;
  readonly #all = new Map<OfferedFlows, CarriedMegaflows>();

  constructor(handle: ExtensionHandle, registry: FlowRegistry, forwarding: FlowForwarding) {
    this.#handle = handle;
    this.#registry = registry;
    this.#forwarding = forwarding;
    this.strict = registry.strict === true;
  }

  register(own: FlowSource): FlowRegistration {
    const megaflows = new CarriedMegaflows(this.#handle, this.#registry, this.#forwarding, own);
    this.#all.set(own.table, megaflows);
    return {
      portsChanged: () => megaflows.carried.changed(),
      handDown: (slot, packet, key) => megaflows.carried.handDown(slot, packet, key),
      wentOn: (slot, lookUps, isCopied) => megaflows.carried.wentOn(slot, lookUps, isCopied),
      close: () => {
        this.#all.delete(own.table);
        megaflows.close();
      },
    };
  }

  /** What of the datapath with a table is carried by decisions, for people; null while its flows are offered as they are. */
  status(table: OfferedFlows): JsonValue {
    return this.#all.get(table)?.carried.status() ?? null;
  }
}
