/** Reads notifications about neighbours, some at a time. Much may be said there that concerns nobody here: bridges tell of their addresses by the same group. */
import {
  AddressFamily,
  MESSAGE_HEADER_BYTES,
  NetlinkError,
  parseMessages,
  Rtm,
  RtnlGroup,
} from '../../netlink/index.ts';
import type { Neighbours } from './neighbours.ts';
import { discardWaiting, isOverflow, type TablesLoop, type TablesSocket } from './socket.ts';

/** The group that the socket is to be in. */
export const NEIGHBOUR_GROUPS = [RtnlGroup.NEIGH];

/** Datagrams that are read at a time; the rest comes in the loop's next turns. */
const SLICE = 64;

export class NeighbourNews {
  readonly #socket: TablesSocket;
  readonly #loop: TablesLoop;
  readonly #neighbours: Neighbours;
  readonly #onLost: () => void;
  #isClosed = false;

  /** @param onLost told when notifications were lost */
  constructor(socket: TablesSocket, loop: TablesLoop, neighbours: Neighbours, onLost: () => void) {
    this.#socket = socket;
    this.#loop = loop;
    this.#neighbours = neighbours;
    this.#onLost = onLost;
    loop.add(socket.fileDescriptor, { onReady: () => this.#process(), onError: () => this.#lost() });
  }

  #process(): void {
    for (let taken = 0; taken < SLICE && !this.#isClosed; taken += 1) {
      try {
        const datagram = this.#socket.receive();
        if (datagram === null) return;
        for (const message of parseMessages(datagram)) {
          const { type, bytes } = message;
          if (type !== Rtm.NEWNEIGH && type !== Rtm.DELNEIGH) continue;
          const family = bytes[MESSAGE_HEADER_BYTES];
          if (family !== AddressFamily.INET && family !== AddressFamily.INET6) continue;
          this.#neighbours.hear(message, type === Rtm.DELNEIGH);
        }
      } catch (error) {
        // A notification that cannot be read is as good as lost.
        if (!isOverflow(error) && !(error instanceof NetlinkError)) throw error;
        this.#lost();
        return;
      }
    }
  }

  #lost(): void {
    if (this.#isClosed) return;
    discardWaiting(this.#socket);
    this.#onLost();
  }

  /** Closing twice is harmless. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#loop.remove(this.#socket.fileDescriptor);
    this.#socket.close();
  }
}
