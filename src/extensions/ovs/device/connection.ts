/**
 * One netlink socket of a program: its port id, its groups, and what waits to be sent to it. pseudo-device.ts keeps them all.
 * Answers go out first and in order; then notifications; then upcalls, fairly by port. What belongs together is sent together.
 */
import { MessageWriter } from '../../../netlink/index.ts';
import { DONE_GOES_ON, Frame, PROTOCOL_VERSION } from '../abi.ts';
import { u32At } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { BUNDLE_MAXIMUM_BYTES, Bundle } from './bundle.ts';
import { type Dump, PART_MINIMUM_BYTES } from './dump.ts';
import { Queued, UpcallQueue } from './upcall-queue.ts';

/** The way to the program: a SOCK_SEQPACKET connection, or memory in tests. */
export interface PseudoDeviceTransport {
  /**
   * Send one datagram, which is copied before the call returns.
   * @returns false when there is no room now; {@link Connection.onWritable} is to be called when there is
   */
  send(frame: Uint8Array): boolean;
  /** Optional: as `send`, for what can wait here as well; refused already while the program has much to read. */
  offer?(frame: Uint8Array): boolean;
  /** End the connection; {@link Connection.onClose} is to be called once it has ended, by whomever. */
  close(): void;
}

/** Counts of everything that was lost on the way to programs. */
export interface DeviceLosses {
  /** Upcalls for a port id that nobody has. */
  upcallNoSocket: number;
  /** Upcalls beyond what may wait for one socket, and for one port on it. */
  upcallSocketFull: number;
  upcallPortFull: number;
  /** Upcalls and notifications that waited when their socket was closed. */
  closed: number;
  /** Notifications beyond what may wait. */
  notificationFull: number;
}

/** What a connection asks of the device. */
export interface ConnectionOwner {
  readonly losses: DeviceLosses;
  request(connection: Connection, datagram: Uint8Array): void;
  join(connection: Connection, group: number): boolean;
  leave(connection: Connection, group: number): boolean;
  closed(connection: Connection): void;
  /** The connection gathers upcalls: {@link Connection.sendUpcalls} is to be called before long. */
  gathers(connection: Connection): void;
}

/** Answers that may wait: a program that asks and never reads is cut off. Dumps wait in parts, so this is for single objects. */
const ANSWERS_MAXIMUM_BYTES = 16 << 20;
const NOTIFICATIONS_MAXIMUM = 1024;

const DATAGRAM = new Uint8Array(Uint32Array.of(Frame.DATAGRAM).buffer);
/** The answers to the present request. */
const answers = new Bundle();
/** Of upcalls there are so many in a bundle as ovs-vswitchd takes at once, or fewer; what is longer than half of it goes alone. */
const UPCALLS_MAXIMUM_BYTES = BUNDLE_MAXIMUM_BYTES / 2;
const BUNDLED_MAXIMUM_BYTES = UPCALLS_MAXIMUM_BYTES / 2;
/** For parts of dumps, of all connections in turn. */
const partWriter = new MessageWriter({ initialBytes: 128 * 1024 });

export class Connection {
  /** Netlink port id. */
  readonly port: number;
  readonly groups = new Set<number>();
  readonly #owner: ConnectionOwner;
  readonly #transport: PseudoDeviceTransport;
  #answers: Uint8Array[] = [];
  #answerBytes = 0;
  #firstAnswer = 0;
  #notifications: Uint8Array[] = [];
  readonly #upcalls = new UpcallQueue();
  #isAnswering = false;
  /** Upcalls of the packets that are being worked on; null until the first that may be bundled. */
  #gathered: Bundle | null = null;
  /** A bundle of upcalls that there was no room for, and how many they are. */
  #refused: Uint8Array | null = null;
  #refusedCount = 0;
  #dump: Dump | null = null;
  #open = true;

  constructor(port: number, transport: PseudoDeviceTransport, owner: ConnectionOwner) {
    this.port = port;
    this.#transport = transport;
    this.#owner = owner;
    this.#hello();
  }

  /** A frame from the program. Anything that is none ends the connection. */
  onDatagram(frame: Uint8Array): void {
    this.#isAnswering = true;
    try {
      this.#answerTo(frame);
    } finally {
      this.#isAnswering = false;
      this.#sendAnswers();
    }
  }

  #answerTo(frame: Uint8Array): void {
    const kind = frame.length < 4 ? -1 : u32At(frame, 0);
    let errno = 0;
    switch (kind) {
      case Frame.DATAGRAM:
        this.#owner.request(this, frame.subarray(4));
        break;
      case Frame.MORE:
        this.#nextPart(frame.length >= 8 ? u32At(frame, 4) : 0);
        break;
      case Frame.JOIN:
      case Frame.LEAVE: {
        const group = frame.length >= 8 ? u32At(frame, 4) : 0;
        const known = kind === Frame.JOIN ? this.#owner.join(this, group) : this.#owner.leave(this, group);
        errno = known ? 0 : Errno.ENOENT;
        break;
      }
      case Frame.WHO:
        this.#hello();
        break;
      default:
        this.#transport.close();
        return;
    }
    this.#answer(wordFrame(Frame.DONE, errno, this.isDumping ? DONE_GOES_ON : 0));
  }

  onWritable(): void {
    this.#flush();
  }

  onClose(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#owner.losses.closed += this.#upcalls.clear() + this.#notifications.length + this.#refusedCount;
    if (this.#gathered !== null) {
      this.#owner.losses.closed += this.#gathered.count;
      this.#gathered.reset();
    }
    this.#refused = null;
    this.#refusedCount = 0;
    this.#answers = [];
    this.#notifications = [];
    this.#dump = null;
    this.#owner.closed(this);
  }

  /** Part of the answer to the present request. @param frame with the kind before the datagram; copied if it must wait */
  reply(frame: Uint8Array): void {
    this.#answer(frame);
  }

  /** Whether a dump goes on: the program gets its next part when it asks for it. */
  get isDumping(): boolean {
    return this.#dump !== null;
  }

  /** Begin to answer with a dump; its first part goes out at once. @throws OvsError EBUSY while another goes on */
  beginDump(dump: Dump): void {
    if (this.#dump !== null) throw new OvsError(Errno.EBUSY, 'another dump goes on');
    this.#dump = dump;
    this.#nextPart(PART_MINIMUM_BYTES);
  }

  /** @param frame copied if it must wait */
  notify(frame: Uint8Array): void {
    if (!this.#open) return;
    if (this.#notifications.length >= NOTIFICATIONS_MAXIMUM) {
      this.#owner.losses.notificationFull += 1;
      return;
    }
    if (this.#isIdle && this.#transport.send(frame)) return;
    this.#notifications.push(frame.slice());
  }

  /** See {@link PseudoDevice.isLost}. */
  isLost(vport: number): boolean {
    return this.#isRefused(this.#upcalls.roomFor(vport));
  }

  /**
   * @param vport whose turn it takes
   * @param frame copied
   * @param isBundled whether it may be sent with others: it goes out with {@link sendUpcalls}, at the latest
   * @returns false when it is lost, which is counted
   */
  upcall(vport: number, frame: Uint8Array, isBundled: boolean): boolean {
    if (!this.#open) return false;
    if (isBundled && this.#gathered === null) this.#gathered = new Bundle(UPCALLS_MAXIMUM_BYTES);
    if (this.#isIdle && (isBundled ? this.#gather(frame) : this.#offer(frame))) return true;
    if (this.isLost(vport)) return false;
    this.#upcalls.add(vport, frame.slice());
    return true;
  }

  #isRefused(room: number): boolean {
    if (room === Queued.YES) return false;
    if (room === Queued.SOCKET_FULL) this.#owner.losses.upcallSocketFull += 1;
    else this.#owner.losses.upcallPortFull += 1;
    return true;
  }

  /** Send the upcalls that were gathered. */
  sendUpcalls(): void {
    const gathered = this.#gathered;
    if (gathered === null || gathered.count === 0) return;
    if (!this.#offer(gathered.view())) {
      this.#refused = gathered.view().slice();
      this.#refusedCount = gathered.count;
    }
    gathered.reset();
  }

  /** Put an upcall beside those that are gathered. @returns false when there is no room on the way */
  #gather(frame: Uint8Array): boolean {
    const gathered = this.#gathered;
    if (gathered === null) return false;
    if (frame.length <= BUNDLED_MAXIMUM_BYTES && gathered.add(frame)) {
      if (gathered.count === 1) this.#owner.gathers(this);
      return true;
    }
    this.sendUpcalls();
    if (this.#refused !== null) return false;
    return frame.length > BUNDLED_MAXIMUM_BYTES ? this.#offer(frame) : this.#gather(frame);
  }

  /** Send upcalls: where they wait in the kernel they go out in the order in which they came, here ports take turns. */
  #offer(frame: Uint8Array): boolean {
    const transport = this.#transport;
    return transport.offer === undefined ? transport.send(frame) : transport.offer(frame);
  }

  get #isIdle(): boolean {
    return (
      this.#answers.length === 0 &&
      !(this.#isAnswering && answers.count > 0) &&
      this.#notifications.length === 0 &&
      this.#refused === null &&
      this.#upcalls.size === 0
    );
  }

  #answer(frame: Uint8Array): void {
    if (!this.#open) return;
    if (this.#isAnswering) {
      if (answers.add(frame)) return;
      this.#sendAnswers();
      if (answers.add(frame)) return;
    }
    this.#send(frame);
  }

  #sendAnswers(): void {
    if (answers.count === 0) return;
    if (this.#open) this.#send(answers.view());
    answers.reset();
    // What came up meanwhile has waited for the answers.
    if (!this.#isAnswering && this.#answers.length === 0 && !this.#isIdle) this.#flush();
  }

  #send(frame: Uint8Array): void {
    if (this.#answers.length === 0 && this.#transport.send(frame)) return;
    this.#answers.push(frame.slice());
    this.#answerBytes += frame.length;
    if (this.#answerBytes > ANSWERS_MAXIMUM_BYTES) this.#transport.close();
  }

  /** @param roomBytes of the reader */
  #nextPart(roomBytes: number): void {
    const dump = this.#dump;
    if (dump === null) return;
    partWriter.reset();
    partWriter.raw(DATAGRAM);
    dump.writePart(partWriter, roomBytes);
    if (dump.isOver) this.#dump = null;
    // A part that has found nothing yet is no datagram: the program asks on.
    if (partWriter.length > DATAGRAM.length) this.#answer(partWriter.view());
  }

  #hello(): void {
    this.#answer(wordFrame(Frame.HELLO, this.port, PROTOCOL_VERSION));
  }

  #flush(): void {
    while (this.#firstAnswer < this.#answers.length) {
      if (!this.#transport.send(this.#answers[this.#firstAnswer])) return;
      this.#answerBytes -= this.#answers[this.#firstAnswer].length;
      this.#firstAnswer += 1;
    }
    this.#answers = [];
    this.#firstAnswer = 0;
    while (this.#notifications.length > 0) {
      if (!this.#transport.send(this.#notifications[0])) return;
      this.#notifications.shift();
    }
    if (this.#refused !== null) {
      if (!this.#offer(this.#refused)) return;
      this.#refused = null;
      this.#refusedCount = 0;
    }
    this.#drain();
  }

  /** Send upcalls that wait. */
  #drain(): void {
    const gathered = this.#gathered;
    if (gathered === null) {
      this.#upcalls.drain((frame) => this.#offer(frame));
      return;
    }
    this.sendUpcalls();
    while (this.#upcalls.size > 0 && this.#refused === null) {
      this.#upcalls.drain((frame) =>
        frame.length <= BUNDLED_MAXIMUM_BYTES ? gathered.add(frame) : gathered.count === 0 && this.#offer(frame),
      );
      // Nothing was gathered: there is no room for the long one at the head.
      if (gathered.count === 0) return;
      this.sendUpcalls();
    }
  }
}

function wordFrame(kind: number, first: number, second: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(kind, first, second).buffer);
}
