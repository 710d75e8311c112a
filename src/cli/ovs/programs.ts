/**
 * Open vSwitch's own programs: where they are, where they keep their files, and which of them run. Folders are those that the
 * programs themselves use, so that they find each other without options: see ovs-vsctl(8) and the variables OVS_*.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CliError } from '../exit.ts';

const INSTALL_HINT = 'install Open vSwitch: apt install openvswitch-switch';

/** Where Open vSwitch's files are. */
export interface OvsFolders {
  /** Sockets and process ids. */
  readonly run: string;
  readonly database: string;
  readonly log: string;
  /** The database schema. */
  readonly data: string;
}

/** The folders, with the meaning that ovs-ctl(8) gives the environment. */
export function ovsFolders(environment: NodeJS.ProcessEnv = process.env): OvsFolders {
  const { OVS_RUNDIR, OVS_DBDIR, OVS_SYSCONFDIR, OVS_LOGDIR, OVS_PKGDATADIR } = environment;
  return {
    run: OVS_RUNDIR ?? '/var/run/openvswitch',
    database: OVS_DBDIR ?? (OVS_SYSCONFDIR === undefined ? '/etc/openvswitch' : `${OVS_SYSCONFDIR}/openvswitch`),
    log: OVS_LOGDIR ?? '/var/log/openvswitch',
    data: OVS_PKGDATADIR ?? '/usr/share/openvswitch',
  };
}

/** Where a program is, also outside of an ordinary user's PATH; null when it is not there. */
export function findProgram(name: string): string | null {
  if (name.includes('/')) return existsSync(name) ? name : null;
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  for (const folder of folders) {
    if (folder === '') continue;
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // Not in this one.
    }
  }
  return null;
}

/** @throws CliError that says what to install */
export function requirePrograms(names: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of names) {
    const path = findProgram(name);
    if (path === null) throw new CliError('FAILED', `there is no program ${name}`, INSTALL_HINT);
    found.set(name, path);
  }
  return found;
}

/**
 * The library that connects the programs to Millrace.
 * @throws CliError when it has not been built
 */
export function shimPath(): string {
  const given = process.env.MILLRACE_OVS_SHIM;
  if (given !== undefined && given !== '') {
    if (existsSync(given)) return given;
    throw new CliError('USAGE', `MILLRACE_OVS_SHIM names ${given}, which is not there`);
  }
  const native = fileURLToPath(new URL('../../../native/', import.meta.url));
  for (const folder of ['build', 'prebuilt']) {
    const path = join(native, folder, process.arch, 'millrace-shim.so');
    if (existsSync(path)) return path;
  }
  throw new CliError(
    'FAILED',
    `the shim for Open vSwitch's programs has not been built for ${process.arch}`,
    `build it: ${join(native, 'build.sh')} (it needs a C compiler: apt install gcc libc6-dev)`,
  );
}

/** The environment of a program that is to find Millrace where it looks for openvswitch.ko. */
export function shimEnvironment(socket: string): NodeJS.ProcessEnv {
  const others = (process.env.LD_PRELOAD ?? '').split(/[ :]+/).filter((path) => path !== '' && path !== shimPath());
  return { ...process.env, LD_PRELOAD: [shimPath(), ...others].join(':'), MILLRACE_OVS_SOCKET: socket };
}

/** A program that runs. */
export interface Running {
  readonly pid: number;
  /** The pseudo device that it speaks to; null when it runs without the shim. */
  readonly socket: string | null;
}

/** Whether a process runs: one that has ended and that nobody has waited for does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** What a program's process id file says, if such a process runs. */
export function runningProgram(name: string, folders: OvsFolders): Running | null {
  try {
    const pid = Number(readFileSync(join(folders.run, `${name}.pid`), 'utf8').trim());
    if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return null;
    if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== name) return null;
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    const socket = variables.find((variable) => variable.startsWith('MILLRACE_OVS_SOCKET='));
    return { pid, socket: socket === undefined ? null : socket.slice(socket.indexOf('=') + 1) };
  } catch {
    return null;
  }
}

/**
 * Run a program to its end.
 * @throws CliError with what it said
 */
export function run(path: string, args: readonly string[], environment: NodeJS.ProcessEnv = process.env): string {
  const result: SpawnSyncReturns<string> = spawnSync(path, args, {
    encoding: 'utf8',
    env: environment,
    timeout: 60_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (result.error === undefined && result.status === 0) return result.stdout;
  const name = path.slice(path.lastIndexOf('/') + 1);
  const said = result.error?.message ?? (result.stderr.trim() || result.stdout.trim());
  throw new CliError('FAILED', `${name} failed: ${said === '' ? `code ${result.status}` : said}`);
}
