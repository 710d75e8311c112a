/** host/sys/: system calls and their errors. The part of host/ that other libraries (bpf/) stand on. */
export { rawBpf } from './bpf.ts';
export { Clock, ClockId } from './clock.ts';
export { duplicate, FileDescriptor, openDescriptors } from './descriptor.ts';
export { Epoll, EpollEvent } from './epoll.ts';
export {
  adviceFor,
  comesOfShortage,
  DumpInterruptedError,
  Errno,
  errnoName,
  isDescriptorShortage,
  isShortage,
  SystemError,
} from './errors.ts';
export {
  eventfd,
  ioctl,
  ioctlNumber,
  isWritable,
  Open,
  open,
  rawRead,
  rawWritev,
  read,
  waitReadable,
  write,
} from './files.ts';
export { gracePeriod, hurried, isUnhurried, putGraceBack } from './grace.ts';
export {
  addressOf,
  bindLibc,
  check,
  closeDescriptor,
  copyMemory,
  lastErrno,
  nativeView,
} from './libc.ts';
export {
  type LostMappingListener,
  type MappedMemory,
  type MappedRange,
  type Mapping,
  Mmap,
  mapForAnother,
  mappedMemory,
  mmap,
  onLostMapping,
  takeMapped,
  unmapRange,
} from './mapping.ts';
export { hostToNetwork16, NativeBlock } from './memory.ts';
export { NamespaceFinder } from './namespace-finder.ts';
export { CloneFlag, MountFlag, mount, setns, unmount, unshare } from './namespaces.ts';
export { NAMESPACE_DIRECTORY, NetworkNamespace, namespaceNames, namespacePath } from './network-namespace.ts';
export {
  bind,
  getOption,
  type PeerCredentials,
  peerCredentials,
  rawReceiveMessage,
  rawSend,
  rawSendAside,
  rawSendmmsg,
  receiveFrom,
  Socket,
  send,
  setNumberOption,
  setOption,
  socket,
  socketName,
  takeSocketError,
  tryNumberOption,
} from './socket.ts';
