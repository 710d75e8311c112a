/**
 * Where in a user's sources something went wrong. Types are taken out of TypeScript so that every character stays where it was; only
 * files that had to be written anew (enums and the like) have a source map, by which positions are translated back.
 */
import { SourceMap } from 'node:module';

/** A position in a file of a user's. */
export interface Place {
  readonly path: string;
  /** From 1; 0: not known. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
}

/** An error of a user's source with its place, before anything of it runs. */
export class SourceError extends Error {
  readonly place: Place;
  /** What to do about it. */
  readonly hint: string;

  constructor(message: string, place: Place, hint = 'correct the module') {
    super(message);
    this.place = place;
    this.hint = hint;
  }
}

/** A place as editors and terminals find it: `FILE:LINE:COLUMN`. */
export function placeText({ path, line, column }: Place): string {
  return line === 0 ? path : `${path}:${line}:${column}`;
}

/** The place of an offset in a text. */
export function placeAt(path: string, text: string, offset: number): Place {
  const before = text.slice(0, offset).split('\n');
  return { path, line: before.length, column: before[before.length - 1].length + 1 };
}

/** A line of a stack ends with a position, often in brackets. */
const FRAME = /^(\s+at (?:.* \()?)(.+):(\d+):(\d+)(\)?)$/;
/** Of a stack, which is the user's to write, no more is read. */
const MOST_CHARACTERS = 65_536;

/** The files that one module of a user's was made of. */
export class SourceFiles {
  readonly #maps = new Map<string, SourceMap | null>();

  /** @param map the source map as JSON, when positions have changed; else null */
  add(path: string, map: string | null): void {
    this.#maps.set(path, map === null ? null : new SourceMap(JSON.parse(map)));
  }

  /** The innermost place in these files at which an error was made; null when there is none. Never throws. */
  placeOf(error: unknown): Place | null {
    for (const line of linesOf(error)) {
      const found = this.#placeIn(line);
      if (found !== null) return found.place;
    }
    return null;
  }

  /** The stack of an error with its positions in the sources; null when it has none. Never throws. */
  stackOf(error: unknown): string | null {
    const lines = linesOf(error).map((line) => {
      const found = this.#placeIn(line);
      return found === null ? line : `${found.frame[1]}${placeText(found.place)}${found.frame[5]}`;
    });
    return lines.length === 0 ? null : lines.join('\n');
  }

  /** A place in the JavaScript of a file, in its source. */
  inSource(place: Place): Place {
    const entry = this.#maps.get(place.path)?.findEntry(place.line - 1, place.column - 1);
    if (entry === undefined || !('originalLine' in entry)) return place;
    return { path: place.path, line: entry.originalLine + 1, column: entry.originalColumn + 1 };
  }

  #placeIn(line: string): { frame: RegExpExecArray; place: Place } | null {
    const frame = FRAME.exec(line);
    if (frame === null || !this.#maps.has(frame[2])) return null;
    return { frame, place: this.inSource({ path: frame[2], line: Number(frame[3]), column: Number(frame[4]) }) };
  }
}

function linesOf(error: unknown): string[] {
  try {
    const stack: unknown = error instanceof Error ? error.stack : null;
    return typeof stack === 'string' ? stack.slice(0, MOST_CHARACTERS).split('\n') : [];
  } catch {
    // A getter or a proxy may throw anything.
    return [];
  }
}
