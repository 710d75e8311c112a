/**
 * The daemon's state on the control thread: which configuration is running, and the one queue through which every change goes.
 * Commands and files alike become a wanted configuration; the difference to the running one is applied (config/diff.ts, apply.ts).
 */
import { basename } from 'node:path';
import type { ApplyResult } from '../api.ts';
import { diffConfigs, type Operation, type Step } from '../config/diff.ts';
import { evolve } from '../config/evolve.ts';
import { describeZod, PATHS_ONLY } from '../config/issues.ts';
import { type Config, deviceProblem, emptyConfig, normalisePort, type Port } from '../config/model.ts';
import { ConfigError, parseConfig } from '../config/parse.ts';
import { portSchema } from '../config/schema.ts';
import { nearest } from '../config/suggest.ts';
import { Failure, messageOf } from '../rpc/failure.ts';
import type { DatapathThread } from '../thread/channel.ts';
import { applySteps } from './apply.ts';
import type { EventLog } from './events.ts';

/** "Did you mean", or what there is; null when there is nothing. */
export function helpForName(name: string, known: readonly string[], what: string): string {
  const near = nearest(name, known);
  if (near !== null) return `did you mean "${near}"?`;
  return known.length === 0 ? `there are no ${what}` : `there are: ${known.join(', ')}`;
}

/** What the daemon goes on with after a fault. */
export interface Former {
  /** What ran, or was to run. */
  readonly config: Config;
  readonly configFile: string | null;
  /** Extensions that are not to be started, with what they did. */
  readonly heldBack: ReadonlyMap<string, string>;
  /** What ports that extensions have added were set to, by name. */
  readonly settingsOfAdded: ReadonlyMap<string, Port>;
}

/** The running configuration and its changes. */
export class Control {
  readonly thread: DatapathThread;
  readonly events: EventLog;
  readonly #onChange: (config: Config) => void;
  #running: Config = emptyConfigWithoutExtensions();
  #wanted: Config = this.#running;
  #configFile: string | null = null;
  /** Extensions that are not started because of what they did, with the reason. */
  readonly #heldBack = new Map<string, string>();
  /** What ports that extensions have added were set to: the datapath thread has the same for when they come again. */
  readonly #settingsOfAdded = new Map<string, Port>();
  #queue: Promise<unknown> = Promise.resolve();

  /** @param onChange told after every operation that was carried out */
  constructor(thread: DatapathThread, events: EventLog, onChange: (config: Config) => void) {
    this.thread = thread;
    this.events = events;
    this.#onChange = onChange;
  }

  get running(): Config {
    return this.#running;
  }

  /** The configuration that a change under way is to lead to; after it, it may be the running one or not. */
  get wanted(): Config {
    return this.#wanted;
  }

  get configFile(): string | null {
    return this.#configFile;
  }

  /** Extensions that are in the stack and were not started because of what they did, with the reason; until somebody starts them. */
  get heldBack(): ReadonlyMap<string, string> {
    return this.#heldBack;
  }

  /** Do something when everything before it is done, so that changes never interleave. */
  serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work, work);
    this.#queue = result.catch(() => null);
    return result;
  }

  /** Make a configuration the running one: all of it, or nothing. @throws Failure */
  apply(wanted: Config, file: string | null): Promise<ApplyResult> {
    return this.serially(async () => {
      const steps = await this.#go(wanted);
      if (file !== null) this.#configFile = file;
      return { steps: steps.map((step) => step.text), applied: true };
    });
  }

  /** See {@link Former}. */
  get settingsOfAdded(): ReadonlyMap<string, Port> {
    return this.#settingsOfAdded;
  }

  /** Change a port that an extension has added. @throws Failure */
  async setAdded(name: string, port: Port): Promise<void> {
    await this.thread.call('operate', { op: 'port-set', name, port });
    this.#settingsOfAdded.set(name, port);
  }

  /**
   * Make what ran before a fault the running configuration again, as far as it can be.
   * @returns what did not come back, one sentence each
   */
  restore({ config, configFile, heldBack, settingsOfAdded }: Former): Promise<string[]> {
    // Should it fail again on the way, the next one is to know these as well.
    for (const [name, reason] of heldBack) this.#heldBack.set(name, reason);
    for (const [name, port] of settingsOfAdded) this.#settingsOfAdded.set(name, port);
    this.#configFile = configFile;
    return this.serially(async () => {
      this.#wanted = config;
      const lost: string[] = [];
      const attempt = async (what: string, work: () => Promise<unknown>) => {
        try {
          await work();
        } catch (error) {
          lost.push(`cannot ${what}: ${messageOf(error)}`);
        }
      };
      await attempt('keep the settings of ports that extensions have added', () =>
        this.thread.call('keep-settings', settingsOfAdded),
      );
      for (const { operation, text } of diffConfigs(this.#running, config)) {
        const reason = operation.op === 'extension-add' ? heldBack.get(operation.extension.name) : undefined;
        const isHeldBack = operation.op === 'extension-add' && reason !== undefined;
        await attempt(text, () => this.operate(isHeldBack ? { ...operation, heldBack: reason } : operation));
      }
      return lost;
    });
  }

  /** Change the running configuration. @param change makes the wanted one; may throw a Failure @throws Failure */
  change(change: (running: Config) => Config): Promise<void> {
    return this.serially(async () => {
      await this.#go(change(this.#running));
    });
  }

  /** Carry out an operation that the configuration does not show, such as starting a crashed extension again. */
  operate = async (operation: Operation): Promise<void> => {
    await this.thread.call('operate', operation);
    this.#running = evolve(this.#running, operation);
    if (MAY_START.has(operation.op) && 'name' in operation) this.#heldBack.delete(operation.name);
    this.#onChange(this.#running);
  };

  /** A command of an extension has changed its configuration: that is the running one from now on. */
  configured(name: string): Promise<void> {
    return this.serially(async () => {
      // Asked for when no change is under way: one may have taken the extension away, or configured it again.
      if (!this.#running.extensions.some((extension) => extension.name === name)) return;
      const config = await this.thread.call('extension-config', { name });
      this.#running = evolve(this.#running, { op: 'extension-configure', name, config });
      this.#onChange(this.#running);
    });
  }

  /** The steps that a file would take. @throws Failure 'config' */
  difference(file: string, text: string): ApplyResult {
    const steps = diffConfigs(this.#running, this.parse(file, text));
    return { steps: steps.map((step) => step.text), applied: false };
  }

  /** @throws Failure 'config' with every issue on a line of its own */
  parse(file: string, text: string): Config {
    try {
      return parseConfig(text, file);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      throw new Failure('config', error.message, `correct ${basename(file)}; nothing was changed`);
    }
  }

  async #go(wanted: Config): Promise<Step[]> {
    this.#wanted = wanted;
    const steps = diffConfigs(this.#running, wanted);
    await applySteps(steps, this.operate);
    return steps;
  }
}

/** Operations after which an extension that was held back is so no longer: it runs, is disabled by choice, or is gone. */
const MAY_START: ReadonlySet<Operation['op']> = new Set(['extension-enable', 'extension-configure', 'extension-del']);

/** Nothing at all: what the datapath thread begins with. */
function emptyConfigWithoutExtensions(): Config {
  return { ...emptyConfig(), extensions: [] };
}

/** Check one port's settings from outside. @throws Failure 'invalid-params' */
export function checkPort(name: string, settings: unknown): Port {
  const checked = portSchema.safeParse(settings);
  if (checked.success) {
    const port = normalisePort(name, checked.data, (path) => path);
    const problem = deviceProblem(port);
    if (problem !== null) throw new Failure('invalid-params', problem);
    return port;
  }
  const issues = describeZod(checked.error, portSchema, settings, PATHS_ONLY);
  throw new Failure('invalid-params', `port "${name}": ${issues.join('; ')}`);
}
