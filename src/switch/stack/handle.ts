/**
 * The handle: what one extension holds of the switch. It only binds the extension's slot to the calls; the checks are in
 * path/destination-calls.ts, path/traffic-calls.ts, control/references.ts and oid/oid-path.ts.
 */

import type { ObservedPorts } from '../../decide/index.ts';
import { type Batch, type ClonePool, type Packet, type PacketPool, type PortId, TagAction } from '../../net/index.ts';
import type { SwitchEvent } from '../api.ts';
import type { JsonValue } from '../control/properties.ts';
import * as references from '../control/references.ts';
import type { StackedDecider } from '../decider/placed.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import { RuleError, SwitchError } from '../errors.ts';
import type {
  Counter,
  ExtensionHandle,
  ExtensionType,
  HostServices,
  LogLevel,
  StandardPolicies,
  TimerHandle,
} from '../extension.ts';
import type {
  OidRequest,
  QueryKind,
  QueryOid,
  QueryResult,
  QueryValues,
  Status,
  StatusIndication,
} from '../oid/oid.ts';
import type { OidPath } from '../oid/oid-path.ts';
import { isQuery } from '../oid/oid-rules.ts';
import { indicateStatus } from '../oid/status-path.ts';
import { countArrival, countCarriedCopies, countDelivered, countDropped, countDroppedCopies } from '../path/carried.ts';
import type { ForwardingContext } from '../path/context.ts';
import type { DropWatcher, SwitchCore } from '../path/core.ts';
import * as destinations from '../path/destination-calls.ts';
import { floodTo } from '../path/destinations.ts';
import { guarded } from '../path/guard.ts';
import type { DecidersOfCarried, PacketDomains, Shortcuts } from '../path/passage.ts';
import { decidersOfCarried, isOpenPort, isPlainSwitch } from '../path/shortcut.ts';
import * as traffic from '../path/traffic-calls.ts';
import { plainJson } from '../plain-json.ts';
import { egressVlanVerdict, tagActionFor } from '../policies/vlan.ts';
import { messageOf } from '../thrown.ts';
import type { Slot } from './slot.ts';
import type { ExtensionStack } from './stack.ts';

/** Far more than any extension has; a number that grows with traffic is a mistake. */
const MAX_COUNTERS = 4_096;
const MAX_TIMERS = 65_536;
const LOG_LEVELS: readonly string[] = ['debug', 'info', 'warn', 'error'] satisfies LogLevel[];

/** What handles of one switch share. */
export interface HandleSurroundings {
  readonly core: SwitchCore;
  readonly stack: ExtensionStack;
  readonly oids: OidPath;
  readonly clones: ClonePool;
  readonly pool: PacketPool;
  readonly event: (event: SwitchEvent) => void;
}

/** The standard policies, bound to one extension. */
class Policies implements StandardPolicies {
  readonly #core: SwitchCore;
  readonly #slot: Slot;

  constructor(core: SwitchCore, slot: Slot) {
    this.#core = core;
    this.#slot = slot;
  }

  ingressVerdict(packet: Packet): DropReasonCode {
    return (packet.attachment as ForwardingContext).verdict;
  }

  egressVerdict(packet: Packet, portId: number): DropReasonCode {
    const port = this.#core.ports[portId];
    if (!port?.reachable) return DropReason.NIC_NOT_CONNECTED;
    return egressVlanVerdict(packet.attachment as ForwardingContext, port.policy);
  }

  destinationFlags(portId: number): number {
    return this.#core.ports[portId]?.policy.destinationFlags ?? 0;
  }

  destinationNic(portId: number, nicIndex: number): number {
    return nicIndex !== 0 && this.#core.ports[portId]?.nics[nicIndex]?.connected ? nicIndex : 0;
  }

  tagAction(packet: Packet, index: number): number {
    const context = packet.attachment as ForwardingContext;
    const port = this.#core.ports[context.destinationPorts[index]];
    return port ? tagActionFor(context, port.policy, context.destinationFlags[index]) : TagAction.KEEP;
  }

  flood(packet: Packet): number {
    destinations.checkMayAdd(this.#slot, packet);
    return floodTo(this.#core, packet.attachment as ForwardingContext);
  }
}

/** Shortcuts, bound to one extension. */
class BoundShortcuts implements Shortcuts {
  readonly #core: SwitchCore;
  readonly #slot: Slot;

  constructor(core: SwitchCore, slot: Slot) {
    this.#core = core;
    this.#slot = slot;
  }

  watchDrops(listener: DropWatcher): () => void {
    const core = this.#core;
    const slot = this.#slot;
    if (!slot.forwarding) throw new RuleError(3, `${slot.name} watches what others drop`);
    const watcher: DropWatcher = (packet) => guarded(core, slot, 'watchDrops', () => listener(packet));
    core.dropWatchers.add(watcher);
    return () => void core.dropWatchers.delete(watcher);
  }

  isOpen(portId: PortId): boolean {
    return isOpenPort(this.#core, this.#slot, portId);
  }

  isPlain(): boolean {
    return isPlainSwitch(this.#core, this.#slot);
  }

  decidersOfCarried(): DecidersOfCarried {
    return this.#slot.forwarding ? decidersOfCarried(this.#core, this.#slot) : { standing: [], below: [] };
  }

  get ports(): ObservedPorts {
    return this.#core.policies.ports;
  }

  get domains(): PacketDomains {
    return this.#core.policies;
  }

  settledBy(settle: () => void): () => void {
    const core = this.#core;
    const slot = this.#slot;
    const settler = () => {
      if (!slot.failed) guarded(core, slot, 'settle', settle);
    };
    core.settlers.add(settler);
    return () => void core.settlers.delete(settler);
  }

  settle(): void {
    this.#core.settle();
  }

  decidersAbove(): readonly StackedDecider[] {
    return this.#slot.forwarding ? this.#core.decidedAlong : [];
  }

  decidedBy(): string | null {
    const { decidedAlong, forwardingSlot } = this.#core;
    const { stacked } = this.#slot;
    return stacked !== null && decidedAlong.includes(stacked) ? (forwardingSlot?.name ?? null) : null;
  }

  watch(listener: (portId: number, alsoOut: boolean) => void): () => void {
    const core = this.#core;
    const slot = this.#slot;
    const watcher = (portId: number, alsoOut: boolean) => {
      if (!slot.failed) guarded(core, slot, 'watch', () => listener(portId, alsoOut));
    };
    core.pathWatchers.add(watcher);
    return () => void core.pathWatchers.delete(watcher);
  }

  trackConnections(isWanted: boolean): void {
    this.#slot.tracks = isWanted;
    this.#core.refreshTracking();
  }

  isTracking(): boolean {
    return this.#core.tracks;
  }

  connectionOf(packet: Packet): number {
    const context = packet.attachment as ForwardingContext;
    if (context.connection === 0) this.#core.connections.track(packet, context);
    return context.connection;
  }

  carriedCopies(portId: PortId, packets: number, bytes: number): void {
    countCarriedCopies(this.#core, portId, packets, bytes);
  }

  arrived(portId: PortId, packets: number, bytes: number): void {
    countArrival(this.#core, portId, packets, bytes);
  }

  delivered(portIds: readonly PortId[], packets: number, bytes: number): void {
    countDelivered(this.#core, portIds, packets, bytes);
  }

  dropped(portId: PortId, reason: number, packets: number): void {
    countDropped(this.#core, portId, reason, packets);
  }

  takenUp(packets: number): void {
    this.#core.consumed += packets;
  }

  droppedCopies(portId: PortId, reason: number, packets: number): void {
    countDroppedCopies(this.#core, portId, reason, packets);
  }

  changed(portId = 0): void {
    this.#core.pathChanged(portId);
  }
}

/** See {@link ExtensionHandle}. */
export class Handle implements ExtensionHandle {
  readonly name: string;
  readonly type: ExtensionType;
  readonly host: HostServices;
  readonly policies: StandardPolicies;
  readonly shortcuts: Shortcuts;
  readonly #core: SwitchCore;
  readonly #slot: Slot;
  readonly #around: HandleSurroundings;

  constructor(around: HandleSurroundings, slot: Slot) {
    this.#around = around;
    this.#core = around.core;
    this.#slot = slot;
    this.name = slot.name;
    this.type = slot.descriptor.type;
    this.host = boundHost(around.core, slot);
    this.policies = new Policies(around.core, slot);
    this.shortcuts = new BoundShortcuts(around.core, slot);
  }

  allocateContext(packet: Packet): boolean {
    return traffic.allocateContext(this.#core, this.#slot, packet);
  }

  freeContext(packet: Packet): void {
    traffic.freeContext(this.#core, this.#slot, packet);
  }

  context(packet: Packet): ForwardingContext {
    if (packet.attachment === null) throw new RuleError(10, 'the packet has no forwarding context');
    return packet.attachment as ForwardingContext;
  }

  setSource(packet: Packet, portId: number, nicIndex: number): void {
    destinations.setSource(this.#core, this.#slot, packet, portId, nicIndex);
  }

  addDestination(packet: Packet, portId: number, nicIndex: number, flags: number): void {
    destinations.addDestination(this.#core, this.#slot, packet, portId, nicIndex, flags);
  }

  addAllowedDestination(packet: Packet, portId: number, nicIndex: number): DropReasonCode {
    return destinations.addAllowedDestination(this.#core, this.#slot, packet, portId, nicIndex);
  }

  growDestinations(packet: Packet, count: number): boolean {
    return destinations.growDestinations(this.#core, this.#slot, packet, count);
  }

  fillDestination(packet: Packet, index: number, portId: number, nicIndex: number, flags: number): void {
    destinations.fillDestination(this.#core, this.#slot, packet, index, portId, nicIndex, flags);
  }

  updateDestinations(packet: Packet, count: number): void {
    destinations.updateDestinations(this.#core, this.#slot, packet, count);
  }

  excludeDestination(packet: Packet, index: number, reason: DropReasonCode): void {
    destinations.excludeDestination(this.#core, this.#slot, packet, index, reason);
  }

  copyInfo(target: Packet, source: Packet, preserveDestinations: boolean): void {
    destinations.copyInfo(this.#core, this.#slot, target, source, preserveDestinations);
  }

  referencePort(portId: number): void {
    references.referencePort(this.#core, this.#slot, portId);
  }

  dereferencePort(portId: number): void {
    references.dereferencePort(this.#core, this.#slot, portId);
  }

  referenceNic(portId: number, nicIndex: number): void {
    references.referenceNic(this.#core, this.#slot, portId, nicIndex);
  }

  dereferenceNic(portId: number, nicIndex: number): void {
    references.dereferenceNic(this.#core, this.#slot, portId, nicIndex);
  }

  reportFiltered(batch: Batch, portId: number, reason: DropReasonCode, incoming: boolean): void {
    traffic.reportFiltered(this.#core, this.#slot, batch, portId, reason, incoming);
  }

  dropIngress(batch: Batch, portId: number, reason: DropReasonCode, incoming: boolean): void {
    traffic.reportFiltered(this.#core, this.#slot, batch, portId, reason, incoming);
    traffic.endPackets(this.#core, this.#slot, batch, false);
  }

  setSwitchContext(packet: Packet, value: object | null): void {
    const context = this.context(packet);
    if (context.extensionContexts === null) context.extensionContexts = [];
    context.extensionContexts[this.#slot.id] = value;
  }

  getSwitchContext(packet: Packet): object | null {
    return this.context(packet).extensionContexts?.[this.#slot.id] ?? null;
  }

  sendIngress(batch: Batch, flags: number): void {
    traffic.sendIngress(this.#core, this.#slot, batch, flags);
  }

  completeIngress(batch: Batch): void {
    traffic.endPackets(this.#core, this.#slot, batch, false);
  }

  consumeIngress(batch: Batch): void {
    traffic.consumePackets(this.#core, this.#slot, batch);
  }

  indicateEgress(batch: Batch, flags: number): void {
    traffic.indicateEgress(this.#core, this.#slot, batch, flags);
  }

  returnEgress(batch: Batch): void {
    traffic.endPackets(this.#core, this.#slot, batch, true);
  }

  injectIngress(batch: Batch, flags: number): void {
    traffic.injectIngress(this.#core, this.#slot, batch, flags);
  }

  injectEgress(batch: Batch, flags: number): void {
    traffic.injectEgress(this.#core, this.#slot, batch, flags);
  }

  allocate(): Packet | null {
    return this.#around.pool.allocate();
  }

  clone(packet: Packet): Packet | null {
    return traffic.duplicate(this.#core, this.#slot, packet, this.#around.clones, this.#around.pool, true);
  }

  copy(packet: Packet): Packet | null {
    return traffic.duplicate(this.#core, this.#slot, packet, this.#around.clones, this.#around.pool, false);
  }

  isWritable(packet: Packet): boolean {
    return traffic.isWritable(this.#slot, packet);
  }

  reclassify(packet: Packet): void {
    traffic.reclassify(this.#core, this.#slot, packet);
  }

  forwardOid(request: OidRequest): void {
    this.#around.oids.forward(this.#slot, request);
  }

  completeOid(request: OidRequest, status: Status): void {
    this.#around.oids.complete(this.#slot, request, status);
  }

  query<K extends QueryKind>(oid: QueryOid & { readonly kind: K }, capacityBytes?: number): QueryResult<K> {
    const asked: QueryOid = oid;
    if (!isQuery(asked.kind)) throw new RuleError(33, `${this.name} originates ${asked.kind}`);
    const needsActive = asked.kind === 'PORT_ARRAY' || asked.kind === 'NIC_ARRAY' || asked.kind === 'PROPERTY_ENUM';
    if (needsActive && !this.#core.active) throw new RuleError(34, `${this.name} queries ${asked.kind} too early`);
    if (asked.kind === 'PORT_PROPERTY_ENUM') this.#checkEnumeration(asked.portId);
    let result: QueryResult<K> | null = null;
    this.#around.oids.issue(
      asked,
      (flight, status) => {
        const value = status === 'SUCCESS' ? (flight.output as QueryValues[K]) : null;
        result = { status, value, bytesNeeded: flight.bytesNeeded };
      },
      capacityBytes,
      this.#slot,
    );
    // An extension below may pend even a query; who asks synchronously then has no answer.
    return result ?? { status: 'FAILURE', value: null, bytesNeeded: 0 };
  }

  #checkEnumeration(portId: number): void {
    const port = this.#core.ports[portId];
    if (port?.state !== 'created') throw new RuleError(35, `${this.name} enumerates port ${portId}`);
    if ((port.references.get(this.#slot.id) ?? 0) === 0) {
      throw new RuleError(35, `${this.name} enumerates port ${portId} without a reference`);
    }
  }

  redirectNicRequest(request: OidRequest, portId: number, nicIndex: number): void {
    const oid = request.oid;
    if (oid.kind !== 'NIC_REQUEST') throw new RuleError(39, `${oid.kind} is no NIC request`);
    if (!this.#slot.forwarding) throw new RuleError(39, `${this.name} redirects a NIC request`);
    const port = this.#core.ports[portId];
    if (!port?.external || !port.nics[nicIndex]?.connected) {
      throw new RuleError(39, `a NIC request is redirected to port ${portId}, NIC ${nicIndex}`);
    }
    this.#around.oids.redirect(request, portId, nicIndex);
  }

  indicateStatus(indication: StatusIndication): void {
    indicateStatus(this.#core, this.#around.stack, this.#slot, indication, this.#around.event);
  }

  counter(name: string): Counter {
    const { counters } = this.#slot;
    const known = counters.get(name);
    if (known !== undefined) return known;
    if (counters.size === MAX_COUNTERS) throw new RangeError(`an extension has at most ${MAX_COUNTERS} counters`);
    // It stays a plain number, whatever is done to the counter.
    const counter = Object.seal({ value: 0 });
    counters.set(String(name), counter);
    return counter;
  }

  registerDropReason(name: string, text: string): DropReasonCode {
    return this.#core.reasons.register(`${this.name}:${name}`, text);
  }

  setTimer(delayMs: number, callback: () => void): TimerHandle {
    return setTimer(this.#core, this.#slot, delayMs, callback);
  }
}

/** A timer of an extension: it ends with the extension, and what it throws is the extension's failure. @throws SwitchError, RangeError */
function setTimer(core: SwitchCore, slot: Slot, delayMs: number, callback: () => void): TimerHandle {
  const start = core.host.setTimer;
  if (start === undefined) {
    throw new SwitchError('EXTENSION', `${slot.name} needs timers, which this host does not have`);
  }
  if (!(delayMs >= 0)) throw new RangeError(`a timer of ${messageOf(delayMs)} ms`);
  if (slot.timers.size === MAX_TIMERS) throw new RangeError(`an extension has at most ${MAX_TIMERS} timers at once`);
  const inner = start(delayMs, () => {
    slot.timers.delete(outer);
    if (slot.failed) return;
    core.enter();
    guarded(core, slot, 'timer', callback);
    core.leave();
  });
  const outer: TimerHandle = {
    cancel: () => {
      slot.timers.delete(outer);
      inner.cancel();
    },
  };
  slot.timers.add(outer);
  return outer;
}

/** The surroundings as one extension gets them: its timers end with it, and what it logs is plain data. */
function boundHost(core: SwitchCore, slot: Slot): HostServices {
  const { host } = core;
  return Object.freeze({
    nowMs: () => host.nowMs(),
    log: (level: LogLevel, message: string, fields?: Readonly<Record<string, JsonValue>>) => {
      const given = fields === undefined ? undefined : (plainJson(fields) as Record<string, JsonValue>);
      host.log(LOG_LEVELS.includes(level) ? level : 'warn', messageOf(message), given);
    },
    ...(host.setTimer === undefined
      ? {}
      : { setTimer: (delayMs: number, callback: () => void) => setTimer(core, slot, delayMs, callback) }),
    ...(host.services === undefined ? {} : { services: host.services }),
  });
}
