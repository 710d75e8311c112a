/**
 * Captures on their way from the datapath thread to clients. The datapath makes the bytes; here they go to the client's socket, and what
 * the client has taken is credited back, so that a client that does not read loses packets (counted) instead of filling memory.
 */
import type { Connection } from '../rpc/server.ts';
import type { CaptureOptions } from '../thread/calls.ts';
import type { DatapathThread } from '../thread/channel.ts';

interface Client {
  connection: Connection;
  /** Bytes that came before the socket was handed over. */
  early: Uint8Array[];
  /** The socket is ours to write to. */
  started: boolean;
  ended: boolean;
}

/** Connects captures with their clients. */
export class CaptureBroker {
  readonly #thread: DatapathThread;
  readonly #clients = new Map<number, Client>();
  #nextId = 1;

  constructor(thread: DatapathThread) {
    this.#thread = thread;
  }

  /** Start a capture whose bytes take over the connection. @throws Failure */
  async start(connection: Connection, options: Omit<CaptureOptions, 'id'>): Promise<void> {
    const id = this.#nextId;
    this.#nextId += 1;
    const client: Client = { connection, early: [], started: false, ended: false };
    this.#clients.set(id, client);
    try {
      await this.#thread.call('capture-start', { ...options, id });
    } catch (error) {
      this.#clients.delete(id);
      throw error;
    }
    const stop = () => {
      if (this.#clients.has(id)) this.#thread.call('capture-stop', { id }).catch(() => this.#clients.delete(id));
    };
    connection.onClose(() => {
      stop();
      this.#clients.delete(id);
    });
    connection.takeOver((socket) => {
      client.started = true;
      // The client says that it has enough by ending its side.
      socket.on('end', stop);
      for (const bytes of client.early.splice(0)) this.bytes(id, bytes);
      if (client.ended) this.#finish(id, client);
    });
  }

  /** The datapath made bytes of a capture. */
  bytes(id: number, bytes: Uint8Array): void {
    const client = this.#clients.get(id);
    if (client === undefined) return;
    if (!client.started) {
      client.early.push(bytes);
      return;
    }
    client.connection.socket.write(bytes, () => {
      if (this.#clients.has(id)) this.#thread.call('capture-credit', { id, bytes: bytes.length }).catch(() => null);
    });
  }

  /** The datapath has ended a capture: all its bytes have been given. */
  ended(id: number): void {
    const client = this.#clients.get(id);
    if (client === undefined) return;
    client.ended = true;
    if (client.started) this.#finish(id, client);
  }

  #finish(id: number, client: Client): void {
    this.#clients.delete(id);
    client.connection.socket.end();
  }
}
