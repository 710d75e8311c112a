/**
 * Where in the source an instruction was emitted. A stack is captured with every instruction, which costs a few
 * microseconds, as V8 keeps it unformatted; it is turned into file and line only when somebody asks, which is after the
 * verifier has refused a program. Neighbours: asm/assembler.ts captures, program/verifier.ts asks.
 */
import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A line of source. */
export interface SourceLine {
  /** Path, relative to the working directory where it is below that. */
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The text of the line, trimmed; empty where the file cannot be read. */
  readonly text: string;
}

/**
 * Frames kept, which is what a capture costs: a few microseconds. The line that wants an instruction is at most five calls above; constructs
 * of the builder, which go deeper, capture once at their entry.
 */
const FRAMES = 7;

const ownDirectory = dirname(fileURLToPath(import.meta.url));

/** A captured stack. */
export class EmitSite {
  stack = '';
  #line: SourceLine | undefined;
  #resolved = false;

  /** Capture the stack as it is now. */
  static capture(): EmitSite {
    const site = new EmitSite();
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = FRAMES;
    Error.captureStackTrace(site, EmitSite.capture);
    Error.stackTraceLimit = limit;
    return site;
  }

  /** The first line outside the assembler itself, or undefined where the stack shows none. */
  resolve(): SourceLine | undefined {
    if (!this.#resolved) {
      this.#resolved = true;
      this.#line = findLine(this.stack);
    }
    return this.#line;
  }
}

const framePattern = /^\s+at (?:.*\()?((?:file:\/\/)?\/[^()]*?):(\d+):(\d+)\)?$/;

function findLine(stack: string): SourceLine | undefined {
  for (const frame of stack.split('\n')) {
    const match = framePattern.exec(frame);
    if (match === null) continue;
    const [, place, line, column] = match;
    if (place === undefined || line === undefined || column === undefined) continue;
    const path = place.startsWith('file://') ? fileURLToPath(place.replace(/[?#].*$/, '')) : place;
    if (dirname(path) === ownDirectory && !path.includes('.test.')) continue;
    return describe(path, Number(line), Number(column));
  }
  return undefined;
}

function describe(path: string, line: number, column: number): SourceLine {
  const original = throughSourceMap(path, line, column);
  const found = original ?? { file: path, line, column };
  const short = relative(process.cwd(), found.file);
  return {
    file: short.startsWith('..') ? found.file : short,
    line: found.line,
    column: found.column,
    text: lineOf(found.file, found.line),
  };
}

function lineOf(file: string, line: number): string {
  try {
    return readFileSync(file, 'utf8').split('\n')[line - 1]?.trim() ?? '';
  } catch {
    return '';
  }
}

/** Compiled files say where their map is; Node follows it only when told to at start, so it is followed here. */
function throughSourceMap(path: string, line: number, column: number) {
  if (!path.endsWith('.js') && !path.endsWith('.mjs')) return undefined;
  try {
    const link = /\/\/# sourceMappingURL=([^\s]+)\s*$/.exec(readFileSync(path, 'utf8'))?.[1];
    if (link === undefined || link.startsWith('data:')) return undefined;
    const mapPath = resolve(dirname(path), link);
    const map = new SourceMap(JSON.parse(readFileSync(mapPath, 'utf8')) as SourceMapPayload);
    const entry = map.findEntry(line - 1, column - 1);
    if (!('originalSource' in entry) || typeof entry.originalSource !== 'string') return undefined;
    return {
      file: resolve(dirname(mapPath), entry.originalSource),
      line: entry.originalLine + 1,
      column: entry.originalColumn + 1,
    };
  } catch {
    return undefined;
  }
}
