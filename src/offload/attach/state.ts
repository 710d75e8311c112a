/**
 * What outlives the process: maps, programs and links, pinned in one folder of a bpf file system, and a manifest that describes them. The kernel goes
 * on forwarding by them when the process is killed; the next one adopts them.
 *
 *      folder/manifest            which generation is in use (manifest.ts)
 *      folder/links/tc-ingress-7  one link for each program on an interface
 *      folder/3/maps/ports        maps and programs of generation 3
 *      folder/3/programs/tc
 *
 * A generation is a set of maps and programs that belong together. When tables grow or programs change, the next generation is made beside the present
 * one, the links are switched to its programs one after the other, and the manifest is written: a process that is killed at any moment
 * leaves a folder that can be adopted. Links that then run a program of another generation are told, and go on forwarding until they are switched.
 *
 * Neighbours: hook.ts attaches; program/ and table/ say what is in maps and programs.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BpfError, Link, type MapHandle, Program, type ProgramType, unpin } from '../../bpf/index.ts';
import { comesOfShortage, isBpfFileSystem, isOwnFolder, lookAt, mountAt, SystemError } from '../../host/index.ts';
import { Attachment, type AttachRequest, type AttachResult, attach, HOOKS, type Hook, LINK_TYPE } from './hook.ts';
import { type Json, Manifest, type ManifestContent } from './manifest.ts';

/** The folder cannot hold pins, or not these. */
export class PinningError extends Error {
  override readonly name = 'PinningError';
}

/**
 * Check that things can be pinned in a folder that need not exist yet.
 * @throws PinningError with what to do
 */
export function checkPinFolder(folder: string): void {
  let there = folder;
  while (lookAt(there) === null && there !== dirname(there)) there = dirname(there);
  if (isBpfFileSystem(there)) return;
  throw new PinningError(
    `${folder} is not on a bpf file system, so that nothing can be pinned there; mount one: mount -t bpf bpf /sys/fs/bpf`,
  );
}

/**
 * Check the folder of a state, which need not exist yet. One that is there must be this user's own, no link, and open to nobody else: what is pinned in it decides
 * which programs are taken off interfaces.
 * @throws PinningError
 */
function checkStateFolder(folder: string): void {
  checkPinFolder(folder);
  if (lookAt(folder) === null || (isOwnFolder(folder) && mountAt(folder) === null)) return;
  throw new PinningError(`${folder} is not a folder of this user's own; nothing in it was touched`);
}

/** What a new or an adopted state is opened with. */
export interface StateOptions {
  /** Below a mounted bpf file system, and for this alone: everything in it is removed when it does not fit. Its name has no dot. */
  readonly folder: string;
  /** Must be the same for a state to be adopted: say in it whatever the layout of the maps depends on. */
  readonly layout: string;
  /** Called before what an earlier process left is removed because it does not fit: {@link leftData} may still tell something. */
  readonly beforeRemoval?: () => void;
}

/** A state found in a folder; or none, with the reason when there was something, which has been removed. */
export type Adoption =
  | { readonly state: OffloadState; readonly data: Json }
  | { readonly state: null; readonly reason: string | null };

/** The pinned maps, programs and links of one datapath. */
export class OffloadState {
  readonly folder: string;
  readonly layout: string;
  readonly #manifest: Manifest;
  readonly #attachments = new Map<string, Attachment>();
  #generation: number;
  /** Paths of what was pinned for the generation in use, as far as this process has done it. */
  #generationPins: readonly string[] = [];

  private constructor(options: StateOptions, manifest: Manifest, generation: number) {
    this.folder = options.folder;
    this.layout = options.layout;
    this.#manifest = manifest;
    this.#generation = generation;
  }

  /**
   * Begin afresh. Whatever is in the folder is removed.
   * @throws PinningError, PrivilegeError, SystemError
   */
  static create(options: StateOptions): OffloadState {
    checkStateFolder(options.folder);
    removeOffloadState(options.folder);
    mkdirSync(join(options.folder, 'links'), { recursive: true, mode: 0o700 });
    return new OffloadState(options, Manifest.create(join(options.folder, 'manifest')), 0);
  }

  /**
   * Take up what an earlier process left. What does not fit is taken off the interfaces and removed.
   * @throws PinningError, PrivilegeError; SystemError when it cannot be removed
   */
  static adopt(options: StateOptions): Adoption {
    checkStateFolder(options.folder);
    if (lookAt(options.folder) === null) return { state: null, reason: null };
    const found = inspect(options);
    if ('reason' in found) {
      options.beforeRemoval?.();
      removeOffloadState(options.folder);
      return { state: null, reason: `what was pinned in ${options.folder} is not taken up: ${found.reason}` };
    }
    const state = new OffloadState(options, found.manifest, found.content.generation);
    try {
      state.#adoptLinks();
    } catch (error) {
      state.close();
      throw error;
    }
    return { state, data: found.content.data };
  }

  /** The number of the generation in use; 0 before the first is committed. */
  get generation(): number {
    return this.#generation;
  }

  /** Everything that is attached, or was when it was last looked at. */
  get attachments(): readonly Attachment[] {
    return [...this.#attachments.values()];
  }

  /**
   * Open a map of the generation in use.
   * @param open such as `(path) => ArrayMap.open(path, options)`, which checks the map's shape
   * @throws what `open` throws: MapMismatchError, SystemError ENOENT
   */
  openMap<M>(name: string, open: (path: string) => M): M {
    return open(this.#path(this.#generation, 'maps', name));
  }

  /** Open a program of the generation in use. @throws MapMismatchError for another type; SystemError ENOENT */
  openProgram(name: string, type: ProgramType): Program {
    return Program.open(this.#path(this.#generation, 'programs', name), type);
  }

  /**
   * Begin the next generation, which is in use once it is committed. One at a time. One that a killed process did not commit stays until then:
   * its programs may run at links, and tail-call maps that are not pinned would be emptied.
   */
  begin(): Generation {
    const number = Math.max(this.#generation, ...this.#generations()) + 1;
    for (const kind of ['maps', 'programs'])
      mkdirSync(join(this.folder, `${number}`, kind), { recursive: true, mode: 0o700 });
    const pins: string[] = [];
    const pin = (what: MapHandle | Program, path: string) => {
      what.pin(path);
      pins.push(path);
    };
    return {
      number,
      pinMap: (name, map) => pin(map, this.#path(number, 'maps', name)),
      pinProgram: (name, program) => pin(program, this.#path(number, 'programs', name)),
      commit: (data) => {
        this.#commit(number, data);
        this.#generationPins = pins;
      },
      abandon: () => rmSync(join(this.folder, `${number}`), { recursive: true, force: true }),
    };
  }

  /** Change what the next process is told, within the generation. @throws RangeError when it is too long */
  note(data: Json): void {
    this.#manifest.write({ generation: this.#generation, layout: this.layout, data });
  }

  #commit(generation: number, data: Json): void {
    this.#manifest.write({ generation, layout: this.layout, data });
    this.#generation = generation;
    this.#removeOtherGenerations();
  }

  /** What of it is not pinned where it should be, as somebody has removed it or it could not be: a path, the first of them; null when all is there. */
  get missing(): string | null {
    const pins = [this.#manifestPath, ...this.#generationPins, ...this.#unpinned().map(({ path }) => path)];
    return pins.find((path) => lookAt(path) === null) ?? null;
  }

  /** Whether something of the generation in use is not pinned any more: pin it as another generation. */
  get generationIsMissing(): boolean {
    return this.#generationPins.some((path) => lookAt(path) === null);
  }

  /**
   * Pin the manifest and all links again that are not pinned any more. Maps and programs are for the caller to pin, as another generation.
   * @throws PinningError, SystemError
   */
  pinAgain(): void {
    checkStateFolder(this.folder);
    mkdirSync(join(this.folder, 'links'), { recursive: true, mode: 0o700 });
    for (const { path, attachment } of this.#unpinned()) attachment.pin(path);
    // It describes the rest.
    if (lookAt(this.#manifestPath) === null) this.#manifest.pin(this.#manifestPath);
  }

  /** Links that hold a program and have no pin. */
  #unpinned(): { readonly path: string; readonly attachment: Attachment }[] {
    const links = [...this.#attachments].map(([key, attachment]) => ({ path: this.#linkPath(key), attachment }));
    return links.filter(({ path, attachment }) => lookAt(path) === null && attachment.present);
  }

  get #manifestPath(): string {
    return join(this.folder, 'manifest');
  }

  #linkPath(key: string): string {
    return join(this.folder, 'links', key);
  }

  /**
   * Attach a program and keep it attached beyond the process. Where it cannot be pinned it is attached all the same, and {@link missing} says so.
   * @returns as {@link attach}; refused, too, when this state has the place already
   * @throws PrivilegeError, SystemError
   */
  attach(request: AttachRequest): AttachResult {
    const result = attach(request);
    const { attachment } = result;
    if (attachment === null) return result;
    const key = linkName(attachment.hook, attachment.ifindex);
    this.#forget(key);
    this.#attachments.set(key, attachment);
    try {
      attachment.pin(this.#linkPath(key));
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
    }
    return result;
  }

  /** What this state has attached at a place, if the interface is still there; what is left of one that is gone is removed. */
  find(ifindex: number, hook: Hook): Attachment | undefined {
    const key = linkName(hook, ifindex);
    const attachment = this.#attachments.get(key);
    if (attachment === undefined || attachment.present) return attachment;
    this.#forget(key);
    return undefined;
  }

  /** Take a program off its interface for good. */
  detach(attachment: Attachment): void {
    this.#forget(linkName(attachment.hook, attachment.ifindex));
  }

  /**
   * Remove what is left of interfaces that are gone.
   * @returns the indexes that they had
   */
  sweep(): number[] {
    const gone = this.attachments.filter(({ present }) => !present);
    for (const attachment of gone) this.detach(attachment);
    return gone.map(({ ifindex }) => ifindex);
  }

  /** Let go: everything stays as it is, for the next process. Closing twice is harmless. */
  close(): void {
    for (const attachment of this.#attachments.values()) attachment.close();
    this.#attachments.clear();
    this.#manifest.close();
  }

  /** Take everything off the interfaces and remove it. */
  removeAll(): void {
    this.close();
    removeOffloadState(this.folder);
  }

  #adoptLinks(): void {
    for (const key of list(join(this.folder, 'links'))) {
      const path = join(this.folder, 'links', key);
      const place = placeOf(key);
      const link = openLink(path, place);
      if (place === undefined || link === undefined || link.info().ifindex !== place.ifindex) {
        // Its interface is gone, or has moved to another namespace; or it is none of ours.
        link?.close();
        unpin(path);
      } else this.#attachments.set(key, new Attachment(link, place.hook, place.ifindex));
    }
  }

  #forget(key: string): void {
    this.#attachments.get(key)?.detach();
    this.#attachments.delete(key);
    unpin(this.#linkPath(key));
  }

  /** Numbers of all that are there, in use or not. */
  #generations(): number[] {
    return readdirSync(this.folder)
      .filter((entry) => /^\d+$/.test(entry))
      .map(Number);
  }

  #removeOtherGenerations(): void {
    for (const number of this.#generations()) {
      if (number !== this.#generation) rmSync(join(this.folder, `${number}`), { recursive: true, force: true });
    }
  }

  #path(generation: number, kind: 'maps' | 'programs', name: string): string {
    if (!/^[A-Za-z0-9_-]+$/.test(name)) throw new RangeError(`'${name}' is no name for a pin`);
    return join(this.folder, `${generation}`, kind, name);
  }
}

/** A generation that is being made. */
export interface Generation {
  readonly number: number;
  /** @throws SystemError EEXIST */
  pinMap(name: string, map: MapHandle): void;
  /** @throws SystemError EEXIST */
  pinProgram(name: string, program: Program): void;
  /**
   * Take it into use. Switch the links first: what is not of this generation is unpinned.
   * @param data for the next process
   * @throws RangeError when the data are too long
   */
  commit(data: Json): void;
  /** Drop it. */
  abandon(): void;
}

/**
 * Take everything in a folder off its interfaces, and remove the folder.
 * @returns whether there was one
 * @throws PinningError when it is not on a bpf file system; SystemError
 */
export function removeOffloadState(folder: string): boolean {
  if (lookAt(folder) === null) return false;
  checkStateFolder(folder);
  for (const key of list(join(folder, 'links'))) {
    const link = openLink(join(folder, 'links', key), placeOf(key));
    // Without this the kernel would detach when it comes to it.
    link?.detach();
    link?.close();
  }
  rmSync(folder, { recursive: true, force: true });
  return true;
}

/**
 * What a former process was to tell the next one, whatever the layout of its maps.
 * @returns null when there is nothing, or nothing that can be read
 */
export function leftData(folder: string): Json {
  if (!isOwnFolder(folder)) return null;
  let manifest: Manifest;
  try {
    manifest = Manifest.open(join(folder, 'manifest'));
  } catch {
    return null;
  }
  try {
    const content = manifest.read();
    return 'reason' in content ? null : content.data;
  } finally {
    manifest.close();
  }
}

function inspect(
  options: StateOptions,
): { readonly manifest: Manifest; readonly content: ManifestContent } | { readonly reason: string } {
  let manifest: Manifest;
  try {
    manifest = Manifest.open(join(options.folder, 'manifest'));
  } catch (error) {
    // What cannot be looked at now is no reason to remove it.
    if (comesOfShortage(error)) throw error;
    return { reason: `it has no manifest (${error instanceof Error ? error.message : error})` };
  }
  const content = manifest.read();
  if ('reason' in content) {
    manifest.close();
    return content;
  }
  if (content.layout !== options.layout) {
    manifest.close();
    return { reason: `its layout is "${content.layout}", and this Millrace's is "${options.layout}"` };
  }
  if (content.generation > 0 && !isOwnFolder(join(options.folder, `${content.generation}`))) {
    manifest.close();
    return { reason: `generation ${content.generation} is missing` };
  }
  return { manifest, content };
}

/** @returns undefined for something that is no link of ours @throws SystemError for want of descriptors or memory */
function openLink(path: string, place: Place | undefined): Link | undefined {
  if (place === undefined) return undefined;
  try {
    return Link.open(path, LINK_TYPE[place.hook]);
  } catch (error) {
    if (comesOfShortage(error)) throw error;
    if (error instanceof BpfError || (error instanceof Error && 'errno' in error)) return undefined;
    throw error;
  }
}

function list(folder: string): string[] {
  if (!isOwnFolder(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);
}

function linkName(hook: Hook, ifindex: number): string {
  return `${hook}-${ifindex}`;
}

interface Place {
  readonly hook: Hook;
  readonly ifindex: number;
}

function placeOf(key: string): Place | undefined {
  const [, name, digits] = /^(.+)-(\d+)$/.exec(key) ?? [];
  const hook = HOOKS.find((candidate) => candidate === name);
  return hook === undefined ? undefined : { hook, ifindex: Number(digits) };
}
