/**
 * The link watch: follows the network devices of a namespace over rtnetlink. It starts with a full look and then reads
 * notifications; when those were lost it looks again and reports the difference, so that its users never miss a change for good.
 *
 * On an event loop, add `fileDescriptor`, call `process` when it is readable and `lost` when it reports an error. On Node's main thread, whose own loop cannot wait on
 * such a descriptor, use {@link pollLinks}.
 */
import {
  type Link,
  MESSAGE_HEADER_BYTES,
  type Message,
  NetlinkError,
  NetlinkProtocol,
  parseMessages,
  parseRouteEvent,
  Rtm,
  RtnlGroup,
} from '../netlink/index.ts';
import { type LinkEvent, type LinkState, LinkTable, linkState, type MovedTo } from './link-state.ts';
import { NetlinkSocket } from './netlink-socket.ts';
import { RouteClient } from './route-client.ts';
import { Errno, SystemError } from './sys/index.ts';

// Some 700 notifications.
const RECEIVE_BUFFER_BYTES = 1 << 20;
/** Of the index in struct ifinfomsg. */
const INDEX_AT = MESSAGE_HEADER_BYTES + 4;

export interface LinkWatchOptions {
  readonly receiveBufferBytes?: number;
  readonly elsewhere?: boolean;
  heard?(index: number): void;
}

/** Follows the devices of the network namespace where it was made. */
export class LinkWatch {
  readonly #socket: NetlinkSocket;
  readonly #client: RouteClient;
  readonly #table = new LinkTable();
  readonly #heard: (index: number) => void;
  #elsewhere = false;
  /** Devices changed all the time during the last full look, so that it may have missed some. */
  #isPartial = false;
  #closed = false;

  /**
   * @param options.elsewhere hear also of namespaces that have an id in this one: see {@link takeElsewhere}
   * @param options.heard told the index of each device that is spoken of, in whichever namespace that counts, as features that `ethtool -K` has
   *   changed are news that no event has; -1 when news were lost
   * @throws SystemError
   */
  constructor(options: LinkWatchOptions = {}) {
    this.#heard = options.heard ?? (() => {});
    // Listening begins before the first look: what changes between the two is seen twice rather than not at all.
    this.#socket = new NetlinkSocket(NetlinkProtocol.ROUTE, {
      groups: [RtnlGroup.LINK],
      receiveBufferBytes: options.receiveBufferBytes ?? RECEIVE_BUFFER_BYTES,
      ...(options.elsewhere === undefined ? {} : { elsewhere: options.elsewhere }),
    });
    try {
      this.#client = new RouteClient();
      this.#lookAgain();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Readable when there is something to {@link process}; -1 when closed. */
  get fileDescriptor(): number {
    return this.#socket.fileDescriptor;
  }

  /** The devices as of the last {@link process}, by index. */
  get links(): ReadonlyMap<number, LinkState> {
    return this.#table.links;
  }

  /** The device that has this name now, or null. */
  byName(name: string): LinkState | null {
    for (const link of this.#table.links.values()) if (link.name === name) return link;
    return null;
  }

  /**
   * Read what has happened. It does not block.
   * @returns events in their order; after lost notifications, the difference that they made
   * @throws SystemError
   */
  process(): LinkEvent[] {
    if (this.#closed) return [];
    const events: LinkEvent[] = [];
    for (;;) {
      try {
        const datagram = this.#socket.receive();
        if (datagram === null) {
          if (this.#isPartial) events.push(...this.#lookAgain());
          return events;
        }
        const messages = parseMessages(datagram);
        this.#tell(messages);
        if (this.#socket.isFromElsewhere) {
          this.#elsewhere = true;
          continue;
        }
        for (const message of messages) {
          const event = parseRouteEvent(message);
          // Bridges tell of their ports under a family of their own; there, "deleted" only means "no port any more".
          if (event?.kind !== 'link' || event.object.family !== 0) continue;
          const link = linkState(event.object);
          const change = event.gone ? this.#table.lose(link.index, movedTo(event.object)) : this.#table.see(link);
          if (change !== null) events.push(change);
        }
      } catch (error) {
        const lost = error instanceof SystemError && error.errno === Errno.ENOBUFS;
        // A notification that cannot be read is as good as lost.
        if (!lost && !(error instanceof NetlinkError)) throw error;
        events.push(...this.lost());
      }
    }
  }

  /**
   * Notifications were lost: look again. An event loop says so as an error of the descriptor, which it has cleared, so that {@link process} does not meet with it.
   * @returns the difference that they made
   * @throws SystemError
   */
  lost(): LinkEvent[] {
    if (this.#closed) return [];
    this.#discard();
    this.#elsewhere = true;
    this.#heard(-1);
    return this.#lookAgain();
  }

  #tell(messages: readonly Message[]): void {
    for (const { type, bytes } of messages) {
      if ((type !== Rtm.NEWLINK && type !== Rtm.DELLINK) || bytes.length < INDEX_AT + 4) continue;
      this.#heard(new DataView(bytes.buffer, bytes.byteOffset).getInt32(INDEX_AT, true));
    }
  }

  /** Whether {@link process} has heard of a change in another namespace, or may have missed one, since the last call. */
  takeElsewhere(): boolean {
    const heard = this.#elsewhere;
    this.#elsewhere = false;
    return heard;
  }

  /**
   * Drop the notifications that wait: the kernel reports a loss ahead of those that came before it, and they would take
   * the table back to what was then.
   */
  #discard(): void {
    for (;;) {
      try {
        if (this.#socket.receive() === null) return;
      } catch (error) {
        if (!(error instanceof SystemError) || error.errno !== Errno.ENOBUFS) throw error;
      }
    }
  }

  #lookAgain(): LinkEvent[] {
    const { links, isWhole } = this.#client.linksAsFarAsKnown();
    const states = links.map(linkState);
    this.#isPartial = !isWhole;
    if (isWhole) return this.#table.replace(states);
    // A device that was known is gone only if it cannot be found by itself.
    return this.#table.update(states, (index) => {
      const link = this.#client.findLink(index);
      return link === null ? null : linkState(link);
    });
  }

  /** Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    this.#client?.close();
  }
}

/** Where a device goes that leaves its namespace; null when it goes for good. */
function movedTo({ newNamespaceId, newIndex, index }: Link): MovedTo | null {
  if (newNamespaceId === undefined) return null;
  // Linux before 4.20 tells the namespace alone; the index stays where it is free.
  return { index: newIndex ?? index, namespaceId: newNamespaceId };
}

/**
 * Read a link watch regularly on Node's event loop, which it does not keep alive.
 * @param listener told of each event
 * @param intervalMs how often; a look that finds nothing costs less than a microsecond
 * @returns a function that ends it; the watch stays open
 */
export function pollLinks(watch: LinkWatch, listener: (event: LinkEvent) => void, intervalMs = 100): () => void {
  const timer = setInterval(() => {
    for (const event of watch.process()) listener(event);
  }, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}
