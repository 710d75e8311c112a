/**
 * Arrays of the kernel that programs and this process share, and that stay where they are when the process dies: pinned in a folder of their own beside what kept.ts keeps (pin-place.ts
 * has the place of all). They belong to no flow table.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ArrayMap, bytes } from '../../bpf/index.ts';
import { isOwnFolder, lookAt } from '../../host/index.ts';
import { messageOf } from '../contract.ts';
import { findPins, makePins, restorePins } from './pin-place.ts';

export class KeptArrays {
  readonly #identity: string;
  readonly #name: string;
  readonly #arrays = new Map<string, ArrayMap<Uint8Array>>();
  #folder: string | null = null;

  /**
   * @param identity path that names the daemon among others
   * @param name of the folder, which no other has
   */
  constructor(identity: string, name: string) {
    this.#identity = identity;
    this.#name = name;
  }

  /**
   * An array that a former process has left.
   * @returns its words; null when there is none
   * @throws MapMismatchError when it is of another size; SystemError, ForeignFileError
   */
  left(name: string, sizeBytes: number): Int32Array | null {
    const pins = findPins(this.#identity);
    if (pins === null) return null;
    const folder = join(pins, this.#name);
    if (!isOwnFolder(folder) || lookAt(join(folder, name)) === null) return null;
    this.#folder = folder;
    return this.#take(name, ArrayMap.open(join(folder, name), optionsOf(this.#name, name, sizeBytes)));
  }

  /**
   * Make new arrays, all zeros. What was left is gone.
   * @param sizes bytes of each, by name
   * @returns their words by name, and why they do not outlive the process; null when they do
   * @throws PrivilegeError, SystemError when the kernel does not make them
   */
  make<Name extends string>(
    sizes: Readonly<Record<Name, number>>,
  ): { words: Record<Name, Int32Array>; transient: string | null } {
    this.#closeArrays();
    const words = {} as Record<Name, Int32Array>;
    for (const name of Object.keys(sizes) as Name[]) {
      words[name] = this.#take(name, ArrayMap.create(optionsOf(this.#name, name, sizes[name])));
    }
    return { words, transient: this.#pin() };
  }

  /** The maps themselves, for programs. */
  map(name: string): ArrayMap<Uint8Array> | undefined {
    return this.#arrays.get(name);
  }

  /**
   * Pin again what is not pinned any more, as somebody has removed it.
   * @returns the first path that was missing; null when all is there, or nothing is to be
   * @throws SystemError, PinningError, ForeignFileError when it cannot be pinned
   */
  pinAgain(): string | null {
    const folder = this.#folder;
    if (folder === null) return null;
    const missing = [...this.#arrays].filter(([name]) => lookAt(join(folder, name)) === null);
    if (missing.length === 0) return null;
    restorePins(this.#identity, dirname(folder));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const [name, array] of missing) array.pin(join(folder, name));
    return join(folder, missing[0][0]);
  }

  /** @param keeps leave what is pinned for the next process */
  close(keeps: boolean): void {
    this.#closeArrays();
    if (!keeps && this.#folder !== null) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = null;
  }

  #take(name: string, array: ArrayMap<Uint8Array>): Int32Array {
    this.#arrays.set(name, array);
    return array.map().s32;
  }

  /** @returns why it cannot be, or null */
  #pin(): string | null {
    try {
      const folder = join(makePins(this.#identity), this.#name);
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { mode: 0o700 });
      this.#folder = folder;
      for (const [name, array] of this.#arrays) array.pin(join(folder, name));
      return null;
    } catch (error) {
      return messageOf(error);
    }
  }

  #closeArrays(): void {
    for (const array of this.#arrays.values()) array.close();
    this.#arrays.clear();
  }
}

function optionsOf(folder: string, name: string, sizeBytes: number) {
  return { name: `${folder.slice(0, 6)}_${name}`, value: bytes(sizeBytes), maxEntries: 1, mappable: true };
}
