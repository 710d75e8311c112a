/** A netlink socket: datagrams out and in, groups, extended acknowledgements asked for. What they mean is netlink/'s. */
import {
  addressOf,
  bind,
  check,
  Errno,
  type FileDescriptor,
  lastErrno,
  NativeBlock,
  rawReceiveMessage,
  rawSendAside,
  receiveFrom,
  Socket,
  send,
  setNumberOption,
  socket,
  tryNumberOption,
  waitReadable,
} from './sys/index.ts';

/** Options at level SOL_NETLINK (netlink(7)). */
const Option = { ADD_MEMBERSHIP: 1, LISTEN_ALL_NSID: 8, EXT_ACK: 11, GET_STRICT_CHK: 12 } as const;

// struct sockaddr_nl: family u16, padding u16, port id u32, groups u32.
const ADDRESS_BYTES = 12;
/** struct msghdr: the fields are of eight bytes each, the last one in each place padded. */
const Header = {
  NAME: 0,
  NAME_BYTES: 8,
  VECTORS: 16,
  VECTOR_COUNT: 24,
  CONTROL: 32,
  CONTROL_BYTES: 40,
  SIZE: 56,
} as const;
/** struct cmsghdr with an int behind it: length u64, level i32, type i32, id i32. */
const CONTROL_BYTES = 24;

/** An open netlink socket, in the network namespace of the thread that made it. */
export class NetlinkSocket {
  readonly #socket: FileDescriptor;
  readonly #sender = new NativeBlock(ADDRESS_BYTES);
  readonly #doing: string;
  #buffer = new Uint8Array(32 * 1024);
  readonly #listensElsewhere: boolean;
  readonly #header = new NativeBlock(Header.SIZE + 16);
  readonly #control = new NativeBlock(CONTROL_BYTES);
  /** What another thread is sending. */
  readonly #aside = new Set<NativeBlock>();
  #isClosed = false;
  /** Whether the last datagram tells of another namespace than the socket's. */
  isFromElsewhere = false;

  /**
   * @param protocol such as NetlinkProtocol.ROUTE
   * @param options.groups multicast groups to join
   * @param options.receiveBufferBytes room for datagrams that wait; for listeners
   * @param options.elsewhere hear also what happens in namespaces that have an id here; none of them is kept alive by that
   * @throws SystemError
   */
  constructor(
    protocol: number,
    options: { groups?: readonly number[]; receiveBufferBytes?: number; elsewhere?: boolean } = {},
  ) {
    this.#doing = `use netlink protocol ${protocol}`;
    this.#socket = socket(Socket.AF_NETLINK, Socket.RAW, protocol, this.#doing);
    try {
      const fd = this.#socket.number;
      tryNumberOption(fd, Socket.SOL_NETLINK, Option.EXT_ACK, 1);
      tryNumberOption(fd, Socket.SOL_NETLINK, Option.GET_STRICT_CHK, 1);
      this.#listensElsewhere =
        options.elsewhere === true && tryNumberOption(fd, Socket.SOL_NETLINK, Option.LISTEN_ALL_NSID, 1);
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
   * As {@link send}, for requests that the kernel may hold up until somebody gives back a lock: another thread sends it, and whatever is answered is received as ever.
   * @param onFailure told when it could not be sent; on Node's own loop, and so perhaps late
   */
  sendAside(bytes: Uint8Array, onFailure: () => void): void {
    const block = new NativeBlock(bytes.length);
    block.bytes.set(bytes);
    const ended = (isSent: boolean): void => {
      this.#aside.delete(block);
      if (this.#isClosed) this.#closeWhenIdle();
      else if (!isSent) onFailure();
    };
    this.#aside.add(block);
    try {
      rawSendAside(this.#socket.number, block.address, bytes.length, Socket.MSG_NOSIGNAL, (result) => {
        ended(result >= 0);
      });
    } catch {
      // So many wait for their end that there may be no more.
      ended(false);
    }
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
      const received = this.#listensElsewhere
        ? this.#receiveWithOrigin(fd)
        : receiveFrom(fd, this.#buffer, 0, this.#sender, this.#doing);
      if (received < 0) return null;
      const senderPort = this.#sender.u32[1];
      if (senderPort === 0) return this.#buffer.subarray(0, received);
    }
  }

  /** As receiveFrom, with the id of the namespace that the datagram tells of: the kernel adds one only for others. */
  #receiveWithOrigin(fd: number): number {
    const header = this.#header;
    const vector = Header.SIZE;
    header.setAddress(Header.NAME, this.#sender.address);
    header.u32[Header.NAME_BYTES / 4] = ADDRESS_BYTES;
    header.setAddress(Header.VECTORS, header.address + vector);
    header.setAddress(Header.VECTOR_COUNT, 1);
    header.setAddress(Header.CONTROL, this.#control.address);
    header.setAddress(Header.CONTROL_BYTES, CONTROL_BYTES);
    header.setAddress(vector, addressOf(this.#buffer));
    header.setAddress(vector + 8, this.#buffer.length);
    const received = rawReceiveMessage(fd, header.address, 0);
    if (received < 0) {
      const errno = lastErrno();
      if (errno === Errno.EAGAIN || errno === Errno.EINTR) return -1;
      return check(received, 'recvmsg', this.#doing);
    }
    const [, , level, type] = this.#control.u32;
    const hasControl = header.u32[Header.CONTROL_BYTES / 4] > 0;
    this.isFromElsewhere = hasControl && level === Socket.SOL_NETLINK && type === Option.LISTEN_ALL_NSID;
    return received;
  }

  /** Block the thread until there is something to receive. @returns false when the time is over */
  wait(timeoutMs: number): boolean {
    return waitReadable(this.#socket.number, timeoutMs);
  }

  /** Closing twice is harmless. The descriptor stays until what is sent aside is out, as its number may be another one's afterwards. */
  close(): void {
    this.#isClosed = true;
    this.#closeWhenIdle();
  }

  #closeWhenIdle(): void {
    if (this.#aside.size === 0) this.#socket.close();
  }
}
