/**
 * The pieces of a super-packet inside of UDP are datagrams between the same ports, of one length but for the last: such a row is what Linux calls UDP segmentation offload. So they may go out as one
 * super-packet of datagrams, in one system call and one way through the kernel; whoever cannot take it cuts it with `segment` of net/, and has the pieces again.
 */
import {
  type Batch,
  Checksum,
  copyBytes,
  ETHERNET_BYTES,
  EtherType,
  Gso,
  IpProtocol,
  internetChecksum,
  type Packet,
  type PacketPool,
  pseudoHeaderSum4,
  pseudoHeaderSum6,
} from '../net/index.ts';

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const UDP_BYTES = 8;
const UDP_CHECKSUM = 6;
const LONGEST_PACKET = 0xffff;
/** What Linux takes in one (UDP_MAX_SEGMENTS of older kernels). */
const MOST_DATAGRAMS = 64;

/**
 * Join rows of packets that `encapsulateSegments` has made. Each datagram has a checksum then, which is left to who sends it. Packets that do not fit together, and all when the pool is empty, stay as
 * they are.
 * @param first the first of the packets in the batch that are meant: all up to its end, of one super-packet
 * @param pool buffers for 64 KB
 */
export function bundleDatagrams(batch: Batch, first: number, pool: PacketPool): void {
  let to = first;
  for (let i = first; i < batch.count; ) {
    const count = rowLength(batch, i, pool);
    const whole = count > 1 ? pool.allocate() : null;
    if (whole !== null) {
      join(batch, i, count, whole);
      batch.packets[to] = whole;
      to += 1;
    } else {
      for (let k = i; k < i + count; k += 1) {
        batch.packets[to] = batch.packets[k];
        to += 1;
      }
    }
    i += count;
  }
  batch.count = to;
}

/** Where the payload of an outer UDP datagram begins, from the start of the frame; -1 for what is none, and for what has still to be cut or summed inside. */
function payloadOffset(packet: Packet): number {
  const { view } = packet.region;
  const isIpv4 = view.getUint16(packet.offset + ETHERNET_BYTES - 2) === EtherType.IPV4;
  const protocol = packet.bytes[packet.offset + ETHERNET_BYTES + (isIpv4 ? 9 : 6)];
  const udp = ETHERNET_BYTES + (isIpv4 ? IPV4_BYTES : IPV6_BYTES);
  const isInside = packet.checksum === Checksum.PARTIAL && packet.checksumStart !== udp;
  return protocol === IpProtocol.UDP && packet.gsoType === Gso.NONE && !isInside ? udp + UDP_BYTES : -1;
}

/** How many packets from one on go together, 1 for none. */
function rowLength(batch: Batch, from: number, pool: PacketPool): number {
  const head = batch.packets[from];
  const at = payloadOffset(head);
  if (at === -1) return 1;
  const size = head.length - at;
  let length = head.length;
  let count = 1;
  for (let i = from + 1; i < batch.count && count < MOST_DATAGRAMS; i += 1) {
    const packet = batch.packets[i];
    const more = packet.length - at;
    if (payloadOffset(packet) !== at || more > size || more <= 0) break;
    if (length + more - ETHERNET_BYTES > LONGEST_PACKET || length + more > pool.maxFrameBytes) break;
    length += more;
    count += 1;
    // A shorter one ends the row.
    if (more < size) break;
  }
  return count;
}

function join(batch: Batch, from: number, count: number, whole: Packet): void {
  const head = batch.packets[from];
  const at = payloadOffset(head);
  const size = head.length - at;
  copyBytes(head.region, head.offset, whole.region, whole.offset, at);
  whole.length = at;
  for (let i = from; i < from + count; i += 1) {
    const packet = batch.packets[i];
    const length = packet.length - at;
    copyBytes(packet.region, packet.offset + at, whole.region, whole.offset + whole.length, length);
    whole.length += length;
  }
  whole.timestampSeconds = head.timestampSeconds;
  whole.timestampNanoseconds = head.timestampNanoseconds;
  for (let i = from; i < from + count; i += 1) batch.packets[i].release();
  finishLengths(whole, at);
  whole.checksum = Checksum.PARTIAL;
  whole.checksumStart = at - UDP_BYTES;
  whole.checksumOffset = UDP_CHECKSUM;
  whole.gsoType = Gso.UDP_L4;
  whole.gsoSizeBytes = size;
  whole.headerLengthBytes = at;
}

/** Lengths of IP and UDP, and the sum of the pseudo header. */
function finishLengths(whole: Packet, at: number): void {
  const { view } = whole.region;
  const { bytes } = whole;
  const ip = whole.offset + ETHERNET_BYTES;
  const udp = whole.offset + at - UDP_BYTES;
  const udpLength = whole.length - at + UDP_BYTES;
  view.setUint16(udp + 4, udpLength);
  if (udp - ip === IPV4_BYTES) {
    view.setUint16(ip + 2, udpLength + IPV4_BYTES);
    view.setUint16(ip + 10, 0);
    view.setUint16(ip + 10, internetChecksum(bytes, ip, IPV4_BYTES));
    view.setUint16(udp + UDP_CHECKSUM, pseudoHeaderSum4(bytes, ip + 12, IpProtocol.UDP, udpLength));
  } else {
    view.setUint16(ip + 4, udpLength);
    view.setUint16(udp + UDP_CHECKSUM, pseudoHeaderSum6(bytes, ip + 8, IpProtocol.UDP, udpLength));
  }
}
