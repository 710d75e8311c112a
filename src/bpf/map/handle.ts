/**
 * What all maps share: creation, the descriptor, info, freezing, pinning and opening again.
 * Neighbours: map/table.ts adds keys and values; the other files of this folder are kinds of maps.
 */
import { FileDescriptor, NativeBlock } from '../../host/sys/index.ts';
import type { MapReference } from '../asm/operands.ts';
import { loadBtf } from '../btf/load.ts';
import { BtfTypes } from '../btf/types.ts';
import { ClosedError, MapMismatchError, UnsupportedError } from '../errors.ts';
import { haveMapType } from '../feature/raw.ts';
import { openPinned, pinObject } from '../program/pin.ts';
import { Attributes, bpf, Errno, failure, kernelRelease, must } from '../sys/bpf.ts';
import { COMMAND, MAP_FLAG } from '../uapi/commands.ts';
import { MAP_TYPE, MAP_TYPE_SINCE, type MapType, mapTypeName } from '../uapi/kinds.ts';
import { objectName } from '../uapi/names.ts';
import type { Layout } from './layout.ts';

/** What every map is made with. */
export interface MapOptions {
  /** The kernel keeps 15 characters. */
  readonly name: string;
  readonly maxEntries: number;
  /** Or-ed MAP_FLAG bits. */
  readonly flags?: number;
}

/** A map's shape, as the kernel counts it. */
export interface MapShape {
  readonly type: MapType;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
}

/** What the kernel says of a map (struct bpf_map_info). */
export interface MapInfo {
  readonly type: ReturnType<typeof mapTypeName>;
  /** Unique among all maps until the next boot. */
  readonly id: number;
  readonly name: string;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** Id of the BTF that describes key and value; 0 for none. */
  readonly btfId: number;
}

/** What beyond its shape a map is created with. */
export interface MapExtras {
  /** Descriptor of a map like those that a map of maps will hold. */
  readonly innerFd?: number;
  /** Layouts for BTF, so that listings show fields. */
  readonly describe?: { readonly key: Layout<unknown>; readonly value: Layout<unknown> };
}

const CREATE_BYTES = 72;
const INFO_BYTES = 80;

/**
 * Create a map.
 * @throws UnsupportedError, PrivilegeError, SystemError (EINVAL for sizes or flags that the type does not take, ENOMEM)
 */
export function createMap(name: string, shape: MapShape, extras: MapExtras = {}): FileDescriptor {
  const attributes = new Attributes(CREATE_BYTES);
  attributes.u32[0] = MAP_TYPE[shape.type];
  attributes.u32[1] = shape.keyBytes;
  attributes.u32[2] = shape.valueBytes;
  attributes.u32[3] = shape.maxEntries;
  attributes.u32[4] = shape.flags;
  attributes.u32[5] = extras.innerFd ?? 0;
  attributes.setString(28, 16, objectName(name));
  const btf = extras.describe === undefined ? undefined : attachBtf(attributes, extras.describe);
  try {
    let result = bpf(COMMAND.MAP_CREATE, attributes, CREATE_BYTES);
    if (result < 0 && btf !== undefined) {
      attributes.u32.fill(0, 12, 15);
      result = bpf(COMMAND.MAP_CREATE, attributes, CREATE_BYTES);
    }
    if (result >= 0) return new FileDescriptor(result);
    if (result === -Errno.EINVAL && !haveMapType(shape.type)) {
      throw new UnsupportedError(`map type ${shape.type}`, MAP_TYPE_SINCE[shape.type], kernelRelease());
    }
    throw failure(COMMAND.MAP_CREATE, result, `create ${shape.type} map "${name}"`);
  } finally {
    btf?.close();
  }
}

function attachBtf(attributes: Attributes, { key, value }: { key: Layout<unknown>; value: Layout<unknown> }) {
  const types = new BtfTypes();
  const keyType = key.describe(types);
  const valueType = value.describe(types);
  const btf = loadBtf(types);
  if (btf === undefined) return undefined;
  attributes.u32[12] = btf.number;
  attributes.u32[13] = keyType;
  attributes.u32[14] = valueType;
  return btf;
}

/** What the kernel says of the map behind a descriptor. @throws SystemError */
export function readMapInfo(fd: number): MapInfo {
  const info = new NativeBlock(INFO_BYTES);
  const attributes = new Attributes(16);
  attributes.u32[0] = fd;
  attributes.u32[1] = INFO_BYTES;
  attributes.point(8, info);
  must(bpf(COMMAND.OBJ_GET_INFO_BY_FD, attributes, 16), COMMAND.OBJ_GET_INFO_BY_FD, 'ask about a map');
  return {
    type: mapTypeName(info.u32[0]),
    id: info.u32[1],
    keyBytes: info.u32[2],
    valueBytes: info.u32[3],
    maxEntries: info.u32[4],
    flags: info.u32[5],
    name: info.getString(24, 16),
    btfId: info.u32[16],
  };
}

/**
 * Open a pinned map and check that it is what the caller takes it for.
 * @throws MapMismatchError when type, sizes, number of entries or flags differ
 * @throws SystemError, such as ENOENT
 */
export function openPinnedMap(path: string, shape: MapShape): FileDescriptor {
  const descriptor = openPinned(path, 'map');
  try {
    checkShape(readMapInfo(descriptor.number), shape, `the map pinned at ${path}`);
    return descriptor;
  } catch (error) {
    descriptor.close();
    throw error;
  }
}

// Flags of the descriptor or of the kernel's own making, which do not belong to the map's shape.
const IGNORED_FLAGS = MAP_FLAG.RDONLY | MAP_FLAG.WRONLY;

function checkShape(info: MapInfo, shape: MapShape, what: string): void {
  const differences: string[] = [];
  const compare = (name: string, is: string | number, wanted: string | number) => {
    if (is !== wanted) differences.push(`${name} ${is}, not ${wanted}`);
  };
  compare('type', info.type, shape.type);
  compare('key bytes', info.keyBytes, shape.keyBytes);
  compare('value bytes', info.valueBytes, shape.valueBytes);
  compare('entries', info.maxEntries, shape.maxEntries);
  compare('flags', info.flags & ~IGNORED_FLAGS, shape.flags & ~IGNORED_FLAGS);
  if (differences.length > 0) throw new MapMismatchError(`${what} has another shape: ${differences.join('; ')}`);
}

/** A map: what programs name in their code, and the base of all kinds. */
export class MapHandle implements MapReference {
  readonly name: string;
  readonly shape: MapShape;
  readonly #descriptor: FileDescriptor;

  constructor(descriptor: FileDescriptor, name: string, shape: MapShape) {
    this.#descriptor = descriptor;
    this.name = name;
    this.shape = shape;
  }

  /** The descriptor. @throws ClosedError */
  get fd(): number {
    if (this.#descriptor.closed) throw new ClosedError(`map "${this.name}"`);
    return this.#descriptor.number;
  }

  get closed(): boolean {
    return this.#descriptor.closed;
  }

  get maxEntries(): number {
    return this.shape.maxEntries;
  }

  /** Ask the kernel. @throws ClosedError, SystemError */
  info(): MapInfo {
    return readMapInfo(this.fd);
  }

  /** From now on user space may only read it; programs may still write (Linux 5.2). @throws SystemError */
  freeze(): void {
    const attributes = new Attributes(4);
    attributes.u32[0] = this.fd;
    must(bpf(COMMAND.MAP_FREEZE, attributes, 4), COMMAND.MAP_FREEZE, `freeze map "${this.name}"`);
  }

  /** Pin it to a path below a bpf file system. @throws SystemError */
  pin(path: string): void {
    pinObject(this.fd, path, `map "${this.name}"`);
  }

  /** Give the descriptor up: another thread of this process makes a handle of the number. @throws Error when it is closed */
  release(): number {
    return this.#descriptor.release();
  }

  /** Close the handle. The map goes when no program, pin, map or mapping holds it any more. */
  close(): void {
    this.#descriptor.close();
  }
}
