/**
 * What was thrown, in words. Extensions may throw anything: null, a symbol, a proxy whose every trap throws, a message of megabytes. What is made
 * of it here is an error of our own with bounded text, so that nothing later (logs, events, messages between threads) touches the thrown thing again.
 */

const MAX_MESSAGE_CHARACTERS = 2_000;
const MAX_STACK_CHARACTERS = 8_000;
const INDESCRIBABLE = 'something was thrown that cannot be described';

function bounded(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, characters)}… (${text.length} characters)`;
}

/** Text of anything that was thrown. Never throws; at most some 2,000 characters. */
export function messageOf(thrown: unknown): string {
  try {
    const text: unknown = thrown instanceof Error ? thrown.message : String(thrown);
    return bounded(typeof text === 'string' ? text : String(text), MAX_MESSAGE_CHARACTERS);
  } catch {
    return INDESCRIBABLE;
  }
}

/** An error of our own that says what was thrown, with its stack where it has one. Never throws. */
export function errorOf(thrown: unknown): Error {
  const error = new Error(messageOf(thrown));
  try {
    const stack: unknown = thrown instanceof Error ? thrown.stack : undefined;
    if (typeof stack === 'string') error.stack = bounded(stack, MAX_STACK_CHARACTERS);
  } catch {
    // The stack of where it was caught stays.
  }
  return error;
}
