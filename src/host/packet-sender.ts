/**
 * Sending on a packet socket with sendmmsg(2), from the frames' own memory (frame-vectors.ts). Measured against a TX ring
 * this is faster: JavaScript copies nothing, and the kernel copies each frame once, into an skb of its own. The other way is
 * packet-tx-ring.ts; packet-socket.ts chooses.
 *
 * struct mmsghdr on 64-bit Linux: struct msghdr (56 bytes: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40,
 * flags 48), msg_len at 56; 64 bytes in all.
 */
import { type Packet, Refusal } from '../net/index.ts';
import { FrameVectors } from './frame-vectors.ts';
import type { LongFrameSender } from './long-frames.ts';
import type { PortCounters } from './port.ts';
import { Errno, lastErrno, NativeBlock, rawSendmmsg, Socket } from './sys/index.ts';

const MESSAGE_BYTES = 64;
const IOV_POINTER_AT = 16;
const IOV_COUNT_AT = 24;
const IOV_COUNT_LOW_WORD = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 0 : 1;

/** How a way of sending tells its adapter about the device, and about frames that it did not take. */
export interface SenderListener {
  /** @param errno why, as the kernel tells it */
  onUnsent(errno: number, frames: number, bytes: number): void;

  /** @param gone true when there is no device any more, false when it is down */
  onLinkFailure(gone: boolean): void;
}

/** Something that queues frames and sends them: the two ways of sending on a packet socket. */
export interface FrameSender {
  /** Queue a frame; full queues are flushed on the way. */
  queue(packet: Packet, tag: number): void;
  /** Send what is queued and account for it in the counters. */
  flush(): void;
}

/** The sendmmsg way. */
export class MessageSender implements FrameSender {
  readonly #fd: number;
  readonly #counters: PortCounters;
  readonly #listener: SenderListener;
  readonly #long: LongFrameSender;
  readonly #vectors: FrameVectors;
  readonly #messages: NativeBlock;
  readonly #capacity: number;
  #count = 0;

  /**
   * @param fd a bound packet socket; it stays the caller's
   * @param long sends what the kernel refuses here for its length; it stays the caller's
   * @param capacity frames per system call
   */
  constructor(fd: number, counters: PortCounters, listener: SenderListener, long: LongFrameSender, capacity = 64) {
    this.#fd = fd;
    this.#counters = counters;
    this.#listener = listener;
    this.#long = long;
    this.#capacity = capacity;
    this.#vectors = new FrameVectors(capacity);
    this.#messages = new NativeBlock(capacity * MESSAGE_BYTES);
    for (let i = 0; i < capacity; i += 1) {
      this.#messages.setAddress(i * MESSAGE_BYTES + IOV_POINTER_AT, this.#vectors.vectorsAddress(i));
    }
  }

  queue(packet: Packet, tag: number): void {
    if (this.#count === this.#capacity) this.flush();
    const index = this.#count;
    const vectors = this.#vectors.set(index, packet, tag);
    if (vectors === 0) {
      this.#listener.onUnsent(Errno.EINVAL, 1, packet.length);
      return;
    }
    this.#messages.setAddress(index * MESSAGE_BYTES + IOV_COUNT_AT, vectors);
    this.#count = index + 1;
  }

  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    this.#count = 0;
    let next = 0;
    let fullInARow = 0;
    while (next < count) {
      const sent = rawSendmmsg(
        this.#fd,
        this.#messages.address + next * MESSAGE_BYTES,
        count - next,
        Socket.MSG_DONTWAIT,
      );
      if (sent > 0) {
        this.#account(next, sent);
        next += sent;
        fullInARow = 0;
        continue;
      }
      // The kernel stops at the first message that fails and reports its error only when asked again: it is message `next`.
      let errno = lastErrno();
      if (errno === Errno.EINTR) continue;
      if (errno === Errno.EMSGSIZE) errno = this.#long.send(this.#vectors, next, this.#piecesOf(next));
      if (errno === 0) {
        this.#account(next, 1);
        next += 1;
        continue;
      }
      if (isFinal(errno)) {
        this.#drop(errno, next, count);
        return;
      }
      this.#drop(errno, next, next + 1);
      next += 1;
      // One frame may have found the queue full by chance; a second in a row means that the others would, too.
      fullInARow = errno === Errno.ENOBUFS ? fullInARow + 1 : 0;
      if (fullInARow === 2) {
        this.#drop(errno, next, count);
        return;
      }
    }
  }

  #piecesOf(index: number): number {
    return this.#messages.u32[(index * MESSAGE_BYTES + IOV_COUNT_AT) / 4 + IOV_COUNT_LOW_WORD];
  }

  #account(first: number, sent: number): void {
    this.#counters.transmittedPackets += sent;
    this.#counters.transmittedBytes += this.#bytes(first, first + sent);
  }

  #bytes(from: number, end: number): number {
    const lengths = this.#vectors.lengths;
    let bytes = 0;
    for (let i = from; i < end; i += 1) bytes += lengths[i];
    return bytes;
  }

  #drop(errno: number, from: number, end: number): void {
    if (from === end) return;
    this.#listener.onUnsent(errno, end - from, this.#bytes(from, end));
    if (errno === Errno.ENETDOWN) this.#listener.onLinkFailure(false);
    else if (errno === Errno.ENXIO || errno === Errno.ENODEV) this.#listener.onLinkFailure(true);
  }
}

/** Whether an error concerns the socket or device rather than the one frame: the rest of the batch would meet it, too. */
function isFinal(errno: number): boolean {
  return errno === Errno.EAGAIN || errno === Errno.ENETDOWN || errno === Errno.ENXIO || errno === Errno.ENODEV;
}

/**
 * Count frames that the kernel did not take, under the reason that its errno tells.
 * @returns a Refusal of net/
 */
export function countSendError(counters: PortCounters, errno: number, frames: number): number {
  counters.transmitDropped += frames;
  switch (errno) {
    case Errno.EMSGSIZE:
      counters.transmitTooLong += frames;
      return Refusal.TOO_LONG;
    case Errno.EAGAIN:
    case Errno.ENOBUFS:
    case Errno.ENOMEM:
      counters.transmitQueueFull += frames;
      return Refusal.QUEUE_FULL;
    case Errno.ENETDOWN:
    case Errno.ENXIO:
    case Errno.ENODEV:
    case Errno.EIO:
    case Errno.EBADFD:
      counters.transmitDown += frames;
      return Refusal.DOWN;
    default:
      counters.transmitRejected += frames;
      return Refusal.REJECTED;
  }
}
