/**
 * The pair of devices by which the kernel hands packets up: eBPF programs on the ports send a packet to the outer end with
 * bpf_redirect_peer, and it appears, whole, at the inner end in a private network namespace, where punt-channel.ts has a ring.
 *
 *      port --program--> outer end (namespace of the ports) ... inner end (private namespace) --> ring
 *
 * No packet ever crosses the pair itself. The private namespace has no address and no other device, so that no stack answers there. It is kept
 * by a file when the pair is to outlive the process, so that programs that go on working have somewhere to send misses to.
 */
import { dirname } from 'node:path';
import { type InterfaceIndex, toInterfaceIndex } from '../net/index.ts';
import { type Link, LinkFlag, NlmFlag, type Request, writeLink } from '../netlink/index.ts';
import { createNamespaceAt, deleteNamespaceAt, keepsNamespace } from './namespace.ts';
import { ForeignFileError, makeSafeFolder } from './own-files.ts';
import { withRouteClient } from './route-client.ts';
import { Errno, NetworkNamespace, SystemError } from './sys/index.ts';

/** The inner end's name, in its own namespace. */
export const INNER_NAME = 'punt';

/**
 * The inner end's number. Numbers count in each namespace for itself, so that one chosen by the kernel would be some port's, too, and frames
 * that the inner end really receives could be taken for that port's.
 */
export const INNER_INDEX = 0x7fff_0000;

const RTM_NEWLINK = 16;
const ADDRESS_MODE_NONE = 1;
// The kernel takes away the pair of a process that died some tens of milliseconds later.
const VANISH_TIMEOUT_MS = 3000;
const VANISH_STEP_MS = 20;

/** A pair that exists. */
export interface PuntPair {
  /** Interface index of the outer end, which programs redirect to. */
  readonly outerIndex: InterfaceIndex;
  /** The private namespace, open. */
  readonly namespace: NetworkNamespace;
  /** It was there already. */
  readonly adopted: boolean;
}

/**
 * Find the pair, or make it.
 * @param name of the outer end, in the calling thread's namespace
 * @param path of the file that keeps the private namespace; null when the process alone shall
 * @throws SystemError EEXIST when another interface has the name; EPERM
 */
export function openPuntPair(name: string, path: string | null): PuntPair {
  const { namespace, isNew } = path === null ? { namespace: makePrivate(), isNew: true } : openKept(path);
  try {
    const existing = isNew ? null : findPair(name, namespace, path ?? '');
    const outerIndex = existing ?? makePair(name, namespace, 0);
    settle(name, outerIndex, namespace);
    return { outerIndex: toInterfaceIndex(outerIndex), namespace, adopted: existing !== null };
  } catch (error) {
    namespace.close();
    if (path !== null && isNew) deleteNamespaceAt(path);
    throw error;
  }
}

/**
 * Whether the outer end is where programs send to. The calling thread is in the namespace of the ports.
 * @returns 'gone' when it is no more, or in another namespace; 'down' when it was set down
 * @throws SystemError
 */
export function stateOfPuntPair({ outerIndex }: PuntPair): 'up' | 'down' | 'gone' {
  const outer = withRouteClient((client) => client.findLink(outerIndex));
  if (outer === null || !isOuter(outer)) return 'gone';
  return (outer.flags & LinkFlag.UP) === 0 ? 'down' : 'up';
}

/** Set up both ends again, as they are when the pair is made. @throws SystemError */
export function settlePuntPair(name: string, { outerIndex, namespace }: PuntPair): void {
  settle(name, outerIndex, namespace);
}

/**
 * Make the pair anew of which an end is gone, under the same number: programs that send to it need not be changed. What is left of it goes first. The
 * calling thread is in the namespace of the ports.
 * @throws SystemError: EBUSY when another interface has the number by now, EEXIST when one has the name
 */
export function renewPuntPair(name: string, { outerIndex, namespace }: PuntPair): void {
  namespace.run(() =>
    withRouteClient((client) => {
      if (client.findLink(INNER_INDEX) !== null) client.deleteLink(INNER_INDEX);
    }),
  );
  makePair(name, namespace, outerIndex);
  settle(name, outerIndex, namespace);
}

/** Remove the pair for good. What is gone already is no error. */
export function removePuntPair(pair: PuntPair, path: string | null): void {
  // By the inner end, which is found from whatever namespace the calling thread is in; the other goes with it.
  pair.namespace.run(() =>
    withRouteClient((client) => {
      if (client.findLink(INNER_INDEX) !== null) client.deleteLink(INNER_INDEX);
    }),
  );
  pair.namespace.close();
  if (path !== null) deleteNamespaceAt(path);
}

/**
 * Remove a pair of an earlier process that nobody adopts.
 * @param path of the file that kept its namespace
 * @returns whether there was one
 * @throws SystemError
 */
export function removeLeftPuntPair(name: string, path: string): boolean {
  let found = false;
  withRouteClient((client) => {
    const outer = client.findLink(name);
    if (outer === null || !isOuter(outer)) return;
    client.deleteLink(outer.index);
    found = true;
  });
  return deleteNamespaceAt(path) || found;
}

function makePrivate(): NetworkNamespace {
  return NetworkNamespace.make('for punted packets');
}

function openKept(path: string): { namespace: NetworkNamespace; isNew: boolean } {
  const kept = findKept(path);
  if (kept !== null) return { namespace: kept, isNew: false };
  makeSafeFolder(dirname(path));
  createNamespaceAt(path);
  return { namespace: NetworkNamespace.byPath(path), isNew: true };
}

/** The namespace that a file keeps. A file that keeps none, as a restart of the machine leaves it, is removed. */
function findKept(path: string): NetworkNamespace | null {
  const keeps = keepsNamespace(path);
  if (keeps === true) return NetworkNamespace.byPath(path);
  if (keeps === false) deleteNamespaceAt(path);
  return null;
}

/**
 * @returns the outer end's index, or null when the pair is not whole; what there is of it is removed then
 * @throws ForeignFileError when the file keeps the pair of another daemon
 */
function findPair(name: string, namespace: NetworkNamespace, path: string): number | null {
  const inner = namespace.run(() => withRouteClient((client) => client.findLink(INNER_INDEX)));
  const outer = withRouteClient((client) => client.findLink(name));
  if (inner === null) return null;
  // One that was killed before it had settled has no alias yet.
  if ((inner.alias ?? '') !== '' && inner.alias !== aliasOf(name)) {
    throw new ForeignFileError(path, `keeps the network namespace of another daemon (${inner.alias})`);
  }
  if (outer !== null && isOuter(outer) && inner.linkedIndex === outer.index) return outer.index;
  namespace.run(() => withRouteClient((client) => client.deleteLink(INNER_INDEX)));
  return null;
}

function isOuter(link: Link): boolean {
  return link.info?.kind === 'veth' && link.linkedIndex === INNER_INDEX;
}

/** @param index number of the outer end; 0 for any */
function makePair(name: string, namespace: NetworkNamespace, index: number): number {
  const home = NetworkNamespace.current();
  try {
    // The kernel takes a number for the other end only where the first has one.
    const outer = { index, name, namespaceDescriptor: home.fileDescriptor };
    const request: Request = {
      type: RTM_NEWLINK,
      flags: NlmFlag.CREATE | NlmFlag.EXCL,
      doing: `make the punt device ${name}`,
      write: (writer) =>
        writeLink(writer, { index: INNER_INDEX, name: INNER_NAME, info: { kind: 'veth', peer: outer } }),
    };
    namespace.run(() => makeWhenFree(request, name, home));
    return withRouteClient((client) => client.link(name).index);
  } finally {
    home.close();
  }
}

function makeWhenFree(request: Request, name: string, home: NetworkNamespace): void {
  const deadline = performance.now() + VANISH_TIMEOUT_MS;
  for (;;) {
    try {
      withRouteClient((client) => client.request(request));
      return;
    } catch (error) {
      if (!(error instanceof SystemError) || error.errno !== Errno.EEXIST) throw error;
      const other = home.run(() => withRouteClient((client) => client.findLink(name)));
      if (other === null) continue;
      if (!isOuter(other) || performance.now() > deadline) {
        const advice =
          'another interface has this name; if a Millrace that is not running left it, delete it (ip link delete)';
        throw new SystemError('rtnetlink', Errno.EEXIST, request.doing, advice);
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, VANISH_STEP_MS);
    }
  }
}

/** Tells the pairs of several daemons apart, and what they are for. */
function aliasOf(name: string): string {
  return `Millrace: packets for the engine of ${name}`;
}

/** Both ends up and silent: no address of their own making, no ARP. */
function settle(name: string, outerIndex: number, namespace: NetworkNamespace): void {
  const quiet = { ipv6AddressGenerationMode: ADDRESS_MODE_NONE, arp: false };
  const wake = (index: number) =>
    withRouteClient((client) => {
      client.changeLink(index, { ...quiet, alias: aliasOf(name) });
      client.changeLink(index, { up: true });
    });
  wake(outerIndex);
  namespace.run(() => wake(INNER_INDEX));
}
