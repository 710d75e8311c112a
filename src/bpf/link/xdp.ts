/**
 * XDP links: a program at the earliest point, before the kernel makes an skb. One program an interface: a second is refused.
 * Neighbours: link/link.ts has the handle, link/query.ts tells who is there.
 */
import { FileDescriptor } from '../../host/sys/index.ts';
import { AttachConflictError, UnsupportedError } from '../errors.ts';
import type { Program } from '../program/program.ts';
import { Errno, failure, kernelRelease } from '../sys/bpf.ts';
import { netdevIndex, readLink } from '../sys/netdev.ts';
import { COMMAND, XDP_FLAG } from '../uapi/commands.ts';
import { ATTACH_TYPE } from '../uapi/kinds.ts';
import { createLink, Link } from './link.ts';
import { queryXdp } from './query.ts';

/** How XDP runs: in the driver, on skbs for any device, or in the driver where it can and otherwise on skbs. */
export type XdpMode = 'driver' | 'generic' | 'auto';

/** Where to attach an XDP program. */
export interface XdpAttachment {
  readonly program: Program;
  /** Name or index. */
  readonly netdev: string | number;
  /** 'auto' by default. */
  readonly mode?: XdpMode;
}

/**
 * Attach an XDP program by a link (Linux 5.9).
 * @throws AttachConflictError when an XDP program is there, which stays
 * @throws UnsupportedError when the driver has no XDP and the mode asks for it
 * @throws NoInterfaceError, PrivilegeError, SystemError
 */
export function attachXdp({ program, netdev, mode = 'auto' }: XdpAttachment): Link {
  const doing = `attach XDP program "${program.name}" to ${netdev}`;
  const ifindex = netdevIndex(netdev, doing);
  const attempt = (flags: number) =>
    createLink({
      programFd: program.fd,
      ifindex,
      attachType: ATTACH_TYPE.xdp,
      flags,
      relative: 0,
      expectedRevision: 0,
    });
  let result = attempt(mode === 'generic' ? XDP_FLAG.GENERIC : XDP_FLAG.DRIVER);
  if (mode === 'auto' && result === -Errno.EOPNOTSUPP) result = attempt(XDP_FLAG.GENERIC);
  if (result >= 0) return new Link(new FileDescriptor(result), `${netdev} (XDP)`);
  if (result === -Errno.EBUSY || result === -Errno.EEXIST) {
    const occupant = queryXdp(ifindex);
    const who = occupant === undefined ? 'another program' : `program "${occupant.name}" (id ${occupant.programId})`;
    throw new AttachConflictError(`cannot ${doing}: ${who} is attached there, and is left in place`);
  }
  if (result === -Errno.EOPNOTSUPP && mode === 'driver') {
    throw new UnsupportedError(
      `XDP in the driver of ${netdev}; mode 'generic' works on any interface`,
      undefined,
      kernelRelease(),
    );
  }
  // An interface that is not there is only EINVAL to the kernel.
  if (result === -Errno.EINVAL) readLink(ifindex, doing);
  throw failure(COMMAND.LINK_CREATE, result, doing, `${netdev}`);
}
