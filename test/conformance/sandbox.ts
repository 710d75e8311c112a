/**
 * Runs one test of Open vSwitch's suite: in network, mount and process namespaces of its own, with a daemon of its own, for a limited time. What is left
 * of it is a folder. Neighbours: sandbox.sh runs inside, verdict.ts reads what was said.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram, shimPath } from '../../src/cli/ovs/programs.ts';
import { cacheFolder, type Suite, type SuiteTest } from './suite.ts';
import { readVerdict, type Verdict } from './verdict.ts';

const root = join(import.meta.dirname, '../..');

export interface SandboxOptions {
  /** Longest time of a test, in seconds. */
  readonly limitSeconds: number;
  /** `offload` of the daemon's configuration. */
  readonly offload: 'auto' | 'off' | 'require';
  /** Ends the test before its time; its result says nothing then. */
  readonly signal?: AbortSignal;
}

/** How a test went. */
export interface Result extends Verdict {
  readonly test: SuiteTest;
  readonly seconds: number;
  /** Where the logs of a test that did not pass are kept. */
  readonly logs: string | null;
}

/** Programs that speak to the datapath themselves, and so need the shim. */
const SHIMMED = ['ovs-vswitchd', 'ovs-dpctl', 'conntrack'] as const;
/** Where the daemon has its pseudo device when nothing else is said; each sandbox has a /run of its own. */
const PSEUDO_DEVICE = '/run/millrace/ovs-netlink.sock';

/** Run one test. */
export async function runTest(suite: Suite, test: SuiteTest, options: SandboxOptions): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'mr-conform-'));
  const begunMs = performance.now();
  try {
    prepare(folder, suite, options);
    const isInTime = await enter(folder, suite, test, options);
    const seconds = (performance.now() - begunMs) / 1000;
    const verdict = readVerdict(folder, suite, test, isInTime ? null : `not ended within ${options.limitSeconds} s`);
    const isToBeKept = verdict.outcome === 'fail' && options.signal?.aborted !== true;
    return { test, seconds, ...verdict, logs: isToBeKept ? keep(folder, suite, test) : null };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function prepare(folder: string, suite: Suite, options: SandboxOptions): void {
  const programs = join(folder, 'bin');
  mkdirSync(programs);
  // The datapath needs no kernel modules, and the machine's are none of a test's business.
  program(programs, 'modprobe', 'exit 0');
  program(programs, 'ip', ipWithVlans());
  if (suite.kind === 'millrace') {
    program(programs, 'millrace', `exec ${quoted(process.execPath)} ${quoted(join(root, 'bin/millrace.js'))} "$@"`);
    const variables = `LD_PRELOAD=${quoted(shimPath())} MILLRACE_OVS_SOCKET=${PSEUDO_DEVICE}`;
    for (const name of SHIMMED) {
      const path = findProgram(name);
      if (path !== null) program(programs, name, `${variables} exec ${quoted(path)} "$@"`);
    }
    writeFileSync(join(folder, 'millrace.yaml'), `offload: ${options.offload}\nextensions:\n  - name: ovs\n`);
  }
  writeFileSync(join(folder, 'atconfig'), atconfig(folder, suite.sources));
  writeFileSync(join(folder, 'atlocal'), atlocal(suite.sources));
}

/** `ip` that makes VLAN devices also where the kernel does not. */
function ipWithVlans(): string {
  const make = [
    process.execPath,
    join(root, 'node_modules/jiti/lib/jiti-cli.mjs'),
    join(import.meta.dirname, 'vlan-device.ts'),
  ];
  const ip = quoted(findProgram('ip') ?? '/sbin/ip');
  return `
case "$1 $2 $3 $5 $7 $8 $9 \${11}" in
'link add link name type vlan proto id')
  said=$(${ip} "$@" 2>&1) && exit
  case $said in
  *'Unknown device type'*) exec ${make.map(quoted).join(' ')} "$4" "$6" "\${10}" "\${12}" ;;
  *) echo "$said" >&2; exit 2 ;;
  esac ;;
esac
exec ${ip} "$@"`;
}

function program(folder: string, name: string, text: string): void {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** What `configure` would say: where things are. */
function atconfig(folder: string, sources: string): string {
  const settings = {
    at_testdir: 'tests',
    abs_builddir: folder,
    at_srcdir: join(sources, 'tests'),
    abs_srcdir: join(sources, 'tests'),
    at_top_srcdir: sources,
    abs_top_srcdir: sources,
    at_top_build_prefix: `${folder}/`,
    abs_top_builddir: folder,
    at_top_builddir: `${folder}/`,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${quoted(value)}\n`);
  return `${lines.join('')}SHELL=\${CONFIG_SHELL-'/bin/bash'}\n`;
}

/** What `configure` would find out. */
const FOUND_OUT: Readonly<Record<string, string>> = {
  HAVE_OPENSSL: 'no',
  HAVE_UNBOUND: 'no',
  EGREP: 'grep -E',
  PYTHON3: '/usr/bin/python3',
};

function atlocal(sources: string): string {
  const text = readFileSync(join(sources, 'tests/atlocal.in'), 'utf8');
  return text.replaceAll(/@([A-Za-z]\w*)@/g, (_, name: string) => FOUND_OUT[name] ?? '');
}

/** @returns whether it ended by itself */
async function enter(folder: string, suite: Suite, test: SuiteTest, options: SandboxOptions): Promise<boolean> {
  const configuration = suite.kind === 'millrace' ? [join(folder, 'millrace.yaml')] : [];
  // Whatever ends this process ends unshare, and that ends the first process of the namespaces, and so all of them.
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL'],
      ...['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'],
      ...['bash', join(import.meta.dirname, 'sandbox.sh'), folder, suite.driver, String(test.number), ...configuration],
    ],
    { cwd: folder, detached: true, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let complaint = '';
  child.stderr?.on('data', (text) => {
    complaint += text;
  });
  const isInTime = await ended(child, options);
  if (complaint !== '') writeFileSync(join(folder, 'sandbox.log'), complaint);
  return isInTime;
}

/** Wait for the end, or bring it about. */
function ended(child: ChildProcess, { limitSeconds, signal }: SandboxOptions): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let isInTime = true;
    const end = () => {
      isInTime = false;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(end, limitSeconds * 1000);
    signal?.addEventListener('abort', end);
    if (signal?.aborted === true) end();
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
    };
    child.once('error', (error) => {
      settle();
      reject(error);
    });
    child.once('close', () => {
      settle();
      resolve(isInTime);
    });
  });
}

/** Keep what a failing test has left, in place of what it left before. @returns where */
function keep(folder: string, suite: Suite, test: SuiteTest): string {
  const kept = join(cacheFolder(), 'failed', suite.kind, String(test.number).padStart(3, '0'));
  rmSync(kept, { recursive: true, force: true });
  cpSync(folder, kept, {
    recursive: true,
    filter: (path) => {
      const entry = lstatSync(path);
      return entry.isFile() || entry.isDirectory();
    },
  });
  return kept;
}

/** Whether tests can run here at all. @returns what is missing, or null */
export function missingForSandbox(): string | null {
  if (process.getuid?.() !== 0) return 'root is needed';
  for (const name of ['ovs-vswitchd', 'unshare', 'setpriv']) {
    if (findProgram(name) === null) return `there is no program ${name}`;
  }
  return existsSync('/usr/bin/python3') ? null : 'there is no /usr/bin/python3';
}
