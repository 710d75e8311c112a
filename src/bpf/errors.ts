/**
 * The errors of bpf/: each kind of failure that a caller may want to tell apart has a class, and a `code` for those who
 * cannot use `instanceof` across module copies. A failure with no kind of its own is host's SystemError.
 */
import { errnoName } from '../host/sys/index.ts';

/** What went wrong, as a word. */
export type BpfErrorCode =
  | 'assembly'
  | 'verifier'
  | 'privilege'
  | 'unsupported'
  | 'map-mismatch'
  | 'map-full'
  | 'map-changed'
  | 'no-interface'
  | 'attach-conflict'
  | 'closed'
  | 'value'
  | 'delivery';

/** The base of this library's errors. */
export class BpfError extends Error {
  override readonly name: string = 'BpfError';
  readonly code: BpfErrorCode;

  constructor(code: BpfErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The program cannot be assembled: an operand out of range, a label never placed, code that nothing reaches. */
export class AssemblyError extends BpfError {
  override readonly name = 'AssemblyError';

  constructor(message: string) {
    super('assembly', message);
  }
}

/** A value does not fit its field, or bytes do not fit a layout. */
export class LayoutError extends BpfError {
  override readonly name = 'LayoutError';

  constructor(message: string) {
    super('value', message);
  }
}

/** The kernel refuses for want of privilege. */
export class PrivilegeError extends BpfError {
  override readonly name = 'PrivilegeError';
  readonly errno: number;

  /** @param needs the capabilities that would do, such as 'CAP_BPF and CAP_NET_ADMIN' */
  constructor(doing: string, errno: number, needs: string) {
    super(
      'privilege',
      `cannot ${doing}: ${errnoName(errno)}; it needs ${needs} (run as root, or grant the capabilities to the process)`,
    );
    this.errno = errno;
  }
}

/** The running kernel lacks a feature. */
export class UnsupportedError extends BpfError {
  override readonly name = 'UnsupportedError';
  readonly feature: string;
  /** The first Linux that has it, such as '6.6'; undefined where no version is known to help. */
  readonly since: string | undefined;

  constructor(feature: string, since: string | undefined, running: string) {
    super(
      'unsupported',
      since === undefined
        ? `this kernel (${running}) does not have ${feature}`
        : `this kernel (${running}) does not have ${feature}: it came with Linux ${since}, or was left out of this build`,
    );
    this.feature = feature;
    this.since = since;
  }
}

/** A map, or another pinned object, is not what the caller takes it for: type, key size, value size or flags differ. */
export class MapMismatchError extends BpfError {
  override readonly name = 'MapMismatchError';

  constructor(message: string) {
    super('map-mismatch', message);
  }
}

/** A map has no room for a further entry. */
export class MapFullError extends BpfError {
  override readonly name = 'MapFullError';
  /** How many of the entries that were to be set found no room. All others are set. */
  readonly left: number;

  /** @param count how many entries were to be set */
  constructor(name: string, maxEntries: number, left = 1, count = 1) {
    const which = count === 1 ? '' : `; ${left} of ${count} entries found no room`;
    super('map-full', `map "${name}" is full: it holds ${maxEntries} entries${which}`);
    this.left = left;
  }
}

/** A map changes faster than its keys can be walked, so that some that stay may be missing. Try again when less goes on. */
export class MapChangedError extends BpfError {
  override readonly name = 'MapChangedError';

  constructor(name: string) {
    super('map-changed', `map "${name}" changes faster than its keys can be walked`);
  }
}

/** A network interface is not there, or went away. */
export class NoInterfaceError extends BpfError {
  override readonly name = 'NoInterfaceError';
  readonly netdev: string;

  constructor(netdev: string, doing: string) {
    super('no-interface', `cannot ${doing}: there is no interface ${netdev} in this network namespace`);
    this.netdev = netdev;
  }
}

/** Something else is attached where the caller wanted to attach, or the list of programs is not what the caller expected. */
export class AttachConflictError extends BpfError {
  override readonly name = 'AttachConflictError';

  constructor(message: string) {
    super('attach-conflict', message);
  }
}

/** A handle was used after it was closed. */
export class ClosedError extends BpfError {
  override readonly name = 'ClosedError';

  constructor(what: string) {
    super('closed', `${what} is closed`);
  }
}

/** Frames sent by the traffic generator do not leave the interface. */
export class DeliveryError extends BpfError {
  override readonly name = 'DeliveryError';

  constructor(message: string) {
    super('delivery', message);
  }
}
