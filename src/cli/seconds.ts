/** Lengths of time that people give to an option. */
import { CliError } from './exit.ts';

/**
 * @param text what was given
 * @param what names it in the message, such as "an interval"
 * @param least seconds; longer than an hour is not taken
 * @returns milliseconds
 * @throws CliError USAGE
 */
export function milliseconds(text: string, what: string, least: number): number {
  const seconds = Number(text);
  if (seconds >= least && seconds <= 3600) return seconds * 1000;
  throw new CliError('USAGE', `"${text}" is not ${what}`, `give seconds from ${least} to 3600`);
}
