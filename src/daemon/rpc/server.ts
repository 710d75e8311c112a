/**
 * The control socket's server: a Unix stream socket of mode 0600 whose peers are checked by SO_PEERCRED. It guards against hostile
 * peers: lines are limited, connections are counted, and whoever does not read is cut off. What is said on it is dispatch.ts's.
 */
import { createServer, type Server, type Socket } from 'node:net';
import {
  bindSocketFile,
  FileDescriptor,
  ForeignFileError,
  Socket as Numbers,
  socket as openSocket,
  type SocketFile,
  socketFileAt,
} from '../../host/index.ts';
import { Dispatcher, type Method } from './dispatch.ts';
import { FAILURE_CODES, Failure, messageOf } from './failure.ts';
import { LineReader, MAX_REQUEST_BYTES } from './lines.ts';
import type { Peer } from './peer.ts';

/** Most connections at once. */
const MAX_CONNECTIONS = 64;
/** Requests of one connection that may wait for their turn; its socket is not read meanwhile. */
const MAX_WAITING = 64;
/** A peer that leaves this much unread is cut off. */
const MAX_UNREAD_BYTES = 8 << 20;

/** One client's connection. Methods that stream take it over. */
export class Connection {
  readonly socket: Socket;
  readonly peer: Peer;
  readonly #closers: (() => void)[] = [];
  /** Ends the subscription that the connection has. */
  #unsubscribe: (() => void) | null = null;
  /** Set when a method has taken the byte stream for itself; no further lines are read. */
  #taken: ((socket: Socket) => void) | null = null;

  constructor(socket: Socket, peer: Peer) {
    this.socket = socket;
    this.peer = peer;
    socket.once('close', () => {
      this.#unsubscribe?.();
      this.#unsubscribe = null;
      for (const closer of this.#closers.splice(0)) closer();
    });
  }

  /** Call back when the connection is gone; at once when it already is. */
  onClose(closer: () => void): void {
    if (this.socket.destroyed) closer();
    else this.#closers.push(closer);
  }

  /** Have notifications sent until the connection ends. A second subscription takes the place of the first. @param stop ends it */
  subscribe(stop: () => void): void {
    this.#unsubscribe?.();
    this.#unsubscribe = stop;
    if (this.socket.destroyed) stop();
  }

  get isSubscribed(): boolean {
    return this.#unsubscribe !== null;
  }

  /** Send a JSON-RPC notification. A peer that does not read is cut off. */
  notify(method: string, params: unknown): void {
    this.writeLine(JSON.stringify({ jsonrpc: '2.0', method, params }));
  }

  /** Write one line, unless the peer has left too much unread: then it is cut off. */
  writeLine(text: string): void {
    if (this.socket.destroyed || this.socket.writableEnded) return;
    if (this.socket.writableLength > MAX_UNREAD_BYTES) {
      this.socket.destroy();
      return;
    }
    this.socket.write(`${text}\n`);
  }

  /** Let the running method own the socket's bytes once its reply is written. `start` is called then. */
  takeOver(start: (socket: Socket) => void): void {
    this.#taken = start;
  }

  /** What {@link takeOver} was given, once. */
  takenBy(): ((socket: Socket) => void) | null {
    const start = this.#taken;
    this.#taken = null;
    return start;
  }
}

export interface ServerOptions {
  path: string;
  methods: ReadonlyMap<string, Method<Connection>>;
  /** Who is at the other end; null when it cannot be told, which refuses the peer. */
  peerOf(socket: Socket): Peer | null;
  onRefusedPeer(peer: Peer | null): void;
  onInternal(method: string, error: unknown): void;
  /** A connection was refused because there are {@link MAX_CONNECTIONS} already. */
  onFull?(): void;
}

/** Whether a peer may speak to a daemon of this uid: its own user, and root. */
export function peerAllowed(peer: Peer, daemonUid: number): boolean {
  return peer.uid === 0 || peer.uid === daemonUid;
}

/** Listens on the control socket until closed. */
export class RpcServer {
  readonly #options: ServerOptions;
  readonly #dispatcher: Dispatcher<Connection>;
  readonly #connections = new Set<Connection>();
  #server: Server;
  #isClosed = false;
  #file: SocketFile | null = null;
  #descriptor = -1;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#dispatcher = new Dispatcher(options.methods, options.onInternal);
    this.#server = this.#newServer();
  }

  #newServer(): Server {
    return createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /** The socket that it listens on; -1 before it does. */
  get descriptor(): number {
    return this.#descriptor;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /**
   * Bind and listen. Whoever calls has made sure that no other daemon owns the path (lifecycle/lock.ts); a socket of this user that nobody listens on is stale.
   * @param bound descriptor of a socket that is bound to the path already; it is the server's from here on
   * @throws Failure when the path cannot be bound; 'refused' when something else is there
   */
  async listen(bound: number | null = null): Promise<void> {
    const { path } = this.#options;
    // Node would remove whatever is at the path when it closes, so it is not told of the path.
    const descriptor =
      bound === null ? openSocket(Numbers.AF_UNIX, Numbers.STREAM, 0, `listen on ${path}`) : new FileDescriptor(bound);
    this.#descriptor = descriptor.number;
    try {
      this.#file = bound === null ? bindSocketFile(descriptor.number, path, 0o600) : socketFileAt(path);
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject);
        this.#server.listen({ fd: descriptor.number }, () => {
          // It is the server's from here on.
          descriptor.release();
          this.#server.removeListener('error', reject);
          resolve();
        });
      });
    } catch (error) {
      this.#file?.remove();
      descriptor.close();
      if (error instanceof ForeignFileError) throw new Failure('refused', error.message, error.hint);
      const why = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
      throw new Failure('failed', `cannot listen on ${path}: ${why}`, 'choose another path with --socket');
    }
    this.#server.on('error', (error) => this.#options.onInternal('socket', error));
  }

  /**
   * Make sure that the socket's file is in its place; where it was removed, a new one is listened on. Connections go on.
   * @returns false when it was there; true when it was put back
   * @throws Failure as {@link listen}
   */
  async putBack(): Promise<boolean> {
    if (this.#isClosed || this.#file === null || this.#file.isThere()) return false;
    const before = { server: this.#server, file: this.#file, descriptor: this.#descriptor };
    this.#server = this.#newServer();
    try {
      await this.listen();
    } catch (error) {
      this.#server = before.server;
      this.#file = before.file;
      this.#descriptor = before.descriptor;
      throw error;
    }
    before.server.close();
    // The daemon has begun to end meanwhile.
    if (this.#isClosed) {
      this.#server.close();
      this.#file.remove();
    }
    return true;
  }

  /** Stop listening, finish what is being written, and cut every connection. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.socket.end();
    const cut = setTimeout(() => {
      for (const connection of this.#connections) connection.socket.destroy();
    }, 500);
    await closed;
    clearTimeout(cut);
    this.#file?.remove();
  }

  #accept(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    const peer = this.#options.peerOf(socket);
    if (peer === null || !peerAllowed(peer, process.geteuid?.() ?? 0)) {
      this.#options.onRefusedPeer(peer);
      socket.destroy();
      return;
    }
    if (this.#connections.size >= MAX_CONNECTIONS) {
      this.#options.onFull?.();
      const message = `the control socket serves ${MAX_CONNECTIONS} connections already`;
      const error = { code: FAILURE_CODES.busy, message, data: { kind: 'busy', hint: 'end some of them' } };
      socket.end(`${JSON.stringify({ jsonrpc: '2.0', id: null, error })}\n`, () => socket.destroy());
      return;
    }
    const connection = new Connection(socket, peer);
    this.#connections.add(connection);
    connection.onClose(() => this.#connections.delete(connection));
    this.#read(connection);
  }

  #read(connection: Connection): void {
    const { socket } = connection;
    const reader = new LineReader(MAX_REQUEST_BYTES);
    const waiting: string[] = [];
    let busy = false;
    let ended = false;

    const work = async () => {
      if (busy) return;
      busy = true;
      for (;;) {
        const line = waiting.shift();
        if (line === undefined) break;
        const answer = await this.#dispatcher.answer(line, connection);
        if (answer !== null) connection.writeLine(answer);
        const start = connection.takenBy();
        if (start !== null) {
          socket.removeListener('data', onData);
          socket.removeListener('end', onEnd);
          waiting.length = 0;
          start(socket);
          socket.resume();
          if (ended) socket.emit('end');
          return;
        }
        if (waiting.length < MAX_WAITING && socket.isPaused()) socket.resume();
      }
      busy = false;
      if (ended) socket.end();
    };
    const onData = (chunk: Buffer) => {
      const lines = reader.push(chunk);
      if (lines === null) {
        const message = `a request is longer than ${MAX_REQUEST_BYTES} bytes`;
        const error = { code: -32600, message, data: { kind: 'invalid-request' } };
        connection.writeLine(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
        socket.removeListener('data', onData);
        socket.resume();
        socket.end();
        setTimeout(() => socket.destroy(), 200).unref();
        return;
      }
      for (const line of lines) if (line.trim() !== '') waiting.push(line);
      if (waiting.length >= MAX_WAITING) socket.pause();
      work().catch((error: unknown) => {
        this.#options.onInternal('connection', error);
        socket.destroy();
      });
    };
    const onEnd = () => {
      ended = true;
      if (!busy) socket.end();
    };
    socket.on('data', onData);
    socket.on('end', onEnd);
  }
}
