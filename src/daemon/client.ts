/**
 * The control socket's client: what the command line, and any other program, speaks to a daemon with. Imports are light, so that a
 * command starts fast; what needs the daemon's own code (checking a configuration, running a daemon) is loaded when asked for.
 */
import { lstatSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { Api, DaemonEvent, MethodName } from './api.ts';
import type { ArgumentsOf, Asked, CommandOf, ResultOf } from './extensions.ts';
import { FAILURE_CODES, Failure, type FailureKind } from './rpc/failure.ts';
import { LineReader } from './rpc/lines.ts';
import { MAX_SOCKET_PATH_BYTES } from './socket-path.ts';

export type * from './api.ts';
export { readConfigText } from './config/read.ts';
export {
  type ArgumentsOf,
  type Asked,
  type BuiltinStatus,
  type CommandOf,
  OPEN_VSWITCH,
  type ResultOf,
} from './extensions.ts';
export type { WatchedProcess } from './lifecycle/after.ts';
export { Failure, messageOf } from './rpc/failure.ts';
export { defaultSocketPath } from './socket-path.ts';

/** Replies (a large forwarding database) are longer than requests. */
const MAX_REPLY_BYTES = 256 << 20;

/** Nobody serves the socket. */
export class DaemonNotRunning extends Error {
  override readonly name = 'DaemonNotRunning';
  /** What to do, one sentence. */
  readonly hint: string = 'start one with `millrace up`, or name its socket with --socket';
  constructor(path: string, message = `no daemon is running on ${path}`) {
    super(message);
  }
}

/** Nobody serves the socket, and its daemon lives: it starts or ends just now, or its socket was removed. */
export class DaemonNotServing extends DaemonNotRunning {
  override readonly hint =
    'it starts or ends, or puts back its socket that was removed: try again in some seconds; `millrace down` ends it';
  constructor(path: string, pid: number | null) {
    super(path, `the daemon of ${path}${pid === null ? '' : ` (pid ${pid})`} runs, and does not serve its socket`);
  }
}

/** The kernel says the same of a socket that nobody serves and of what is none. */
function refusedAt(path: string): Error {
  const there = lstatSync(path, { throwIfNoEntry: false });
  // A link to a socket is followed.
  if (there === undefined || statSync(path, { throwIfNoEntry: false })?.isSocket() !== false)
    return new DaemonNotRunning(path);
  const kind = there.isSymbolicLink() ? 'a symbolic link' : there.isFile() ? 'an ordinary file' : 'something else';
  return new Failure('refused', `${path} is ${kind}, and not a socket`, "name the daemon's socket with --socket");
}

interface Reply {
  id?: unknown;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { code: number; message: string; data?: { kind?: string; hint?: string } };
}

function failureOf(error: NonNullable<Reply['error']>): Failure {
  if (typeof error !== 'object' || typeof error.message !== 'string') return strangeAnswer(null);
  const kind = error.data?.kind;
  const known: FailureKind = kind !== undefined && kind in FAILURE_CODES ? (kind as FailureKind) : 'failed';
  return new Failure(known, error.message, error.data?.hint ?? null);
}

/** Methods that only look: what takes this long will not be answered. Others may have much to do. */
const QUERY_TIMEOUT_MS = 30_000;
const QUERIES: ReadonlySet<MethodName> = new Set<MethodName>([
  ...(['status', 'config.diff', 'config.show', 'port.list', 'port.show', 'extension.list', 'extension.show'] as const),
  ...(['fdb.show', 'offload.show', 'offload.flows', 'offload.dump', 'drops', 'trace'] as const),
  ...(['events.recent', 'events.subscribe', 'capture'] as const),
]);
/** An answer that takes longer is said to be waited for. */
const SLOW_MS = 5_000;

/** The answers that have fields which every command relies on, and those that are lists. Another daemon than this version's may answer otherwise. */
const FIELDS: { readonly [M in MethodName]?: readonly (keyof Api[M]['result'])[] } = {
  status: ['version', 'pid', 'startedAt', 'uptimeSeconds', 'socket', 'extensions', 'memory', 'cpuSeconds'],
  shutdown: ['pid'],
  'config.apply': ['steps'],
  'config.diff': ['steps'],
  'port.show': ['name', 'kind', 'state', 'counters', 'dropReasons', 'aclCounts'],
  'port.add': ['name', 'state'],
  'port.set': ['name', 'state'],
  'extension.show': ['name'],
  'fdb.flush': ['flushed'],
  'offload.dump': ['text'],
  capture: ['format'],
};
const LISTS: ReadonlySet<MethodName> = new Set<MethodName>([
  ...(['port.list', 'extension.list', 'extension.add', 'extension.del', 'extension.configure'] as const),
  ...(['extension.enable', 'extension.disable', 'extension.move', 'fdb.show', 'offload.flows'] as const),
  ...(['drops', 'events.recent', 'events.subscribe'] as const),
]);

/** An answer that is not what was asked for. */
export function strangeAnswer(method: string | null): Failure {
  return new Failure(
    'failed',
    `the daemon's answer${method === null ? '' : ` to ${method}`} is not one that this version of millrace understands`,
    'is it a daemon of another version? `millrace --version` tells this one',
  );
}

/** @returns whether a result is of the kind that a method has */
function isAnswer(method: MethodName, result: unknown): boolean {
  if (LISTS.has(method)) return Array.isArray(result);
  const fields: readonly PropertyKey[] | undefined = FIELDS[method];
  if (fields === undefined) return true;
  return typeof result === 'object' && result !== null && fields.every((field) => Object.hasOwn(result, field));
}

/** Whose files and processes are trusted. */
function isTrusted(uid: number): boolean {
  return uid === 0 || uid === (process.geteuid?.() ?? 0);
}

/** Who has made a socket's file; null when there is none to be seen. */
function ownerOf(path: string): number | null {
  try {
    const there = statSync(path);
    return there.isSocket() ? there.uid : null;
  } catch {
    return null;
  }
}

function foreign(path: string, uid: number): Failure {
  const hint = 'run the command as that user, or name another socket with --socket; nothing was asked';
  return new Failure('refused', `the socket ${path} is served by another user (uid ${uid})`, hint);
}

/** The daemon has closed the connection, with calls unanswered. */
export class ConnectionClosed extends Failure {
  constructor() {
    super('failed', 'the daemon closed the connection', 'look at its log');
  }
}

/** A connection to a daemon. */
export class Client {
  readonly #socket: Socket;
  readonly #reader = new LineReader(MAX_REPLY_BYTES);
  readonly #waiting = new Map<number, { resolve(result: unknown): void; reject(error: Error): void }>();
  #nextId = 1;
  #closed: Error | null = null;
  #pid: number | null = null;
  /** Called when an answer takes long. @param waitedMs so far */
  onSlow: ((waitedMs: number) => void) | null = null;
  /** Called with every event after `events.subscribe`. */
  onEvent: ((event: DaemonEvent) => void) | null = null;
  /** Called when the daemon has closed the connection. */
  onClose: (() => void) | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', this.#onData);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#fail(new ConnectionClosed());
      this.onClose?.();
    });
  }

  /**
   * Connect to a daemon of this user or of root.
   * @throws DaemonNotRunning; Failure 'privilege' when the socket belongs to somebody else, 'refused' when there is something that is no socket, or one that
   *   another user serves, 'failed' for anything else
   */
  static connect(path: string): Promise<Client> {
    return new Promise((resolve, reject) => {
      if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
        const message = `the socket path ${path} is longer than ${MAX_SOCKET_PATH_BYTES} bytes`;
        reject(new Failure('failed', message, 'choose a shorter one'));
        return;
      }
      const owner = ownerOf(path);
      if (owner !== null && process.geteuid?.() === 0 && !isTrusted(owner)) {
        reject(foreign(path, owner));
        return;
      }
      const socket = connect(path);
      socket.once('connect', () => {
        socket.removeAllListeners('error');
        const client = new Client(socket);
        client.#checkPeer(path).then(
          () => resolve(client),
          (error: Error) => {
            client.close();
            reject(error);
          },
        );
      });
      socket.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') reject(new DaemonNotRunning(path));
        else if (error.code === 'ECONNREFUSED') reject(refusedAt(path));
        else if (error.code === 'EACCES' || error.code === 'EPERM') {
          const hint = 'run the command as the user that the daemon runs as, or as root';
          reject(new Failure('privilege', `the daemon's socket ${path} belongs to another user`, hint));
        } else if (error.code === 'EAGAIN') {
          const hint = 'the daemon has been stopped, or does nothing else: see what its process does';
          reject(new Failure('failed', `the daemon on ${path} takes no connections`, hint));
        } else reject(new Failure('failed', `cannot connect to ${path}: ${error.code ?? error.message}`));
      });
    });
  }

  /** The daemon's process, as the kernel tells; null when it cannot be seen from here. */
  get pid(): number | null {
    return this.#pid;
  }

  /** Whose process has the other end: the file may have been exchanged since it was looked at. @throws Failure */
  async #checkPeer(path: string): Promise<void> {
    const { peerOf } = await import('./rpc/peer.ts');
    const peer = peerOf(this.#socket);
    if (peer === null) throw this.#closed ?? new ConnectionClosed();
    if (!isTrusted(peer.uid)) throw foreign(path, peer.uid);
    this.#pid = peer.pid === 0 ? null : peer.pid;
  }

  /**
   * Call a method and wait for its result: half a minute for one that only looks.
   * @throws Failure with the daemon's sentence
   */
  call<M extends MethodName>(method: M, params: Api[M]['params']): Promise<Api[M]['result']> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== null) {
        reject(this.#closed);
        return;
      }
      const id = this.#nextId;
      this.#nextId += 1;
      const slow = setTimeout(() => this.onSlow?.(SLOW_MS), SLOW_MS);
      const late = QUERIES.has(method) ? setTimeout(() => this.#giveUp(id), QUERY_TIMEOUT_MS) : undefined;
      const settled = () => {
        clearTimeout(slow);
        clearTimeout(late);
      };
      this.#waiting.set(id, {
        resolve: (result) => {
          settled();
          if (isAnswer(method, result)) resolve(result as Api[M]['result']);
          else reject(strangeAnswer(method));
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
      this.#socket.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
    });
  }

  /**
   * Ask an extension that comes with Millrace, by a command of its own.
   * @throws Failure with the daemon's sentence
   */
  ask<Name extends Asked, C extends CommandOf<Name>>(
    name: Name,
    command: C,
    args: ArgumentsOf<Name, C>,
  ): Promise<ResultOf<Name, C>> {
    return this.call('extension.command', { name, command, args }) as Promise<ResultOf<Name, C>>;
  }

  /**
   * Call a method after whose reply the connection carries a stream (`capture`).
   * @param onBytes called with every piece of the stream
   * @returns the socket: end it to stop the stream, which then runs out; 'close' tells that all has been read
   * @throws Failure
   */
  async stream<M extends MethodName>(
    method: M,
    params: Api[M]['params'],
    onBytes: (bytes: Buffer) => void,
  ): Promise<Socket> {
    const socket = this.#socket;
    const started = this.call(method, params);
    // The first bytes of the stream may come in the same piece as the reply: from here on one line is read, then bytes.
    socket.removeListener('data', this.#onData);
    const onHead = (chunk: Buffer) => {
      const end = chunk.indexOf(10);
      if (end < 0) {
        this.#onData(chunk);
        return;
      }
      socket.removeListener('data', onHead);
      socket.on('data', onBytes);
      this.#onData(chunk.subarray(0, end + 1));
      if (end + 1 < chunk.length) onBytes(chunk.subarray(end + 1));
    };
    socket.on('data', onHead);
    await started;
    return socket;
  }

  /** End the connection. */
  close(): void {
    this.#fail(new Failure('failed', 'the connection is closed'));
    this.#socket.end();
    this.#socket.unref();
  }

  readonly #onData = (chunk: Buffer): void => {
    const lines = this.#reader.push(chunk);
    if (lines === null) {
      this.#socket.destroy();
      return;
    }
    for (const line of lines) this.#onLine(line);
  };

  #onLine(line: string): void {
    let message: Reply;
    try {
      const parsed: unknown = JSON.parse(line);
      if (typeof parsed !== 'object' || parsed === null) throw strangeAnswer(null);
      message = parsed as Reply;
    } catch {
      this.#fail(strangeAnswer(null));
      this.#socket.destroy();
      return;
    }
    if (message.method === 'event') {
      this.onEvent?.(message.params as DaemonEvent);
      return;
    }
    if (typeof message.id !== 'number') {
      if (message.error !== undefined) this.#fail(failureOf(message.error));
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) return;
    this.#waiting.delete(message.id);
    if (message.error === undefined) waiting.resolve(message.result);
    else waiting.reject(failureOf(message.error));
  }

  #giveUp(id: number): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    const who = this.#pid === null ? '' : ` (pid ${this.#pid})`;
    const seconds = QUERY_TIMEOUT_MS / 1000;
    const hint = 'has it been stopped (SIGSTOP), or has the machine no time for it? `millrace down` ends it';
    waiting?.reject(new Failure('failed', `the daemon${who} has not answered for ${seconds} s`, hint));
  }

  #fail(error: Error): void {
    this.#closed ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

/** Checking and describing configurations without a daemon; loads the YAML and schema libraries. */
export function loadConfigTools() {
  return import('./config/tools.ts');
}

/** Reading capture files. */
export function loadPcapReader() {
  return import('./capture-file.ts');
}

/** Waiting for a daemon's end, and removing what one left that is no more. */
export function loadLeftovers() {
  return import('./lifecycle/after.ts');
}

/** Looking at the place of a daemon that is to start in the background, and opening its log. */
export function loadStart() {
  return import('./lifecycle/before.ts');
}

/** Running a daemon in this process; loads all of Millrace. */
export function loadDaemon() {
  return import('./lifecycle/run.ts');
}
