/** The learning extension on a switch in memory. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Batch, formatMac, MemoryAdapter, PacketPool, Sink } from '../../net/index.ts';
import { createSwitch, type JsonValue, type SwitchEvent, type VirtualSwitch } from '../../switch/index.ts';
import { learningExtension } from './index.ts';

/** A switch of ports p1, p2, ... with the learning extension, on a clock of the test's. */
class Lab {
  nowMs = 5_000_000;
  readonly sw: VirtualSwitch;
  readonly adapters: MemoryAdapter[] = [];
  readonly events: SwitchEvent[] = [];
  readonly pool = new PacketPool({ packets: 64, bufferBytes: 2048 });

  constructor(ports: number, configuration: unknown = {}) {
    this.sw = createSwitch({ name: 'lab', host: { nowMs: () => this.nowMs, log: () => {} } });
    this.sw.onEvent((event) => this.events.push(event));
    this.sw.activate().result();
    this.addPort('p1');
    this.sw.enableExtension(learningExtension, configuration).result();
    for (let port = 2; port <= ports; port += 1) this.addPort(`p${port}`);
  }

  addPort(name: string): void {
    const adapter = new MemoryAdapter({ name, sink: Sink.KEEP });
    const portId = this.sw.createPort({ name }).result();
    this.adapters[portId] = adapter;
    this.sw.createNic(portId, { name, backend: adapter }).result();
    this.sw.connectNic(portId).result();
  }

  frame(from: number, to: number | string, tci = -1): Uint8Array {
    const bytes = new Uint8Array(64);
    bytes.set(to === 'all' ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, Number(to)]);
    bytes.set([2, 0, 0, 0, 0, from], 6);
    bytes.set(tci === -1 ? [0x88, 0xb5] : [0x81, 0, tci >> 8, tci & 255, 0x88, 0xb5], 12);
    return bytes;
  }

  /** A frame comes in through a port. @returns ids of the ports it left through */
  send(portId: number, bytes: Uint8Array): number[] {
    const batch = new Batch();
    const packet = this.pool.allocate();
    if (packet === null) throw new Error('packets were lost');
    packet.bytes.set(bytes, packet.offset);
    packet.length = bytes.length;
    batch.push(packet);
    this.sw.receive(portId, 0, batch);
    for (const event of this.events) if (event.type === 'extension-failed') throw event.error;
    const reached: number[] = [];
    this.adapters.forEach((adapter, id) => {
      for (const _ of adapter.takeTransmitted()) reached.push(id);
    });
    return reached;
  }

  command(name: string, args: JsonValue = null): JsonValue {
    return this.sw.extensionCommand('learning', name, args);
  }

  shown(args: JsonValue = null): string[] {
    const entries = this.command('show', args) as unknown as {
      vlan: number;
      mac: string;
      port: string;
      static: boolean;
    }[];
    return entries.map((entry) => `${entry.vlan} ${entry.mac.slice(-2)} ${entry.port}${entry.static ? ' static' : ''}`);
  }

  status(): Record<string, JsonValue> {
    return this.sw.extensionStatus('learning') as Record<string, JsonValue>;
  }

  drops(portId: number): Record<string, number> {
    return Object.fromEntries(this.sw.drops(portId).map((drop) => [drop.name, drop.packets]));
  }
}

test('what is learned is sent to its port alone; unknown, broadcast and multicast are flooded, never back', () => {
  const lab = new Lab(3);
  expect(lab.send(1, lab.frame(1, 2))).toEqual([2, 3]);
  expect(lab.send(2, lab.frame(2, 1))).toEqual([1]);
  expect(lab.send(1, lab.frame(1, 2))).toEqual([2]);
  expect(lab.send(3, lab.frame(3, 'all'))).toEqual([1, 2]);
  expect(lab.send(2, lab.frame(9, 2))).toEqual([]);
  expect(lab.drops(2)).toEqual({ DESTINATION_IS_SOURCE: 1 });
  expect(lab.shown()).toEqual(['0 01 p1', '0 02 p2', '0 03 p3', '0 09 p2']);
});

test('addresses are learned per VLAN', () => {
  const lab = new Lab(3);
  lab.send(1, lab.frame(1, 'all', 5));
  lab.send(2, lab.frame(1, 'all', 6));
  expect(lab.send(3, lab.frame(3, 1, 5))).toEqual([1]);
  expect(lab.send(3, lab.frame(3, 1, 6))).toEqual([2]);
  expect(lab.send(3, lab.frame(3, 1))).toEqual([1, 2]);
  expect(lab.shown({ vlan: 5 })).toEqual(['5 01 p1', '5 03 p3']);
});

test('an address that is silent for the ageing time is forgotten, one that talks is not', () => {
  const lab = new Lab(3, { ageingSeconds: 60 });
  lab.send(1, lab.frame(1, 'all'));
  lab.send(2, lab.frame(2, 'all'));
  lab.nowMs += 50_000;
  lab.send(1, lab.frame(1, 'all'));
  lab.nowMs += 11_000;
  expect(lab.send(3, lab.frame(3, 1))).toEqual([1]);
  expect(lab.send(3, lab.frame(3, 2))).toEqual([1, 2]);
  expect(lab.shown()).toEqual(['0 01 p1', '0 03 p3']);
});

test('an address that moves is followed at once and counted', () => {
  const lab = new Lab(3);
  lab.send(1, lab.frame(7, 'all'));
  lab.nowMs += 3_000;
  lab.send(2, lab.frame(7, 'all'));
  lab.nowMs += 2_000;
  expect(lab.send(3, lab.frame(3, 7))).toEqual([2]);
  expect(lab.status()).toMatchObject({
    moves: 1,
    recentMoves: [{ vlan: 0, mac: '02:00:00:00:00:07', from: 'p1', to: 'p2', secondsAgo: 2 }],
  });
  expect(lab.sw.extensions()[0].counters).toMatchObject({ moved: 1, learned: 2 });
  for (let i = 0; i < 100; i += 1) lab.send(1 + (i & 1), lab.frame(7, 'all'));
  expect(lab.status().moves).toBe(101);
  expect(lab.status().recentMoves).toHaveLength(32);
});

test('a move is told with the names that its ports had then, whoever has their numbers now', () => {
  const lab = new Lab(2);
  lab.send(1, lab.frame(7, 'all'));
  lab.send(2, lab.frame(7, 'all'));
  lab.sw.removePort(1).result();
  lab.sw.updatePort(2, { name: 'other' }).result();
  expect(lab.sw.createPort({ name: 'next' }).result()).toBe(1);
  expect(lab.status().recentMoves).toMatchObject([{ from: 'p1', to: 'p2' }]);
});

test('a static entry is never aged, moved or flushed with the learned ones', () => {
  const lab = new Lab(3, { static: [{ mac: '02:00:00:00:00:07', port: 'p2' }] });
  lab.nowMs += 10_000_000;
  expect(lab.send(1, lab.frame(1, 7))).toEqual([2]);
  expect(lab.send(3, lab.frame(7, 'all'))).toEqual([]);
  expect(lab.drops(3)).toEqual({ 'learning:STATIC_ELSEWHERE': 1 });
  expect(lab.command('flush')).toEqual({ flushed: 1 });
  expect(lab.shown()).toEqual(['0 07 p2 static']);
  expect(lab.command('flush', { static: true })).toEqual({ flushed: 1 });
  expect(lab.shown()).toEqual([]);
});

test('a static entry waits for its port, and is back when the port comes back', () => {
  const lab = new Lab(2, { static: [{ mac: '02-00-00-00-00-07', vlan: 0, port: 'later' }] });
  expect(lab.status().waitingStaticEntries).toHaveLength(1);
  expect(lab.send(1, lab.frame(1, 7))).toEqual([2]);
  lab.addPort('later');
  expect(lab.send(1, lab.frame(1, 7))).toEqual([3]);
  lab.sw.removePort(3).result();
  expect(lab.status().waitingStaticEntries).toHaveLength(1);
  lab.addPort('later');
  expect(lab.shown()).toEqual(['0 01 p1', '0 07 later static']);
  lab.sw.updatePort(3, { name: 'renamed' }).result();
  expect(lab.shown()).toEqual(['0 01 p1']);
});

test('a port at its limit floods or drops what is new, as configured', () => {
  const lab = new Lab(3, { onLimit: 'drop', ports: { p1: { limit: 2 }, p2: { limit: 1, onLimit: 'flood' } } });
  expect([1, 2, 3].map((host) => lab.send(1, lab.frame(host, 'all')).length)).toEqual([2, 2, 0]);
  expect(lab.drops(1)).toEqual({ MAC_LIMIT: 1 });
  expect([4, 5].map((host) => lab.send(2, lab.frame(host, 'all')).length)).toEqual([2, 2]);
  expect(lab.shown({ port: 'p2' })).toEqual(['0 04 p2']);
  expect(lab.send(3, lab.frame(9, 5))).toEqual([1, 2]);
  expect(lab.sw.extensions()[0].counters).toMatchObject({ overLimit: 2 });
});

test('in a full table the port that has most makes room, and it is said', () => {
  const lab = new Lab(3, { maximum: 3 });
  lab.send(2, lab.frame(9, 'all'));
  for (const host of [1, 2]) lab.send(1, lab.frame(host, 'all'));
  expect(lab.status()).toMatchObject({ exchanged: 0, fullest: { port: 'p1', addresses: 2 } });
  for (const host of [3, 4, 5, 6]) lab.send(1, lab.frame(host, 'all'));
  expect(lab.shown()).toEqual(['0 05 p1', '0 06 p1', '0 09 p2']);
  expect(lab.send(1, lab.frame(6, 9))).toEqual([2]);
  lab.send(3, lab.frame(7, 'all'));
  expect(lab.shown()).toEqual(['0 06 p1', '0 07 p3', '0 09 p2']);
  expect(lab.send(2, lab.frame(9, 7))).toEqual([3]);
  expect(lab.sw.extensions()[0].counters.tableFull).toBe(5);
  expect(lab.status()).toMatchObject({ entries: 3, maximum: 3, exchanged: 5 });
  lab.command('flush', { port: 'p1' });
  expect(lab.status()).toMatchObject({ fullest: null });
});

test('a port that does not learn is flooded to', () => {
  const lab = new Lab(3, { ports: { p1: { enabled: false } } });
  lab.send(1, lab.frame(1, 'all'));
  expect(lab.shown()).toEqual([]);
  expect(lab.send(2, lab.frame(2, 1))).toEqual([1, 3]);
});

test('flush takes a port, a VLAN, an address', () => {
  const lab = new Lab(3);
  lab.send(1, lab.frame(1, 'all', 5));
  lab.send(1, lab.frame(1, 'all', 6));
  lab.send(2, lab.frame(2, 'all', 5));
  lab.send(3, lab.frame(3, 'all', 5));
  expect(lab.command('flush', { port: 'p1', vlan: 6 })).toEqual({ flushed: 1 });
  expect(lab.command('flush', { mac: '02:00:00:00:00:02' })).toEqual({ flushed: 1 });
  expect(lab.shown()).toEqual(['5 01 p1', '5 03 p3']);
  expect(lab.command('flush', { vlan: 5 })).toEqual({ flushed: 2 });
});

test('entries are added and deleted by command; wrong arguments are named and change nothing', () => {
  const lab = new Lab(2);
  lab.command('add', { mac: '02:00:00:00:00:07', vlan: 5, port: 'p2' });
  expect(lab.shown()).toEqual(['5 07 p2 static']);
  lab.command('add', { mac: '02:00:00:00:00:07', vlan: 5, port: 'p1' });
  expect(lab.shown()).toEqual(['5 07 p1 static']);
  lab.command('add', { mac: '02:00:00:00:00:07', vlan: 5, port: 'nowhere' });
  expect(lab.shown()).toEqual([]);
  lab.command('add', { mac: '02:00:00:00:00:07', vlan: 5, port: 'p1' });
  expect(lab.command('del', { mac: '02:00:00:00:00:07', vlan: 5 })).toEqual({ removed: true });
  expect(lab.command('del', { mac: '02:00:00:00:00:07', vlan: 5 })).toEqual({ removed: false });
  const wrong: [string, JsonValue, string][] = [
    ['show', { colour: 1 }, 'colour'],
    ['show', { port: 'p9' }, 'there is no port p9'],
    ['add', { mac: 'x', port: 'p1' }, 'mac: must be a MAC address'],
    ['add', { mac: '01:00:00:00:00:01', port: 'p1' }, 'group address'],
    ['add', { mac: '02:00:00:00:00:01', vlan: 4095, port: 'p1' }, 'vlan'],
    ['dance', null, 'no command "dance"'],
  ];
  for (const [command, args, message] of wrong) expect(() => lab.command(command, args)).toThrow(message);
  expect(lab.sw.extensions()[0].enabled).toBe(true);
});

test('a new configuration keeps what was learned, as far as it fits', () => {
  const lab = new Lab(3, { static: [{ mac: '02:00:00:00:00:07', port: 'p2' }] });
  lab.send(1, lab.frame(1, 'all'));
  lab.command('add', { mac: '02:00:00:00:00:08', port: 'p3' });
  lab.sw.reconfigureExtension('learning', { ageingSeconds: 20, maximum: 100, ports: { p3: { limit: 1 } } }).result();
  expect(lab.shown()).toEqual(['0 01 p1', '0 08 p3 static']);
  expect(lab.status()).toMatchObject({ maximum: 100, ageingSeconds: 20 });
  expect(() => lab.sw.reconfigureExtension('learning', { ageingSeconds: -1 }).result()).toThrow('ageingSeconds');
  expect(() => lab.sw.reconfigureExtension('learning', { ageing: 1 }).result()).toThrow('ageing');
  lab.nowMs += 25_000;
  expect(lab.shown()).toEqual(['0 08 p3 static']);
});

test('a disconnected port is not sent to, and its addresses are forgotten', () => {
  const lab = new Lab(3, { static: [{ mac: '02:00:00:00:00:07', port: 'p2' }] });
  lab.send(2, lab.frame(2, 'all'));
  lab.sw.disconnectNic(2).result();
  expect(lab.send(1, lab.frame(1, 2))).toEqual([3]);
  expect(lab.send(1, lab.frame(1, 7))).toEqual([3]);
  expect(lab.shown({ port: 'p2' })).toEqual(['0 07 p2 static']);
});

test('the standard policies of the ports are enforced, with their reasons', () => {
  const lab = new Lab(3);
  lab.sw.setPortProperty(1, { type: 'vlan', mode: 'access', vlanId: 5 }).result();
  lab.sw
    .setPortProperty(2, {
      type: 'vlan',
      mode: 'private',
      privateMode: 'isolated',
      primaryVlanId: 5,
      secondaryVlanId: 6,
    })
    .result();
  lab.sw
    .setPortProperty(3, {
      type: 'vlan',
      mode: 'private',
      privateMode: 'isolated',
      primaryVlanId: 5,
      secondaryVlanId: 6,
    })
    .result();
  expect(lab.send(1, lab.frame(1, 'all', 9))).toEqual([]);
  lab.send(3, lab.frame(3, 'all'));
  expect(lab.send(2, lab.frame(2, 3))).toEqual([]);
  expect(lab.drops(1)).toEqual({ VLAN_TAGGED_ON_ACCESS: 1 });
  expect(lab.drops(3)).toMatchObject({ PRIVATE_VLAN: 1 });
});

test('link-local control frames stay on their link unless configured otherwise; bad sources are named', () => {
  const lab = new Lab(2);
  const stp = lab.frame(1, 'all');
  stp.set([1, 0x80, 0xc2, 0, 0, 0]);
  const group = lab.frame(1, 'all');
  group[6] = 3;
  expect([lab.send(1, stp), lab.send(1, group)]).toEqual([[], []]);
  expect(lab.drops(1)).toEqual({ LINK_LOCAL_CONTROL: 1, INVALID_SOURCE_MAC: 1 });
  lab.sw.reconfigureExtension('learning', { forwardLinkLocal: true }).result();
  expect(lab.send(1, stp)).toEqual([2]);
});

test('physical adapters of the external port: an address is reached where it was seen, also when that adapter goes', () => {
  const lab = new Lab(1);
  const external = lab.sw.createPort({ name: 'up', type: 'external' }).result();
  const members = [1, 2].map((nicIndex) => {
    const adapter = new MemoryAdapter({ name: `up${nicIndex}`, sink: Sink.KEEP });
    lab.sw.createNic(external, { nicIndex, name: adapter.name, backend: adapter }).result();
    return adapter;
  });
  lab.sw.connectNic(external, 1).result();
  const batch = new Batch();
  const packet = lab.pool.allocate();
  if (packet === null) throw new Error('no packet');
  packet.bytes.set(lab.frame(9, 'all'), packet.offset);
  packet.length = 64;
  batch.push(packet);
  lab.sw.receive(external, 2, batch);
  lab.send(1, lab.frame(1, 9));
  expect(members.map((adapter) => adapter.takeTransmitted().length)).toEqual([1, 0]);
  lab.sw.connectNic(external, 2).result();
  lab.send(1, lab.frame(1, 9));
  expect(members.map((adapter) => adapter.takeTransmitted().length)).toEqual([0, 1]);
});

test('trace names the ports that then get the frame, and learns nothing', () => {
  const lab = new Lab(4, {
    ports: { p4: { limit: 1, onLimit: 'drop' } },
    static: [{ mac: '02:00:00:00:00:05', port: 'p2' }],
  });
  lab.sw.setPortProperty(3, { type: 'vlan', mode: 'trunk', nativeVlanId: 5 }).result();
  const host = fc.integer({ min: 1, max: 6 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), host, host, fc.constantFrom(-1, 5, 6), (port, from, to, tci) => {
      const bytes = lab.frame(from, to, tci);
      const packet = lab.pool.allocate();
      if (packet === null) throw new Error('no packet');
      packet.bytes.set(bytes, packet.offset);
      packet.length = bytes.length;
      const before = JSON.stringify([lab.command('show'), lab.sw.extensions()]);
      const steps = lab.sw.trace(packet, port);
      packet.release();
      expect(JSON.stringify([lab.command('show'), lab.sw.extensions()])).toBe(before);
      const told = steps.flatMap((step) =>
        step.stage === 'delivery' && step.portId !== undefined ? [step.portId] : [],
      );
      const drop = steps.find((step) => step.drop !== undefined)?.drop;
      const count = (): number =>
        [1, 2, 3, 4].reduce((sum, id) => sum + (drop === undefined ? 0 : (lab.drops(id)[drop] ?? 0)), 0);
      const dropsBefore = count();
      expect(told).toEqual(lab.send(port, bytes));
      expect(count() - dropsBefore).toBe(drop === undefined ? 0 : 1);
    }),
    { numRuns: 300 },
  );
});

test('addresses shown are in canonical text', () => {
  const lab = new Lab(2);
  lab.send(1, lab.frame(0xab, 'all'));
  expect(lab.command('show')).toEqual([
    {
      vlan: 0,
      mac: formatMac(Uint8Array.of(2, 0, 0, 0, 0, 0xab)),
      port: 'p1',
      portId: 1,
      nicIndex: 0,
      static: false,
      ageSeconds: 0,
    },
  ]);
});
