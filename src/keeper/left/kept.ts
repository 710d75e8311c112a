/**
 * What the daemon leaves working in the kernel when it dies, and takes up when it starts: the programs on interfaces (one state), and the
 * tables of each flow source (a state each), all below one folder of pins (pin-place.ts).
 *
 *      <folder>/links/          links of programs on interfaces; its manifest says which these were and what was changed about them
 *      <folder>/table-<name>/   maps and programs of a flow source, by generation
 *
 * What was left and is not taken up yet goes on working. takeover.ts decides what becomes of it.
 */
import { join } from 'node:path';
import { comesOfShortage } from '../../host/index.ts';
import {
  type Attachment,
  type AttachRequest,
  type AttachResult,
  attach,
  cpuParts,
  type Description,
  type Installation,
  interfacesIn,
  type Json,
  liftShares,
  OffloadMaps,
  OffloadState,
  removeOffloadState,
  tablesLayout,
} from '../../offload/index.ts';
import { messageOf } from '../contract.ts';
import { addressOf, InterfaceChanges, tryEach } from '../ports/interface-changes.ts';
import { type LinksData, ownNamespace, readLinksData, takeBackLeft, writeLinksData } from './links-manifest.ts';
import { LINKS, tableFolderOf, tableFolders } from './pin-place.ts';

const LINKS_LAYOUT = 'links 1';

/** Puts programs on interfaces and takes them off. */
export interface ProgramHolder {
  attach(request: AttachRequest): AttachResult;
  detach(attachment: Attachment): void;
}

/** Programs that end with the process. */
export const transientHolder: ProgramHolder = { attach, detach: (attachment) => attachment.detach() };

/** What was left on one interface. */
export interface LeftPrograms {
  readonly ifindex: number;
  readonly tc: Attachment | undefined;
  readonly xdp: Attachment | undefined;
}

/** Tables that were left. */
export interface LeftTables {
  /** Name of the flow source. */
  readonly name: string;
  /** See FlowSource.returnsWith. */
  readonly returnsWith: string | null;
  readonly maps: OffloadMaps;
  readonly description: Description;
  /** Interfaces whose packets they decide about. */
  readonly interfaces: ReadonlySet<number>;
}

/** Tables that are pinned, and not yet those that the next process takes up. */
export interface PreparedTables {
  commit(): void;
  abandon(): void;
}

export class KeptState implements ProgramHolder {
  readonly folder: string;
  /** What was found and is not taken up, and why. */
  readonly refusals: string[] = [];
  /** What a former process has changed and nobody could change back. */
  readonly remains: string[] = [];
  /** Programs that were left and are not taken up yet, by interface. */
  readonly programs = new Map<number, LeftPrograms>();
  /** Tables that were left and are not taken up yet, by the name of their source. */
  readonly tables = new Map<string, LeftTables>();
  readonly #links: OffloadState;
  readonly #states = new Map<string, OffloadState>();
  /** What runs of each source, to be pinned again. */
  readonly #pinned = new Map<string, Pinned>();
  /** MAC addresses of the interfaces that have programs, by index: an index alone may mean another one later. */
  readonly #addresses = new Map<number, string>();
  /** What was changed about the interfaces. */
  readonly changes: InterfaceChanges;
  /** Interfaces that are what they were when they were left. */
  readonly interfaces = new Set<number>();
  /** Whether there was anything. */
  hasLeft = false;

  /**
   * Open what is in a folder, or begin afresh.
   * @param folder from pin-place.ts; the calling thread is in the namespace of the interfaces
   * @throws PinningError, PrivilegeError, SystemError
   */
  constructor(folder: string) {
    this.folder = folder;
    const options = { folder: join(folder, LINKS), layout: LINKS_LAYOUT };
    const takeBack = () => {
      this.remains.push(...takeBackLeft(options.folder));
    };
    const adoption = OffloadState.adopt({ ...options, beforeRemoval: takeBack });
    const told = adoption.state === null ? null : readLinksData(adoption.data);
    if (adoption.state !== null && told?.namespace === ownNamespace()) {
      this.#links = adoption.state;
      this.changes = new InterfaceChanges(() => this.#note(), told.changes);
      try {
        this.#adoptTables();
        this.#adoptLinks(told);
      } catch (error) {
        this.close();
        throw error;
      }
      this.hasLeft = this.programs.size + this.tables.size > 0;
      return;
    }
    if (adoption.state !== null) {
      const why = told === null ? 'its manifest is damaged' : 'it belongs to another network namespace';
      this.refusals.push(`what was pinned in ${options.folder} is not taken up: ${why}`);
      takeBack();
      adoption.state.removeAll();
    } else if (adoption.reason !== null) this.refusals.push(adoption.reason);
    this.#dropTables();
    this.#links = OffloadState.create(options);
    this.changes = new InterfaceChanges(() => this.#note());
    this.#note();
  }

  #adoptLinks({ addresses }: LinksData): void {
    const found = new Map<number, { tc?: Attachment; xdp?: Attachment }>();
    for (const attachment of this.#links.attachments) {
      const { ifindex, hook } = attachment;
      if (addressOf(ifindex) !== addresses.get(ifindex)) {
        this.#links.detach(attachment);
        continue;
      }
      const of = found.get(ifindex) ?? {};
      of[hook === 'xdp' ? 'xdp' : 'tc'] = attachment;
      found.set(ifindex, of);
    }
    for (const [ifindex, { tc, xdp }] of found) {
      // XDP alone would hand up to nobody.
      if (tc === undefined && xdp !== undefined) this.#links.detach(xdp);
      else this.programs.set(ifindex, { ifindex, tc, xdp });
    }
    for (const [ifindex, address] of addresses) {
      if (this.programs.has(ifindex)) this.#addresses.set(ifindex, address);
    }
    for (const ifindex of this.programs.keys()) this.interfaces.add(ifindex);
    for (const ifindex of this.changes.interfaces) {
      if (this.programs.has(ifindex)) continue;
      this.changes.takeAllBack(ifindex);
      this.remains.push(...this.changes.seek(ifindex));
    }
    this.remains.push(...this.changes.seekLost());
    this.#note();
  }

  #adoptTables(): void {
    for (const entry of tableFolders(this.folder)) {
      try {
        const reason = this.#adoptTable(join(this.folder, entry));
        if (reason !== null) this.refusals.push(reason);
      } catch (error) {
        // What cannot be looked at now is no reason to remove it.
        if (comesOfShortage(error)) throw error;
        this.refusals.push(`what was pinned in ${join(this.folder, entry)} is not taken up: ${messageOf(error)}`);
        removeOffloadState(join(this.folder, entry));
      }
    }
  }

  /** @returns why there is nothing to be taken up, when there should have been */
  #adoptTable(folder: string): string | null {
    const { state, ...rest } = OffloadState.adopt({ folder, layout: tablesLayout(cpuParts()) });
    if (state === null) return 'reason' in rest ? rest.reason : null;
    const told = readTableData('data' in rest ? rest.data : null);
    const why = told === null ? 'its manifest is damaged' : this.#openTables(told, state);
    if (told === null || why !== null) {
      state.removeAll();
      return `what was pinned in ${folder} is not taken up: ${why}`;
    }
    this.#states.set(told.name, state);
    return null;
  }

  /** @returns why they cannot be opened @throws SystemError for want of descriptors or memory */
  #openTables(told: TableData, state: OffloadState): string | null {
    try {
      const opened = OffloadMaps.open((name) => state.openMap(name, (path) => path), cpuParts());
      if ('reason' in opened) return opened.reason;
      // Until somebody counts what is worked off again, nothing that is handed up is refused.
      liftShares(opened.maps);
      this.tables.set(told.name, { ...told, ...opened, interfaces: new Set(interfacesIn(opened.maps)) });
      return null;
    } catch (error) {
      if (comesOfShortage(error)) throw error;
      return messageOf(error);
    }
  }

  // What was left.

  /** The source that took tables up has ended and may come again: they wait for it. */
  giveBackTables({ name, returnsWith }: LeftTables): void {
    const state = this.#states.get(name);
    if (state === undefined) return;
    let why: string | null;
    try {
      why = this.#openTables({ name, returnsWith }, state);
    } catch (error) {
      why = messageOf(error);
    }
    if (why === null) return;
    this.refusals.push(why);
    this.removeTables(name);
  }

  /**
   * Take programs that nobody takes up off their interface, and change back what was changed for them. The interface is changed back first: until it is,
   * its programs keep the kernel's own stack off it.
   * @param isPort the interface is a port that goes without programs: it stays up until all is removed
   * @throws SystemError; what is not done then is to be tried again
   */
  dropPrograms(ifindex: number, isPort: boolean): void {
    const left = this.programs.get(ifindex);
    if (left === undefined) return;
    this.changes.takeAllBack(ifindex, (change) => !(isPort && change === 'up'));
    if (left.xdp !== undefined) this.detach(left.xdp);
    if (left.tc !== undefined) this.detach(left.tc);
    this.programs.delete(ifindex);
  }

  // What runs.

  attach(request: AttachRequest): AttachResult {
    const result = this.#links.attach(request);
    if (result.attachment !== null) {
      const { ifindex } = result.attachment;
      const address = addressOf(ifindex);
      if (address !== null && this.#addresses.get(ifindex) !== address) {
        this.#addresses.set(ifindex, address);
        this.#note();
      }
    }
    return result;
  }

  detach(attachment: Attachment): void {
    const { ifindex } = attachment;
    this.#links.detach(attachment);
    if (this.#links.attachments.some((other) => other.ifindex === ifindex)) return;
    if (this.#addresses.delete(ifindex)) this.#note();
  }

  /** An interface may have another MAC address now. */
  readdress(ifindex: number): void {
    this.changes.readdress(ifindex);
    const before = this.#addresses.get(ifindex);
    if (before === undefined) return;
    const address = addressOf(ifindex);
    if (address === null || before === address) return;
    this.#addresses.set(ifindex, address);
    this.#note();
  }

  #note(): void {
    const { noted } = this.changes;
    this.#links.note(writeLinksData({ namespace: ownNamespace(), addresses: this.#addresses, changes: noted }));
  }

  /**
   * Pin what is about to run: whenever the process is killed, what runs is pinned. Commit it when it runs.
   * @throws SystemError; then nothing is changed
   */
  prepare(name: string, returnsWith: string | null, installation: Installation): PreparedTables {
    const { maps, programs } = installation;
    let state = this.#states.get(name);
    if (state === undefined) {
      state = OffloadState.create({ folder: join(this.folder, tableFolderOf(name)), layout: tablesLayout(cpuParts()) });
      this.#states.set(name, state);
    }
    const generation = state.begin();
    try {
      for (const [key, map] of Object.entries(maps.maps)) generation.pinMap(key, map);
      for (const { hook, program, again, tailCalls } of programs) {
        generation.pinProgram(hook, program);
        if (again !== null) generation.pinProgram(`${hook}-again`, again);
        // The kernel empties a map of programs that neither a descriptor nor a pin holds.
        if (tailCalls !== null) generation.pinMap(`${hook}-tail-calls`, tailCalls);
      }
    } catch (error) {
      generation.abandon();
      throw error;
    }
    return {
      commit: () => {
        generation.commit({ name, returnsWith });
        this.#pinned.set(name, { returnsWith, installation });
      },
      abandon: () => generation.abandon(),
    };
  }

  /** The first path of what is not pinned any more; null when all is. */
  get missing(): string | null {
    for (const state of [this.#links, ...this.#states.values()]) if (state.missing !== null) return state.missing;
    return null;
  }

  /**
   * Pin what runs again, as far as it is not pinned any more.
   * @returns names of sources whose tables cannot be, as they are a former process's
   * @throws SystemError, PinningError
   */
  pinAgain(): string[] {
    this.#links.pinAgain();
    const lost: string[] = [];
    for (const [name, state] of this.#states) {
      if (state.missing === null) continue;
      state.pinAgain();
      const pinned = this.#pinned.get(name);
      if (pinned === undefined) lost.push(name);
      else if (state.generationIsMissing) this.prepare(name, pinned.returnsWith, pinned.installation).commit();
    }
    return lost;
  }

  /** Remove the tables of a source that is no more; no program uses them any longer. */
  removeTables(name: string): void {
    this.tables.get(name)?.maps.close();
    this.tables.delete(name);
    this.#states.get(name)?.removeAll();
    this.#states.delete(name);
    this.#pinned.delete(name);
  }

  /** Let go: everything goes on working. */
  close(): void {
    for (const { maps } of this.tables.values()) maps.close();
    for (const state of this.#states.values()) state.close();
    this.#links.close();
    this.tables.clear();
    this.programs.clear();
    this.#states.clear();
  }

  /**
   * Take everything off the interfaces, change back what was changed about them, and remove the pins.
   * @throws SystemError when an interface cannot be changed back: that one's programs stay, with the note of it, and all others go
   */
  removeAll(): void {
    try {
      tryEach(this.changes.interfaces, (ifindex) => {
        this.changes.takeAllBack(ifindex);
        this.remains.push(...this.changes.seek(ifindex));
      });
    } catch (error) {
      const unchanged = new Set(this.changes.interfaces);
      for (const one of this.#links.attachments) if (!unchanged.has(one.ifindex)) this.detach(one);
      throw error;
    }
    this.remains.push(...this.changes.seekLost());
    for (const { maps } of this.tables.values()) maps.close();
    this.#links.removeAll();
    for (const state of this.#states.values()) state.removeAll();
    this.tables.clear();
    this.programs.clear();
    this.#states.clear();
  }

  #dropTables(): void {
    for (const entry of tableFolders(this.folder)) removeOffloadState(join(this.folder, entry));
  }
}

interface Pinned {
  readonly returnsWith: string | null;
  readonly installation: Installation;
}

interface TableData {
  readonly name: string;
  readonly returnsWith: string | null;
}

function readTableData(data: Json): TableData | null {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return null;
  const { name, returnsWith } = data as { readonly [key: string]: Json };
  if (typeof name !== 'string' || (returnsWith !== null && typeof returnsWith !== 'string')) return null;
  return { name, returnsWith };
}
