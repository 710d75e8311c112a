/**
 * Loading a user's extension module, TypeScript or JavaScript. Modules import `millrace/net`, `millrace/switch` and the other rooms and get the very
 * modules that this process runs on, so that classes are the same on both sides.
 */
import type { ExtensionFactory } from '../../switch/index.ts';
import { messageOf, TYPE_ORDER } from '../../switch/index.ts';
import { Failure } from '../rpc/failure.ts';
import { ModuleGraph } from './modules/graph.ts';
import { placeText, SourceError, type SourceFiles } from './modules/places.ts';
import { ROOMS } from './modules/rooms.ts';

/** A user's extension. */
export interface LoadedExtension {
  readonly factory: ExtensionFactory;
  /** What it was made of, to find the places of its errors. */
  readonly files: SourceFiles;
}

/** Whether a value has the shape of a factory. @returns what is missing, or null */
function whatIsWrong(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return 'it has no default export that is an extension factory';
  const { descriptor, create, parseConfiguration } = value as Partial<Record<keyof ExtensionFactory, unknown>>;
  if (typeof descriptor !== 'object' || descriptor === null) return 'its default export has no "descriptor"';
  const { name, type, version } = descriptor as Record<string, unknown>;
  if (typeof name !== 'string' || name === '') return 'its descriptor has no "name"';
  if (typeof type !== 'string' || !TYPE_ORDER.some((one) => one === type))
    return `its descriptor's "type" is not ${TYPE_ORDER.join(', ')}`;
  if (typeof version !== 'string') return 'its descriptor has no "version"';
  if (typeof create !== 'function') return 'its default export has no "create" function';
  if (parseConfiguration !== undefined && typeof parseConfiguration !== 'function')
    return 'its "parseConfiguration" is not a function';
  return null;
}

/**
 * Load a module and take its extension factory, its default export. The file and those that it imports are read anew each time.
 * @param path absolute path
 * @throws Failure 'config' naming the file, the place in it and what is wrong
 */
export function loadExtensionModule(path: string): LoadedExtension {
  const graph = new ModuleGraph(ROOMS);
  let namespace: Readonly<Record<string, unknown>>;
  try {
    namespace = graph.import(path);
  } catch (error) {
    throw cannotLoad(path, graph, error);
  }
  let exported: unknown;
  let wrong: string | null;
  try {
    exported = exportedBy(namespace);
    wrong = whatIsWrong(exported);
  } catch (error) {
    // A getter or a proxy may throw anything.
    wrong = `looking at it fails: ${firstLine(error)}`;
  }
  if (wrong !== null) {
    throw new Failure('config', `${path} is not an extension: ${wrong}`, 'examples/ has one of each kind');
  }
  return { factory: exported as ExtensionFactory, files: graph.files };
}

/** The default export, also of ES modules that were compiled to CommonJS. */
function exportedBy(namespace: Readonly<Record<string, unknown>>): unknown {
  const value: unknown = 'default' in namespace ? namespace.default : namespace;
  const isCompiled = typeof value === 'object' && value !== null && '__esModule' in value && 'default' in value;
  return isCompiled ? value.default : value;
}

function cannotLoad(path: string, { files }: ModuleGraph, error: unknown): Failure {
  const place = error instanceof SourceError ? error.place : files.placeOf(error);
  const where = place === null ? path : place.path === path ? placeText(place) : `${path}: ${placeText(place)}`;
  const hint = error instanceof SourceError ? error.hint : 'correct the module';
  return new Failure('config', `cannot load the extension ${where}: ${firstLine(error)}`, hint);
}

function firstLine(error: unknown): string {
  return messageOf(error).split('\n')[0];
}
