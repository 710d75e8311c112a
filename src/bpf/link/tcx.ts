/**
 * TCX links: programs on an interface's way in and out, after the skb is made, in a list with an order. Others may be in the list; a new one
 * goes where it is told to, and none is displaced. Neighbours: link/clsact.ts is the way on kernels before 6.6.
 */
import { FileDescriptor } from '../../host/sys/index.ts';
import { AttachConflictError, UnsupportedError } from '../errors.ts';
import { Program } from '../program/program.ts';
import { Errno, failure, kernelRelease } from '../sys/bpf.ts';
import { netdevIndex } from '../sys/netdev.ts';
import { COMMAND, LINK_FLAG } from '../uapi/commands.ts';
import { ATTACH_TYPE } from '../uapi/kinds.ts';
import { createLink, Link } from './link.ts';
import { type Direction, queryTcx } from './query.ts';

/** A program of the list to stand beside: by handle, by link, or by id. */
export type Anchor = Program | Link | { readonly programId: number } | { readonly linkId: number };

/** Where in the list. */
export type TcxPosition = 'first' | 'last' | { readonly before: Anchor } | { readonly after: Anchor };

/** Where to attach a TC program. */
export interface TcxAttachment {
  readonly program: Program;
  /** Name or index. */
  readonly netdev: string | number;
  readonly direction: Direction;
  /** 'last' by default. */
  readonly position?: TcxPosition;
  /** The revision of the list that the position was chosen by, from `queryTcx`. */
  readonly expectedRevision?: number;
}

/**
 * Attach a TC program by a TCX link (Linux 6.6).
 * @throws AttachConflictError when the list is not at the expected revision, the anchor is not in it, or the program already is
 * @throws UnsupportedError, NoInterfaceError, PrivilegeError, SystemError
 */
export function attachTcx(attachment: TcxAttachment): Link {
  const { program, netdev, direction, position = 'last', expectedRevision = 0 } = attachment;
  const doing = `attach TC program "${program.name}" to ${netdev} ${direction}`;
  const ifindex = netdevIndex(netdev, doing);
  const result = createLink({
    programFd: program.fd,
    ifindex,
    attachType: direction === 'ingress' ? ATTACH_TYPE.tcx_ingress : ATTACH_TYPE.tcx_egress,
    expectedRevision,
    ...placement(position),
  });
  if (result >= 0) return new Link(new FileDescriptor(result), `${netdev} (TCX ${direction})`);
  switch (-result) {
    case Errno.ESTALE:
      throw new AttachConflictError(
        `cannot ${doing}: the list of programs is not at revision ${expectedRevision} any more`,
      );
    case Errno.ENOENT:
      throw new AttachConflictError(`cannot ${doing}: the program to stand beside is not in the list`);
    case Errno.EEXIST:
      throw new AttachConflictError(`cannot ${doing}: the program is in the list already`);
    case Errno.ERANGE:
      throw new AttachConflictError(`cannot ${doing}: the list is full`);
    case Errno.EINVAL:
    case Errno.E2BIG:
      if (queryTcx(ifindex, direction) === undefined) throw new UnsupportedError('TCX links', '6.6', kernelRelease());
  }
  throw failure(COMMAND.LINK_CREATE, result, doing, `${netdev}`);
}

function placement(position: TcxPosition): { flags: number; relative: number } {
  if (position === 'first') return { flags: LINK_FLAG.BEFORE, relative: 0 };
  if (position === 'last') return { flags: LINK_FLAG.AFTER, relative: 0 };
  const before = 'before' in position;
  const { flags, relative } = anchor(before ? position.before : position.after);
  return { flags: flags | (before ? LINK_FLAG.BEFORE : LINK_FLAG.AFTER), relative };
}

function anchor(beside: Anchor): { flags: number; relative: number } {
  if (beside instanceof Program) return { flags: 0, relative: beside.fd };
  if (beside instanceof Link) return { flags: LINK_FLAG.LINK, relative: beside.fd };
  if ('programId' in beside) return { flags: LINK_FLAG.ID, relative: beside.programId };
  return { flags: LINK_FLAG.ID | LINK_FLAG.LINK, relative: beside.linkId };
}
