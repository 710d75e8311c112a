/**
 * Sending on a packet socket through a TPACKET_V2 transmit ring: frames are copied into slots, and one send(2) hands a batch to the
 * kernel, which then sends straight from the slots. The alternative to packet-sender.ts for devices that profit from it; there it
 * says which is faster where.
 *
 *      slot   0          32             42
 *             | tpacket2 | virtio hdr   | frame ...
 */
import { Checksum, ETHERNET_BYTES, type Packet, TagAction } from '../net/index.ts';
import { isTagged } from './frame-vectors.ts';
import type { LongFrameSender } from './long-frames.ts';
import type { RingGeometry } from './packet-rx-ring.ts';
import type { FrameSender, SenderListener } from './packet-sender.ts';
import type { PortCounters } from './port.ts';
import { Errno, lastErrno, type Mapping, rawSend, Socket } from './sys/index.ts';
import { VIRTIO_HEADER_BYTES, writeVirtioHeader } from './virtio-header.ts';

/** Values of tp_status on transmit. */
const Status = { AVAILABLE: 0, SEND_REQUEST: 1 } as const;

// TPACKET2_HDRLEN less the sockaddr_ll: where the kernel expects the data of a slot.
const DATA_AT = 32;
const LENGTH_WORD = 1;

/** The TX ring way. */
export class RingSender implements FrameSender {
  readonly #fd: number;
  readonly #counters: PortCounters;
  readonly #listener: SenderListener;
  readonly #long: LongFrameSender;
  readonly #geometry: RingGeometry;
  readonly #start: number;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #view: DataView;
  #cursor = 0;
  #queued = 0;
  #queuedBytes = 0;
  #takenBackBytes = 0;
  /** The device's MTU: here, unlike in sendmmsg, the kernel leaves it to the driver to lose longer frames. */
  mtuBytes = 1500;

  /**
   * @param fd a bound packet socket with PACKET_TX_RING and PACKET_LOSS; it stays the caller's
   * @param mapping the socket's ring memory
   * @param start where in it the transmit ring begins, in bytes
   * @param long sends what is too long for a packet socket; it stays the caller's
   */
  constructor(
    fd: number,
    mapping: Mapping,
    start: number,
    geometry: RingGeometry,
    counters: PortCounters,
    listener: SenderListener,
    long: LongFrameSender,
  ) {
    this.#fd = fd;
    this.#long = long;
    this.#start = start;
    this.#geometry = geometry;
    this.#counters = counters;
    this.#listener = listener;
    this.#bytes = new Uint8Array(mapping.buffer);
    this.#words = new Int32Array(mapping.buffer);
    this.#view = new DataView(mapping.buffer);
  }

  queue(packet: Packet, tag: number): void {
    const slot = this.#start + this.#cursor * this.#geometry.slotBytes;
    if (Atomics.load(this.#words, slot >>> 2) !== Status.AVAILABLE) {
      this.flush();
      if (Atomics.load(this.#words, slot >>> 2) !== Status.AVAILABLE) {
        this.#listener.onUnsent(Errno.ENOBUFS, 1, packet.length);
        return;
      }
    }
    const strip = (tag & TagAction.STRIP) !== 0 && isTagged(packet.bytes, packet.offset, packet.length);
    const push = (tag & TagAction.PUSH) !== 0;
    const shift = (push ? 4 : 0) - (strip ? 4 : 0);
    const length = packet.length + shift;
    const errno = this.#objection(
      packet,
      length,
      push || (tag !== TagAction.STRIP && isTagged(packet.bytes, packet.offset, packet.length)),
    );
    if (errno !== 0) {
      this.#sendOtherwise(packet, tag, length, errno);
      return;
    }

    const data = slot + DATA_AT;
    writeVirtioHeader(this.#view, data, packet, shift);
    const to = data + VIRTIO_HEADER_BYTES;
    if (strip || push) {
      copy(this.#bytes, to, packet.bytes, packet.offset, 12);
      if (push) {
        this.#bytes[to + 12] = 0x81;
        this.#bytes[to + 13] = 0x00;
        this.#bytes[to + 14] = (tag >>> 8) & 0xff;
        this.#bytes[to + 15] = tag & 0xff;
      }
      const rest = strip ? 16 : 12;
      copy(this.#bytes, to + (push ? 16 : 12), packet.bytes, packet.offset + rest, packet.length - rest);
    } else {
      copy(this.#bytes, to, packet.bytes, packet.offset, length);
    }
    this.#words[(slot >>> 2) + LENGTH_WORD] = VIRTIO_HEADER_BYTES + length;
    Atomics.store(this.#words, slot >>> 2, Status.SEND_REQUEST);
    this.#cursor = this.#cursor + 1 === this.#geometry.slots ? 0 : this.#cursor + 1;
    this.#queued += 1;
    this.#queuedBytes += length;
  }

  /** A frame that cannot go through the ring; what is queued goes before it. */
  #sendOtherwise(packet: Packet, tag: number, length: number, objection: number): void {
    let errno = objection;
    if (errno === Errno.EMSGSIZE) {
      this.flush();
      errno = this.#long.sendPacket(packet, tag);
    }
    if (errno !== 0) {
      this.#listener.onUnsent(errno, 1, packet.length);
      return;
    }
    this.#counters.transmittedPackets += 1;
    this.#counters.transmittedBytes += length;
  }

  /** Why a frame cannot be sent, as the errno that sendmmsg would give; 0 when it can. */
  #objection(packet: Packet, length: number, tagged: boolean): number {
    if (packet.length < ETHERNET_BYTES) return Errno.EINVAL;
    if (packet.checksum === Checksum.PARTIAL && packet.checksumStart + packet.checksumOffset + 2 > packet.length) {
      return Errno.EINVAL;
    }
    if (DATA_AT + VIRTIO_HEADER_BYTES + length > this.#geometry.slotBytes) return Errno.EMSGSIZE;
    const longest = this.mtuBytes + ETHERNET_BYTES + (tagged ? 4 : 0);
    return packet.gsoType === 0 && length > longest ? Errno.EMSGSIZE : 0;
  }

  flush(): void {
    const queued = this.#queued;
    if (queued === 0) return;
    const bytes = this.#queuedBytes;
    this.#queued = 0;
    this.#queuedBytes = 0;
    const sentBytes = rawSend(this.#fd, 0, 0, Socket.MSG_DONTWAIT);
    const errno = sentBytes < 0 ? lastErrno() : 0;
    const left = this.#takeBack(queued);
    const accepted = queued - left;
    if (left > 0) this.#listener.onUnsent(errno === 0 ? Errno.ENOBUFS : errno, left, this.#takenBackBytes);
    const expected = bytes - this.#takenBackBytes;
    // The kernel skips frames that it does not accept and reports only the bytes of the others, so that it is known that some
    // were refused but not how many: one is counted.
    const refused = errno === 0 && sentBytes < expected ? 1 : 0;
    if (refused > 0) this.#listener.onUnsent(Errno.EINVAL, refused, expected - sentBytes);
    this.#counters.transmittedPackets += accepted - refused;
    this.#counters.transmittedBytes += errno === 0 ? sentBytes : expected;
    if (errno === Errno.ENETDOWN) this.#listener.onLinkFailure(false);
    else if (errno === Errno.ENXIO || errno === Errno.ENODEV) this.#listener.onLinkFailure(true);
  }

  /** Slots that the kernel left unsent are at the end of what was queued: empty them, and use them first. @returns how many */
  #takeBack(queued: number): number {
    const slots = this.#geometry.slots;
    const slotBytes = this.#geometry.slotBytes;
    let left = 0;
    this.#takenBackBytes = 0;
    while (left < queued) {
      const previous = this.#cursor === 0 ? slots - 1 : this.#cursor - 1;
      const word = (this.#start + previous * slotBytes) >>> 2;
      if (Atomics.load(this.#words, word) !== Status.SEND_REQUEST) break;
      Atomics.store(this.#words, word, Status.AVAILABLE);
      this.#takenBackBytes += this.#words[word + LENGTH_WORD] - VIRTIO_HEADER_BYTES;
      this.#cursor = previous;
      left += 1;
    }
    return left;
  }
}

// Below this a loop beats the two temporary objects and the call behind TypedArray.set.
const LOOP_BELOW_BYTES = 128;

function copy(to: Uint8Array, at: number, from: Uint8Array, start: number, length: number): void {
  if (length < LOOP_BELOW_BYTES) {
    for (let i = 0; i < length; i += 1) to[at + i] = from[start + i];
  } else {
    to.set(from.subarray(start, start + length), at);
  }
}
