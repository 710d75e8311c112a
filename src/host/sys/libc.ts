/**
 * The C library through koffi: the one place where functions are bound. A call costs some 0.2 to 0.3 us, so hot paths share
 * one over a batch. Pointers travel as plain numbers where addresses are computed (user space ends below 2^47, so a double
 * holds them exactly) and as typed arrays where koffi may pin them for the length of the call.
 */
import koffi from 'koffi';
import { SystemError } from './errors.ts';

const libc = koffi.load('libc.so.6');

/** A bound C function that returns an integer. koffi cannot type its arguments; each binding below does. */
type CFunction<Arguments extends unknown[]> = (...args: Arguments) => number;

/**
 * Bind a function of libc.
 * @param prototype a C prototype as koffi reads it; integer results up to 53 bits
 * @throws Error when libc has no such symbol
 */
export function bindLibc<Arguments extends unknown[]>(prototype: string): CFunction<Arguments> {
  return libc.func(prototype) as unknown as CFunction<Arguments>;
}

/**
 * Bind a function of libc for calls that may wait long: another thread makes them. What they are given by address has to stay until they are done.
 * @returns takes the arguments, and last a function that is called on Node's own loop when the call is over, with its result, or -1 when it could not be made
 * @throws Error when libc has no such symbol
 */
export function bindLibcAside<Arguments extends unknown[]>(
  prototype: string,
): (...args: [...Arguments, done: (result: number) => void]) => void {
  const { async: call } = libc.func(prototype) as unknown as {
    async: (...args: [...Arguments, (error: unknown, result: number) => void]) => void;
  };
  return (...args) => {
    const done = args[args.length - 1] as (result: number) => void;
    const given = args.slice(0, -1) as Arguments;
    call(...given, (error, result) => done(error === null || error === undefined ? result : -1));
  };
}

/** errno of the last call on this thread. Read it before any other call. */
export function lastErrno(): number {
  return koffi.errno();
}

/**
 * Check a result: negative means failure.
 * @param doing what was being done, for the message: 'open /dev/net/tun'
 * @returns the result itself
 * @throws SystemError with the errno of the call
 */
export function check(result: number, call: string, doing: string): number {
  if (result < 0) throw new SystemError(call, lastErrno(), doing);
  return result;
}

/**
 * Where a typed array's bytes are. The address stays valid while the caller keeps the array: V8 never moves
 * the backing store of a buffer that is not tiny, and koffi is handed the store itself.
 */
export function addressOf(memory: ArrayBufferView | ArrayBufferLike): number {
  return Number(koffi.address(memory as Uint8Array));
}

/**
 * A view over native memory, such as a mapping. It must not be used once the memory is unmapped.
 * @param address its start
 */
export function nativeView(address: number, lengthBytes: number): ArrayBuffer {
  return koffi.view(BigInt(address), lengthBytes) as ArrayBuffer;
}

const memcpyCall = bindLibc<[number, number, number]>('intptr_t memcpy(intptr_t to, intptr_t from, size_t bytes)');

/** Copy memory that is known by its address. Both ends have to be there, and must not overlap. */
export function copyMemory(to: number, from: number, lengthBytes: number): void {
  memcpyCall(to, from, lengthBytes);
}

const closeCall = bindLibc<[number]>('int close(int fd)');

/** Close a descriptor; errors are ignored, as after close(2) the descriptor is gone either way. */
export function closeDescriptor(fd: number): void {
  closeCall(fd);
}
