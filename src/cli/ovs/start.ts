/** Starting and stopping Open vSwitch's own programs on a Millrace datapath. Neighbour: programs.ts knows where they are. */
import { existsSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { CliError } from '../exit.ts';
import {
  isAlive,
  type OvsFolders,
  ovsFolders,
  requirePrograms,
  run,
  runningProgram,
  shimEnvironment,
} from './programs.ts';

const PROGRAMS = ['ovsdb-server', 'ovsdb-tool', 'ovs-vswitchd', 'ovs-vsctl', 'ovs-appctl'] as const;
const END_TIMEOUT_MS = 15_000;
/** ovs-vswitchd lets flows of the datapath be, and asks for no packets, while the database says so: see ovs-vswitchd.conf.db(5). */
const FLOWS_STAY = 'flow-restore-wait';

/** What was started, for people and programs. */
export interface Started {
  readonly socket: string;
  readonly database: string;
  readonly databasePid: number;
  readonly vswitchdPid: number;
  readonly bridges: readonly string[];
  /** In order, what was done. */
  readonly steps: readonly string[];
}

function programOf(programs: ReadonlyMap<string, string>, name: (typeof PROGRAMS)[number]): string {
  return programs.get(name) ?? name;
}

/**
 * Say what is in the way before anything is changed.
 * @throws CliError when programs are missing, or ovs-vswitchd runs on something else
 */
export function checkStart(socket: string): void {
  requirePrograms(PROGRAMS);
  shimEnvironment(socket);
  const there = runningProgram('ovs-vswitchd', ovsFolders());
  if (there !== null && there.socket !== socket) {
    const on = there.socket === null ? 'without Millrace' : `on another Millrace (${there.socket})`;
    const hint =
      there.socket === null
        ? 'stop it first: systemctl stop openvswitch-switch, or ovs-appctl -t ovs-vswitchd exit'
        : `if it is this one, name its place again: --pseudo-device ${there.socket}; else stop it first: millrace ovs stop`;
    throw new CliError('REFUSED', `ovs-vswitchd (pid ${there.pid}) runs ${on}`, hint);
  }
}

/**
 * Start what does not run: database, its server, ovs-vswitchd.
 * @param socket the pseudo device
 * @param isConnected whether programs hold connections to it; an ovs-vswitchd without one has lost its datapath and is started anew
 * @param hasFlows whether the datapath has flows from before, which are to stay until ovs-vswitchd can decide
 */
export async function startPrograms(socket: string, isConnected: boolean, hasFlows: boolean): Promise<Started> {
  const folders = ovsFolders();
  const programs = requirePrograms(PROGRAMS);
  const steps: string[] = [];
  for (const folder of [folders.run, folders.database, folders.log])
    mkdirSync(folder, { recursive: true, mode: 0o755 });
  const database = join(folders.database, 'conf.db');
  const databasePid = startDatabase(programs, folders, database, steps);
  const before = runningProgram('ovs-vswitchd', folders);
  if (before !== null && !isConnected) {
    await end('ovs-vswitchd', before.pid, () => process.kill(before.pid, 'SIGTERM'));
    steps.push('ended the ovs-vswitchd that had lost its datapath, and its OpenFlow rules with it: put yours in again');
  }
  const vsctl = programOf(programs, 'ovs-vsctl');
  try {
    if (before === null || !isConnected) {
      // Without it ovs-vswitchd deletes all flows as soon as it has opened the datapath, when it does not know the ports of its bridges yet.
      if (hasFlows)
        run(vsctl, ['--no-wait', '--timeout=10', 'set', 'Open_vSwitch', '.', `other_config:${FLOWS_STAY}=true`]);
      startVswitchd(programOf(programs, 'ovs-vswitchd'), folders, socket);
      steps.push('started ovs-vswitchd');
      // Returns when the bridges are what the database says.
      run(vsctl, ['--timeout=30', 'set', 'Open_vSwitch', '.', `ovs-version=${versionOf(programs)}`]);
    }
  } finally {
    run(vsctl, ['--no-wait', '--timeout=10', 'remove', 'Open_vSwitch', '.', 'other_config', FLOWS_STAY]);
  }
  const vswitchd = runningProgram('ovs-vswitchd', folders);
  if (vswitchd === null) {
    throw new CliError('FAILED', 'ovs-vswitchd ended at once', `look at ${join(folders.log, 'ovs-vswitchd.log')}`);
  }
  // Returns when it decides about flows itself.
  run(vsctl, ['--timeout=30', 'set', 'Open_vSwitch', '.', `ovs-version=${versionOf(programs)}`]);
  const bridges = run(vsctl, ['--timeout=10', 'list-br']).split('\n').filter(Boolean);
  return { socket, database, databasePid, vswitchdPid: vswitchd.pid, bridges, steps };
}

function startVswitchd(program: string, folders: OvsFolders, socket: string): void {
  run(
    program,
    [
      `unix:${join(folders.run, 'db.sock')}`,
      '-vconsole:emer',
      '-vsyslog:err',
      '-vfile:info',
      '--no-chdir',
      `--log-file=${join(folders.log, 'ovs-vswitchd.log')}`,
      `--pidfile=${join(folders.run, 'ovs-vswitchd.pid')}`,
      '--detach',
    ],
    shimEnvironment(socket),
  );
}

function versionOf(programs: ReadonlyMap<string, string>): string {
  return /(\d+\.\d+\.\d+)/.exec(run(programOf(programs, 'ovs-vswitchd'), ['--version']))?.[1] ?? 'unknown';
}

function startDatabase(
  programs: ReadonlyMap<string, string>,
  folders: OvsFolders,
  database: string,
  steps: string[],
): number {
  const there = runningProgram('ovsdb-server', folders);
  if (there !== null) return there.pid;
  const tool = programOf(programs, 'ovsdb-tool');
  const schema = join(folders.data, 'vswitch.ovsschema');
  if (!existsSync(database)) {
    run(tool, ['create', database, schema]);
    steps.push(`made the database ${database}`);
  } else if (run(tool, ['needs-conversion', database, schema]).trim() === 'yes') {
    run(tool, ['convert', database, schema]);
    steps.push(`converted the database ${database} to the installed version`);
  }
  run(programOf(programs, 'ovsdb-server'), [
    database,
    '-vconsole:emer',
    '-vsyslog:err',
    '-vfile:info',
    `--remote=punix:${join(folders.run, 'db.sock')}`,
    '--remote=db:Open_vSwitch,Open_vSwitch,manager_options',
    '--no-chdir',
    `--log-file=${join(folders.log, 'ovsdb-server.log')}`,
    `--pidfile=${join(folders.run, 'ovsdb-server.pid')}`,
    '--detach',
  ]);
  steps.push('started ovsdb-server');
  const started = runningProgram('ovsdb-server', folders);
  if (started === null) {
    throw new CliError('FAILED', 'ovsdb-server ended at once', `look at ${join(folders.log, 'ovsdb-server.log')}`);
  }
  run(programOf(programs, 'ovs-vsctl'), ['--no-wait', '--timeout=10', 'init']);
  return started.pid;
}

/** What was ended. */
export interface Stopped {
  readonly ended: readonly string[];
  /** Whether a daemon served the datapath of ovs-vswitchd: else that could take nothing away. */
  readonly hadDatapath: boolean;
}

/** End both programs. @param keepFlows leave datapath, ports and flows as they are */
export async function stopPrograms(keepFlows: boolean): Promise<Stopped> {
  const folders = ovsFolders();
  const steps: string[] = [];
  let hadDatapath = true;
  const vswitchd = runningProgram('ovs-vswitchd', folders);
  if (vswitchd !== null) {
    if (vswitchd.socket === null) {
      const hint = 'it is not Millrace that started it: systemctl stop openvswitch-switch';
      throw new CliError('REFUSED', `ovs-vswitchd (pid ${vswitchd.pid}) runs without Millrace`, hint);
    }
    const { pid, socket } = vswitchd;
    const appctl = programOf(requirePrograms(['ovs-appctl']), 'ovs-appctl');
    hadDatapath = await isServed(socket);
    await end('ovs-vswitchd', pid, () => {
      try {
        // Without its datapath it waits for that, and does not answer.
        if (!hadDatapath) throw new CliError('FAILED', `nobody serves ${socket}`);
        run(appctl, ['-t', 'ovs-vswitchd', '--timeout=10', 'exit', ...(keepFlows ? [] : ['--cleanup'])]);
      } catch (error) {
        if (!(error instanceof CliError) || !isAlive(pid)) throw error;
        process.kill(pid, 'SIGTERM');
      }
    });
    steps.push('ovs-vswitchd');
  }
  const database = runningProgram('ovsdb-server', folders);
  if (database !== null) {
    await end('ovsdb-server', database.pid, () => process.kill(database.pid, 'SIGTERM'));
    steps.push('ovsdb-server');
  }
  return { ended: steps, hadDatapath };
}

/** Whether somebody listens on a pseudo device, which is a socket of another type than is asked with. */
async function isServed(path: string): Promise<boolean> {
  const code = await new Promise<string>((resolve) => {
    const probe = connect(path);
    probe.once('error', (error) => resolve('code' in error ? String(error.code) : ''));
    probe.once('connect', () => {
      probe.destroy();
      resolve('');
    });
  });
  return code !== 'ECONNREFUSED' && code !== 'ENOENT';
}

/** Ask a process to end, and wait until it has. @throws CliError when it does not */
async function end(name: string, pid: number, ask: () => void): Promise<void> {
  ask();
  const deadline = Date.now() + END_TIMEOUT_MS;
  while (isAlive(pid)) {
    if (Date.now() > deadline) {
      throw new CliError('FAILED', `${name} (pid ${pid}) was asked to end and is still there`, `kill -9 ${pid}`);
    }
    await new Promise((resume) => setTimeout(resume, 20));
  }
}
