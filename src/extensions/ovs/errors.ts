/** Refusals: every request that is not carried out ends in one of these, with the errno that openvswitch.ko gives. */

/** The error numbers of this room, as in errno(3). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  ERANGE: 34,
  EOVERFLOW: 75,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  ENOBUFS: 105,
} as const;

/** A request is refused. `message` is for logs; the peer gets `errno`. */
export class OvsError extends Error {
  override readonly name: string = 'OvsError';
  readonly errno: number;

  /** @param errno positive */
  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}
