/**
 * Copies of packets that programs carry: what is asked for comes out of the channel, as it came in and as it goes out, once and in order. Test
 * runs hand packets to the programs; nothing leaves the kernel's test bench.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { ArrayMap, bytes, SK_BUFF, TC, XDP, XDP_MD } from '../src/bpf/index.ts';
import { FlowTable, PutMode, parseActions, parseFlowKey } from '../src/flow/index.ts';
import { type InterfaceIndex, toInterfaceIndex, toKeyPort } from '../src/net/index.ts';
import { CopyChannel, cpuParts, FlowOffload, type LoadedProgram } from '../src/offload/index.ts';

const LOOPBACK = toInterfaceIndex(1);
const OTHER = toInterfaceIndex(2);
const WHOLE = 262_144;
const UDP = 'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.2,proto=17,frag=no)';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

/** UDP over IPv4, 64 bytes or more. */
function frame(dst = 2, lengthBytes = 64, ttl = 64): Uint8Array {
  const frame = new Uint8Array(lengthBytes).map((_, i) => i);
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, (lengthBytes - 14) >> 8, (lengthBytes - 14) & 0xff]);
  frame.set([0, 0, 0, 0, ttl, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, dst, 0, 5, 0, 6], 18);
  frame.set([(lengthBytes - 34) >> 8, (lengthBytes - 34) & 0xff, 0, 0], 38);
  return frame;
}

/** A frame with a tag behind its addresses. */
function tagged(bytes: Uint8Array, type: number, tci: number): Uint8Array {
  const tag = [type >> 8, type & 0xff, tci >> 8, tci & 0xff];
  return Uint8Array.from([...bytes.subarray(0, 12), ...tag, ...bytes.subarray(12)]);
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

class Bench {
  readonly hook: 'tc' | 'xdp';
  readonly table = new FlowTable();
  readonly offload: FlowOffload;
  readonly channel: CopyChannel;
  readonly refusedCopies: string[] = [];
  attached: LoadedProgram | undefined;
  skippedMs = 0;

  /** @param puntIfindex of a device that packets can go up by; nothing really does in a test run */
  constructor(hook: 'tc' | 'xdp', ringBytes = 1 << 20, puntIfindex: InterfaceIndex | 0 = 0) {
    this.hook = hook;
    this.offload = new FlowOffload({
      table: this.table,
      nowMs: () => Number(process.hrtime.bigint() / 1_000_000n) + this.skippedMs,
      resumes: true,
      copiesRefused: ({ reason }) => this.refusedCopies.push(reason),
      install: ({ programs }) => {
        this.attached = programs.find((program) => program.hook === hook) ?? this.attached;
      },
    });
    this.channel = CopyChannel.create({ ringBytes, cpus: cpuParts() });
    cleanups.push(
      () => this.offload.close(),
      () => this.channel.close(),
    );
    const port = { tapLike: false, puntIfindex: 0 as const, output: true, xdpOutput: true };
    this.offload.setPort({ ...port, ifindex: LOOPBACK, number: toKeyPort(1), hook, puntIfindex });
    this.offload.setPort({ ...port, ifindex: OTHER, number: toKeyPort(2), hook: null });
  }

  settle(): void {
    for (let turn = 0; turn < 50; turn += 1) {
      this.skippedMs += 200;
      this.offload.poll();
    }
  }

  put(flow: string, actions: string): void {
    const { key, mask } = parseFlowKey(flow);
    this.table.put({ key, mask, actions: parseActions(actions), ufid: null, mode: PutMode.CREATE_OR_MODIFY });
    this.settle();
  }

  copying(): void {
    expect(this.offload.setCopies(this.channel.maps)).toBe(true);
  }

  run(data: Uint8Array): number {
    if (this.attached === undefined) throw new Error('no program is installed');
    const context = new Uint8Array(this.hook === 'tc' ? 192 : 24);
    const view = new DataView(context.buffer);
    if (this.hook === 'tc') view.setUint32(SK_BUFF.ifindex, LOOPBACK, true);
    else {
      view.setUint32(XDP_MD.dataEnd, data.length, true);
      view.setUint32(XDP_MD.ingressIfindex, LOOPBACK, true);
    }
    return this.attached.program.run({ data, context }).result;
  }

  /** What has been copied. */
  taken(): string[] {
    const taken: string[] = [];
    this.channel.read((copy) => {
      const { region, offset, lengthBytes, originalBytes } = copy;
      const bytes = region.bytes.subarray(offset, offset + lengthBytes);
      const cut = originalBytes === lengthBytes ? '' : ` of ${originalBytes}`;
      taken.push(`${copy.isOut ? 'out' : 'in'} ${copy.ifindex} ${hex(bytes)}${cut}`);
    }, 1000);
    return taken;
  }

  get sent(): number {
    return this.hook === 'tc' ? TC.REDIRECT : XDP.REDIRECT;
  }

  get up(): number {
    return this.hook === 'tc' ? TC.NEXT : XDP.PASS;
  }

  get dropped(): number {
    return this.hook === 'tc' ? TC.SHOT : XDP.DROP;
  }
}

describe.each(['tc', 'xdp'] as const)('at %s', (hook) => {
  test('a packet is copied as it came in and as it goes out, and goes on', () => {
    const bench = new Bench(hook);
    bench.put(UDP, 'set(eth(src=02:00:00:00:00:0a,dst=02:00:00:00:00:0b)),2');
    bench.copying();
    bench.channel.want(LOOPBACK, WHOLE, 0);
    bench.channel.want(OTHER, 0, WHOLE);
    expect(bench.run(frame())).toBe(bench.sent);
    const changed = frame();
    changed.set([2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa]);
    expect(bench.taken()).toEqual([`in 1 ${hex(frame())}`, `out 2 ${hex(changed)}`]);
    expect(bench.taken()).toEqual([]);
  });

  test('only what is wanted is copied, by interface and direction, and no longer than that', () => {
    const bench = new Bench(hook);
    bench.put(UDP, '2');
    bench.copying();
    bench.channel.want(LOOPBACK, 0, WHOLE);
    bench.channel.want(OTHER, WHOLE, 0);
    expect(bench.run(frame())).toBe(bench.sent);
    expect(bench.taken()).toEqual([]);
    bench.channel.want(OTHER, 0, 20);
    bench.run(frame(2, 1000));
    expect(bench.taken()).toEqual([`out 2 ${hex(frame(2, 1000).subarray(0, 20))} of 1000`]);
    bench.channel.want(OTHER, 0, 0);
    bench.run(frame());
    expect(bench.taken()).toEqual([]);
  });

  test('what goes up is not copied, for the engine will show it; what is dropped is, on its way in', () => {
    const bench = new Bench(hook);
    bench.put(UDP, 'dec_ttl(le_1(drop)),2');
    bench.put(UDP.replace('10.0.0.2', '10.0.0.3'), 'drop');
    bench.copying();
    bench.channel.want(LOOPBACK, WHOLE, WHOLE);
    bench.channel.want(OTHER, WHOLE, WHOLE);
    expect(bench.run(frame(9))).toBe(bench.up);
    // A time to live that comes to its end is the engine's.
    expect(bench.run(frame(2, 64, 1))).toBe(bench.up);
    expect(bench.taken()).toEqual([]);
    expect(bench.run(frame(3))).toBe(bench.dropped);
    expect(bench.taken()).toEqual([`in 1 ${hex(frame(3))}`]);
    expect(bench.run(frame())).toBe(bench.sent);
    expect(bench.taken()).toHaveLength(2);
  });

  test('a packet that passes twice is copied once, and not if it goes up after all', () => {
    const bench = new Bench(hook);
    bench.put(UDP, 'recirc(0x7)');
    bench.copying();
    bench.channel.want(LOOPBACK, WHOLE, 0);
    bench.channel.want(OTHER, 0, WHOLE);
    expect(bench.run(frame())).toBe(bench.up);
    expect(bench.taken()).toEqual([]);
    bench.put('recirc_id(0x7),dp_hash(0x0/0x0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)', '2');
    expect(bench.run(frame())).toBe(bench.sent);
    expect(bench.taken()).toEqual([`in 1 ${hex(frame())}`, `out 2 ${hex(frame())}`]);
  });

  test('tags are where they are on the wire', () => {
    const bench = new Bench(hook);
    bench.put(UDP, 'push_vlan(vid=5,pcp=3),2');
    bench.copying();
    bench.channel.want(LOOPBACK, WHOLE, 0);
    bench.channel.want(OTHER, 0, WHOLE);
    expect(bench.run(frame())).toBe(bench.sent);
    expect(bench.taken()).toEqual([`in 1 ${hex(frame())}`, `out 2 ${hex(tagged(frame(), 0x8100, 0x6005))}`]);
  });

  test('copies that find no room are counted, and packets go on', () => {
    const bench = new Bench(hook, 4096);
    bench.put(UDP, '2');
    bench.copying();
    bench.channel.want(LOOPBACK, WHOLE, 0);
    for (let i = 0; i < 10; i += 1) expect(bench.run(frame(2, 1000))).toBe(bench.sent);
    const taken = bench.taken();
    expect(taken.length).toBeGreaterThan(0);
    expect([taken.length + bench.channel.lost(LOOPBACK, false), bench.channel.lost(LOOPBACK, true)]).toEqual([10, 0]);
    expect(bench.channel.lostInAll).toBe(10 - taken.length);
    bench.run(frame());
    expect(bench.taken()).toHaveLength(1);
  });

  test('the stage comes and goes between two packets, with all flows in their place', () => {
    const bench = new Bench(hook);
    bench.put(UDP, '2');
    const before = bench.attached;
    bench.copying();
    expect(bench.attached === before).toBe(false);
    expect(bench.attached?.listing()).toContain('a copy of what goes out');
    bench.put(UDP.replace('dst=10.0.0.2', 'src=10.0.0.7'), '2');
    expect(bench.attached?.listing()).toContain('a copy of what goes out');
    expect(bench.offload.setCopies(null)).toBe(true);
    expect(bench.attached?.listing()).not.toContain('copy');
    bench.channel.want(LOOPBACK, WHOLE, 0);
    expect(bench.run(frame())).toBe(bench.sent);
    expect(bench.taken()).toEqual([]);
  });
});

test('copies say when their packet came in', () => {
  const bench = new Bench('tc');
  bench.put(UDP, '2');
  bench.copying();
  bench.channel.want(LOOPBACK, WHOLE, 0);
  bench.channel.want(OTHER, 0, WHOLE);
  const times: number[] = [];
  for (let i = 0; i < 2; i += 1) {
    times.push(Number(process.hrtime.bigint()));
    bench.run(frame());
    times.push(Number(process.hrtime.bigint()));
  }
  const copies: number[] = [];
  bench.channel.read(({ timeNs }) => copies.push(timeNs), 10);
  const [first, firstOut, second, secondOut] = copies;
  expect([firstOut, secondOut]).toEqual([first, second]);
  expect([...times, first, second].sort((a, b) => a - b)).toEqual([
    times[0],
    first,
    times[1],
    times[2],
    second,
    times[3],
  ]);
});

test.each(['tc', 'xdp'] as const)(
  'at %s, a stage that the verifier does not take is left out, and flows go on',
  (hook) => {
    const bench = new Bench(hook);
    bench.put(UDP, '2');
    const tooSmall = ArrayMap.create({ name: 'small', value: bytes(16), maxEntries: 1 });
    cleanups.push(() => tooSmall.close());
    expect(bench.offload.setCopies({ ...bench.channel.maps, wanted: tooSmall })).toBe(false);
    expect(bench.refusedCopies).toEqual([expect.stringContaining('verifier refused')]);
    expect(bench.offload.refusals).toBe(0);
    expect(bench.run(frame())).toBe(bench.sent);
    bench.copying();
    bench.channel.want(LOOPBACK, WHOLE, 0);
    bench.run(frame());
    expect(bench.taken()).toHaveLength(1);
  },
);

test('an interface with too high an index is told', () => {
  const { channel } = new Bench('tc');
  expect([channel.want(65_536, 1, 1), channel.lost(70_000, true)]).toEqual([false, 0]);
});

test('the verifier takes the stage in a program of many kinds of action lists', () => {
  const bench = new Bench('tc');
  const changes = [
    '',
    'set(eth(src=02:00:00:00:00:0a)),',
    'set(eth(dst=02:00:00:00:00:0b)),',
    'set(ipv4(src=10.0.0.9)),',
    'set(ipv4(ttl=9)),set(udp(src=7)),',
    'set(ipv4(dst=10.0.0.9)),set(udp(dst=9)),',
    'dec_ttl(le_1(drop)),',
    'push_vlan(vid=5,pcp=0),',
    'trunc(100),',
    'push_vlan(vid=5,pcp=0),push_vlan(vid=6,pcp=0),',
  ];
  const lists = changes.flatMap((change) => [`${change}2`, `2,${change}2`, `${change}2,2`, `2,2,${change}2,2`]);
  lists.forEach((actions, i) => {
    const flow = `${UDP.replace('10.0.0.2', `10.0.1.${i}`)},udp(src=5,dst=6)`;
    const { key, mask } = parseFlowKey(flow);
    bench.table.put({ key, mask, actions: parseActions(actions), ufid: null, mode: PutMode.CREATE });
  });
  bench.settle();
  expect(bench.attached?.plan.shapes.length).toBeGreaterThan(30);
  const before = performance.now();
  bench.copying();
  expect(performance.now() - before).toBeLessThan(2000);
  expect(bench.attached?.listing()).toContain('a copy of what goes out');
  expect(bench.offload.refusals).toBe(0);
});

test('at tc a packet that is changed and looked up again is copied once as it came in, and as it goes out if it does', () => {
  const bench = new Bench('tc', 1 << 20, OTHER);
  bench.put(UDP, 'set(eth(dst=02:00:00:00:00:0b)),recirc(0x7)');
  bench.copying();
  bench.channel.want(LOOPBACK, WHOLE, 0);
  bench.channel.want(OTHER, 0, WHOLE);
  // It goes up, and the engine goes on with it; a redirect is all that a test run shows of that.
  expect(bench.run(frame())).toBe(bench.sent);
  expect(bench.taken()).toEqual([`in 1 ${hex(frame())}`]);
  bench.put('recirc_id(0x7),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)', 'set(eth(src=02:00:00:00:00:0a)),2');
  expect(bench.run(frame())).toBe(bench.sent);
  const changed = frame();
  changed.set([2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa]);
  expect(bench.taken()).toEqual([`in 1 ${hex(frame())}`, `out 2 ${hex(changed)}`]);
});

test('at XDP a packet that is changed and looked up again goes up as it came while copies are wanted, and is shown by nobody twice', () => {
  const bench = new Bench('xdp', 1 << 20, OTHER);
  bench.put(UDP, 'set(eth(dst=02:00:00:00:00:0b)),recirc(0x7)');
  const second = 'recirc_id(0x7),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)';
  expect(bench.run(frame())).toBe(bench.up);
  bench.put(second, '2');
  expect(bench.run(frame())).toBe(bench.sent);
  bench.copying();
  bench.channel.want(LOOPBACK, WHOLE, 0);
  bench.channel.want(OTHER, 0, WHOLE);
  expect(bench.run(frame())).toBe(bench.up);
  expect(bench.taken()).toEqual([]);
  expect(bench.offload.setCopies(null)).toBe(true);
  expect(bench.run(frame())).toBe(bench.sent);
});
