/**
 * The daemon's log: pino, one JSON object a line; short coloured lines for people when standard error is a terminal.
 * Everything is logged by the main thread; the datapath thread sends its sentences over (../thread/).
 */
import { writeSync } from 'node:fs';
import { type DestinationStream, type Logger, pino } from 'pino';
import { messageOf } from '../rpc/failure.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type { Logger } from 'pino';

const WARN = 40;
const LABELS: Record<number, { text: string; colour: number }> = {
  10: { text: 'trace', colour: 90 },
  20: { text: 'debug', colour: 90 },
  30: { text: 'info ', colour: 32 },
  [WARN]: { text: 'warn ', colour: 33 },
  50: { text: 'error', colour: 31 },
  60: { text: 'fatal', colour: 31 },
};

/** One line for people of a line that pino wrote. */
export function prettyLine(json: string, colours: boolean): string {
  const { level, time, msg, ...rest } = JSON.parse(json) as { level: number; time: number; msg?: string };
  const label = LABELS[level] ?? { text: String(level), colour: 0 };
  const paint = (code: number, text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
  const clock = new Date(time).toISOString().slice(11, 23);
  const details = Object.entries(rest)
    .filter(([key]) => key !== 'pid' && key !== 'hostname')
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
  const tail = details === '' ? '' : ` ${paint(90, details)}`;
  return `${paint(90, clock)} ${paint(label.colour, label.text)} ${msg ?? ''}${tail}\n`;
}

/**
 * Writes lines to a descriptor. A log that cannot be written (a closed pipe, a full disk) is no reason to fail; the first line that can be written again
 * says how many were lost, and why.
 */
export class LineSink {
  readonly #write: (bytes: Uint8Array) => number;
  #lost = 0;
  #why = '';
  /** The last line that went out was cut off in its middle. */
  #torn = false;

  /** @param write as write(2): may take only the beginning, or throw */
  constructor(write: (bytes: Uint8Array) => number) {
    this.#write = write;
  }

  /** Lines that could not be written since the last that could. */
  get lost(): number {
    return this.#lost;
  }

  /** @param line with its newline @param note makes the line that says what was lost */
  line(line: string, note: (lost: number, why: string) => string): void {
    const said = this.#lost === 0 ? '' : note(this.#lost, this.#why);
    const bytes = Buffer.from(`${this.#torn ? '\n' : ''}${said}${line}`);
    let at = 0;
    try {
      while (at < bytes.length) at += this.#write(bytes.subarray(at));
      this.#lost = 0;
      this.#torn = false;
    } catch (error) {
      this.#lost += 1;
      this.#torn ||= at > 0;
      this.#why = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
    }
  }
}

/**
 * The daemon's logger, on standard error.
 * @param style 'pretty' for people, 'json' for collectors; 'auto' decides by whether standard error is a terminal
 */
export function createLogger(level: LogLevel, style: 'auto' | 'pretty' | 'json' = 'auto'): Logger {
  const terminal = process.stderr.isTTY === true;
  const pretty = style === 'pretty' || (style === 'auto' && terminal);
  const colours = terminal && process.env.NO_COLOR === undefined;
  const shown = (line: string) => (pretty ? prettyLine(line, colours) : line);
  const sink = new LineSink((bytes) => writeSync(2, bytes));
  const note = (lost: number, why: string) => {
    const msg = `${lost} line${lost === 1 ? '' : 's'} before this could not be written to the log`;
    return shown(`${JSON.stringify({ level: WARN, time: Date.now(), pid: process.pid, err: why, msg })}\n`);
  };
  const destination: DestinationStream = { write: (line) => sink.line(shown(line), note) };
  return pino({ level, base: { pid: process.pid } }, destination);
}
