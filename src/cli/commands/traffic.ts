/** Options that `millrace generate` and `millrace receive` share: amounts, times, and how their errors end. */
import type { BpfError } from '../../bpf/index.ts';
import { CliError } from '../exit.ts';

const MULTIPLES: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9 };

/** A whole number, perhaps with k, M or G behind it: `1.5M` is 1500000. */
export function amount(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmg]?)$/i.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]) * MULTIPLES[(match[2] ?? '').toLowerCase()];
  if (!Number.isSafeInteger(Math.round(value)) || value <= 0)
    throw new CliError('USAGE', `"${text}" is not a ${what}`, 'give a number above zero, such as 1000, 250k or 1.5M');
  return Math.round(value);
}

/** A whole number within bounds. */
export function whole(text: string, what: string, low: number, high: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= low && value <= high))
    throw new CliError('USAGE', `"${text}" is not a ${what}`, `give a number from ${low} to ${high}`);
  return value;
}

/** A length of time in milliseconds: `10` and `10s` are ten seconds, `500ms` half of one, `2m` two minutes. */
export function milliseconds(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  const unit = { ms: 1, s: 1000, m: 60_000 }[(match?.[2] ?? 's') as 'ms' | 's' | 'm'];
  const value = match === null ? Number.NaN : Number(match[1]) * unit;
  if (!(value > 0)) throw new CliError('USAGE', `"${text}" is not a length of time`, 'give 10s, 500ms or 2m');
  return value;
}

/**
 * Run something that Ctrl-C ends early, and turn the errors of bpf/ into the command's ending. A second Ctrl-C ends the process.
 */
export async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    return await work(controller.signal);
  } catch (error) {
    throw endingFor(error);
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

const endings: Partial<Record<BpfError['code'], ConstructorParameters<typeof CliError>[0]>> = {
  privilege: 'PRIVILEGE',
  'no-interface': 'REFUSED',
  'attach-conflict': 'REFUSED',
  delivery: 'REFUSED',
  value: 'USAGE',
};

function endingFor(error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  const code = endings[error.code as BpfError['code']];
  return code === undefined ? error : new CliError(code, error.message);
}
