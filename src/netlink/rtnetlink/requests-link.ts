/** Requests about links, ready for a Transaction: get, dump, change, create, delete. requests.ts has the other objects. */
import { NlmFlag } from '../constants.ts';
import { NetlinkError } from '../error.ts';
import type { Request } from '../transaction.ts';
import { LinkFlag, Rtm } from './constants.ts';
import { type Link, type LinkHeader, MAX_NAME_BYTES, writeLink } from './link.ts';

/** RTEXT_FILTER_SKIP_STATS: leave the counters out of a reply. */
const SKIP_STATISTICS = 8;

/** A link by its index, or by its name or an alternative name. */
export type LinkSelector = number | string;

/** What of a link can be changed. What is left out stays as it is. */
export interface LinkChanges {
  /** Administratively up or down. */
  up?: boolean;
  mtuBytes?: number;
  /** A new name. */
  name?: string;
  macAddress?: Uint8Array;
  /** Become a port of this bridge or bond; 0 to leave it. */
  masterIndex?: number;
  /** Move into the namespace of this process ... */
  namespacePid?: number;
  /** ... or that this descriptor refers to. */
  namespaceDescriptor?: number;
  /** Ask for promiscuous mode, once for all askers by this means; sockets count apart. */
  promiscuous?: boolean;
  /** Whether the interface resolves addresses (IFF_NOARP off). */
  arp?: boolean;
  transmitQueueLength?: number;
  alias?: string;
  gsoMaxBytes?: number;
  /** IN6_ADDR_GEN_MODE_*: 1 makes no link-local address. */
  ipv6AddressGenerationMode?: number;
}

/** A link to be made: its name, its kind with data, and what a change can set, in one go. */
export interface NewLink extends LinkChanges {
  name: string;
  info: NonNullable<Link['info']>;
  /** The link below, for a VLAN or macvlan. */
  linkedIndex?: number;
  transmitQueues?: number;
  receiveQueues?: number;
}

/** Ask for one link. */
export function getLink(
  link: LinkSelector,
  options: { withoutStatistics?: boolean; namespaceId?: number } = {},
): Request {
  const extensionMask = options.withoutStatistics === true ? SKIP_STATISTICS : undefined;
  return {
    type: Rtm.GETLINK,
    flags: 0,
    doing: `get link ${link}`,
    write: (writer) => writeLink(writer, { ...selection(link), targetNamespaceId: options.namespaceId, extensionMask }),
  };
}

/**
 * Ask for all links.
 * @param options.family AF_BRIDGE for ports of bridges with their VLANs
 * @param options.masterIndex only ports of this bridge or bond
 * @param options.kind only links of this kind
 */
export function dumpLinks(
  options: { family?: number; masterIndex?: number; kind?: string; withoutStatistics?: boolean } = {},
): Request {
  const extensionMask = options.withoutStatistics === true ? SKIP_STATISTICS : undefined;
  return {
    type: Rtm.GETLINK,
    flags: 0,
    dump: true,
    doing: 'list links',
    write: (writer) =>
      writeLink(writer, {
        family: options.family ?? 0,
        masterIndex: options.masterIndex,
        extensionMask,
        info: options.kind === undefined ? undefined : { kind: options.kind },
      }),
  };
}

/** Change a link. The kernel applies the changes one after the other and stops at the first that fails. */
export function setLink(index: number, changes: LinkChanges): Request {
  return {
    type: Rtm.NEWLINK,
    flags: 0,
    doing: `change link ${index} (${Object.keys(changes).join(', ')})`,
    write: (writer) => writeLink(writer, { index, ...changedAttributes(changes) }),
  };
}

/** Make a link of any kind that rtnetlink makes. For the common kinds see the functions below. */
export function newLink(link: NewLink): Request {
  const { info, linkedIndex, transmitQueues, receiveQueues } = link;
  return {
    type: Rtm.NEWLINK,
    flags: NlmFlag.CREATE | NlmFlag.EXCL,
    doing: `create ${info.kind ?? 'link'} ${link.name}`,
    write: (writer) =>
      writeLink(writer, { ...changedAttributes(link), info, linkedIndex, transmitQueues, receiveQueues }),
  };
}

/** Two connected Ethernet links. The peer may be made in another namespace; the kernel cannot take it up before it is connected. */
export function newVeth(
  name: string,
  peer: Omit<LinkChanges, 'up'> & { name: string },
  changes: LinkChanges = {},
): Request {
  return newLink({ ...changes, name, info: { kind: 'veth', peer: changedAttributes(peer) } });
}

export function newDummy(name: string, changes: LinkChanges = {}): Request {
  return newLink({ ...changes, name, info: { kind: 'dummy' } });
}

/** @param bridge properties that differ from the kernel's defaults */
export function newBridge(
  name: string,
  bridge: NonNullable<NonNullable<Link['info']>['bridge']> = {},
  changes: LinkChanges = {},
): Request {
  return newLink({ ...changes, name, info: { kind: 'bridge', bridge } });
}

/**
 * A VLAN on top of a link.
 * @param protocol 0x8100 or 0x88a8
 */
export function newVlan(
  name: string,
  linkedIndex: number,
  vlanId: number,
  protocol = 0x8100,
  changes: LinkChanges = {},
): Request {
  return newLink({ ...changes, name, linkedIndex, info: { kind: 'vlan', vlan: { id: vlanId, protocol } } });
}

/** Give a link a further name, of up to 127 bytes, that it answers to like its own. */
export function addAlternativeName(index: number, name: string): Request {
  return {
    type: Rtm.NEWLINKPROP,
    flags: NlmFlag.CREATE | NlmFlag.EXCL,
    doing: `name link ${index} ${name} as well`,
    write: (writer) => writeLink(writer, { index, properties: { alternativeNames: [name] } }),
  };
}

/** Take a further name from a link. */
export function removeAlternativeName(index: number, name: string): Request {
  return {
    type: Rtm.DELLINKPROP,
    flags: 0,
    doing: `take the name ${name} from link ${index}`,
    write: (writer) => writeLink(writer, { index, properties: { alternativeNames: [name] } }),
  };
}

/** Delete a link, and with a veth its peer. */
export function deleteLink(link: LinkSelector): Request {
  return {
    type: Rtm.DELLINK,
    flags: 0,
    doing: `delete link ${link}`,
    write: (writer) => writeLink(writer, selection(link)),
  };
}

function selection(link: LinkSelector): Partial<Link> {
  if (typeof link === 'string') {
    if (link === '') throw new NetlinkError('link name is empty', { path: ['name'] });
    return new TextEncoder().encode(link).length > MAX_NAME_BYTES ? { alternativeName: link } : { name: link };
  }
  if (link <= 0) throw new NetlinkError(`${link} is no interface index`, { path: ['index'] });
  return { index: link };
}

function changedAttributes(changes: LinkChanges): Omit<Link, keyof LinkHeader> & { flags: number; changeMask: number } {
  let flags = 0;
  let changeMask = 0;
  const note = (on: boolean | undefined, bit: number): void => {
    if (on === undefined) return;
    changeMask |= bit;
    if (on) flags |= bit;
  };
  note(changes.up, LinkFlag.UP);
  note(changes.promiscuous, LinkFlag.PROMISC);
  note(changes.arp === undefined ? undefined : !changes.arp, LinkFlag.NOARP);
  const mode = changes.ipv6AddressGenerationMode;
  return {
    flags,
    changeMask,
    name: changes.name,
    mtuBytes: changes.mtuBytes,
    macAddress: changes.macAddress,
    masterIndex: changes.masterIndex,
    namespacePid: changes.namespacePid,
    namespaceDescriptor: changes.namespaceDescriptor,
    transmitQueueLength: changes.transmitQueueLength,
    alias: changes.alias,
    gsoMaxBytes: changes.gsoMaxBytes,
    familySpecific: mode === undefined ? undefined : { inet6: { addressGenerationMode: mode } },
  };
}
