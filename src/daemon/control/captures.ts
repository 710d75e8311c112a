/**
 * Captures on their way to clients. The datapath thread writes packets into a ring of shared memory; here they are taken out, put into the
 * client's format and sent. A client that does not read fast enough loses packets (counted, in the ring), and fills no memory.
 */
import { release } from 'node:os';
import { type CapturedFrame, CaptureFlag, CaptureRing } from '../../extensions/capture/index.ts';
import { Direction, PcapngWriter } from '../../net/index.ts';
import type { CapturedPacket, CaptureEnd, CaptureFormat } from '../api.ts';
import type { Connection } from '../rpc/server.ts';
import type { CaptureRequest } from '../thread/calls.ts';
import type { DatapathThread } from '../thread/channel.ts';
import { summaryOf } from './summary.ts';

/** How often the ring is looked at: what a person who watches takes for at once. */
const LOOK_MS = 20;
const RECORDS_A_LOOK = 20_000;
/** With this much unread by the client the ring is left alone. */
const UNREAD_BYTES = 2 << 20;

/** Puts records into a format. */
interface Encoder {
  record(frame: CapturedFrame, port: string): void;
  /** Everything so far, to be sent. */
  flush(): void;
  end(packets: number, lost: number): void;
}

type Send = (bytes: Uint8Array | string) => void;

class PcapngEncoder implements Encoder {
  readonly #writer: PcapngWriter;
  readonly #interfaces = new Map<string, { index: number; received: number; lost: number }>();
  readonly #snapLengthBytes: number;
  readonly #filter: string;
  #last: { lost: number } | null = null;

  constructor(send: Send, request: CaptureRequest) {
    this.#snapLengthBytes = request.snapLengthBytes ?? 0;
    this.#filter = request.filter;
    this.#writer = new PcapngWriter(send, { application: 'millrace', operatingSystem: `Linux ${release()}` });
    this.#writer.flush();
  }

  record(frame: CapturedFrame, port: string): void {
    const on = this.#interfaceOf(port);
    on.received += 1;
    on.lost += frame.lostBefore;
    this.#last = on;
    this.#writer.packet(on.index, {
      seconds: frame.timestampSeconds,
      nanoseconds: frame.timestampNanoseconds,
      data: frame.frame(),
      originalLengthBytes: frame.originalBytes,
      flags: (frame.flags & CaptureFlag.OUT) !== 0 ? Direction.OUTBOUND : Direction.INBOUND,
      ...(frame.lostBefore === 0 ? {} : { dropCount: frame.lostBefore }),
    });
  }

  flush(): void {
    this.#writer.flush();
  }

  end(_packets: number, lost: number): void {
    // What was lost behind the last packet counts where that one was.
    let told = 0;
    for (const on of this.#interfaces.values()) told += on.lost;
    if (this.#last !== null) this.#last.lost += Math.max(0, lost - told);
    const nowMs = Date.now();
    const seconds = Math.floor(nowMs / 1000);
    const nanoseconds = (nowMs % 1000) * 1_000_000;
    for (const { index, received, lost } of this.#interfaces.values()) {
      this.#writer.statistics(index, { seconds, nanoseconds, received: received + lost, dropped: lost });
    }
    this.#writer.flush();
  }

  #interfaceOf(port: string): { index: number; received: number; lost: number } {
    const known = this.#interfaces.get(port);
    if (known !== undefined) return known;
    const index = this.#writer.addInterface({
      name: port,
      description: `port ${port} of a millrace switch`,
      snapLengthBytes: this.#snapLengthBytes,
      ...(this.#filter === '' ? {} : { filter: this.#filter }),
    });
    const made = { index, received: 0, lost: 0 };
    this.#interfaces.set(port, made);
    return made;
  }
}

class JsonEncoder implements Encoder {
  readonly #send: Send;
  #text = '';

  constructor(send: Send) {
    this.#send = send;
  }

  record(frame: CapturedFrame, port: string): void {
    const packet: CapturedPacket = {
      timeMs: frame.timestampSeconds * 1000 + frame.timestampNanoseconds / 1e6,
      port,
      direction: (frame.flags & CaptureFlag.OUT) !== 0 ? 'out' : 'in',
      lengthBytes: frame.originalBytes,
      summary: summaryOf(frame.frame(), frame.originalBytes),
    };
    this.#text += `${JSON.stringify(packet)}\n`;
  }

  flush(): void {
    if (this.#text !== '') this.#send(this.#text);
    this.#text = '';
  }

  end(packets: number, lost: number): void {
    const end: CaptureEnd = { end: true, packets, dropped: lost };
    this.#text += `${JSON.stringify(end)}\n`;
    this.flush();
  }
}

/** One client's capture. */
class CaptureStream {
  readonly #thread: DatapathThread;
  readonly #connection: Connection;
  readonly #id: number;
  readonly #ring: CaptureRing;
  readonly #encoder: Encoder;
  readonly #portNames = new Map<number, string>();
  /** Packets still wanted. */
  #left: number;
  #packets = 0;
  #ending = false;
  #looking = false;
  #unknown: CapturedFrame | null = null;
  readonly #timer: NodeJS.Timeout;

  constructor(
    thread: DatapathThread,
    connection: Connection,
    id: number,
    ring: CaptureRing,
    encoder: Encoder,
    count: number,
  ) {
    this.#thread = thread;
    this.#connection = connection;
    this.#id = id;
    this.#ring = ring;
    this.#encoder = encoder;
    this.#left = count === 0 ? Number.POSITIVE_INFINITY : count;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  /** Take no more from the switch, send what is there, and close. */
  async end(): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    clearInterval(this.#timer);
    const { lost } = await this.#thread.call('capture-close', { id: this.#id }).catch(() => ({ lost: 0 }));
    if (this.#connection.socket.destroyed) return;
    await this.#takeAll();
    this.#encoder.end(this.#packets, lost);
    this.#connection.socket.end();
  }

  async #look(): Promise<void> {
    if (this.#looking || this.#ring.pendingBytes === 0 || this.#connection.socket.writableLength > UNREAD_BYTES) return;
    this.#looking = true;
    await this.#takeAll();
    this.#looking = false;
    if (this.#left <= 0) await this.end();
  }

  /** Take what is there. A packet of a port that is not known yet waits until its name is. */
  async #takeAll(): Promise<void> {
    for (;;) {
      this.#take();
      this.#encoder.flush();
      const unknown = this.#unknown;
      if (unknown === null) return;
      await this.#refreshNames();
      this.#unknown = null;
      this.#encode(unknown, this.#portNames.get(unknown.portId) ?? `port ${unknown.portId}`);
    }
  }

  #take(): void {
    let taken = 0;
    const consume = (frame: CapturedFrame) => {
      const name = this.#portNames.get(frame.portId);
      if (name === undefined) this.#unknown = copyOf(frame);
      else this.#encode(frame, name);
    };
    while (this.#left > 0 && this.#unknown === null && taken < RECORDS_A_LOOK && this.#ring.take(1, consume) > 0)
      taken += 1;
  }

  #encode(frame: CapturedFrame, port: string): void {
    this.#encoder.record(frame, port);
    this.#packets += 1;
    this.#left -= 1;
  }

  async #refreshNames(): Promise<void> {
    const ports = await this.#thread.call('ports', null).catch(() => []);
    for (const port of ports) this.#portNames.set(port.id, port.name);
  }
}

/** A record that outlives the call in which it was given. */
function copyOf(frame: CapturedFrame): CapturedFrame {
  const bytes = frame.frame().slice();
  return { ...frame, bytes, offset: 0, frame: () => bytes };
}

/** Starts captures for clients. */
export class CaptureBroker {
  readonly #thread: DatapathThread;

  constructor(thread: DatapathThread) {
    this.#thread = thread;
  }

  /** Start a capture that takes over the connection once its reply is written. @throws Failure */
  async start(connection: Connection, request: CaptureRequest, format: CaptureFormat, count: number): Promise<void> {
    const { id, buffer } = await this.#thread.call('capture-open', request);
    connection.takeOver((socket) => {
      const send: Send = (bytes) => {
        if (!socket.destroyed && !socket.writableEnded) socket.write(bytes);
      };
      const encoder = format === 'pcapng' ? new PcapngEncoder(send, request) : new JsonEncoder(send);
      const stream = new CaptureStream(this.#thread, connection, id, new CaptureRing(buffer), encoder, count);
      // The client says that it has enough by ending its side.
      socket.on('end', () => void stream.end());
      connection.onClose(() => void stream.end());
    });
  }
}
