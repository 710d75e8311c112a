/** Requests about addresses, neighbours, routes and traffic control, ready for a Transaction. requests-link.ts has those about links. */
import { NlmFlag } from '../constants.ts';
import { NetlinkError } from '../error.ts';
import type { Request } from '../transaction.ts';
import { type InterfaceAddress, writeAddress } from './address.ts';
import {
  AddressFamily,
  NeighbourFlag,
  NeighbourState,
  RouteProtocol,
  RouteScope,
  RouteTable,
  RouteType,
  Rtm,
} from './constants.ts';
import { type Neighbour, writeNeighbour } from './neighbour.ts';
import { type Route, writeRoute } from './route.ts';
import { Clsact, DIRECT_ACTION, filterInfo, writeFilter, writeQdisc } from './traffic.ts';

/** What to do when the object to be added is there already. */
export type IfExists = 'fail' | 'replace';

function creation(ifExists: IfExists): number {
  return NlmFlag.CREATE | (ifExists === 'replace' ? NlmFlag.REPLACE : NlmFlag.EXCL);
}

/** The family that an address of this length belongs to. */
function familyOf(address: Uint8Array): number {
  if (address.length === 4) return AddressFamily.INET;
  if (address.length === 16) return AddressFamily.INET6;
  throw new NetlinkError(`an IP address has 4 or 16 bytes, not ${address.length}`);
}

/** An address to be added: 4 or 16 bytes in network order. */
export type NewAddress = Pick<InterfaceAddress, 'index' | 'prefixLength'> &
  Partial<InterfaceAddress> & { local: Uint8Array };

/** Add an address to an interface. */
export function addAddress(address: NewAddress, ifExists: IfExists = 'fail'): Request {
  return addressRequest(Rtm.NEWADDR, creation(ifExists), 'add', address);
}

/** Remove an address from an interface. */
export function deleteAddress(address: NewAddress): Request {
  return addressRequest(Rtm.DELADDR, 0, 'delete', address);
}

function addressRequest(type: number, flags: number, verb: string, address: NewAddress): Request {
  const family = familyOf(address.local);
  return {
    type,
    flags,
    doing: `${verb} an address of interface ${address.index}`,
    write: (writer) => writeAddress(writer, { address: address.local, ...address, family }),
  };
}

/**
 * Ask for addresses.
 * @param options.index only those of this interface, where the socket asks for strict checking (NETLINK_GET_STRICT_CHK)
 */
export function dumpAddresses(options: { family?: number; index?: number } = {}): Request {
  return {
    type: Rtm.GETADDR,
    flags: 0,
    dump: true,
    doing: 'list addresses',
    write: (writer) => writeAddress(writer, options),
  };
}

/** A neighbour to be added; permanent unless its state says otherwise. */
export type NewNeighbour = Pick<Neighbour, 'index'> & Partial<Neighbour>;

/** Add a neighbour: destination and macAddress; for a bridge's forwarding entry the family AF_BRIDGE and macAddress. */
export function addNeighbour(neighbour: NewNeighbour, ifExists: IfExists = 'fail'): Request {
  return neighbourRequest(Rtm.NEWNEIGH, creation(ifExists), 'add', { state: NeighbourState.PERMANENT, ...neighbour });
}

/** Remove a neighbour, named by interface and destination (or macAddress for AF_BRIDGE). */
export function deleteNeighbour(neighbour: NewNeighbour): Request {
  return neighbourRequest(Rtm.DELNEIGH, 0, 'delete', neighbour);
}

function neighbourRequest(type: number, flags: number, verb: string, neighbour: NewNeighbour): Request {
  const { destination } = neighbour;
  const family = neighbour.family ?? (destination === undefined ? AddressFamily.BRIDGE : familyOf(destination));
  return {
    type,
    flags,
    doing: `${verb} a neighbour of interface ${neighbour.index}`,
    write: (writer) => writeNeighbour(writer, { ...neighbour, family }),
  };
}

/** Ask for neighbours: AF_INET, AF_INET6, or AF_BRIDGE for forwarding tables. The filter works as in {@link dumpAddresses}. */
export function dumpNeighbours(options: { family?: number; index?: number } = {}): Request {
  return {
    type: Rtm.GETNEIGH,
    flags: 0,
    dump: true,
    doing: 'list neighbours',
    write: (writer) => writeNeighbour(writer, { family: options.family ?? 0, interfaceIndex: options.index }),
  };
}

/** Ask for one neighbour. */
export function getNeighbour(index: number, destination: Uint8Array): Request {
  return {
    type: Rtm.GETNEIGH,
    flags: 0,
    doing: `look up a neighbour of interface ${index}`,
    write: (writer) => writeNeighbour(writer, { family: familyOf(destination), index, destination }),
  };
}

/**
 * Have the kernel find out about a neighbour as if it sent a packet there, without one: one that is missing or has failed is resolved, one that is stale is
 * probed after a while. Nothing is left behind but an ordinary entry, which goes when nobody uses it.
 *
 * The kernel takes the permanence from an entry that is named in this way (neigh_update, NEIGH_UPDATE_F_USE), so do not name such a one.
 * @param isNew there is no entry: fail with EEXIST when there is one after all
 */
export function useNeighbour(index: number, destination: Uint8Array, isNew: boolean): Request {
  return {
    type: Rtm.NEWNEIGH,
    flags: NlmFlag.CREATE | (isNew ? NlmFlag.EXCL : 0),
    doing: `resolve a neighbour of interface ${index}`,
    write: (writer) =>
      writeNeighbour(writer, { family: familyOf(destination), index, destination, flags: NeighbourFlag.USE }),
  };
}

/** A route to be added: unicast, static, in the main table and of universal scope unless it says otherwise. */
export type NewRoute = Partial<Route> & { family: number };

export function addRoute(route: NewRoute, ifExists: IfExists = 'fail'): Request {
  return routeRequest(Rtm.NEWROUTE, creation(ifExists), 'add', {
    protocol: RouteProtocol.STATIC,
    type: RouteType.UNICAST,
    scope: RouteScope.UNIVERSE,
    ...route,
  });
}

/** Remove a route. What the request leaves out matches any. */
export function deleteRoute(route: NewRoute): Request {
  return routeRequest(Rtm.DELROUTE, 0, 'delete', { scope: RouteScope.NOWHERE, ...route });
}

function routeRequest(type: number, flags: number, verb: string, route: NewRoute): Request {
  return {
    type,
    flags,
    doing: `${verb} a route`,
    write: (writer) => writeRoute(writer, { ...tableOf(route.tableId), ...route }),
  };
}

/** A table above 255 does not fit the header, which then says "unspecified". */
function tableOf(tableId: number | undefined): { table: number } {
  if (tableId === undefined) return { table: RouteTable.MAIN };
  return { table: tableId < 256 ? tableId : RouteTable.UNSPEC };
}

/** Ask for routes. The filters work as in {@link dumpAddresses}. */
export function dumpRoutes(options: { family?: number; table?: number } = {}): Request {
  return {
    type: Rtm.GETROUTE,
    flags: 0,
    dump: true,
    doing: 'list routes',
    write: (writer) => writeRoute(writer, options),
  };
}

/** What of a packet, besides its destination, decides about its route. */
export type RouteSelection = Pick<
  Partial<Route>,
  'source' | 'mark' | 'outputIndex' | 'ipProtocol' | 'sourcePort' | 'destinationPort'
> & {
  /** The whole octet; the kernel wants its two lowest bits, which are those of ECN, to be 0. */
  readonly typeOfService?: number;
};

/** Ask how the kernel would route a packet of its own to an address. @throws NetlinkError for addresses of two families */
export function getRoute(destination: Uint8Array, selection: RouteSelection = {}): Request {
  const family = familyOf(destination);
  const destinationPrefixLength = destination.length * 8;
  const { source, typeOfService = 0, ...rest } = selection;
  if (source !== undefined && familyOf(source) !== family) {
    throw new NetlinkError('source and destination are addresses of two families', { path: ['source'] });
  }
  const sourcePrefixLength = source === undefined ? 0 : source.length * 8;
  return {
    type: Rtm.GETROUTE,
    flags: 0,
    doing: 'look up a route',
    write: (writer) =>
      writeRoute(writer, {
        ...rest,
        family,
        destination,
        destinationPrefixLength,
        source,
        sourcePrefixLength,
        typeOfService: typeOfService & DSCP_BITS,
      }),
  };
}

/** The bits of a type of service that are not ECN's. */
const DSCP_BITS = 0xfc;

/** Add the clsact discipline, which gives an interface places for filters at ingress and egress. */
export function addClsact(index: number): Request {
  return clsactRequest(Rtm.NEWQDISC, NlmFlag.CREATE | NlmFlag.EXCL, 'add', index);
}

/** Remove clsact with all its filters. */
export function deleteClsact(index: number): Request {
  return clsactRequest(Rtm.DELQDISC, 0, 'remove', index);
}

function clsactRequest(type: number, flags: number, verb: string, index: number): Request {
  return {
    type,
    flags,
    doing: `${verb} clsact on interface ${index}`,
    write: (writer) => writeQdisc(writer, { index, handle: Clsact.HANDLE, parent: Clsact.PARENT, kind: 'clsact' }),
  };
}

/** Ask for queueing disciplines: the kernel answers with those of all interfaces, older ones even where an index is given. */
export function dumpQdiscs(options: { index?: number } = {}): Request {
  return {
    type: Rtm.GETQDISC,
    flags: 0,
    dump: true,
    doing: 'list queueing disciplines',
    write: (writer) => writeQdisc(writer, options),
  };
}

/** Where a filter is. Priorities run from 1, and the lowest is asked first. */
export interface FilterPlace {
  index: number;
  /** {@link Clsact}.INGRESS or EGRESS. */
  parent: number;
  priority: number;
  handle: number;
  /** An EtherType; 3 (ETH_P_ALL), the default, for every packet. */
  protocol?: number;
}

const ETH_P_ALL = 3;

/** Attach an eBPF program (by its descriptor) with direct action. */
export function addBpfFilter(
  place: FilterPlace,
  program: { descriptor: number; name: string },
  ifExists: IfExists = 'fail',
): Request {
  const { index, parent, priority, handle, protocol = ETH_P_ALL } = place;
  return {
    type: Rtm.NEWTFILTER,
    flags: creation(ifExists),
    doing: `attach program ${program.name} to interface ${index}`,
    write: (writer) =>
      writeFilter(writer, {
        index,
        parent,
        handle,
        info: filterInfo(priority, protocol),
        kind: 'bpf',
        bpf: { ...program, flags: DIRECT_ACTION },
      }),
  };
}

/** Remove one filter. */
export function deleteFilter(place: FilterPlace, kind = 'bpf'): Request {
  const { index, parent, priority, handle, protocol = ETH_P_ALL } = place;
  return {
    type: Rtm.DELTFILTER,
    flags: 0,
    doing: `remove a filter from interface ${index}`,
    write: (writer) => writeFilter(writer, { index, parent, handle, info: filterInfo(priority, protocol), kind }),
  };
}

/** Ask for the filters of one place. */
export function dumpFilters(index: number, parent: number): Request {
  return {
    type: Rtm.GETTFILTER,
    flags: 0,
    dump: true,
    doing: `list filters of interface ${index}`,
    write: (writer) => writeFilter(writer, { index, parent }),
  };
}
