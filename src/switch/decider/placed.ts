/**
 * A decider in the stack: its handle, counters and drop reasons, and the ports that it sees. What both halves of the adapter have in common.
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
import { DropReason, type DropReasonCode } from '../drop-reason.ts';
import type { Counter, ExtensionHandle } from '../extension.ts';
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

export class DeciderPlace implements StackedDecider {
  readonly ports = new ObservedPorts();
  readonly decider: DeciderExtension;
  readonly placed: PlacedDecider;
  readonly #handle: ExtensionHandle;
  readonly #counters = new Map<string, FlowCounter>();
  readonly #reasons = new Map<string, DropReasonCode>();
  readonly #texts = new Map<string, string>();
  /** Connected NICs, by port. */
  readonly #nics = new Map<PortId, Set<number>>();
  readonly #names = new Map<PortId, string>();
  #settleOwn: () => void = () => {};
  #settleAlong: (() => void) | null = null;

  /** @param settle brings what flows of this decider have counted to its counters */
  constructor(
    handle: ExtensionHandle,
    type: 'filtering' | 'forwarding',
    make: (handle: DeciderHandle) => DeciderExtension,
    settle: () => void,
  ) {
    this.#handle = handle;
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
    this.decider = make(given);
    if (typeof this.decider !== 'object' || this.decider === null) throw new TypeError('create made no decider');
    this.placed = { name: handle.name, type, decider: this.decider };
    // While it is made there are no flows yet.
    this.#settleOwn = settle;
  }

  #counter(name: string): FlowCounter {
    let counter = this.#counters.get(name);
    if (counter === undefined) {
      counter = new ShownCounter(name, () => this.settle(), this.#handle.counter(name));
      this.#counters.set(name, counter);
    }
    return counter;
  }

  /** Counters are about to be read. */
  settle(): void {
    this.#settleOwn();
    this.#settleAlong?.();
    this.#handle.shortcuts.settle();
  }

  settledBy(settle: (() => void) | null): void {
    this.#settleAlong = settle;
  }

  #dropsAs(name: keyof typeof DropReason): void {
    if (!Object.hasOwn(DropReason, name))
      throw new DecisionError(`${this.#handle.name}: the switch has no drop reason ${shown(name)}`);
    this.#reasons.set(name, DropReason[name]);
  }

  /** @returns whether it has a number of its own @throws DecisionError for what is no name of a reason, or no text */
  #nameReason(reason: string, text: string): boolean {
    checkDropText(this.#handle.name, reason, text);
    this.#texts.set(reason, text);
    return this.reasonOf(reason) !== DropReason.EXTENSION_FILTER;
  }

  reasonOf(reason: string): DropReasonCode {
    let code = this.#reasons.get(reason);
    if (code === undefined) {
      const text = this.#texts.get(reason) ?? `The extension ${this.#handle.name} decided so.`;
      try {
        code = this.#handle.registerDropReason(reason, text);
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
  learnPorts(): void {
    const handle = this.#handle;
    if (handle.query({ kind: 'SWITCH_PARAMETERS' }).value?.active !== true) return;
    const { value: nics } = handle.query({ kind: 'NIC_ARRAY' });
    const { value: ports } = handle.query({ kind: 'PORT_ARRAY' });
    for (const { portId, name } of ports ?? []) this.#names.set(portId, name);
    for (const { portId, nicIndex, state } of nics ?? []) if (state === 'connected') this.#connected(portId, nicIndex);
    this.decider.portsChanged?.();
  }

  /** An OID is done. */
  note({ oid }: OidRequest, status: Status): void {
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
    this.decider.portsChanged?.();
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
