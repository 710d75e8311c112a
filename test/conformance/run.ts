/**
 * Runs many tests of Open vSwitch's suite, some at a time: each has namespaces of its own, so that only the processor is shared. What fails may have failed
 * for that: unless its logs tell the cause, it is run once more when nothing else runs.
 */
import { type Result, runTest, type SandboxOptions } from './sandbox.ts';
import type { Suite, SuiteTest } from './suite.ts';

export interface RunOptions extends SandboxOptions {
  /** How many at a time. */
  readonly jobs: number;
  /** Whether a test that failed is known to fail; it is not run again then. */
  isExpectedToFail(test: SuiteTest): boolean;
  /** Told of each test as it ends, and whether it will be run again. */
  ended(result: Result, again: boolean): void;
}

/** Run tests. @returns their results in the order of the tests; those that an interruption left out are missing */
export async function runTests(suite: Suite, tests: readonly SuiteTest[], options: RunOptions): Promise<Result[]> {
  const results = new Map<SuiteTest, Result>();
  const again: SuiteTest[] = [];
  const isOver = () => options.signal?.aborted === true;
  const waiting = [...tests];
  const work = async () => {
    for (let test = waiting.shift(); test !== undefined && !isOver(); test = waiting.shift()) {
      const result = await runTest(suite, test, options);
      if (isOver()) return;
      const isDoubtful = result.outcome === 'fail' && !result.isExplained && !options.isExpectedToFail(test);
      options.ended(result, isDoubtful);
      results.set(test, result);
      if (isDoubtful) again.push(test);
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, work));
  for (const test of again) {
    if (isOver()) break;
    const result = await runTest(suite, test, options);
    if (isOver()) break;
    options.ended(result, false);
    results.set(test, result);
  }
  return tests.flatMap((test) => results.get(test) ?? []);
}
