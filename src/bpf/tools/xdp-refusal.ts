/**
 * Whether an interface refuses a program, and what a driver's refusal of XDP means. The kernel gives a link's maker a number and keeps the driver's sentence to itself.
 * Neighbours: link/xdp.ts attaches; peer.ts finds a veth's other end.
 */
import { BpfError, type BpfErrorCode } from '../errors.ts';
import { readLink } from '../sys/netdev.ts';
import { locatePeer } from './peer.ts';

/** Errors of this library that say something about the interface. */
const REFUSALS: readonly BpfErrorCode[] = ['attach-conflict', 'unsupported', 'no-interface'];
/** Codes by which the kernel refuses a program on an interface as it is set up now; the last three are those of drivers. */
const TC_CODES = ['ENOSPC', 'EOPNOTSUPP', 'EINVAL', 'ENOMEM'];
const XDP_CODES = [...TC_CODES, 'ERANGE', 'EBUSY', 'E2BIG'];

/**
 * Whether an interface does not take a program as it is set up now, and another hook may do; otherwise something else is wrong.
 * @param error what {@link attachXdp} or {@link attachTcx} has thrown
 */
export function isRefusal(hook: 'tc' | 'xdp', error: unknown): error is Error {
  if (error instanceof BpfError) return REFUSALS.includes(error.code);
  const codes = hook === 'xdp' ? XDP_CODES : TC_CODES;
  return error instanceof Error && 'code' in error && codes.includes(`${error.code}`);
}

/**
 * Why a driver does not take XDP on an interface.
 * @param netdev name or index, in the calling thread's network namespace
 * @param error what {@link attachXdp} has thrown
 * @returns one sentence; null when the driver has not refused, but something else is wrong
 */
export function explainXdpRefusal(netdev: string | number, error: unknown): string | null {
  if (!isRefusal('xdp', error)) return null;
  if (error instanceof BpfError || !('code' in error)) return error.message;
  try {
    return describe(netdev, `${error.code}`);
  } catch {
    // It went meanwhile.
    return error.message;
  }
}

function describe(netdev: string | number, code: string): string {
  const link = readLink(netdev, 'ask about XDP');
  const name = link.name ?? `${netdev}`;
  if (link.info?.kind !== 'veth' || (code !== 'ERANGE' && code !== 'ENOSPC')) {
    return `the driver of ${name} refuses XDP (${code}); most want an MTU (now ${link.mtuBytes ?? 0} bytes) below a page, queues to spare, and LRO off`;
  }
  const peer = locatePeer(link);
  if (code === 'ENOSPC') {
    return `the veth ${name} receives with fewer queues than its other end sends with, which XDP does not take; see ethtool -l ${name}`;
  }
  const mtuBytes = peer?.within(() => readLink(peer.index, 'look at a peer').mtuBytes);
  const now = mtuBytes === undefined ? '' : ` of ${mtuBytes} bytes`;
  return `the other end of the veth ${name} has an MTU${now}, and XDP takes some 3500 at most (with pages of 4 KB)`;
}
