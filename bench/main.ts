/**
 * npm run bench: measures Millrace beside its peers in one run. Rounds interleave the peers, so that a machine whose speed
 * drifts treats them alike; every figure is the median over the rounds. Neighbours: groups.ts names what there is to measure,
 * figures.ts says what is wanted.
 */

import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { benchAttacks } from './attack.ts';
import type { ConnectionBench } from './connections.ts';
import type { DecideBench } from './decide.ts';
import { figures, type Measurements, type ModuleFigures } from './figures.ts';
import { measureForwarding } from './forward.ts';
import { helpOnNames, Selection } from './groups.ts';
import type { HostTablesBench } from './host-tables.ts';
import type { InMemoryResult } from './in-memory.ts';
import { benchLatency } from './latency.ts';
import type { BpfFigures, FlowFigures } from './libraries.ts';
import { benchOffload } from './offload.ts';
import { benchOvs } from './ovs.ts';
import { byFlows, figureTable, notes, sideBySide } from './report.ts';
import { progress, run } from './shell.ts';
import { benchStalls } from './stalls.ts';
import { median } from './statistics.ts';
import { benchTracked } from './tracked/index.ts';
import type { TunnelBench } from './tunnels.ts';

interface Options {
  rounds: number;
  seconds: number;
  only?: string[];
  json?: string | true;
}

const compiled = (file: string) => join(import.meta.dirname, file);

/** Run a part in a process of its own: what was compiled for the parts before would not be what users run. */
function alone<T>(title: string, args: string[]): T {
  progress(title);
  return JSON.parse(run(process.execPath, args, { timeoutMs: 180_000 })) as T;
}

/** The learning extension as it comes and as a user's module, in turn, so that a machine whose speed drifts treats them alike. */
function besideModule(rounds: number): ModuleFigures {
  const builtIn: number[] = [];
  const module: number[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const one = (title: string, ...args: string[]) =>
      alone<InMemoryResult>(`in memory, ${title}, round ${round}`, [compiled('in-memory.js'), ...args]);
    builtIn.push(one('as it comes').packetsPerCpuSecond);
    module.push(one("as a user's module", '--module').packetsPerCpuSecond);
  }
  return { builtInPps: median(builtIn), modulePps: median(module) };
}

async function measure(selection: Selection, options: Options): Promise<Measurements> {
  const { peers, idle } = await measureForwarding(selection.peers, options);
  return {
    peers,
    idle,
    latency: selection.has('latency') ? await benchLatency(options) : null,
    ovs: selection.has('control') ? await benchOvs(options) : null,
    attack: selection.has('attack') ? await benchAttacks(options) : null,
    offload: selection.has('offload') ? await benchOffload(options) : null,
    stalls: selection.has('stalls') ? await benchStalls(options) : null,
    memory: selection.has('memory')
      ? alone<InMemoryResult>('in memory', ['--expose-gc', compiled('in-memory.js')])
      : null,
    module: selection.has('memory') ? besideModule(options.rounds) : null,
    bpf: selection.has('bpf') ? alone<BpfFigures>('bpf', [compiled('libraries.js'), 'bpf']) : null,
    tables: selection.has('tables') ? alone<HostTablesBench>('tables', [compiled('libraries.js'), 'tables']) : null,
    decide: selection.has('decide') ? alone<DecideBench>('decide', [compiled('libraries.js'), 'decide']) : null,
    connections: selection.has('connections')
      ? alone<ConnectionBench>('connections in memory', [compiled('libraries.js'), 'connections'])
      : null,
    tracked: selection.has('connections') ? await benchTracked(options) : null,
    tunnels: selection.has('tunnels')
      ? alone<TunnelBench>('tunnels in memory', [compiled('libraries.js'), 'tunnels'])
      : null,
    flow: selection.has('flow') ? alone<FlowFigures>('flow', [compiled('libraries.js'), 'flow']) : null,
  };
}

async function main(options: Options): Promise<void> {
  const measurements = await measure(select(options.only), options);
  const reached = figures(measurements);
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown processor'}, Linux ${release()}`;
  const report = {
    date: new Date().toISOString(),
    machine,
    rounds: options.rounds,
    secondsEach: options.seconds,
    ...measurements,
    figures: reached,
  };
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return;
  }
  process.stdout.write(`${machine}; medians of ${options.rounds} rounds of ${options.seconds} s\n`);
  const { peers } = measurements;
  if (peers.length > 0) process.stdout.write(`${sideBySide(peers)}\n${byFlows(peers)}${notes(peers)}`);
  const established = measurements.tracked?.established ?? [];
  if (established.length > 0) process.stdout.write(`${sideBySide(established)}\n${notes(established)}`);
  process.stdout.write(`${figureTable(reached)}\n`);
  if (typeof options.json === 'string') writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
}

function select(names: readonly string[] | undefined): Selection {
  try {
    return new Selection(names);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return program.error(error.message);
  }
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number from 1 on');
  return value;
}

const program = new Command('npm run bench --')
  .description("Measure Millrace beside Linux's own forwarding and Open vSwitch, in one run.")
  .option('--rounds <n>', 'rounds over everything that takes turns; figures are medians', positiveInteger, 3)
  .option('--seconds <n>', 'length of each measurement', positiveInteger, 4)
  .option('--only <names...>', 'only these groups and peers')
  .option('--json [file]', 'JSON instead of tables, or into a file beside them')
  .addHelpText('after', () => `\n${helpOnNames()}`);
program.action(main);
await program.parseAsync();
