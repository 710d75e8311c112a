/**
 * Loading a user's extension module: TypeScript or JavaScript, by jiti. Modules import `millrace/net` and `millrace/switch` and get the very
 * modules that this process runs on, so that classes are the same on both sides.
 */

import { statSync } from 'node:fs';
import { createJiti } from 'jiti';
import * as net from '../../net/index.ts';
import type { ExtensionFactory } from '../../switch/index.ts';
import * as virtualSwitch from '../../switch/index.ts';
import { messageOf } from '../../switch/index.ts';
import { Failure } from '../rpc/failure.ts';

const TYPES = ['capturing', 'filtering', 'forwarding'];

/** Whether a value has the shape of a factory. @returns what is missing, or null */
function whatIsWrong(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return 'it has no default export that is an extension factory';
  const { descriptor, create, parseConfiguration } = value as Partial<Record<keyof ExtensionFactory, unknown>>;
  if (typeof descriptor !== 'object' || descriptor === null) return 'its default export has no "descriptor"';
  const { name, type, version } = descriptor as Record<string, unknown>;
  if (typeof name !== 'string' || name === '') return 'its descriptor has no "name"';
  if (typeof type !== 'string' || !TYPES.includes(type)) return `its descriptor's "type" is not ${TYPES.join(', ')}`;
  if (typeof version !== 'string') return 'its descriptor has no "version"';
  if (typeof create !== 'function') return 'its default export has no "create" function';
  if (parseConfiguration !== undefined && typeof parseConfiguration !== 'function')
    return 'its "parseConfiguration" is not a function';
  return null;
}

/**
 * Load a module and take its extension factory, its default export. The file is read anew each time.
 * @param path absolute path
 * @throws Failure 'config' naming the file and what is wrong
 */
export function loadExtensionModule(path: string): ExtensionFactory {
  const jiti = createJiti(import.meta.url, {
    // Edited modules must not be found in a cache, neither in memory nor on disk.
    moduleCache: false,
    fsCache: false,
    interopDefault: false,
    virtualModules: { 'millrace/net': net, 'millrace/switch': virtualSwitch },
  });
  // Reading a pipe would wait for whoever writes it, and the packets with it.
  if (statSync(path, { throwIfNoEntry: false })?.isFile() === false) {
    throw new Failure('config', `cannot load the extension ${path}: it is no file`);
  }
  let loaded: unknown;
  try {
    // The datapath thread has no event loop: the synchronous form is the one that can work here.
    loaded = jiti(path);
  } catch (error) {
    throw new Failure('config', `cannot load the extension ${path}: ${firstLine(error)}`, 'correct the module');
  }
  let exported: unknown;
  let wrong: string | null;
  try {
    exported = typeof loaded === 'object' && loaded !== null && 'default' in loaded ? loaded.default : loaded;
    wrong = whatIsWrong(exported);
  } catch (error) {
    // A getter or a proxy may throw anything.
    wrong = `looking at it fails: ${firstLine(error)}`;
  }
  if (wrong !== null) {
    throw new Failure('config', `${path} is not an extension: ${wrong}`, 'examples/ has one of each kind');
  }
  return exported as ExtensionFactory;
}

function firstLine(error: unknown): string {
  return messageOf(error).split('\n')[0];
}
