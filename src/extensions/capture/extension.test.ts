import { expect, test } from 'vitest';
import { TestBench, tcp } from '../../../examples/testing.ts';
import { type Packet, toPortId } from '../../net/index.ts';
import { packetOf, randomFrame } from '../../net/match/testing.ts';
import { fuzzRounds, randomNumbers } from '../../net/wire/testing.ts';
import { Twins } from '../../switch/decider/testing/twins.ts';
import type { Shortcuts } from '../../switch/index.ts';
import { filterExtension } from '../filter/index.ts';
import { learningExtension } from '../learning/index.ts';
import { captureExtension } from './extension.ts';
import { CaptureHub, type CopySource } from './hub.ts';
import type { CaptureOptions } from './options.ts';
import { CaptureFlag } from './ring.ts';

function benchWith(...ports: string[]) {
  const bench = new TestBench(...ports);
  const hub = new CaptureHub(() => 1_700_000_000_000);
  bench.virtualSwitch.enableExtension(captureExtension(hub)).result();
  const open = (options: CaptureOptions = {}) => {
    const session = hub.open(options);
    return () => {
      const seen: string[] = [];
      session.take(10_000, (frame) => {
        const port = bench.virtualSwitch.port(frame.portId).name;
        const side = (frame.flags & CaptureFlag.OUT) === 0 ? 'from' : 'to';
        seen.push(`${side} ${port} ${Buffer.from(frame.frame()).toString('hex').slice(24)}`);
      });
      return seen;
    };
  };
  return { bench, hub, open };
}

const web = tcp('10.0.0.1', '10.0.0.2', [50_000, 80]);
const body = Buffer.from(web.subarray(12)).toString('hex');

test('a packet is seen once where it comes in and once for each port that it goes to', () => {
  const { bench, open } = benchWith('a', 'b', 'c');
  const seen = open();
  bench.send('a', web);
  expect(seen()).toEqual([`from a ${body}`, `to b ${body}`, `to c ${body}`]);
  expect(bench.take('b')).toEqual([web]);
});

test('what a filter drops is seen on its way in only', () => {
  const { bench, open } = benchWith('a', 'b', 'c');
  const rules = [
    { name: 'in', action: 'drop', direction: 'in', ports: ['b'] },
    { name: 'out', action: 'drop', direction: 'out', ports: ['c'] },
  ];
  bench.virtualSwitch.enableExtension(filterExtension, { rules }).result();
  const seen = open();
  bench.send('b', web);
  bench.send('a', web);
  expect(seen()).toEqual([`from b ${body}`, `from a ${body}`, `to b ${body}`]);
});

test('a frame is recorded with the tag that its port gets', () => {
  const { bench, open } = benchWith('access', 'trunk', 'other');
  const access = { type: 'vlan', mode: 'access', vlanId: 10 };
  const { virtualSwitch } = bench;
  virtualSwitch.setPortProperty(bench.portId('access'), access).result();
  virtualSwitch.setPortProperty(bench.portId('other'), access).result();
  const trunk = { type: 'vlan', mode: 'trunk', nativeVlanId: 0, trunkVlanIds: 'all', pruneVlanIds: [] };
  virtualSwitch.setPortProperty(bench.portId('trunk'), trunk).result();
  const seen = open();
  const tagged = open({ filter: 'vlan 10 and tcp' });
  bench.send('access', web);
  expect(seen()).toEqual([`from access ${body}`, `to trunk 8100000a${body}`, `to other ${body}`]);
  expect(tagged()).toEqual([`to trunk 8100000a${body}`]);
  bench.send(
    'trunk',
    Uint8Array.from(Buffer.concat([web.subarray(0, 12), Buffer.from('8100000a', 'hex'), web.subarray(12)])),
  );
  expect(seen()).toEqual([`from trunk 8100000a${body}`, `to access ${body}`, `to other ${body}`]);
});

test('sessions are listed, and can be closed by their number', () => {
  const { bench, hub, open } = benchWith('a', 'b');
  open({ filter: 'tcp', direction: 'in' });
  bench.send('a', web);
  const status = { sessions: [{ id: 1, filter: 'tcp', direction: 'in', capturedPackets: 1, lostPackets: 0 }] };
  expect(bench.virtualSwitch.extensionStatus('capture')).toMatchObject(status);
  const command = (name: string, args: { id: number }) => bench.virtualSwitch.extensionCommand('capture', name, args);
  expect(() => command('close', { id: 7 })).toThrow('there is no capture session 7');
  expect(() => command('open', { id: 1 })).toThrow('no command "open"');
  expect(command('close', { id: 1 })).toEqual({ sessions: [] });
  expect(hub.wantsIngress).toBe(false);
});

/** Somebody who carries packets past the switch, and shows copies while `copies` is true. */
class Bypass implements CopySource {
  copies = true;
  readonly waiting: Packet[] = [];
  readonly #hub: CaptureHub;

  constructor(hub: CaptureHub) {
    this.#hub = hub;
  }

  changed(): boolean {
    return this.copies;
  }

  /** One at a time. */
  drain(): number {
    const packets = this.waiting.splice(0, 1);
    for (const packet of packets) this.#hub.offer(packet, 0, 1, 0, 0, 1000);
    return packets.length;
  }
}

test('packets go past while copies of them come, and come themselves as soon as there are none', () => {
  const { bench, hub } = benchWith('a', 'b');
  const bypass = new Bypass(hub);
  hub.copyFrom(bypass);
  let shortcuts: Shortcuts | undefined;
  let told = 0;
  bench.virtualSwitch
    .enableExtension({
      descriptor: { name: 'asking', type: 'filtering', version: '1.0.0', description: 'asks for ways past' },
      create: (handle) => {
        shortcuts = handle.shortcuts;
        shortcuts.watch(() => {
          told += 1;
        });
        return {};
      },
    })
    .result();
  const isOpen = () => ['a', 'b'].map((name) => shortcuts?.isOpen(toPortId(bench.portId(name))));
  expect(isOpen()).toEqual([true, true]);
  told = 0;
  const session = hub.open({ portIds: [bench.portId('a')], snapLengthBytes: 100, direction: 'in' });
  expect([isOpen(), told]).toEqual([[true, true], 0]);
  bypass.copies = false;
  hub.changed();
  expect([isOpen(), told]).toEqual([[false, true], 1]);
  const filtered = hub.open({ portIds: [bench.portId('b')], snapLengthBytes: 100, filter: 'tcp', direction: 'out' });
  expect([isOpen(), told]).toEqual([[false, false], 2]);
  expect([hub.wantedBytes(1, 0), hub.wantedBytes(2, CaptureFlag.OUT)]).toEqual([100, 512]);
  bypass.copies = true;
  session.close();
  expect([isOpen(), told]).toEqual([[true, true], 3]);
  filtered.close();
  expect(told).toBe(3);
});

test('copies that wait come before the packets that come behind them, and are offered before a session ends', () => {
  const { bench, hub } = benchWith('a', 'b');
  const bypass = new Bypass(hub);
  hub.copyFrom(bypass);
  const session = hub.open({ direction: 'in' });
  const seen: [number, number][] = [];
  const take = () => session.take(100, ({ lengthBytes, originalBytes }) => seen.push([lengthBytes, originalBytes]));
  bypass.waiting.push(packetOf(new Uint8Array(70)));
  bench.send('a', web);
  take();
  expect(seen).toEqual([
    [70, 1070],
    [web.length, web.length],
  ]);
  bypass.waiting.push(packetOf(new Uint8Array(80)), packetOf(new Uint8Array(90)));
  session.close();
  take();
  expect(seen.slice(2)).toEqual([
    [80, 1080],
    [90, 1090],
  ]);
  hub.lose(1, 0, 5);
  expect(session.lostPackets).toBe(0);
});

test('copies that were lost are counted in the sessions that wanted them', () => {
  const { hub, bench } = benchWith('a', 'b');
  const [ofA, outOfB] = [hub.open({ portIds: [1] }), hub.open({ portIds: [2], direction: 'out' })];
  hub.lose(1, CaptureFlag.OUT, 3);
  hub.lose(2, 0, 5);
  hub.lose(2, CaptureFlag.OUT, 7);
  expect([ofA.lostPackets, outOfB.lostPackets]).toEqual([3, 7]);
  bench.send('a', web);
  const gaps: number[] = [];
  outOfB.take(9, ({ lostBefore }) => gaps.push(lostBefore));
  expect(gaps).toEqual([7]);
});

test('random and damaged frames are recorded as they are, and packets go on', () => {
  const { bench, hub, open } = benchWith('a', 'b');
  const seen = open({ direction: 'in' });
  const web = hub.open({ filter: 'port 80 or net fd00::/16 or vlan 10' });
  const random = randomNumbers(12);
  const rounds = fuzzRounds(2000);
  for (let round = 0; round < rounds; round += 1) {
    const frame = randomFrame(random);
    bench.send('a', frame);
    bench.take('b');
    for (const record of seen()) {
      expect(record).toBe(`from a ${Buffer.from(frame).toString('hex').slice(24)}`);
    }
  }
  expect(web.capturedPackets).toBeGreaterThan(rounds / 10);
  expect(bench.virtualSwitch.counters).toMatchObject({ received: rounds, contextsInUse: 0 });
});

test('packets that a session wants take no shortcut past it, others may', () => {
  const pair = new Twins();
  pair.enable(learningExtension);
  const hubs: CaptureHub[] = [];
  pair.both((sw) => {
    const hub = new CaptureHub(() => 1_700_000_000_000);
    sw.enableExtension(captureExtension(hub)).result();
    hubs.push(hub);
  });
  for (const port of [1, 2, 3, 4]) pair.addPort(port);
  const talk = () => {
    for (let round = 0; round < 4; round += 1) {
      for (const from of [1, 2, 3, 4]) {
        const to = from % 2 === 1 ? from + 1 : from - 1;
        const frame = new Uint8Array(60);
        frame.set([2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5]);
        pair.send(from, frame);
      }
    }
  };
  talk();
  expect(pair.flows).toBe(4);
  const sessions = hubs.map((hub) => hub.open({ portIds: [1], direction: 'both' }));
  const { carried } = pair;
  talk();
  // Half of the packets come from port 1, or go there.
  expect(pair.carried - carried).toBeGreaterThan(0);
  expect(pair.carried - carried).toBeLessThanOrEqual(8);
  expect(sessions.map((session) => session.capturedPackets)).toEqual([8, 8]);
  for (const session of sessions) session.close();
  talk();
  expect(pair.flows).toBe(4);
  pair.compare();
});
