/** What a trace says of a decision: what was looked at, by whom, what it rests on, and what extensions say themselves. */
import type { DecisionRecord } from '../../decide/index.ts';

/** Sentences for people. */
export function describeDecision({ trace, everyPacket, endsInMs }: DecisionRecord): string[] {
  const lines: string[] = [];
  for (const { by, field, bits, width } of trace?.looks ?? []) {
    const share = bits === width ? '' : `: the first ${bits} of ${width} bits`;
    lines.push(`${by === '' ? 'it' : by} looks at ${field}${share}`);
  }
  if (trace !== null && trace.restsOn.length > 0) lines.push(`it rests on ${trace.restsOn.join(', ')}`);
  for (const { by, text } of trace?.notes ?? []) lines.push(`${by}: ${text}`);
  if (Number.isFinite(endsInMs)) lines.push(`it holds for ${endsInMs} ms`);
  if (everyPacket !== null) lines.push(`every packet is decided about by itself: ${everyPacket}`);
  return lines;
}
