/** The extension on a switch in memory: outputs become destinations, changed copies are originated, and every packet is accounted for. */
import { expect, test } from 'vitest';
import { Batch, Checksum, Gso, MemoryAdapter, newCounters, PacketPool, Sink } from '../../net/index.ts';
import { createSwitch, type JsonValue, type VirtualSwitch } from '../../switch/index.ts';
import type { PseudoDeviceTransport } from './device/connection.ts';
import { OvsErrno, OvsError, type OvsSurroundings, type OvsSwitchPort, ovsExtension } from './index.ts';

/** A switch with ports p1, p2, ...; Open vSwitch knows them by these names. */
class Lab {
  readonly sw: VirtualSwitch;
  readonly adapters: MemoryAdapter[] = [];
  readonly pool = new PacketPool({ packets: 64, bufferBytes: 66_000 });
  readonly failures: string[] = [];
  readonly listening = new Set<string>();
  nowMs = 7_000;
  #indexes = 100;

  constructor(ports: number) {
    const surroundings: OvsSurroundings = {
      nowMs: () => this.nowMs,
      listen: (path, _accept: (transport: PseudoDeviceTransport) => unknown) => {
        this.listening.add(path);
        return { close: () => this.listening.delete(path) };
      },
      open: (_kind, name) => this.#open(name),
    };
    this.sw = createSwitch({
      name: 'lab',
      host: { nowMs: () => this.nowMs, log: () => {}, services: { ovs: surroundings } },
      verifyData: true,
    });
    this.sw.onEvent((event) => {
      if (event.type === 'extension-failed') this.failures.push(String(event.error.stack));
      if (event.type === 'misuse') this.failures.push(event.message);
    });
    this.sw.activate().result();
    this.sw.enableExtension(ovsExtension, { socket: '/memory' }).result();
    for (let port = 1; port <= ports; port += 1) this.addPort(`p${port}`);
    this.command('add-dp', { datapath: 'dp' });
    for (let port = 1; port <= ports; port += 1) this.command('add-if', { datapath: 'dp', port: `p${port}` });
  }

  addPort(name: string): number {
    const adapter = new MemoryAdapter({ name, sink: Sink.KEEP });
    const portId = this.sw.createPort({ name }).result();
    this.adapters[portId] = adapter;
    this.sw.createNic(portId, { name, backend: adapter }).result();
    this.sw.connectNic(portId).result();
    return portId;
  }

  #open(name: string): OvsSwitchPort {
    const there = this.sw.findPort(name);
    if (there === null && name !== 'dp') throw new OvsError(OvsErrno.ENODEV, name);
    this.#indexes += 1;
    return {
      portId: there ?? this.addPort(name),
      interfaceIndex: this.#indexes,
      counters: newCounters(),
      close: () => {},
    };
  }

  command(name: string, args: JsonValue = {}): JsonValue {
    return this.sw.extensionCommand('ovs', name, args);
  }

  flow(match: string, actions: string): void {
    this.command('add-flow', { flow: match, actions });
  }

  /** A frame comes in through a port. @returns what left, by port name */
  send(port: string, bytes: Uint8Array, change: { gsoSizeBytes?: number } = {}): Record<string, Uint8Array[]> {
    const batch = new Batch();
    const packet = this.pool.allocate();
    if (packet === null) throw new Error('packets were lost');
    packet.bytes.set(bytes, packet.offset);
    packet.length = bytes.length;
    if (change.gsoSizeBytes !== undefined) {
      packet.gsoType = Gso.TCPV4;
      packet.gsoSizeBytes = change.gsoSizeBytes;
      packet.headerLengthBytes = 54;
      packet.checksum = Checksum.PARTIAL;
      packet.checksumStart = 34;
      packet.checksumOffset = 16;
    }
    batch.push(packet);
    this.sw.receive(this.sw.findPort(port) ?? -1, 0, batch);
    expect(this.failures).toEqual([]);
    const { received, originated, delivered, dropped, consumed, contextsInUse } = this.sw.counters;
    expect(contextsInUse).toBe(0);
    expect(received + originated).toBe(delivered + dropped + consumed);
    const left: Record<string, Uint8Array[]> = {};
    for (const adapter of this.adapters.filter((one) => one !== undefined)) {
      const frames = adapter.takeTransmitted();
      if (frames.length > 0) left[adapter.name] = frames.map((one) => one.frame);
    }
    return left;
  }

  reasons(port: string): string[] {
    return this.sw.drops(this.sw.findPort(port) ?? -1).map((drop) => `${drop.name} ${drop.packets}`);
  }
}

/** A UDP frame, or with `bytes` as many of TCP. */
function frame(lengthBytes = 64, protocol = 17): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
  new DataView(bytes.buffer).setUint16(16, Math.min(lengthBytes - 14, 65_535));
  bytes.set([64, protocol], 22);
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
  bytes.set([0x10, 0, 0, 53], 34);
  if (protocol === 17) new DataView(bytes.buffer).setUint16(38, lengthBytes - 34);
  else bytes[46] = 0x50;
  return bytes;
}

test('an output becomes a destination; several outputs carry one and the same packet', () => {
  const lab = new Lab(3);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', '2');
  lab.flow('in_port(2),eth(),eth_type(0x0800),ipv4()', '1,3');
  expect(lab.send('p1', frame())).toEqual({ p2: [frame()] });
  expect(lab.send('p2', frame())).toEqual({ p1: [frame()], p3: [frame()] });
  expect(lab.sw.counters.originated).toBe(0);
});

test('what an action changes is a copy: the output before it has the packet as it came', () => {
  const lab = new Lab(3);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', '2,set(eth(dst=02:00:00:00:00:09)),3');
  const changed = frame();
  changed[5] = 9;
  expect(lab.send('p1', frame())).toEqual({ p2: [frame()], p3: [changed] });
  expect(lab.sw.counters).toMatchObject({ received: 1, originated: 1, delivered: 2, dropped: 0 });
});

test('a packet that is only sent on changed is consumed, not dropped', () => {
  const lab = new Lab(2);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', 'push_vlan(vid=7,pcp=0),2');
  const sent = lab.send('p1', frame()).p2;
  expect(sent).toHaveLength(1);
  expect([...sent[0].subarray(12, 18)]).toEqual([0x81, 0, 0, 7, 8, 0]);
  expect(lab.sw.counters).toMatchObject({ consumed: 1, dropped: 0, originated: 1 });
});

test('super-packets stay whole, changed or not', () => {
  const lab = new Lab(2);
  const large = frame(30_000, 6);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4(proto=6)', '2');
  expect(lab.send('p1', large, { gsoSizeBytes: 1448 })).toEqual({ p2: [large] });
  lab.command('del-flows');
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4(proto=6)', 'push_vlan(vid=7,pcp=0),2');
  expect(lab.send('p1', large, { gsoSizeBytes: 1448 }).p2[0]).toHaveLength(30_004);
});

test('a truncated output is short, the next one whole', () => {
  const lab = new Lab(3);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', 'trunc(32),2,3');
  expect(lab.send('p1', frame())).toEqual({ p2: [frame().subarray(0, 32)], p3: [frame()] });
});

test('a packet may go back to where it came from, and comes around by recirculation', () => {
  const lab = new Lab(2);
  lab.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', 'recirc(0x5)');
  lab.flow('recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4()', '1,2');
  expect(lab.send('p1', frame())).toEqual({ p1: [frame()], p2: [frame()] });
});

test('drops have the reasons of the datapath', () => {
  const lab = new Lab(2);
  lab.addPort('other');
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', 'drop');
  expect(lab.send('p1', frame())).toEqual({});
  expect(lab.send('p2', frame())).toEqual({});
  expect(lab.send('other', frame())).toEqual({});
  expect(lab.reasons('p1').join()).toMatch(/^ovs:(FLOW|EXPLICIT) 1$/);
  expect(lab.reasons('p2')).toEqual(['ovs:UPCALL_LOST 1']);
  expect(lab.reasons('other')).toEqual(['ovs:NO_VPORT 1']);
});

test('a port that is not connected costs its copy alone', () => {
  const lab = new Lab(3);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', '2,3');
  lab.sw.disconnectNic(lab.sw.findPort('p2') ?? -1).result();
  expect(lab.send('p1', frame())).toEqual({ p3: [frame()] });
});

test('traffic of hundreds of packets and flows leaves nothing behind, and disabling gives everything back', () => {
  const lab = new Lab(3);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', '2,push_vlan(vid=3,pcp=1),3,pop_vlan,set(ipv4(ttl=1)),1');
  for (let i = 0; i < 300; i += 1) lab.send('p1', frame(64 + (i % 1000)));
  expect(lab.sw.counters).toMatchObject({ received: 300, originated: 600, delivered: 900 });
  lab.sw.disableExtension('ovs').result();
  expect([...lab.listening]).toEqual([]);
  expect(lab.failures).toEqual([]);
});

test('commands and their arguments are checked', () => {
  const lab = new Lab(1);
  expect(() => lab.command('dump')).toThrow('there are dump-dps');
  expect(() => lab.command('add-flow', { flow: 'in_port(1)', actions: '2', more: 1 })).toThrow();
  expect(() => lab.command('add-if', { datapath: 'dp', port: 'nowhere' })).toThrow('nowhere');
  expect(() => lab.command('del-if', { datapath: 'dp', port: 'dp' })).toThrow('goes with its datapath');
  expect(() => lab.command('add-dp', { datapath: 'dp' })).toThrow('exists');
});
