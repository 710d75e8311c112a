/**
 * A Unix SOCK_SEQPACKET server on the datapath thread's event loop: connections that keep the bounds of datagrams, such as the
 * pseudo device of Open vSwitch wants. Node's own sockets know streams only. What datagrams mean is the handler's affair.
 */
import type { EventLoop, LoopHandler } from './loop.ts';
import { bindSocketFile, type SocketFile } from './socket-file.ts';
import {
  EpollEvent,
  Errno,
  errnoName,
  FileDescriptor,
  isDescriptorShortage,
  isWritable,
  NativeBlock,
  Open,
  open,
  receiveFrom,
  Socket,
  SystemError,
  send,
  socket,
  tryNumberOption,
} from './sys/index.ts';
import { bindLibc, check, closeDescriptor, lastErrno } from './sys/libc.ts';
import type { Timer, TimerHandler } from './timers.ts';

const listenCall = bindLibc<[number, number]>('int listen(int fd, int backlog)');
const acceptCall = bindLibc<[number, number, number, number]>(
  'int accept4(int fd, intptr_t address, intptr_t length, int flags)',
);
/** Longest datagram that is taken; a longer one ends its connection. */
const DATAGRAM_MAXIMUM_BYTES = 1 << 20;
/** Datagrams taken from one connection before others have their turn. */
const DATAGRAMS_PER_TURN = 32;
/**
 * What the kernel holds for a peer that has not read it, as a size to ask for: it takes twice as much, and counts its own overhead. Whatever waits there
 * goes out in the order in which it was sent; what is to wait fairly waits with the handler. A datagram that is longer has it grow.
 */
const SEND_BUFFER_BYTES = 64 << 10;

/** Most connections, unless the server is given another number. */
const MAXIMUM_CONNECTIONS = 4096;
/** Connections taken before packets have their turn. */
const CONNECTIONS_PER_TURN = 64;
/** How long nobody is let in when not even a refusal is possible. */
const PAUSE_MS = 100;

/** How a server listens. */
export interface SeqpacketServerOptions {
  /** Permissions of the socket file; 0o600 by default. */
  readonly mode?: number;
  /** Most connections at once; 4,096 by default. */
  readonly maximumConnections?: number;
  /** Told of each connection that was refused, or of a pause in which none is taken, and why. */
  onRefused?(why: string): void;
}

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
  #sendBufferBytes = SEND_BUFFER_BYTES;

  /** Made by the server. */
  constructor(loop: EventLoop, descriptor: FileDescriptor, server: SeqpacketServer) {
    this.#loop = loop;
    this.#descriptor = descriptor;
    this.#server = server;
    this.#setSendBuffer();
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
    if (datagram.length > this.#sendBufferBytes) {
      this.#sendBufferBytes = datagram.length;
      this.#setSendBuffer();
    }
    try {
      if (send(this.#descriptor.number, datagram, 'answer a program on the pseudo device') >= 0) return true;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (error.errno !== Errno.ENOBUFS) {
        this.close();
        return true;
      }
    }
    this.#watchWrite();
    return false;
  }

  /**
   * Send one datagram that can wait here as well: it is refused already while the peer has not read most of what was sent.
   * @returns as {@link send}
   */
  offer(datagram: Uint8Array): boolean {
    if (this.#descriptor.closed || isWritable(this.#descriptor.number)) return this.send(datagram);
    this.#watchWrite();
    return false;
  }

  #setSendBuffer(): void {
    const { number } = this.#descriptor;
    if (!tryNumberOption(number, Socket.SOL_SOCKET, Socket.SO_SNDBUFFORCE, this.#sendBufferBytes))
      tryNumberOption(number, Socket.SOL_SOCKET, Socket.SO_SNDBUF, this.#sendBufferBytes);
  }

  #watchWrite(): void {
    if (this.#watchesWrite) return;
    this.#watchesWrite = true;
    this.#loop.modify(this.#descriptor.number, EpollEvent.IN | EpollEvent.OUT);
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
export class SeqpacketServer implements LoopHandler, TimerHandler {
  /** Where datagrams are received into, one at a time. */
  readonly buffer = new Uint8Array(DATAGRAM_MAXIMUM_BYTES);
  readonly path: string;
  readonly #loop: EventLoop;
  readonly #descriptor: FileDescriptor;
  readonly #file: SocketFile;
  readonly #options: SeqpacketServerOptions;
  /** Held for the moment when there is no other: to take a connection and to close it, so that it does not wait for ever. */
  #reserve: FileDescriptor | null = null;
  #pause: Timer | null = null;
  readonly #onConnect: (connection: SeqpacketConnection) => void;
  readonly #connections = new Set<SeqpacketConnection>();

  /**
   * Listen. A socket file that nobody listens on any more is replaced; the folder is made when it is missing.
   * @param path at most 107 bytes
   * @param onConnect is to set the connection's handler
   * @throws SystemError EADDRINUSE when somebody listens there; ForeignFileError when something else is; RangeError for a path that is too long
   */
  constructor(
    loop: EventLoop,
    path: string,
    onConnect: (connection: SeqpacketConnection) => void,
    options: SeqpacketServerOptions = {},
  ) {
    this.path = path;
    this.#options = options;
    this.#loop = loop;
    this.#onConnect = onConnect;
    const doing = `listen on ${path}`;
    this.#descriptor = socket(Socket.AF_UNIX, Socket.SEQPACKET, 0, doing);
    let file: SocketFile | null = null;
    try {
      file = bindSocketFile(this.#descriptor.number, path, options.mode ?? 0o600);
      this.#file = file;
      check(listenCall(this.#descriptor.number, 128), 'listen', doing);
      loop.add(this.#descriptor.number, this);
    } catch (error) {
      file?.remove();
      this.#descriptor.close();
      throw error;
    }
    this.#reserve = spare();
  }

  onReady(): void {
    for (let i = 0; i < CONNECTIONS_PER_TURN; i += 1) {
      const fd = this.#accept();
      if (fd < 0) {
        const errno = lastErrno();
        if (!isDescriptorShortage(errno)) return;
        if (!this.#refuse(errnoName(errno))) return;
        continue;
      }
      const descriptor = new FileDescriptor(fd);
      const maximum = this.#options.maximumConnections ?? MAXIMUM_CONNECTIONS;
      if (this.#connections.size >= maximum) {
        descriptor.close();
        this.#options.onRefused?.(`there are ${maximum} already`);
        continue;
      }
      const connection = new SeqpacketConnection(this.#loop, descriptor, this);
      this.#connections.add(connection);
      this.#onConnect(connection);
    }
  }

  #accept(): number {
    return acceptCall(this.#descriptor.number, 0, 0, Socket.NONBLOCK | Socket.CLOEXEC);
  }

  /** There is no descriptor for a connection: it is ended with the one in reserve. @returns whether to look for the next one now */
  #refuse(errno: string): boolean {
    const why = `there is no file descriptor left (${errno})`;
    if (this.#reserve !== null) {
      this.#reserve.close();
      // The kernel wants a descriptor before it looks whether somebody waits.
      const fd = this.#accept();
      if (fd >= 0) closeDescriptor(fd);
      this.#reserve = spare();
      if (fd >= 0) this.#options.onRefused?.(why);
      return fd >= 0;
    }
    this.#reserve = spare();
    if (this.#reserve !== null) return true;
    this.#options.onRefused?.(why);
    // The socket stays readable: without a pause the loop would do nothing but look at it.
    this.#loop.remove(this.#descriptor.number);
    this.#pause = this.#loop.timers.once(PAUSE_MS, this);
    return false;
  }

  onTimer(): void {
    this.#pause = null;
    if (!this.#descriptor.closed) this.#loop.add(this.#descriptor.number, this);
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
    this.#pause?.cancel();
    this.#descriptor.close();
    this.#reserve?.close();
    for (const connection of [...this.#connections]) connection.close();
    this.#file.remove();
  }
}

/** A descriptor of nothing; null when there is none to be had. */
function spare(): FileDescriptor | null {
  try {
    return open('/dev/null', Open.RDONLY);
  } catch (error) {
    if (error instanceof SystemError) return null;
    throw error;
  }
}
