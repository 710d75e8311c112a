/** Routes (struct rtmsg and RTA_*). next-hops.ts has the list of next hops of a multipath route. */
import { readU32, writeU32 } from '../bytes.ts';
import { be16, binary, nested, u8, u16, u32 } from '../fields.ts';
import type { Message } from '../message.ts';
import { policy, type ValuesOf } from '../policy.ts';
import { checkUnsigned, type MessageWriter } from '../writer.ts';
import { nextHops, via } from './next-hops.ts';
import { type Header, parseObject, writeObject } from './object.ts';

/** The fields of struct rtmsg. */
export interface RouteHeader {
  family: number;
  destinationPrefixLength: number;
  sourcePrefixLength: number;
  typeOfService: number;
  /** One of RouteTable, or any number below 256; `tableId`, when there, has the whole number. */
  table: number;
  /** One of RouteProtocol, or a routing daemon's number. */
  protocol: number;
  /** One of RouteScope. */
  scope: number;
  /** One of RouteType. */
  type: number;
  /** RTM_F_* and RTNH_F_*. */
  flags: number;
}

/**
 *      0        1           2          3     4       5          6       7      8
 *      | family | dst bits  | src bits | tos | table | protocol | scope | type | flags |
 */
const header: Header<RouteHeader> = {
  name: 'rtmsg',
  lengthBytes: 12,
  empty: {
    family: 0,
    destinationPrefixLength: 0,
    sourcePrefixLength: 0,
    typeOfService: 0,
    table: 0,
    protocol: 0,
    scope: 0,
    type: 0,
    flags: 0,
  },
  read: (bytes, at) => ({
    family: bytes[at],
    destinationPrefixLength: bytes[at + 1],
    sourcePrefixLength: bytes[at + 2],
    typeOfService: bytes[at + 3],
    table: bytes[at + 4],
    protocol: bytes[at + 5],
    scope: bytes[at + 6],
    type: bytes[at + 7],
    flags: readU32(bytes, at + 8),
  }),
  fill(bytes, route) {
    bytes[0] = checkUnsigned('address family', route.family, 0xff);
    bytes[1] = checkUnsigned('prefix length', route.destinationPrefixLength, 0xff);
    bytes[2] = checkUnsigned('source prefix length', route.sourcePrefixLength, 0xff);
    bytes[3] = checkUnsigned('type of service', route.typeOfService, 0xff);
    bytes[4] = checkUnsigned('table', route.table, 0xff);
    bytes[5] = checkUnsigned('protocol', route.protocol, 0xff);
    bytes[6] = checkUnsigned('scope', route.scope, 0xff);
    bytes[7] = checkUnsigned('route type', route.type, 0xff);
    writeU32(bytes, 8, checkUnsigned('route flags', route.flags, 0xffff_ffff));
  },
};

/** RTAX_*: properties of the path. */
const metricsPolicy = policy({
  lock: [1, u32()],
  mtuBytes: [2, u32()],
  advertisedMssBytes: [8, u32()],
  hopLimit: [10, u32()],
});

const address = binary({ maxBytes: 16 });

const routePolicy = policy({
  destination: [1, address],
  source: [2, address],
  inputIndex: [3, u32()],
  outputIndex: [4, u32()],
  gateway: [5, address],
  /** The metric by which routes to one prefix are ordered, lowest first. */
  priority: [6, u32()],
  preferredSource: [7, address],
  metrics: [8, nested(metricsPolicy)],
  nextHops: [9, nextHops],
  tableId: [15, u32()],
  mark: [16, u32()],
  /** A gateway of another family than the route's. */
  via: [18, via],
  preference: [20, u8()],
  /** LWTUNNEL_ENCAP_*: 1 MPLS, 2 IP, 5 SEG6, ... */
  encapsulationType: [21, u16()],
  encapsulation: [22, binary()],
  expiresSeconds: [23, u32()],
  /** In requests: whose packet it is, and its protocol and ports; rules may go by them. */
  userId: [25, u32()],
  ipProtocol: [27, u8()],
  sourcePort: [28, be16()],
  destinationPort: [29, be16()],
  nexthopId: [30, u32()],
});

/** A route. Addresses are in network order. */
export type Route = RouteHeader & ValuesOf<typeof routePolicy>;

/** @throws NetlinkError when the message is malformed */
export function parseRoute(message: Message): Route {
  return parseObject(message, header, routePolicy);
}

/** Write the body of a route message, behind `begin`. */
export function writeRoute(writer: MessageWriter, route: Partial<RouteHeader> & ValuesOf<typeof routePolicy>): void {
  writeObject(writer, header, routePolicy, route);
}
