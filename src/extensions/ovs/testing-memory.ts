/** A server whose devices are memory, and a program that talks to it: for the tests of this room. */

import { Connections } from '../../connections/index.ts';
import type { FlowSource } from '../../flow/index.ts';
import { type Batch, ClonePool, newCounters, type Packet, PacketPool } from '../../net/index.ts';
import { MessageWriter } from '../../netlink/index.ts';
import { Frame } from './abi.ts';
import type { Connection } from './device/connection.ts';
import { PART_MAXIMUM_BYTES } from './device/dump.ts';
import { Errno, OvsError } from './errors.ts';
import type { DeviceKind, OvsDevice, TunnelSurroundings } from './host.ts';
import { OvsServer } from './netlink-server.ts';

/** A device that keeps what was sent. */
export class MemoryDevice implements OvsDevice {
  readonly interfaceIndex: number;
  readonly offloads = 0;
  readonly counters = newCounters();
  readonly receive: (batch: Batch) => void;
  readonly sent: Uint8Array[] = [];
  /** What is sent by the next flush. */
  readonly #queued: Uint8Array[] = [];
  name: string;
  namespaceId: number | null = null;
  isOpen = true;

  /** The device vanishes. */
  readonly vanish: () => void;

  constructor(name: string, interfaceIndex: number, receive: (batch: Batch) => void, onGone: () => void) {
    this.name = name;
    this.vanish = onGone;
    this.interfaceIndex = interfaceIndex;
    this.receive = receive;
  }

  transmit(packet: Packet): boolean {
    this.#queued.push(packet.frame().slice());
    this.counters.transmittedPackets += 1;
    return true;
  }

  flush(): void {
    this.sent.push(...this.#queued.splice(0));
  }

  close(): void {
    this.isOpen = false;
  }
}

/** One netlink message of an answer. */
export interface Answer {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly bytes: Uint8Array;
  /** Of NLMSG_ERROR, positive; 0 else. */
  readonly errno: number;
}

/** A program with one netlink socket. */
export class Program {
  readonly connection: Connection;
  #frames: Uint8Array[] = [];

  constructor(server: OvsServer) {
    this.connection = server.device.accept({
      send: (frame) => {
        this.#frames.push(...framesOf(frame.slice()));
        return true;
      },
      close: () => this.connection.onClose(),
    });
  }

  /** Send a netlink datagram. @returns every message that came by its "done", and before it unasked */
  request(datagram: Uint8Array): Answer[] {
    const frame = new Uint8Array(datagram.length + 4);
    frame.set(datagram, 4);
    this.connection.onDatagram(frame);
    const answers = this.take();
    // As the shim: parts of a dump are asked for one by one.
    while (this.connection.isDumping) {
      this.connection.onDatagram(new Uint8Array(Uint32Array.of(Frame.MORE, PART_MAXIMUM_BYTES).buffer));
      answers.push(...this.take());
    }
    return answers;
  }

  /** What has arrived. */
  take(): Answer[] {
    const frames = this.#frames;
    this.#frames = [];
    return frames.filter((frame) => frame[0] === Frame.DATAGRAM).flatMap((frame) => messages(frame.subarray(4)));
  }
}

/** The frames of a datagram: those of a bundle, else itself. As the shim takes them apart. */
export function framesOf(datagram: Uint8Array): Uint8Array[] {
  if (datagram[0] !== Frame.BUNDLE) return [datagram];
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const frames: Uint8Array[] = [];
  for (let at = 4; at + 4 <= datagram.length; ) {
    const length = view.getUint32(at, true);
    at += 4;
    frames.push(datagram.slice(at, at + length));
    at += (length + 3) & ~3;
  }
  return frames;
}

/** The messages of a datagram. */
export function messages(datagram: Uint8Array): Answer[] {
  const view = new DataView(datagram.buffer, datagram.byteOffset);
  const answers: Answer[] = [];
  for (let at = 0; at < datagram.length; ) {
    const length = view.getUint32(at, true);
    const type = view.getUint16(at + 4, true);
    answers.push({
      type,
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      bytes: datagram.subarray(at, at + length),
      errno: type === 2 ? Math.abs(view.getInt32(at + 16, true)) : 0,
    });
    at += (length + 3) & ~3;
  }
  return answers;
}

/** A request to a family. */
export function request(
  family: number,
  command: number,
  flags: number,
  interfaceIndex: number,
  write: (writer: MessageWriter) => void = () => {},
): Uint8Array {
  const writer = new MessageWriter();
  writer.begin(family, flags | 1, 9);
  const header = new Uint8Array(8);
  header[0] = command;
  header[1] = 2;
  new DataView(header.buffer).setUint32(4, interfaceIndex, true);
  writer.raw(header);
  write(writer);
  writer.end();
  return writer.take();
}

/** A server in memory. Devices whose name begins with "no" do not exist. */
export class MemoryWorld {
  readonly devices = new Map<string, MemoryDevice>();
  readonly pool = new PacketPool({ packets: 64, bufferBytes: 2304 });
  readonly largePool = new PacketPool({ packets: 4, bufferBytes: 66_048 });
  readonly server: OvsServer;
  /** Names of the flow tables that are offered. */
  readonly offered: string[] = [];
  readonly connections: Connections;
  /** What is to be done when packets have had their turn. */
  readonly later: (() => void)[] = [];
  nowMs = 1000;
  /** Reasons of flow/'s Drop, as they were told. */
  readonly dropped: number[] = [];

  /**
   * @param firstIndex interface index of the first device
   * @param indexes those of devices with certain names
   * @param tunnels what tunnels are to have
   */
  constructor(
    firstIndex = 10,
    indexes: Readonly<Record<string, number>> = {},
    tunnels: TunnelSurroundings | null = null,
  ) {
    let index = firstIndex;
    this.connections = new Connections({ nowMs: () => this.nowMs, maximum: 1000 });
    const open = (_kind: DeviceKind, name: string, receive: (batch: Batch) => void, onGone: () => void): OvsDevice => {
      if (name.startsWith('no')) throw new OvsError(Errno.ENODEV, name);
      const device = new MemoryDevice(name, indexes[name] ?? index, receive, onGone);
      index += 1;
      this.devices.set(name, device);
      return device;
    };
    const { offered } = this;
    const register = ({ name }: FlowSource) => {
      offered.push(name);
      return { portsChanged: () => {}, close: () => void offered.splice(offered.indexOf(name), 1) };
    };
    this.server = new OvsServer(
      {
        nowMs: () => this.nowMs,
        later: (work) => void this.later.push(work),
        connections: this.connections,
        open,
        flows: { register },
        tunnels,
        dropped: (reason) => void this.dropped.push(reason),
      },
      { pool: this.pool, largePool: this.largePool, clones: new ClonePool(64) },
    );
  }
}
