/**
 * Errors of system calls: which call, which errno, on what, and what to do where we know it.
 * Every file of sys/ raises this one type.
 */
import { constants } from 'node:os';

const nameByErrno = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));
// Linux numbers that Node's table leaves out.
for (const [name, value] of [
  ['ENOTBLK', 15],
  ['ENONET', 64],
  ['EBADFD', 77],
  ['EUSERS', 87],
  ['EHOSTDOWN', 112],
] as const) {
  if (!nameByErrno.has(value)) nameByErrno.set(value, name);
}

/** errno values that hot code compares with; the numbers are Linux's, equal on all architectures that Node runs on. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  EBADFD: 77,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ENETDOWN: 100,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
} as const;

/** Whether a call failed because nothing more can be opened at present: what it was about may be as it was. */
export function isDescriptorShortage(errno: number): boolean {
  return errno === Errno.EMFILE || errno === Errno.ENFILE;
}

/** Whether a call failed for want of descriptors or memory at present: the same may do later. */
export function isShortage(errno: number): boolean {
  return isDescriptorShortage(errno) || errno === Errno.ENOMEM;
}

/** The symbolic name of an errno, such as 'ENODEV'; 'E123' for one that this platform has no name for. */
export function errnoName(errno: number): string {
  return nameByErrno.get(errno) ?? `E${errno}`;
}

const privilegeOfCall: Readonly<Record<string, string>> = {
  socket: 'CAP_NET_RAW',
  bind: 'CAP_NET_RAW',
  setsockopt: 'CAP_NET_RAW and CAP_NET_ADMIN',
  ioctl: 'CAP_NET_ADMIN',
  rtnetlink: 'CAP_NET_ADMIN',
  setns: 'CAP_SYS_ADMIN',
  unshare: 'CAP_SYS_ADMIN',
  mount: 'CAP_SYS_ADMIN',
  umount2: 'CAP_SYS_ADMIN',
  bpf: 'CAP_BPF and CAP_NET_ADMIN',
};

/** What a user can do about a failure, as the end of a sentence; '' when we know nothing that helps. */
export function adviceFor(call: string, errno: number): string {
  const code = errnoName(errno);
  switch (code) {
    case 'EPERM':
    case 'EACCES': {
      const capability = privilegeOfCall[call];
      return capability === undefined
        ? 'run as root or give this user the right to it'
        : `needs ${capability}: run as root, or in a user namespace of your own`;
    }
    case 'ENODEV':
    case 'ENXIO':
      return 'there is no such interface here; `ip link` lists those that exist';
    case 'EBUSY':
      return 'it is in use by another program, or by another Millrace; end that one or choose another name';
    case 'EMFILE':
      return 'this process has too many open files; raise the limit (`ulimit -n`)';
    case 'ENFILE':
      return 'the system has too many open files';
    case 'ENOMEM':
    case 'ENOBUFS':
      return 'the kernel has not enough memory for it; choose smaller rings or free some';
    case 'EADDRINUSE':
      return 'something else is bound to that address';
    case 'ENOSYS':
    case 'EOPNOTSUPP':
    case 'EAFNOSUPPORT':
    case 'EPROTONOSUPPORT':
    case 'ENOPROTOOPT':
      return 'this kernel was built without it';
    default:
      return '';
  }
}

/** A system call failed. `code` is the symbolic name, as in Node's own errors. */
export class SystemError extends Error {
  override readonly name: string = 'SystemError';
  readonly code: string;
  readonly errno: number;
  readonly call: string;
  /** What to do about it, '' when nothing is known. The message ends with it. */
  readonly advice: string;
  /** The message without the advice. */
  readonly finding: string;

  /**
   * @param call the system call, such as 'bind'
   * @param errno the positive error number
   * @param doing what was being done, with its object: 'attach to eth0'
   * @param advice what to do; by default what {@link adviceFor} knows of this call and error
   */
  constructor(call: string, errno: number, doing: string, advice = adviceFor(call, errno)) {
    const code = errnoName(errno);
    const finding = `cannot ${doing}: ${call} failed with ${code}`;
    super(advice === '' ? finding : `${finding} (${advice})`);
    this.finding = finding;
    this.call = call;
    this.errno = errno;
    this.code = code;
    this.advice = advice;
  }
}

/** Whether something was thrown for a reason that passes, as of {@link isShortage}. */
export function comesOfShortage(thrown: unknown): boolean {
  return thrown instanceof SystemError && isShortage(thrown.errno);
}

/** The kernel's table changed during each of the attempts to read it whole: of what was read, something may be missing, or there twice. */
export class DumpInterruptedError<Message> extends SystemError {
  override readonly name = 'DumpInterruptedError';
  /** What the last attempt gave. */
  readonly replies: readonly Message[];

  constructor(doing: string, attempts: number, replies: readonly Message[]) {
    super(
      'netlink',
      Errno.EAGAIN,
      doing,
      `it changed during each of ${attempts} attempts; try again when less goes on`,
    );
    this.replies = replies;
  }
}
