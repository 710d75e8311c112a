/**
 * A kernel of which tests say what it has: links, addresses, routes, neighbours. It answers requests as Linux does, tells of changes, loses what does not fit, and can keep
 * answers back. With it comes a loop without descriptors, and a clock that stands still until it is told.
 */
import {
  AddressFamily,
  LinkFlag,
  type Message,
  MessageWriter,
  NeighbourFlag,
  NeighbourState,
  NlmFlag,
  parseLink,
  parseMessages,
  parseNeighbour,
  parseRoute,
  type Route,
  RouteType,
  Rtm,
  writeAcknowledgement,
  writeAddress,
  writeDone,
  writeLink,
  writeNeighbour,
  writeRoute,
} from '../../netlink/index.ts';
import type { LoopHandler } from '../loop.ts';
import { Errno, SystemError } from '../sys/index.ts';
import { Timers } from '../timers.ts';
import type { TablesLoop, TablesSocket } from './socket.ts';

export interface FakeLink {
  mtuBytes: number;
  isUp: boolean;
  mac: number;
  hasArp: boolean;
}

export interface FakeRoute {
  /** Instead of a route. */
  readonly errno?: number;
  readonly type?: number;
  readonly interfaceIndex?: number;
  readonly gateway?: Uint8Array;
  readonly preferredSource?: Uint8Array;
  readonly mtuBytes?: number;
}

export interface FakeNeighbour {
  state: number;
  mac: number;
}

export const macOf = (last: number) => Uint8Array.of(2, 0, 0, 0, 0, last);
export const textOf = (address: Uint8Array) => address.join('.');

/** One end of a netlink socket. */
export class FakeSocket implements TablesSocket {
  readonly fileDescriptor: number;
  readonly waiting: Uint8Array[] = [];
  /** Messages that there is room for. */
  room = 1000;
  isClosed = false;
  #hasLost = false;
  #buffer = new Uint8Array(1024);
  readonly #onSend: (bytes: Uint8Array, socket: FakeSocket) => void;

  constructor(fileDescriptor: number, onSend: (bytes: Uint8Array, socket: FakeSocket) => void) {
    this.fileDescriptor = fileDescriptor;
    this.#onSend = onSend;
  }

  get isReady(): boolean {
    return this.waiting.length > 0 || this.#hasLost;
  }

  push(bytes: Uint8Array): void {
    if (this.waiting.length >= this.room) this.#hasLost = true;
    else this.waiting.push(bytes);
  }

  send(bytes: Uint8Array): void {
    this.#onSend(bytes.slice(), this);
  }

  sendAside(bytes: Uint8Array): void {
    this.send(bytes);
  }

  receive(): Uint8Array | null {
    if (this.#hasLost) {
      this.#hasLost = false;
      throw new SystemError('recvfrom', Errno.ENOBUFS, 'test');
    }
    const bytes = this.waiting.shift();
    if (bytes === undefined) return null;
    // What the call before has given is overwritten.
    if (bytes.length > this.#buffer.length) this.#buffer = new Uint8Array(bytes.length);
    this.#buffer.set(bytes);
    return this.#buffer.subarray(0, bytes.length);
  }

  close(): void {
    this.isClosed = true;
  }
}

export class FakeLoop {
  readonly timers = new Timers();
  nowMs = 0;
  readonly #handlers = new Map<number, LoopHandler>();
  readonly #sockets: readonly FakeSocket[];

  constructor(sockets: readonly FakeSocket[]) {
    this.#sockets = sockets;
  }

  add(fd: number, handler: LoopHandler): void {
    if (this.#handlers.has(fd)) throw new RangeError(`descriptor ${fd} is watched already`);
    this.#handlers.set(fd, handler);
  }

  remove(fd: number): void {
    this.#handlers.delete(fd);
  }

  get watched(): number {
    return this.#handlers.size;
  }

  /** Look at every socket once. @returns whether anything was there */
  turn(): boolean {
    let worked = false;
    for (const socket of this.#sockets) {
      const handler = this.#handlers.get(socket.fileDescriptor);
      if (handler === undefined || !socket.isReady) continue;
      worked = true;
      handler.onReady(1);
    }
    return this.timers.run(this.nowMs) > 0 || worked;
  }

  /** Let time pass, and do what there is to do in it. */
  pass(timeMs: number): void {
    const endMs = this.nowMs + timeMs;
    for (;;) {
      while (this.turn());
      const nextMs = this.timers.untilNextMs(this.nowMs);
      if (this.nowMs + nextMs > endMs) break;
      this.nowMs += nextMs;
    }
    this.nowMs = endMs;
  }
}

export class FakeKernel {
  readonly links = new Map<number, FakeLink>();
  readonly addresses = new Set<string>();
  /** By destination and mark: `10.0.0.9/0`. */
  readonly routes = new Map<string, FakeRoute>();
  /** By interface and address: `2/10.0.0.9`. */
  readonly neighbours = new Map<string, FakeNeighbour>();
  readonly #writer = new MessageWriter();
  readonly #held: (() => void)[] = [];
  /** Keep answers to questions back until {@link answer}. */
  holds = false;
  /** Requests by what they ask for. */
  readonly asked = { routes: 0, links: 0, neighbours: 0, uses: 0 };
  /** Dumps say that they were disturbed. */
  disturbances = 0;

  readonly questions = new FakeSocket(3, (bytes, socket) => this.#take(bytes, socket));
  readonly bell = new FakeSocket(4, () => {});
  readonly interfaces = new FakeSocket(5, (bytes, socket) => this.#take(bytes, socket));
  readonly news = new FakeSocket(6, () => {});
  readonly loop = new FakeLoop([this.questions, this.bell, this.interfaces, this.news]);

  get tablesLoop(): TablesLoop {
    return this.loop;
  }

  get sockets() {
    const { questions, bell, interfaces, news } = this;
    return { questions, bell, interfaces, neighbours: news, errors: [] };
  }

  setLink(index: number, changes: Partial<FakeLink>): void {
    const known = this.links.get(index) ?? { mtuBytes: 1500, isUp: true, mac: index, hasArp: true };
    this.links.set(index, { ...known, ...changes });
    this.interfaces.push(this.#message((writer) => this.#writeLink(writer, index, 0, 0)));
  }

  removeLink(index: number): void {
    if (!this.links.has(index)) return;
    const bytes = this.#message((writer) => this.#writeLink(writer, index, 0, 0, Rtm.DELLINK));
    this.links.delete(index);
    this.interfaces.push(bytes);
  }

  /** @param address such as `2/10.0.0.1/24` */
  setAddress(address: string, flags = 0): void {
    this.addresses.add(address);
    this.interfaces.push(this.#message((writer) => this.#writeAddress(writer, address, 0, 0, Rtm.NEWADDR, flags)));
  }

  removeAddress(address: string): void {
    this.addresses.delete(address);
    this.interfaces.push(this.#message((writer) => this.#writeAddress(writer, address, 0, 0, Rtm.DELADDR, 0)));
  }

  setRoute(key: string, route: FakeRoute | null): void {
    if (route === null) this.routes.delete(key);
    else this.routes.set(key, route);
    this.ring();
  }

  /** Something about routes has changed. */
  ring(): void {
    this.bell.push(this.#message((writer) => writeRouteMessage(writer, Rtm.NEWROUTE, {}, 0)));
  }

  setNeighbour(key: string, neighbour: FakeNeighbour | null): void {
    const known = this.neighbours.get(key);
    if (neighbour === null) {
      this.neighbours.delete(key);
      if (known !== undefined)
        this.news.push(this.#message((writer) => this.#writeNeighbour(writer, key, known, 0, Rtm.DELNEIGH)));
      return;
    }
    this.neighbours.set(key, neighbour);
    this.news.push(this.#message((writer) => this.#writeNeighbour(writer, key, neighbour, 0, Rtm.NEWNEIGH)));
  }

  /** Answer what is kept back, the first so many. */
  answer(count = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count && this.#held.length > 0; i += 1) this.#held.shift()?.();
  }

  #message(write: (writer: MessageWriter) => void): Uint8Array {
    this.#writer.reset();
    write(this.#writer);
    return this.#writer.take();
  }

  #take(bytes: Uint8Array, socket: FakeSocket): void {
    for (const request of parseMessages(bytes)) {
      // As Linux does, it is worked on at once; what may be late is the answer.
      const bytes = this.#answerTo(request);
      const answer = () => socket.push(bytes);
      if (this.holds && socket === this.questions) this.#held.push(answer);
      else answer();
    }
  }

  #answerTo(request: Message): Uint8Array {
    const { sequence, flags } = request;
    const isDump = (flags & NlmFlag.DUMP) === NlmFlag.DUMP;
    const failed = (errno: number) => this.#message((writer) => writeAcknowledgement(writer, request, errno));
    switch (request.type) {
      case Rtm.GETLINK: {
        if (isDump)
          return this.#dump(request, (writer, multi) => {
            for (const index of this.links.keys()) this.#writeLink(writer, index, sequence, multi);
          });
        this.asked.links += 1;
        const { index } = parseLink(request);
        if (!this.links.has(index)) return failed(Errno.ENODEV);
        return this.#message((writer) => this.#writeLink(writer, index, sequence, 0));
      }
      case Rtm.GETADDR:
        return this.#dump(request, (writer, multi) => {
          for (const address of this.addresses) this.#writeAddress(writer, address, sequence, multi, Rtm.NEWADDR, 0);
        });
      case Rtm.GETROUTE: {
        this.asked.routes += 1;
        const { destination, mark = 0, family, typeOfService } = parseRoute(request);
        if (destination === undefined || (typeOfService & 3) !== 0) return failed(Errno.EINVAL);
        const route = this.routes.get(`${textOf(destination)}/${mark}`) ?? { errno: ENETUNREACH };
        if (route.errno !== undefined) return failed(route.errno);
        const { gateway, preferredSource, interfaceIndex = 0, mtuBytes, type = RouteType.UNICAST } = route;
        return this.#message((writer) =>
          writeRouteMessage(
            writer,
            Rtm.NEWROUTE,
            {
              family,
              type,
              destination,
              outputIndex: interfaceIndex,
              gateway,
              preferredSource,
              metrics: mtuBytes === undefined ? undefined : { mtuBytes },
            },
            sequence,
          ),
        );
      }
      case Rtm.GETNEIGH: {
        this.asked.neighbours += 1;
        const key = keyOf(request);
        const neighbour = this.neighbours.get(key);
        if (neighbour === undefined) return failed(Errno.ENOENT);
        return this.#message((writer) => this.#writeNeighbour(writer, key, neighbour, sequence, Rtm.NEWNEIGH));
      }
      case Rtm.NEWNEIGH: {
        this.asked.uses += 1;
        const key = keyOf(request);
        const known = this.neighbours.get(key);
        if (known !== undefined && (flags & NlmFlag.EXCL) !== 0) return failed(Errno.EEXIST);
        if ((parseNeighbour(request).flags & NeighbourFlag.USE) === 0) return failed(Errno.EINVAL);
        const state = known?.state ?? NeighbourState.NONE;
        // As neigh_event_send() does: of neither change is anybody told.
        if (state === NeighbourState.STALE)
          this.neighbours.set(key, { mac: known?.mac ?? 0, state: NeighbourState.DELAY });
        else if (state === NeighbourState.NONE || state === NeighbourState.FAILED)
          this.neighbours.set(key, { mac: 0, state: NeighbourState.INCOMPLETE });
        return failed(0);
      }
      default:
        return failed(Errno.EOPNOTSUPP);
    }
  }

  #dump(request: Message, write: (writer: MessageWriter, flags: number) => void): Uint8Array {
    const disturbed = this.disturbances > 0 ? NlmFlag.DUMP_INTR : 0;
    this.disturbances -= disturbed === 0 ? 0 : 1;
    return this.#message((writer) => {
      write(writer, NlmFlag.MULTI);
      writeDone(writer, request, 0, disturbed);
    });
  }

  #writeLink(writer: MessageWriter, index: number, sequence: number, flags: number, type: number = Rtm.NEWLINK): void {
    const { mtuBytes = 0, isUp = false, mac = 0, hasArp = true } = this.links.get(index) ?? {};
    writer.begin(type, flags, sequence);
    writeLink(writer, {
      index,
      hardwareType: 1,
      flags: (isUp ? LinkFlag.UP : 0) | (hasArp ? 0 : LinkFlag.NOARP),
      name: `l${index}`,
      mtuBytes,
      macAddress: macOf(mac),
    });
    writer.end();
  }

  #writeAddress(
    writer: MessageWriter,
    text: string,
    sequence: number,
    multi: number,
    type: number,
    flags: number,
  ): void {
    const [index, address, prefixLength] = text.split('/');
    const local = Uint8Array.from(address.split('.').map(Number));
    writer.begin(type, multi, sequence);
    writeAddress(writer, {
      family: local.length === 4 ? AddressFamily.INET : AddressFamily.INET6,
      index: Number(index),
      prefixLength: Number(prefixLength),
      local,
      flags,
    });
    writer.end();
  }

  #writeNeighbour(
    writer: MessageWriter,
    key: string,
    { state, mac }: FakeNeighbour,
    sequence: number,
    type: number,
  ): void {
    const [index, address] = key.split('/');
    const destination = Uint8Array.from(address.split('.').map(Number));
    const hasMac =
      state !== NeighbourState.INCOMPLETE && state !== NeighbourState.FAILED && state !== NeighbourState.NONE;
    writer.begin(type, 0, sequence);
    writeNeighbour(writer, {
      family: destination.length === 4 ? AddressFamily.INET : AddressFamily.INET6,
      index: Number(index),
      state,
      destination,
      macAddress: hasMac ? macOf(mac) : undefined,
    });
    writer.end();
  }
}

export const ENETUNREACH = 101;

function keyOf(message: Message): string {
  const { index, destination = new Uint8Array(0) } = parseNeighbour(message);
  return `${index}/${textOf(destination)}`;
}

function writeRouteMessage(writer: MessageWriter, type: number, route: Partial<Route>, sequence: number): void {
  writer.begin(type, 0, sequence);
  writeRoute(writer, route);
  writer.end();
}
