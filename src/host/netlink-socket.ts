/** A netlink socket: datagrams out and in, groups, extended acknowledgements asked for. What they mean is netlink/'s. */
import {
  bind,
  type FileDescriptor,
  NativeBlock,
  receiveFrom,
  Socket,
  send,
  setNumberOption,
  socket,
  tryNumberOption,
  waitReadable,
} from './sys/index.ts';

/** Options at level SOL_NETLINK (netlink(7)). */
const Option = { ADD_MEMBERSHIP: 1, EXT_ACK: 11, GET_STRICT_CHK: 12 } as const;

// struct sockaddr_nl: family u16, padding u16, port id u32, groups u32.
const ADDRESS_BYTES = 12;

/** An open netlink socket, in the network namespace of the thread that made it. */
export class NetlinkSocket {
  readonly #socket: FileDescriptor;
  readonly #sender = new NativeBlock(ADDRESS_BYTES);
  readonly #doing: string;
  #buffer = new Uint8Array(32 * 1024);

  /**
   * @param protocol such as NetlinkProtocol.ROUTE
   * @param options.groups multicast groups to join
   * @param options.receiveBufferBytes room for datagrams that wait; for listeners
   * @throws SystemError
   */
  constructor(protocol: number, options: { groups?: readonly number[]; receiveBufferBytes?: number } = {}) {
    this.#doing = `use netlink protocol ${protocol}`;
    this.#socket = socket(Socket.AF_NETLINK, Socket.RAW, protocol, this.#doing);
    try {
      const fd = this.#socket.number;
      tryNumberOption(fd, Socket.SOL_NETLINK, Option.EXT_ACK, 1);
      tryNumberOption(fd, Socket.SOL_NETLINK, Option.GET_STRICT_CHK, 1);
      const room = options.receiveBufferBytes;
      if (room !== undefined && !tryNumberOption(fd, Socket.SOL_SOCKET, Socket.SO_RCVBUFFORCE, room)) {
        tryNumberOption(fd, Socket.SOL_SOCKET, Socket.SO_RCVBUF, room);
      }
      const address = new NativeBlock(ADDRESS_BYTES);
      address.u16[0] = Socket.AF_NETLINK;
      bind(fd, address, ADDRESS_BYTES, this.#doing);
      for (const group of options.groups ?? []) {
        setNumberOption(fd, Socket.SOL_NETLINK, Option.ADD_MEMBERSHIP, group, `join netlink group ${group}`);
      }
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  get fileDescriptor(): number {
    return this.#socket.number;
  }

  /** Send one datagram to the kernel. @throws SystemError */
  send(bytes: Uint8Array): void {
    send(this.#socket.number, bytes, this.#doing);
  }

  /**
   * Take the next datagram from the kernel; those of other senders are left out.
   * @returns a view that the next call overwrites, or null when there is none now
   * @throws SystemError ENOBUFS when datagrams were lost because they were not taken in time
   */
  receive(): Uint8Array | null {
    const fd = this.#socket.number;
    for (;;) {
      const length = receiveFrom(fd, this.#buffer, Socket.MSG_PEEK | Socket.MSG_TRUNC, this.#sender, this.#doing);
      if (length < 0) return null;
      if (length > this.#buffer.length) this.#buffer = new Uint8Array(length);
      const received = receiveFrom(fd, this.#buffer, 0, this.#sender, this.#doing);
      if (received < 0) return null;
      const senderPort = this.#sender.u32[1];
      if (senderPort === 0) return this.#buffer.subarray(0, received);
    }
  }

  /** Block the thread until there is something to receive. @returns false when the time is over */
  wait(timeoutMs: number): boolean {
    return waitReadable(this.#socket.number, timeoutMs);
  }

  /** Closing twice is harmless. */
  close(): void {
    this.#socket.close();
  }
}
