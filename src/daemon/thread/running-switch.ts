/**
 * The datapath: one switch with its ports, extensions and captures on one event loop. It answers the calls of the control thread; worker.ts
 * brings them and takes the answers back.
 */
import { Connections } from '../../connections/index.ts';
import { CaptureHub, captureExtension } from '../../extensions/capture/index.ts';
import { filterExtension } from '../../extensions/filter/index.ts';
import { learningExtension } from '../../extensions/learning/index.ts';
import { ovsExtension } from '../../extensions/ovs/index.ts';
import type { FlowSource } from '../../flow/index.ts';
import { closeLeftTaps, type EventLoop, type LinkEvent, LinkWatch } from '../../host/index.ts';
import { OffloadKeeper } from '../../keeper/index.ts';
import { Batch, newCounters } from '../../net/index.ts';
import {
  createSwitch,
  type ExtensionFactory,
  type HostServices,
  type JsonValue,
  messageOf,
  type SwitchEvent,
  type VirtualSwitch,
} from '../../switch/index.ts';
import type { AclCount, DaemonEvent, DropCount, PortCounters } from '../api.ts';
import type { Operation as ConfigOperation } from '../config/diff.ts';
import { CAPTURER, OPEN_VSWITCH } from '../extensions.ts';
import type { CallMessage, DatapathCall, DatapathCalls, DatapathSummary, UpMessage } from './calls.ts';
import { captureTakers, DatapathCaptures } from './captures.ts';
import { monotonicMs } from './clock.ts';
import { ConfiguredStack } from './configured-stack.ts';
import { MappedConnections } from './connection-store.ts';
import { failureOf } from './failures.ts';
import { ForwardingDatabase, fullTableText } from './fdb.ts';
import type { GracePeriods } from './grace-periods.ts';
import { SwitchHostTables } from './host-tables.ts';
import { ovsSurroundings } from './ovs.ts';
import { DatapathPorts } from './ports.ts';
import type { Pulse } from './pulse.ts';
import { HandmadeFrames, traceFrame } from './trace.ts';
import { TrackedConnections } from './tracked-connections.ts';

/** How long TAPs that a former process of this daemon has left wait for their ports. */
const LEFT_TAPS_MS = 10_000;
/** How often the switch ages what it knows. */
const TICK_MS = 1_000;

/** What a call gives: its result now, or an operation of the switch that an extension may hold up. */
type Answer<C extends DatapathCall> = DatapathCalls[C]['result'] | Pending;

interface Pending {
  readonly state: 'pending' | 'done' | 'failed';
  readonly error: Error | null;
  whenSettled(listener: () => void): void;
}

const isPending = (value: unknown): value is Pending =>
  typeof value === 'object' && value !== null && 'whenSettled' in value;

/** A running datapath. */
export class RunningSwitch {
  readonly #loop: EventLoop;
  readonly #up: (message: UpMessage) => void;
  readonly #pulse: Pulse;
  /** What is known of connections; whoever tracks any has it of the switch's host services. */
  readonly #connections: Connections;
  readonly #store: MappedConnections;
  readonly #tracked: TrackedConnections;
  readonly #hostTables: SwitchHostTables;
  readonly #switch: VirtualSwitch;
  readonly #offload: OffloadKeeper;
  readonly #ports: DatapathPorts;
  readonly #stack: ConfiguredStack;
  readonly #fdb: ForwardingDatabase;
  readonly #captures: DatapathCaptures;
  readonly #links: LinkWatch;
  readonly #frames = new HandmadeFrames();
  #closed = false;

  /**
   * @param up takes what is said to the control thread
   * @param identity path that names this daemon among others
   * @param pulse where what runs is written down
   * @param graces grace periods of the kernel
   */
  constructor(loop: EventLoop, up: (message: UpMessage) => void, identity: string, pulse: Pulse, graces: GracePeriods) {
    this.#loop = loop;
    this.#up = up;
    this.#pulse = pulse;
    this.#store = new MappedConnections(
      identity,
      (message) => this.#event('warning', '', message),
      () => this.#offload.setConnections(this.#store.references),
    );
    this.#connections = new Connections({ nowMs: monotonicMs, store: this.#store });
    this.#tracked = new TrackedConnections(this.#connections, monotonicMs, (id) => this.#ports.nameOf(id));
    this.#hostTables = new SwitchHostTables(loop, (message) => this.#event('warning', '', message));
    this.#switch = createSwitch({ name: 'default', host: this.#hostServices() });
    this.#switch.onEvent((event) => this.#onSwitchEvent(event));
    this.#switch.activate();
    const hub = new CaptureHub();
    this.#offload = new OffloadKeeper({
      loop,
      takers: captureTakers(hub),
      identity,
      programs: graces,
      nowMs: monotonicMs,
      warn: (message, port = '') => this.#event('warning', port, message),
      say: (message, port) => this.#event('port-offload', port, message),
      log: (message, fields) => this.#log('debug', message, fields),
      portOf: (id) => this.#ports.withId(id),
      extensionRuns: (name) => this.#stack.running(name),
    });
    this.#adoptConnections(this.#store);
    hub.copyFrom(this.#offload.copies);
    this.#ports = new DatapathPorts(this.#switch, loop, this.#offload, {
      onState: (port, message) => this.#event('port-state', port.name, message),
      onWarning: (port, message) => this.#event('warning', port, `port ${port}: ${message}`),
      onLost: (port) => this.#fdb.forgetPort(port.name),
      onUserPort: ({ name, config: { kind, device } }, isThere) =>
        up({ type: 'user-port', port: { name, kind, device, isThere } }),
    });
    const builtins = new Map(
      [learningExtension, filterExtension, captureExtension(hub), ovsExtension].map(
        (factory): [string, ExtensionFactory] => [factory.descriptor.name, factory as ExtensionFactory],
      ),
    );
    this.#stack = new ConfiguredStack(this.#switch, builtins, (extension) => this.#fdb.settingsFor(extension), pulse);
    this.#fdb = new ForwardingDatabase(this.#stack, this.#ports);
    pulse.onOutside = (what, name) => this.#onOutside(what, name);
    this.#captures = new DatapathCaptures(this.#switch, hub, () => this.#stack.running(CAPTURER));
    loop.timers.every(TICK_MS, { onTimer: () => this.#tick() });
    const heard = (index: number) => {
      this.#offload.heard(index);
      this.#ports.devices.heard(index);
    };
    this.#links = new LinkWatch({ elsewhere: true, heard });
    loop.add(this.#links.fileDescriptor, {
      onReady: () => this.#onLinks(this.#links.process()),
      onError: () => this.#onLinks(this.#links.lost()),
    });
  }

  #onLinks(events: readonly LinkEvent[]): void {
    for (const event of events) {
      if (event.type === 'removed') this.#offload.gone(event.link.index, event.movedTo);
    }
    if (events.length > 0) this.#ports.devices.reexamineAll();
    if (this.#links.takeElsewhere()) this.#ports.devices.reexamineElsewhere();
    this.#ports.devices.followStations();
  }

  #adoptConnections(store: MappedConnections): void {
    try {
      const report = this.#connections.adopt();
      if (report === null) return;
      this.#log('info', 'connections that were left go on', { ...report });
      this.#offload.setConnections(store.references);
    } catch (error) {
      this.#event('warning', '', `connections that were left cannot be taken up: ${messageOf(error)}`);
    }
  }

  /** Carry out a call and answer it, now or when it is done. */
  handle(message: CallMessage): void {
    const { id, call, params } = message;
    const fail = (error: unknown) => {
      const { kind, message: text, hint } = failureOf(error);
      this.#up({ type: 'failure', id, kind, message: text, hint });
    };
    try {
      const answer = this.#answer(call, params as never);
      if (!isPending(answer)) {
        this.#up({ type: 'reply', id, result: answer });
        return;
      }
      answer.whenSettled(() => {
        if (answer.error === null) this.#up({ type: 'reply', id, result: null });
        else fail(answer.error);
      });
    } catch (error) {
      fail(error);
    }
  }

  /**
   * Something threw that an extension has begun and not waited for.
   * @param name of the extension; null when that is not known
   */
  failedOutside(error: unknown, name: string | null): void {
    const where = "what it has begun outside of the packets' loop";
    if (name !== null && this.#stack.running(name)) {
      this.#switch.failExtension(name, error, where);
      return;
    }
    this.#event(
      'warning',
      name ?? '',
      `something failed in ${name ?? 'an extension'}, in ${where}: ${messageOf(error)}`,
    );
  }

  /** What all code shares was changed while no extension was in: whoever may have done it is named. @returns number of the only one that may */
  #onOutside(what: string, by: string | null): number {
    if (by !== null && this.#stack.running(by)) {
      this.#switch.failExtension(by, new Error(what), 'between two calls');
      return this.#pulse.numberOf(by);
    }
    const modules = this.#stack.list().filter(({ module, state }) => module !== null && state === 'running');
    if (modules.length === 1) {
      const [{ name }] = modules;
      this.#switch.failExtension(name, new Error(what), 'between two calls');
      return this.#pulse.numberOf(name);
    }
    const names = modules.map(({ name }) => name).join(', ');
    const who = names === '' ? 'an extension that does not run any more' : `one of the extensions ${names}`;
    this.#event('warning', '', `between two calls, ${who}: ${what}`);
    return 0;
  }

  /**
   * Give every device back.
   * @param keep leave flows in the kernel for the next daemon
   */
  close(keep = false): void {
    if (this.#closed) return;
    this.#closed = true;
    const leaves = keep || this.#offload.isTakingUp;
    if (leaves) this.#offload.leave();
    this.#loop.remove(this.#links.fileDescriptor);
    this.#links.close();
    this.#ports.close();
    this.#switch.close();
    this.#hostTables.close();
    this.#connections.close(leaves);
    if (!leaves) this.#offload.close();
  }

  #answer<C extends DatapathCall>(call: C, params: DatapathCalls[C]['params']): Answer<DatapathCall> {
    const handlers: { [K in DatapathCall]: (given: DatapathCalls[K]['params']) => Answer<K> } = {
      operate: (operation) => this.#operate(operation) ?? null,
      'keep-settings': (settings) => {
        this.#ports.keepSettings(settings);
        return null;
      },
      summary: () => this.#summary(),
      ports: () => this.#ports.list(),
      extensions: () => this.#stack.list(),
      'extension-status': ({ name }) => this.#stack.status(name),
      'extension-command': ({ name, command, args }) => this.#stack.run(name, command, args as JsonValue),
      'extension-config': ({ name }) => this.#stack.configOf(name),
      drops: ({ port }) => this.#drops(port),
      'acl-counts': ({ port }) => this.#aclCounts(port),
      trace: ({ port, frame }) => {
        const packet = this.#frames.make(frame);
        try {
          return traceFrame(this.#switch, this.#ports.get(port), packet, (id) => this.#ports.nameOf(id));
        } finally {
          packet.release();
        }
      },
      inject: ({ port, frame }) => {
        const batch = new Batch();
        const { id } = this.#ports.get(port);
        batch.push(this.#frames.make(frame));
        this.#switch.receive(id, 0, batch);
        return null;
      },
      'capture-open': (request) => this.#captures.open(request, (name) => this.#ports.get(name).id),
      'capture-close': ({ id }) => this.#captures.close(id),
      'connections-page': (request) => this.#tracked.page(request),
      'connections-flush': ({ filter, from }) => this.#tracked.flush(filter, from),
      'connections-stats': ({ zones }) => this.#tracked.statistics(zones),
      'connections-limits': () => this.#tracked.limits(),
      'connections-limit': ({ zone, limit }) => {
        this.#tracked.setLimit(zone, limit);
        return null;
      },
      'connections-changes': ({ filter, after }) => this.#tracked.changes(filter, after),
      'offload-show': () => this.#offload.show(),
      'offload-flows': ({ limit }) => this.#offload.flows(limit),
      'offload-dump': ({ port, verifier }) => ({ text: this.#offload.dump(this.#ports.get(port), verifier) }),
      started: () => {
        this.#offload.started();
        // Who makes ports at run time, such as ovs-vswitchd, has had the time to ask for them again by then.
        this.#loop.timers.once(LEFT_TAPS_MS, { onTimer: closeLeftTaps });
        return null;
      },
      stop: ({ keep }) => {
        const { fate } = this.#offload;
        this.close(keep);
        this.#loop.stop();
        return fate;
      },
    };
    return handlers[call](params);
  }

  #operate(operation: ConfigOperation): Pending | null {
    switch (operation.op) {
      case 'port-add':
        return this.#then(this.#ports.add(operation.name, operation.port), () => {
          this.#fdb.portsChanged();
          this.#event('port-added', operation.name, `port ${operation.name} was added`);
        });
      case 'port-del':
        return this.#then(this.#ports.remove(operation.name), () => {
          this.#fdb.portsChanged();
          this.#event('port-removed', operation.name, `port ${operation.name} was removed`);
        });
      case 'port-set':
        return this.#then(this.#ports.set(operation.name, operation.port), () => this.#fdb.portsChanged());
      case 'extension-add':
        return this.#stackChange(() =>
          this.#stack.add(operation.extension, operation.index, operation.heldBack ?? null),
        );
      case 'extension-del':
        return this.#stackChange(() => this.#stack.remove(operation.name));
      case 'extension-enable':
        return this.#stackChange(() => this.#stack.setEnabled(operation.name, operation.enabled));
      case 'extension-configure':
        return this.#stackChange(() => this.#stack.configure(operation.name, operation.config));
      case 'extension-move':
        return this.#stack.move(operation.name, operation.index);
      case 'fdb-settings':
        return this.#fdb.setSettings(operation.ageingSeconds, operation.maximum);
      case 'fdb-add':
        return this.#fdb.addStatic(operation.entry);
      case 'fdb-del':
        return this.#fdb.removeStatic(operation.entry);
      case 'offload':
        return this.#ports.setOffload(operation.mode);
      case 'connections':
        this.#setConnections(operation.maximum);
        return null;
    }
  }

  #setConnections(maximum: number): void {
    this.#connections.maximum = maximum;
    const size = this.#connections.table?.capacity ?? maximum;
    if (size === maximum) return;
    this.#event('warning', '', `connections: the table keeps its size, with room for ${size}, until \`millrace down\``);
  }

  #then(pending: Pending, after: () => void): Pending {
    pending.whenSettled(() => {
      if (pending.error === null) after();
    });
    return pending;
  }

  /** Change the stack; a capture of ours must not run beside a configured one. */
  #stackChange(change: () => Pending | null): Pending | null {
    const pending = change();
    if (pending === null) this.#captures.reconcile();
    else pending.whenSettled(() => this.#captures.reconcile());
    return pending;
  }

  #tick(): void {
    this.#pulse.look();
    this.#switch.tick();
    this.#connections.tick();
    this.#store.lookAfter();
    for (const { subject, message } of this.#fdb.takeMoves()) this.#event('address-moved', subject, message);
    const full = this.#fdb.takeFull(monotonicMs());
    if (full !== null) this.#event('warning', full.subject, full.message);
    const pressure = this.#tracked.tick(monotonicMs());
    if (pressure !== null) this.#event('warning', '', pressure);
  }

  #summary(): DatapathSummary {
    const ports = this.#ports.list();
    const counters: PortCounters = newCounters();
    let drops = sumOf(this.#switch.drops(0));
    for (const port of ports) {
      for (const key of Object.keys(counters) as (keyof PortCounters)[]) counters[key] += port.counters[key];
      drops += port.drops;
    }
    return {
      ports: { total: ports.length, up: ports.filter((port) => port.state === 'up').length },
      overloaded: [...this.#ports.all()]
        .filter((port) => this.#offload.overloadOf(port) !== null)
        .map(({ name }) => name),
      counters,
      drops,
      learnedAddresses: this.#fdb.count(),
      fullAddressTable: this.#fdb.full(),
      connections: this.#tracked.fill,
    };
  }

  #drops(only: string | null): DropCount[] {
    const named = only === null ? [{ name: '', id: 0 }, ...this.#ports.all()] : [this.#ports.get(only)];
    return named.flatMap(({ name, id }) =>
      this.#switch.drops(id).map((drop) => ({ port: name, reason: drop.name, text: drop.text, packets: drop.packets })),
    );
  }

  /** What the rules of a port have matched; nothing while an extension holds up the question. */
  #aclCounts(name: string): AclCount[] {
    const asked = this.#switch.featureStatus('acl', this.#ports.get(name).id);
    if (asked.state === 'pending') return [];
    const { in: inbound, out: outbound } = asked.result() as unknown as Readonly<Record<'in' | 'out', AclCount[]>>;
    return [...inbound, ...outbound];
  }

  #onSwitchEvent(event: SwitchEvent): void {
    switch (event.type) {
      case 'extension-failed': {
        const { at, stack } = this.#stack.failed(event.name, event.error);
        const message = `the extension ${event.name} crashed in ${event.where} and is disabled: ${event.error.message}${at}`;
        this.#event('extension-crashed', event.name, message);
        if (stack !== null) this.#log('debug', stack, { extension: event.name });
        return;
      }
      case 'extension-keeps':
        this.#event('warning', event.name, `the extension ${event.name}: ${event.message}`);
        return;
      case 'misuse':
        this.#event('warning', event.name, `the extension ${event.name} broke rule ${event.rule}: ${event.message}`);
        return;
      case 'nic-failed':
        this.#event(
          'warning',
          this.#ports.nameOf(event.portId),
          `port ${this.#ports.nameOf(event.portId)}: ${event.error.message}`,
        );
        return;
      case 'bindings-full': {
        const name = this.#ports.nameOf(event.portId);
        const message = `port ${name}: it has learned ${event.limit} addresses, as many as it may; hosts with further ones are refused. Raise limit of its addressBinding`;
        this.#event('warning', name, message);
        return;
      }
      case 'addresses-full': {
        const name = this.#ports.nameOf(event.portId);
        this.#event('warning', name, fullTableText(event.capacity, name, event.addresses));
        return;
      }
      case 'extension':
        if (event.state === 'Running' || event.state === 'Detached') {
          this.#event(
            'extension-changed',
            event.name,
            `the extension ${event.name} is ${event.state === 'Running' ? 'running' : 'stopped'}`,
          );
        }
        return;
      default:
    }
  }

  #event(type: DaemonEvent['type'], subject: string, message: string): void {
    this.#up({ type: 'event', event: { timeMs: Date.now(), type, subject, message } });
  }

  #log(level: 'debug' | 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown>): void {
    this.#up({ type: 'log', level, message, fields });
  }

  #hostServices(): HostServices {
    return {
      nowMs: monotonicMs,
      entered: this.#pulse,
      log: (level, message, fields) => this.#log(level, message, { ...fields }),
      services: {
        ovs: ovsSurroundings(
          this.#loop,
          () => this.#ports,
          (message, subject = OPEN_VSWITCH) => this.#event('warning', subject, message),
          (portId) => this.#offload.holdBack(portId),
        ),
        connections: this.#connections,
        hostTables: this.#hostTables,
        // Programs hand up what HeaderOffsets finds malformed.
        flows: { strict: true, register: (source: FlowSource) => this.#offload.register(source) },
      },
      setTimer: (delayMs, callback) => this.#loop.timers.once(delayMs, { onTimer: callback }),
    };
  }
}

function sumOf(drops: readonly { packets: number }[]): number {
  return drops.reduce((sum, drop) => sum + drop.packets, 0);
}
