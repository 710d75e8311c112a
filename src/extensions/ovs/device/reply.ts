/** Answers to one request: single objects, parts of a dump, notifications. netlink-server.ts makes one per message. */
import { type Message, MessageWriter, NlmFlag, writeAcknowledgement, writeDone } from '../../../netlink/index.ts';
import { Frame } from '../abi.ts';
import type { Connection } from './connection.ts';
import { Dump, type DumpSource, Step } from './dump.ts';

const EMPTY = new Uint8Array(0);
const DATAGRAM = new Uint8Array(Uint32Array.of(Frame.DATAGRAM).buffer);

/** The family headers of the message that is begun. */
const HEADER_WORDS = new Uint32Array(2);
const HEADER = new Uint8Array(HEADER_WORDS.buffer);

/** The headers of an object: generic netlink's and Open vSwitch's own. */
export interface ObjectHeader {
  readonly family: number;
  readonly command: number;
  readonly version: number;
  readonly interfaceIndex: number;
}

/** A writer that begins with the frame's kind, and a message begun with its headers. */
export function beginObject(
  writer: MessageWriter,
  header: ObjectHeader,
  flags: number,
  sequence: number,
  port: number,
): void {
  writer.begin(header.family, flags, sequence, port);
  HEADER_WORDS[0] = header.command | (header.version << 8);
  HEADER_WORDS[1] = header.interfaceIndex;
  writer.raw(HEADER);
}

/** Empty a writer and put the frame's kind in. */
export function beginFrame(writer: MessageWriter): void {
  writer.reset();
  writer.raw(DATAGRAM);
}

const writer = new MessageWriter({ initialBytes: 64 * 1024 });

export class Reply {
  readonly connection: Connection;
  readonly request: Message;

  constructor(connection: Connection, request: Message) {
    this.connection = connection;
    this.request = request;
  }

  /** Whether the program wants to see what came of a change (NLM_F_ECHO). */
  get wantsEcho(): boolean {
    return (this.request.flags & NlmFlag.ECHO) !== 0;
  }

  /** Send one object. */
  object(header: ObjectHeader, write: (writer: MessageWriter) => void): void {
    beginFrame(writer);
    beginObject(writer, header, 0, this.request.sequence, this.connection.port);
    write(writer);
    writer.end();
    this.connection.reply(writer.view());
  }

  /**
   * Send many objects, in parts as the program takes them, and the end of the dump.
   * @param objects looked at bit by bit while the dump goes on; may throw OvsError, which ends it
   */
  dump<T>(objects: Iterable<T>, header: ObjectHeader, write: (writer: MessageWriter, object: T) => void): void {
    this.dumpObjects(objects, () => header, write);
  }

  /** As {@link dump}, for objects whose headers differ. */
  dumpObjects<T>(
    objects: Iterable<T>,
    headerOf: (object: T) => ObjectHeader,
    write: (writer: MessageWriter, object: T) => void,
  ): void {
    const iterator = objects[Symbol.iterator]();
    const { sequence } = this.request;
    const { port } = this.connection;
    const next = (to: MessageWriter) => {
      const step = iterator.next();
      if (step.done === true) return Step.END;
      beginObject(to, headerOf(step.value), NlmFlag.MULTI, sequence, port);
      write(to, step.value);
      to.end();
      return Step.OBJECT;
    };
    this.dumpFrom({ next });
  }

  /** As {@link dump}, from a source that writes messages itself. */
  dumpFrom(source: DumpSource): void {
    // The request's bytes are gone when the next part is made.
    this.connection.beginDump(new Dump({ ...this.#addressed(), bytes: EMPTY }, source));
  }

  /** Work that is done bit by bit, as a dump is, and acknowledged when it is over. @param step does some of it; whether it is over */
  acknowledgeAfter(step: () => boolean): void {
    const request = { ...this.#addressed(), bytes: this.request.bytes.slice() };
    this.connection.beginDump(
      new Dump(request, {
        next: () => (step() ? Step.END : Step.PAUSE),
        end: (to, errno) => writeAcknowledgement(to, request, errno),
      }),
    );
  }

  /** Send one message. @param write writes it whole */
  message(write: (writer: MessageWriter) => void): void {
    beginFrame(writer);
    write(writer);
    this.connection.reply(writer.view());
  }

  /** Answer a dump that finds nothing. */
  dumpNothing(): void {
    this.failDump(0);
  }

  /** End a dump that could not be made: the error stands in its end, where the kernel puts it. */
  failDump(errno: number): void {
    beginFrame(writer);
    writeDone(writer, this.#addressed(), errno);
    this.connection.reply(writer.view());
  }

  /** @param errno 0 for success */
  acknowledge(errno: number): void {
    beginFrame(writer);
    writeAcknowledgement(writer, this.#addressed(), errno);
    this.connection.reply(writer.view());
  }

  /** Requests carry port id 0 or anything; answers carry that of the socket. */
  #addressed(): Message {
    return { ...this.request, port: this.connection.port };
  }
}
