/**
 * Links: the tie between a program and the place where it runs. The tie lasts as long as the descriptor, or a pin of it; when the process
 * dies unpinned, the kernel detaches. Neighbours: link/xdp.ts and link/tcx.ts make links, link/clsact.ts does without them on old kernels.
 */
import { type FileDescriptor, hurried, NativeBlock } from '../../host/sys/index.ts';
import { AttachConflictError, ClosedError, MapMismatchError, NoInterfaceError } from '../errors.ts';
import { openPinned, pinObject } from '../program/pin.ts';
import type { Program } from '../program/program.ts';
import { Attributes, bpf, Errno, failure, must } from '../sys/bpf.ts';
import { COMMAND, LINK_FLAG } from '../uapi/commands.ts';
import { LINK_TYPE, type LinkType, linkTypeName } from '../uapi/kinds.ts';

/** What the kernel says of a link (struct bpf_link_info). */
export interface LinkInfo {
  readonly type: ReturnType<typeof linkTypeName>;
  /** Unique among all links until the next boot. */
  readonly id: number;
  readonly programId: number;
  /** The interface it is on, for XDP, TCX and netkit links; 0 once that is gone or the link is detached. */
  readonly ifindex: number;
}

const INFO_BYTES = 64;
const CREATE_BYTES = 64;

/** What link creation takes. */
export interface LinkRequest {
  readonly programFd: number;
  readonly ifindex: number;
  readonly attachType: number;
  readonly flags: number;
  /** Descriptor or id of the anchor; 0 for none. */
  readonly relative: number;
  /** Revision of the list of programs that the caller has seen; 0 for any. */
  readonly expectedRevision: number;
}

/** Create a link. @returns a descriptor or a negated errno */
export function createLink(request: LinkRequest): number {
  const attributes = new Attributes(CREATE_BYTES);
  attributes.u32[0] = request.programFd;
  attributes.u32[1] = request.ifindex;
  attributes.u32[2] = request.attachType;
  attributes.u32[3] = request.flags;
  attributes.u32[4] = request.relative;
  attributes.setAddress(24, request.expectedRevision);
  return hurried(() => bpf(COMMAND.LINK_CREATE, attributes, CREATE_BYTES));
}

/** What the kernel says of the link behind a descriptor. @throws SystemError */
export function readLinkInfo(fd: number): LinkInfo {
  const info = new NativeBlock(INFO_BYTES);
  const attributes = new Attributes(16);
  attributes.u32[0] = fd;
  attributes.u32[1] = INFO_BYTES;
  attributes.point(8, info);
  must(bpf(COMMAND.OBJ_GET_INFO_BY_FD, attributes, 16), COMMAND.OBJ_GET_INFO_BY_FD, 'ask about a link');
  const type = info.u32[0];
  const onInterface = type === LINK_TYPE.xdp || type === LINK_TYPE.tcx || type === LINK_TYPE.netkit;
  return {
    type: linkTypeName(type),
    id: info.u32[1],
    programId: info.u32[2],
    ifindex: onInterface ? info.u32[4] : 0,
  };
}

/** A link. Closing it detaches the program, unless it is pinned. */
export class Link {
  /** Where it is, for messages: 'eth0 (XDP)'. */
  readonly place: string;
  readonly #descriptor: FileDescriptor;

  constructor(descriptor: FileDescriptor, place: string) {
    this.#descriptor = descriptor;
    this.place = place;
  }

  /**
   * Adopt a link that is pinned, such as by an earlier process.
   * @param type what it must be
   * @throws MapMismatchError when it is another kind of link; SystemError when nothing is pinned there
   */
  static open(path: string, type: LinkType): Link {
    const descriptor = openPinned(path, 'link');
    try {
      const info = readLinkInfo(descriptor.number);
      if (info.type !== type) throw new MapMismatchError(`the link pinned at ${path} is ${info.type}, not ${type}`);
      return new Link(descriptor, `interface ${info.ifindex} (${type}, pinned at ${path})`);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /** The descriptor. @throws ClosedError */
  get fd(): number {
    if (this.#descriptor.closed) throw new ClosedError(`link on ${this.place}`);
    return this.#descriptor.number;
  }

  get closed(): boolean {
    return this.#descriptor.closed;
  }

  /** Ask the kernel. @throws ClosedError, SystemError */
  info(): LinkInfo {
    return readLinkInfo(this.fd);
  }

  /**
   * Put another program in the place of the one that runs, between two packets.
   * @param expected the program that must run there now; without it any
   * @throws AttachConflictError when another than the expected one runs; NoInterfaceError when the interface is gone
   */
  update(program: Program, expected?: Program): void {
    const attributes = new Attributes(16);
    attributes.u32[0] = this.fd;
    attributes.u32[1] = program.fd;
    if (expected !== undefined) {
      attributes.u32[2] = LINK_FLAG.REPLACE;
      attributes.u32[3] = expected.fd;
    }
    const result = bpf(COMMAND.LINK_UPDATE, attributes, 16);
    if (result >= 0) return;
    const doing = `update the program on ${this.place}`;
    if (result === -Errno.ENOLINK) throw new NoInterfaceError(this.place, doing);
    if (result === -Errno.EPERM && expected !== undefined) {
      throw new AttachConflictError(`cannot ${doing}: it does not run program "${expected.name}" any more`);
    }
    throw failure(COMMAND.LINK_UPDATE, result, doing);
  }

  /** Pin it to a path below a bpf file system, so that the program stays attached after the process. @throws SystemError */
  pin(path: string): void {
    pinObject(this.fd, path, `link on ${this.place}`);
  }

  /** Detach the program now, though the link may be pinned. A link whose interface is gone is no error. @throws SystemError */
  detach(): void {
    const attributes = new Attributes(4);
    attributes.u32[0] = this.fd;
    const result = hurried(() => bpf(COMMAND.LINK_DETACH, attributes, 4));
    if (result < 0 && result !== -Errno.ENOLINK)
      throw failure(COMMAND.LINK_DETACH, result, `detach from ${this.place}`);
  }

  close(): void {
    hurried(() => this.#descriptor.close());
  }
}
