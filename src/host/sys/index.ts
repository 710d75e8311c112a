/** host/sys/: system calls and their errors. The part of host/ that other libraries (bpf/) stand on. */
export { errnoName, SystemError } from './errors.ts';
export {
  addressOf,
  bindLibc,
  check,
  closeDescriptor,
  lastErrno,
  type Mapping,
  Mmap,
  mmap,
  nativeView,
} from './libc.ts';
