/**
 * What the manifest of the programs on interfaces says: in which network namespace these interfaces are, which they were, and what was
 * changed about them. Neighbours: kept.ts writes it and goes on with it; pin-place.ts takes everything back where no daemon follows.
 */
import { readlinkSync } from 'node:fs';
import { NetworkNamespace } from '../../host/index.ts';
import { type Json, leftData } from '../../offload/index.ts';
import { CHANGES, type Change, type NotedChanges, takeBackNoted } from '../ports/interface-changes.ts';

export interface LinksData {
  /** As {@link ownNamespace} has it. */
  readonly namespace: string;
  /** MAC addresses of the interfaces that have programs, by index. */
  readonly addresses: ReadonlyMap<number, string>;
  readonly changes: readonly NotedChanges[];
}

/** What tells the calling thread's network namespace from others. */
export function ownNamespace(): string {
  return readlinkSync('/proc/thread-self/ns/net');
}

export function writeLinksData({ namespace, addresses, changes }: LinksData): Json {
  return {
    namespace,
    addresses: [...addresses],
    // A bit for each, as the manifest has room for 1,024 interfaces only when they take little.
    changes: changes.map((one) => [
      one.ifindex,
      one.address,
      one.changes.reduce((bits, change) => bits | bitOf(change), 0),
    ]),
  };
}

/** The order of CHANGES is part of the manifest. */
function bitOf(change: Change): number {
  return 1 << CHANGES.indexOf(change);
}

/** @returns null when it makes no sense */
export function readLinksData(data: Json): LinksData | null {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return null;
  const { namespace, addresses, changes = [] } = data as { readonly [key: string]: Json };
  const isPair = (pair: unknown): pair is [number, string] =>
    Array.isArray(pair) && Number.isInteger(pair[0]) && typeof pair[1] === 'string';
  if (typeof namespace !== 'string' || !Array.isArray(addresses) || !addresses.every(isPair)) return null;
  if (!Array.isArray(changes)) return null;
  const noted: NotedChanges[] = [];
  for (const one of changes) {
    if (!isPair(one)) return null;
    const [ifindex, address, bits]: readonly Json[] = one;
    if (typeof ifindex !== 'number' || typeof address !== 'string' || typeof bits !== 'number') return null;
    // A later version may know more; what it does is for it to take back.
    noted.push({ ifindex, address, changes: CHANGES.filter((change) => (bits & bitOf(change)) !== 0) });
  }
  return { namespace, addresses: new Map(addresses), changes: noted };
}

/**
 * Change back what a daemon that is no more has changed about interfaces, so far as its manifest can be read. To be done while its programs are
 * still there: an interface is set down before the kernel's own stack has it again.
 * @param folder of the state of links
 * @returns what remains changed, a sentence each
 * @throws SystemError
 */
export function takeBackLeft(folder: string): string[] {
  const told = readLinksData(leftData(folder));
  if (told === null || told.changes.length === 0) return [];
  const takeBack = () => takeBackNoted(told.changes);
  if (told.namespace === ownNamespace()) return takeBack();
  // Gone with all its interfaces, where it is not found.
  const namespace = NetworkNamespace.find(told.namespace);
  try {
    return namespace?.run(takeBack) ?? [];
  } finally {
    namespace?.close();
  }
}
