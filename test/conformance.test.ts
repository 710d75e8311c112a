/**
 * Open vSwitch's own system tests in short: some that passed when docs/conformance.md was written. And their runner, with a driver of its own: what hangs or
 * fails does not keep the others, and nothing of it is left. `npm run conformance` runs the whole suite.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readPage, titleOf } from './conformance/record.ts';
import { runTests } from './conformance/run.ts';
import { missingForSandbox, type Result } from './conformance/sandbox.ts';
import { openSuite, type Suite, SuiteMissing } from './conformance/suite.ts';
import { buildShim } from './ovs-world.ts';

/** One of each kind that there is; those that the page says pass are run. */
const FEW = [
  'datapath - http between two ports',
  'datapath - ping6 between two ports with header modify',
  'datapath - mpls actions',
  'datapath - basic truncate action',
  'nsh - forward',
  'interface - add delete add same interface',
  'conntrack - ICMP related',
  'conntrack - IPv4 HTTP',
  'conntrack - SNAT with port range',
];

const PAGE = join(import.meta.dirname, '../docs/conformance.md');

function open(): Suite | string {
  const missing = missingForSandbox();
  if (missing !== null) return missing;
  try {
    return openSuite('millrace');
  } catch (error) {
    if (error instanceof SuiteMissing) return error.message;
    throw error;
  }
}

const suite = open();
if (typeof suite === 'string') {
  test.skip(`Open vSwitch's own tests are left out: ${suite}`, () => undefined);
} else {
  test("tests of Open vSwitch's own suite pass with Millrace where openvswitch.ko would be", async () => {
    buildShim();
    const passing = readPage(PAGE).rows.filter((row) => row.outcomes.millrace === 'pass');
    const chosen = passing.map(titleOf).filter((title) => FEW.includes(title));
    expect(chosen.length).toBeGreaterThanOrEqual(6);
    const few = suite.tests.filter((one) => chosen.includes(titleOf(one)));
    expect(few).toHaveLength(chosen.length);
    const results = await runTests(suite, few, {
      jobs: 2,
      limitSeconds: 120,
      offload: 'auto',
      isExpectedToFail: () => false,
      ended: () => undefined,
    });
    expect(results.filter((result) => result.outcome !== 'pass')).toEqual([]);
  }, 600_000);
}

/** A driver of three tests; the variable of the place keeps what is to outlive a test. */
const DRIVER = `
number=$4
title() { printf '  %d: fake - %s   ' "$number" "$1"; }
case $number in
1) title fine; ip netns add inner && echo ok ;;
2) title hangs; ip netns add inner; sleep 86399 & exec sleep 86399 ;;
3) title 'fails once'; if [ -e "$PLACE/again" ]; then echo ok; else touch "$PLACE/again"; echo 'FAILED (x.at:1)'; fi ;;
esac
`;

describe('the runner', () => {
  let place: string;
  let fake: Suite;

  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), 'millrace-conform-'));
    const tests = join(place, 'tests');
    mkdirSync(tests);
    writeFileSync(join(tests, 'atlocal.in'), '');
    const driver = join(tests, 'fake-testsuite');
    writeFileSync(driver, DRIVER.replaceAll('$PLACE', place));
    chmodSync(driver, 0o755);
    const names = ['fine', 'hangs', 'fails once'];
    const listed = names.map((name, index) => ({ number: index + 1, group: 'fake', name }));
    fake = { kind: 'userspace', sources: place, driver, tests: listed };
    process.env.XDG_CACHE_HOME = join(place, 'cache');
  });
  afterEach(() => {
    delete process.env.XDG_CACHE_HOME;
    rmSync(place, { recursive: true, force: true });
  });

  const here = test.runIf(missingForSandbox() === null);

  async function run(
    numbers: readonly number[],
    more: { known?: number; signal?: AbortSignal } = {},
  ): Promise<[Result[], string[]]> {
    const told: string[] = [];
    const results = await runTests(
      fake,
      fake.tests.filter((one) => numbers.includes(one.number)),
      {
        jobs: 2,
        limitSeconds: 3,
        offload: 'auto',
        ...(more.signal === undefined ? {} : { signal: more.signal }),
        isExpectedToFail: (one) => one.number === more.known,
        ended: ({ test: { name }, outcome }, again) => told.push(`${name}: ${outcome}${again ? ', again' : ''}`),
      },
    );
    return [results, told];
  }

  /** Processes with these words in their command line. */
  function processesWith(words: string): string[] {
    return readdirSync('/proc').filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').includes(words);
      } catch {
        return false;
      }
    });
  }

  here('a test that hangs is ended with everything that it started, and the others run', async () => {
    const before = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout;
    const [results] = await run([1, 2], { known: 2 });
    expect(results.map((result) => [result.test.number, result.outcome, result.cause])).toEqual([
      [1, 'pass', ''],
      [2, 'fail', 'not ended within 3 s'],
    ]);
    expect(processesWith('sleep 86399')).toEqual([]);
    expect(spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout).not.toMatch(/^inner/m);
    expect(before).not.toMatch(/^inner/m);
    const [, { logs }] = results;
    expect(logs === null ? '' : readFileSync(join(logs, 'said'), 'utf8')).toContain('hangs');
  });

  here('what fails is run once more by itself, unless it is known to fail', async () => {
    const [results, told] = await run([1, 3]);
    expect(results.map((result) => result.outcome)).toEqual(['pass', 'pass']);
    expect(told.toSorted()).toEqual(['fails once: fail, again', 'fails once: pass', 'fine: pass']);
    rmSync(join(place, 'again'));
    const [, known] = await run([3], { known: 3 });
    expect(known).toEqual(['fails once: fail']);
  });

  here('an interruption ends what runs, and nothing is run again', async () => {
    const interruption = new AbortController();
    setTimeout(() => interruption.abort(), 500);
    const [results] = await run([2], { signal: interruption.signal });
    expect(results).toEqual([]);
    expect(processesWith('sleep 86399')).toEqual([]);
    expect(existsSync(join(place, 'cache'))).toBe(false);
  });
});
