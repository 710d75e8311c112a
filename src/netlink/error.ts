/** The one error of this room: bytes that are not valid netlink, or a value that netlink cannot carry. */

/** Error numbers that the codec itself gives, in the sense the kernel gives them to a sender of such a message. */
export const Errno = {
  /** Malformed, unknown or missing. */
  EINVAL: 22,
  /** Of the right kind, but its length or value is outside what the policy allows. */
  ERANGE: 34,
  /** Longer than a netlink length field can say. */
  EMSGSIZE: 90,
} as const;

/**
 * Bytes could not be parsed, or a value could not be written. `errno` is what a netlink peer answers to such a message;
 * `offset` counts from the start of the message (its nlmsghdr) and is -1 where no byte is at fault.
 */
export class NetlinkError extends Error {
  override readonly name: string = 'NetlinkError';
  readonly errno: number;
  readonly offset: number;
  /** Names of the nested attributes that lead to the fault, such as ['linkInfo', 'kind']; empty outside attributes. */
  readonly path: readonly string[];
  /** What was wrong, without the place: what a peer is told in an extended acknowledgement. */
  readonly reason: string;

  constructor(reason: string, place: { offset?: number; path?: readonly string[]; errno?: number } = {}) {
    const offset = place.offset ?? -1;
    const path = place.path ?? [];
    const at = offset < 0 ? '' : ` at byte ${offset}`;
    const where = path.length === 0 ? '' : ` in attribute ${path.join('.')}`;
    super(`netlink: ${reason}${where}${at}`);
    this.reason = reason;
    this.offset = offset;
    this.path = path;
    this.errno = place.errno ?? Errno.EINVAL;
  }
}
