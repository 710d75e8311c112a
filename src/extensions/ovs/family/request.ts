/** What every family is given: the room's state, and one message taken apart. */
import type { Connections } from '../../../connections/index.ts';
import type { Message } from '../../../netlink/index.ts';
import { Attributes, u32At } from '../attributes.ts';
import type { PseudoDevice } from '../device/pseudo-device.ts';
import type { Reply } from '../device/reply.ts';
import { Errno, OvsError } from '../errors.ts';
import type { OvsHost } from '../host.ts';
import type { OvsDatapath } from '../ovs-datapath.ts';
import type { Buffers } from '../plain.ts';
import type { Tunnels } from '../tunnel/tunnels.ts';
import type { Vport } from '../vport.ts';

/** Everything that requests can reach. */
export interface OvsState {
  /** By interface index of the local port. */
  readonly datapaths: Map<number, OvsDatapath>;
  readonly device: PseudoDevice;
  readonly host: OvsHost;
  readonly buffers: Buffers;
  readonly connections: Connections;
  readonly tunnels: Tunnels | null;
  /** For new datapaths: a port's device has vanished. */
  readonly onPortGone: (datapath: OvsDatapath, port: Vport) => void;
}

/** Bytes of the headers before attributes: nlmsghdr, genlmsghdr, ovs_header. */
const HEADERS_BYTES = 24;

/** One request to a family. */
export interface FamilyRequest {
  readonly command: number;
  readonly version: number;
  readonly isDump: boolean;
  readonly flags: number;
  /** The datapath that the header names; 0 for none. */
  readonly interfaceIndex: number;
  readonly attributes: Attributes;
  readonly reply: Reply;
  readonly state: OvsState;
}

/** @throws OvsError EINVAL when the headers are cut off */
export function parseRequest(
  message: Message,
  isDump: boolean,
  maximumType: number,
  reply: Reply,
  state: OvsState,
): FamilyRequest {
  const { bytes } = message;
  if (bytes.length < HEADERS_BYTES) throw new OvsError(Errno.EINVAL, 'the headers are cut off');
  return {
    command: bytes[16],
    version: bytes[17],
    isDump,
    flags: message.flags,
    interfaceIndex: u32At(bytes, 20),
    attributes: new Attributes(bytes, HEADERS_BYTES, bytes.length, maximumType),
    reply,
    state,
  };
}

/** The datapath that a request's header names. @throws OvsError ENODEV */
export function datapathOf(request: FamilyRequest): OvsDatapath {
  const datapath = request.state.datapaths.get(request.interfaceIndex);
  if (datapath === undefined) throw new OvsError(Errno.ENODEV, `no datapath ${request.interfaceIndex}`);
  return datapath;
}

export function unsupported(request: FamilyRequest): never {
  throw new OvsError(Errno.EOPNOTSUPP, `command ${request.command} is not known`);
}
