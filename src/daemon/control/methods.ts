/**
 * The methods of the control socket: each with the zod schema that checks its parameters and what it does. The types are those of ../api.ts,
 * and the compiler holds both together.
 */
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { MAXIMUM_CAPACITY } from '../../connections/index.ts';
import type { Api, ExtensionInfo, MethodName, PortInfo, Status } from '../api.ts';
import { fixedChanges } from '../config/diff.ts';
import { type Config, type Extension, toFile } from '../config/model.ts';
import { macSchema, nameSchema, stationSchema } from '../config/schema.ts';
import { mergePatch } from '../config/settings.ts';
import {
  ADDRESS_KEEPER,
  type ArgumentsOf,
  type Asked,
  BUILTIN_EXTENSIONS,
  type CommandOf,
  OPEN_VSWITCH,
  type ResultOf,
} from '../extensions.ts';
import type { Method } from '../rpc/dispatch.ts';
import { Failure } from '../rpc/failure.ts';
import type { Connection } from '../rpc/server.ts';
import type { CaptureBroker } from './captures.ts';
import { type Control, checkPort, helpForName } from './control.ts';
import { insertedAt, movedTo } from './stack-order.ts';

const MAX_FRAME_BYTES = 65_550;
/** Programs come within milliseconds, or mostly not at all. */
const PROGRAM_TURNS = 25;
const PROGRAM_TURN_MS = 20;
const none = z.strictObject({});
const vlan = z.int().min(0).max(4094);
const name = z.strictObject({ name: nameSchema });
const fdbFilter = z.strictObject({ port: nameSchema.optional(), vlan: vlan.optional(), mac: macSchema.optional() });
const fileText = z.strictObject({ file: z.string().min(1).max(4096), text: z.string() });
const settings = z.record(z.string().max(64), z.unknown());
const portNumber = z.int().min(0).max(0xffff);
const word = z.int().min(0).max(0xffff_ffff);
const zone = z.int().min(0).max(0xffff);
const connectionFilter = z.strictObject({
  id: word.optional(),
  zone: zone.optional(),
  version: z.literal([4, 6]).optional(),
  protocol: z.string().max(32).optional(),
  source: z.string().max(64).optional(),
  destination: z.string().max(64).optional(),
  address: z.string().max(64).optional(),
  sourcePort: portNumber.optional(),
  destinationPort: portNumber.optional(),
  port: portNumber.optional(),
  state: z.string().max(32).optional(),
  mark: z.strictObject({ value: word, mask: word }).optional(),
  isReplied: z.boolean().optional(),
  nat: z.enum(['source', 'destination', 'any', 'none']).optional(),
});
/** Where to go on in a table; 1 is the beginning. */
const from = z
  .int()
  .min(1)
  .max(MAXIMUM_CAPACITY + 1)
  .optional();
const portFrame = z.strictObject({ port: nameSchema, frame: z.string().max(2 * MAX_FRAME_BYTES) });

/** What the methods need beside the control state. */
export interface MethodServices {
  control: Control;
  captures: CaptureBroker;
  status(): Promise<Status>;
  /**
   * Ask the daemon to end; it does so after this.
   * @param keep leave flows in the kernel @throws Failure when none would go on
   */
  shutdown(keep: boolean): Promise<void>;
}

function hexFrame(text: string): Uint8Array {
  const digits = text.replace(/(0x|[\s:.-])/gi, '');
  if (digits.length === 0 || digits.length % 2 !== 0 || !/^[0-9a-f]+$/i.test(digits)) {
    throw new Failure(
      'invalid-params',
      'the frame is not hexadecimal',
      'write two digits a byte; spaces and colons may stand between them',
    );
  }
  return new Uint8Array(Buffer.from(digits, 'hex'));
}

function find<T>(items: readonly T[], wanted: string, nameOf: (item: T) => string, what: string): T {
  const found = items.find((item) => nameOf(item) === wanted);
  if (found !== undefined) return found;
  throw new Failure('not-found', `there is no ${what} "${wanted}"`, helpForName(wanted, items.map(nameOf), `${what}s`));
}

/** The stack with Open vSwitch in the place of forwarding by learned addresses. */
function withOpenVSwitch(stack: readonly Extension[], socket: string | undefined): Extension[] {
  const others = stack.map((extension) =>
    extension.name === ADDRESS_KEEPER && extension.module === null ? { ...extension, enabled: false } : extension,
  );
  const there = others.find((extension) => extension.name === OPEN_VSWITCH);
  if (there === undefined) {
    const config = socket === undefined ? {} : { socket };
    return [...others, { name: OPEN_VSWITCH, module: null, enabled: true, config }];
  }
  return others.map((extension) => {
    if (extension !== there) return extension;
    return { ...extension, enabled: true, config: socket === undefined ? extension.config : { socket } };
  });
}

/** All methods, ready for the dispatcher. */
export function buildMethods(services: MethodServices): ReadonlyMap<string, Method<Connection>> {
  const { control, captures } = services;
  const { thread } = control;
  const methods = new Map<string, Method<Connection>>();

  /** Register a method; the compiler checks that the schema yields what the handler takes and that the result is the API's. */
  function add<M extends MethodName, S extends z.ZodType>(
    method: M,
    params: S,
    call: (params: z.output<S>, connection: Connection) => Promise<Api[M]['result']> | Api[M]['result'],
    takesOver = false,
  ): void {
    methods.set(method, { params, takesOver, call: (value, connection) => call(value as z.output<S>, connection) });
  }

  async function portInfo(wanted: string): Promise<PortInfo> {
    return find(await thread.call('ports', null), wanted, (port) => port.name, 'port');
  }
  /** A port that was changed, with what has come of a program that had still to be made for it. */
  async function settledPort(wanted: string): Promise<PortInfo> {
    for (let turn = 1; ; turn += 1) {
      const info = await portInfo(wanted);
      if (info.offload?.pending !== true || turn === PROGRAM_TURNS) return info;
      await setTimeout(PROGRAM_TURN_MS);
    }
  }
  /** A port that an extension has added; null for one of the configuration, and for none. */
  async function addedPort(wanted: string): Promise<PortInfo | null> {
    if (control.running.ports.has(wanted)) return null;
    const info = (await thread.call('ports', null)).find((port) => port.name === wanted);
    return info === undefined || info.addedBy === null ? null : info;
  }
  /** Change a port that an extension has added: its settings are kept, but the configuration does not know it. */
  async function setAddedPort(info: PortInfo, changes: Record<string, unknown>): Promise<void> {
    const before = checkPort(info.name, { ...info.config, ...(info.device === '' ? {} : { device: info.device }) });
    const port = checkPort(info.name, mergePatch(before, changes));
    const fixed = fixedChanges(before, port);
    if (port.ovsName !== before.ovsName) fixed.push('ovsName');
    if (fixed.length > 0) {
      const message = `port "${info.name}" was added by the extension ${info.addedBy}, which decides about ${fixed.join(', ')}`;
      throw new Failure('refused', message, 'policies can be set, such as vlan, security, acl, dhcpGuard, routerGuard');
    }
    await control.setAdded(info.name, port);
  }
  const extensions = () => thread.ask('extensions');
  /** A command of an extension that comes with Millrace. */
  async function ask<Name extends Asked, C extends CommandOf<Name>>(
    name: Name,
    command: C,
    args: ArgumentsOf<Name, C>,
  ): Promise<ResultOf<Name, C>> {
    return (await thread.call('extension-command', { name, command, args })).answer as ResultOf<Name, C>;
  }
  /** The forwarding database, by the extension that has it. @throws Failure when it does not run */
  async function askKeeper<C extends CommandOf<typeof ADDRESS_KEEPER>>(
    command: C,
    args: ArgumentsOf<typeof ADDRESS_KEEPER, C>,
  ): Promise<ResultOf<typeof ADDRESS_KEEPER, C>> {
    const keeper = (await extensions()).find(({ name }) => name === ADDRESS_KEEPER);
    if (keeper?.state === 'running') return ask(ADDRESS_KEEPER, command, args);
    const message = `the ${ADDRESS_KEEPER} extension is not running, so that no addresses are kept`;
    throw new Failure('refused', message, 'add or enable it with `millrace extension`');
  }
  const requirePort = (config: Config, wanted: string) => find([...config.ports], wanted, ([key]) => key, 'port')[1];
  const requireExtension = (config: Config, wanted: string) =>
    find(config.extensions, wanted, (extension) => extension.name, 'extension');

  add('status', none, () => services.status());
  add('shutdown', z.strictObject({ keep: z.boolean().optional() }), async ({ keep }) => {
    await services.shutdown(keep === true);
    return { pid: process.pid };
  });

  add('config.apply', fileText, ({ file, text }) => control.apply(control.parse(file, text), file));
  add('config.diff', fileText, ({ file, text }) => control.difference(file, text));
  add('config.show', none, () => toFile(control.running));

  add('port.list', none, async () => {
    const ports = await thread.ask('ports');
    const { stuck } = thread;
    return stuck === null ? ports : ports.map((port) => ({ ...port, reason: stuck }));
  });
  add('port.show', name, async ({ name: wanted }) => {
    const info = await portInfo(wanted);
    return {
      ...info,
      dropReasons: await thread.call('drops', { port: wanted }),
      aclCounts: await thread.call('acl-counts', { port: wanted }),
    };
  });
  add('port.add', z.strictObject({ name: nameSchema, port: settings }), async ({ name: wanted, port }) => {
    const checked = checkPort(wanted, port);
    const added = await addedPort(wanted);
    if (added !== null) {
      const message = `there is a port "${wanted}" already, which the extension ${added.addedBy} has added`;
      throw new Failure('exists', message, 'change it with `millrace port set`');
    }
    await control.change((running) => {
      if (running.ports.has(wanted)) {
        throw new Failure(
          'exists',
          `there is a port "${wanted}" already`,
          'change it with `millrace port set`, or choose another name',
        );
      }
      for (const [other, { device }] of running.ports) {
        if (device !== '' && device === checked.device && checked.kind === 'netdev') {
          throw new Failure('exists', `the interface ${device} belongs to port "${other}" already`);
        }
      }
      return { ...running, ports: new Map(running.ports).set(wanted, checked) };
    });
    return settledPort(wanted);
  });
  add('port.del', name, async ({ name: wanted }) => {
    const added = await addedPort(wanted);
    if (added !== null) {
      const hint = added.addedBy === OPEN_VSWITCH ? `take it off its bridge: ovs-vsctl del-port ${wanted}` : undefined;
      throw new Failure('refused', `port "${wanted}" was added by the extension ${added.addedBy}`, hint);
    }
    await control.change((running) => {
      requirePort(running, wanted);
      const ports = new Map(running.ports);
      ports.delete(wanted);
      const fdb = { ...running.fdb, static: running.fdb.static.filter((entry) => entry.port !== wanted) };
      return { ...running, ports, fdb };
    });
    return null;
  });
  add('port.set', z.strictObject({ name: nameSchema, changes: settings }), async ({ name: wanted, changes }) => {
    const added = await addedPort(wanted);
    if (added !== null) {
      await control.serially(() => setAddedPort(added, changes));
      return settledPort(wanted);
    }
    const before = control.running;
    await control.change((running) => {
      const { device, ...settled } = requirePort(running, wanted);
      const wantedPort = mergePatch(device === '' ? settled : { ...settled, device }, changes);
      return { ...running, ports: new Map(running.ports).set(wanted, checkPort(wanted, wantedPort)) };
    });
    // Settings that are there already are a wish to try them again: a port that failed may find what it needs now.
    if (control.running === before) {
      await control.serially(() =>
        control.operate({ op: 'port-set', name: wanted, port: requirePort(control.running, wanted) }),
      );
    }
    return settledPort(wanted);
  });

  add('extension.list', none, extensions);
  add('extension.show', name, async ({ name: wanted }) => {
    const info = find(await extensions(), wanted, (extension) => extension.name, 'extension');
    const running = info.state === 'running';
    return { ...info, status: running ? await thread.call('extension-status', { name: wanted }) : null };
  });
  add(
    'extension.command',
    z.strictObject({ name: nameSchema, command: z.string().min(1).max(64), args: z.json().optional() }),
    async ({ name: wanted, command, args }) => {
      requireExtension(control.running, wanted);
      const call = { name: wanted, command, args: args ?? null };
      const { answer, isConfigured } = await thread.call('extension-command', call);
      if (isConfigured) await control.configured(wanted);
      return answer;
    },
  );
  add(
    'extension.add',
    z.strictObject({
      name: nameSchema,
      module: z.string().min(1).max(4096).optional(),
      config: z.record(z.string(), z.json()).optional(),
      position: z.int().min(1).max(64).optional(),
    }),
    async ({ name: wanted, module, config, position }) => {
      if (module === undefined && !BUILTIN_EXTENSIONS.includes(wanted)) {
        const hint = `${helpForName(wanted, BUILTIN_EXTENSIONS, 'built-in extensions')}; one of your own needs --module`;
        throw new Failure('not-found', `there is no built-in extension "${wanted}"`, hint);
      }
      const shown = await extensions();
      await control.change((running) => {
        if (running.extensions.some((extension) => extension.name === wanted)) {
          throw new Failure(
            'exists',
            `the extension "${wanted}" is in the stack already`,
            'enable it with `millrace extension enable`',
          );
        }
        const added: Extension = { name: wanted, module: module ?? null, enabled: true, config: config ?? {} };
        const stack = insertedAt(running.extensions, shown, added, position ?? 1);
        return { ...running, extensions: stack };
      });
      return extensions();
    },
  );
  add('extension.del', name, async ({ name: wanted }) => {
    await control.change((running) => {
      requireExtension(running, wanted);
      return { ...running, extensions: running.extensions.filter((extension) => extension.name !== wanted) };
    });
    return extensions();
  });
  const setEnabled = async (wanted: string, enabled: boolean): Promise<ExtensionInfo[]> => {
    const { enabled: before } = requireExtension(control.running, wanted);
    if (before !== enabled) {
      await control.change((running) => ({
        ...running,
        extensions: running.extensions.map((extension) =>
          extension.name === wanted ? { ...extension, enabled } : extension,
        ),
      }));
    } else if (enabled) {
      // Enabled by the configuration, but it may have crashed: then this starts it again.
      const info = (await extensions()).find((extension) => extension.name === wanted);
      if (info?.state === 'crashed') {
        await control.serially(() => control.operate({ op: 'extension-enable', name: wanted, enabled: true }));
      }
    }
    return extensions();
  };
  add('extension.enable', name, ({ name: wanted }) => setEnabled(wanted, true));
  add('extension.disable', name, ({ name: wanted }) => setEnabled(wanted, false));
  add(
    'extension.configure',
    z.strictObject({ name: nameSchema, config: z.record(z.string(), z.json()) }),
    async ({ name: wanted, config }) => {
      await control.change((running) => {
        requireExtension(running, wanted);
        const stack = running.extensions.map((extension) =>
          extension.name === wanted ? { ...extension, config } : extension,
        );
        return { ...running, extensions: stack };
      });
      return extensions();
    },
  );
  add('extension.move', z.strictObject({ name: nameSchema, position: z.int().min(1).max(64) }), async (params) => {
    const shown = await extensions();
    await control.change((running) => {
      requireExtension(running, params.name);
      return { ...running, extensions: movedTo(running.extensions, shown, params.name, params.position) };
    });
    return extensions();
  });

  add('ovs.enable', z.strictObject({ socket: z.string().min(1).max(107).optional() }), async ({ socket }) => {
    await control.change((running) => ({ ...running, extensions: withOpenVSwitch(running.extensions, socket) }));
    const info = find(await setEnabled(OPEN_VSWITCH, true), OPEN_VSWITCH, (extension) => extension.name, 'extension');
    if (info.state !== 'running')
      throw new Failure('failed', `the extension ${OPEN_VSWITCH} is not running: ${info.error ?? ''}`);
    return thread.call('extension-status', { name: OPEN_VSWITCH });
  });

  add('offload.show', none, () => thread.call('offload-show', null));
  add('offload.flows', z.strictObject({ limit: z.int().min(1).max(10_000).optional() }), ({ limit }) =>
    thread.call('offload-flows', { limit: limit ?? 1_000 }),
  );
  add('offload.dump', z.strictObject({ port: nameSchema, verifier: z.boolean().optional() }), async (params) => {
    await portInfo(params.port);
    return thread.call('offload-dump', { port: params.port, verifier: params.verifier === true });
  });

  add(
    'connections.list',
    z.strictObject({ filter: connectionFilter.optional(), from, limit: z.int().min(1).max(1000).optional() }),
    (params) =>
      thread.call('connections-page', {
        filter: params.filter ?? {},
        from: params.from ?? 1,
        limit: params.limit ?? 500,
      }),
  );
  add(
    'connections.flush',
    z.strictObject({ filter: connectionFilter.optional(), all: z.literal(true).optional(), from }),
    ({ filter, all, from: begin }) => {
      const isEmpty = filter === undefined || Object.values(filter).every((value) => value === undefined);
      if (isEmpty === (all !== true)) {
        const message = isEmpty ? 'nothing says which connections to end' : 'all connections, or those of a filter';
        throw new Failure('invalid-params', message, 'give a filter, or "all": true without one');
      }
      return thread.call('connections-flush', { filter: filter ?? {}, from: begin ?? 1 });
    },
  );
  add('connections.stats', z.strictObject({ zones: z.int().min(0).max(65_536).optional() }), ({ zones }) =>
    thread.call('connections-stats', { zones: zones ?? 20 }),
  );
  add('connections.limits', none, () => thread.call('connections-limits', null));
  add('connections.setLimit', z.strictObject({ zone: zone.optional(), limit: word.optional() }), async (params) => {
    await thread.call('connections-limit', { zone: params.zone ?? null, limit: params.limit ?? null });
    return thread.call('connections-limits', null);
  });
  add(
    'connections.changes',
    z.strictObject({ filter: connectionFilter.optional(), after: z.int().min(0).optional() }),
    ({ filter, after }) => thread.call('connections-changes', { filter: filter ?? {}, after: after ?? null }),
  );

  add('fdb.show', fdbFilter, async (filter) => {
    const shown = await askKeeper('show', filter);
    return shown.map(({ mac, vlan, port, static: isStatic, ageSeconds }) => ({
      mac,
      vlan,
      port,
      static: isStatic,
      ageSeconds: isStatic ? null : ageSeconds,
    }));
  });
  add('fdb.flush', fdbFilter, (filter) => askKeeper('flush', filter));
  add('fdb.add', z.strictObject({ mac: stationSchema, vlan, port: nameSchema }), async (entry) => {
    await control.change((running) => {
      requirePort(running, entry.port);
      const others = running.fdb.static.filter((other) => other.mac !== entry.mac || other.vlan !== entry.vlan);
      return { ...running, fdb: { ...running.fdb, static: [...others, entry] } };
    });
    return null;
  });
  add('fdb.del', z.strictObject({ mac: macSchema, vlan }), async (entry) => {
    await control.change((running) => {
      const kept = running.fdb.static.filter((other) => other.mac !== entry.mac || other.vlan !== entry.vlan);
      if (kept.length === running.fdb.static.length) {
        const hint = 'learned entries are removed with `millrace fdb flush --mac`';
        throw new Failure('not-found', `there is no static entry for ${entry.mac} in VLAN ${entry.vlan}`, hint);
      }
      return { ...running, fdb: { ...running.fdb, static: kept } };
    });
    return null;
  });

  add('drops', z.strictObject({ port: nameSchema.optional() }), async ({ port }) => {
    if (port !== undefined) await portInfo(port);
    return thread.call('drops', { port: port ?? null });
  });
  add('trace', portFrame, async ({ port, frame }) => {
    await portInfo(port);
    return thread.call('trace', { port, frame: hexFrame(frame) });
  });
  add('inject', portFrame, async ({ port, frame }) => {
    await portInfo(port);
    return thread.call('inject', { port, frame: hexFrame(frame) });
  });

  const limit = z.strictObject({ limit: z.int().min(0).max(1000).optional() });
  add('events.recent', limit, (params) => control.events.recent(params.limit));
  add('events.subscribe', limit, (params, connection) => {
    connection.subscribe(control.events.subscribe((event) => connection.notify('event', event)));
    return control.events.recent(params.limit);
  });

  add(
    'capture',
    z.strictObject({
      ports: z.array(nameSchema).max(1024).optional(),
      format: z.enum(['pcapng', 'json']),
      snapLengthBytes: z.int().min(64).max(MAX_FRAME_BYTES).optional(),
      count: z.int().min(0).optional(),
      filter: z.string().max(1024).optional(),
    }),
    async ({ ports, format, snapLengthBytes, count, filter }, connection) => {
      if (connection.isSubscribed) {
        const hint = 'capture on a connection of its own';
        throw new Failure('refused', 'this connection carries events, which a capture would be mixed with', hint);
      }
      for (const port of ports ?? []) await portInfo(port);
      const request = { ports: ports ?? [], snapLengthBytes: snapLengthBytes ?? null, filter: filter ?? '' };
      await captures.start(connection, request, format, count ?? 0);
      return { format };
    },
    true,
  );
  return methods;
}
