/** Which tests of the suite are meant: by the numbers of docs/conformance.md, as ranges, and by words of their names. */
import type { SuiteTest } from './suite.ts';

/** Numbers from first to last. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

/** @throws RangeError when it is neither `12` nor `14-20` */
export function parseRange(text: string): Range {
  const found = /^(\d+)(?:-(\d+))?$/.exec(text);
  const first = Number(found?.[1]);
  const last = Number(found?.[2] ?? first);
  if (found === null || first < 1 || last < first)
    throw new RangeError(`${text} is neither a number of a test nor a range such as 14-20`);
  return { first, last };
}

export interface Wanted {
  /** All when there are none. */
  readonly ranges: readonly Range[];
  /** Groups, or words of groups and names; all when there are none. */
  readonly words: readonly string[];
}

/**
 * The tests that are wanted, in order.
 * @param numberOf a test's number in the page, or null when it has none
 * @throws RangeError that names a range or a word that no test has
 */
export function select(
  tests: readonly SuiteTest[],
  wanted: Wanted,
  numberOf: (test: SuiteTest) => number | null,
): SuiteTest[] {
  const isIn = (test: SuiteTest, { first, last }: Range) => {
    const number = numberOf(test);
    return number !== null && number >= first && number <= last;
  };
  const has = (test: SuiteTest, word: string) =>
    `${test.group} - ${test.name}`.toLowerCase().includes(word.toLowerCase());
  for (const range of wanted.ranges) {
    if (!tests.some((test) => isIn(test, range)))
      throw new RangeError(`there is no test from ${range.first} to ${range.last}`);
  }
  for (const word of wanted.words) {
    if (!tests.some((test) => has(test, word))) throw new RangeError(`no test has "${word}" in its name`);
  }
  return tests.filter(
    (test) =>
      (wanted.ranges.length === 0 || wanted.ranges.some((range) => isIn(test, range))) &&
      (wanted.words.length === 0 || wanted.words.some((word) => has(test, word))),
  );
}
