/** The extension on a switch in memory: outputs become destinations, changed copies are originated, and every packet is accounted for. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  FlowKey,
  type FlowRegistry,
  type FlowSource,
  resumeLength,
  Word,
  writeResumeRecord,
} from '../../flow/index.ts';
import {
  Batch,
  Checksum,
  Gso,
  MemoryAdapter,
  newCounters,
  PacketPool,
  type PortId,
  Sink,
  toKeyPort,
  toPortId,
} from '../../net/index.ts';
import { createSwitch, type JsonValue, type TraceStep, type VirtualSwitch } from '../../switch/index.ts';
import type { PseudoDeviceTransport } from './device/connection.ts';
import { OvsErrno, OvsError, type OvsSurroundings, type OvsSwitchPort, ovsExtension } from './index.ts';

/** A switch with ports p1, p2, ...; Open vSwitch knows them by these names. */
class Lab {
  readonly sw: VirtualSwitch;
  readonly adapters: MemoryAdapter[] = [];
  readonly pool = new PacketPool({ packets: 64, bufferBytes: 66_000 });
  readonly failures: string[] = [];
  readonly listening = new Set<string>();
  #source: FlowSource | null = null;
  /** Whether programs take what could be handed down to them, and carry it at once; and how often something could be. */
  takesDown = false;
  offeredDown = 0;
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
      host: { nowMs: () => this.nowMs, log: () => {}, services: { ovs: surroundings, flows: this.#registry() } },
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

  addPort(name: string): PortId {
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

  /** As the daemon's, of one table. */
  #registry(): FlowRegistry {
    return {
      register: (source) => {
        this.#source = source;
        return {
          portsChanged: () => {},
          close: () => {},
          handDown: (slot, packet) => {
            this.offeredDown += 1;
            if (!this.takesDown) return false;
            this.carried(slot, 1, packet.length);
            return true;
          },
        };
      },
    };
  }

  /** A program has carried packets of a flow. */
  carried(slot: number, packets: number, bytes: number): void {
    this.#source?.carried?.(slot, packets, bytes);
  }

  /** A program has carried a packet of the first flow, changed it, and hands it up. @returns what left, by port name */
  resume(
    port: string,
    bytes: Uint8Array,
    recircId: number,
    spoil: (record: Uint8Array) => void = () => {},
  ): Record<string, Uint8Array[]> {
    this.carried(0, 1, bytes.length);
    const packet = this.pool.allocate();
    if (packet === null) throw new Error('packets were lost');
    packet.bytes.set(bytes, packet.offset);
    packet.length = bytes.length;
    const key = new FlowKey();
    key.begin(toKeyPort(Number(port.slice(1))));
    key.words[Word.RECIRC_ID] = recircId;
    key.recirculations = 1;
    const record = new Uint8Array(resumeLength(key));
    writeResumeRecord(key, record, 0);
    spoil(record);
    this.#source?.resume?.(packet, toPortId(this.sw.findPort(port) ?? 0), {
      bytes: record,
      at: 0,
      length: record.length,
    });
    return this.#left();
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
    return this.#left();
  }

  /** What left, by port name; all that came in is accounted for. */
  #left(): Record<string, Uint8Array[]> {
    expect(this.failures).toEqual([]);
    const { received, originated, delivered, dropped, consumed, contextsInUse } = this.sw.counters;
    expect(contextsInUse).toBe(0);
    expect(received + originated).toBe(delivered + dropped + consumed);
    // Every drop has one reason at one port.
    const reasons = [0, ...this.adapters.keys()].filter((id) => id === 0 || this.adapters[id] !== undefined);
    const named = reasons.flatMap((id) => this.sw.drops(id)).reduce((sum, drop) => sum + drop.packets, 0);
    expect(named).toBe(dropped + this.sw.counters.copiesDropped);
    const left: Record<string, Uint8Array[]> = {};
    for (const adapter of this.adapters.filter((one) => one !== undefined)) {
      const frames = adapter.takeTransmitted();
      if (frames.length > 0) left[adapter.name] = frames.map((one) => one.frame);
    }
    return left;
  }

  /** The steps of a trace, as text; the switch is as it was. */
  trace(port: string, bytes: Uint8Array): readonly TraceStep[] {
    const packet = this.pool.allocate();
    if (packet === null) throw new Error('packets were lost');
    packet.bytes.set(bytes, packet.offset);
    packet.length = bytes.length;
    const state = () => JSON.stringify([this.sw.counters, this.command('dump-flows'), this.command('show')]);
    const before = state();
    const steps = this.sw.trace(packet, this.sw.findPort(port) ?? -1);
    expect(packet.frame()).toEqual(bytes);
    expect(packet.references).toBe(1);
    packet.release();
    expect(state()).toBe(before);
    expect(this.adapters.filter((one) => one !== undefined && one.takeTransmitted().length > 0)).toEqual([]);
    expect(this.failures).toEqual([]);
    return steps;
  }

  /** Ports through which a trace says that the frame leaves. */
  traced(port: string, bytes: Uint8Array): string[] {
    const names = this.adapters.map((one) => one?.name ?? '');
    const steps = this.trace(port, bytes).filter(({ stage, drop }) => stage === 'delivery' && drop === undefined);
    return steps.map(({ portId = 0 }) => names[portId]).sort();
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

test.each([
  ['an output to a port that does not exist', '9', ['ovs:PORT_MISSING 1']],
  ['a drop behind a change', 'set(eth(dst=02:00:00:00:00:09)),drop(0)', ['ovs:EXPLICIT 1']],
  ['changes that nobody sees', 'push_vlan(vid=7,pcp=0)', ['ovs:FLOW 1']],
  ['a sample that is never taken', 'sample(sample=0.0%,actions(2))', ['ovs:FLOW 1']],
  ['a port that is not connected', '3', ['NIC_NOT_CONNECTED 1']],
  ['a change for a port that is not connected', 'push_vlan(vid=7,pcp=0),3', ['NIC_NOT_CONNECTED 1']],
  ['recirculation to where no flow is', 'recirc(0x7)', ['ovs:UPCALL_LOST 1']],
  ['an upcall that nobody takes', 'userspace(pid=5)', ['ovs:UPCALL_LOST 1']],
])('a packet that goes nowhere is dropped for one reason: %s', (_what, actions, reasons) => {
  const lab = new Lab(3);
  lab.sw.disconnectNic(lab.sw.findPort('p3') ?? -1).result();
  lab.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', actions);
  expect(lab.send('p1', frame())).toEqual({});
  expect(lab.reasons('p1')).toEqual(reasons);
  expect(lab.sw.counters).toMatchObject({ received: 1, delivered: 0, dropped: 1, copiesDropped: 0 });
});

test.each(['2,9', '9,2', 'clone(9),2', '2,push_vlan(vid=7,pcp=0),9', 'sample(sample=100.0%,actions(9)),2'])(
  'a copy that goes nowhere has a reason, and its packet is delivered: %s',
  (actions) => {
    const lab = new Lab(2);
    lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', actions);
    expect(Object.keys(lab.send('p1', frame()))).toEqual(['p2']);
    expect(lab.reasons('p1')).toEqual(['ovs:PORT_MISSING 1']);
    expect(lab.sw.counters).toMatchObject({ received: 1, delivered: 1, dropped: 0, copiesDropped: 1 });
  },
);

/** Counts that tell where packets went: what a program carries counts at once what the engine counts packet by packet. */
function counted(lab: Lab) {
  const { received, dropped, copiesDropped, delivered } = lab.sw.counters;
  const ports = ['p1', 'p2', 'p3'].map((name) => ({
    name,
    ...lab.sw.port(lab.sw.findPort(name) ?? -1).counters,
    reasons: lab.reasons(name),
  }));
  return { received, dropped, copiesDropped, isDelivered: delivered > 0, ports };
}

test.each([
  '2',
  '2,3',
  'drop',
  'drop(0)',
  'clone(2),3',
  'sample(sample=100.0%,actions(2,3))',
  'check_pkt_len(size=100,gt(2),le(2))',
  'check_pkt_len(size=100,gt(clone(3),2),le(3,2))',
  'recirc(0x5)',
  'recirc(0x6)',
  '9',
  '2,9',
])('what a program carries is counted as what the engine does: %s', (actions) => {
  const labs = [new Lab(3), new Lab(3)];
  const slots = labs.map((lab) => {
    lab.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', actions);
    lab.flow('recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4()', 'sample(sample=100.0%,actions(3))');
    lab.flow('recirc_id(0x6),in_port(1),eth(),eth_type(0x0800),ipv4()', 'drop');
    return [0, 1, 2];
  });
  const [engine, program] = labs;
  for (let i = 0; i < 4; i += 1) engine.send('p1', frame(80));
  program.carried(slots[1][0], 4, 320);
  if (actions === 'recirc(0x5)') program.carried(slots[1][1], 4, 320);
  if (actions === 'recirc(0x6)') program.carried(slots[1][2], 4, 320);
  expect(counted(program)).toEqual(counted(engine));
});

test.each([
  ['is sent, and sent on changed', '2,set(ipv4(ttl=9)),3'],
  ['is dropped', 'drop'],
  ['goes to a port that is not there', '9'],
  ['is taken up by a program', 'userspace(pid=5)'],
])('a packet that a program has changed, looked up again and not found goes on: it %s', (_what, actions) => {
  const lab = new Lab(3);
  const first = 'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()';
  lab.flow(first, 'set(eth(dst=02:00:00:00:00:09)),recirc(0x5)');
  lab.flow('recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4()', actions);
  const changed = frame();
  changed[5] = 9;
  const whole = lab.send('p1', frame());
  const dropped = lab.reasons('p1');
  const split = lab.resume('p1', changed, 5);
  expect(split).toEqual(whole);
  expect(lab.reasons('p1')).toEqual(dropped.map((each) => each.replace(/ 1$/, ' 2')));
});

test.each(['2', 'drop', '9'])('a packet that is handed down counts where it ends, and nowhere twice: %s', (actions) => {
  const [engine, split] = [false, true].map((takesDown) => {
    const lab = new Lab(3);
    lab.takesDown = takesDown;
    lab.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', 'recirc(0x5)');
    lab.flow('recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4()', actions);
    for (let i = 0; i < 3; i += 1) lab.send('p1', frame());
    expect(lab.offeredDown).toBe(3);
    return lab;
  });
  expect(split.sw.counters).toEqual(engine.sw.counters);
  expect(split.reasons('p1')).toEqual(engine.reasons('p1'));
});

test('what is handed down overtakes nothing: behind what the engine sends of a list, the rest of it stays there', () => {
  const lab = new Lab(3);
  lab.takesDown = true;
  lab.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', '2,recirc(0x5)');
  lab.flow('recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4()', '3');
  expect(lab.send('p1', frame())).toEqual({ p2: [frame()], p3: [frame()] });
  expect(lab.offeredDown).toBe(0);
});

test('one whose record makes no sense is dropped by name, and the sums hold', () => {
  const lab = new Lab(2);
  lab.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', 'set(eth(dst=02:00:00:00:00:09)),recirc(0x5)');
  expect(lab.resume('p1', frame(), 5, (record) => record.fill(0xff, 2, 3))).toEqual({});
  expect(lab.reasons('p1')).toEqual(['ovs:RESUME_MALFORMED 1']);
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

test('a trace tells the megaflow, its actions, and what becomes of changed copies', () => {
  const lab = new Lab(3);
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4(proto=17,frag=no)', '2,push_vlan(vid=7,pcp=0),3');
  const steps = lab.trace('p1', frame()).filter(({ stage }) => stage === 'ovs' || stage === 'delivery');
  expect(steps.map(({ text }) => text)).toEqual([
    'port 1 of the datapath dp',
    'falls to the flow in_port(1),eth(),eth_type(0x0800),ipv4(proto=17,frag=no)',
    'actions: 2,push_vlan(vid=7,pcp=0),3',
    'output to p2 (port 2)',
    'output to p3 (port 3), 68 bytes, changed',
    expect.stringMatching(/^out through port p2 .*VLAN tag: keep/),
    expect.stringMatching(/^out through port p3 .*VLAN tag: keep/),
  ]);
});

test('a trace follows recirculations, and says where no flow matches any more', () => {
  const lab = new Lab(2);
  lab.flow('recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4()', 'set(ipv4(ttl=9)),recirc(0x5)');
  lab.flow('recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4(ttl=9)', '2,recirc(0x6)');
  const texts = lab.trace('p1', frame()).map(({ text }) => text);
  expect(texts).toContain(
    'recirculated with id 0x5: falls to the flow recirc_id(0x5),in_port(1),eth(),eth_type(0x0800),ipv4(ttl=9)',
  );
  expect(texts.find((text) => text.startsWith('recirculated with id 0x6: no flow matches'))).toContain('ttl=9');
  expect(lab.traced('p1', frame())).toEqual(['p2']);
});

test('a trace ends where the packet would: no flow and no program, a drop, no bridge, a port that does not exist', () => {
  const lab = new Lab(2);
  lab.addPort('other');
  const ended = (port: string) => lab.trace(port, frame()).findLast(({ drop }) => drop !== undefined)?.drop;
  expect(ended('p1')).toBe('ovs:UPCALL_LOST');
  expect(
    lab
      .trace('p1', frame())
      .map(({ text }) => text)
      .join('\n'),
  ).toContain('no flow matches recirc_id(0),in_port(1),eth(');
  lab.flow('in_port(1),eth(),eth_type(0x0800),ipv4()', 'drop');
  lab.flow('in_port(2),eth(),eth_type(0x0800),ipv4()', '77');
  expect(ended('p1')).toBe('ovs:FLOW');
  expect(ended('p2')).toBe('ovs:PORT_MISSING');
  expect(lab.trace('p2', frame()).map(({ text }) => text)).toContain('output to port 77, which does not exist');
  expect(ended('other')).toBe('ovs:NO_VPORT');
  expect(lab.traced('p1', new Uint8Array(9))).toEqual([]);
});

test('samples and meters are shown as done, and what goes to a program as handed to it', () => {
  const lab = new Lab(2);
  lab.flow(
    'in_port(1),eth(),eth_type(0x0800),ipv4()',
    'sample(sample=0.1%,actions(userspace(pid=7))),meter(9),clone(trunc(20),2)',
  );
  const steps = lab.trace('p1', frame());
  const texts = steps.map(({ text }) => text);
  expect(texts).toContain('what is done to a sample of its packets is shown as done to this one');
  expect(texts).toContain('to ovs-vswitchd, 64 bytes: userspace(pid=7)');
  expect(texts).toContain('meter 9: shown as within its rate');
  expect(texts).toContain('output to p2 (port 2), 20 bytes, changed');
  expect(steps.flatMap(({ handedTo }) => handedTo ?? [])).toEqual(['ovs-vswitchd']);
});

test('a trace agrees with what happens', () => {
  const action = fc.constantFrom(
    ...[
      '1',
      '2',
      '3',
      '9',
      'push_vlan(vid=7,pcp=1)',
      'pop_vlan',
      'set(ipv4(ttl=3))',
      'set(eth(dst=02:00:00:00:00:09))',
      'trunc(20)',
    ],
    ...[
      'clone(push_vlan(vid=8,pcp=0),2)',
      'recirc(0x5)',
      'check_pkt_len(size=80,gt(2),le(3))',
      'clone(set(udp(dst=7)),1),3',
    ],
  );
  const lists = fc.array(action, { maxLength: 6 });
  const lab = new Lab(3);
  fc.assert(
    fc.property(lists, lists, fc.integer({ min: 60, max: 120 }), (first, second, length) => {
      lab.command('del-flows');
      const list = (actions: string[]) => (actions.length === 0 ? 'drop' : actions.join(','));
      const match = 'in_port(1),eth(),eth_type(0x0800),ipv4(proto=17,ttl=64/0,frag=no)';
      lab.flow(`recirc_id(0),${match}`, list(first));
      lab.flow(`recirc_id(0x5),${match}`, list(second.filter((each) => !each.startsWith('recirc'))));
      const told = lab.traced('p1', frame(length));
      const left = Object.entries(lab.send('p1', frame(length))).flatMap(([name, frames]) => frames.map(() => name));
      expect(told).toEqual(left.sort());
    }),
    { numRuns: 100 },
  );
});
