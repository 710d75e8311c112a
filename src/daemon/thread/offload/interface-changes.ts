/**
 * What is changed about an interface for the sake of its programs, and is changed back when these go: it is set up, it is made promiscuous (the
 * packet socket's own membership ends with the process, and a network card then takes only what is sent to itself), and GRO is turned on at
 * the peer of a veth. What was so already is somebody else's, and stays.
 *
 * Each change is noted before it is made, so that a process that is killed leaves nothing that the next one does not know of. An interface that has left for
 * another network namespace is followed there. Neighbours: links-manifest.ts is where notes outlive the process; port-offloads.ts has them made
 * and taken back.
 */
import { Errno, SystemError, withRouteClient } from '../../../host/index.ts';
import { LinkFlag } from '../../../netlink/index.ts';
import { undoXdpTarget, xdpTarget } from '../../../offload/index.ts';
import { findMoved } from './moved-interface.ts';

/** `up`; `promiscuous`: the flag that `ip link` shows; `gro`: at the peer, so that XDP can send to the interface. */
export const CHANGES = ['up', 'promiscuous', 'gro'] as const;
export type Change = (typeof CHANGES)[number];

/** The changes of one interface. */
export interface NotedChanges {
  readonly ifindex: number;
  /** Its MAC address as hex digits: an index alone may mean another interface later. */
  readonly address: string;
  readonly changes: readonly Change[];
}

interface Made {
  address: string;
  /** Whether this process has made it. */
  readonly changes: Map<Change, boolean>;
}

/** The changes of all interfaces. All methods are called in the network namespace of these. */
export class InterfaceChanges {
  readonly #made = new Map<number, Made>();
  readonly #save: () => void;

  /**
   * @param save called when `noted` has changed
   * @param left what a former process has noted
   */
  constructor(save: () => void, left: readonly NotedChanges[] = []) {
    this.#save = save;
    for (const { ifindex, address, changes } of left) {
      this.#made.set(ifindex, { address, changes: new Map(changes.map((change) => [change, false])) });
    }
  }

  /** What is to be changed back. */
  get noted(): NotedChanges[] {
    return [...this.#made].map(([ifindex, { address, changes }]) => ({
      ifindex,
      address,
      changes: [...changes.keys()],
    }));
  }

  /** Interfaces that were changed. */
  get interfaces(): number[] {
    return [...this.#made.keys()];
  }

  /**
   * Change something about an interface, unless it is so already.
   * @throws Error with the reason when it cannot be; then it is not noted
   */
  make(ifindex: number, change: Change): void {
    if (MEANS[change].isSo(ifindex)) return;
    // What is noted of an interface that had this index before concerns that one.
    if (this.#made.get(ifindex)?.address !== addressOf(ifindex)) this.gone(ifindex);
    const known = this.#made.get(ifindex);
    const isNoted = known?.changes.has(change) === true;
    if (!isNoted) {
      const made = known ?? { address: addressOf(ifindex) ?? '', changes: new Map<Change, boolean>() };
      made.changes.set(change, true);
      this.#made.set(ifindex, made);
      this.#save();
    }
    try {
      MEANS[change].make(ifindex);
    } catch (error) {
      if (!isNoted) this.#forget(ifindex, change);
      throw error;
    }
  }

  /**
   * Change something back. What was not changed is no error; of an interface that is not here it stays noted until {@link gone} tells where it is.
   * @throws SystemError; it stays noted then
   */
  takeBack(ifindex: number, change: Change): void {
    const made = this.#made.get(ifindex);
    if (made?.changes.has(change) !== true || addressOf(ifindex) !== made.address) return;
    takeBackHere(ifindex, change);
    this.#forget(ifindex, change);
  }

  /**
   * An interface is not here any more: change back what stays with it wherever it goes.
   * @param movedTo its index in another network namespace; null when it is no more, undefined where that is not known
   * @returns what remains changed, a sentence each
   */
  gone(ifindex: number, movedTo?: number | null): string[] {
    const made = this.#made.get(ifindex);
    if (made === undefined) return [];
    this.#made.delete(ifindex);
    this.#save();
    if (movedTo === null) return [];
    const { address, changes } = made;
    return takeBackElsewhere({ ifindex, address, changes: [...changes.keys()] }, movedTo);
  }

  /** Somebody else has changed it back: it is theirs to change from now on. */
  leave(ifindex: number, change: Change): void {
    if (this.#made.get(ifindex)?.changes.has(change) === true) this.#forget(ifindex, change);
  }

  /** Change everything about an interface back. @throws SystemError */
  takeAllBack(ifindex: number): void {
    for (const change of CHANGES) this.takeBack(ifindex, change);
  }

  /** Change back what this process has changed, so that what a former one did remains. @throws SystemError */
  takeOwnBack(ifindex: number): void {
    const made = this.#made.get(ifindex);
    for (const change of CHANGES) if (made?.changes.get(change) === true) this.takeBack(ifindex, change);
  }

  /** The interface may have another MAC address now. */
  readdress(ifindex: number): void {
    const made = this.#made.get(ifindex);
    const address = addressOf(ifindex);
    if (made === undefined || address === null || made.address === address) return;
    made.address = address;
    this.#save();
  }

  #forget(ifindex: number, change: Change): void {
    const made = this.#made.get(ifindex);
    made?.changes.delete(change);
    if (made?.changes.size === 0) this.#made.delete(ifindex);
    this.#save();
  }
}

/** The MAC address of an interface as hex digits; null when there is none of this index. */
export function addressOf(ifindex: number): string | null {
  const link = withRouteClient((client) => client.findLink(ifindex));
  return link?.macAddress === undefined ? null : Buffer.from(link.macAddress).toString('hex');
}

/**
 * Change back what somebody has noted, here or where the interface is now.
 * @returns what remains changed, a sentence each
 * @throws SystemError
 */
export function takeBackNoted(noted: NotedChanges): string[] {
  const { ifindex, address, changes } = noted;
  if (addressOf(ifindex) !== address) return takeBackElsewhere(noted);
  for (const change of changes) takeBackHere(ifindex, change);
  return [];
}

/** Change something back at an interface of this network namespace. @throws SystemError */
function takeBackHere(ifindex: number, change: Change): void {
  try {
    MEANS[change].takeBack(ifindex);
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== Errno.ENODEV) throw error;
  }
}

/** What goes with an interface into another network namespace; there it comes down, whatever it was. */
const LASTING: readonly Change[] = ['promiscuous', 'gro'];

/** @param index that it has there, where that is known */
function takeBackElsewhere({ ifindex, address, changes }: NotedChanges, index?: number): string[] {
  const lasting = LASTING.filter((change) => changes.includes(change));
  if (lasting.length === 0) return [];
  const isSuspect = (flags: number) => !lasting.includes('promiscuous') || (flags & LinkFlag.PROMISC) !== 0;
  const found = findMoved({ address, formerIndex: ifindex, index, isSuspect });
  if (found.length === 1) {
    const [{ index: there, within }] = found;
    try {
      within(() => {
        for (const change of lasting) takeBackHere(there, change);
      });
      return [];
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
    }
  }
  return found.map(
    ({ name, label }) =>
      `interface ${name} in network namespace ${label} may have been made promiscuous by Millrace: ip link set dev ${name} promisc off`,
  );
}

interface Means {
  isSo(ifindex: number): boolean;
  make(ifindex: number): void;
  takeBack(ifindex: number): void;
}

const flag = (name: 'up' | 'promiscuous', bit: number): Means => ({
  // What the kernel tells of promiscuous mode is what was set here, not what sockets have asked for.
  isSo: (ifindex) => withRouteClient((client) => (client.link(ifindex).flags & bit) !== 0),
  make: (ifindex) => withRouteClient((client) => client.changeLink(ifindex, { [name]: true })),
  takeBack: (ifindex) => withRouteClient((client) => client.changeLink(ifindex, { [name]: false })),
});

const MEANS: Readonly<Record<Change, Means>> = {
  up: flag('up', LinkFlag.UP),
  promiscuous: flag('promiscuous', LinkFlag.PROMISC),
  gro: {
    isSo: (ifindex) => xdpTarget(ifindex, false).possible,
    make(ifindex) {
      const target = xdpTarget(ifindex, true);
      if (!target.possible) throw new Error(target.reason);
    },
    takeBack: undoXdpTarget,
  },
};
