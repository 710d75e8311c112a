/**
 * The switch: puts the parts together behind the control interface of api.ts. Look here for who does what.
 */
import { type Batch, ClonePool, type Packet, PacketPool, type PortId } from '../net/index.ts';
import type {
  DropCount,
  ExtensionInfo,
  NicOptions,
  PortInfo,
  PortOptions,
  SwitchCounters,
  SwitchEvent,
  SwitchOptions,
  TraceStep,
  VirtualSwitch,
} from './api.ts';
import { Control } from './control/control.ts';
import { Operation } from './control/operation.ts';
import { PortControl } from './control/port-control.ts';
import type { JsonValue, PortPropertyType, SwitchProperty } from './control/properties.ts';
import { PropertyControl } from './control/property-control.ts';
import { SaveRestore } from './control/save-restore.ts';
import type { DropReasonInfo } from './drop-reason.ts';
import { SwitchError } from './errors.ts';
import type { ExtensionFactory } from './extension.ts';
import { Miniport } from './oid/miniport.ts';
import type { NicRequest, SavedState, StatusIndication } from './oid/oid.ts';
import { OidPath } from './oid/oid-path.ts';
import { indicateStatus } from './oid/status-path.ts';
import { SwitchCore } from './path/core.ts';
import { guarded, refusePromise, watched } from './path/guard.ts';
import { plainJson } from './plain-json.ts';
import { Handle, type HandleSurroundings } from './stack/handle.ts';
import type { Slot } from './stack/slot.ts';
import { ExtensionStack } from './stack/stack.ts';
import { messageOf } from './thrown.ts';
import { tracePacket } from './trace.ts';

/** A full address table is told of at most once in so long. */
const FULL_TOLD_EVERY_MS = 60_000;
const DEFAULTS = {
  maxContexts: 16_384,
  macTableCapacity: 16_384,
  macAgeingSeconds: 300,
  extensionPackets: 1024,
  extensionPacketBytes: 2048,
} as const;

/**
 * Make a switch with no ports and no extensions, not active yet.
 * @throws RangeError for an option that is out of range
 */
export function createSwitch(options: SwitchOptions): VirtualSwitch {
  return new Switch(options);
}

class Switch implements VirtualSwitch {
  readonly name: string;
  readonly #core: SwitchCore;
  readonly #stack: ExtensionStack;
  readonly #oids: OidPath;
  readonly #miniport: Miniport;
  readonly #control: Control;
  readonly #ports: PortControl;
  readonly #properties: PropertyControl;
  readonly #saved: SaveRestore;
  readonly #listeners = new Set<(event: SwitchEvent) => void>();
  #closed = false;
  /** Addresses that had been exchanged when that was told last, and when. */
  #exchangedTold = 0;
  #fullToldMs = Number.NEGATIVE_INFINITY;

  constructor(options: SwitchOptions) {
    this.name = options.name;
    this.#core = new SwitchCore({
      host: options.host,
      maxContexts: within('maxContexts', options.maxContexts ?? DEFAULTS.maxContexts, 1, 1 << 22),
      macTableCapacity: options.macTableCapacity ?? DEFAULTS.macTableCapacity,
      macAgeingSeconds: within('macAgeingSeconds', options.macAgeingSeconds ?? DEFAULTS.macAgeingSeconds, 0, 1e9),
      forwardLinkLocal: options.forwardLinkLocal ?? false,
      hybridForwarding: options.hybridForwarding ?? true,
      verifyData: options.verifyData ?? false,
    });
    const event = (happened: SwitchEvent): void => this.#emit(happened);
    this.#stack = new ExtensionStack(this.#core, (slot) => new Handle(surroundings, slot), event);
    this.#miniport = new Miniport(this.#core, options.name);
    this.#oids = new OidPath({
      slots: () => this.#stack.flowing(),
      execute: (flight) => this.#miniport.execute(flight),
      portReferences: (slot, portId) => this.#core.ports[portId]?.references.get(slot.id) ?? 0,
      call: (slot, where, call) => guarded(this.#core, slot, where, call),
      event,
      settled: () => this.#proceed(),
    });
    this.#stack.connect(this.#oids);
    const surroundings: HandleSurroundings = {
      core: this.#core,
      stack: this.#stack,
      oids: this.#oids,
      clones: new ClonePool(this.#core.options.maxContexts),
      pool: new PacketPool({
        packets: within('extensionPackets', options.extensionPackets ?? DEFAULTS.extensionPackets, 1, 1 << 20),
        bufferBytes: options.extensionPacketBytes ?? DEFAULTS.extensionPacketBytes,
      }),
      event,
    };
    this.#control = new Control(this.#core, this.#stack, this.#oids, event);
    this.#ports = new PortControl(this.#control);
    this.#properties = new PropertyControl(this.#control, this.#miniport);
    this.#saved = new SaveRestore(this.#control);
    this.#core.onEvent = event;
    this.#core.waiters = () => this.#proceed();
  }

  get active(): boolean {
    return this.#core.active;
  }

  get counters(): SwitchCounters {
    const { received, originated, delivered, dropped, consumed, copiesDelivered, copiesDropped } = this.#core;
    const contextsInUse = this.#core.contexts.inUse;
    return { received, originated, delivered, dropped, consumed, copiesDelivered, copiesDropped, contextsInUse };
  }

  /** Whatever waited for packets, references or OIDs may be able to go on. */
  #proceed(): void {
    if (this.#stack.changing) this.#stack.proceed();
    this.#control.proceed();
  }

  #emit(event: SwitchEvent): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event);
      } catch (error) {
        this.#core.host.log('error', `a listener of switch ${this.name} failed: ${messageOf(error)}`);
      }
    }
  }

  onEvent(listener: (event: SwitchEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  activate(): Operation<void> {
    if (this.#closed) return Operation.failed(new SwitchError('CLOSED', `switch ${this.name} is closed`));
    if (this.#core.active) return Operation.done<void>(undefined);
    this.#core.active = true;
    for (const slot of [...this.#stack.flowing()]) {
      guarded(this.#core, slot, 'switchActive', () => slot.extension.switchActive?.());
    }
    return Operation.done<void>(undefined);
  }

  createPort(options: PortOptions): Operation<PortId> {
    if (this.#closed) return Operation.failed(new SwitchError('CLOSED', `switch ${this.name} is closed`));
    return this.#ports.createPort(options);
  }

  updatePort(portId: number, changes: { readonly name: string }): Operation<void> {
    return this.#ports.updatePort(portId, changes);
  }

  teardownPort(portId: number): Operation<void> {
    return this.#ports.teardownPort(portId);
  }

  deletePort(portId: number): Operation<void> {
    return this.#ports.deletePort(portId);
  }

  removePort(portId: number): Operation<void> {
    return this.#ports.removePort(portId);
  }

  createNic(portId: number, options: NicOptions): Operation<void> {
    return this.#ports.createNic(portId, options);
  }

  connectNic(portId: number, nicIndex = 0): Operation<void> {
    return this.#ports.connectNic(portId, nicIndex);
  }

  updateNic(
    portId: number,
    nicIndex: number,
    changes: { readonly name?: string; readonly mtuBytes?: number; readonly macAddress?: Uint8Array },
  ): Operation<void> {
    return this.#ports.updateNic(portId, nicIndex, changes);
  }

  setNicLink(portId: number, nicIndex: number, isUp: boolean): void {
    this.#ports.setNicLink(portId, nicIndex, isUp);
  }

  disconnectNic(portId: number, nicIndex = 0): Operation<void> {
    return this.#ports.disconnectNic(portId, nicIndex);
  }

  deleteNic(portId: number, nicIndex = 0): Operation<void> {
    return this.#ports.deleteNic(portId, nicIndex);
  }

  setPortProperty(portId: number, property: unknown): Operation<void> {
    return this.#properties.setPortProperty(portId, property);
  }

  deletePortProperty(portId: number, type: PortPropertyType, propertyId?: string): Operation<void> {
    return this.#properties.deletePortProperty(portId, type, propertyId);
  }

  addSwitchProperty(property: SwitchProperty): Operation<void> {
    return this.#properties.addSwitchProperty(property);
  }

  updateSwitchProperty(property: SwitchProperty): Operation<void> {
    return this.#properties.updateSwitchProperty(property);
  }

  deleteSwitchProperty(propertyId: string): Operation<void> {
    return this.#properties.deleteSwitchProperty(propertyId);
  }

  switchProperties(): readonly SwitchProperty[] {
    return [...this.#miniport.switchProperties.values()];
  }

  featureStatus(featureId: string, portId?: number): Operation<JsonValue> {
    return this.#properties.featureStatus(featureId, portId);
  }

  ports(): readonly PortInfo[] {
    const infos: PortInfo[] = [];
    const nowMs = this.#core.host.nowMs();
    for (const port of this.#core.ports) if (port && port.portId !== 0) infos.push(port.info(nowMs));
    return infos;
  }

  port(portId: number): PortInfo {
    return this.#control.anyPort(portId).info(this.#core.host.nowMs());
  }

  findPort(name: string): PortId | null {
    return this.#core.ports.find((port) => port && port.portId !== 0 && port.name === name)?.portId ?? null;
  }

  drops(portId: number): readonly DropCount[] {
    const port = portId === 0 ? this.#core.ports[0] : this.#control.anyPort(portId);
    const counts: DropCount[] = [];
    port?.drops.forEach((packets, code) => {
      if (packets !== 0) counts.push({ ...this.#core.reasons.info(code), packets });
    });
    return counts;
  }

  dropReasons(): readonly DropReasonInfo[] {
    return this.#core.reasons.list();
  }

  enableExtension(factory: ExtensionFactory, configuration?: unknown, position?: number): Operation<void> {
    if (this.#closed) return Operation.failed(new SwitchError('CLOSED', `switch ${this.name} is closed`));
    return this.#changed(this.#stack.enable(factory, configuration, position));
  }

  disableExtension(name: string): Operation<void> {
    return this.#changed(this.#stack.disable(name));
  }

  reconfigureExtension(name: string, configuration: unknown): Operation<void> {
    return this.#changed(this.#stack.reconfigure(name, configuration));
  }

  failExtension(name: string, error: unknown, where: string): void {
    const slot = this.#stack.slots.find((one) => one.name === name);
    if (slot !== undefined) this.#stack.fail(slot, error, where);
  }

  moveExtension(name: string, position: number): Operation<void> {
    return this.#changed(this.#stack.move(name, position));
  }

  /** OIDs that were held back while the stack restarted go out now. */
  #changed(operation: Operation<void>): Operation<void> {
    operation.whenSettled(() => this.#control.proceed());
    return operation;
  }

  extensions(): readonly ExtensionInfo[] {
    return this.#stack.infos();
  }

  extensionStatus(name: string): JsonValue {
    const slot = this.#stack.find(name);
    const status: unknown = guarded(this.#core, slot, 'status', () => slot.extension.status?.());
    if (slot.failed) throw new SwitchError('EXTENSION', `extension ${name} failed in ${slot.failure}`);
    return this.#plain(slot, 'status', status ?? null);
  }

  /** What an extension answers with, as JSON of bounded size. @throws SwitchError */
  #plain(slot: Slot, where: string, value: unknown): JsonValue {
    try {
      return watched(this.#core, slot.entry, () => plainJson(value));
    } catch (error) {
      const message = `its ${where} cannot be shown: ${messageOf(error)}`;
      this.#emit({ type: 'misuse', name: slot.name, rule: 44, message });
      throw new SwitchError('EXTENSION', `extension ${slot.name}: ${message}`);
    }
  }

  extensionCommand(name: string, command: string, args: JsonValue): JsonValue {
    const slot = this.#stack.find(name);
    if (slot.extension.command === undefined) {
      throw new SwitchError('INVALID', `extension ${name} has no commands`);
    }
    this.#core.enter();
    let answer: unknown;
    try {
      answer = watched(this.#core, slot.entry, () => {
        const given: unknown = slot.extension.command?.(command, args);
        refusePromise(given, `the command ${command}`);
        return given;
      });
    } catch (error) {
      // A command that is refused is no failure: extensions throw for what they do not know.
      throw new SwitchError('INVALID', `extension ${name}: ${messageOf(error)}`);
    } finally {
      this.#core.leave();
    }
    return this.#plain(slot, `answer to ${command}`, answer ?? null);
  }

  saveNic(portId: number, nicIndex: number): Operation<readonly SavedState[]> {
    return this.#saved.save(portId, nicIndex);
  }

  restoreNic(portId: number, nicIndex: number, saved: readonly SavedState[]): Operation<readonly string[]> {
    return this.#saved.restore(portId, nicIndex, saved);
  }

  nicRequest(request: NicRequest): Operation<JsonValue> {
    return this.#control.issue<JsonValue>({ kind: 'NIC_REQUEST', request: { ...request } }, (done, error, flight) => {
      if (error !== null) done.reject(error);
      else done.resolve((flight.output ?? null) as JsonValue);
    });
  }

  indicateNicStatus(indication: StatusIndication): void {
    indicateStatus(this.#core, this.#stack, null, indication, (event) => this.#emit(event));
  }

  receive(portId: number, nicIndex: number, batch: Batch): void {
    this.#core.receive(portId, nicIndex, batch);
  }

  tick(): void {
    this.#core.enter();
    this.#stack.expireHeld();
    this.#core.leave();
    this.#tellOfFullTable();
  }

  #tellOfFullTable(): void {
    const { macTable, host } = this.#core;
    const nowMs = host.nowMs();
    if (macTable.exchanged === this.#exchangedTold || nowMs - this.#fullToldMs < FULL_TOLD_EVERY_MS) return;
    this.#exchangedTold = macTable.exchanged;
    this.#fullToldMs = nowMs;
    const portId = macTable.fullestPort;
    const { capacity } = macTable;
    this.#emit({ type: 'addresses-full', portId, addresses: macTable.countOf(portId), capacity });
  }

  trace(packet: Packet, portId: number, nicIndex = 0): readonly TraceStep[] {
    return tracePacket(this.#core, this.#stack.flowing(), packet, portId, nicIndex);
  }

  close(): Operation<void> {
    if (this.#closed) return Operation.done<void>(undefined);
    this.#closed = true;
    this.#core.active = false;
    this.#core.pathChanged();
    let operation = Operation.done<void>(undefined);
    for (const slot of [...this.#stack.slots]) {
      operation = operation.chain(() => this.#stack.disable(slot.name));
    }
    for (const port of [...this.#core.ports]) {
      if (!port || port.portId === 0) continue;
      operation = operation.chain(() => this.#ports.removePort(port.portId));
    }
    return this.#changed(operation);
  }
}

function within(name: string, value: number, low: number, high: number): number {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} of ${value} is not an integer from ${low} to ${high}`);
  }
  return value;
}
