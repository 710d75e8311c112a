/**
 * The pseudo device: all netlink sockets of programs, their port ids and multicast groups. It knows frames and queues, not what
 * requests mean: netlink-server.ts answers those. Pure: datagrams in, datagrams out.
 */
import { Group } from '../abi.ts';
import { Connection, type ConnectionOwner, type DeviceLosses, type PseudoDeviceTransport } from './connection.ts';

/** Answers one netlink datagram through {@link Connection.reply} before it returns. */
export type RequestHandler = (connection: Connection, datagram: Uint8Array) => void;

const GROUPS = new Set<number>(Object.values(Group));

/** Port ids begin here: above process ids, which netlink's own sockets like to have. */
const FIRST_PORT = 0x4000_0001;

export class PseudoDevice implements ConnectionOwner {
  readonly losses: DeviceLosses = {
    upcallNoSocket: 0,
    upcallSocketFull: 0,
    upcallPortFull: 0,
    closed: 0,
    notificationFull: 0,
  };
  readonly #connections = new Map<number, Connection>();
  readonly #handler: RequestHandler;
  readonly #onClosed: (port: number) => void;
  /** Connections with upcalls that have not been sent. */
  readonly #gathering: Connection[] = [];
  #nextPort = FIRST_PORT;

  /** @param onClosed told of port ids that are free again */
  constructor(handler: RequestHandler, onClosed: (port: number) => void = () => {}) {
    this.#handler = handler;
    this.#onClosed = onClosed;
  }

  /** Sockets that are open. */
  get size(): number {
    return this.#connections.size;
  }

  /** A program has connected; it is told its port id at once. Hand what comes from it to the connection. */
  accept(transport: PseudoDeviceTransport): Connection {
    while (this.#connections.has(this.#nextPort)) this.#advance();
    const port = this.#nextPort;
    this.#advance();
    const connection = new Connection(port, transport, this);
    this.#connections.set(port, connection);
    return connection;
  }

  /** Upcalls that were lost because as many waited as may. */
  get refusedUpcalls(): number {
    return this.losses.upcallPortFull + this.losses.upcallSocketFull;
  }

  /** Whether an upcall that is sent now would be lost, so that it need not be written: it is counted as lost then. */
  isLost(port: number, vport: number): boolean {
    const connection = this.#connections.get(port);
    if (connection !== undefined) return connection.isLost(vport);
    this.losses.upcallNoSocket += 1;
    return true;
  }

  /**
   * Send an upcall.
   * @param isBundled whether others may be sent with it, by {@link sendUpcalls}: the program does not wait by epoll, which knows
   *   nothing of what the shim has taken apart
   * @returns whether it was sent or waits; losses are counted
   */
  upcall(port: number, vport: number, frame: Uint8Array, isBundled = false): boolean {
    const connection = this.#connections.get(port);
    if (connection !== undefined) return connection.upcall(vport, frame, isBundled);
    this.losses.upcallNoSocket += 1;
    return false;
  }

  /** Send the upcalls that were gathered since the last time. */
  sendUpcalls(): void {
    const { length } = this.#gathering;
    if (length === 0) return;
    for (let i = 0; i < length; i += 1) this.#gathering[i].sendUpcalls();
    this.#gathering.length = 0;
  }

  gathers(connection: Connection): void {
    this.#gathering.push(connection);
  }

  /** Tell the members of a group, but for one port id (whose program gets an answer instead). */
  multicast(group: number, frame: Uint8Array, exceptPort: number): void {
    for (const connection of this.#connections.values()) {
      if (connection.port !== exceptPort && connection.groups.has(group)) connection.notify(frame);
    }
  }

  hasMembers(group: number): boolean {
    for (const connection of this.#connections.values()) if (connection.groups.has(group)) return true;
    return false;
  }

  request(connection: Connection, datagram: Uint8Array): void {
    this.#handler(connection, datagram);
  }

  join(connection: Connection, group: number): boolean {
    if (!GROUPS.has(group)) return false;
    connection.groups.add(group);
    return true;
  }

  leave(connection: Connection, group: number): boolean {
    connection.groups.delete(group);
    return GROUPS.has(group);
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection.port);
    this.#onClosed(connection.port);
  }

  #advance(): void {
    this.#nextPort = this.#nextPort >= 0x7fff_ffff ? FIRST_PORT : this.#nextPort + 1;
  }
}
