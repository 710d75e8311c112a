/**
 * execve(2) of oneself: the process becomes a new one under the same number. The kernel ends all other threads, whatever they are at, unmaps all
 * memory and closes every descriptor that is not handed on: nothing of what was stuck or leaked remains. What is handed on goes by number.
 */
import { readdirSync } from 'node:fs';
import { addressOf, bindLibc, check, FileDescriptor, NativeBlock } from './sys/index.ts';

const execv = bindLibc<[string, number]>('int execv(const char *path, intptr_t arguments)');
const fcntl = bindLibc<[number, number, number]>('int fcntl(int fd, int command, int argument)');
const memfdCreate = bindLibc<[string, number]>('int memfd_create(const char *name, unsigned int flags)');
const SET_FLAGS = 2;
const CLOSE_ON_EXEC = 1;

/** A file in memory, to hand text on to what this process becomes. @throws SystemError */
export function memoryFile(name: string): FileDescriptor {
  return new FileDescriptor(check(memfdCreate(name, CLOSE_ON_EXEC), 'memfd_create', `make a file in memory`));
}

/** The descriptors of this process. */
export function ownDescriptors(): number[] {
  return readdirSync('/proc/self/fd').map(Number);
}

/**
 * Become another program. Returns only when that fails.
 * @param args the first is the program's name for itself
 * @param handedOn descriptors that stay open, beside the standard ones
 * @throws SystemError
 */
export function replaceProcess(path: string, args: readonly string[], handedOn: readonly number[]): never {
  for (const fd of ownDescriptors()) {
    // Node has made the standard ones close-on-exec, too. The descriptor that listed them is gone by now: that call fails.
    fcntl(fd, SET_FLAGS, fd <= 2 || handedOn.includes(fd) ? 0 : CLOSE_ON_EXEC);
  }
  const texts = args.map((text) => Buffer.from(`${text}\0`));
  const pointers = new NativeBlock((args.length + 1) * 8);
  for (const [index, text] of texts.entries()) pointers.setAddress(index * 8, addressOf(text));
  check(execv(path, pointers.address), 'execve', `become ${path}`);
  throw new Error(`execve of ${path} returned`);
}
