/** What the link watch (link-watch.ts) knows of a network device, and what has changed between two looks. Pure. */
import { type Link, LinkFlag } from '../netlink/index.ts';

/** A network device as its users care about it. */
export interface LinkState {
  readonly index: number;
  readonly name: string;
  /** Administratively up. */
  readonly up: boolean;
  /** Whether there is a carrier (a peer, a cable). */
  readonly carrier: boolean;
  readonly mtuBytes: number;
  /** Six bytes for Ethernet; empty for devices without. */
  readonly macAddress: Uint8Array;
  /** Of the bridge, bond or switch that it belongs to; 0 for none. */
  readonly masterIndex: number;
  /** What it is ('veth', 'bridge', 'tun'); '' for hardware and others that do not say. */
  readonly kind: string;
  /** ARPHRD_*: 1 for Ethernet, 772 for loopback. */
  readonly hardwareType: number;
}

/** The properties that can change while the device lives. */
export type LinkProperty = 'name' | 'up' | 'carrier' | 'mtuBytes' | 'macAddress' | 'masterIndex';

/** Where a device has gone that left its network namespace for another. */
export interface MovedTo {
  /** Its index there. */
  readonly index: number;
  /** The id by which the namespace that it left knows the other one. */
  readonly namespaceId: number;
}

/** Something happened to a device. */
export type LinkEvent =
  | { readonly type: 'added'; readonly link: LinkState }
  | {
      readonly type: 'removed';
      readonly link: LinkState;
      /** Where it was moved; null when it is no more. Absent where that was not told. */
      readonly movedTo?: MovedTo | null;
    }
  | {
      readonly type: 'changed';
      readonly link: LinkState;
      readonly previous: LinkState;
      /** At least one. */
      readonly changes: readonly LinkProperty[];
    };

/** Take from rtnetlink's link what counts; an absent attribute gives its neutral value. */
export function linkState(link: Link): LinkState {
  return {
    index: link.index,
    name: link.name ?? '',
    up: (link.flags & LinkFlag.UP) !== 0,
    carrier: link.carrier === undefined ? (link.flags & LinkFlag.LOWER_UP) !== 0 : link.carrier !== 0,
    mtuBytes: link.mtuBytes ?? 0,
    macAddress: link.macAddress ?? new Uint8Array(0),
    masterIndex: link.masterIndex ?? 0,
    kind: link.info?.kind ?? '',
    hardwareType: link.hardwareType,
  };
}

const plainProperties = ['name', 'up', 'carrier', 'mtuBytes', 'masterIndex'] as const;

/** Which properties differ. */
export function changedProperties(before: LinkState, after: LinkState): LinkProperty[] {
  const changes: LinkProperty[] = plainProperties.filter((property) => before[property] !== after[property]);
  if (Buffer.compare(before.macAddress, after.macAddress) !== 0) changes.push('macAddress');
  return changes;
}

/** The devices of a namespace by index, kept up to date by what is seen of them. */
export class LinkTable {
  readonly #links = new Map<number, LinkState>();

  get links(): ReadonlyMap<number, LinkState> {
    return this.#links;
  }

  /** A device exists, in this state. @returns the event that this is, or null when nothing changed */
  see(link: LinkState): LinkEvent | null {
    const previous = this.#links.get(link.index);
    this.#links.set(link.index, link);
    if (previous === undefined) return { type: 'added', link };
    const changes = changedProperties(previous, link);
    return changes.length === 0 ? null : { type: 'changed', link, previous, changes };
  }

  /**
   * A device is gone.
   * @param movedTo where it is now, null when it is no more; left out where that is not known
   * @returns the event, or null when it was not known
   */
  lose(index: number, movedTo?: MovedTo | null): LinkEvent | null {
    const link = this.#links.get(index);
    if (link === undefined) return null;
    this.#links.delete(index);
    return movedTo === undefined ? { type: 'removed', link } : { type: 'removed', link, movedTo };
  }

  /**
   * Much was looked at afresh, while devices came and went, so that some may be missing.
   * @param find a device by its index, or null when there is none
   * @returns what has happened meanwhile
   */
  update(links: readonly LinkState[], find: (index: number) => LinkState | null): LinkEvent[] {
    const present = new Set(links.map((link) => link.index));
    const missing = [...this.#links.keys()].filter((index) => !present.has(index)).map(find);
    return this.replace([...missing.filter((link) => link !== null), ...links]);
  }

  /** Everything was looked at afresh. @returns what has happened meanwhile, removals first */
  replace(links: readonly LinkState[]): LinkEvent[] {
    const present = new Set(links.map((link) => link.index));
    const lost = [...this.#links.keys()].filter((index) => !present.has(index)).map((index) => this.lose(index));
    const seen = links.map((link) => this.see(link));
    return [...lost, ...seen].filter((event) => event !== null);
  }
}
