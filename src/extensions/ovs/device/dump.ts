/**
 * A dump on its way to a program: many objects in datagrams of limited size, made one at a time when the program has taken the one
 * before, as the kernel does. connection.ts holds at most one for each socket; reply.ts begins it.
 */
import { type Message, type MessageWriter, NetlinkError, writeDone } from '../../../netlink/index.ts';
import { OvsError } from '../errors.ts';

/** Writes one object as a whole message. @returns false when there are no more @throws OvsError to end the dump with its errno */
export type DumpSource = (writer: MessageWriter) => boolean;

/** Bounds of a part: what every reader has room for, and what nobody gets more than, whatever his buffer. */
export const PART_MINIMUM_BYTES = 4096;
export const PART_MAXIMUM_BYTES = 32 * 1024;
/** A message that ends a dump: its header and an error number. */
const DONE_BYTES = 20;

export class Dump {
  readonly #request: Message;
  readonly #source: DumpSource;
  /** A message that was made and had no room in its part. */
  #waiting: Uint8Array | null = null;
  #isOver = false;

  /** @param request with the port id that answers carry */
  constructor(request: Message, source: DumpSource) {
    this.#request = request;
    this.#source = source;
  }

  /** Whether the end has been written. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Write the next part behind what the writer holds.
   * @param roomBytes of the reader; an object that is longer comes alone
   */
  writePart(writer: MessageWriter, roomBytes: number): void {
    const from = writer.length;
    const end = from + Math.min(Math.max(roomBytes, PART_MINIMUM_BYTES), PART_MAXIMUM_BYTES) - DONE_BYTES;
    if (this.#waiting !== null) writer.raw(this.#waiting);
    this.#waiting = null;
    for (;;) {
      const start = writer.length;
      let errno = 0;
      try {
        if (this.#source(writer)) {
          if (writer.length <= end || start === from) continue;
          this.#waiting = writer.view().slice(start);
          writer.truncate(start);
          return;
        }
      } catch (error) {
        if (!(error instanceof OvsError || error instanceof NetlinkError)) throw error;
        errno = error.errno;
        writer.truncate(start);
      }
      this.#isOver = true;
      writeDone(writer, this.#request, errno);
      return;
    }
  }
}
