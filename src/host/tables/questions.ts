/**
 * Questions to the kernel with one answer each: a route, a link, a neighbour, or the wish that a neighbour be resolved. The kernel works on a request within the
 * call that sends it, so that its answer mostly waits when that returns, and is given at once; one that comes later is given when the socket is readable.
 *
 * Looking up routes takes no lock of the kernel's that others could hold for long: RTM_GETROUTE is RTNL_FLAG_DOIT_UNLOCKED for both families, and so is RTM_GETNEIGH
 * since Linux 6.17. A wish that a neighbour be resolved (RTM_NEWNEIGH) takes the lock of all interfaces, which others may hold for a tenth of a second, in whatever
 * namespace: so wishes are sent by another thread.
 */
import {
  type Message,
  MessageWriter,
  NlmFlag,
  Nlmsg,
  parseError,
  parseMessages,
  type Request,
} from '../../netlink/index.ts';
import { Errno, SystemError } from '../sys/index.ts';
import { isOverflow, type TablesLoop, type TablesSocket } from './socket.ts';

/**
 * Takes an answer.
 * @param errno 0, or why there is none
 * @param message what was asked for; null for an error, and for a wish that was granted
 */
export type TakeAnswer = (errno: number, message: Message | null) => void;

/** Whether there is no answer for a reason that passes: what was asked may be asked again. */
export function passes(errno: number): boolean {
  return errno === Errno.ENOBUFS || errno === Errno.ENOMEM || errno === Errno.EAGAIN || errno === Errno.EINTR;
}

/** Types of rtnetlink come in fours: new, delete, get, set. */
const KIND_BITS = 3;
const GET = 2;

/** Wishes are sent so often, all that have come meanwhile in one go; the first one after a quiet time at once. */
const WISHES_MS = 50;

export class KernelQuestions {
  /** How many were asked. */
  asked = 0;
  readonly #socket: TablesSocket;
  readonly #loop: TablesLoop;
  readonly #nowMs: () => number;
  readonly #wishes = new MessageWriter();
  #wished: number[] = [];
  #isWishTimed = false;
  #isClosed = false;
  readonly #writer = new MessageWriter();
  readonly #open = new Map<number, TakeAnswer>();
  #sequence = 0;

  constructor(socket: TablesSocket, loop: TablesLoop, nowMs: () => number) {
    this.#socket = socket;
    this.#loop = loop;
    this.#nowMs = nowMs;
    loop.add(socket.fileDescriptor, { onReady: () => this.process(), onError: () => this.#lost() });
  }

  /** Ask. The answer to what is asked for may come before this returns; that to a wish comes later. */
  ask(request: Request, take: TakeAnswer): void {
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.asked += 1;
    // What was asked for is an answer by itself; a wish needs to be acknowledged.
    const isWish = (request.type & KIND_BITS) !== GET;
    const writer = isWish ? this.#wishes : this.#writer;
    if (!isWish) writer.reset();
    const sequence = this.#sequence;
    writer.begin(request.type, request.flags | NlmFlag.REQUEST | (isWish ? NlmFlag.ACK : 0), sequence);
    request.write(writer);
    writer.end();
    this.#open.set(sequence, take);
    if (isWish) {
      this.#wished.push(sequence);
      if (!this.#isWishTimed) this.#sendWishes();
      return;
    }
    try {
      this.#socket.send(this.#writer.view());
    } catch (error) {
      this.#open.delete(sequence);
      if (!(error instanceof SystemError)) throw error;
      take(error.errno, null);
      return;
    }
    this.process(sequence);
  }

  /**
   * Give the answers that have come.
   * @param until no further than the answer to this question, as mostly there is no other; all by default
   * @throws SystemError when the socket does not work; NetlinkError for an answer that is malformed
   */
  process(until = -1): void {
    const answers: { readonly take: TakeAnswer; readonly errno: number; readonly message: Message | null }[] = [];
    try {
      while (until < 0 || this.#open.has(until)) {
        const datagram = this.#socket.receive();
        if (datagram === null) break;
        for (const message of parseMessages(datagram)) {
          const take = this.#open.get(message.sequence);
          if (take === undefined) continue;
          this.#open.delete(message.sequence);
          const isError = message.type === Nlmsg.ERROR;
          // Who takes an answer may ask on, and then the datagram is another.
          answers.push({
            take,
            errno: isError ? parseError(message).errno : 0,
            message: isError ? null : { ...message, bytes: message.bytes.slice() },
          });
        }
      }
    } catch (error) {
      if (!isOverflow(error)) throw error;
      this.#lost();
    }
    for (const { take, errno, message } of answers) take(errno, message);
  }

  #sendWishes(): void {
    this.#isWishTimed = this.#wished.length > 0 && !this.#isClosed;
    if (!this.#isWishTimed) return;
    const wished = this.#wished;
    this.#wished = [];
    this.#loop.timers.once(WISHES_MS, { onTimer: () => this.#sendWishes() }, this.#nowMs());
    const bytes = this.#wishes.take();
    this.#wishes.reset();
    this.#socket.sendAside(bytes, () => {
      for (const sequence of wished) {
        const take = this.#open.get(sequence);
        this.#open.delete(sequence);
        take?.(Errno.ENOBUFS, null);
      }
    });
  }

  /** Answers may have been lost: nobody waits for any longer. */
  #lost(): void {
    const takes = [...this.#open.values()];
    this.#open.clear();
    for (const take of takes) take(Errno.ENOBUFS, null);
  }

  /** Closing twice is harmless. No answer is given afterwards. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#open.clear();
    this.#loop.remove(this.#socket.fileDescriptor);
    this.#socket.close();
  }
}
