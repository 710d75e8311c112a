/**
 * Open vSwitch's own system tests from the command line: npm run conformance -- --help. What passed when docs/conformance.md was written and does not pass now
 * is an error.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { count, type Judgement, judge, readPage, record, titleOf, writePage } from './record.ts';
import { runTests } from './run.ts';
import { missingForSandbox, type Result, type SandboxOptions } from './sandbox.ts';
import { parseRange, type Range, select } from './selection.ts';
import { openSuite, packageVersion, type Suite, SuiteMissing, type SuiteTest } from './suite.ts';

const root = join(import.meta.dirname, '../..');
const page = join(root, 'docs/conformance.md');

interface Options {
  only: string[];
  userspace: boolean;
  jobs: number;
  limit: number;
  offload: SandboxOptions['offload'];
  record: boolean;
  list: boolean;
  json?: string | true;
}

const say = (line: string) => process.stderr.write(`${line}\n`);

function open(kind: Suite['kind']): Suite {
  try {
    return openSuite(kind);
  } catch (error) {
    if (error instanceof SuiteMissing) return program.error(error.message);
    throw error;
  }
}

function choose(
  suite: Suite,
  ranges: readonly Range[],
  options: Options,
  numberOf: (test: SuiteTest) => number | null,
): SuiteTest[] {
  try {
    return select(suite.tests, { ranges, words: options.only }, numberOf);
  } catch (error) {
    if (error instanceof RangeError) return program.error(error.message);
    throw error;
  }
}

async function main(ranges: readonly Range[], options: Options): Promise<void> {
  const kind = options.userspace ? 'userspace' : 'millrace';
  const suite = open(kind);
  const numbered = options.userspace ? open('millrace').tests : suite.tests;
  const numbers = new Map(numbered.map((test) => [titleOf(test), test.number]));
  const numberOf = (test: SuiteTest) => numbers.get(titleOf(test)) ?? null;
  const tests = choose(suite, ranges, options, numberOf);
  const named = (test: SuiteTest) => `${String(numberOf(test) ?? '-').padStart(3)}  ${titleOf(test)}`;
  if (options.list) {
    for (const test of tests) console.log(named(test));
    return;
  }
  const missing = missingForSandbox();
  if (missing !== null) program.error(`the tests cannot be run here: ${missing}`);

  const before = readPage(page);
  const interruption = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interruption.abort());
  const begunMs = performance.now();
  const outcomes = new Map(before.rows.map((row) => [titleOf(row), row.outcomes[kind]]));
  const seen = new Set<SuiteTest>();
  const results = await runTests(suite, tests, {
    jobs: options.jobs,
    limitSeconds: options.limit,
    offload: options.offload,
    signal: interruption.signal,
    isExpectedToFail: (test) => outcomes.get(titleOf(test)) === 'fail',
    ended: (result, again) => {
      const { test, outcome, cause, seconds } = result;
      seen.add(test);
      const why = cause === '' ? '' : `: ${cause}`;
      const next = again ? '; it is run once more by itself, later' : '';
      say(`${outcome}  ${named(test)}  (${seconds.toFixed(1)} s, ${seen.size} of ${tests.length})${why}${next}`);
    },
  });

  const judged = results.map((result) => ({ result, judgement: judge(before, kind, result) }));
  const column = {
    date: new Date().toISOString().slice(0, 10),
    version: kind === 'millrace' ? `Millrace ${versionOfMillrace()}` : 'as installed',
    openVSwitch: packageVersion('openvswitch-switch') ?? 'unknown',
    kernel: `Linux ${release()}`,
  };
  const wasInterrupted = interruption.signal.aborted;
  const counts = count(results.map((result) => result.outcome));
  const report = {
    datapath: kind,
    ...column,
    wasInterrupted,
    seconds: Math.round((performance.now() - begunMs) / 1000),
    ...counts,
    tests: judged.map(({ result, judgement }) => {
      const { test, ...rest } = result;
      return { number: numberOf(test), group: test.group, name: test.name, ...rest, judgement };
    }),
  };
  if (typeof options.json === 'string') writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  if (options.json === true) console.log(JSON.stringify(report, null, 2));
  if (options.record) {
    writePage(page, record(before, kind, column, results, numbered));
    say(`recorded in ${page}`);
  }
  summarise(judged, named);
  const { pass, fail, skip } = counts;
  say(`${pass} pass, ${fail} fail, ${skip} skip of ${tests.length} in ${report.seconds} s`);
  if (wasInterrupted) say('interrupted: the others were not run');
  process.exitCode = wasInterrupted || judged.some(({ judgement }) => judgement === 'worse') ? 1 : 0;
}

/** What each judgement that is worth a word means. */
const MEANINGS: Partial<Record<Judgement, string>> = {
  better: 'did not pass when the page was written, and passes now (--record writes it down)',
  'not judged': 'passed when the page was written; this kernel lacks what it needs',
  worse: 'PASSED when the page was written, and does NOT pass now',
};

function summarise(
  judged: readonly { result: Result; judgement: Judgement }[],
  named: (test: SuiteTest) => string,
): void {
  for (const [judgement, meaning] of Object.entries(MEANINGS)) {
    const those = judged.filter((one) => one.judgement === judgement);
    if (those.length === 0) continue;
    say(`\n${meaning}:`);
    for (const { result } of those) {
      const more = [result.cause, result.logs ?? ''].filter((text) => text !== '').join('; ');
      say(`  ${named(result.test)}${more === '' ? '' : `: ${more}`}`);
    }
  }
  say('');
}

function versionOfMillrace(): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return version;
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number from 1 on');
  return value;
}

function ranges(text: string, before: readonly Range[] = []): Range[] {
  try {
    return [...before, parseRange(text)];
  } catch (error) {
    if (error instanceof RangeError) throw new InvalidArgumentError(error.message);
    throw error;
  }
}

const program = new Command('npm run conformance --')
  .description("Run Open vSwitch's own system tests against Millrace, and compare with docs/conformance.md.")
  .argument('[tests...]', 'numbers of that page, and ranges: 12 14-20; all tests when not given', ranges, [])
  .option('--only <words...>', 'only tests with one of these words in their group or name', [])
  .option('--userspace', "run them against Open vSwitch's own userspace datapath, to compare", false)
  .option('--jobs <n>', 'how many at a time', positiveInteger, Math.min(4, availableParallelism()))
  .option('--limit <seconds>', 'longest time of a test', positiveInteger, 180)
  .addOption(
    new Option('--offload <mode>', "`offload` of the daemon's configuration")
      .choices(['auto', 'off', 'require'])
      .default('auto'),
  )
  .option('--record', 'write the results into docs/conformance.md', false)
  .option('--list', 'only list the tests', false)
  .option('--json [file]', 'results as JSON, or into a file')
  .action(main);
await program.parseAsync();
