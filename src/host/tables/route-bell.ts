/**
 * Rings when routes, policy rules or next-hop objects change. What has changed is not looked at: whoever has asked for a route asks again. So a burst of changes, such as
 * a routing daemon's full table, costs next to nothing: the socket holds a few messages and overflows, which is as good a sign; and it is not looked at again for a
 * while. The first change after a quiet time rings at once.
 */
import { RtnlGroup } from '../../netlink/index.ts';
import { isOverflow, type TablesLoop, type TablesSocket } from './socket.ts';

/** Groups that the bell's socket is to be in. */
export const BELL_GROUPS = [
  RtnlGroup.IPV4_ROUTE,
  RtnlGroup.IPV6_ROUTE,
  RtnlGroup.IPV4_RULE,
  RtnlGroup.IPV6_RULE,
  RtnlGroup.NEXTHOP,
];
/** Room for its messages: the kernel gives some ten of them a place in it. */
export const BELL_BUFFER_BYTES = 8192;
/** How long it is not looked at after it has rung. */
const QUIET_MS = 10;
/** Messages that are taken each time; the kernel goes on putting new ones where these have been. */
const TAKEN_MAXIMUM = 64;

export class RouteBell {
  /** How often it rang. */
  rung = 0;
  readonly #socket: TablesSocket;
  readonly #loop: TablesLoop;
  readonly #ring: () => void;
  readonly #nowMs: () => number;
  #isClosed = false;

  constructor(socket: TablesSocket, loop: TablesLoop, nowMs: () => number, ring: () => void) {
    this.#socket = socket;
    this.#loop = loop;
    this.#nowMs = nowMs;
    this.#ring = ring;
    this.#listen();
  }

  #listen(): void {
    if (this.#isClosed) return;
    const heard = () => this.#heard();
    this.#loop.add(this.#socket.fileDescriptor, { onReady: heard, onError: heard });
  }

  #heard(): void {
    this.#loop.remove(this.#socket.fileDescriptor);
    this.#loop.timers.once(QUIET_MS, { onTimer: () => this.#listen() }, this.#nowMs());
    for (let taken = 0; taken < TAKEN_MAXIMUM; taken += 1) {
      try {
        if (this.#socket.receive() === null) break;
      } catch (error) {
        if (!isOverflow(error)) throw error;
      }
    }
    this.rung += 1;
    this.#ring();
  }

  /** Closing twice is harmless. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#loop.remove(this.#socket.fileDescriptor);
    this.#socket.close();
  }
}
