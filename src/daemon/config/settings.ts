/**
 * Settings as words of a command line: `vlan.mode=access vlan.id=10 acl='[...]'`. Values are YAML, so numbers, truth values and
 * whole lists can be given; an empty value removes the setting. The result is a merge patch in the sense of RFC 7396.
 */
import { parse } from 'yaml';
import { Failure } from '../rpc/failure.ts';

type Patch = { [key: string]: unknown };

/**
 * Read settings.
 * @throws Failure 'invalid-params' for a word that is not KEY=VALUE or whose value is not YAML
 */
export function parseSettings(words: readonly string[]): Patch {
  const patch: Patch = {};
  for (const word of words) {
    const split = word.indexOf('=');
    const keys = word.slice(0, Math.max(0, split)).split('.');
    if (split < 1 || keys.some((key) => !/^[A-Za-z][A-Za-z0-9_-]*$/.test(key))) {
      throw new Failure(
        'invalid-params',
        `"${word}" is not a setting`,
        'write KEY=VALUE, such as vlan.mode=access or dhcpGuard=true',
      );
    }
    const text = word.slice(split + 1);
    let value: unknown = null;
    if (text !== '') {
      try {
        value = parse(text);
      } catch {
        throw new Failure('invalid-params', `the value of "${keys.join('.')}" is not valid YAML: ${text}`);
      }
    }
    let at = patch;
    for (const key of keys.slice(0, -1)) {
      const next = at[key];
      const inner: Patch = typeof next === 'object' && next !== null && !Array.isArray(next) ? (next as Patch) : {};
      at[key] = inner;
      at = inner;
    }
    at[keys[keys.length - 1]] = value;
  }
  return patch;
}

/** Read one mapping in braces, as JSON or YAML. @throws Failure 'invalid-params' */
export function parseMapping(text: string): Patch {
  try {
    const value: unknown = parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Patch;
  } catch {
    // Said below.
  }
  throw new Failure('invalid-params', `"${text}" is not a mapping`, 'write it as JSON or YAML, such as {limit: 10}');
}

/** Keys whose value names the form of the whole section: a patch that sets one replaces the section. */
const FORM_KEYS = ['mode'];

/** Apply a merge patch (RFC 7396) to plain data, without changing either. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const isObject = typeof target === 'object' && target !== null && !Array.isArray(target);
  const replaces = FORM_KEYS.some((key) => key in patch);
  const result: Patch = isObject && !replaces ? { ...(target as Patch) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}
