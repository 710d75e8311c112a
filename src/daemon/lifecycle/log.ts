/**
 * The daemon's log: pino, one JSON object a line; short coloured lines for people when standard error is a terminal.
 * Everything is logged by the main thread; the datapath thread sends its sentences over (../thread/).
 */
import { writeSync } from 'node:fs';
import { type DestinationStream, type Logger, pino } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type { Logger } from 'pino';

const LABELS: Record<number, { text: string; colour: number }> = {
  10: { text: 'trace', colour: 90 },
  20: { text: 'debug', colour: 90 },
  30: { text: 'info ', colour: 32 },
  40: { text: 'warn ', colour: 33 },
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

/** Write to a descriptor; a log that cannot be written (a closed pipe, a full disk) is no reason to fail. */
function writeQuietly(fd: number, text: string): void {
  try {
    writeSync(fd, text);
  } catch {
    // There is nobody left to tell.
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
  const destination: DestinationStream = {
    write: (line) => writeQuietly(2, pretty ? prettyLine(line, colours) : line),
  };
  return pino({ level, base: { pid: process.pid } }, destination);
}
