/** `millrace up`: the daemon's start, and its configuration. Neighbour: down.ts ends it. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { Failure, loadConfigTools, loadDaemon, loadStart, messageOf, readConfigText } from '../../daemon/client.ts';
import type { Cli } from '../cli.ts';
import { CliError, endingOf } from '../exit.ts';
import { findRunning } from '../running.ts';

/** The control thread makes little garbage: V8's room for new objects, 16 MB if it is let, would only lie idle. The datapath thread has its own. */
const SMALL_HEAP = '--max-semi-space-size=2';

/** Where a configuration is looked for when none is named. */
const USUAL_FILES = ['millrace.yaml', '/etc/millrace/millrace.yaml'];

interface UpOptions {
  file?: string;
  daemon?: boolean;
  logLevel?: string;
  logFile?: string;
  logStyle: 'auto' | 'pretty' | 'json';
  /** Set on the process that `--daemon` starts. */
  child?: boolean;
}

/** What the process that `--daemon` started says to the one that waits for it. */
type ChildReport =
  | { ready: true; pid: number }
  | { ready: false; exitCode: number; kind: string; message: string; hint: string | null };

function readText(file: string): string {
  try {
    return readConfigText(file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
    throw new CliError('USAGE', `cannot read ${file}: ${code}`, 'give the path of a millrace.yaml with -f');
  }
}

/** The daemon's socket: the option or environment, else what the file says, else the usual place. */
async function socketOf(cli: Cli, file: string | null): Promise<string> {
  if (cli.socketGiven || file === null) return resolve(cli.socketPath);
  const { parseConfig } = await loadConfigTools();
  return resolve(parseConfig(readText(file), file).daemon.socket ?? cli.socketPath);
}

/** Apply the file to a daemon that runs already. @returns false when none does */
async function applyToRunning(cli: Cli, socket: string, file: string | null): Promise<boolean> {
  const running = await findRunning(cli, socket);
  if (running === null) return false;
  const { client, pid } = running;
  if (file === null) {
    const hint =
      'give a changed file with -f to apply it, stop the daemon with `millrace down`, or choose another --socket';
    throw new Failure('exists', `a daemon (pid ${pid}) already serves ${socket}`, hint);
  }
  const result = await client.call('config.apply', { file, text: readText(file) });
  cli.print({ pid, ...result }, () => {
    const head = `The daemon (pid ${pid}) that serves ${socket}`;
    if (result.steps.length === 0) return `${head} runs this configuration already; nothing was changed.\n`;
    return `${head} took the changes:\n${result.steps.map((step) => `  ${step}\n`).join('')}`;
  });
  return true;
}

/** Start a process of its own for the daemon and wait until it is ready, or has failed. */
async function startDetached(cli: Cli, socket: string, file: string | null, options: UpOptions): Promise<void> {
  const logFile = resolve(options.logFile ?? `${socket.replace(/\.sock$/, '')}.log`);
  const { checkSocketPlace, openLogFile } = await loadStart();
  checkSocketPlace(socket);
  const log = openLogFile(logFile, options.logFile !== undefined);
  const args = [...process.execArgv, SMALL_HEAP, process.argv[1], '--socket', socket, 'up', '--child'];
  if (file !== null) args.push('-f', file);
  if (options.logLevel !== undefined) args.push('--log-level', options.logLevel);
  args.push('--log-style', options.logStyle);
  const child = spawn(process.execPath, args, { detached: true, cwd: '/', stdio: ['ignore', log, log, 'ipc'] });
  closeSync(log);
  const report = await new Promise<ChildReport>((resolveReport) => {
    child.once('message', (message) => resolveReport(message as ChildReport));
    child.once('error', (error) =>
      resolveReport({ ready: false, exitCode: 1, kind: 'failed', message: error.message, hint: null }),
    );
    child.once('exit', (code, signal) => {
      const message = `the daemon ended while it started (${signal ?? `code ${code}`})`;
      resolveReport({ ready: false, exitCode: 1, kind: 'failed', message, hint: `look at ${logFile}` });
    });
  });
  if (!report.ready) throw new StartFailure(report);
  child.removeAllListeners();
  child.disconnect();
  child.unref();
  cli.print({ pid: report.pid, socket, logFile }, () => `millrace is up (pid ${report.pid}); its log is ${logFile}.\n`);
}

/** The daemon's own words, passed on by the process that started it. */
class StartFailure extends CliError {
  readonly kind: string;
  override readonly exitCode: number;

  constructor(report: Extract<ChildReport, { ready: false }>) {
    super('FAILED', report.message, report.hint);
    this.kind = report.kind;
    this.exitCode = report.exitCode;
  }
}

async function runHere(socket: string, file: string | null, options: UpOptions): Promise<void> {
  const { runDaemon, LOG_LEVELS } = await loadDaemon();
  const level = LOG_LEVELS.find((known) => known === options.logLevel) ?? null;
  const report = (message: ChildReport) =>
    new Promise<void>((done) => {
      if (process.send === undefined) done();
      else process.send(message, () => done());
    });
  try {
    const exitCode = await runDaemon({
      socketPath: socket,
      configFile: file,
      logLevel: level,
      logStyle: options.logStyle,
      onReady: () => {
        if (options.child === true) void report({ ready: true, pid: process.pid }).then(() => process.disconnect?.());
      },
    });
    process.exitCode = exitCode;
  } catch (error) {
    const { exitCode, kind, message, hint } = endingOf(error);
    if (options.child === true) await report({ ready: false, exitCode, kind, message, hint });
    throw error;
  }
}

/** `millrace up` */
export function upCommand(cli: Cli): Command {
  return new Command('up')
    .description('start the switch, or apply a changed configuration to the one that runs')
    .argument('[file]', 'the same as -f')
    .option('-f, --file <file>', `configuration; else ${USUAL_FILES.join(' or ')} if it is there`)
    .option('-d, --daemon', 'run in the background; returns when the switch is ready')
    .addOption(
      new Option('-l, --log-level <level>', 'trace, debug, info, warn, error or silent').choices([
        'trace',
        'debug',
        'info',
        'warn',
        'error',
        'silent',
      ]),
    )
    .option('--log-file <file>', 'with --daemon: where the log goes; beside the socket when not given')
    .addOption(new Option('--log-style <style>', 'of the log').choices(['auto', 'pretty', 'json']).default('auto'))
    .addOption(new Option('--child').hideHelp())
    .addHelpText(
      'after',
      `
Examples:
  millrace up                         in the foreground, until Ctrl-C
  millrace up -f millrace.yaml --daemon
  millrace up -f millrace.yaml        once more, after a change: applies the difference`,
    )
    .action(async (argument: string | undefined, options: UpOptions) => {
      const given = options.file ?? argument;
      const named = given ?? USUAL_FILES.find((usual) => existsSync(usual));
      const file = named === undefined ? null : resolve(named);
      const socket = await socketOf(cli, file);
      if (options.child === true) return runHere(socket, file, options);
      // A usual file that nobody named is not applied to a running daemon: it may be another's.
      if (await applyToRunning(cli, socket, given === undefined ? null : file)) return;
      if (options.daemon === true) await startDetached(cli, socket, file, options);
      else await runHere(socket, file, options);
    });
}
