import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../tree/files.ts';
import type { Whose } from './causes.ts';
import {
  count,
  type Ended,
  judge,
  parseTables,
  type Recorded,
  readPage,
  record,
  renderTables,
  writePage,
} from './record.ts';
import type { Outcome } from './verdict.ts';

const COLUMN = { date: '2026-01-02', version: 'Millrace 1', openVSwitch: '3.1.0', kernel: 'Linux 6.18' };
const TESTS = ['ping', 'a | b', 'NAT'].map((name, index) => ({ number: index + 1, group: 'conntrack', name }));
const NOTHING: Recorded = { columns: { millrace: null, userspace: null }, rows: [] };

const ended = (index: number, outcome: Outcome, cause = '', whose: Whose = 'datapath'): Ended => ({
  test: TESTS[index],
  outcome,
  cause,
  whose,
  isExplained: !cause.startsWith('at '),
});
const recorded = record(NOTHING, 'millrace', COLUMN, [ended(0, 'pass'), ended(2, 'fail', 'no NAT')], TESTS);

test('tables are read as they were written', () => {
  const both = record(recorded, 'userspace', { ...COLUMN, version: 'as installed' }, [ended(1, 'skip')], TESTS);
  expect(parseTables(renderTables(both))).toEqual(both);
  expect(parseTables(renderTables(NOTHING))).toEqual(NOTHING);
});

test('a recording replaces what was run, and leaves other tests and the other column as they are', () => {
  const userspace = record(recorded, 'userspace', COLUMN, [ended(2, 'pass'), ended(0, 'fail', 'not told')], TESTS);
  const later = record(userspace, 'millrace', { ...COLUMN, date: '2026-02-03' }, [ended(2, 'pass')], TESTS);
  expect(later.rows.map((row) => [row.number, row.outcomes.millrace, row.outcomes.userspace, row.cause])).toEqual([
    [1, 'pass', 'fail', ''],
    [3, 'pass', 'pass', ''],
  ]);
  expect([later.columns.millrace?.date, later.columns.userspace?.date]).toEqual(['2026-02-03', '2026-01-02']);
});

test('a cause that was written by hand stays while the test ends as before and tells none', () => {
  const again = (outcome: Outcome, cause: string) =>
    record(recorded, 'millrace', COLUMN, [ended(2, outcome, cause)], TESTS).rows.at(-1)?.cause;
  expect(again('fail', 'at system-traffic.at:5')).toBe('no NAT');
  expect(again('fail', 'no such kind of tunnel')).toBe('no such kind of tunnel');
  expect(again('skip', 'at system-traffic.at:5')).toBe('at system-traffic.at:5');
  expect(again('pass', '')).toBe('');
});

test('a test that only the userspace driver has comes last, without a number', () => {
  const extra = { number: 1, group: 'ovs-route', name: 'routes' };
  const both = record(recorded, 'userspace', COLUMN, [{ ...ended(0, 'pass'), test: extra }], TESTS);
  expect(both.rows.at(-1)).toMatchObject({ number: null, name: 'routes' });
});

test('what passed and does not pass now is worse, also when it is skipped, but for the kernel that lacks something', () => {
  expect(judge(recorded, 'millrace', ended(0, 'fail'))).toBe('worse');
  expect(judge(recorded, 'millrace', ended(0, 'skip', 'no ftp', 'machine'))).toBe('worse');
  expect(judge(recorded, 'millrace', ended(0, 'fail', 'no 8021q', 'kernel'))).toBe('not judged');
  expect(judge(recorded, 'millrace', ended(0, 'pass'))).toBe('as recorded');
});

test('what did not pass is better when it passes, and no error when it fails in another way', () => {
  expect(judge(recorded, 'millrace', ended(2, 'pass'))).toBe('better');
  expect(judge(recorded, 'millrace', ended(2, 'skip'))).toBe('as recorded');
  expect(judge(recorded, 'millrace', ended(1, 'fail'))).toBe('new');
  expect(judge(recorded, 'userspace', ended(0, 'fail'))).toBe('new');
});

test("the page's own text stays when tables are written", () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-record-'));
  try {
    const path = join(folder, 'page.md');
    writeFileSync(path, readFileSync(join(ROOT, 'docs/conformance.md')));
    const own = readFileSync(path, 'utf8').split('<!--')[0];
    writePage(path, recorded);
    expect(readFileSync(path, 'utf8').split('<!--')[0]).toBe(own);
    expect(readPage(path)).toEqual(recorded);
    writePage(path, recorded);
    expect(readPage(path)).toEqual(recorded);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('docs/conformance.md is what is read and written, and says why each test does not pass', () => {
  const page = readPage(join(ROOT, 'docs/conformance.md'));
  expect(count(page.rows.map((row) => row.outcomes.millrace)).pass).toBeGreaterThan(20);
  expect(
    page.rows.filter((row) => row.outcomes.millrace !== 'pass' && row.outcomes.millrace !== null && row.cause === ''),
  ).toEqual([]);
});

test('a line that is not of the tables is named', () => {
  expect(() => parseTables('| 1 | conntrack | ping | ok | - | - |\n')).toThrow('ok is neither pass, fail nor skip');
  expect(() => parseTables('| 1 | conntrack |\n| 1 | 2 | 3 | 4 |\n')).toThrow('not a row');
});
