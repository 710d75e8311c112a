/**
 * What all formats of this folder have in common. A *view* lays names over bytes: `over` checks the lengths once, then each
 * getter and setter is a plain read or write. A *codec* turns bytes into a *record* (plain data, addresses as text) and back.
 */
import { WireError } from './error.ts';

/** Why a view does not fit its bytes. */
export interface Flaw {
  readonly reason: string;
  /** Where, counted from the start of the header. */
  readonly at: number;
}

const NOTHING = new Uint8Array(0);

/**
 * A reusable view. Each subclass assigns these fields in its own `over`, so that the code which does stays monomorphic.
 * Getters may be used after `over` returned true, for as long as the bytes live; they return offsets as indexes in `bytes`.
 */
export abstract class View {
  bytes: Uint8Array = NOTHING;
  /** Index of the header's first byte. */
  offset = 0;
  /** Index behind the last byte that belongs to this layer. */
  end = 0;
  /** Why the last `over` returned false. */
  flaw: Flaw | null = null;

  /**
   * Lay the view over a header. The caller has checked that offset and end lie within the bytes.
   * @param end index behind the last byte that the header and its payload may use
   * @returns false when the bytes are not a well-formed header; {@link flaw} says why
   */
  abstract over(bytes: Uint8Array, offset: number, end: number): boolean;
}

/** A format as a record: parse and emit, for everything that is not hot. */
export interface Codec<R> {
  /** The name that {@link WireError} and the layers of describe.ts use. */
  readonly protocol: string;
  /**
   * @param offset index of the header, 0 unless told
   * @param end index behind the last byte that may be used, the end of the bytes unless told
   * @throws WireError when the bytes are not a well-formed header
   */
  parse(bytes: Uint8Array, offset?: number, end?: number): R;
  /** Length of the header that `emit` writes; payload not counted. */
  byteLength(record: R): number;
  /**
   * Write the header. Checksums over a payload are left 0: compose.ts fills them in.
   * @returns index behind the header
   * @throws WireError when a value does not fit its field or the header does not fit the bytes
   */
  emit(record: R, bytes: Uint8Array, offset?: number): number;
}

/** A record's header in bytes of its own. */
export function encode<R>(codec: Codec<R>, record: R): Uint8Array {
  const bytes = new Uint8Array(codec.byteLength(record));
  codec.emit(record, bytes, 0);
  return bytes;
}

/** Lay a view over bytes or throw what is wrong with them. */
export function overOrThrow<V extends View>(
  view: V,
  protocol: string,
  bytes: Uint8Array,
  offset = 0,
  end = bytes.length,
): V {
  if (!(offset >= 0 && offset <= end && end <= bytes.length)) {
    throw new WireError(protocol, `bytes ${offset} to ${end} of ${bytes.length} are no such stretch`, offset);
  }
  if (!view.over(bytes, offset, end)) {
    const flaw = view.flaw;
    throw new WireError(protocol, flaw?.reason ?? 'malformed', offset + (flaw?.at ?? 0));
  }
  return view;
}
