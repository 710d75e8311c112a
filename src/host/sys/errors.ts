/** Errors of system calls: which call, which errno, on what, and what to do where we know it. */
import { constants } from 'node:os';

const nameByErrno = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** The symbolic name of an errno, such as 'ENODEV'; 'E123' for one that this platform has no name for. */
export function errnoName(errno: number): string {
  return nameByErrno.get(errno) ?? `E${errno}`;
}

/** A system call failed. `code` is the symbolic name, as in Node's own errors. */
export class SystemError extends Error {
  override readonly name: string = 'SystemError';
  readonly code: string;
  readonly errno: number;
  readonly call: string;

  /**
   * @param call the system call, such as 'bind'
   * @param errno the positive error number
   * @param doing what was being done, with its object: 'attach to eth0'
   */
  constructor(call: string, errno: number, doing: string) {
    const code = errnoName(errno);
    super(`cannot ${doing}: ${call} failed with ${code}`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}
