/**
 * How the tests ended when they were last recorded: the tables at the end of docs/conformance.md, which are read here and written. Rows are found by the
 * tests' names, as numbers differ between the drivers and between versions of Open vSwitch.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Whose } from './causes.ts';
import type { DatapathKind, SuiteTest } from './suite.ts';
import type { Outcome } from './verdict.ts';

/** The page's own text ends with this line. */
const MARK = '<!-- The rest of this page is written by `npm run conformance -- --record`. -->';

/** What was run when a column was recorded. */
export interface Column {
  readonly date: string;
  readonly version: string;
  readonly openVSwitch: string;
  readonly kernel: string;
}

/** One test. Null where it was not run. */
export interface Row {
  /** In the driver for the kernel's datapath; null for tests that only the other has. */
  readonly number: number | null;
  readonly group: string;
  readonly name: string;
  readonly outcomes: Readonly<Record<DatapathKind, Outcome | null>>;
  /** Why it does not pass on Millrace. */
  readonly cause: string;
}

export interface Recorded {
  readonly columns: Readonly<Record<DatapathKind, Column | null>>;
  readonly rows: readonly Row[];
}

/** What there is to say of a test beside what was recorded. */
export interface Ended {
  readonly test: SuiteTest;
  readonly outcome: Outcome;
  readonly cause: string;
  readonly whose: Whose;
  /** Whether its logs tell the cause. */
  readonly isExplained: boolean;
}

export type Judgement = 'as recorded' | 'better' | 'worse' | 'not judged' | 'new';

export const titleOf = ({ group, name }: { group: string; name: string }): string => `${group} - ${name}`;

/**
 * Compare how a test ended with what is recorded. What passed and does not pass now is worse, whatever the reason; only a kernel that lacks what the test needs
 * judges nothing.
 */
export function judge(recorded: Recorded, kind: DatapathKind, ended: Ended): Judgement {
  const title = titleOf(ended.test);
  const before = recorded.rows.find((row) => titleOf(row) === title)?.outcomes[kind] ?? null;
  if (before === null) return 'new';
  if (before === ended.outcome) return 'as recorded';
  if (ended.outcome === 'pass') return 'better';
  if (before !== 'pass') return 'as recorded';
  return ended.whose === 'kernel' ? 'not judged' : 'worse';
}

/**
 * What is recorded, with what was run now in its place. A cause that somebody has written into the page stays while the test ends as before and its logs tell none.
 * @param tests all tests of the driver for the kernel's datapath, for their numbers
 */
export function record(
  before: Recorded,
  kind: DatapathKind,
  column: Column,
  ended: readonly Ended[],
  tests: readonly SuiteTest[],
): Recorded {
  const numbers = new Map(tests.map((test) => [titleOf(test), test.number]));
  const rows = new Map(before.rows.map((row) => [titleOf(row), row]));
  for (const { test, outcome, cause, isExplained } of ended) {
    const title = titleOf(test);
    const row = rows.get(title);
    const isCauseKept =
      kind === 'millrace' && !isExplained && row !== undefined && row.outcomes.millrace === outcome && row.cause !== '';
    rows.set(title, {
      number: numbers.get(title) ?? null,
      group: test.group,
      name: test.name,
      outcomes: { millrace: null, userspace: null, ...row?.outcomes, [kind]: outcome },
      cause: isCauseKept ? row.cause : kind === 'millrace' ? cause : (row?.cause ?? ''),
    });
  }
  const place = (row: Row) => row.number ?? Number.POSITIVE_INFINITY;
  return {
    columns: { ...before.columns, [kind]: column },
    rows: [...rows.values()].sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b))),
  };
}

/** How many ended how. */
export function count(outcomes: Iterable<Outcome | null>): Record<Outcome, number> {
  const counts = { pass: 0, fail: 0, skip: 0 };
  for (const outcome of outcomes) if (outcome !== null) counts[outcome] += 1;
  return counts;
}

/** Read the page. @throws Error when it has no place for the tables */
export function readPage(path: string): Recorded {
  const [, tables] = splitPage(readFileSync(path, 'utf8'));
  return parseTables(tables);
}

/** Write the tables into the page; its own text stays. */
export function writePage(path: string, recorded: Recorded): void {
  const [own] = splitPage(readFileSync(path, 'utf8'));
  writeFileSync(path, `${own}${MARK}\n\n${renderTables(recorded)}`);
}

function splitPage(page: string): [string, string] {
  const at = page.indexOf(MARK);
  if (at < 0) throw new Error(`the page has no line ${MARK}`);
  return [page.slice(0, at), page.slice(at + MARK.length)];
}

const KINDS = ['millrace', 'userspace'] as const;
/** Rows of the table of columns, in order. */
const FACTS = { date: 'recorded', version: 'version', openVSwitch: 'Open vSwitch', kernel: 'kernel' } as const;
const NOTHING = '-';

/** The two tables of the page. */
export function renderTables({ columns, rows }: Recorded): string {
  const facts = Object.entries(FACTS).map(([fact, title]) => [
    title,
    ...KINDS.map((kind) => columns[kind]?.[fact as keyof Column] ?? NOTHING),
  ]);
  const counts = KINDS.map((kind) => (columns[kind] === null ? null : count(rows.map((row) => row.outcomes[kind]))));
  for (const outcome of ['pass', 'fail', 'skip'] as const) {
    facts.push([outcome, ...counts.map((one) => (one === null ? NOTHING : String(one[outcome])))]);
  }
  const tests = rows.map((row) => [
    row.number === null ? NOTHING : String(row.number),
    row.group,
    row.name,
    row.outcomes.millrace ?? NOTHING,
    row.cause === '' ? NOTHING : row.cause,
    row.outcomes.userspace ?? NOTHING,
  ]);
  return [
    table(['', 'Millrace', "Open vSwitch's userspace datapath"], facts),
    table(['no.', 'group', 'test', 'Millrace', 'why not', 'userspace'], tests),
  ].join('\n');
}

/** A bar inside a cell would end it. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}

/** What {@link renderTables} has written; nothing where there are no tables. @throws Error that names a line which is not of its making */
export function parseTables(text: string): Recorded {
  const facts = new Map<string, readonly string[]>();
  const rows: Row[] = [];
  for (const line of text.split('\n')) {
    if (!line.startsWith('| ') || /^\| (?:---|no\.| {1,2}\|)/.test(line)) continue;
    const cells = line
      .slice(2, line.lastIndexOf(' |'))
      .split(' | ')
      .map((cell) => cell.replaceAll('\\|', '|'));
    if (cells.length === 3) facts.set(cells[0], cells.slice(1));
    else rows.push(parseRow(line, cells));
  }
  const column = (index: number): Column | null => {
    const of = (title: string) => facts.get(title)?.[index] ?? NOTHING;
    const [date, version, openVSwitch, kernel] = Object.values(FACTS).map(of);
    return date === NOTHING ? null : { date, version, openVSwitch, kernel };
  };
  return { columns: { millrace: column(0), userspace: column(1) }, rows };
}

function parseRow(line: string, cells: readonly string[]): Row {
  if (cells.length !== 6) throw new Error(`not a row of the table of tests: ${line}`);
  const [number, group, name, millrace, cause, userspace] = cells;
  return {
    number: number === NOTHING ? null : Number(number),
    group,
    name,
    outcomes: { millrace: parseOutcome(line, millrace), userspace: parseOutcome(line, userspace) },
    cause: cause === NOTHING ? '' : cause,
  };
}

function parseOutcome(line: string, text: string): Outcome | null {
  if (text === NOTHING) return null;
  if (text === 'pass' || text === 'fail' || text === 'skip') return text;
  throw new Error(`${text} is neither pass, fail nor skip: ${line}`);
}
