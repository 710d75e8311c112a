/** The file of prefix-wall: a line for each prefix, `deny 203.0.113.0/24` or `allow 203.0.113.7`; `#` begins a comment. */
import { readFileSync, statSync } from 'node:fs';

export type Verdict = 'allow' | 'deny';

/** A file is read in one go, while packets wait. */
const MOST_BYTES = 4 << 20;
/** Lines that are named when they are wrong. */
const MOST_NAMED = 10;

/** Changes whenever the file does; empty while there is none. */
export function fileStamp(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? '' : `${found.ino} ${found.size} ${found.mtimeMs} ${found.ctimeMs}`;
}

/**
 * Read the list.
 * @param flaw why a text is no prefix; null when it is one
 * @throws Error that names each line that is wrong
 */
export function readPrefixFile(path: string, flaw: (prefix: string) => string | null): [string, Verdict][] {
  const { size } = statSync(path);
  if (size > MOST_BYTES) throw new Error(`${path} has ${size} bytes; a list may have ${MOST_BYTES}`);
  const lineOf = new Map<string, number>();
  const list: [string, Verdict][] = [];
  const wrong: string[] = [];
  for (const [index, line] of readFileSync(path, 'utf8').split('\n').entries()) {
    const text = line.replace(/#.*/, '').trim();
    if (text === '') continue;
    const [verdict, prefix, ...more] = text.split(/\s+/);
    const problem = whatIsWrong(verdict, prefix, more) ?? flaw(prefix) ?? standsAlready(lineOf.get(prefix));
    if (problem !== null) wrong.push(`line ${index + 1}: ${problem}`);
    else list.push([prefix, verdict as Verdict]);
    lineOf.set(prefix, index + 1);
  }
  if (wrong.length === 0) return list;
  const more = wrong.length - MOST_NAMED;
  const named = wrong.slice(0, MOST_NAMED).join('; ');
  throw new Error(`${path}: ${named}${more > 0 ? `; and ${more} more` : ''}`);
}

function whatIsWrong(verdict: string, prefix: string | undefined, more: readonly string[]): string | null {
  if (verdict !== 'allow' && verdict !== 'deny') return `"${verdict}" is neither allow nor deny`;
  if (prefix === undefined) return `${verdict} wants a prefix`;
  return more.length === 0 ? null : `"${more.join(' ')}" is too much; # begins a comment`;
}

function standsAlready(line: number | undefined): string | null {
  return line === undefined ? null : `this prefix stands in line ${line}`;
}
