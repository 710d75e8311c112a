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
  readonly stage: string;
  /** The text, in two pieces where the port stands in it. */
  readonly pieces: readonly string[];
  readonly steps: TraceStep[];
}

/** Steps of one run of the same stage, put together where they are alike, in the order of the first of each. */
function groupsOf(steps: readonly TraceStep[]): Group[] {
  const groups: Group[] = [];
  let open = new Map<string, Group>();
  let openStage = '';
  for (const step of steps) {
    const { port, alike } = step;
    const { stage, pieces } = alike ?? { stage: step.stage, pieces: [step.text] };
    if (port === undefined || alike === undefined || stage !== openStage) open = new Map();
    openStage = stage;
    const key = JSON.stringify(pieces);
    const known = open.get(key);
    if (known !== undefined) {
      known.steps.push(step);
      continue;
    }
    const group = { stage, pieces, steps: [step] };
    groups.push(group);
    if (alike !== undefined) open.set(key, group);
  }
  return groups;
}

function linesOf({ stage, pieces, steps }: Group): Line[] {
  if (steps.length <= OWN_LINES) return steps;
  const ports = `${steps.length} ports (${nameList(steps.map(({ port }) => port ?? ''))})`;
  const [before, after] = pieces;
  return [{ stage, text: after === undefined ? `${ports}: ${before}` : `${before}${ports}${after}` }];
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
