/**
 * Where lines begin on FTP's control connections. A segment that begins in the middle of a line announces nothing, whatever it begins with: names of files are text that others choose.
 * As in Linux, the sequence numbers behind the last two newlines of each direction are known, so that a segment that is sent again is still one that begins a line.
 *
 * They are in the memory of this process alone. Where nothing is known of a direction, since the connection has begun or the process has, its next segment is taken for one that begins a line.
 *
 *     of a connection, for each direction: how many are known, then their sequence numbers
 */
const KNOWN = 2;
const DIRECTION_WORDS = 1 + KNOWN;

/** Connections that are known. Of more, those that were met first are forgotten. */
const MOST = 65_536;

export class LineStarts {
  readonly #starts = new Map<number, Int32Array>();

  /** Connections of which something is known. */
  get size(): number {
    return this.#starts.size;
  }

  /** Whether a segment begins a line. @param sequence of its first byte */
  isOne(record: number, direction: number, sequence: number): boolean {
    const starts = this.#starts.get(record);
    const at = direction * DIRECTION_WORDS;
    if (starts === undefined || starts[at] === 0) {
      // It may be sent again.
      this.add(record, direction, sequence);
      return true;
    }
    for (let i = 1; i <= starts[at]; i += 1) if (starts[at + i] === (sequence | 0)) return true;
    return false;
  }

  /** A line begins there: it takes the place of the older one of two. */
  add(record: number, direction: number, sequence: number): void {
    const starts = this.#starts.get(record) ?? this.#make(record);
    const at = direction * DIRECTION_WORDS;
    const count = starts[at];
    for (let i = 1; i <= count; i += 1) if (starts[at + i] === (sequence | 0)) return;
    if (count < KNOWN) {
      starts[at] = count + 1;
      starts[at + count + 1] = sequence;
    } else starts[((starts[at + 1] - starts[at + 2]) | 0) < 0 ? at + 1 : at + 2] = sequence;
  }

  /** The connection is gone. */
  drop(record: number): void {
    this.#starts.delete(record);
  }

  #make(record: number): Int32Array {
    if (this.#starts.size >= MOST) for (const [oldest] of this.#starts) if (this.#starts.delete(oldest)) break;
    const starts = new Int32Array(2 * DIRECTION_WORDS);
    this.#starts.set(record, starts);
    return starts;
  }
}
