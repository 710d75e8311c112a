/**
 * The switch behind the control interface of api.ts. Calls about ports, NICs and properties, and what saves their state, stand in control/; here are those about the switch as a whole,
 * its extensions and its packets.
 */
import type { Batch, Packet, PortId } from '../net/index.ts';
import type {
  DropCount,
  ExtensionInfo,
  PortInfo,
  SwitchCounters,
  SwitchOptions,
  TraceStep,
  VirtualSwitch,
} from './api.ts';
import { Operation } from './control/operation.ts';
import type { JsonObject, JsonValue } from './control/properties.ts';
import { SaveRestore } from './control/save-restore.ts';
import type { DropReasonInfo } from './drop-reason.ts';
import { SwitchError } from './errors.ts';
import type { ExtensionFactory } from './extension.ts';
import type { NicRequest, StatusIndication } from './oid/oid.ts';
import { guarded, refusePromise, watched } from './path/guard.ts';
import { plainJson } from './plain-json.ts';
import type { Slot } from './stack/slot.ts';
import { messageOf } from './thrown.ts';
import { tracePacket } from './trace.ts';

/** A full address table is told of at most once in so long. */
const FULL_TOLD_EVERY_MS = 60_000;

/**
 * Make a switch with no ports and no extensions, not active yet.
 * @throws RangeError for an option that is out of range
 */
export function createSwitch(options: SwitchOptions): VirtualSwitch {
  return new Switch(options);
}

class Switch extends SaveRestore implements VirtualSwitch {
  /** Addresses that had been exchanged when that was told last, and when. */
  #exchangedTold = 0;
  #fullToldMs = Number.NEGATIVE_INFINITY;

  get active(): boolean {
    return this.core.active;
  }

  get counters(): SwitchCounters {
    const { received, originated, delivered, dropped, consumed, copiesDelivered, copiesDropped } = this.core;
    const contextsInUse = this.core.contexts.inUse;
    return { received, originated, delivered, dropped, consumed, copiesDelivered, copiesDropped, contextsInUse };
  }

  activate(): Operation<void> {
    return this.attempt(() => {
      this.checkOpen();
      const slots = this.core.active ? [] : this.stack.flowing();
      this.core.active = true;
      for (const slot of slots) guarded(this.core, slot, 'switchActive', () => slot.extension.switchActive?.());
      return Operation.done<void>(undefined);
    });
  }

  ports(): readonly PortInfo[] {
    const infos: PortInfo[] = [];
    const nowMs = this.core.host.nowMs();
    for (const port of this.core.ports) if (port && port.portId !== 0) infos.push(port.info(nowMs));
    return infos;
  }

  port(portId: number): PortInfo {
    return this.anyPort(portId).info(this.core.host.nowMs());
  }

  findPort(name: string): PortId | null {
    return this.core.ports.find((port) => port && port.portId !== 0 && port.name === name)?.portId ?? null;
  }

  drops(portId: number): readonly DropCount[] {
    const port = portId === 0 ? this.core.ports[0] : this.anyPort(portId);
    const counts: DropCount[] = [];
    port?.drops.forEach((packets, code) => {
      if (packets !== 0) counts.push({ ...this.core.reasons.info(code), packets });
    });
    return counts;
  }

  dropReasons(): readonly DropReasonInfo[] {
    return this.core.reasons.list();
  }

  enableExtension(factory: ExtensionFactory, configuration?: unknown, position?: number): Operation<void> {
    return this.#change(() => {
      this.checkOpen();
      return this.stack.enable(factory, configuration, position);
    });
  }

  disableExtension(name: string): Operation<void> {
    return this.#change(() => this.stack.disable(name));
  }

  reconfigureExtension(name: string, configuration: unknown): Operation<void> {
    return this.#change(() => this.stack.reconfigure(name, configuration));
  }

  failExtension(name: string, error: unknown, where: string): void {
    const slot = this.stack.slots.find((one) => one.name === name);
    if (slot !== undefined) this.stack.fail(slot, error, where);
  }

  moveExtension(name: string, position: number): Operation<void> {
    return this.#change(() => this.stack.move(name, position));
  }

  /** A call that restarts the stack: OIDs that were held back meanwhile go out behind it. */
  #change(call: () => Operation<void>): Operation<void> {
    const operation = this.attempt(call);
    operation.whenSettled(() => this.proceed());
    return operation;
  }

  extensions(): readonly ExtensionInfo[] {
    return this.stack.infos();
  }

  extensionStatus(name: string): JsonValue {
    const slot = this.stack.find(name);
    const status: unknown = guarded(this.core, slot, 'status', () => slot.extension.status?.());
    if (slot.failed) throw new SwitchError('EXTENSION', `extension ${name} failed in ${slot.failure}`);
    return this.#plain(slot, 'status', status ?? null);
  }

  /** What an extension answers with, as JSON of bounded size. @throws SwitchError */
  #plain(slot: Slot, where: string, value: unknown): JsonValue {
    try {
      return watched(this.core, slot.entry, () => plainJson(value));
    } catch (error) {
      const message = `its ${where} cannot be shown: ${messageOf(error)}`;
      this.event({ type: 'misuse', name: slot.name, rule: 44, message });
      throw new SwitchError('EXTENSION', `extension ${slot.name}: ${message}`);
    }
  }

  extensionCommand(name: string, command: string, args: JsonValue): JsonValue {
    const slot = this.stack.find(name);
    if (slot.extension.command === undefined) {
      throw new SwitchError('INVALID', `extension ${name} has no commands`);
    }
    this.core.enter();
    let answer: unknown;
    try {
      answer = watched(this.core, slot.entry, () => {
        const given: unknown = slot.extension.command?.(command, args);
        refusePromise(given, `the command ${command}`);
        return given;
      });
    } catch (error) {
      // A command that is refused is no failure: extensions throw for what they do not know.
      throw new SwitchError('INVALID', `extension ${name}: ${messageOf(error)}`);
    } finally {
      this.core.leave();
    }
    return this.#plain(slot, `answer to ${command}`, answer ?? null);
  }

  extensionConfiguration(name: string): JsonObject | null {
    const slot = this.stack.find(name);
    if (slot.extension.configuration === undefined) return null;
    const given: unknown = guarded(this.core, slot, 'configuration', () => slot.extension.configuration?.());
    if (slot.failed) throw new SwitchError('EXTENSION', `extension ${name} failed in ${slot.failure}`);
    const configuration = this.#plain(slot, 'configuration', given);
    if (typeof configuration !== 'object' || configuration === null || Array.isArray(configuration))
      throw new SwitchError('EXTENSION', `extension ${name}: its configuration is no mapping`);
    return configuration as JsonObject;
  }

  nicRequest(request: NicRequest): Operation<JsonValue> {
    const oid = { kind: 'NIC_REQUEST', request: { ...request } } as const;
    return this.issue(oid, ({ output }) => (output ?? null) as JsonValue);
  }

  indicateNicStatus(indication: StatusIndication): void {
    this.stack.indicate(null, indication);
  }

  receive(portId: number, nicIndex: number, batch: Batch): void {
    this.core.receive(portId, nicIndex, batch);
  }

  tick(): void {
    this.core.enter();
    this.stack.expireHeld();
    this.core.leave();
    this.#tellOfFullTable();
  }

  #tellOfFullTable(): void {
    const { macTable, host } = this.core;
    const nowMs = host.nowMs();
    if (macTable.exchanged === this.#exchangedTold || nowMs - this.#fullToldMs < FULL_TOLD_EVERY_MS) return;
    this.#exchangedTold = macTable.exchanged;
    this.#fullToldMs = nowMs;
    const portId = macTable.fullestPort;
    const { capacity } = macTable;
    this.event({ type: 'addresses-full', portId, addresses: macTable.countOf(portId), capacity });
  }

  trace(packet: Packet, portId: number, nicIndex = 0): readonly TraceStep[] {
    return tracePacket(this.core, this.stack.flowing(), packet, portId, nicIndex);
  }

  close(): Operation<void> {
    if (this.isClosed) return Operation.done<void>(undefined);
    this.isClosed = true;
    this.core.active = false;
    this.core.pathChanged(0);
    let operation = Operation.done<void>(undefined);
    for (const { name } of [...this.stack.slots]) operation = operation.chain(() => this.disableExtension(name));
    for (const port of [...this.core.ports]) {
      if (!port || port.portId === 0) continue;
      operation = operation.chain(() => this.removePort(port.portId));
    }
    return this.#change(() => operation);
  }
}
