/**
 * The manifest: what a state folder holds, told to the next process. It is a pinned map, so that it lives and dies with what it describes, and is
 * written by one system call, which a process that is killed has either made or not.
 *
 *      0       4         8              12       16
 *      | magic | version | generation   | length | JSON text ...
 */
import { ArrayMap, bytes } from '../../bpf/index.ts';

const MAGIC = 0x4d_69_6c_6c;
/** Of the folder's structure and of this layout. */
const VERSION = 1;
const SIZE_BYTES = 1 << 16;
const TEXT_AT = 16;

const options = { name: 'mr_manifest', value: bytes(SIZE_BYTES), maxEntries: 1 };

/** A value that JSON can carry. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** What the manifest says. */
export interface ManifestContent {
  /** Number of the maps and programs in use. */
  readonly generation: number;
  /** What the caller compares: the layout of its maps, and whatever else must be the same. */
  readonly layout: string;
  /** What the caller wants to know again. */
  readonly data: Json;
}

/** The map behind a manifest. */
export class Manifest {
  readonly #map: ArrayMap<Uint8Array>;

  private constructor(map: ArrayMap<Uint8Array>) {
    this.#map = map;
  }

  /** A new one, pinned. @throws SystemError */
  static create(path: string): Manifest {
    const map = ArrayMap.create(options);
    try {
      map.pin(path);
    } catch (error) {
      map.close();
      throw error;
    }
    return new Manifest(map);
  }

  /** @throws MapMismatchError; SystemError ENOENT */
  static open(path: string): Manifest {
    return new Manifest(ArrayMap.open(path, options));
  }

  /** Pin it anew, where its pin is gone. @throws SystemError */
  pin(path: string): void {
    this.#map.pin(path);
  }

  /** @throws RangeError when it does not fit into 64 KB: larger things belong into maps of their own */
  write({ generation, layout, data }: ManifestContent): void {
    const text = new TextEncoder().encode(JSON.stringify({ layout, data }));
    if (text.length > SIZE_BYTES - TEXT_AT) {
      throw new RangeError(`the manifest's text has ${text.length} bytes, and room is for ${SIZE_BYTES - TEXT_AT}`);
    }
    const value = new Uint8Array(SIZE_BYTES);
    const view = new DataView(value.buffer);
    [MAGIC, VERSION, generation, text.length].forEach((word, index) => {
      view.setUint32(index * 4, word, true);
    });
    value.set(text, TEXT_AT);
    this.#map.set(0, value);
  }

  /** @returns the content, or a reason why it is none */
  read(): ManifestContent | { readonly reason: string } {
    const value = this.#map.get(0) ?? new Uint8Array(SIZE_BYTES);
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    const [magic, version, generation, length] = [0, 4, 8, 12].map((at) => view.getUint32(at, true));
    if (magic !== MAGIC) return { reason: 'it was left before it was complete' };
    if (version !== VERSION)
      return { reason: `it is of version ${version}, and this Millrace knows version ${VERSION}` };
    if (length > SIZE_BYTES - TEXT_AT) return { reason: 'its manifest is damaged' };
    try {
      const text = new TextDecoder('utf-8', { fatal: true }).decode(value.subarray(TEXT_AT, TEXT_AT + length));
      const { layout, data } = JSON.parse(text) as { layout: Json; data: Json };
      if (typeof layout === 'string') return { generation, layout, data: data ?? null };
    } catch {
      // Said below.
    }
    return { reason: 'its manifest is damaged' };
  }

  close(): void {
    this.#map.close();
  }
}
