/**
 * TypeScript to JavaScript by swc's compiler for that, the one that Node.js itself has. Types become spaces, so that all positions stay; where more than types
 * has to go (enums, namespaces, parameter properties), the file is written anew, with a source map. The compiler is loaded when the first
 * file needs it: most daemons have no module of a user's.
 */
import { createRequire } from 'node:module';
import type * as Compiler from '@swc/wasm-typescript';
import { SourceError } from './places.ts';

const require = createRequire(import.meta.url);
const COMPILER = '@swc/wasm-typescript';

/** JavaScript, and its source map as JSON when positions differ from the source's. */
export interface JavaScript {
  readonly code: string;
  readonly map: string | null;
}

/** What the compiler throws for a source that it does not accept. */
interface Refusal {
  readonly code: 'InvalidSyntax' | 'UnsupportedSyntax';
  readonly message: string;
  readonly startLine: number;
  /** From 0. */
  readonly startColumn: number;
}

/** Whether a file is TypeScript, by its name. */
export function isTypeScript(path: string): boolean {
  return /\.[cm]?ts$/.test(path);
}

/** @throws SourceError when it cannot be parsed */
export function toJavaScript(path: string, source: string): JavaScript {
  try {
    return { code: run(source, { mode: 'strip-only', filename: path }).code, map: null };
  } catch (error) {
    if (!isRefusal(error) || error.code !== 'UnsupportedSyntax') throw sourceError(path, error);
  }
  try {
    const { code, map } = run(source, {
      mode: 'transform',
      filename: path,
      sourceMap: true,
      transform: { nativeClassProperties: true },
    });
    return { code, map: map ?? null };
  } catch (error) {
    throw sourceError(path, error);
  }
}

function run(source: string, options: Compiler.Options): Compiler.TransformOutput {
  try {
    return (require(COMPILER) as typeof Compiler).transformSync(source, options);
  } catch (error) {
    // It has run into a limit of its own and cannot go on: the next file gets a new one.
    if (!isRefusal(error)) delete require.cache[require.resolve(COMPILER)];
    throw error;
  }
}

function isRefusal(error: unknown): error is Refusal {
  return typeof error === 'object' && error !== null && 'startLine' in error && 'startColumn' in error;
}

function sourceError(path: string, error: unknown): Error {
  if (!isRefusal(error)) return new SourceError('it nests too deeply to be compiled', { path, line: 0, column: 0 });
  return new SourceError(error.message, { path, line: error.startLine, column: error.startColumn + 1 });
}
