/**
 * A daemon's life in one function: take the lock, start the datapath thread, apply the configuration, open the control socket,
 * serve until asked to stop, and undo everything.
 */
import { readFileSync } from 'node:fs';
import { isUnhurried } from '../../host/sys/index.ts';
import { ownNamespace } from '../../keeper/index.ts';
import type { DaemonEvent, Status } from '../api.ts';
import type { Config } from '../config/model.ts';
import { emptyConfig } from '../config/model.ts';
import { parseConfig } from '../config/parse.ts';
import { readConfigText } from '../config/read.ts';
import { CaptureBroker } from '../control/captures.ts';
import { Control } from '../control/control.ts';
import { EventLog } from '../control/events.ts';
import { buildMethods } from '../control/methods.ts';
import { Failure, messageOf, toFailure } from '../rpc/failure.ts';
import { peerOf } from '../rpc/peer.ts';
import { RpcServer } from '../rpc/server.ts';
import { Seldom } from '../seldom.ts';
import { type Announcement, DatapathThread } from '../thread/channel.ts';
import { checkSocketPlace } from './before.ts';
import { watchDescriptors } from './descriptors.ts';
import { keepFiles } from './keep-files.ts';
import { cleanUpAfter, removeUnder } from './leftovers.ts';
import { DaemonLock } from './lock.ts';
import { createLogger, type Logger, type LogLevel } from './log.ts';
import { type JournalPort, PortJournal } from './port-journal.ts';
import { afterTrouble, type Renewal, renew, takeRenewal } from './renewal.ts';
import { ThreadWatch, type Trouble } from './thread-watch.ts';

export interface DaemonOptions {
  /** Path of the control socket. */
  socketPath: string;
  /** Absolute path of millrace.yaml; null starts a switch without ports. */
  configFile: string | null;
  /** Beats what the configuration says. */
  logLevel: LogLevel | null;
  logStyle: 'auto' | 'pretty' | 'json';
  /** Called once everything runs. */
  onReady(): void;
}

export { LOG_LEVELS } from './log.ts';

/** The version of the package. */
export function packageVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Read and check the file that a daemon starts with. @throws ConfigError; Failure when it cannot be read */
function readConfig(file: string | null): Config {
  if (file === null) return emptyConfig();
  let text: string;
  try {
    text = readConfigText(file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
    throw new Failure('config', `cannot read ${file}: ${code}`, 'give the path of a millrace.yaml with -f');
  }
  return parseConfig(text, file);
}

/**
 * Run a daemon until it is asked to stop.
 * @returns the exit code: 0 when it was asked to stop, 1 when it had to
 * @throws Failure or ConfigError when it cannot start; everything is undone then
 */
export async function runDaemon(options: DaemonOptions): Promise<number> {
  const renewal = takeRenewal();
  const config = renewal?.config ?? readConfig(options.configFile);
  const log = createLogger(options.logLevel ?? (config.daemon.logLevel as LogLevel | null) ?? 'info', options.logStyle);
  if (renewal === null) checkSocketPlace(options.socketPath);
  const lock =
    renewal === null
      ? DaemonLock.acquire(options.socketPath)
      : DaemonLock.adopt(options.socketPath, renewal.lock, renewal.life);
  try {
    return await serve(options, config, log, lock, renewal);
  } finally {
    lock.release();
  }
}

async function serve(
  options: DaemonOptions,
  config: Config,
  log: Logger,
  lock: DaemonLock,
  renewal: Renewal | null,
): Promise<number> {
  const startedAt = renewal?.startedAt ?? new Date();
  // What a killed daemon has left on is not the machine's own.
  const unhurried = isUnhurried() || lock.leftBehind?.unhurried === true;
  const write = (ports: readonly JournalPort[]) =>
    lock.write({
      pid: process.pid,
      startedAt: startedAt.toISOString(),
      namespace: ownNamespace(),
      unhurried,
      ports: [...ports],
    });
  const problem = write([]);
  if (problem !== null) throw new Failure('failed', problem, 'make room there, or choose another path with --socket');
  const journal = new PortJournal((ports) => {
    const why = write(ports);
    if (why !== null)
      log.warn({ err: why }, 'should this daemon be killed, the next one will not know its present ports');
  });
  if (renewal === null && lock.leftBehind !== null) cleanUpAfter(lock.leftBehind, log);
  const events = new EventLog();
  for (const event of renewal?.events ?? []) events.push(event);
  const announcements = new Announcements(log, events, journal);
  const thread = await DatapathThread.start(
    (message) => announcements.take(message),
    options.socketPath,
    renewal !== null,
  );
  const captures = new CaptureBroker(thread);
  const control = new Control(thread, events, (running) => journal.runs(running));
  const watch = new ThreadWatch(thread, config.daemon.watchdogSeconds * 1000, () => [
    ...config.extensions,
    ...control.running.extensions,
    ...control.wanted.extensions,
  ]);
  const stopping = new StopRequest();
  const full = new Seldom((times) =>
    log.warn({ times }, 'refused connections to the control socket: there are too many'),
  );
  const unwatch = watchDescriptors(log);
  const server = new RpcServer({
    path: options.socketPath,
    methods: buildMethods({
      control,
      captures,
      status: () => statusOf(options, control, startedAt),
      shutdown: async (keep) => {
        if (keep) await checkKept(control);
        stopping.keep = keep;
        // The reply goes out first.
        setImmediate(() => stopping.ask('asked to over the control socket'));
      },
    }),
    peerOf,
    onRefusedPeer: (peer) => log.warn({ peer }, 'refused a connection to the control socket'),
    onInternal: (method, error) => log.error({ method, err: messageOf(error) }, 'a request failed unexpectedly'),
    onFull: () => full.happened(),
  });
  /** Become the next process of this daemon. Returns when that is not to be, or fails: then the daemon ends, and its flows go on. */
  const beginAnew = (trouble: Trouble, socket: number, wanted: Config) => {
    const { extension, message } = trouble;
    const what = extension === null ? message : `${message} and is disabled`;
    events.add(
      extension === null ? 'warning' : 'extension-crashed',
      extension ?? '',
      `${what}; the datapath starts anew`,
    );
    log.error({ ...(extension === null ? {} : { extension }) }, `${what}; the datapath starts anew`);
    const next = afterTrouble(trouble, { heldBack: control.heldBack, faults: renewal?.faults ?? [] }, Date.now());
    if (next === null) {
      log.fatal('the datapath has failed too often; the daemon ends, and its flows go on until the next `millrace up`');
      return;
    }
    try {
      const { configFile, settingsOfAdded } = control;
      const former = { config: wanted, configFile, settingsOfAdded, ...next };
      renew({ startedAt, ...former, events: events.recent(), ...lock.descriptors, socket });
    } catch (error) {
      log.fatal({ err: messageOf(error) }, 'the daemon cannot start anew; it ends, and its flows go on');
    }
  };
  let listening = false;
  let started = false;
  let leaveFiles = () => {};
  try {
    const begun = begin(control, config, options.configFile, renewal, log);
    const hindrance = await Promise.race([begun, watch.trouble]);
    if (hindrance !== null) {
      if (renewal === null) throw new Failure('failed', hindrance.message);
      stopping.keep = true;
      beginAnew(hindrance, renewal.socket, renewal.config);
      return 1;
    }
    await server.listen(renewal?.socket);
    listening = true;
    leaveFiles = keepFiles(lock, server, (message, isProblem) => {
      log[isProblem ? 'error' : 'warn'](message);
      events.add('warning', '', message);
    });
    // From here on it does not fail, and what nobody has taken up of a former daemon's flows ends.
    await thread.call('started', null);
    started = true;
    // Should the thread get stuck, this is what is known.
    for (const call of ['summary', 'ports', 'extensions'] as const) await thread.ask(call);
    log.info({ socket: options.socketPath, ports: config.ports.size }, 'ready');
    options.onReady();
    const reason = await Promise.race([stopping.reason, watch.trouble]);
    if (typeof reason === 'string') {
      log.info({ why: reason }, 'stopping');
      return 0;
    }
    if (reason instanceof Error) {
      log.fatal({ err: messageOf(reason), stack: reason.stack }, 'the daemon ends because of a fault');
      return 1;
    }
    stopping.keep = true;
    thread.giveUp(`${reason.message}; the datapath starts anew`);
    // Who waits for an answer gets it.
    await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
    beginAnew(reason, server.descriptor, { ...control.running, daemon: config.daemon });
    return 1;
  } catch (error) {
    const told = await thread.stop(false);
    const fate = told ?? (thread.isClosed || lock.leftBehind === null ? null : UNKNOWN_FATE);
    if (fate === null) throw error;
    const { kind, message, hint } = toFailure(error);
    throw new Failure(kind, `${message}; ${fate}`, hint);
  } finally {
    watch.stop();
    journal.close();
    leaveFiles();
    stopping.release();
    unwatch();
    if (listening) await server.close();
    await thread.stop(stopping.keep);
    if (!thread.isClosed) afterForce(options.socketPath, lock, stopping.keep || !started, log);
    if (!thread.isGone) {
      log.fatal('the datapath thread does not end: the process is killed');
      process.kill(process.pid, 'SIGKILL');
    }
    log.debug('stopped');
  }
}

/** Of what a former daemon had left, when the datapath thread had to be ended and could not say. */
const UNKNOWN_FATE =
  'the datapath thread had to be ended; what the daemon before left in the kernel stays, for the next `millrace up` or for `millrace down`';

/** How long answers may take to be written before the process is replaced. */
const ANSWER_MS = 50;

/** Bring the configuration into force: as it is told, or what ran before a fault, as far as that can be. */
async function begin(
  control: Control,
  config: Config,
  file: string | null,
  renewal: Renewal | null,
  log: Logger,
): Promise<null> {
  if (renewal === null) {
    await control.apply(config, file);
    return null;
  }
  for (const message of await control.restore(renewal)) {
    log.error(message);
    control.events.add('warning', '', message);
  }
  return null;
}

/**
 * The datapath thread has not closed what it had in hand: that is removed as after a daemon that was killed.
 * @param keep it stays, as after a kill: flows are to go on
 */
function afterForce(socketPath: string, lock: DaemonLock, keep: boolean, log: Logger): void {
  if (keep) log.error('the datapath thread did not end as it should; its flows go on');
  else {
    try {
      const { programs, devices, unrestored } = removeUnder(lock, socketPath);
      log.error(
        { programs, devices, unrestored },
        'the datapath thread did not end as it should; removed what it had in hand',
      );
    } catch (error) {
      const message = 'the datapath thread did not end as it should, and something of it stays; try `millrace down`';
      log.error({ err: messageOf(error) }, message);
    }
  }
  // Sockets and programs that the thread had open end with the process.
  lock.holdToTheEnd();
}

/** @throws Failure when nothing would go on without the daemon */
async function checkKept({ thread }: Control): Promise<void> {
  const { mode, missing, pins } = await thread.call('offload-show', null);
  if (pins !== null) return;
  const why = mode === 'off' ? 'offload is off' : (missing ?? 'no flow runs in the kernel');
  throw new Failure('refused', `nothing can be kept: ${why}`, 'stop without --keep');
}

/** Why the daemon ends: a signal, `millrace down`, or a fault of its own. */
class StopRequest {
  /** A sentence, or the fault. */
  readonly reason: Promise<string | Error>;
  ask: (why: string | Error) => void = () => {};
  /** Flows in the kernel are to go on. */
  keep = false;
  readonly #onSignal = (signal: string) => this.ask(signal);
  readonly #onFault = (fault: unknown) => this.ask(fault instanceof Error ? fault : new Error(String(fault)));

  constructor() {
    this.reason = new Promise((resolve) => {
      this.ask = resolve;
    });
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
    for (const fault of FAULTS) process.on(fault, this.#onFault);
  }

  /** From now on signals of a terminal end the process at once. SIGTERM does not: it only asks once more, and undoing goes on. */
  release(): void {
    for (const signal of SIGNALS) if (signal !== 'SIGTERM') process.removeListener(signal, this.#onSignal);
    for (const fault of FAULTS) process.removeListener(fault, this.#onFault);
  }
}

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
const FAULTS = ['uncaughtException', 'unhandledRejection'] as const;

/** What the datapath thread says on its own, passed to log and events. */
class Announcements {
  readonly #log: Logger;
  readonly #events: EventLog;
  readonly #journal: PortJournal;

  constructor(log: Logger, events: EventLog, journal: PortJournal) {
    this.#log = log;
    this.#events = events;
    this.#journal = journal;
  }

  take(message: Announcement): void {
    switch (message.type) {
      case 'log':
        this.#log[message.level](message.fields, message.message);
        break;
      case 'user-port':
        this.#journal.changed(message.port);
        break;
      case 'event':
        this.#events.push(message.event);
        this.#log[levelOf(message.event)](
          { event: message.event.type, subject: message.event.subject },
          message.event.message,
        );
        break;
    }
  }
}

function levelOf({ type }: DaemonEvent): 'error' | 'warn' | 'info' {
  if (type === 'extension-crashed') return 'error';
  return type === 'warning' ? 'warn' : 'info';
}

async function statusOf(options: DaemonOptions, control: Control, startedAt: Date): Promise<Status> {
  const { thread } = control;
  const summary = await thread.ask('summary');
  const extensions = await thread.ask('extensions');
  const cpu = process.cpuUsage();
  return {
    version: packageVersion(),
    pid: process.pid,
    startedAt: startedAt.toISOString(),
    uptimeSeconds: Math.floor((Date.now() - startedAt.getTime()) / 1000),
    socket: options.socketPath,
    configFile: control.configFile,
    ...summary,
    extensions,
    stuck: thread.stuck,
    memory: { residentBytes: process.memoryUsage.rss() },
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
  };
}
