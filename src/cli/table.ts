/** Tables for people: aligned columns, no frames, colours only on a terminal that wants them. */
import Table from 'cli-table3';

/** Whether colours are wanted on standard output: a terminal, and NO_COLOR is not set. */
export function wantsColours(): boolean {
  return process.stdout.isTTY === true && (process.env.NO_COLOR ?? '') === '';
}

const NO_FRAME = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

// Written here, because the table's own colours depend on what its library thinks of the environment.
const BOLD = '\u001b[1m';
const NOT_BOLD = '\u001b[22m';

/** A column: its heading and to which side it is set. */
export interface Column {
  head: string;
  align?: 'left' | 'right';
}

// Terminals act on control characters; names from the outside must not.
const CONTROL = /\p{Cc}/gu;

/** Text that is safe to print: control characters become a mark. */
export function printable(text: string): string {
  return text.replace(CONTROL, '\ufffd');
}

/** Lay out rows in columns. Ends in a newline. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  colours = wantsColours(),
): string {
  const layout = new Table({
    head: columns.map((column) => (colours ? `${BOLD}${column.head}${NOT_BOLD}` : column.head)),
    colAligns: columns.map((column) => column.align ?? 'left'),
    chars: NO_FRAME,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
  });
  for (const row of rows) layout.push(row.map(printable));
  return `${layout
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')}\n`;
}

/** Pairs, one a line: a heading and what it says. */
export function pairs(items: readonly (readonly [string, string])[]): string {
  const width = Math.max(...items.map(([head]) => head.length));
  return items.map(([head, text]) => `${head.padEnd(width)}  ${printable(text)}\n`).join('');
}
