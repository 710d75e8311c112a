/** Linux's own VXLAN device as the other end: TCP in super-packets both ways, pings, both outer families, with outer checksums and without. */
import { afterEach, expect, test } from 'vitest';
import { HashSecret, TUNNEL_WORDS, TunnelFlag } from '../src/flow/index.ts';
import { type LoopHandler, openPacketSocket, type PacketSocket } from '../src/host/index.ts';
import {
  BATCH_SIZE,
  Batch,
  Checksum,
  copyPacket,
  Gso,
  type HostPath,
  Offload,
  type Packet,
  PacketPool,
  parseMacInto,
  segment,
  TagAction,
} from '../src/net/index.ts';
import {
  Decapsulator,
  Encapsulator,
  encapsulateSegments,
  RowEncapsulator,
  TunnelKind,
  TunnelPort,
  TunnelPorts,
  TunnelResult,
  tunnelResultName,
} from '../src/tunnels/index.ts';
import { type Key, pathOf, wordsOf } from '../src/tunnels/testing.ts';
import { CommandError, Lab, labLoop, runWhile } from './support/index.ts';
import { transfer } from './support/transfer.ts';

let lab = new Lab();
afterEach(() => {
  lab.close();
  lab = new Lab();
});

/** Whether this kernel has the device; a kernel may be without. */
function hasVxlan(): boolean {
  const probe = new Lab();
  try {
    probe.host().ip('link add vx0 type vxlan id 1 dstport 4789');
    return true;
  } catch (error) {
    if (error instanceof CommandError) return false;
    throw error;
  } finally {
    probe.close();
  }
}

const OUR_MAC = '02:00:00:00:00:bb';
const macOf = (text: string) => {
  const bytes = new Uint8Array(6);
  parseMacInto(text, bytes, 0);
  return bytes;
};

/** One end of the tunnel: what comes from `wire` goes out at `port` without its outer headers, and the other way round. */
class TunnelEnd {
  /** What became of packets, by name. */
  readonly tally: Record<string, number> = {};
  longestInside = 0;
  rows = 0;
  readonly #wire: PacketSocket;
  readonly #port: PacketSocket;
  readonly #tunnel = new TunnelPort({ kind: TunnelKind.VXLAN });
  readonly #decapsulator: Decapsulator;
  readonly #encapsulator = new Encapsulator({ secret: new HashSecret() });
  readonly #path: HostPath;
  readonly #words: Uint32Array;
  readonly #read = new Uint32Array(TUNNEL_WORDS);
  readonly #copies = new PacketPool({ packets: 8, bufferBytes: 66_500, headroomBytes: 400 });
  readonly #rows = new RowEncapsulator(this.#encapsulator, this.#copies);
  readonly #pieces = new PacketPool({ packets: 256, bufferBytes: 2048, headroomBytes: 256 });
  readonly #batch = new Batch();
  readonly #out = new Batch();

  constructor(wire: PacketSocket, port: PacketSocket, path: HostPath, key: Key) {
    this.#wire = wire;
    this.#port = port;
    this.#path = path;
    this.#words = wordsOf(key);
    const ports = new TunnelPorts();
    ports.add(this.#tunnel);
    this.#decapsulator = new Decapsulator(ports);
  }

  /** Whether the kernel takes rows of datagrams as one packet. */
  get takesRows(): boolean {
    return (this.#wire.offloads & Offload.USO) !== 0;
  }

  get handlers(): [PacketSocket, LoopHandler][] {
    return [
      [this.#wire, { onReady: () => this.#receive(), onError: () => this.#wire.refresh() }],
      [this.#port, { onReady: () => this.#send(), onError: () => this.#port.refresh() }],
    ];
  }

  #receive(): void {
    const count = this.#wire.receive(this.#batch, BATCH_SIZE);
    for (let i = 0; i < count; i += 1) {
      const packet = this.#batch.packets[i];
      const result = this.#takeOut(packet);
      if (result === TunnelResult.DONE) this.#forward(packet);
      if (result !== TunnelResult.SEGMENT_FIRST) continue;
      expect(segment(packet, this.#pieces, this.#out)).toBe(0);
      for (let k = 0; k < this.#out.count; k += 1) {
        if (this.#takeOut(this.#out.packets[k]) === TunnelResult.DONE) this.#forward(this.#out.packets[k]);
      }
      this.#port.flush();
      this.#out.releaseAll();
    }
    this.#port.flush();
    this.#batch.releaseAll();
  }

  #takeOut(packet: Packet): number {
    this.#read.fill(0);
    const result = this.#decapsulator.decapsulate(packet, this.#read);
    this.#count(`in ${tunnelResultName(result)}`);
    return result;
  }

  #forward(packet: Packet): void {
    this.longestInside = Math.max(this.longestInside, packet.length);
    if (packet.length > 1600) expect(packet.checksum).toBe(Checksum.PARTIAL);
    this.#port.transmit(packet, TagAction.KEEP);
  }

  #send(): void {
    const count = this.#port.receive(this.#batch, BATCH_SIZE);
    for (let i = 0; i < count; i += 1) {
      const packet = copyPacket(this.#batch.packets[i], this.#copies);
      if (packet === null) throw new Error('no buffer for a copy');
      this.#putIn(packet);
      this.#wire.flush();
      this.#out.releaseAll();
      packet.release();
    }
    this.#batch.releaseAll();
  }

  #putIn(packet: Packet): void {
    const [port, words, path] = [this.#tunnel, this.#words, this.#path];
    const result = this.#encapsulator.encapsulate(packet, 0, port, words, 0, path);
    this.#count(`out ${tunnelResultName(result)}`);
    if (result === TunnelResult.DONE) this.#wire.transmit(packet, TagAction.KEEP);
    if (result !== TunnelResult.SEGMENT_FIRST) return;
    const out = this.#out;
    const cut = this.takesRows
      ? this.#rows.encapsulate(packet, port, words, 0, path, out)
      : encapsulateSegments(this.#encapsulator, packet, 0, port, words, 0, path, this.#pieces, out);
    expect(tunnelResultName(cut)).toBe('done');
    for (let i = 0; i < out.count; i += 1) {
      if (out.packets[i].gsoType === Gso.UDP_L4) this.rows += 1;
      this.#wire.transmit(out.packets[i], TagAction.KEEP);
    }
  }

  #count(name: string): void {
    this.tally[name] = (this.tally[name] ?? 0) + 1;
  }
}

test.skipIf(!hasVxlan()).each([
  {
    title: 'IPv4, with outer checksums',
    near: '10.9.0.1',
    far: '10.9.0.2',
    device: 'udpcsum',
    flags: TunnelFlag.CHECKSUM,
  },
  { title: 'IPv4, without', near: '10.9.0.1', far: '10.9.0.2', device: 'noudpcsum', flags: TunnelFlag.DONT_FRAGMENT },
  {
    title: 'IPv6, without outer checksums',
    near: 'fd09::1',
    far: 'fd09::2',
    device: 'udp6zerocsumtx udp6zerocsumrx',
    flags: 0,
  },
  { title: 'IPv6, with', near: 'fd09::1', far: 'fd09::2', device: '', flags: TunnelFlag.CHECKSUM },
])("TCP through Linux's VXLAN device over $title", async ({ near, far, device, flags }) => {
  const [a, b, middle] = lab.hosts(3);
  const isIpv6 = near.includes(':');
  lab.veth(middle, 'sa', a, 'eth0');
  lab.veth(middle, 'sb', b, 'eth0', { mtuBytes: 1430 });
  a.address('eth0', `${near}/${isIpv6 ? 64 : 24}`);
  a.ip(`neigh add ${far} lladdr ${OUR_MAC} dev eth0 nud permanent`);
  a.ip(`link add vx0 type vxlan id 77 remote ${far} local ${near} dstport 4789 dev eth0 ${device}`);
  a.ip('link set vx0 mtu 1430 up');
  a.address('vx0', '192.168.77.1/24');
  b.address('eth0', '192.168.77.2/24');

  const macs = { sourceMac: macOf(OUR_MAC), destinationMac: macOf(a.macAddress('eth0')) };
  const path = { ...pathOf(isIpv6, 1500, far), ...macs };
  const open = (interfaceName: string) => lab.own(middle.inside(() => openPacketSocket({ interfaceName })));
  const end = new TunnelEnd(open('sa'), open('sb'), path, {
    destination: near,
    id: 77n,
    flags: TunnelFlag.KEY | flags,
  });
  const loop = labLoop(lab);
  for (const [socket, handler] of end.handlers) loop.add(socket.fileDescriptor, handler);

  const pinged = a.start('ping', ['-n', '-c', '3', '-i', '0.2', '-w', '10', '192.168.77.2']);
  expect((await runWhile(loop, pinged.result())).match(/icmp_seq=/g)).toHaveLength(3);
  for (const [from, to, address] of [
    [a, b, '192.168.77.2'],
    [b, a, '192.168.77.1'],
  ] as const) {
    const { sent, received } = await runWhile(loop, transfer(from, to, address, 8 << 20));
    expect(received).toBe(sent);
  }
  // Super-packets came out whole, and went in as rows of datagrams; nothing was refused.
  expect(end.longestInside).toBeGreaterThan(5_000);
  if (end.takesRows) expect(end.rows).toBeGreaterThan(10);
  const {
    'in done': came,
    'in not-tunnelled': others,
    'out done': went,
    'out segment-first': cut,
    ...refused
  } = end.tally;
  expect([came > 100, went > 10, cut > 10, others ?? 0]).toEqual([true, true, true, expect.any(Number)]);
  expect(refused).toEqual({});
});
