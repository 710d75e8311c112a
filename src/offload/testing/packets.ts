/** Frames as packets of the engine, and the flow keys that it sees in them. Neighbour: frames.ts makes frames. */
import { extract, FlowKey, Word } from '../../flow/index.ts';
import { HeaderOffsets, Malformed, type Packet, PacketPool, toKeyPort } from '../../net/index.ts';

const pool = new PacketPool({ packets: 64, bufferBytes: 8192 });

const headers = new HeaderOffsets();

/**
 * Whether the parser of a program hands a frame up, so that the actions of a flow never meet it: one that ends before its Ethernet header or
 * inside a tag, and where the flow looks at IP one whose headers lie.
 */
export function isHandedUp(frame: Uint8Array, mask: Uint32Array): boolean {
  const malformed = headers.parseBytes(frame, 0, frame.length);
  if (malformed === Malformed.ETHERNET_TRUNCATED || malformed === Malformed.TAG_TRUNCATED) return true;
  return mask[Word.IP] !== 0 && malformed !== Malformed.NOTHING;
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
  key.begin(toKeyPort(port));
  const packet = packetOf(frame);
  extract(packet, key);
  packet.release();
  return key;
}
