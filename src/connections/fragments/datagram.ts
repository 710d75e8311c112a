/** One datagram whose fragments come in any order. */
import { FragmentResult } from './result.ts';

/** Fragments of a datagram that are kept; 64 KB in pieces of 512 bytes are 128. */
const MOST_PIECES = 256;

/** One fragment's payload and its place in the datagram. */
export class Piece {
  readonly at: number;
  readonly bytes: Uint8Array;

  constructor(at: number, bytes: Uint8Array) {
    this.at = at;
    this.bytes = bytes;
  }

  get end(): number {
    return this.at + this.bytes.length;
  }
}

export class Datagram {
  readonly begunMs: number;
  /** In the order of their places. */
  readonly pieces: Piece[] = [];
  /** Headers of the first fragment, its fragment header included. */
  head: Uint8Array = new Uint8Array(0);
  headL3Offset = 0;
  /** Bytes of the payload; -1 as long as the last fragment is missing. */
  end = -1;
  largestBytes = 0;
  /** What its pieces are charged for. */
  charged = 0;
  #received = 0;

  constructor(begunMs: number) {
    this.begunMs = begunMs;
  }

  get isComplete(): boolean {
    return this.#received === this.end;
  }

  /** @returns WAITING when it was put in, or why not, one of FragmentResult */
  put(piece: Piece, isLast: boolean): number {
    const { pieces } = this;
    // Fragments mostly come in order: the place is at the end.
    let index = pieces.length;
    while (index > 0 && pieces[index - 1].at > piece.at) index -= 1;
    const before = pieces[index - 1];
    const behind = pieces[index];
    if (before !== undefined && before.at === piece.at && before.end === piece.end) return FragmentResult.DUPLICATE;
    if ((before !== undefined && before.end > piece.at) || (behind !== undefined && behind.at < piece.end)) {
      return FragmentResult.OVERLAP;
    }
    const isBeyond = this.end !== -1 && (isLast || piece.end > this.end);
    if (isBeyond || (isLast && behind !== undefined)) return FragmentResult.BAD_FRAGMENT;
    if (pieces.length === MOST_PIECES) return FragmentResult.TOO_MANY;
    if (isLast) this.end = piece.end;
    pieces.splice(index, 0, piece);
    this.#received += piece.bytes.length;
    return FragmentResult.WAITING;
  }
}
