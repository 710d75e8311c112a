/** netlink/: the message codec, attribute policies, generic netlink, rtnetlink objects. Pure: no sockets. The only door of this room. */
export {
  type Acknowledgement,
  type ExtendedAck,
  parseDone,
  parseError,
  writeAcknowledgement,
  writeDone,
} from './acknowledgement.ts';
export { AttributeCursor } from './attribute.ts';
export { MESSAGE_HEADER_BYTES, NetlinkProtocol, NlmFlag, Nlmsg } from './constants.ts';
export { askSteadily, DUMP_ATTEMPTS } from './dump.ts';
export { Errno, NetlinkError } from './error.ts';
export * as fields from './fields.ts';
export {
  CONTROLLER_FAMILY,
  ControllerCommand,
  type FamilyRecord,
  type GenericHeader,
  getFamily,
  parseFamily,
  parseGenericHeader,
  writeFamily,
  writeGenericHeader,
} from './generic.ts';
export { checkFamilyHeader, type Message, parseMessages } from './message.ts';
export { type Field, Policy, policy, required, type ValuesOf } from './policy.ts';
export { type InterfaceAddress, parseAddress, writeAddress } from './rtnetlink/address.ts';
export {
  AddressFamily,
  AddressFlag,
  LinkFlag,
  NeighbourFlag,
  NeighbourState,
  OperationalState,
  RouteProtocol,
  RouteScope,
  RouteTable,
  RouteType,
  Rtm,
  RtnlGroup,
} from './rtnetlink/constants.ts';
export { parseRouteEvent, type RouteEvent } from './rtnetlink/event.ts';
export { type Link, type LinkInfo, parseLink, writeLink } from './rtnetlink/link.ts';
export { getNamespaceId, newNamespaceId, parseNamespaceId } from './rtnetlink/namespace-id.ts';
export { type Neighbour, parseNeighbour, writeNeighbour } from './rtnetlink/neighbour.ts';
export * from './rtnetlink/requests.ts';
export * from './rtnetlink/requests-link.ts';
export { parseRoute, type Route, writeRoute } from './rtnetlink/route.ts';
export type { LinkStatistics } from './rtnetlink/statistics.ts';
export {
  Clsact,
  DIRECT_ACTION,
  type Filter,
  filterInfo,
  parseFilter,
  parseQdisc,
  type Qdisc,
  splitFilterInfo,
  writeFilter,
  writeQdisc,
} from './rtnetlink/traffic.ts';
export { type Failure, type Progress, type Request, Transaction } from './transaction.ts';
export { MessageWriter } from './writer.ts';
