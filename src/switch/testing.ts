/**
 * What the tests of this room and of extensions build on: a switch on a simulated clock, NICs that remember what was sent, frames,
 * extensions made of a few handlers, and a pool that tells whether every packet was given back. Not part of the room's door.
 */
import { type Batch, type Packet, Batch as PacketBatch, PacketPool } from '../net/index.ts';
import type { NicBackend, NicOptions, PortOptions, SwitchEvent, SwitchOptions, VirtualSwitch } from './api.ts';
import type { JsonValue } from './control/properties.ts';
import type { Extension, ExtensionFactory, ExtensionHandle, ExtensionType, HostServices } from './extension.ts';
import type { NicRequest, Status } from './oid/oid.ts';
import { createSwitch } from './switch.ts';

/** A clock and timers that move only when told to. */
export class TestHost implements HostServices {
  now = 1_000_000;
  readonly logged: string[] = [];
  #timers: { dueMs: number; callback: () => void }[] = [];

  nowMs(): number {
    return this.now;
  }

  log(_level: string, message: string): void {
    this.logged.push(message);
  }

  readonly setTimer = (delayMs: number, callback: () => void): { cancel(): void } => {
    const timer = { dueMs: this.now + delayMs, callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  };

  advance(ms: number): void {
    this.now += ms;
    const due = this.#timers.filter((timer) => timer.dueMs <= this.now);
    this.#timers = this.#timers.filter((timer) => timer.dueMs > this.now);
    for (const timer of due) timer.callback();
  }
}

/** What was handed to a NIC. */
export interface Sent {
  readonly frame: Uint8Array;
  readonly tag: number;
  readonly packet: Packet;
}

/** A backend that remembers. Frames count as sent once flush has run, as memory may change after it. */
export class TestNic implements NicBackend {
  readonly sent: Sent[] = [];
  readonly queued: Sent[] = [];
  flushes = 0;
  failing = false;
  answer: { status: Status; value?: JsonValue } | null = null;
  requests: NicRequest[] = [];

  transmit(packet: Packet, tag: number): void {
    if (this.failing) throw new Error('the device is gone');
    this.queued.push({ frame: packet.frame().slice(), tag, packet });
  }

  flush(): void {
    this.flushes += 1;
    this.sent.push(...this.queued);
    this.queued.length = 0;
  }

  request(request: NicRequest): { status: Status; value?: JsonValue } {
    this.requests.push(request);
    return this.answer ?? { status: 'NOT_SUPPORTED' };
  }

  take(): Sent[] {
    return this.sent.splice(0);
  }
}

/** A switch under test. */
export class Bench {
  readonly host = new TestHost();
  readonly events: SwitchEvent[] = [];
  /** Set by tests in which an extension is meant to fail; otherwise its failure is the test's. */
  failuresExpected = false;
  readonly pool = new PacketPool({ packets: 512, bufferBytes: 70_000 });
  readonly sw: VirtualSwitch;
  readonly nics = new Map<number, TestNic>();

  constructor(options: Partial<SwitchOptions> = {}) {
    this.sw = createSwitch({ name: 'test', host: this.host, verifyData: true, ...options });
    this.sw.onEvent((event) => this.events.push(event));
    this.sw.activate().result();
  }

  /** A port with one connected NIC. */
  port(portId: number, options: Partial<PortOptions> = {}, nic: Partial<NicOptions> = {}): TestNic {
    this.sw.createPort({ portId, name: `p${portId}`, ...options }).result();
    return this.nic(portId, 0, nic);
  }

  /** Create and connect a NIC. */
  nic(portId: number, nicIndex: number, options: Partial<NicOptions> = {}): TestNic {
    const backend = new TestNic();
    this.sw.createNic(portId, { nicIndex, name: `nic${portId}.${nicIndex}`, backend, ...options }).result();
    this.sw.connectNic(portId, nicIndex).result();
    if (nicIndex === 0) this.nics.set(portId, backend);
    return backend;
  }

  nicOf(portId: number): TestNic {
    const nic = this.nics.get(portId);
    if (nic === undefined) throw new Error(`no port ${portId}`);
    return nic;
  }

  /** A packet of the test's pool that holds a frame. */
  packet(frame: Uint8Array): Packet {
    const packet = this.pool.allocate();
    if (packet === null) throw new Error('the pool of the test is empty');
    packet.bytes.set(frame, packet.offset);
    packet.length = frame.length;
    return packet;
  }

  /** Frames come in through a port, in one batch. */
  receive(portId: number, ...frames: Uint8Array[]): void {
    this.receiveAt(portId, 0, ...frames);
  }

  receiveAt(portId: number, nicIndex: number, ...frames: Uint8Array[]): void {
    const batch = new PacketBatch();
    for (const frame of frames) batch.push(this.packet(frame));
    this.sw.receive(portId, nicIndex, batch);
    this.checkFailures();
  }

  /** Throw what made an extension fail, such as an expectation in a handler. */
  checkFailures(): void {
    if (this.failuresExpected) return;
    for (const event of this.events) if (event.type === 'extension-failed') throw event.error;
  }

  /** Ids of the ports that got frames since the last look, one for each frame, sorted. */
  reached(): number[] {
    const reached: number[] = [];
    for (const [portId, nic] of this.nics) for (const _ of nic.take()) reached.push(portId);
    return reached.sort((a, b) => a - b);
  }

  /** Drops of a port by name. */
  drops(portId: number): Record<string, number> {
    return Object.fromEntries(this.sw.drops(portId).map((drop) => [drop.name, drop.packets]));
  }

  /** Packets that have not been given back. */
  get outstanding(): number {
    return this.pool.capacity - this.pool.available;
  }

  /** Enable an extension made of handlers. @returns its handle */
  enable(
    name: string,
    type: ExtensionType,
    make: (handle: ExtensionHandle) => Extension,
    position?: number,
  ): ExtensionHandle {
    const made = extension(name, type, make);
    this.sw.enableExtension(made.factory, undefined, position).result();
    return made.handle();
  }
}

/** A factory around handlers, and the handle of its last instance. */
export function extension(
  name: string,
  type: ExtensionType,
  make: (handle: ExtensionHandle) => Extension,
): { readonly factory: ExtensionFactory; handle(): ExtensionHandle } {
  let last: ExtensionHandle | null = null;
  return {
    factory: {
      descriptor: { name, type, version: '1' },
      create(handle: ExtensionHandle): Extension {
        last = handle;
        return make(handle);
      },
    },
    handle(): ExtensionHandle {
      if (last === null) throw new Error(`${name} has not been created`);
      return last;
    },
  };
}

/** Handlers that pass everything on. */
export function passing(handle: ExtensionHandle): Required<Pick<Extension, 'onIngress' | 'onEgress'>> {
  return {
    onIngress: (batch: Batch, flags: number) => handle.sendIngress(batch, flags),
    onEgress: (batch: Batch, flags: number) => handle.indicateEgress(batch, flags),
  };
}

/** Move all packets of a batch into a new one, as an extension does that keeps them. */
export function keep(batch: Batch): Batch {
  const kept = new PacketBatch();
  for (let i = 0; i < batch.count; i += 1) kept.push(batch.packets[i]);
  batch.clear();
  return kept;
}

/** A batch of these packets. */
export function batchOf(...packets: Packet[]): Batch {
  const batch = new PacketBatch();
  for (const packet of packets) batch.push(packet);
  return batch;
}

/** MAC address of host n: 02:00:00:00:00:nn. */
export function mac(n: number): Uint8Array {
  return Uint8Array.of(2, 0, 0, 0, 0, n);
}

export const BROADCAST = new Uint8Array(6).fill(0xff);

/** What a frame is made of. */
export interface FrameParts {
  readonly to?: Uint8Array;
  readonly from?: Uint8Array;
  /** TCIs, the outermost first. */
  readonly tags?: readonly number[];
  readonly type?: number;
  readonly payload?: Uint8Array | readonly number[];
  /** Pad to this length; 60 when not given. */
  readonly length?: number;
}

/** An Ethernet frame. */
export function frame(parts: FrameParts = {}): Uint8Array {
  const bytes = [...(parts.to ?? BROADCAST), ...(parts.from ?? mac(1))];
  for (const tci of parts.tags ?? []) bytes.push(0x81, 0x00, tci >> 8, tci & 0xff);
  const type = parts.type ?? 0x88b5;
  bytes.push(type >> 8, type & 0xff, ...(parts.payload ?? []));
  while (bytes.length < (parts.length ?? 60)) bytes.push(0);
  return Uint8Array.from(bytes);
}

/** An IPv4 packet with a transport payload; its checksum is not filled in. */
export function ipv4(
  source: readonly number[],
  destination: readonly number[],
  protocol: number,
  payload: number[],
): number[] {
  const length = 20 + payload.length;
  return [0x45, 0, length >> 8, length & 0xff, 0, 0, 0, 0, 64, protocol, 0, 0, ...source, ...destination, ...payload];
}

/** A UDP datagram with four bytes of data. */
export function udp(sourcePort: number, destinationPort: number): number[] {
  return [sourcePort >> 8, sourcePort & 255, destinationPort >> 8, destinationPort & 255, 0, 12, 0, 0, 1, 2, 3, 4];
}

/** An IPv6 packet from fe80::n to ff02::1. */
export function ipv6(n: number, nextHeader: number, payload: number[]): number[] {
  const source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n];
  const destination = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  return [
    0x60,
    0,
    0,
    0,
    payload.length >> 8,
    payload.length & 255,
    nextHeader,
    255,
    ...source,
    ...destination,
    ...payload,
  ];
}
