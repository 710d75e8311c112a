/**
 * The other end of a veth, wherever it is: rtnetlink tells its index and the id of its namespace, and names and processes lead to a namespace
 * that can be entered. Nothing here keeps a namespace open beyond the call: that would keep it alive after its owner has deleted it.
 */
import { readdirSync, statSync } from 'node:fs';
import { CloneFlag, type FileDescriptor, Open, open, SystemError, setns } from '../../host/sys/index.ts';
import { fields, type Link, type Message, policy } from '../../netlink/index.ts';
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

/** Where namespaces were found, by their ids in this one: searching all processes costs a thousand times what trying the same place again does. */
const foundAt = new Map<number, string>();
const MOST_PLACES = 1024;
const NAMED = /^\/run\/netns\//;

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
  const path = placeOf(linkNamespaceId);
  if (path === undefined) return undefined;
  const within = <T>(action: () => T): T => inNamespace(path, action);
  try {
    const namespace = path.replace(NAMED, '');
    const enter = namespace === path ? `nsenter --net=${path} ` : `ip netns exec ${namespace} `;
    return { name: within(() => nameOf(index)), index, namespace, enter, within };
  } catch (error) {
    // It went meanwhile; and without the privilege to enter its namespace the peer is as good as not found.
    if (error instanceof NoInterfaceError || (error instanceof SystemError && error.code === 'EPERM')) return undefined;
    throw error;
  }
}

function placeOf(id: number): string | undefined {
  const known = foundAt.get(id);
  if (known !== undefined && namespaceId(known) === id) return known;
  foundAt.delete(id);
  for (const path of namespacePaths()) {
    if (namespaceId(path) !== id) continue;
    if (foundAt.size >= MOST_PLACES) foundAt.clear();
    foundAt.set(id, path);
    return path;
  }
  return undefined;
}

function nameOf(index: number): string {
  return readLink(index, 'find the peer of a veth').name ?? `${index}`;
}

/** Named namespaces first, then those of running processes, each once. */
function* namespacePaths(): Generator<string> {
  const seen = new Set<number>();
  const candidates = [
    ...list('/run/netns').map((name) => `/run/netns/${name}`),
    ...list('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => `/proc/${pid}/ns/net`),
  ];
  for (const path of candidates) {
    try {
      const { ino } = statSync(path);
      if (seen.has(ino)) continue;
      seen.add(ino);
    } catch {
      continue;
    }
    yield path;
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

const RTM_GETNSID = 90;
const namespacePolicy = policy({ id: [1, fields.s32()], descriptor: [3, fields.u32()] });

/** The id by which this namespace knows another (RTM_GETNSID); undefined where it cannot be asked. */
function namespaceId(path: string): number | undefined {
  let handle: FileDescriptor | undefined;
  try {
    handle = open(path, Open.RDONLY);
    const descriptor = handle.number;
    const [message] = ask({
      type: RTM_GETNSID,
      flags: 0,
      doing: `ask for the id of ${path}`,
      write(writer) {
        writer.raw(new Uint8Array(4));
        namespacePolicy.encode(writer, { descriptor });
      },
    });
    return message === undefined ? undefined : idIn(message);
  } catch {
    return undefined;
  } finally {
    handle?.close();
  }
}

function idIn(message: Message): number | undefined {
  const RTGENMSG_END = 20;
  return namespacePolicy.decode(message.bytes, RTGENMSG_END).id;
}

function inNamespace<T>(path: string, action: () => T): T {
  const home = open('/proc/thread-self/ns/net', Open.RDONLY);
  try {
    const there = open(path, Open.RDONLY);
    try {
      setns(there.number, CloneFlag.NEWNET, `enter ${path}`);
    } finally {
      there.close();
    }
    try {
      return action();
    } finally {
      setns(home.number, CloneFlag.NEWNET, 'return to the own network namespace');
    }
  } finally {
    home.close();
  }
}
