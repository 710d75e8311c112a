/** Commands to a running daemon of Open vSwitch over its control socket, as ovs-appctl gives them, without a process for each. */
import { createConnection, type Socket } from 'node:net';

const TIMEOUT_MS = 10_000;

/** A connection: JSON-RPC 1.0, one request at a time (ovs-appctl(8), RFC 7047 section 4). */
export class ControlSocket {
  readonly #socket: Socket;
  #received = '';
  #waiting: { resolve: (text: string) => void; reject: (error: Error) => void } | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#take(text));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the control socket was closed')));
  }

  /** @throws Error when nobody listens there */
  static connect(path: string): Promise<ControlSocket> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new ControlSocket(socket));
      });
    });
  }

  /** @returns what ovs-appctl would print @throws Error with what the daemon said, or when it says nothing for 10 seconds */
  async call(method: string, ...params: string[]): Promise<string> {
    const answer = new Promise<string>((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
    this.#socket.write(JSON.stringify({ id: 0, method, params }));
    const timer = setTimeout(() => this.#fail(new Error(`${method}: no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(text: string): void {
    this.#received += text;
    let reply: { result: unknown; error: unknown };
    try {
      reply = JSON.parse(this.#received);
    } catch {
      // The rest is on its way.
      return;
    }
    this.#received = '';
    if (reply.error === null) this.#waiting?.resolve(String(reply.result));
    else this.#fail(new Error(String(reply.error).trim()));
    this.#waiting = null;
  }

  #fail(error: Error): void {
    this.#waiting?.reject(error);
    this.#waiting = null;
  }
}
