/**
 * What is changed about an interface for the sake of its programs, and is changed back when these go: it is set up, it is made promiscuous (the
 * packet socket's own membership ends with the process, and a network card then takes only what is sent to itself), and GRO is turned on at
 * the peer of a veth. What was so already is somebody else's, and stays.
 *
 * Each change is noted before it is made, so that a process that is killed leaves nothing that the next one does not know of. An interface that has left for
 * another network namespace is followed there. Neighbours: left/links-manifest.ts is where notes outlive the process; ports.ts has them made
 * and taken back.
 */
import { Errno, type MovedTo, SystemError, withRouteClient } from '../../host/index.ts';
import { LinkFlag } from '../../netlink/index.ts';
import { undoXdpTarget, xdpTarget } from '../../offload/index.ts';
import { findMovedTo, type MovedInterface, searchMoved } from './moved-interface.ts';

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

/** How many interfaces are remembered that went nobody knows where. */
const MOST_LOST = 64;

/** The changes of all interfaces. All methods are called in the network namespace of these. */
export class InterfaceChanges {
  readonly #made = new Map<number, Made>();
  readonly #save: () => void;
  /** Of interfaces that are not here any more, and of which was not told where they are. */
  readonly #lost: NotedChanges[] = [];

  /**
   * @param save called when `noted` has changed
   * @param left what a former process has noted
   */
  constructor(save: () => void, left: readonly NotedChanges[] = []) {
    this.#save = save;
    for (const one of left) {
      const { ifindex, address, changes } = one;
      if (this.#made.has(ifindex)) this.#lost.push(one);
      else this.#made.set(ifindex, { address, changes: new Map(changes.map((change) => [change, false])) });
    }
  }

  /** What is to be changed back. */
  get noted(): NotedChanges[] {
    const here = [...this.#made].map(([ifindex, { address, changes }]) => ({
      ifindex,
      address,
      changes: [...changes.keys()],
    }));
    return [...here, ...this.#lost];
  }

  /** Interfaces that were changed. */
  get interfaces(): number[] {
    return [...this.#made.keys()];
  }

  /**
   * Change something about an interface, unless it is so already.
   * @returns what remains changed about an interface that had this index before, a sentence each
   * @throws Error with the reason when it cannot be; then it is not noted
   */
  make(ifindex: number, change: Change): string[] {
    this.#reclaim(ifindex);
    if (MEANS[change].isSo(ifindex)) return [];
    // What is noted of an interface that had this index before concerns that one.
    const remains = this.#made.get(ifindex)?.address === addressOf(ifindex) ? [] : this.gone(ifindex);
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
    return remains;
  }

  /** Change something about an interface for good: nobody changes it back. @throws Error with the reason when it cannot be */
  makeForGood(ifindex: number, change: Change): void {
    if (!MEANS[change].isSo(ifindex)) MEANS[change].make(ifindex);
  }

  /** An interface has no link: where somebody has set it down, it is theirs to set up and down from now on. @throws SystemError */
  lostLink(ifindex: number): void {
    if (this.#made.get(ifindex)?.changes.has('up') === true && !MEANS.up.isSo(ifindex)) this.#forget(ifindex, 'up');
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
   * An interface is not here any more: change back what stays with it wherever it goes. Where that is not known, it stays noted until
   * {@link seekLost}, as looking everywhere takes long.
   * @param movedTo where it is; null when it is no more, undefined where that is not known
   * @returns what remains changed, a sentence each
   */
  gone(ifindex: number, movedTo?: MovedTo | null): string[] {
    const noted = this.#take(ifindex);
    if (noted === null) return [];
    const remains = movedTo === null ? [] : this.#follow(noted, movedTo);
    this.#save();
    return remains;
  }

  #follow(noted: NotedChanges, movedTo: MovedTo | undefined): string[] {
    const lasting = lastingOf(noted);
    if (lasting.length === 0) return [];
    if (movedTo !== undefined) {
      try {
        const there = findMovedTo(noted.address, movedTo);
        if (there !== null) return takeBackThere(there, lasting);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        const who = `the interface with the MAC address ${colons(noted.address)}, which has left for a network namespace that cannot be entered from here,`;
        return lasting.map((change) => REMAINS[change](who, 'INTERFACE'));
      }
    }
    this.#lost.push(noted);
    const given = this.#lost.length > MOST_LOST ? this.#lost.shift() : undefined;
    if (given === undefined) return [];
    const who = `the interface with the MAC address ${colons(given.address)}, which has left for another network namespace,`;
    return lastingOf(given).map((change) => REMAINS[change](who, 'INTERFACE'));
  }

  /** One that was lost is here again, whatever its index is now. */
  #reclaim(ifindex: number): void {
    if (this.#lost.length === 0 || this.#made.has(ifindex)) return;
    const at = this.#lost.findIndex(({ address }) => address === addressOf(ifindex));
    if (at === -1) return;
    const [{ address, changes }] = this.#lost.splice(at, 1);
    this.#made.set(ifindex, { address, changes: new Map(changes.map((change) => [change, true])) });
    this.#save();
  }

  #take(ifindex: number): NotedChanges | null {
    const made = this.#made.get(ifindex);
    if (made === undefined) return null;
    this.#made.delete(ifindex);
    return { ifindex, address: made.address, changes: [...made.changes.keys()] };
  }

  /**
   * An interface is not here any more, and nothing is known about where it went: look everywhere. It may take seconds, and is for the begin and
   * the end of a process.
   * @returns what remains changed, a sentence each
   */
  seek(ifindex: number): string[] {
    const noted = this.#take(ifindex);
    if (noted === null) return [];
    this.#save();
    return takeBackElsewhere(noted);
  }

  /** {@link seek} for all that went while this process ran. */
  seekLost(): string[] {
    const lost = this.#lost.splice(0);
    if (lost.length > 0) this.#save();
    return lost.flatMap(takeBackElsewhere);
  }

  /** Somebody else has changed it back: it is theirs to change from now on. */
  leave(ifindex: number, change: Change): void {
    if (this.#made.get(ifindex)?.changes.has(change) === true) this.#forget(ifindex, change);
  }

  /**
   * Change back what was changed about an interface.
   * @param which of all changes; left out, all
   * @throws SystemError when all is tried; what could not be changed back stays noted
   */
  takeAllBack(ifindex: number, which: (change: Change) => boolean = () => true): void {
    tryEach(CHANGES.filter(which), (change) => this.takeBack(ifindex, change));
  }

  /** Change back what this process has changed, so that what a former one did remains. @throws as {@link takeAllBack} */
  takeOwnBack(ifindex: number): void {
    const made = this.#made.get(ifindex);
    this.takeAllBack(ifindex, (change) => made?.changes.get(change) === true);
  }

  /** The interface may have another MAC address now. */
  readdress(ifindex: number): void {
    const made = this.#made.get(ifindex);
    if (made === undefined) return;
    const address = addressOf(ifindex);
    if (address === null || made.address === address) return;
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
 * @throws SystemError when all is tried
 */
export function takeBackNoted(notes: readonly NotedChanges[]): string[] {
  const remains: string[] = [];
  tryEach(notes, (noted) => {
    const { ifindex, address, changes } = noted;
    if (addressOf(ifindex) !== address) remains.push(...takeBackElsewhere(noted));
    else tryEach(changes, (change) => takeBackHere(ifindex, change));
  });
  return remains;
}

/** Do something with each, whatever becomes of the others. @throws what the first that failed has thrown, when all are tried */
export function tryEach<T>(things: Iterable<T>, act: (thing: T) => void): void {
  const thrown: unknown[] = [];
  for (const thing of things) {
    try {
      act(thing);
    } catch (error) {
      thrown.push(error);
    }
  }
  if (thrown.length > 0) throw thrown[0];
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
const LASTING = ['promiscuous', 'gro'] as const;
type Lasting = (typeof LASTING)[number];

/** What to say where a change remains. */
const REMAINS: Readonly<Record<Lasting, (who: string, name: string) => string>> = {
  promiscuous: (who, name) => `${who} may have been made promiscuous by Millrace: ip link set dev ${name} promisc off`,
  gro: (who) =>
    `GRO may have been turned on by Millrace at the other end of ${who.replace(/,$/, '')}: ethtool -K PEER gro off`,
};

function lastingOf({ changes }: NotedChanges): Lasting[] {
  return LASTING.filter((change) => changes.includes(change));
}

function colons(address: string): string {
  return address.replace(/..\B/g, '$&:');
}

/** Look everywhere. An address alone means little: it must be promiscuous, too, which of two with the same address mostly one is. */
function takeBackElsewhere(noted: NotedChanges): string[] {
  const lasting = lastingOf(noted);
  if (!lasting.includes('promiscuous')) return [];
  const { address, ifindex: formerIndex } = noted;
  const found = searchMoved({ address, formerIndex, isSuspect: (flags) => (flags & LinkFlag.PROMISC) !== 0 });
  if (found.length === 1) return takeBackThere(found[0], lasting);
  return found.flatMap((one) => remainsAt(one, ['promiscuous']));
}

function takeBackThere(there: MovedInterface, lasting: readonly Lasting[]): string[] {
  try {
    there.within(() => {
      for (const change of lasting) takeBackHere(there.index, change);
    });
    return [];
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return remainsAt(there, lasting);
  }
}

function remainsAt({ name, label }: MovedInterface, lasting: readonly Lasting[]): string[] {
  return lasting.map((change) => REMAINS[change](`interface ${name} in network namespace ${label}`, name));
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
