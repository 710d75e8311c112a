/**
 * The program that makes frames: for every frame it writes all headers afresh, as frames come back from earlier rounds in whatever state
 * their last receiver left them, numbers the frame, varies its flow, and redirects it to the interface.
 * Neighbours: tools/frame.ts has the format, tools/generate.ts runs it.
 */
import { ProgramBuilder } from '../asm/builder.ts';
import { at, R0, R1, R2, R3, R4, R5 } from '../asm/operands.ts';
import type { ArrayMap } from '../map/array.ts';
import { count64 } from '../map/layout.ts';
import { type StructValue, struct } from '../map/struct.ts';
import { XDP } from '../uapi/kinds.ts';
import { type FrameTemplate, headerSum, MAGIC, PAYLOAD_BYTES, type Variation } from './frame.ts';

/** What the program keeps between frames: the flow that is next, and the number of rounds through all flows. */
export const streamState = struct({ flow: count64, round: count64 }, 'stream');

/** The state as a value. */
export type StreamState = StructValue<(typeof streamState)['fields']>;

/** What one stream of frames looks like. */
export interface StreamSpec {
  readonly frame: FrameTemplate;
  readonly run: number;
  readonly firstFlow: number;
  readonly flows: number;
  readonly vary: Variation;
  readonly ifindex: number;
  readonly state: ArrayMap<StreamState>;
}

/** Write the program of one stream. */
export function generateProgram(spec: StreamSpec): ProgramBuilder {
  const { frame } = spec;
  const b = new ProgramBuilder('generate', { recordSites: false });
  const data = R2;
  const flow = R0;
  const round = R1;
  const state = R5;
  b.packetOfXdp(R1, data, R3);
  b.needBytes(data, R3, frame.payload + PAYLOAD_BYTES, R4, () => b.return(XDP.ABORTED));
  b.loadMapValue(state, spec.state);
  b.load(flow, 'u64', at(state, streamState.offsetOf('flow')));
  b.load(round, 'u64', at(state, streamState.offsetOf('round')));
  writeTemplate(b, frame, spec.run);

  b.mov(R4, round);
  b.shl(R4, 16);
  b.or(R4, flow);
  if (spec.firstFlow > 0) b.add(R4, spec.firstFlow);
  b.toBigEndian(R4, 64);
  b.store('u64', at(data, frame.payload + 8), R4);
  if (spec.firstFlow + spec.flows > 1) vary(b, spec);

  b.add(flow, 1);
  b.if(flow, '>=', spec.flows, () => {
    b.mov(flow, 0);
    b.add(round, 1);
    b.store('u64', at(state, streamState.offsetOf('round')), round);
  });
  b.store('u64', at(state, streamState.offsetOf('flow')), flow);
  b.call('redirect', spec.ifindex, 0);
  b.exit();
  return b;
}

function writeTemplate(b: ProgramBuilder, frame: FrameTemplate, run: number): void {
  const view = new DataView(frame.bytes.buffer, frame.bytes.byteOffset);
  const stamped = new DataView(new ArrayBuffer(frame.payload + 8));
  for (let offset = 0; offset < frame.payload; offset++) stamped.setUint8(offset, view.getUint8(offset));
  stamped.setUint32(frame.payload, MAGIC);
  stamped.setUint32(frame.payload + 4, run);
  let offset = 0;
  for (; offset + 4 <= frame.payload + 8; offset += 4) {
    b.store('u32', at(R2, offset), stamped.getInt32(offset, true));
  }
  if (offset < frame.payload + 8) b.store('u16', at(R2, offset), stamped.getUint16(offset, true));
}

/** Write what differs between flows. R0 holds the flow within the stream; R3 and R4 are free. */
function vary(b: ProgramBuilder, { frame, firstFlow, vary: what }: StreamSpec): void {
  b.mov(R4, R0);
  if (firstFlow > 0) b.add(R4, firstFlow);
  const view = new DataView(frame.bytes.buffer, frame.bytes.byteOffset);
  if (what === 'port') {
    const base = view.getUint16(frame.udp);
    if (base > 0) b.add(R4, base);
    b.toBigEndian(R4, 16);
    b.store('u16', at(R2, frame.udp), R4);
    return;
  }
  if (what === 'mac') {
    b.toBigEndian(R4, 16);
    b.store('u16', at(R2, 10), R4);
    return;
  }
  // The lower half of the source address is the flow. The checksum is that of the rest with the flow added.
  const blank = new DataView(frame.bytes.slice().buffer);
  blank.setUint16(frame.ip + 10, 0);
  blank.setUint16(frame.ip + 14, 0);
  b.mov(R3, R4);
  b.toBigEndian(R3, 16);
  b.store('u16', at(R2, frame.ip + 14), R3);
  b.add(R4, headerSum(blank, frame.ip));
  b.mov(R3, R4);
  b.shr(R3, 16);
  b.and(R4, 0xffff);
  b.add(R4, R3);
  b.xor(R4, 0xffff);
  b.toBigEndian(R4, 16);
  b.store('u16', at(R2, frame.ip + 10), R4);
}
