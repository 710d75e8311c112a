/**
 * What an import in a user's file stands for: a room of the running Millrace, a module of Node's, a package beside the file, or another file.
 */
import { realpathSync, statSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** What is imported. */
export type Target =
  | { readonly kind: 'room'; readonly name: string }
  | { readonly kind: 'builtin'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string; readonly isPackage: boolean };

const ROOM = /^millrace(?:$|\/)/;
const RELATIVE = /^\.{0,2}\/|^\.{1,2}$/;
const SCHEME = /^[a-z][a-z0-9+.-]+:/i;
/** TypeScript may be imported by the name of the JavaScript that it would become, and all by a name without an ending. */
const SOURCE_OF: Readonly<Record<string, string>> = { '.js': '.ts', '.mjs': '.mts', '.cjs': '.cts' };
const ENDINGS = ['.ts', '.mts', '.cts', '.js', '.mjs', '.cjs', '.json'];

/**
 * @param from the importing file
 * @param rooms names of the rooms there are, such as `net`
 * @throws Error with a sentence when there is no such thing
 */
export function resolveImport(specifier: string, from: string, rooms: readonly string[]): Target {
  if (ROOM.test(specifier)) {
    const name = specifier.slice('millrace/'.length);
    if (rooms.includes(name)) return { kind: 'room', name };
    throw new Error(`there is no ${specifier}; there are ${rooms.map((room) => `millrace/${room}`).join(', ')}`);
  }
  if (RELATIVE.test(specifier)) return fileAt(resolve(dirname(from), specifier), specifier);
  if (isBuiltin(specifier)) return { kind: 'builtin', name: specifier };
  if (specifier.startsWith('file:')) return fileAt(fileURLToPath(specifier), specifier);
  if (SCHEME.test(specifier)) throw new Error(`${specifier}: only files and packages can be imported`);
  const url = import.meta.resolve(specifier, pathToFileURL(from).href);
  if (isBuiltin(url)) return { kind: 'builtin', name: url };
  return fileAt(fileURLToPath(url), specifier);
}

function fileAt(wanted: string, specifier: string): Target {
  const found = candidates(wanted).find(
    (candidate) => statSync(candidate, { throwIfNoEntry: false })?.isDirectory() === false,
  );
  if (found === undefined) {
    const how = specifier === wanted ? '' : `, which is imported as ${specifier}`;
    throw new Error(`there is no file ${wanted}${how}`);
  }
  const path = realpathSync(found);
  return { kind: 'file', path, isPackage: path.includes(`${sep}node_modules${sep}`) };
}

function candidates(path: string): string[] {
  const ending = /\.[cm]?js$/.exec(path)?.[0];
  const sources = ending === undefined ? [] : [`${path.slice(0, -ending.length)}${SOURCE_OF[ending]}`];
  return [path, ...sources, ...ENDINGS.map((one) => path + one), ...ENDINGS.map((one) => resolve(path, `index${one}`))];
}
