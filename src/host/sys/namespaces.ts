/** The bare calls behind namespaces: setns, unshare, mount. ../namespace.ts makes sense of them. */
import { bindLibc, check } from './libc.ts';

const setnsCall = bindLibc<[number, number]>('int setns(int fd, int type)');
const unshareCall = bindLibc<[number]>('int unshare(int flags)');
const mountCall = bindLibc<[string, string, string | null, number, string | null]>(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
);
const umountCall = bindLibc<[string, number]>('int umount2(const char *target, int flags)');

/** Flags of clone(2) that name kinds of namespaces. */
export const CloneFlag = { NEWNS: 0x20000, NEWUSER: 0x10000000, NEWNET: 0x40000000 } as const;
/** Flags of mount(2) and umount2(2). */
export const MountFlag = {
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  BIND: 0x1000,
  REC: 0x4000,
  SHARED: 0x100000,
  /** Of umount2(2). */
  DETACH: 2,
  /** Of umount2(2): the target itself, should it be a link. */
  NOFOLLOW: 8,
} as const;

/** Move the calling thread into a namespace. @throws SystemError */
export function setns(fd: number, type: number, doing: string): void {
  check(setnsCall(fd, type), 'setns', doing);
}

/** Give the calling thread new namespaces. @throws SystemError */
export function unshare(flags: number, doing: string): void {
  check(unshareCall(flags), 'unshare', doing);
}

/** @param options of the file system, such as `mode=0700` @throws SystemError */
export function mount(
  source: string,
  target: string,
  type: string | null,
  flags: number,
  doing: string,
  options: string | null = null,
): void {
  check(mountCall(source, target, type, flags, options), 'mount', doing);
}

/** @throws SystemError */
export function unmount(target: string, flags: number, doing: string): void {
  check(umountCall(target, flags), 'umount2', doing);
}
