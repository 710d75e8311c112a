/**
 * Open vSwitch's own system tests, as Debian's package openvswitch-source has them. The archive is unpacked into a cache outside of this tree; nothing of
 * it becomes part of Millrace. Neighbour: sandbox.ts runs one of the tests.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where the package puts the sources. */
const ARCHIVE = '/usr/src/openvswitch/openvswitch.tar.gz';

/** Whose datapath the tests are run against: Millrace where openvswitch.ko would be, or the one that ovs-vswitchd has in itself. */
export type DatapathKind = 'millrace' | 'userspace';

/** The driver for each: the tests are nearly the same, the expectations of the kernel's datapath are their own. */
const DRIVERS: Readonly<Record<DatapathKind, string>> = {
  millrace: 'system-kmod-testsuite',
  userspace: 'system-userspace-testsuite',
};

/** One test. */
export interface SuiteTest {
  /** In its driver. */
  readonly number: number;
  readonly group: string;
  /** Without the group. */
  readonly name: string;
}

/** The suite cannot be had; the message says what to do. */
export class SuiteMissing extends Error {}

/** The unpacked suite for one datapath. */
export interface Suite {
  readonly kind: DatapathKind;
  /** Top of Open vSwitch's sources. */
  readonly sources: string;
  /** The program that runs tests by number; its file name is that of its logs, too. */
  readonly driver: string;
  readonly tests: readonly SuiteTest[];
}

/** Where the sources and what failing tests leave are kept. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'millrace/conformance');
}

/** The version of a Debian package, or null when it is not installed. */
export function packageVersion(name: string): string | null {
  try {
    const shown = execFileSync('dpkg-query', ['--status', name], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return /^Status: .* installed$/m.test(shown) ? (/^Version: (\S+)$/m.exec(shown)?.[1] ?? null) : null;
  } catch {
    return null;
  }
}

/**
 * Open the suite, unpacking it when that has not been done.
 * @throws SuiteMissing when the package is not there, or something that it needs
 */
export function openSuite(kind: DatapathKind): Suite {
  const version = packageVersion('openvswitch-source');
  if (version === null || !existsSync(ARCHIVE)) {
    throw new SuiteMissing('the package openvswitch-source is missing: apt-get install openvswitch-source');
  }
  const sources = join(cacheFolder(), `openvswitch-${version.replaceAll(/[^\w.+~-]/g, '_')}`);
  if (!existsSync(sources)) unpack(sources);
  const driver = join(sources, 'tests', DRIVERS[kind]);
  return { kind, sources, driver, tests: listTests(driver) };
}

/** Two may unpack at once: each has a folder of its own until it is whole. */
function unpack(sources: string): void {
  mkdirSync(cacheFolder(), { recursive: true });
  const staging = mkdtempSync(`${sources}.`);
  try {
    execFileSync('tar', ['-xzf', ARCHIVE, '-C', staging, '--strip-components=1', '--no-same-owner']);
    for (const name of Object.values(DRIVERS)) buildDriver(staging, name);
    if (!existsSync(sources)) renameSync(staging, sources);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** Releases come with the drivers that autotest makes of the tests; sources out of version control do not. */
function buildDriver(sources: string, name: string): void {
  if (existsSync(join(sources, 'tests', name))) return;
  const args = ['--language=autotest', '-I', '.', '-I', 'tests', '-o', `tests/${name}`, `tests/${name}.at`];
  try {
    execFileSync('autom4te', args, { cwd: sources, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  } catch (error) {
    throw new SuiteMissing(
      `the source package has no tests/${name}, and autom4te cannot make it (apt-get install autoconf): ${String(error)}`,
    );
  }
}

function listTests(driver: string): SuiteTest[] {
  const listed = execFileSync('bash', [driver, '--list'], { encoding: 'utf8', maxBuffer: 16 << 20 });
  const tests = parseList(listed);
  if (tests.length === 0) throw new SuiteMissing(`${driver} --list names no tests`);
  return tests;
}

/** The tests that a driver lists; a line with keywords may follow each. */
export function parseList(listed: string): SuiteTest[] {
  return [...listed.matchAll(/^ *(\d+): \S+\.at:\d+ +(\S.*)$/gm)].map(([, number, title]) => ({
    number: Number(number),
    ...splitTitle(title.trim()),
  }));
}

/** `conntrack - ICMP related` is the test `ICMP related` of the group `conntrack`. */
function splitTitle(title: string): { group: string; name: string } {
  const [, group, name] = /^(\S+) --? (.+)$/.exec(title) ?? [null, 'other', title];
  return { group, name };
}
