/** Frames as packets of the engine, and the flow keys that it sees in them. Neighbour: frames.ts makes frames. */
import { extract, FlowKey } from '../../flow/index.ts';
import { HeaderOffsets, Malformed, type Packet, PacketPool } from '../../net/index.ts';

const pool = new PacketPool({ packets: 64, bufferBytes: 8192 });

const headers = new HeaderOffsets();

/** Whether a frame ends before its Ethernet header or inside a tag: the parser hands it up, so that actions never meet it. */
export function endsInLink(frame: Uint8Array): boolean {
  const malformed = headers.parseBytes(frame, 0, frame.length);
  return malformed === Malformed.ETHERNET_TRUNCATED || malformed === Malformed.TAG_TRUNCATED;
}

/** A packet that holds a frame. */
export function packetOf(frame: readonly number[] | Uint8Array): Packet {
  const packet = pool.allocate();
  if (packet === null) throw new Error('packets were not released');
  packet.bytes.set(frame, packet.offset);
  packet.length = frame.length;
  return packet;
}

/** The key of a frame that has come in at a port. */
export function keyOf(frame: readonly number[], port: number): FlowKey {
  const key = new FlowKey();
  key.begin(port);
  const packet = packetOf(frame);
  extract(packet, key);
  packet.release();
  return key;
}
