/**
 * Reads what a test of Open vSwitch's suite has left: how it ended, where, and why, as far as its logs tell. Neighbours: sandbox.ts runs the test, record.ts
 * has how it ended before.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Cause, causeOfFailure, causeOfSkip, type Left, type Whose } from './causes.ts';
import type { Suite, SuiteTest } from './suite.ts';

export type Outcome = 'pass' | 'fail' | 'skip';

/** How a test ended. */
export interface Verdict {
  readonly outcome: Outcome;
  /** Why it did not pass, in a few words; empty for one that did. */
  readonly cause: string;
  /** What the cause is about. */
  readonly whose: Whose;
  /** Whether the logs tell the cause: it will be the same the next time. */
  readonly isExplained: boolean;
}

/**
 * The verdict on a test.
 * @param folder what the run left
 * @param cut why it was ended before its time; null when it ended by itself
 */
export function readVerdict(folder: string, suite: Suite, test: SuiteTest, cut: string | null): Verdict {
  const text = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : '');
  const said = text('said');
  if (cut !== null) return failed(cut, 'datapath', causeOfFailure(leftBy(folder, suite)));
  const daemon = text('daemon').trim();
  if (daemon !== '') return failed(`the daemon was ${daemon}`, 'datapath');
  const ending = readEnding(said, test.number);
  if (ending === null) {
    const complaint = (text('sandbox.log') || said).trim().split('\n').at(-1) ?? '';
    return failed(`the test did not begin: ${complaint}`, 'machine');
  }
  if (ending.outcome === 'pass') return { outcome: 'pass', cause: '', whose: 'datapath', isExplained: true };
  if (ending.outcome === 'fail') return failed(`at ${ending.at}`, 'datapath', causeOfFailure(leftBy(folder, suite)));
  const { text: cause, whose } = skipCause(suite.sources, ending.at);
  return { outcome: 'skip', cause, whose, isExplained: true };
}

/** @param found what the logs tell; when they do not, what is known */
function failed(known: string, whose: Whose, found: Cause | null = null): Verdict {
  const { text: cause, whose: about } = found ?? { text: known, whose };
  return { outcome: 'fail', cause, whose: about, isExplained: found !== null };
}

/** What a driver says of a test: `3: title FAILED (system-traffic.at:57)`. */
export function readEnding(said: string, number: number): { outcome: Outcome; at: string } | null {
  const line = new RegExp(
    `^ *${number}: .* (ok|skipped|FAILED|UNEXPECTED PASS|expected failure)(?: \\((.*)\\))?$`,
    'm',
  );
  const found = line.exec(said);
  if (found === null) return null;
  const [, word, at = ''] = found;
  // A test that is expected to fail and does is as it should be.
  if (word === 'ok' || word === 'expected failure') return { outcome: 'pass', at };
  return { outcome: word === 'skipped' ? 'skip' : 'fail', at };
}

/** Why a test was skipped, by the line of its source that says so. */
function skipCause(sources: string, at: string): Cause {
  const [file, line] = at.split(':');
  const path = join(sources, 'tests', file);
  const source = existsSync(path) ? (readFileSync(path, 'utf8').split('\n')[Number(line) - 1] ?? '').trim() : '';
  return causeOfSkip(source) ?? { text: source === '' ? at : source, whose: 'datapath' };
}

/** The check that failed, with what it said, and the log of ovs-vswitchd. */
function leftBy(folder: string, suite: Suite): Left {
  const name = basename(suite.driver);
  const groups = join(folder, `${name}.dir`);
  const number = existsSync(groups) ? readdirSync(groups).find((entry) => /^\d+$/.test(entry)) : undefined;
  if (number === undefined) return { check: '', log: '' };
  const read = (file: string) => {
    const path = join(groups, number, file);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  };
  return { check: lastCheck(read(`${name}.log`)), log: read('ovs-vswitchd.log') };
}

/** The part of a group's log about the last command that it ran: the command, and how it differed from what was expected. Logs of programs follow. */
export function lastCheck(log: string): string {
  const begins = [
    ...log.matchAll(/^(?:\.\/)?\S+\.at:\d+: (?!exit code was|hard failure|wait (?:failed|succeeded)|testing )/gm),
  ];
  const last = log.slice(begins.at(-1)?.index ?? 0);
  const end = last.search(/^[\w.-]+\.log:$/m);
  return end < 0 ? last : last.slice(0, end);
}
