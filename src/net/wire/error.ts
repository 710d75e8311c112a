/** The one error of the wire formats. Every parse and emit of this folder throws it and nothing else. */

/** Bytes that are not a well-formed header, or a record that no header can hold. */
export class WireError extends Error {
  override readonly name = 'WireError';
  /** The format that refused, such as 'ipv4'. */
  readonly protocol: string;
  /** What was wrong, without protocol and offset. */
  readonly reason: string;
  /** Index in the given bytes at which it was found. */
  readonly offset: number;

  constructor(protocol: string, reason: string, offset: number) {
    super(`${protocol} at byte ${offset}: ${reason}`);
    this.protocol = protocol;
    this.reason = reason;
    this.offset = offset;
  }
}
