/** What a trace says of a decision: what was looked at, by whom, what it rests on, what extensions say themselves, and where the packet goes. */
import { type DecisionRecord, nicIn, type PortNumber, portIn, portNumber } from '../../decide/index.ts';
import { Datapath, type DatapathOptions, Extraction, extract, FlowKey, formatActions, Word } from '../../flow/index.ts';
import type { Packet, PortId } from '../../net/index.ts';
import { DropReason } from '../drop-reason.ts';
import type { ExplainedCopy, ExplainedDestination, Explanation, StandardPolicies } from '../extension.ts';
import type { ForwardingContext } from '../path/context.ts';
import type { StackedFlows } from './stacked-flows.ts';

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

/**
 * What a forwarding decider would do with a packet.
 * @param buffers for copies that are changed
 */
export function explainForwarding(
  packet: Packet,
  context: ForwardingContext,
  decided: StackedFlows,
  policies: StandardPolicies,
  buffers: Pick<DatapathOptions, 'pool' | 'largePool' | 'clones'>,
): Explanation {
  if (context.verdict !== DropReason.NONE) return { lines: [], drop: context.verdict };
  const key = new FlowKey();
  key.begin(portNumber(context.sourcePortId, context.sourceNicIndex));
  key.words[Word.CT] = context.connection;
  if (extract(packet, key) !== Extraction.DONE) return { lines: ['its headers make no key'] };
  const record = decided.flows.trace(key.words, () => packet.frame());
  const lines = describeDecision(record);
  if (record.drop === null) lines.push(`actions: ${formatActions(record.actions)}`);
  const drop = decided.reasonOf(record.drop);
  if (drop !== undefined) return { lines, drop };
  const destinations: ExplainedDestination[] = [];
  const copies: ExplainedCopy[] = [];
  const destinationOf = (portId: PortId, nic: number): ExplainedDestination => ({
    portId,
    nicIndex: policies.destinationNic(portId, nic),
    flags: policies.destinationFlags(portId),
  });
  const output = (sent: Packet, number: PortNumber): void => {
    const destination = destinationOf(portIn(number), nicIn(number));
    if (sent === packet) destinations.push(destination);
    else copies.push({ frame: Buffer.from(sent.frame()).toString('hex'), destinations: [destination] });
  };
  const scratch = new Datapath({ hooks: { output }, nowMs: () => 0, ...buffers });
  // The reference is given away; with another one left, whoever changes the packet has to copy it.
  packet.hold();
  scratch.execute(packet, key, record.actions);
  const excluded = destinations
    .map(({ portId }) => ({ portId, reason: policies.egressVerdict(packet, portId) }))
    .filter(({ reason }) => reason !== DropReason.NONE);
  for (const { portId, drop: why } of record.excluded) {
    const reason = decided.reasonOf(why);
    if (reason === undefined) continue;
    if (!decided.ports.has(portId)) {
      lines.push(`there is no port ${portId}`);
      continue;
    }
    destinations.push(destinationOf(portId, 0));
    excluded.push({ portId, reason });
  }
  return { lines, destinations, copies, excluded };
}
