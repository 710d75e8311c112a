/**
 * A dump on its way to a program: many objects in datagrams of limited size, made one at a time when the program has taken the one
 * before, as the kernel does. connection.ts holds at most one for each socket; reply.ts begins it.
 */
import { type Message, type MessageWriter, NetlinkError, writeDone } from '../../../netlink/index.ts';
import { OvsError } from '../errors.ts';

/** What a source has done. */
export const Step = {
  /** It has written one object as a whole message. */
  OBJECT: 0,
  /** Nothing yet, and it has looked for long enough: the next part goes on. */
  PAUSE: 1,
  /** There are no more. */
  END: 2,
} as const;

/** Writes the objects of a dump, one at each call. */
export interface DumpSource {
  /** A part begins. */
  begin?(): void;
  /** @returns one of {@link Step} @throws OvsError to end the dump with its errno */
  next(writer: MessageWriter): number;
  /** Optional: writes the last message, where that is not the one that ends dumps. @param errno 0 for success */
  end?(writer: MessageWriter, errno: number): void;
}

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
   * Write the next part behind what the writer holds; it may be empty while the dump goes on.
   * @param roomBytes of the reader; an object that is longer comes alone
   */
  writePart(writer: MessageWriter, roomBytes: number): void {
    const from = writer.length;
    const end = from + Math.min(Math.max(roomBytes, PART_MINIMUM_BYTES), PART_MAXIMUM_BYTES) - DONE_BYTES;
    if (this.#waiting !== null) writer.raw(this.#waiting);
    this.#waiting = null;
    this.#source.begin?.();
    for (;;) {
      const start = writer.length;
      let errno = 0;
      try {
        const step = this.#source.next(writer);
        if (step === Step.PAUSE) return;
        if (step === Step.OBJECT) {
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
      if (this.#source.end === undefined) writeDone(writer, this.#request, errno);
      else this.#source.end(writer, errno);
      return;
    }
  }
}
