/**
 * Tunnels in memory: packets a second into VXLAN, Geneve (with the option that OVN has) and GRE, and out of them again, over IPv4 and IPv6. A packet goes in and out in turn, so that both are
 * measured on what the other leaves; figures are by processor time of the process.
 */
import { performance } from 'node:perf_hooks';
import { HashSecret, TUNNEL_WORDS, TunnelFlag, TunnelOptions } from '../src/flow/index.ts';
import { Batch, Checksum, Gso, type HostPath, Packet, PacketPool, PathState, Region } from '../src/net/index.ts';
import {
  Decapsulator,
  Encapsulator,
  RowEncapsulator,
  TunnelKind,
  TunnelPort,
  TunnelPorts,
  TunnelResult,
  TunnelWord,
} from '../src/tunnels/index.ts';

/** Packets a second, both ways together and the way out of the tunnel by itself. */
interface TunnelFigures {
  bothPerSecond: number;
  decapsulatedPerSecond: number;
  encapsulatedPerSecond: number;
}

/** By kind and family, such as 'VXLAN over IPv4'; and super-packets. */
export interface TunnelBench {
  byKind: Readonly<Record<string, TunnelFigures>>;
  superPacketBps: number;
}

const FRAME_BYTES = 64;
const HEADROOM = 192;

/** A UDP frame of 64 bytes with headroom before it. */
function makePacket(): Packet {
  const bytes = new Uint8Array(HEADROOM + FRAME_BYTES);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0, 0], HEADROOM);
  bytes.set([10, 0, 0, 1, 172, 16, 0, 1, 0x10, 0, 0, 53, 0, 30, 0, 0], HEADROOM + 26);
  const packet = new Packet({ recycle: () => {} }, new Region(bytes.buffer), 0);
  packet.offset = HEADROOM;
  packet.length = FRAME_BYTES;
  packet.limit = bytes.length;
  packet.references = 1;
  return packet;
}

function makeWords(kind: number, isIpv6: boolean): Uint32Array {
  const words = new Uint32Array(TUNNEL_WORDS);
  words[TunnelWord.ID] = 0x1234;
  words[TunnelWord.DESTINATION] = isIpv6 ? 0xfd00_0001 : 0x0a01_0002;
  if (isIpv6) words[TunnelWord.DESTINATION + 3] = 2;
  const isGeneve = kind === TunnelKind.GENEVE;
  words[TunnelWord.IP] = ((isIpv6 ? 6 : 4) << 24) | (64 << 8) | (isGeneve ? TunnelOptions.GENEVE : TunnelOptions.NONE);
  words[TunnelWord.FLAGS] = (TunnelFlag.KEY << 16) | (isGeneve ? 8 << 8 : 0);
  if (isGeneve) {
    words[TunnelWord.OPTIONS] = 0x0102_8001;
    words[TunnelWord.OPTIONS + 1] = 0x0001_0002;
  }
  return words;
}

function makePath(isIpv6: boolean): HostPath {
  return {
    state: PathState.READY,
    interfaceIndex: 1,
    mtuBytes: 1500,
    source: isIpv6 ? Int32Array.of(0xfd00_0001 | 0, 0, 0, 1) : Int32Array.of(0x0a01_0001, 0, 0, 0),
    hasEthernet: true,
    sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 10),
    destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 11),
  };
}

/** One kind of tunnel over one family. */
class Case {
  readonly title: string;
  readonly #port: TunnelPort;
  readonly #packet = makePacket();
  readonly #words: Uint32Array;
  readonly #read = new Uint32Array(TUNNEL_WORDS);
  readonly #path: HostPath;
  readonly #decapsulator: Decapsulator;
  readonly #encapsulator = new Encapsulator({ secret: new HashSecret([1, 2]) });
  /** The outer packet's place, for decapsulating it again and again. */
  #outerOffset = 0;
  #outerLength = 0;

  constructor(name: string, kind: number, isIpv6: boolean) {
    this.title = `${name} over IPv${isIpv6 ? 6 : 4}`;
    this.#port = new TunnelPort({ kind });
    const ports = new TunnelPorts();
    ports.add(this.#port);
    this.#decapsulator = new Decapsulator(ports);
    this.#words = makeWords(kind, isIpv6);
    this.#path = makePath(isIpv6);
    this.encapsulate(1);
    this.#outerOffset = this.#packet.offset;
    this.#outerLength = this.#packet.length;
    this.decapsulate(1);
  }

  encapsulate(count: number): void {
    const packet = this.#packet;
    for (let i = 0; i < count; i += 1) {
      packet.offset = HEADROOM;
      packet.length = FRAME_BYTES;
      const result = this.#encapsulator.encapsulate(packet, 0, this.#port, this.#words, 0, this.#path);
      if (result !== TunnelResult.DONE) throw new Error(`${this.title}: encapsulation came to ${result}`);
    }
  }

  decapsulate(count: number): void {
    const packet = this.#packet;
    for (let i = 0; i < count; i += 1) {
      packet.offset = this.#outerOffset;
      packet.length = this.#outerLength;
      const result = this.#decapsulator.decapsulate(packet, this.#read);
      if (result !== TunnelResult.DONE) throw new Error(`${this.title}: decapsulation came to ${result}`);
    }
  }

  /** In and out, the same packet. */
  both(count: number): void {
    for (let i = 0; i < count; i += 1) {
      this.encapsulate(1);
      this.decapsulate(1);
    }
  }
}

/** Calls a second by processor time. */
function rate(seconds: number, each: number, run: (count: number) => void): number {
  let done = 0;
  const start = performance.now();
  const cpu = process.cpuUsage();
  while (performance.now() - start < seconds * 1000) {
    run(each);
    done += each;
  }
  const used = process.cpuUsage(cpu);
  return done / ((used.user + used.system) / 1e6);
}

const SUPER_PAYLOAD = 64_000;

/** A TCP super-packet of 64 KB as Linux hands it over. */
function makeSuperPacket(): Packet {
  const length = 54 + SUPER_PAYLOAD;
  const bytes = new Uint8Array(HEADROOM + length);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0], HEADROOM);
  const packet = new Packet({ recycle: () => {} }, new Region(bytes.buffer), 0);
  packet.region.view.setUint16(HEADROOM + 16, length - 14);
  bytes.set([0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x10, 0, 0, 80], HEADROOM + 20);
  bytes[HEADROOM + 46] = 0x50;
  packet.offset = HEADROOM;
  packet.length = length;
  packet.limit = bytes.length;
  packet.references = 1;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = 34;
  packet.checksumOffset = 16;
  packet.gsoType = Gso.TCPV4;
  packet.gsoSizeBytes = 1398;
  return packet;
}

/** Bits of payload a second of super-packets that go into VXLAN: in rows of datagrams. */
function superPacketRate(seconds: number): number {
  const packet = makeSuperPacket();
  const encapsulator = new Encapsulator({ secret: new HashSecret([1, 2]) });
  const port = new TunnelPort({ kind: TunnelKind.VXLAN });
  const words = makeWords(TunnelKind.VXLAN, false);
  const path = makePath(false);
  const rows = new RowEncapsulator(encapsulator, new PacketPool({ packets: 4, bufferBytes: 66_000 }));
  const batch = new Batch();
  const run = (count: number) => {
    for (let i = 0; i < count; i += 1) {
      const result = rows.encapsulate(packet, port, words, 0, path, batch);
      if (result !== TunnelResult.DONE) throw new Error(`a super-packet came to ${result}`);
      batch.releaseAll();
    }
  };
  rate(seconds, 100, run);
  return rate(seconds, 100, run) * SUPER_PAYLOAD * 8;
}

/** @param options.seconds length of each measurement */
export function benchTunnels(options: { seconds?: number } = {}): TunnelBench {
  const seconds = options.seconds ?? 0.5;
  const cases = [false, true].flatMap((isIpv6) => [
    new Case('VXLAN', TunnelKind.VXLAN, isIpv6),
    new Case('Geneve', TunnelKind.GENEVE, isIpv6),
    new Case('GRE', TunnelKind.GRE, isIpv6),
  ]);
  // All kinds have been met before any is measured, as in a switch that has them all.
  for (const each of cases) rate(seconds / 2, 10_000, (count) => each.both(count));
  const byKind = Object.fromEntries(
    cases.map((each) => [
      each.title,
      {
        bothPerSecond: rate(seconds, 10_000, (count) => each.both(count)),
        encapsulatedPerSecond: rate(seconds, 10_000, (count) => each.encapsulate(count)),
        decapsulatedPerSecond: rate(seconds, 10_000, (count) => each.decapsulate(count)),
      },
    ]),
  );
  return { byKind, superPacketBps: superPacketRate(seconds) };
}
