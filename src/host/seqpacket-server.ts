/**
 * A Unix SOCK_SEQPACKET server on the datapath thread's event loop: connections that keep the bounds of datagrams, such as the
 * pseudo device of Open vSwitch wants. Node's own sockets know streams only. What datagrams mean is the handler's affair.
 */
import type { EventLoop, LoopHandler } from './loop.ts';
import { bindSocketFile, type SocketFile } from './socket-file.ts';
import {
  EpollEvent,
  Errno,
  FileDescriptor,
  NativeBlock,
  receiveFrom,
  Socket,
  SystemError,
  send,
  socket,
  tryNumberOption,
} from './sys/index.ts';
import { bindLibc, check } from './sys/libc.ts';

const listenCall = bindLibc<[number, number]>('int listen(int fd, int backlog)');
const acceptCall = bindLibc<[number, number, number, number]>(
  'int accept4(int fd, intptr_t address, intptr_t length, int flags)',
);
/** Longest datagram that is taken; a longer one ends its connection. */
const DATAGRAM_MAXIMUM_BYTES = 1 << 20;
/** Datagrams taken from one connection before others have their turn. */
const DATAGRAMS_PER_TURN = 32;
const SEND_BUFFER_BYTES = 4 << 20;

/** What the server tells of a connection. */
export interface SeqpacketHandler {
  /** @param datagram valid during the call only */
  onDatagram(datagram: Uint8Array): void;
  /** There is room again after a send that found none. */
  onWritable(): void;
  /** The peer is gone, or `close` was called. Called once. */
  onClose(): void;
}

/** One connection. */
export class SeqpacketConnection implements LoopHandler {
  readonly #loop: EventLoop;
  readonly #descriptor: FileDescriptor;
  readonly #server: SeqpacketServer;
  readonly #sender = new NativeBlock(8);
  #handler: SeqpacketHandler | null = null;
  #watchesWrite = false;

  /** Made by the server. */
  constructor(loop: EventLoop, descriptor: FileDescriptor, server: SeqpacketServer) {
    this.#loop = loop;
    this.#descriptor = descriptor;
    this.#server = server;
    tryNumberOption(descriptor.number, Socket.SOL_SOCKET, Socket.SO_SNDBUFFORCE, SEND_BUFFER_BYTES);
    loop.add(descriptor.number, this);
  }

  /** Who is told; set by whoever accepts the connection, before the loop turns. */
  set handler(handler: SeqpacketHandler) {
    this.#handler = handler;
  }

  /**
   * Send one datagram.
   * @returns false when there is no room now: {@link SeqpacketHandler.onWritable} follows. A connection that is gone takes all.
   */
  send(datagram: Uint8Array): boolean {
    if (this.#descriptor.closed) return true;
    try {
      if (send(this.#descriptor.number, datagram, 'answer a program on the pseudo device') >= 0) return true;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (error.errno !== Errno.ENOBUFS) {
        this.close();
        return true;
      }
    }
    if (!this.#watchesWrite) {
      this.#watchesWrite = true;
      this.#loop.modify(this.#descriptor.number, EpollEvent.IN | EpollEvent.OUT);
    }
    return false;
  }

  onReady(events: number): void {
    if ((events & EpollEvent.IN) !== 0) this.#receive();
    if (this.#descriptor.closed) return;
    if ((events & EpollEvent.OUT) !== 0 && this.#watchesWrite) {
      this.#watchesWrite = false;
      this.#loop.modify(this.#descriptor.number, EpollEvent.IN);
      this.#handler?.onWritable();
    }
    if ((events & EpollEvent.HUP) !== 0) this.close();
  }

  onError(): void {
    this.close();
  }

  /** End the connection. Closing twice is harmless. */
  close(): void {
    if (this.#descriptor.closed) return;
    this.#loop.remove(this.#descriptor.number);
    this.#descriptor.close();
    this.#server.forget(this);
    this.#handler?.onClose();
  }

  #receive(): void {
    const buffer = this.#server.buffer;
    for (let i = 0; i < DATAGRAMS_PER_TURN && !this.#descriptor.closed; i += 1) {
      let length: number;
      try {
        length = receiveFrom(this.#descriptor.number, buffer, Socket.MSG_TRUNC, this.#sender, 'read the pseudo device');
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        length = 0;
      }
      if (length < 0) return;
      if (length === 0 || length > buffer.length) {
        this.close();
        return;
      }
      this.#handler?.onDatagram(buffer.subarray(0, length));
    }
  }
}

/** The listening socket and its connections. */
export class SeqpacketServer implements LoopHandler {
  /** Where datagrams are received into, one at a time. */
  readonly buffer = new Uint8Array(DATAGRAM_MAXIMUM_BYTES);
  readonly path: string;
  readonly #loop: EventLoop;
  readonly #descriptor: FileDescriptor;
  readonly #file: SocketFile;
  readonly #onConnect: (connection: SeqpacketConnection) => void;
  readonly #connections = new Set<SeqpacketConnection>();

  /**
   * Listen. A socket file that nobody listens on any more is replaced; the folder is made when it is missing.
   * @param path at most 107 bytes
   * @param options.mode permissions of the socket file; 0o600 by default
   * @param onConnect is to set the connection's handler
   * @throws SystemError EADDRINUSE when somebody listens there; ForeignFileError when something else is; RangeError for a path that is too long
   */
  constructor(
    loop: EventLoop,
    path: string,
    onConnect: (connection: SeqpacketConnection) => void,
    options: { mode?: number } = {},
  ) {
    this.path = path;
    this.#loop = loop;
    this.#onConnect = onConnect;
    const doing = `listen on ${path}`;
    this.#descriptor = socket(Socket.AF_UNIX, Socket.SEQPACKET, 0, doing);
    try {
      this.#file = bindSocketFile(this.#descriptor.number, path, options.mode ?? 0o600);
      check(listenCall(this.#descriptor.number, 128), 'listen', doing);
      loop.add(this.#descriptor.number, this);
    } catch (error) {
      this.#descriptor.close();
      throw error;
    }
  }

  onReady(): void {
    for (;;) {
      const fd = acceptCall(this.#descriptor.number, 0, 0, Socket.NONBLOCK | Socket.CLOEXEC);
      if (fd < 0) return;
      const connection = new SeqpacketConnection(this.#loop, new FileDescriptor(fd), this);
      this.#connections.add(connection);
      this.#onConnect(connection);
    }
  }

  onError(): void {
    // A listening socket has no errors of its own: those of a connection come with it.
  }

  /** Called by a connection that has closed. */
  forget(connection: SeqpacketConnection): void {
    this.#connections.delete(connection);
  }

  /** Stop listening, end all connections and remove the socket file. Closing twice is harmless. */
  close(): void {
    if (this.#descriptor.closed) return;
    this.#loop.remove(this.#descriptor.number);
    this.#descriptor.close();
    for (const connection of [...this.#connections]) connection.close();
    this.#file.remove();
  }
}
