/**
 * What an extension hands out as JSON (its status, the answer to a command, fields of a log line), copied and checked: afterwards it is plain
 * data of bounded size that can be sent to another thread and written as text.
 */
import type { JsonValue } from './control/properties.ts';

/** Bounds of one value: far beyond what people read, and small enough to be sent in one message. */
export const JSON_LIMITS = { depth: 32, values: 50_000, characters: 512 * 1024 } as const;

/** Counts what has been copied. */
interface Budget {
  values: number;
  characters: number;
}

/**
 * Copy a value that should be JSON. What is undefined in an object is left out, as JSON.stringify does.
 * @throws TypeError saying where something is that is not JSON; RangeError when it is too deep or too large; whatever its getters throw
 */
export function plainJson(value: unknown): JsonValue {
  return copy(value, '$', 0, { values: JSON_LIMITS.values, characters: JSON_LIMITS.characters });
}

function copy(value: unknown, path: string, depth: number, budget: Budget): JsonValue {
  budget.values -= 1;
  if (budget.values < 0) throw new RangeError(`it has more than ${JSON_LIMITS.values} values`);
  switch (typeof value) {
    case 'boolean':
      return value;
    case 'number':
      // JSON has no negative zero.
      return Number.isFinite(value) ? value + 0 : null;
    case 'string':
      return counted(value, budget);
    case 'object':
      break;
    default:
      throw new TypeError(`${path} is a ${typeof value}, which is not JSON`);
  }
  if (value === null) return null;
  if (depth === JSON_LIMITS.depth) {
    throw new RangeError(`${path.slice(0, 64)} lies deeper than ${JSON_LIMITS.depth} levels: does it contain itself?`);
  }
  if (Array.isArray(value)) {
    const { length } = value;
    if (length > budget.values) throw new RangeError(`it has more than ${JSON_LIMITS.values} values`);
    const list: JsonValue[] = new Array<JsonValue>(length);
    for (let i = 0; i < length; i += 1) list[i] = copy(value[i] ?? null, `${path}[${i}]`, depth + 1, budget);
    return list;
  }
  const record: Record<string, JsonValue> = {};
  for (const key of Object.keys(value)) {
    const inner: unknown = Reflect.get(value, key);
    if (inner === undefined) continue;
    // As its own property, whatever the name: "__proto__" would set the prototype otherwise.
    Object.defineProperty(record, counted(key, budget), {
      value: copy(inner, `${path}.${key}`, depth + 1, budget),
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  return record;
}

function counted(text: string, budget: Budget): string {
  budget.characters -= text.length;
  if (budget.characters < 0) throw new RangeError(`its texts have more than ${JSON_LIMITS.characters} characters`);
  return text;
}
