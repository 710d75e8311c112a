/**
 * Finds an interface that has left its network namespace for another. The kernel tells a listener the id of that namespace and the index there;
 * nobody has told a process that was not there then, which looks everywhere: the index may be another, the name too, and what stays is the MAC
 * address, unless somebody has changed it, and then the one that it was made with.
 */
import {
  Errno,
  type MovedTo,
  NamespaceFinder,
  NetworkNamespace,
  SystemError,
  withRouteClient,
} from '../../host/index.ts';
import { getNamespaceId, type Link, parseNamespaceId } from '../../netlink/index.ts';

/** Where an interface is, or may be. */
export interface MovedInterface {
  readonly index: number;
  readonly name: string;
  /** Of its network namespace, for people. */
  readonly label: string;
  /** Do something in that namespace, as long as it is there and the interface in it. @throws SystemError */
  within(action: () => void): void;
}

/** These have the address of another interface, which they stand on or which belongs to them. */
const BORROWING = ['vlan', 'macvlan', 'macvtap', 'ipvlan', 'ipvtap', 'bridge', 'bond', 'team'];

const finder = new NamespaceFinder({
  idOf(descriptor) {
    try {
      return parseNamespaceId(withRouteClient((client) => client.request(getNamespaceId(descriptor)))[0]);
    } catch (error) {
      if (error instanceof SystemError) return undefined;
      throw error;
    }
  },
});

/**
 * Find an interface where the kernel has said that it went. No other namespace is entered.
 * @param address MAC address as hex digits
 * @returns null when it has left that namespace, too, or is no more
 * @throws SystemError when that namespace cannot be found or entered from here
 */
export function findMovedTo(address: string, { index, namespaceId }: MovedTo): MovedInterface | null {
  // It has just come there.
  finder.news();
  const namespace = finder.open(namespaceId);
  if (namespace === null) throw new SystemError('setns', Errno.ENOENT, 'find a network namespace by its id');
  const { label, identity } = namespace;
  try {
    const link = namespace.run(() => withRouteClient((client) => client.findLink(index)));
    return link !== null && hasAddress(link, address) ? placeOf(link, address, label, identity) : null;
  } finally {
    namespace.close();
  }
}

export interface MovedQuery {
  /** MAC address as hex digits. */
  readonly address: string;
  readonly formerIndex: number;
  /** Whether an interface with these flags can be the one. */
  isSuspect(flags: number): boolean;
}

/**
 * Look for an interface in all network namespaces that can be found, which may take seconds where there are many.
 * @returns the one; several where the address alone does not tell; none when it is gone, as far as can be told
 */
export function searchMoved({ address, formerIndex, isSuspect }: MovedQuery): MovedInterface[] {
  const found: MovedInterface[] = [];
  for (const namespace of NetworkNamespace.all()) {
    const { label, identity } = namespace;
    for (const link of linksIn(namespace)) {
      if (BORROWING.includes(link.info?.kind ?? '') || !isSuspect(link.flags) || !hasAddress(link, address)) continue;
      found.push(placeOf(link, address, label, identity));
    }
  }
  const exact = found.filter(({ index }) => index === formerIndex);
  return exact.length === 1 ? exact : found;
}

function linksIn(namespace: NetworkNamespace): Link[] {
  try {
    return namespace.run(() => withRouteClient((client) => client.linksAsFarAsKnown().links));
  } catch (error) {
    // Not to be entered by us.
    if (error instanceof SystemError) return [];
    throw error;
  }
}

function hasAddress(link: Link, address: string): boolean {
  return [link.macAddress, link.permanentAddress].some((bytes) => Buffer.from(bytes ?? []).toString('hex') === address);
}

function placeOf(link: Link, address: string, label: string, identity: string): MovedInterface {
  const { index } = link;
  const within = (action: () => void): void => {
    const again = NetworkNamespace.byPath(label);
    try {
      // The path may lead to the namespace of another process by now.
      if (again.identity !== identity) throw new SystemError('setns', Errno.ENOENT, `enter network namespace ${label}`);
      again.run(() => {
        const there = withRouteClient((client) => client.findLink(index));
        if (there === null || !hasAddress(there, address)) {
          throw new SystemError('rtnetlink', Errno.ENODEV, `find interface ${index} in network namespace ${label}`);
        }
        action();
      });
    } finally {
      again.close();
    }
  };
  return { index, name: link.name ?? `${index}`, label, within };
}
