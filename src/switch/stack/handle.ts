/**
 * The handle: what one extension holds of the switch. References of ports (control/references.ts), destinations (path/destination-calls.ts) and packets on their way (path/traffic-calls.ts) are
 * parts that build on each other; here is the rest: contexts, OIDs, counters, timers, and the standard policies.
 */
import { type Packet, TagAction } from '../../net/index.ts';
import type { JsonValue } from '../control/properties.ts';
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
import { contextOf, type ForwardingContext } from '../path/context.ts';
import type { SwitchCore } from '../path/core.ts';
import { checkMayAdd } from '../path/destination-calls.ts';
import { floodTo } from '../path/destinations.ts';
import { guarded } from '../path/guard.ts';
import { heldContext } from '../path/handoff.ts';
import { Shortcuts } from '../path/shortcut.ts';
import { type ExtensionMemory, TrafficCalls } from '../path/traffic-calls.ts';
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
export interface HandleSurroundings extends ExtensionMemory {
  readonly core: SwitchCore;
  readonly stack: ExtensionStack;
  readonly oids: OidPath;
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
    return contextOf(packet).verdict;
  }

  egressVerdict(packet: Packet, portId: number): DropReasonCode {
    const port = this.#core.ports[portId];
    if (!port?.reachable) return DropReason.NIC_NOT_CONNECTED;
    return egressVlanVerdict(contextOf(packet), port.policy);
  }

  destinationFlags(portId: number): number {
    return this.#core.ports[portId]?.policy.destinationFlags ?? 0;
  }

  destinationNic(portId: number, nicIndex: number): number {
    return nicIndex !== 0 && this.#core.ports[portId]?.nics[nicIndex]?.connected ? nicIndex : 0;
  }

  tagAction(packet: Packet, index: number): number {
    const context = contextOf(packet);
    const port = this.#core.ports[context.destinationPorts[index]];
    return port ? tagActionFor(context, port.policy, context.destinationFlags[index]) : TagAction.KEEP;
  }

  flood(packet: Packet): number {
    const context = heldContext(this.#slot, packet);
    checkMayAdd(this.#slot, context);
    return floodTo(this.#core, context);
  }
}

/** See {@link ExtensionHandle}. */
export class Handle extends TrafficCalls implements ExtensionHandle {
  readonly name: string;
  readonly type: ExtensionType;
  readonly host: HostServices;
  readonly policies: StandardPolicies;
  readonly shortcuts: Shortcuts;
  readonly #around: HandleSurroundings;

  constructor(around: HandleSurroundings, slot: Slot) {
    const { core } = around;
    super(core, slot, around);
    this.#around = around;
    this.name = slot.name;
    this.type = slot.descriptor.type;
    this.host = boundHost(core, slot);
    this.policies = new Policies(core, slot);
    this.shortcuts = new Shortcuts(core, slot);
  }

  context(packet: Packet): ForwardingContext {
    if (packet.attachment === null) throw new RuleError(10, 'the packet has no forwarding context');
    return contextOf(packet);
  }

  setSwitchContext(packet: Packet, value: object | null): void {
    const context = this.context(packet);
    if (context.extensionContexts === null) context.extensionContexts = [];
    context.extensionContexts[this.slot.id] = value;
  }

  getSwitchContext(packet: Packet): object | null {
    return this.context(packet).extensionContexts?.[this.slot.id] ?? null;
  }

  forwardOid(request: OidRequest): void {
    this.#around.oids.forward(this.slot, request);
  }

  completeOid(request: OidRequest, status: Status): void {
    this.#around.oids.complete(this.slot, request, status);
  }

  query<K extends QueryKind>(oid: QueryOid & { readonly kind: K }, capacityBytes?: number): QueryResult<K> {
    const asked: QueryOid = oid;
    if (!isQuery(asked.kind)) throw new RuleError(33, `${this.name} originates ${asked.kind}`);
    const needsActive = asked.kind === 'PORT_ARRAY' || asked.kind === 'NIC_ARRAY' || asked.kind === 'PROPERTY_ENUM';
    if (needsActive && !this.core.active) throw new RuleError(34, `${this.name} queries ${asked.kind} too early`);
    if (asked.kind === 'PORT_PROPERTY_ENUM') this.#checkEnumeration(asked.portId);
    let result: QueryResult<K> | null = null;
    this.#around.oids.issue(
      asked,
      (flight, status) => {
        const value = status === 'SUCCESS' ? (flight.output as QueryValues[K]) : null;
        result = { status, value, bytesNeeded: flight.bytesNeeded };
      },
      capacityBytes,
      this.slot,
    );
    // An extension below may pend even a query; who asks synchronously then has no answer.
    return result ?? { status: 'FAILURE', value: null, bytesNeeded: 0 };
  }

  #checkEnumeration(portId: number): void {
    const port = this.core.ports[portId];
    if (port?.state !== 'created') throw new RuleError(35, `${this.name} enumerates port ${portId}`);
    if (port.references.of(this.slot.id) === 0) {
      throw new RuleError(35, `${this.name} enumerates port ${portId} without a reference`);
    }
  }

  redirectNicRequest(request: OidRequest, portId: number, nicIndex: number): void {
    const oid = request.oid;
    if (oid.kind !== 'NIC_REQUEST') throw new RuleError(39, `${oid.kind} is no NIC request`);
    if (!this.slot.forwarding) throw new RuleError(39, `${this.name} redirects a NIC request`);
    const port = this.core.ports[portId];
    if (!port?.external || !port.nics[nicIndex]?.connected) {
      throw new RuleError(39, `a NIC request is redirected to port ${portId}, NIC ${nicIndex}`);
    }
    this.#around.oids.redirect(request, portId, nicIndex);
  }

  indicateStatus(indication: StatusIndication): void {
    this.#around.stack.indicate(this.slot, indication);
  }

  counter(name: string): Counter {
    const { counters } = this.slot;
    const known = counters.get(name);
    if (known !== undefined) return known;
    if (counters.size === MAX_COUNTERS) throw new RangeError(`an extension has at most ${MAX_COUNTERS} counters`);
    // It stays a plain number, whatever is done to the counter.
    const counter = Object.seal({ value: 0 });
    counters.set(String(name), counter);
    return counter;
  }

  registerDropReason(name: string, text: string): DropReasonCode {
    return this.core.reasons.register(`${this.name}:${name}`, text);
  }

  setTimer(delayMs: number, callback: () => void): TimerHandle {
    return setTimer(this.core, this.slot, delayMs, callback);
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
