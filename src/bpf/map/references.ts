/**
 * Maps whose values stand for other things of the kernel: interfaces to redirect to, programs to jump to, maps, AF_XDP sockets.
 * User space writes a descriptor or index, and reads an id where the kernel lets it. Neighbour: map/table.ts has the operations.
 */
import type { FileDescriptor } from '../../host/sys/index.ts';
import type { Program } from '../program/program.ts';
import { MAP_FLAG } from '../uapi/commands.ts';
import { createMap, type MapHandle, type MapOptions, type MapShape, openPinnedMap } from './handle.ts';
import { type Layout, u32 } from './layout.ts';
import { Table } from './table.ts';

function shapeOf(type: MapShape['type'], valueBytes: number, options: MapOptions): MapShape {
  return { type, keyBytes: 4, valueBytes, maxEntries: options.maxEntries, flags: options.flags ?? 0 };
}

/** A value that is one descriptor when written and one id when read. */
const reference: Layout<number> = u32;

/** An interface to redirect to. */
export interface Device {
  readonly ifindex: number;
  /** A program to run on the way out, of expected attach type 'xdp_devmap' (Linux 5.8). Read back, it is undefined. */
  readonly program?: Program | undefined;
  /** Id of that program, when read back; 0 for none. */
  readonly programId?: number;
}

const device: Layout<Device> = {
  sizeBytes: 8,
  alignBytes: 4,
  read: (view, offset) => ({ ifindex: view.getUint32(offset, true), programId: view.getUint32(offset + 4, true) }),
  write(view, offset, { ifindex, program }) {
    view.setUint32(offset, ifindex, true);
    view.setUint32(offset + 4, program?.fd ?? 0, true);
  },
  describe: (types) => types.array(types.integer(4), 2),
};

/** Interfaces by slot number, for `redirect_map`. An interface that goes away leaves its slot empty. */
export class DeviceMap extends Table<number, Device> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create(options: MapOptions): DeviceMap {
    const shape = shapeOf('devmap', device.sizeBytes, options);
    return new DeviceMap(createMap(options.name, shape), options.name, shape, u32, device);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open(path: string, options: MapOptions): DeviceMap {
    const shape = shapeOf('devmap', device.sizeBytes, options);
    return new DeviceMap(openDeviceMap(path, shape), options.name, shape, u32, device);
  }
}

/** Interfaces by any number, such as their own index (Linux 5.4). */
export class DeviceHashMap extends Table<number, Device> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create(options: MapOptions): DeviceHashMap {
    const shape = shapeOf('devmap_hash', device.sizeBytes, options);
    return new DeviceHashMap(createMap(options.name, shape), options.name, shape, u32, device);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open(path: string, options: MapOptions): DeviceHashMap {
    const shape = shapeOf('devmap_hash', device.sizeBytes, options);
    return new DeviceHashMap(openDeviceMap(path, shape), options.name, shape, u32, device);
  }
}

/** The kernel makes device maps read-only for programs, and says so when asked. */
function openDeviceMap(path: string, shape: MapShape) {
  return openPinnedMap(path, { ...shape, flags: shape.flags | MAP_FLAG.RDONLY_PROG });
}

/** Programs by slot number, for `tail_call`. They must be of one type. User space reads ids. */
export class ProgramArrayMap extends Table<number, number> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create(options: MapOptions): ProgramArrayMap {
    const shape = shapeOf('prog_array', 4, options);
    return new ProgramArrayMap(createMap(options.name, shape), options.name, shape, u32, reference);
  }

  /** One that another thread of this process has created, and given up. */
  static of(descriptor: FileDescriptor, options: MapOptions): ProgramArrayMap {
    return new ProgramArrayMap(descriptor, options.name, shapeOf('prog_array', 4, options), u32, reference);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open(path: string, options: MapOptions): ProgramArrayMap {
    const shape = shapeOf('prog_array', 4, options);
    return new ProgramArrayMap(openPinnedMap(path, shape), options.name, shape, u32, reference);
  }

  /** Put a program into a slot. The map then holds the program. @throws SystemError: EINVAL for a program of another type */
  put(slot: number, program: Program): void {
    this.set(slot, program.fd);
  }
}

/** How to make an array of maps. */
export interface MapArrayOptions extends MapOptions {
  /** A map like those that will be in it: same type, sizes and flags. It is only looked at. */
  readonly template: MapHandle;
}

/** Maps by slot number: whole tables exchanged at a stroke. User space reads ids. */
export class MapArray extends Table<number, number> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create(options: MapArrayOptions): MapArray {
    const shape = shapeOf('array_of_maps', 4, options);
    return new MapArray(
      createMap(options.name, shape, { innerFd: options.template.fd }),
      options.name,
      shape,
      u32,
      reference,
    );
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open(path: string, options: MapOptions): MapArray {
    const shape = shapeOf('array_of_maps', 4, options);
    return new MapArray(openPinnedMap(path, shape), options.name, shape, u32, reference);
  }

  /** Put a map into a slot. @throws SystemError: EINVAL for a map unlike the template */
  put(slot: number, map: MapHandle): void {
    this.set(slot, map.fd);
  }
}

/** AF_XDP sockets by slot number, for `redirect_map`. They cannot be read back: `get` and `has` are refused by the kernel. */
export class XskMap extends Table<number, number> {
  /** @throws UnsupportedError, PrivilegeError, SystemError */
  static create(options: MapOptions): XskMap {
    const shape = shapeOf('xskmap', 4, options);
    return new XskMap(createMap(options.name, shape), options.name, shape, u32, reference);
  }

  /** Open one that is pinned. @throws MapMismatchError, SystemError */
  static open(path: string, options: MapOptions): XskMap {
    const shape = shapeOf('xskmap', 4, options);
    return new XskMap(openPinnedMap(path, shape), options.name, shape, u32, reference);
  }

  /**
   * Put a socket into a slot.
   * @param socketFd descriptor of an AF_XDP socket with a receive ring
   * @throws SystemError: EOPNOTSUPP for another kind of socket
   */
  put(slot: number, socketFd: number): void {
    this.set(slot, socketFd);
  }
}
