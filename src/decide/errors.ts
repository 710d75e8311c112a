/** What a decider did that no decision can hold. */

/** A decider contradicts itself, or the packet: it has no such header, there is no such port, what is set does not fit. */
export class DecisionError extends Error {
  override readonly name = 'DecisionError';
}

const MOST_SHOWN = 64;

/** A value that a decider has given, in words. Never throws: nothing of an object is called. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value.length > MOST_SHOWN ? `${value.slice(0, MOST_SHOWN)}…` : value);
    case 'number':
    case 'boolean':
    case 'undefined':
      return String(value);
    case 'object':
      if (value === null) return 'null';
      return value instanceof Uint8Array ? `${value.length} bytes` : 'an object';
    default:
      return `a ${typeof value}`;
  }
}

/** @throws DecisionError for what is no function @param what it is for, as the begin of a sentence */
export function mustBeFunction(value: unknown, what: string): void {
  if (typeof value !== 'function') throw new DecisionError(`${what} is a function, and not ${shown(value)}`);
}

/** @throws DecisionError for what is no text, likewise */
export function mustBeText(value: unknown, what: string): void {
  if (typeof value !== 'string') throw new DecisionError(`${what} is a text, and not ${shown(value)}`);
}
