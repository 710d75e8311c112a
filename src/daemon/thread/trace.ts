/** One frame through the switch without forwarding it: what it is, what each step would do, and why. */
import { describe, layerText, type Packet, PacketPool, type PortId } from '../../net/index.ts';
import type { TraceStep, VirtualSwitch } from '../../switch/index.ts';
import type { TraceResult } from '../api.ts';
import { Failure } from '../rpc/failure.ts';
import type { DatapathPort } from './port.ts';

const LONGEST_FRAME_BYTES = 65_550;

/** Frames that people hand in, for `trace` and `inject`. */
export class HandmadeFrames {
  #pool: PacketPool | null = null;

  /** A packet of these bytes, with one reference. @throws Failure when it is too long, or too many are under way */
  make(frame: Uint8Array): Packet {
    if (frame.length > LONGEST_FRAME_BYTES) {
      throw new Failure('invalid-params', `a frame of ${frame.length} bytes is longer than ${LONGEST_FRAME_BYTES}`);
    }
    this.#pool ??= new PacketPool({ packets: 16, bufferBytes: LONGEST_FRAME_BYTES + 128 });
    const packet = this.#pool.allocate();
    if (packet === null) throw new Failure('busy', 'the frames before this one have not left the switch yet');
    packet.bytes.set(frame, packet.offset);
    packet.length = frame.length;
    return packet;
  }
}

/** Trace a frame that comes in through a port. @param nameOf the name of a port by its number */
export function traceFrame(
  virtualSwitch: VirtualSwitch,
  port: DatapathPort,
  packet: Packet,
  nameOf: (id: PortId) => string,
): TraceResult {
  if (!port.attached) {
    throw new Failure('refused', `port ${port.name} has no device now`, port.reason);
  }
  const frame = describe(packet.frame()).map(layerText);
  const steps = virtualSwitch.trace(packet, port.id, 0);
  const named = (step: TraceStep) => (step.portId === undefined || step.portId === 0 ? '' : nameOf(step.portId));
  const delivered = steps.filter((step) => step.stage === 'delivery' && step.handedTo === undefined);
  const handedTo = steps.flatMap((step) => step.handedTo ?? []);
  const isLost = delivered.length === 0 && handedTo.length === 0;
  const drop = steps.findLast((step) => step.drop !== undefined)?.drop ?? 'NO_DESTINATION';
  return {
    port: port.name,
    frame,
    steps: steps.map((step) => {
      const at = named(step);
      const end = endOf(step);
      const text = `${step.text}${end}`;
      if (at === '') return { stage: step.stage, text };
      const pieces = step.aroundPort === undefined ? [text] : [step.aroundPort[0], `${step.aroundPort[1]}${end}`];
      return { stage: `${step.stage} ${at}`, text, port: at, alike: { stage: step.stage, pieces } };
    }),
    destinations: delivered.map(named),
    handedTo,
    drop: isLost ? drop : null,
  };
}

/** What is said behind the text of a step. */
function endOf(step: TraceStep): string {
  const tag = step.tag === undefined ? '' : ` (tag: ${step.tag})`;
  const drop = step.drop === undefined ? '' : ` [${step.drop}]`;
  return `${tag}${drop}`;
}
