/**
 * The extension stack as the configuration sees it: one list from the top, with disabled and crashed extensions in their places. The switch
 * knows only those that run, each type in an order of its own; here one is translated into the other.
 */
import { isDeepStrictEqual } from 'node:util';
import {
  type ExtensionFactory,
  type ExtensionType,
  type JsonValue,
  type Operation,
  TYPE_ORDER,
  type VirtualSwitch,
} from '../../switch/index.ts';
import type { ExtensionInfo } from '../api.ts';
import type { Extension } from '../config/model.ts';
import type { ArgumentsOf, Asked, BuiltinStatus, CommandOf, ResultOf } from '../extensions.ts';
import { Failure } from '../rpc/failure.ts';
import { loadExtensionModule } from './load-module.ts';
import { placeText, type SourceFiles } from './modules/places.ts';
import type { Pulse } from './pulse.ts';

interface Entry {
  extension: Extension;
  /** Null while it is held back: its module is not even loaded. */
  factory: ExtensionFactory | null;
  /** What a user's module was made of when it was loaded last; null for those that come with Millrace. */
  files: SourceFiles | null;
  enabled: boolean;
  /** Why it is not started although it is enabled; null for nothing. */
  heldBack: string | null;
  /** Where in the user's source it failed last, such as ` (/etc/millrace/counter.ts:12:5)`; empty when that is not known. */
  failedAt: string;
}

/** What failed, in terms of the user's source. */
export interface FailureInSource {
  /** See {@link Entry.failedAt}. */
  readonly at: string;
  readonly stack: string | null;
}

/** The same factory under the name of the configuration, so that a module can be used twice. */
function renamed(factory: ExtensionFactory, name: string): ExtensionFactory {
  const { parseConfiguration } = factory;
  return {
    descriptor: { ...factory.descriptor, name },
    isForeign: true,
    ...(parseConfiguration === undefined
      ? {}
      : { parseConfiguration: (value) => parseConfiguration.call(factory, value) }),
    create: (handle, configuration) => factory.create(handle, configuration),
  };
}

/** As the switch has them. One whose module has not been loaded has no type yet, and stays behind the one that it is listed behind. */
function inOrder(entries: readonly Entry[]): Entry[] {
  let place = 0;
  return entries
    .map((entry) => {
      if (entry.factory !== null) place = TYPE_ORDER.indexOf(entry.factory.descriptor.type);
      return { entry, place };
    })
    .sort((one, other) => one.place - other.place)
    .map(({ entry }) => entry);
}

/** The extensions of one switch. */
export class ConfiguredStack {
  readonly #switch: VirtualSwitch;
  readonly #builtins: ReadonlyMap<string, ExtensionFactory>;
  /** What an extension is given: its own settings, and for learning the forwarding database's. */
  readonly #settingsOf: (extension: Extension) => Record<string, unknown>;
  readonly #pulse: Pulse;
  readonly #entries: Entry[] = [];

  constructor(
    virtualSwitch: VirtualSwitch,
    builtins: ReadonlyMap<string, ExtensionFactory>,
    settingsOf: (extension: Extension) => Record<string, unknown>,
    pulse: Pulse,
  ) {
    this.#switch = virtualSwitch;
    this.#builtins = builtins;
    this.#settingsOf = settingsOf;
    this.#pulse = pulse;
  }

  /**
   * Insert, and start it when it is enabled.
   * @param heldBack why it is not to be started before somebody enables it; null for nothing
   * @throws Failure when its module cannot be loaded
   */
  add(extension: Extension, index: number, heldBack: string | null): Operation<void> | null {
    const entry: Entry = { extension, factory: null, files: null, enabled: false, heldBack, failedAt: '' };
    if (heldBack !== null) {
      entry.enabled = extension.enabled;
      this.#entries.splice(index, 0, entry);
      return null;
    }
    const factory = this.#factoryOf(entry);
    this.#entries.splice(index, 0, entry);
    if (!extension.enabled) return null;
    return this.#start(entry, factory, () => this.#entries.splice(this.#entries.indexOf(entry), 1));
  }

  remove(name: string): Operation<void> | null {
    const entry = this.#find(name);
    const drop = () => this.#entries.splice(this.#entries.indexOf(entry), 1);
    const stopped = this.#stop(entry);
    if (stopped === null) drop();
    else stopped.whenSettled((operation) => operation.error === null && drop());
    return stopped;
  }

  /** Enabling one that crashed starts it again; a user's module is read anew. @throws Failure */
  setEnabled(name: string, enabled: boolean): Operation<void> | null {
    const entry = this.#find(name);
    if (!enabled) return this.#stop(entry);
    if (this.#isRunning(name)) return null;
    const { factory } = entry;
    const fresh = factory === null || entry.extension.module !== null ? this.#factoryOf(entry) : factory;
    return this.#start(entry, fresh, () => {});
  }

  /** One that crashed starts again: it may have been the configuration. @throws Failure */
  configure(name: string, config: Record<string, unknown>): Operation<void> | null {
    const entry = this.#find(name);
    const before = entry.extension;
    const undo = () => {
      entry.extension = before;
    };
    entry.extension = { ...before, config };
    try {
      const changed = entry.enabled && !this.#isRunning(name) ? this.setEnabled(name, true) : this.refresh(name);
      changed?.whenSettled((operation) => {
        if (operation.error !== null) undo();
      });
      return changed;
    } catch (error) {
      undo();
      throw error;
    }
  }

  /** Give a running extension its settings once more. */
  refresh(name: string): Operation<void> | null {
    const entry = this.#find(name);
    if (!this.#isRunning(name)) return null;
    return this.#switch.reconfigureExtension(name, this.#settingsOf(entry.extension));
  }

  move(name: string, index: number): Operation<void> | null {
    const entry = this.#find(name);
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.#entries.splice(index, 0, entry);
    return this.#isRunning(name) ? this.#switch.moveExtension(name, this.#positionOf(entry)) : null;
  }

  /** What an extension is given now. @throws Failure */
  settings(name: string): Record<string, unknown> {
    return this.#settingsOf(this.#find(name).extension);
  }

  /** What an extension of the stack is configured with, by its user or by a command of its own. @throws Failure */
  configOf(name: string): Record<string, unknown> {
    return this.#find(name).extension.config;
  }

  has(name: string): boolean {
    return this.#entries.some((entry) => entry.extension.name === name);
  }

  /** Whether it is in the stack and packets pass through it. */
  running(name: string): boolean {
    return this.has(name) && this.#isRunning(name);
  }

  /** In the order in which packets pass: each type has its place, whatever the configuration says. */
  list(): ExtensionInfo[] {
    const known = this.#switch.extensions();
    return inOrder(this.#entries).map(({ extension, factory, enabled, heldBack, failedAt }) => {
      // The switch lists those that run before those that failed, and remembers failures after a new start.
      const info = known.find((one) => one.name === extension.name);
      const crashed = enabled && info?.enabled !== true;
      return {
        name: extension.name,
        type: factory?.descriptor.type ?? 'unknown',
        module: extension.module,
        state: crashed ? 'crashed' : enabled ? 'running' : 'disabled',
        error: crashed ? (heldBack ?? `${info?.failure ?? 'it is not running'}${failedAt}`) : null,
        keeps: crashed ? null : (info?.keeps ?? null),
        counters: { ...info?.counters },
      };
    });
  }

  /** An extension has failed. @returns where in its sources */
  failed(name: string, error: Error): FailureInSource {
    const entry = this.#entries.find((candidate) => candidate.extension.name === name);
    const files = entry?.files ?? null;
    const place = files?.placeOf(error) ?? null;
    const at = place === null ? '' : ` (${placeText(place)})`;
    if (entry !== undefined) entry.failedAt = at;
    return { at, stack: files?.stackOf(error) ?? error.stack ?? null };
  }

  /** @throws Failure when it is not running */
  status(name: string): JsonValue {
    this.#requireRunning(name);
    return this.#switch.extensionStatus(name);
  }

  /**
   * A command of its own. What it makes of the extension's configuration is from then on what the extension is given.
   * @returns its answer, and whether the configuration is another now
   * @throws Failure when it is not running; what the extension throws
   */
  run(name: string, command: string, args: JsonValue): { answer: JsonValue; isConfigured: boolean } {
    this.#requireRunning(name);
    const entry = this.#find(name);
    const before = this.#switch.extensionConfiguration(name);
    const answer = this.#switch.extensionCommand(name, command, args);
    const config = this.#isRunning(name) ? this.#switch.extensionConfiguration(name) : null;
    const isConfigured = config !== null && !isDeepStrictEqual(before, config);
    if (isConfigured) entry.extension = { ...entry.extension, config };
    return { answer, isConfigured };
  }

  /** As {@link run}, for an extension that comes with Millrace. */
  ask<Name extends Asked, C extends CommandOf<Name>>(
    name: Name,
    command: C,
    args: ArgumentsOf<Name, C>,
  ): ResultOf<Name, C> {
    return this.run(name, command, args as JsonValue).answer as ResultOf<Name, C>;
  }

  /** As {@link status}, for an extension that comes with Millrace. */
  statusOf<Name extends keyof BuiltinStatus>(name: Name): BuiltinStatus[Name] {
    return this.status(name) as unknown as BuiltinStatus[Name];
  }

  #requireRunning(name: string): void {
    this.#find(name);
    if (this.#isRunning(name)) return;
    throw new Failure(
      'refused',
      `the extension "${name}" is not running`,
      `start it with \`millrace extension enable ${name}\``,
    );
  }

  /** What an extension is made by, a user's module read anew. @throws Failure */
  #factoryOf(entry: Entry): ExtensionFactory {
    const { module, name } = entry.extension;
    if (module !== null) {
      const { factory, files } = this.#pulse.load(name, () => loadExtensionModule(module));
      entry.factory = renamed(factory, name);
      entry.files = files;
    } else entry.factory = this.#builtins.get(name) ?? null;
    if (entry.factory !== null) return entry.factory;
    throw new Failure('not-found', `there is no built-in extension "${name}"`);
  }

  #find(name: string): Entry {
    const entry = this.#entries.find((candidate) => candidate.extension.name === name);
    if (entry === undefined) throw new Failure('not-found', `there is no extension "${name}" in the stack`);
    return entry;
  }

  #isRunning(name: string): boolean {
    return this.#switch.extensions().some((info) => info.name === name && info.enabled);
  }

  /** Place among the running ones of its type. */
  #positionOf(entry: Entry): number {
    const type: ExtensionType | undefined = entry.factory?.descriptor.type;
    const running = new Set(this.#switch.extensions().flatMap((info) => (info.enabled ? [info.name] : [])));
    return this.#entries
      .slice(0, this.#entries.indexOf(entry))
      .filter((other) => other.factory?.descriptor.type === type && running.has(other.extension.name)).length;
  }

  #start(entry: Entry, factory: ExtensionFactory, onFailure: () => void): Operation<void> {
    const settings = this.#settingsOf(entry.extension);
    const { failedAt } = entry;
    entry.failedAt = '';
    const started = this.#switch.enableExtension(factory, settings, this.#positionOf(entry));
    started.whenSettled((operation) => {
      if (operation.error === null) {
        entry.enabled = true;
        entry.heldBack = null;
        return;
      }
      entry.failedAt = failedAt;
      onFailure();
    });
    return started;
  }

  #stop(entry: Entry): Operation<void> | null {
    entry.enabled = false;
    return this.#isRunning(entry.extension.name) ? this.#switch.disableExtension(entry.extension.name) : null;
  }
}
