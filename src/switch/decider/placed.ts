/**
 * A decider in the stack: its handle, counters and drop reasons, the ports that it sees, and all that an extension is but for its packets. What both halves of the adapter, filtering.ts and
 * forwarding.ts, have in common.
 */
import {
  checkDropText,
  DeciderState,
  DecisionError,
  FlowCounter,
  ObservedPorts,
  type PlacedDecider,
  shown,
} from '../../decide/index.ts';
import type { PortId } from '../../net/index.ts';
import type { JsonObject, JsonValue } from '../control/properties.ts';
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import type { Counter, Extension, ExtensionHandle } from '../extension.ts';
import type { OidRequest, Status } from '../oid/oid.ts';
import type { DeciderExtension, DeciderHandle } from './define.ts';

/** A decider whose drops somebody else may count: see Extension.decider. */
export interface StackedDecider {
  readonly placed: PlacedDecider;
  /** The number of a reason that it drops for. */
  reasonOf(reason: string): DropReasonCode;
  /** Whoever decides it along says how what its flows have counted is brought to the counters of this one; null when nobody does any more. */
  settledBy(settle: (() => void) | null): void;
}

/** A counter of decisions that shows among those of the extension. */
class ShownCounter extends FlowCounter {
  readonly #shown: Counter;

  constructor(name: string, settle: () => void, shown: Counter) {
    super(name, settle);
    this.#shown = shown;
  }

  override add(packets: number, bytes: number): void {
    super.add(packets, bytes);
    this.#shown.value += packets;
  }
}

export abstract class DeciderAdapter implements StackedDecider, Extension {
  readonly placed: PlacedDecider;
  readonly reconfigure?: (configuration: unknown) => void;
  readonly configuration?: () => JsonObject;
  protected readonly handle: ExtensionHandle;
  protected readonly own: DeciderExtension;
  protected readonly ports = new ObservedPorts();
  readonly #counters = new Map<string, FlowCounter>();
  readonly #reasons = new Map<string, DropReasonCode>();
  readonly #texts = new Map<string, string>();
  /** Connected NICs, by port. */
  readonly #nics = new Map<PortId, Set<number>>();
  readonly #names = new Map<PortId, string>();
  /** While the decider is made there are no flows yet. */
  #isMade = false;
  #settleAlong: (() => void) | null = null;

  constructor(
    handle: ExtensionHandle,
    type: 'filtering' | 'forwarding',
    make: (handle: DeciderHandle) => DeciderExtension,
  ) {
    this.handle = handle;
    const given: DeciderHandle = {
      name: handle.name,
      host: handle.host,
      state: new DeciderState(),
      ports: this.ports,
      portIds: () => new Map(Array.from(this.#names, ([portId, name]) => [name, portId])),
      vlanOf: (packet) => handle.shortcuts.domains.vlanOf(packet),
      leavesBy: (packet, portId) => handle.shortcuts.domains.leavesBy(packet, portId),
      trackConnections: (isWanted) => handle.shortcuts.trackConnections(isWanted),
      counter: (name) => this.#counter(name),
      tally: (name) => new FlowCounter(name, () => {}),
      settle: () => this.settle(),
      dropReason: (name, text) => this.#nameReason(name, text),
      dropsAs: (name) => this.#dropsAs(name),
      setTimer: (delayMs, callback) => handle.setTimer(delayMs, callback),
    };
    const own = make(given);
    if (typeof own !== 'object' || own === null) throw new TypeError('create made no decider');
    this.own = own;
    this.placed = { name: handle.name, type, decider: own };
    if (own.reconfigure !== undefined)
      this.reconfigure = (configuration) => {
        own.reconfigure?.(configuration);
        this.reconfigured();
      };
    if (own.configuration !== undefined) this.configuration = own.configuration.bind(own);
    this.#isMade = true;
  }

  /** The decider has another configuration. */
  protected reconfigured(): void {}

  /** Bring what flows of this decider have counted to its counters. */
  protected abstract settleOwn(): void;

  /** What its flows are, for people. */
  protected abstract flowStatus(): Record<string, JsonValue>;

  attach(): void {
    this.own.attach?.();
  }

  switchActive(): void {
    this.learnPorts();
  }

  countersWanted(): void {
    this.settle();
  }

  status(): JsonValue {
    const { own } = this;
    if (own.showsStatusAlone === true) return own.status?.() ?? null;
    return { ...this.flowStatus(), ...(own.status === undefined ? {} : { state: own.status() }) };
  }

  command(name: string, args: JsonValue): JsonValue {
    if (this.own.command === undefined) throw new TypeError(`${this.handle.name} has no commands`);
    return this.own.command(name, args);
  }

  #counter(name: string): FlowCounter {
    let counter = this.#counters.get(name);
    if (counter === undefined) {
      counter = new ShownCounter(name, () => this.settle(), this.handle.counter(name));
      this.#counters.set(name, counter);
    }
    return counter;
  }

  /** Counters are about to be read. */
  settle(): void {
    if (this.#isMade) this.settleOwn();
    this.#settleAlong?.();
    this.handle.shortcuts.settle();
  }

  settledBy(settle: (() => void) | null): void {
    this.#settleAlong = settle;
  }

  #dropsAs(name: keyof typeof DropReason): void {
    if (!Object.hasOwn(DropReason, name))
      throw new DecisionError(`${this.handle.name}: the switch has no drop reason ${shown(name)}`);
    this.#reasons.set(name, DropReason[name]);
  }

  /** @returns whether it has a number of its own @throws DecisionError for what is no name of a reason, or no text */
  #nameReason(reason: string, text: string): boolean {
    checkDropText(this.handle.name, reason, text);
    this.#texts.set(reason, text);
    return this.reasonOf(reason) !== DropReason.EXTENSION_FILTER;
  }

  reasonOf(reason: string): DropReasonCode {
    let code = this.#reasons.get(reason);
    if (code === undefined) {
      const text = this.#texts.get(reason) ?? `The extension ${this.handle.name} decided so.`;
      try {
        code = this.handle.registerDropReason(reason, text);
      } catch (error) {
        // The switch has no number left.
        if (!(error instanceof RangeError)) throw error;
        code = DropReason.EXTENSION_FILTER;
      }
      this.#reasons.set(reason, code);
    }
    return code;
  }

  /** Ports that were there before; later ones are told by OIDs. */
  protected learnPorts(): void {
    const { handle } = this;
    if (handle.query({ kind: 'SWITCH_PARAMETERS' }).value?.active !== true) return;
    const { value: nics } = handle.query({ kind: 'NIC_ARRAY' });
    const { value: ports } = handle.query({ kind: 'PORT_ARRAY' });
    for (const { portId, name } of ports ?? []) this.#names.set(portId, name);
    for (const { portId, nicIndex, state } of nics ?? []) if (state === 'connected') this.#connected(portId, nicIndex);
    this.own.portsChanged?.();
  }

  onOidComplete({ oid }: OidRequest, status: Status): void {
    if (status !== 'SUCCESS') return;
    switch (oid.kind) {
      case 'PORT_CREATE':
      case 'PORT_UPDATED':
        this.#names.set(oid.port.portId, oid.port.name);
        if (this.#nics.has(oid.port.portId)) this.ports.set(oid.port.portId, oid.port.name);
        break;
      case 'PORT_DELETE':
        this.#names.delete(oid.port.portId);
        this.#nics.delete(oid.port.portId);
        this.ports.delete(oid.port.portId);
        break;
      case 'NIC_CONNECT':
        this.#connected(oid.nic.portId, oid.nic.nicIndex);
        break;
      case 'NIC_DISCONNECT':
        this.#disconnected(oid.nic.portId, oid.nic.nicIndex);
        break;
      default:
        return;
    }
    this.own.portsChanged?.();
  }

  #connected(portId: PortId, nicIndex: number): void {
    const nics = this.#nics.get(portId) ?? new Set();
    nics.add(nicIndex);
    this.#nics.set(portId, nics);
    this.ports.set(portId, this.#names.get(portId) ?? String(portId));
  }

  #disconnected(portId: PortId, nicIndex: number): void {
    const nics = this.#nics.get(portId);
    nics?.delete(nicIndex);
    if (nics?.size !== 0) return;
    this.#nics.delete(portId);
    this.ports.delete(portId);
  }
}
