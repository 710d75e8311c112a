/**
 * A slot: one enabled extension in the stack of one switch, with everything that the switch knows about it. Neighbours:
 * stack.ts orders slots and moves them through their states, path/ingress.ts and path/egress.ts call their handlers.
 */
import type { ExtensionInfo } from '../api.ts';
import type { StackedDecider } from '../decider/placed.ts';
import type {
  Counter,
  Extension,
  ExtensionDescriptor,
  ExtensionFactory,
  ExtensionHandle,
  ExtensionState,
  TimerHandle,
} from '../extension.ts';
import type { OidFlight } from '../oid/oid-path.ts';
import { NO_RANK } from '../path/context.ts';
import { messageOf } from '../thrown.ts';

/** Stands in until the factory has made the extension. */
const NOTHING: Extension = {};

/** One enabled extension. */
export class Slot {
  /** Never reused on a switch; contexts, ports and NICs remember it. */
  readonly id: number;
  readonly descriptor: ExtensionDescriptor;
  readonly factory: ExtensionFactory;
  /** Its code is not vouched for; see ExtensionFactory.isForeign. */
  readonly isForeign: boolean;
  readonly capturing: boolean;
  readonly forwarding: boolean;
  extension: Extension = NOTHING;
  handle: ExtensionHandle | null = null;
  state: ExtensionState = 'Detached';
  /** Place in the whole stack, 0 on top. */
  rank = NO_RANK;
  failed = false;
  failure: string | null = null;
  /** It keeps as many packets as it may, of these source ports, and is handed no more of them; null while it does not. See path/keeping.ts. */
  fullOf: ReadonlySet<number> | null = null;
  /** How long it has kept packets, a sentence; null when that is nothing to speak of. */
  keeps: string | null = null;

  /** Index into SwitchCore.ingressSlots of the next handler below, and into egressSlots of the next one above. */
  ingressNext = 0;
  egressNext = 0;
  /** Which handlers there are, so that hot code does not ask. */
  hasIngress = false;
  hasEgress = false;
  hasComplete = false;
  hasReturn = false;
  /** Number under which the switch writes down that it runs; see HostServices.entered. */
  readonly entry: number;

  /** Whether it wants packets to be tracked; see Shortcuts.trackConnections. */
  tracks = false;

  /** What it decides, behind the guard; null while nobody has asked. */
  stacked: StackedDecider | null = null;

  readonly counters = new Map<string, Counter>();
  readonly timers = new Set<TimerHandle>();
  /** OIDs that it pended. */
  readonly pended = new Set<OidFlight>();

  constructor(id: number, factory: ExtensionFactory, descriptor: ExtensionDescriptor, entry: number) {
    this.id = id;
    this.factory = factory;
    this.descriptor = descriptor;
    this.entry = entry;
    this.isForeign = factory.isForeign === true;
    this.capturing = descriptor.type === 'capturing';
    this.forwarding = descriptor.type === 'forwarding';
  }

  get name(): string {
    return this.descriptor.name;
  }

  /** Packets and OIDs reach it, or it may still be getting rid of them. */
  get flowing(): boolean {
    return !this.failed && (this.state === 'Running' || this.state === 'Pausing' || this.state === 'Restarting');
  }

  /** Take over a new instance. @throws TypeError for what is none */
  setExtension(extension: Extension): void {
    if (typeof extension !== 'object' || extension === null) throw new TypeError('create made no extension');
    this.hasIngress = typeof extension.onIngress === 'function';
    this.hasEgress = typeof extension.onEgress === 'function';
    this.hasComplete = typeof extension.onIngressComplete === 'function';
    this.hasReturn = typeof extension.onEgressReturn === 'function';
    this.extension = extension;
    this.stacked = null;
  }

  info(position: number, heldPackets: number): ExtensionInfo {
    const counters: Record<string, number> = {};
    for (const [name, { value }] of this.counters) counters[name] = Number.isFinite(value) ? value : 0;
    return {
      ...this.descriptor,
      state: this.state,
      enabled: !this.failed,
      position,
      heldPackets,
      keeps: this.keeps,
      counters,
      failure: this.failure,
    };
  }
}

/** A descriptor's own copy, of plain texts. @throws TypeError for what is no descriptor; whatever its getters throw */
export function readDescriptor(factory: ExtensionFactory): ExtensionDescriptor {
  const { name, type, version, description } = factory.descriptor;
  for (const text of [name, type, version]) {
    if (typeof text !== 'string') throw new TypeError(`name, type and version are texts, not ${messageOf(text)}`);
  }
  return { name, type, version, ...(description === undefined ? {} : { description: messageOf(description) }) };
}
