/**
 * A request and what comes back for it. Pure state, no socket: whoever owns one sends `encode(...)`, receives datagrams, splits them with
 * parseMessages and offers each message to the transactions that are open.
 */
import { type Acknowledgement, type ExtendedAck, parseDone, parseError } from './acknowledgement.ts';
import { NlmFlag, Nlmsg } from './constants.ts';
import type { Message } from './message.ts';
import type { MessageWriter } from './writer.ts';

/** A request that has no sequence number yet. */
export interface Request {
  /** nlmsg_type. */
  readonly type: number;
  /** nlmsg_flags; NlmFlag.REQUEST, ACK and DUMP are added where they belong. */
  readonly flags: number;
  /** Ask for all objects of the table. */
  readonly dump?: boolean;
  /** What is being done, with its object, for error messages: 'create link br0'. */
  readonly doing: string;
  /** Write the family's header and the attributes. */
  write(writer: MessageWriter): void;
}

/** What a message meant for a transaction. */
export type Progress =
  /** It belongs to somebody else. */
  | 'other'
  /** It was taken, and more follows. */
  | 'more'
  /** The transaction is complete: `replies` holds everything. */
  | 'done'
  /** The transaction failed: `failure` says why. */
  | 'failed';

/** Why a transaction failed. */
export interface Failure {
  /** A positive error number. */
  readonly errno: number;
  readonly extended: ExtendedAck;
  /** 'create link br0: File name too long (errno 36)' without the name of the errno, which is the caller's to add. */
  readonly text: string;
}

/** EIO: the peer reported lost messages in the middle of an answer. */
const EIO = 5;

/**
 * Follows one request to its end. A dump ends with NLMSG_DONE. Any other request carries NLM_F_ACK (added here) and ends with its
 * acknowledgement, so that replies and errors end alike.
 */
export class Transaction {
  readonly request: Request;
  readonly sequence: number;
  /** Messages that answer the request, without acknowledgement; copies that stay valid. */
  readonly replies: Message[] = [];
  /** The tables changed during the dump (NLM_F_DUMP_INTR): what was read may miss or repeat objects, so ask again. */
  interrupted = false;
  /** Set once the transaction has ended. */
  acknowledgement: Acknowledgement | null = null;
  failure: Failure | null = null;

  /** @param sequence number of the request, unlike those of other open transactions on the same socket */
  constructor(request: Request, sequence: number) {
    this.request = request;
    this.sequence = sequence;
  }

  /** Write the request. */
  encode(writer: MessageWriter): void {
    const ending = this.request.dump === true ? NlmFlag.DUMP : NlmFlag.ACK;
    writer.begin(this.request.type, this.request.flags | NlmFlag.REQUEST | ending, this.sequence);
    this.request.write(writer);
    writer.end();
  }

  /**
   * Hand over a received message.
   * @throws NetlinkError when it belongs here and is malformed; the transaction stays as it was
   */
  offer(message: Message): Progress {
    if (message.sequence !== this.sequence || this.acknowledgement !== null) return 'other';
    switch (message.type) {
      case Nlmsg.NOOP:
        return 'more';
      case Nlmsg.OVERRUN:
        return this.#finish({
          errno: EIO,
          requestType: this.request.type,
          extended: { message: 'messages were lost' },
        });
      case Nlmsg.ERROR:
        return this.#finish(parseError(message));
      case Nlmsg.DONE: {
        const done = parseDone(message);
        this.#noteInterruption(message);
        return this.#finish(done);
      }
      default:
        this.#noteInterruption(message);
        this.replies.push({ ...message, bytes: message.bytes.slice() });
        return 'more';
    }
  }

  #noteInterruption(message: Message): void {
    if ((message.flags & NlmFlag.DUMP_INTR) !== 0) this.interrupted = true;
  }

  #finish(acknowledgement: Acknowledgement): Progress {
    this.acknowledgement = acknowledgement;
    if (acknowledgement.errno === 0) return 'done';
    const { message, offset, missingType } = acknowledgement.extended;
    const details = [
      `errno ${acknowledgement.errno}`,
      ...(message === undefined ? [] : [message]),
      ...(offset === undefined ? [] : [`attribute at byte ${offset}`]),
      ...(missingType === undefined ? [] : [`attribute type ${missingType} is missing`]),
    ];
    this.failure = {
      errno: acknowledgement.errno,
      extended: acknowledgement.extended,
      text: `cannot ${this.request.doing}: ${details.join(', ')}`,
    };
    return 'failed';
  }
}
