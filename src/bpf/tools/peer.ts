/**
 * The other end of a veth, wherever it is: rtnetlink tells its index and the id of its namespace, and the finder of host/ leads to a namespace
 * that can be entered, which features are asked for in and set in.
 */
import { Errno, NAMESPACE_DIRECTORY, NamespaceFinder, SystemError } from '../../host/sys/index.ts';
import { getNamespaceId, type Link, parseNamespaceId } from '../../netlink/index.ts';
import { NoInterfaceError } from '../errors.ts';
import { readLink } from '../sys/netdev.ts';
import { ask } from '../sys/netlink.ts';

/** The other end of a veth. */
export interface Peer {
  readonly name: string;
  /** In its namespace. */
  readonly index: number;
  /** Name or path of its namespace; undefined for this one. */
  readonly namespace: string | undefined;
  /** What a command line begins with that runs in its namespace; empty for this one. */
  readonly enter: string;
  /** Do something in its namespace. */
  within<T>(action: () => T): T;
}

const NAMED = `${NAMESPACE_DIRECTORY}/`;
const finder = new NamespaceFinder({ idOf });

/** Something was said of interfaces: an end that could not be found may be found soon. */
export function newsOfPeers(): void {
  finder.news();
}

/**
 * Find the other end of a veth.
 * @param link of the calling thread's network namespace
 * @returns undefined when it has none, or is in a namespace that cannot be found or entered from here
 * @throws SystemError
 */
export function locatePeer(link: Link): Peer | undefined {
  const { linkedIndex: index, linkNamespaceId } = link;
  if (index === undefined) return undefined;
  if (linkNamespaceId === undefined) {
    return { name: nameOf(index), index, namespace: undefined, enter: '', within: (action) => action() };
  }
  const there = finder.open(linkNamespaceId);
  if (there === null) return undefined;
  try {
    const { label: path } = there;
    const isNamed = path.startsWith(NAMED);
    const namespace = isNamed ? path.slice(NAMED.length) : path;
    const enter = isNamed ? `ip netns exec ${namespace} ` : `nsenter --net=${path} `;
    const within = <T>(action: () => T): T => runIn(linkNamespaceId, action);
    return { name: there.run(() => nameOf(index)), index, namespace, enter, within };
  } catch (error) {
    // It went meanwhile; and without the privilege to enter its namespace the peer is as good as not found.
    if (error instanceof NoInterfaceError || (error instanceof SystemError && error.code === 'EPERM')) return undefined;
    throw error;
  } finally {
    there.close();
  }
}

function runIn<T>(namespaceId: number, action: () => T): T {
  const there = finder.open(namespaceId);
  if (there === null) throw new SystemError('setns', Errno.ENOENT, 'enter the namespace of the other end of a veth');
  try {
    return there.run(action);
  } finally {
    there.close();
  }
}

function nameOf(index: number): string {
  return readLink(index, 'find the peer of a veth').name ?? `${index}`;
}

/** The id by which this namespace knows another; undefined where it has none, or cannot be asked. */
function idOf(descriptor: number): number | undefined {
  try {
    const [message] = ask(getNamespaceId(descriptor));
    return message === undefined ? undefined : parseNamespaceId(message);
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}
