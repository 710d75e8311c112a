/**
 * Finds an interface that has left its network namespace for another. Its index may be another there, its name too: what stays is its MAC address,
 * unless somebody has changed it, and then the one that it was made with.
 */
import { NetworkNamespace, SystemError, withRouteClient } from '../../../host/index.ts';
import type { Link } from '../../../netlink/index.ts';

/** Where an interface may be. */
export interface MovedInterface {
  readonly index: number;
  readonly name: string;
  /** Of its network namespace, for people. */
  readonly label: string;
  /** Do something in that namespace, as long as it is there. @throws SystemError */
  within(action: () => void): void;
}

export interface MovedQuery {
  /** MAC address as hex digits. */
  readonly address: string;
  readonly formerIndex: number;
  /** The index that it has now, where that is known. */
  readonly index: number | undefined;
  /** Whether an interface with these flags can be the one. */
  isSuspect(flags: number): boolean;
}

/** These have the address of another interface, which they stand on or which belongs to them. */
const BORROWING = ['vlan', 'macvlan', 'macvtap', 'ipvlan', 'ipvtap', 'bridge', 'bond', 'team'];

/**
 * Look for an interface in all network namespaces that can be found.
 * @returns the one; several where the address alone does not tell; none when it is gone, as far as can be told
 */
export function findMoved(query: MovedQuery): MovedInterface[] {
  const found: MovedInterface[] = [];
  for (const namespace of NetworkNamespace.all()) {
    for (const link of linksIn(namespace)) if (fits(link, query)) found.push(placeOf(link, namespace));
  }
  const exact = found.filter(({ index }) => index === query.formerIndex);
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

function fits(link: Link, { address, index, isSuspect }: MovedQuery): boolean {
  const addresses = [link.macAddress, link.permanentAddress].map((bytes) => Buffer.from(bytes ?? []).toString('hex'));
  if (!addresses.includes(address) || !isSuspect(link.flags)) return false;
  return index === undefined ? !BORROWING.includes(link.info?.kind ?? '') : link.index === index;
}

function placeOf(link: Link, { label }: NetworkNamespace): MovedInterface {
  const within = (action: () => void): void => {
    const again = NetworkNamespace.byPath(label);
    try {
      again.run(action);
    } finally {
      again.close();
    }
  };
  return { index: link.index, name: link.name ?? `${link.index}`, label, within };
}
