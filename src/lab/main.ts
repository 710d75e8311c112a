/**
 * `npm start`: three hosts on one Millrace switch. The daemon runs as a user would run it, as `millrace up` in a namespace of
 * its own; the checks run between the hosts; then a live view until Ctrl-C, or with --once an end that leaves nothing behind.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Table from 'cli-table3';
import { Command } from 'commander';
import { Client } from '../daemon/client.ts';
import { type CheckResult, runChecks } from './checks.ts';
import { LabHosts, labConfiguration, labDirectoryPrefix, removeStaleLabs } from './hosts.ts';
import { render, type Snapshot } from './view.ts';

const millrace = join(import.meta.dirname, '../../bin/millrace.js');
const START_TIMEOUT_MS = 20_000;

/** Everything that has to be taken down again. */
class Lab {
  readonly hosts: LabHosts;
  readonly #directory: string;
  readonly socket: string;
  #daemon: ChildProcess | null = null;
  #log = '';
  #down = false;
  client: Client | null = null;

  constructor(tag: string) {
    this.hosts = new LabHosts(tag);
    this.#directory = mkdtempSync(join(tmpdir(), labDirectoryPrefix(tag)));
    this.socket = join(this.#directory, 'millrace.sock');
  }

  async up(): Promise<Client> {
    const stale = removeStaleLabs();
    if (stale.length > 0) process.stderr.write(`Removed what a killed lab had left: ${stale.join(', ')}\n`);
    this.hosts.create();
    const config = join(this.#directory, 'millrace.yaml');
    writeFileSync(config, labConfiguration());
    const command = [process.execPath, millrace, '--socket', this.socket, 'up', '-f', config];
    const daemon = spawn('ip', ['netns', 'exec', this.hosts.switchNamespace, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C is for the lab, which takes the daemon down in order.
      detached: true,
    });
    this.#daemon = daemon;
    for (const stream of [daemon.stdout, daemon.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        this.#log = `${this.#log}${chunk}`.slice(-20_000);
      });
    }
    const end = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      if (daemon.exitCode !== null) throw new Error(`the daemon ended at once:\n${this.#log.trim()}`);
      try {
        this.client = await Client.connect(this.socket);
        const { ports } = await this.client.call('status', {});
        if (ports.up === this.hosts.hosts.length) return this.client;
        this.client.close();
      } catch {
        // Not listening yet.
      }
      if (Date.now() > end)
        throw new Error(`the switch was not up within ${START_TIMEOUT_MS} ms:\n${this.#log.trim()}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Safe to call at any time, more than once. */
  async down(): Promise<void> {
    if (this.#down) return;
    this.#down = true;
    this.client?.close();
    const daemon = this.#daemon;
    if (daemon !== null && daemon.exitCode === null && daemon.signalCode === null) {
      const gone = new Promise<void>((resolve) => daemon.once('exit', () => resolve()));
      daemon.kill('SIGTERM');
      const hardStop = setTimeout(() => daemon.kill('SIGKILL'), 5_000);
      await gone;
      clearTimeout(hardStop);
    }
    this.hosts.destroy();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

async function snapshot(client: Client): Promise<Snapshot> {
  const [ports, drops, addresses] = await Promise.all([
    client.call('port.list', {}),
    client.call('drops', {}),
    client.call('fdb.show', {}),
  ]);
  return { timeMs: performance.now(), ports, drops, addresses };
}

/** Show the switch until the signal comes. On a terminal the view stays in place, else a table comes every ten seconds. */
async function watch(lab: Lab, client: Client, heading: string, stopped: AbortSignal): Promise<void> {
  const terminal = process.stdout.isTTY === true;
  let before: Snapshot | null = null;
  while (!stopped.aborted) {
    const now = await snapshot(client);
    const text = `${heading}\n${render(now, before)}\n`;
    process.stdout.write(terminal ? `\x1b[H\x1b[2J${text}Ctrl-C ends the lab.\n` : text);
    before = now;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, terminal ? 1_000 : 10_000);
      stopped.addEventListener(
        'abort',
        () => {
          clearTimeout(timer);
          resolve();
        },
        { once: true },
      );
    });
  }
  await lab.down();
}

function hints(lab: Lab): string {
  const h1 = lab.hosts.host('h1').namespace;
  return [
    'Try, in another terminal:',
    `  ip netns exec ${h1} ping 10.77.10.2`,
    `  node bin/millrace.js --socket ${lab.socket} status`,
    `  node bin/millrace.js --socket ${lab.socket} capture -w - | tcpdump -n -r -`,
    '',
  ].join('\n');
}

async function main(options: { once?: boolean; json?: boolean }): Promise<void> {
  const lab = new Lab(String(process.pid));
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  // Whoever reads our output may stop reading: the lab is taken down all the same.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => stop.abort());
  const quiet = options.json === true;
  let results: CheckResult[] = [];
  try {
    const client = await lab.up();
    if (!quiet) process.stderr.write('Three hosts on one Millrace switch; checking:\n');
    results = await runChecks(lab.hosts, (result) => {
      if (!quiet)
        process.stdout.write(`  ${result.passed ? 'ok     ' : 'FAILED '} ${result.what} (${result.detail})\n`);
    });
    const failed = results.filter((result) => !result.passed);
    if (failed.length > 0) process.exitCode = 1;
    if (quiet) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
    else {
      const table = new Table({ head: ['check', 'result', ''], style: { head: [], border: [] } });
      for (const result of results) table.push([result.what, result.passed ? 'ok' : 'FAILED', result.detail]);
      process.stdout.write(`\n${table.toString()}\n`);
      for (const result of failed) process.stderr.write(`millrace: check failed: ${result.what}: ${result.detail}\n`);
    }
    if (options.once !== true && !stop.signal.aborted) await watch(lab, client, hints(lab), stop.signal);
  } catch (error) {
    process.exitCode = 1;
    if (!stop.signal.aborted)
      process.stderr.write(`millrace: ${error instanceof Error ? error.message : String(error)}\n`);
  } finally {
    await lab.down();
  }
}

const program = new Command('npm start --')
  .description('A lab: three hosts on one Millrace switch, checked, then watched live.')
  .option('--once', 'run the checks, print a table, leave nothing behind; the exit status says whether all passed')
  .option('--json', 'print the results of the checks as JSON');
program.action(main);
await program.parseAsync();
