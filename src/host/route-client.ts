/**
 * A synchronous client of rtnetlink: one request, its answer, errors with the kernel's own explanation. For set-up and control, where
 * an answer within microseconds is worth more than not blocking. link-watch.ts listens for changes.
 */
import {
  askSteadily,
  DUMP_ATTEMPTS,
  deleteLink,
  dumpLinks,
  getLink,
  type Link,
  type LinkChanges,
  type LinkSelector,
  type Message,
  MessageWriter,
  NetlinkProtocol,
  newVeth,
  parseLink,
  parseMessages,
  type Request,
  setLink,
  Transaction,
} from '../netlink/index.ts';
import { NetlinkSocket } from './netlink-socket.ts';
import { adviceFor, DumpInterruptedError, Errno, SystemError } from './sys/index.ts';

// The kernel answers at once, or takes its time for a big dump; this only ends a hang.
const ANSWER_TIMEOUT_MS = 10_000;

/** What the client needs of a socket. */
type RouteSocket = Pick<NetlinkSocket, 'send' | 'receive' | 'wait' | 'close'>;

/** An rtnetlink connection in the network namespace of the thread that made it. */
export class RouteClient {
  readonly #socket: RouteSocket;
  readonly #writer = new MessageWriter();
  #sequence = 0;

  /** @param socket to the kernel; the client closes it */
  constructor(socket: RouteSocket = new NetlinkSocket(NetlinkProtocol.ROUTE)) {
    this.#socket = socket;
  }

  /**
   * Make any request of netlink/.
   * @returns the replies; for a dump that was disturbed by changes, those of an undisturbed repetition
   * @throws DumpInterruptedError, which has the replies of the last repetition, when all were disturbed; SystemError with the kernel's
   *   explanation; NetlinkError for an answer that is malformed
   */
  request(request: Request): Message[] {
    const { interrupted, replies } = askSteadily(() => this.#transact(request));
    if (interrupted) throw new DumpInterruptedError(request.doing, DUMP_ATTEMPTS, replies);
    return replies;
  }

  #transact(request: Request): Transaction {
    this.#sequence += 1;
    const transaction = new Transaction(request, this.#sequence);
    this.#writer.reset();
    transaction.encode(this.#writer);
    this.#socket.send(this.#writer.view());
    for (;;) {
      const datagram = this.#socket.receive();
      if (datagram === null) {
        if (!this.#socket.wait(ANSWER_TIMEOUT_MS)) throw new SystemError('rtnetlink', Errno.ETIMEDOUT, request.doing);
        continue;
      }
      for (const message of parseMessages(datagram)) {
        const progress = transaction.offer(message);
        if (progress === 'done') return transaction;
        if (progress === 'failed') throw failureOf(transaction);
      }
    }
  }

  /** @throws SystemError ENODEV when there is none */
  link(selector: LinkSelector): Link {
    const replies = this.request(getLink(selector));
    if (replies.length !== 1) throw new SystemError('rtnetlink', Errno.ENODEV, `get link ${selector}`);
    return parseLink(replies[0]);
  }

  /** A link, or null when there is none. @throws SystemError */
  findLink(selector: LinkSelector): Link | null {
    try {
      return this.link(selector);
    } catch (error) {
      if (error instanceof SystemError && error.errno === Errno.ENODEV) return null;
      throw error;
    }
  }

  /**
   * The other end of a veth, wherever it is.
   * @returns null for what is no veth
   * @throws SystemError when its namespace may not be looked into
   */
  peerOf(link: Link): Link | null {
    const { linkedIndex, linkNamespaceId } = link;
    if (link.info?.kind !== 'veth' || linkedIndex === undefined) return null;
    const inNamespace = linkNamespaceId === undefined ? {} : { namespaceId: linkNamespaceId };
    const replies = this.request(getLink(linkedIndex, inNamespace));
    return replies.length === 1 ? parseLink(replies[0]) : null;
  }

  /** All links. @throws DumpInterruptedError, SystemError */
  links(): Link[] {
    return this.request(dumpLinks()).map(parseLink);
  }

  /** All links, or what could be read of them while they changed all the time. @throws SystemError */
  linksAsFarAsKnown(): { readonly links: Link[]; readonly isWhole: boolean } {
    const { interrupted, replies } = askSteadily(() => this.#transact(dumpLinks()));
    return { links: replies.map(parseLink), isWhole: !interrupted };
  }

  /** Change a link: up or down, MTU, name, address, master, namespace. @throws SystemError */
  changeLink(selector: LinkSelector, changes: LinkChanges): void {
    const index = typeof selector === 'number' ? selector : this.link(selector).index;
    this.request(setLink(index, changes));
  }

  /**
   * Make a pair of connected links.
   * @param peer of the second; it may be made in another namespace
   * @param changes to the first
   * @throws SystemError EEXIST
   */
  createVeth(name: string, peer: Parameters<typeof newVeth>[1], changes: LinkChanges = {}): void {
    this.request(newVeth(name, peer, changes));
  }

  /** @throws SystemError */
  deleteLink(selector: LinkSelector): void {
    this.request(deleteLink(selector));
  }

  /** Closing twice is harmless. */
  close(): void {
    this.#socket.close();
  }
}

function failureOf(transaction: Transaction): SystemError {
  const failure = transaction.failure;
  if (failure === null) throw new Error('the transaction has not failed');
  const parts = [failure.extended.message ?? '', adviceFor('rtnetlink', failure.errno)];
  if (failure.extended.missingType !== undefined) parts.unshift(`attribute ${failure.extended.missingType} is missing`);
  return new SystemError('rtnetlink', failure.errno, transaction.request.doing, parts.filter(Boolean).join('; '));
}

/** Use a client for the length of a function. */
export function withRouteClient<Result>(body: (client: RouteClient) => Result): Result {
  const client = new RouteClient();
  try {
    return body(client);
  } finally {
    client.close();
  }
}
