/** A trace for people: what happens to many ports alike is one line that counts them. The JSON form has a step for each. */
import type { TraceResult, TraceStep } from '../daemon/client.ts';
import { printable } from './table.ts';

/** Ports that are named before the rest is only counted. */
const NAMED_PORTS = 8;
/** Alike steps for so few ports stay lines of their own. */
const OWN_LINES = 3;

/** `a, b, c and 197 more`. */
function nameList(names: readonly string[]): string {
  const more = names.length - NAMED_PORTS;
  const named = names.slice(0, NAMED_PORTS).join(', ');
  return more > 0 ? `${named} and ${more} more` : named;
}

interface Line {
  readonly stage: string;
  readonly text: string;
}

/** Steps that differ in nothing but the port. */
interface Group {
  /** Stage and text; those of a port are without it. */
  readonly stage: string;
  readonly text: string;
  readonly steps: readonly (TraceStep & { readonly port: string })[];
}

function withoutPort(step: TraceStep & { readonly port: string }): Line {
  const { stage, port, text } = step;
  const bare = stage.endsWith(` ${port}`) ? stage.slice(0, -port.length - 1) : stage;
  const at = text.indexOf(`port ${port}`);
  if (at === -1) return { stage: bare, text };
  const rest = text.slice(at + 5 + port.length).replace(/^ \(\d+\)/, '');
  return { stage: bare, text: `${text.slice(0, at)}@${rest}` };
}

/** Steps of one run of the same stage, put together where they are alike, in the order of the first of each. */
function groupsOf(steps: readonly TraceStep[]): Group[] {
  const groups: Group[] = [];
  let open = new Map<string, { stage: string; text: string; steps: (TraceStep & { port: string })[] }>();
  let stage = '';
  for (const step of steps) {
    const { port } = step;
    if (port === undefined) {
      groups.push({ ...step, steps: [] });
      open = new Map();
      continue;
    }
    const line = withoutPort({ ...step, port });
    if (line.stage !== stage) open = new Map();
    stage = line.stage;
    const known = open.get(line.text);
    if (known === undefined) {
      const group = { ...line, steps: [{ ...step, port }] };
      open.set(line.text, group);
      groups.push(group);
    } else {
      known.steps.push({ ...step, port });
    }
  }
  return groups;
}

function linesOf({ stage, text, steps }: Group): Line[] {
  if (steps.length === 0) return [{ stage, text }];
  if (steps.length <= OWN_LINES) return [...steps];
  const ports = `${steps.length} ports (${nameList(steps.map((step) => step.port))})`;
  return [{ stage, text: text.includes('@') ? text.replace('@', () => ports) : `${ports}: ${text}` }];
}

/** What `millrace trace` prints of one frame. */
export function traceText(trace: TraceResult): string {
  const frame = trace.frame.map((line) => `  ${printable(line)}\n`).join('');
  const lines = groupsOf(trace.steps).flatMap(linesOf);
  const width = Math.max(0, ...lines.map((line) => line.stage.length));
  const steps = lines.map((line) => `  ${line.stage.padEnd(width)}  ${printable(line.text)}\n`).join('');
  const { destinations, handedTo, drop } = trace;
  const ends = [
    ...(destinations.length === 0 ? [] : [`sent to ${nameList(destinations)}`]),
    ...(handedTo.length === 0 ? [] : [`handed to ${nameList(handedTo)}`]),
  ];
  const end = drop === null ? ends.join('; ') : `dropped: ${drop}`;
  return `frame into port ${trace.port}\n${frame}steps\n${steps}${end}\n`;
}
