/**
 * FlowOffload against the running kernel: flows put into a table are carried by its programs, which test runs hand packets to. No packet leaves
 * the kernel's test bench. The other interface of all ports is loopback, which test runs let packets come from.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { at, R0, SK_BUFF, TC, XDP, XDP_MD } from '../src/bpf/index.ts';
import { FlowTable, PutMode, parseActions, parseFlowKey, Word } from '../src/flow/index.ts';
import { mappedMemory } from '../src/host/sys/index.ts';
import { toInterfaceIndex, toKeyPort } from '../src/net/index.ts';
import { MAXIMUM_MASKS } from '../src/offload/layout/limits.ts';
import { OffloadMaps } from '../src/offload/layout/maps.ts';
import { CounterByte, PORT_WORDS, PortWord } from '../src/offload/layout/sizes.ts';
import type { LoadedProgram, Refused } from '../src/offload/program/load.ts';
import { cpuParts, FlowOffload, type FlowOffloadOptions } from '../src/offload/table/flow-offload.ts';
import type { Installation } from '../src/offload/table/programs.ts';
import { showOffload } from '../src/offload/table/show.ts';
import { BpfFileSystem } from './support/bpf-fs.ts';

const LOOPBACK = toInterfaceIndex(1);
const HOOKS = ['tc', 'xdp'] as const;
type HookName = (typeof HOOKS)[number];

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

/** UDP or TCP over IPv4. */
function frame(given: { dst?: number; protocol?: number; flags?: number; ttl?: number } = {}): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set([
    2,
    0,
    0,
    0,
    0,
    2,
    2,
    0,
    0,
    0,
    0,
    1,
    8,
    0,
    0x45,
    0,
    0,
    50,
    0,
    0,
    0,
    0,
    given.ttl ?? 64,
    given.protocol ?? 17,
  ]);
  bytes.set([10, 0, 0, 1, 10, 0, 0, given.dst ?? 2, 0, 5, 0, 6], 26);
  // The length of UDP, and that of TCP's header.
  bytes.set([0, 30], 38);
  bytes.set([0x50, given.flags ?? 0], 46);
  return bytes;
}

const UDP = 'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.2,proto=17,frag=no)';

/** One flow of many, and a packet of it. */
const numberedFlow = (i: number) =>
  `recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.1.${i >> 8}.${i & 255},proto=17,frag=no)`;

function numberedFrame(i: number): Uint8Array {
  const bytes = frame();
  bytes.set([10, 1, i >> 8, i & 255], 30);
  return bytes;
}

class Bench {
  readonly table: FlowTable;
  readonly offload: FlowOffload;
  readonly hook: HookName;
  readonly installations: Installation[] = [];
  readonly refusals: [Refused, boolean][] = [];
  /** Milliseconds that are added to the real time. */
  skippedMs = 0;
  attached: LoadedProgram | undefined;

  constructor(hook: HookName, options: Partial<FlowOffloadOptions> & { readonly table?: FlowTable } = {}) {
    this.hook = hook;
    this.table = options.table ?? new FlowTable();
    this.offload = new FlowOffload({
      table: this.table,
      nowMs: () => Number(process.hrtime.bigint() / 1_000_000n) + this.skippedMs,
      install: (installation) => {
        this.installations.push(installation);
        this.attached = installation.programs.find((program) => program.hook === hook) ?? this.attached;
      },
      refused: (refusal, isLost) => this.refusals.push([refusal, isLost]),
      hashSecret: { low: 1, high: 2 },
      ...options,
    });
    cleanups.push(() => this.offload.close());
    const port = { tapLike: false, puntIfindex: 0 as const, output: true, xdpOutput: true };
    expect(this.offload.setPort({ ...port, ifindex: LOOPBACK, number: toKeyPort(1), hook })).toBeNull();
    this.offload.setPort({
      ...port,
      ifindex: toInterfaceIndex(LOOPBACK + 1),
      number: toKeyPort(2),
      hook: null,
      xdpOutput: false,
    });
    this.settle();
  }

  /** Until nothing is to be done. */
  settle(): void {
    for (let turn = 0; turn < 50; turn += 1) {
      this.skippedMs += 200;
      this.offload.poll();
    }
  }

  /** Let time go by, with the looks that belong to it. */
  skip(milliseconds: number): void {
    for (let gone = 0; gone < milliseconds; gone += 500) {
      this.skippedMs += 500;
      this.offload.poll();
    }
  }

  put(flow: string, actions: string, mode: number = PutMode.CREATE_OR_MODIFY): number {
    const { key, mask } = parseFlowKey(flow);
    return this.table.put({ key, mask, actions: parseActions(actions), ufid: null, mode });
  }

  run(data: Uint8Array, repeat = 1): number {
    if (this.attached === undefined) throw new Error('no program is installed');
    const context = new Uint8Array(this.hook === 'tc' ? 192 : 24);
    const view = new DataView(context.buffer);
    if (this.hook === 'tc') view.setUint32(SK_BUFF.ifindex, LOOPBACK, true);
    else {
      view.setUint32(XDP_MD.dataEnd, data.length, true);
      view.setUint32(XDP_MD.ingressIfindex, LOOPBACK, true);
    }
    return this.attached.program.run({ data, context, repeat }).result;
  }

  /** What the program says to a packet that it does not carry. */
  get up(): number {
    return this.hook === 'tc' ? TC.NEXT : XDP.PASS;
  }

  get sent(): number {
    return this.hook === 'tc' ? TC.REDIRECT : XDP.REDIRECT;
  }

  get dropped(): number {
    return this.hook === 'tc' ? TC.SHOT : XDP.DROP;
  }
}

describe.each(HOOKS)('at %s', (hook) => {
  test('a flow is carried as soon as it is put, and its counters come to the flow table', () => {
    const bench = new Bench(hook);
    expect(bench.run(frame())).toBe(bench.up);
    const slot = bench.put(UDP, '1');
    bench.settle();
    const before = performance.now();
    expect(bench.run(frame(), 10)).toBe(bench.sent);
    expect(bench.run(frame({ dst: 3 }))).toBe(bench.up);
    expect(bench.table.packetsOf(slot)).toBe(0);
    bench.table.refreshCounts(slot);
    expect(bench.table.packetsOf(slot)).toBe(10);
    expect(bench.table.bytesOf(slot)).toBe(640);
    const usedMs = bench.table.usedMsOf(slot);
    expect(Math.abs(usedMs - Number(process.hrtime.bigint()) / 1e6)).toBeLessThan(performance.now() - before + 100);
    const second = bench.put(UDP.replace('10.0.0.2', '10.0.0.3'), '1');
    bench.settle();
    expect(bench.run(frame({ dst: 3 }))).toBe(bench.sent);
    bench.offload.sync();
    expect(bench.table.packetsOf(second)).toBe(1);
    const [port] = showOffload(bench.offload).ports;
    expect(port).toMatchObject({
      carriedPackets: 11,
      carriedBytes: 704,
      punted: hook === 'tc' ? 2 : 0,
      passed: hook === 'tc' ? 0 : 2,
    });
  });

  test('a flow that is removed is not carried any more, and its last packets are counted first', () => {
    const bench = new Bench(hook);
    const slot = bench.put(UDP, '1');
    bench.settle();
    bench.run(frame(), 7);
    let packets = -1;
    bench.table.observe({
      flowAdded() {},
      flowModified() {},
      flowsFlushed() {},
      flowRemoved: (removed) => {
        packets = bench.table.packetsOf(removed);
      },
    });
    bench.table.remove(slot);
    expect(packets).toBe(7);
    expect(bench.run(frame())).toBe(bench.up);
    bench.put(UDP, '1');
    bench.settle();
    expect(bench.run(frame())).toBe(bench.sent);
    bench.table.flush();
    expect(bench.run(frame())).toBe(bench.up);
    expect(showOffload(bench.offload).entries).toBe(0);
  });

  test.each(['withdrawn', 'of a port that is not carried any more'])(
    'a flow that is %s is in the table yet, and so is what a program counts that had just found it',
    (why) => {
      const bench = new Bench(hook);
      const slot = bench.put(UDP, '1');
      bench.settle();
      bench.run(frame(), 7);
      const entry = bench.offload[hook].entryOf(slot);
      if (why === 'withdrawn') bench.offload.flowWithdrawn(slot);
      else {
        const port = { tapLike: false, puntIfindex: 0 as const, output: true, xdpOutput: true };
        bench.offload.setPort({ ...port, ifindex: LOOPBACK, number: toKeyPort(1), hook: null });
        bench.offload.poll();
      }
      expect(bench.table.packetsOf(slot)).toBe(7);
      expect(bench.run(frame())).toBe(bench.up);
      const { counters, sizes } = bench.offload.maps;
      counters.u32[(sizes.counterAt(entry, 0) + CounterByte.PACKETS) >>> 2] += 1;
      bench.settle();
      expect(bench.table.packetsOf(slot)).toBe(8);
    },
  );

  test('other actions take effect at once, and counting goes on', () => {
    const bench = new Bench(hook);
    const slot = bench.put(UDP, '1');
    bench.put(UDP.replace('10.0.0.2', '10.0.0.3'), 'drop');
    bench.settle();
    expect(bench.run(frame())).toBe(bench.sent);
    const programs = bench.installations.length;
    bench.put(UDP, 'drop');
    expect(bench.run(frame())).toBe(bench.dropped);
    bench.put(UDP, '1');
    expect(bench.run(frame())).toBe(bench.sent);
    bench.settle();
    bench.offload.sync();
    expect(bench.table.packetsOf(slot)).toBe(3);
    expect(bench.offload.drops().get(5)).toBe(1);
    expect(bench.installations.length).toBeLessThanOrEqual(programs + 1);
  });

  test('what is too long for where it goes is not sent: it goes up, or is lost and counted once it was changed', () => {
    const bench = new Bench(hook);
    const long = (given: { dst: number }) => {
      const bytes = new Uint8Array(164);
      bytes.set(frame(given));
      bytes[17] = 150;
      return bytes;
    };
    const own = {
      ifindex: LOOPBACK,
      number: toKeyPort(1),
      hook,
      tapLike: false,
      puntIfindex: 0 as const,
      output: true,
      xdpOutput: true,
    };
    bench.put(UDP, '1');
    bench.put(UDP.replace('10.0.0.2', '10.0.0.4'), 'push_vlan(vid=5,pcp=0),1');
    bench.settle();
    const verdicts = () => [2, 4].map((dst) => bench.run(long({ dst })));
    const { sent, up, dropped } = bench;
    expect(verdicts()).toEqual([sent, sent]);
    // Frames of 164 bytes; 18 do not count. At tc the tag is beside the frame and does not count either.
    bench.offload.setPort({ ...own, mtuBytes: 146 });
    expect(verdicts()).toEqual([sent, hook === 'tc' ? sent : dropped]);
    bench.offload.setPort({ ...own, mtuBytes: 145 });
    expect(verdicts()).toEqual([up, dropped]);
    expect(bench.offload.portCounters(LOOPBACK)).toMatchObject({ failed: hook === 'tc' ? 1 : 2 });
    bench.offload.setPort({ ...own, mtuBytes: 150 });
    expect(verdicts()).toEqual([sent, sent]);
    if (hook === 'xdp') return;
    // A port that is only sent to.
    const other = {
      ...own,
      ifindex: toInterfaceIndex(LOOPBACK + 1),
      number: toKeyPort(2),
      hook: null,
      xdpOutput: false,
    };
    bench.put(UDP.replace('10.0.0.2', '10.0.0.3'), '2');
    bench.settle();
    expect(bench.run(long({ dst: 3 }))).toBe(sent);
    bench.offload.setPort({ ...other, mtuBytes: 145 });
    expect(bench.run(long({ dst: 3 }))).toBe(up);
  });

  test('TCP flags are gathered', () => {
    const bench = new Bench(hook);
    const slot = bench.put(UDP.replace('17', '6'), '1');
    bench.settle();
    bench.run(frame({ protocol: 6, flags: 2 }));
    bench.run(frame({ protocol: 6, flags: 0x10 }));
    bench.offload.sync();
    expect(bench.table.tcpFlagsOf(slot)).toBe(0x12);
  });

  test('another mask takes another program, and the flows before are carried meanwhile', () => {
    const bench = new Bench(hook);
    bench.put(UDP, '1');
    bench.settle();
    const programs = bench.installations.length;
    bench.put(UDP.replace('dst=10.0.0.2', 'src=10.0.0.1').replace('proto=17', 'proto=6'), '1');
    expect(bench.run(frame())).toBe(bench.sent);
    expect(bench.run(frame({ protocol: 6 }))).toBe(bench.up);
    bench.settle();
    expect(bench.installations.length).toBe(programs + 1);
    expect(bench.run(frame({ protocol: 6 }))).toBe(bench.sent);
    expect(bench.run(frame())).toBe(bench.sent);
    // Again, now that the cache knows both.
    expect(bench.run(frame({ protocol: 6 }))).toBe(bench.sent);
    expect(bench.run(frame())).toBe(bench.sent);
    const [{ masks }] = showOffload(bench.offload).hooks.filter((each) => each.hook === hook);
    expect(masks.map(({ packets }) => packets)).toEqual(expect.arrayContaining([3, 2]));
  });

  test('a hash and a recirculation go through the second program, and what misses there goes up as if nothing had been', () => {
    const bench = new Bench(hook);
    const first = bench.put(UDP, 'hash(l4(0)),recirc(0x7)');
    bench.settle();
    expect(bench.run(frame())).toBe(bench.up);
    bench.offload.sync();
    expect(bench.table.packetsOf(first)).toBe(0);
    expect(showOffload(bench.offload).ports[0]).toMatchObject({ carriedPackets: 0, carriedBytes: 0, recirculated: 1 });
    const second = bench.put('recirc_id(0x7),dp_hash(0x0/0x0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)', '1');
    bench.settle();
    expect(bench.run(frame(), 3)).toBe(bench.sent);
    bench.offload.sync();
    expect(bench.table.packetsOf(first)).toBe(3);
    expect(bench.table.packetsOf(second)).toBe(3);
    expect(showOffload(bench.offload).ports[0]).toMatchObject({ carriedPackets: 3, carriedBytes: 192 });
  });

  test('a flow that recirculates for ever goes up', () => {
    const bench = new Bench(hook);
    const flow = bench.put('in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)', 'recirc(0x7)');
    bench.settle();
    expect(bench.run(frame(), 2)).toBe(bench.up);
    bench.offload.sync();
    expect(bench.table.packetsOf(flow)).toBe(0);
  });

  test('large tables with few flows left begin anew, smaller, and give their memory back; nothing is lost from the counters', () => {
    const before = mappedMemory();
    const bench = new Bench(hook, { initialEntries: 64 });
    const small = mappedMemory();
    const slots = Array.from({ length: 2000 }, (_, i) => bench.put(numberedFlow(i), '1'));
    bench.settle();
    expect(bench.offload.maps.sizes.entries).toBeGreaterThanOrEqual(2048);
    const large = mappedMemory();
    bench.run(numberedFrame(7), 5);
    for (const slot of slots.slice(10)) bench.table.remove(slot);
    // For ten seconds they stay: flows often come again.
    bench.skip(5000);
    expect(bench.offload.maps.sizes.entries).toBeGreaterThanOrEqual(2048);
    bench.run(numberedFrame(7), 6);
    const [former] = [bench.attached];
    bench.skip(60_000);
    expect(bench.attached === former).toBe(false);
    expect(bench.offload.maps.sizes.entries).toBe(64);
    expect(mappedMemory().mappings).toBe(small.mappings);
    expect(mappedMemory().bytes).toBeLessThan(large.bytes);
    expect(mappedMemory().bytes).toBe(small.bytes);
    for (let i = 0; i < 10; i += 1) expect(bench.run(numberedFrame(i))).toBe(bench.sent);
    expect(bench.run(numberedFrame(11))).toBe(bench.up);
    bench.offload.sync();
    expect(bench.table.packetsOf(slots[7])).toBe(12);
    // And they grow again.
    for (let i = 10; i < 300; i += 1) bench.put(numberedFlow(i), '1');
    bench.settle();
    expect(bench.run(numberedFrame(299))).toBe(bench.sent);
    bench.table.flush();
    bench.skip(60_000);
    expect(bench.offload.maps.sizes.entries).toBe(64);
    expect(bench.run(numberedFrame(7))).toBe(bench.up);
    bench.offload.close();
    expect(mappedMemory()).toEqual(before);
  });

  test('tables that begin anew take nothing along of entries that were not settled yet', () => {
    let isHeld = false;
    const marks = { mark: () => 0, isPast: () => !isHeld };
    const bench = new Bench(hook, { initialEntries: 64, programs: marks, puntPath: marks });
    const slots = Array.from({ length: 2000 }, (_, i) => bench.put(numberedFlow(i), '1'));
    bench.settle();
    for (const slot of slots.slice(10)) bench.table.remove(slot);
    bench.skip(5000);
    // Its number in the large tables is beyond the small ones.
    isHeld = true;
    bench.put(numberedFlow(3000), '1');
    bench.skip(60_000);
    expect(bench.offload.maps.sizes.entries).toBe(64);
    isHeld = false;
    bench.skip(5000);
    for (const i of [0, 9, 3000]) expect(bench.run(numberedFrame(i))).toBe(bench.sent);
  });

  test('tables grow beside those that are in use, and nothing is lost from the counters', () => {
    const bench = new Bench(hook, { initialEntries: 16, maximumEntries: 256 });
    const slots: number[] = [];
    for (let i = 0; i < 12; i += 1) slots.push(bench.put(UDP.replace('10.0.0.2', `10.0.0.${i}`), '1'));
    bench.settle();
    const ran: Record<number, number> = { 1: 3, 3: 4, 7: 5, 50: 1, 99: 1 };
    for (const [dst, repeat] of [
      [1, 2],
      [3, 3],
      [7, 5],
    ]) {
      expect(bench.run(frame({ dst }), repeat)).toBe(bench.sent);
    }
    const before = bench.attached;
    for (let i = 12; i < 100; i += 1) slots.push(bench.put(UDP.replace('10.0.0.2', `10.0.0.${i}`), '1'));
    expect(bench.run(frame({ dst: 1 }))).toBe(bench.sent);
    bench.settle();
    expect(bench.attached === before).toBe(false);
    for (const i of [3, 50, 99]) expect(bench.run(frame({ dst: i }))).toBe(bench.sent);
    bench.offload.sync();
    const packets = slots.map((slot) => bench.table.packetsOf(slot));
    expect(packets).toEqual(slots.map((_, i) => ran[i] ?? 0));
  });

  test('what a flow has in tables that were left is counted when the flow goes, and when it alone is asked for', () => {
    const counted = new Map<number, number>();
    const bench = new Bench(hook, {
      initialEntries: 16,
      maximumEntries: 256,
      carried: (slot, packets) => counted.set(slot, (counted.get(slot) ?? 0) + packets),
    });
    const put = (from: number, end: number) => {
      const slots: number[] = [];
      for (let i = from; i < end; i += 1) slots.push(bench.put(UDP.replace('10.0.0.2', `10.0.0.${i}`), '1'));
      return slots;
    };
    const slots = put(0, 12);
    // So that programs know how to drop.
    bench.put(UDP.replace('10.0.0.2', '10.0.0.200'), 'drop');
    bench.settle();
    const before = bench.attached;
    bench.run(frame({ dst: 3 }), 5);
    bench.run(frame({ dst: 5 }), 6);
    put(12, 100);
    for (let turn = 0; bench.attached === before && turn < 1000; turn += 1) bench.offload.poll();
    expect(bench.attached === before).toBe(false);
    // Another entry of the same flow, which counts as well.
    bench.put(UDP.replace('10.0.0.2', '10.0.0.3'), 'drop');
    // In tables that are full it waits for the next, and these for their share of the time.
    for (let turn = 0; turn < 1000 && bench.offload.reasons().size > 0; turn += 1) {
      bench.skippedMs += 2;
      bench.offload.poll();
    }
    expect(bench.run(frame({ dst: 3 }), 2)).toBe(bench.dropped);
    const [, , , third, , fifth] = slots;
    bench.table.remove(third);
    expect(counted.get(third)).toBe(7);
    bench.offload.statisticsWanted(fifth);
    expect(bench.table.packetsOf(fifth)).toBe(6);
    expect(bench.table.hits).toBe(13);
    // Tables are closed a part at a time, and counts are wanted between.
    for (let turn = 0; turn < 100; turn += 1) {
      bench.skippedMs += 20;
      bench.offload.poll();
      bench.offload.sync();
      bench.offload.statisticsWanted(fifth);
    }
    bench.table.flush();
    expect(bench.table.hits).toBe(13);
  });

  test('a flow that needs a longer entry gets one', () => {
    const bench = new Bench(hook);
    bench.put(UDP, '1');
    const flow = bench.put(
      'recirc_id(0),in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x86dd),ipv6(src=::1,dst=::2,label=0,proto=17,tclass=0,hlimit=64,frag=no),udp(src=5,dst=6)',
      '1',
    );
    bench.settle();
    expect(bench.offload.reasonOf(flow)).toBeNull();
    const bytes = new Uint8Array(80);
    bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
    bytes[37] = 1;
    bytes[53] = 2;
    bytes.set([0, 5, 0, 6, 0, 8], 54);
    expect(bench.run(bytes)).toBe(bench.sent);
    expect(bench.run(frame())).toBe(bench.sent);
  });

  test('flows beyond the room that there may be stay with the engine, counted under a reason', () => {
    const bench = new Bench(hook, { initialEntries: 16, maximumEntries: 32 });
    const slots = Array.from({ length: 40 }, (_, i) => bench.put(UDP.replace('10.0.0.2', `10.0.0.${i}`), '1'));
    bench.settle();
    const { offloadedFlows, reasons } = showOffload(bench.offload);
    expect(offloadedFlows).toBe(31);
    expect(reasons).toEqual([{ reason: 'no room for more flows, at most 31', flows: 9 }]);
    for (const slot of slots.slice(0, 20)) bench.table.remove(slot);
    bench.skippedMs += 2000;
    bench.settle();
    expect(showOffload(bench.offload)).toMatchObject({ flows: 20, offloadedFlows: 20, reasons: [] });
    for (const dst of [20, 31, 39]) expect(bench.run(frame({ dst }))).toBe(bench.sent);
  });

  test('what eBPF does not carry has a reason, and its packets go up', () => {
    const bench = new Bench(hook);
    const reasonOf = (flow: string, actions: string) => bench.offload.reasonOf(bench.put(flow, actions));
    expect(reasonOf('in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.1)', 'ct,recirc(0x1)')).toBe('action ct');
    expect(reasonOf('ct_state(+trk),in_port(1),eth()', '1')).toBe('matches on the state of a connection');
    expect(reasonOf('skb_mark(0x5),in_port(1),eth()', '1')).toBe('matches on a mark');
    expect(reasonOf('in_port(2),eth()', '1')).toBe('packets of port 2 go to the engine');
    expect(reasonOf('in_port(9),eth()', '1')).toBe('port 9 has no interface');
    bench.settle();
    expect(bench.run(frame({ dst: 1 }))).toBe(bench.up);
    expect(showOffload(bench.offload)).toMatchObject({ flows: 5, offloadedFlows: 0 });
  });

  test('why a port is not there is said as it is now', () => {
    let why: string | null = 'has no programs yet';
    const bench = new Bench(hook, { absence: () => why });
    const from = bench.put('in_port(9),eth()', '1');
    const to = bench.put('in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.9)', '9');
    const reasons = () => [from, to].map((slot) => bench.offload.reasonOf(slot));
    expect(reasons()).toEqual(['port 9 has no programs yet', 'output to port 9, which has no programs yet']);
    why = 'is decided about by ovs';
    bench.offload.absencesChanged();
    bench.settle();
    expect(reasons()).toEqual(['port 9 is decided about by ovs', 'output to port 9, which is decided about by ovs']);
  });

  test.each(['in_port(1)', 'in_port(1),eth(dst=02:00:00:00:00:02)', 'in_port(1),eth_type(0x8100)'])(
    'a frame that may end within a tag goes up, though %s looks at none of it',
    (flow) => {
      const bench = new Bench(hook);
      const { key, mask } = parseFlowKey(flow);
      for (const word of [Word.VLAN, Word.INNER_VLAN]) mask[word] = 0;
      bench.table.put({ key, mask, actions: parseActions('1'), ufid: null, mode: PutMode.CREATE });
      bench.settle();
      const cut = (lengthBytes: number, ...tags: number[]) => {
        const bytes = new Uint8Array(lengthBytes);
        bytes.set(frame().subarray(0, 12));
        const header = tags.flatMap((tpid) => [tpid >> 8, tpid & 255, 0, 5]);
        bytes.set(header.slice(0, lengthBytes - 12), 12);
        return bytes;
      };
      for (const lengthBytes of [14, 16, 17, 20, 45]) {
        expect(bench.run(cut(lengthBytes, 0x8100, 0x88a8, 0x8100, 0x8100)), `${lengthBytes} bytes`).toBe(bench.up);
      }
      if (flow.includes('eth_type')) return;
      expect(bench.run(cut(60, 0x8100, 0x88a8, 0x8100, 0x0800))).toBe(bench.sent);
      expect(bench.run(cut(15, 0x88b5))).toBe(bench.sent);
    },
  );

  test('a program that the verifier refuses is answered with its text and log, and the hook is given up', () => {
    const bench = new Bench(hook, { observe: { maps: [], emit: (b) => b.load(R0, 'u64', at(R0, 0)) } });
    expect(bench.attached).toBeDefined();
    const slot = bench.put(UDP, '1');
    const dropping = bench.put(UDP.replace('10.0.0.2', '10.0.0.3'), 'drop');
    bench.settle();
    expect(bench.refusals.length).toBeGreaterThan(0);
    const [refusal] = bench.refusals[0];
    expect(refusal.reason).toContain('verifier refused');
    expect(refusal.listing).toContain('shape ');
    expect(refusal.log).toContain('R0');
    expect(bench.offload.reasonOf(slot)).toBe('the verifier does not take its program');
    // Only the shapes that came last are to blame.
    expect(bench.offload.reasonOf(dropping)).not.toBeUndefined();
    expect(bench.run(frame())).toBe(bench.up);
  });

  test('a hook is lost, and says so, when even what ran before is refused', () => {
    let isBroken = false;
    const bench = new Bench(hook, {
      observe: { maps: [], emit: (b) => void (isBroken && b.load(R0, 'u64', at(R0, 0))) },
    });
    const slot = bench.put(UDP, '1');
    bench.settle();
    expect(bench.run(frame())).toBe(bench.sent);
    isBroken = true;
    const other = bench.put(UDP.replace('dst=10.0.0.2', 'src=10.0.0.7'), '1');
    bench.settle();
    const here = bench.refusals.filter(([refusal]) => refusal.hook === hook);
    expect(here.map(([, hookIsLost]) => hookIsLost)).toEqual([false, true]);
    // At XDP the flows fall back to tc, whose program is refused in turn.
    for (const each of [slot, other]) expect(bench.offload.reasonOf(each)).toContain('the verifier');
    expect(bench.run(frame())).toBe(bench.up);
  });

  test('while the program cannot be installed the former goes on', () => {
    let fails = false;
    const bench = new Bench(hook);
    bench.put(UDP, '1');
    bench.settle();
    const { attached } = bench;
    const offload = new FlowOffload({
      table: bench.table,
      nowMs: () => performance.now() + 1e6,
      install: () => {
        if (fails) throw new Error('the interface does not want it');
      },
    });
    cleanups.push(() => offload.close());
    fails = true;
    offload.setPort({
      ifindex: toInterfaceIndex(1),
      number: toKeyPort(1),
      hook,
      tapLike: false,
      puntIfindex: 0 as const,
      output: true,
      xdpOutput: false,
    });
    offload.poll();
    const until = performance.now() + 500;
    expect(() => {
      while (performance.now() < until) offload.poll();
    }).toThrow('does not want it');
    expect(bench.attached).toBe(attached);
    expect(bench.run(frame())).toBe(bench.sent);
  });

  test('the listing has notes and no secrets', () => {
    const bench = new Bench(hook);
    bench.put(UDP, '1');
    bench.settle();
    const text = bench.attached?.listing() ?? '';
    expect(text).toContain('; IPv4');
    expect(text).toContain('; mask 1 of 1');
    expect(text).toContain('output');
    expect(text).not.toMatch(/= 0x[0-9a-f]{12,}/);
    expect(bench.attached?.verifierLog(4)).toContain('processed');
  });
});

test('more masks than programs look up stay with the engine, until there is room', () => {
  const bench = new Bench('tc');
  const slots: number[] = [];
  const flow = (i: number) => {
    const { key, mask } = parseFlowKey(UDP);
    mask[30] = (0xffff_ffff << i) >>> 0;
    mask[21] = i < 16 ? 0xffff_ffff : 0;
    key[29] = 0;
    key[30] = (10 << 24) | (1 << i);
    return { key, mask, actions: parseActions('1'), ufid: null, mode: PutMode.CREATE };
  };
  for (let i = 0; i < 24; i += 1) slots.push(bench.table.put(flow(i)));
  for (let i = 0; i < 16; i += 1) {
    const other = flow(i);
    other.mask[23] = 0xff00;
    other.key[30] ^= 1 << 24;
    slots.push(bench.table.put(other));
  }
  expect(slots.every((slot) => slot >= 0)).toBe(true);
  const late = slots.filter((slot) => bench.offload.reasonOf(slot) !== null);
  expect(late.length).toBe(40 - MAXIMUM_MASKS);
  expect(bench.offload.reasonOf(late[0])).toBe(`${MAXIMUM_MASKS + 1} masks, at most ${MAXIMUM_MASKS}`);
  bench.settle();
  for (const slot of slots.slice(0, 8)) bench.table.remove(slot);
  bench.settle();
  expect(late.map((slot) => bench.offload.reasonOf(slot))).toEqual(late.map(() => null));
  expect(bench.refusals).toEqual([]);
});

test('a port hands up no more than its share, drops the others, counts them, and goes on when the engine has worked off some', () => {
  const bench = new Bench('tc');
  bench.offload.setPort({
    ...{
      ifindex: LOOPBACK,
      number: toKeyPort(1),
      hook: 'tc',
      tapLike: false,
      puntIfindex: LOOPBACK,
      output: true,
      xdpOutput: false,
    },
  });
  bench.put(UDP.replace('10.0.0.2', '10.0.0.9'), '1');
  bench.settle();
  bench.offload.setShare(LOOPBACK, 3);
  bench.run(frame(), 3);
  expect([bench.offload.underWay(LOOPBACK), bench.offload.takeRefusedPunts(LOOPBACK)]).toEqual([3, 0]);
  expect(bench.run(frame(), 5)).toBe(TC.SHOT);
  expect([bench.offload.underWay(LOOPBACK), bench.offload.takeRefusedPunts(LOOPBACK)]).toEqual([3, 5]);
  expect(bench.offload.portCounters(LOOPBACK)?.punted).toBe(3);
  bench.offload.drained(LOOPBACK, 2);
  bench.run(frame(), 2);
  expect([bench.offload.underWay(LOOPBACK), bench.offload.takeRefusedPunts(LOOPBACK)]).toEqual([3, 0]);
  // A flow that has just come waits for what went up before, and shares with it.
  bench.put(UDP, '1');
  expect(bench.run(frame())).toBe(TC.SHOT);
  bench.offload.drained(LOOPBACK, 3);
  expect(bench.run(frame())).toBe(bench.sent);
  expect(bench.offload.underWay(LOOPBACK)).toBe(0);
  bench.offload.setShare(LOOPBACK, 0);
  bench.run(numberedFrame(1), 1000);
  expect(bench.offload.takeRefusedPunts(LOOPBACK)).toBe(1);
});

describe('more masks than there are places', () => {
  /** One flow of a mask of its own. */
  function maskFlow(bench: Bench, port: number, i: number): number {
    const { key, mask } = parseFlowKey(UDP);
    key[Word.IN_PORT] = port;
    key[Word.IPV4_DESTINATION] = ((10 + port) << 24) | (1 << (i & 15)) | ((i >> 4) << 16);
    mask[Word.IPV4_DESTINATION] = (0xffff_ffff << (i & 15)) >>> 0;
    mask[Word.IPV4_SOURCE] = (0xffff_ffff << (i >> 4)) >>> 0;
    return bench.table.put({ key, mask, actions: parseActions('1'), ufid: null, mode: PutMode.CREATE });
  }

  /** Packets of flows, as time goes by. */
  function use(
    bench: Bench,
    seconds: number,
    ...flows: readonly (readonly [slots: readonly number[], packets: number])[]
  ) {
    for (let i = 0; i < seconds * 4; i += 1) {
      for (const [slots, packets] of flows)
        for (const slot of slots) for (let n = 0; n < packets; n += 1) bench.table.count(slot, 60, 0, 1);
      for (let turn = 0; turn < 10; turn += 1) {
        bench.skippedMs += 25;
        bench.offload.poll();
      }
    }
  }

  const inKernel = (bench: Bench, slots: readonly number[]) =>
    slots.filter((slot) => bench.offload.reasonOf(slot) === null).length;

  /** Port 3 asks for 100 masks before port 1 comes with its own. */
  function flooded(full: (port: number, masks: number) => void = () => {}) {
    const bench = new Bench('tc', { masksFull: full });
    const other = {
      ifindex: toInterfaceIndex(LOOPBACK + 2),
      number: toKeyPort(3),
      hook: 'tc',
      tapLike: false,
      puntIfindex: 0 as const,
    } as const;
    bench.offload.setPort({ ...other, output: true, xdpOutput: false });
    const flood = Array.from({ length: 100 }, (_, i) => maskFlow(bench, 3, i));
    bench.settle();
    expect(inKernel(bench, flood)).toBe(MAXIMUM_MASKS);
    const own = [200, 217, 234].map((i) => maskFlow(bench, 1, i));
    return { bench, flood, own };
  }

  test('a port gets places for its masks, however much those of another carry', () => {
    const { bench, flood, own } = flooded();
    use(bench, 8, [flood, 20], [own, 1]);
    expect(inKernel(bench, own)).toBe(own.length);
    // Some places are kept for others.
    expect(inKernel(bench, flood)).toBeLessThan(MAXIMUM_MASKS - own.length);
    expect(inKernel(bench, flood)).toBeGreaterThan(MAXIMUM_MASKS / 2);
    expect(bench.offload.reasonOf(maskFlow(bench, 1, 210))).toBeNull();
    expect(bench.offload.reasonOf(maskFlow(bench, 3, 211))).not.toBeNull();
    expect(bench.refusals).toEqual([]);
  });

  test('of one port those have places that carry most, and what carries about as much is not exchanged', () => {
    const { bench, flood, own } = flooded();
    const busy = flood.slice(60, 70);
    use(bench, 10, [flood, 1], [busy, 100], [own, 5]);
    expect(inKernel(bench, busy)).toBe(busy.length);
    expect(inKernel(bench, own)).toBe(own.length);
    const programs = bench.installations.length;
    use(bench, 20, [flood, 1], [busy, 100], [own, 5], [flood.slice(80), 1]);
    expect(bench.installations.length).toBe(programs);
  });

  test('it is told once, with the port that asks for most, and masks come in freely again when all have a place', () => {
    const told: (readonly [number, number])[] = [];
    const { bench, flood, own } = flooded((port, masks) => told.push([port, masks]));
    use(bench, 8, [flood, 1], [own, 1]);
    expect(told).toEqual([[3, 100]]);
    for (const slot of flood.slice(10)) bench.table.remove(slot);
    use(bench, 8, [own, 1]);
    expect(inKernel(bench, [...flood.slice(0, 10), ...own])).toBe(13);
    expect(bench.offload.reasonOf(maskFlow(bench, 1, 99))).toBeNull();
  });
});

describe('order', () => {
  test('a hit waits until the engine has worked off what the flow sent before', () => {
    const bench = new Bench('tc');
    bench.put(UDP.replace('10.0.0.2', '10.0.0.9'), '1');
    bench.settle();
    expect(bench.run(frame(), 3)).toBe(bench.up);
    const slot = bench.put(UDP, '1');
    expect(bench.run(frame())).toBe(bench.up);
    bench.offload.drained(LOOPBACK, 3);
    // The fourth is still on its way.
    expect(bench.run(frame())).toBe(bench.up);
    bench.offload.drained(LOOPBACK, 2);
    expect(bench.run(frame(), 4)).toBe(bench.sent);
    bench.offload.sync();
    expect(bench.table.packetsOf(slot)).toBe(4);
    expect(showOffload(bench.offload).ports[0].punted).toBe(5);
  });

  test('a flow of several ports waits until all is worked off', () => {
    const bench = new Bench('tc');
    bench.put(UDP.replace('in_port(1),', '').replace('10.0.0.2', '10.0.0.9'), '1');
    bench.settle();
    bench.run(frame());
    bench.put(UDP.replace('in_port(1),', ''), '1');
    expect(bench.run(frame())).toBe(bench.up);
    bench.offload.drained(LOOPBACK, 2);
    expect(bench.run(frame())).toBe(bench.sent);
  });

  test('packets that miss while the program for a new mask is made are waited for, however long that takes', () => {
    const bench = new Bench('tc');
    const programs = bench.installations.length;
    bench.put(UDP, '1');
    expect(bench.run(frame(), 3)).toBe(bench.up);
    while (bench.installations.length === programs) {
      bench.skippedMs += 10;
      bench.offload.poll();
    }
    bench.skippedMs += 20;
    bench.offload.poll();
    expect(bench.run(frame())).toBe(bench.up);
    bench.offload.drained(LOOPBACK, 3);
    expect(bench.run(frame())).toBe(bench.up);
    bench.offload.drained(LOOPBACK, 2);
    expect(bench.run(frame(), 4)).toBe(bench.sent);
  });

  test('other actions of a new shape wait for what goes up while their program is made', () => {
    const bench = new Bench('tc');
    bench.put(UDP, '1');
    bench.settle();
    expect(bench.run(frame())).toBe(bench.sent);
    const programs = bench.installations.length;
    bench.put(UDP, 'set(ipv4(ttl=9)),1');
    expect(bench.run(frame())).toBe(bench.up);
    while (bench.installations.length === programs) {
      bench.skippedMs += 3;
      bench.offload.poll();
    }
    expect(bench.run(frame())).toBe(bench.up);
    bench.offload.drained(LOOPBACK, 2);
    expect(bench.run(frame())).toBe(bench.sent);
  });

  test('a flow that is faster than the engine is stopped for a moment, and then carried: it never overtakes itself', () => {
    let turns = 0;
    const puntPath = { mark: () => turns + 2, isPast: (mark: number) => turns >= mark };
    const bench = new Bench('tc', { programs: { mark: () => 0, isPast: () => true }, puntPath });
    bench.put(UDP, '1');
    bench.settle();
    expect(bench.run(frame({ dst: 9 }))).toBe(bench.up);
    bench.put(UDP.replace('10.0.0.2', '10.0.0.9'), '1');
    const seen: number[] = [];
    for (let turn = 0; turn < 200 && seen.at(-1) !== bench.sent; turn += 1) {
      seen.push(bench.run(frame({ dst: 9 }), 200));
      turns += 1;
      bench.skippedMs += 2;
      bench.offload.poll();
    }
    const { up, dropped, sent } = bench;
    expect(seen.filter((verdict, i) => verdict !== seen[i - 1])).toEqual([up, dropped, sent]);
    expect(bench.offload.portCounters(LOOPBACK)?.failed).toBe(
      seen.filter((verdict) => verdict === dropped).length * 200,
    );
    expect(bench.run(frame({ dst: 9 }))).toBe(sent);
  });

  test('what never came counts as lost when nothing moves', () => {
    const lost: [number, number][] = [];
    const bench = new Bench('tc', { lost: (ifindex, packets) => lost.push([ifindex, packets]) });
    bench.run(frame(), 3);
    bench.offload.drained(LOOPBACK, 1);
    const { ports } = bench.offload.maps;
    // A single look at an engine that stands still says nothing.
    for (let i = 0; i < 2; i += 1) {
      bench.skippedMs += 200;
      bench.offload.poll();
    }
    expect(ports[LOOPBACK * PORT_WORDS + PortWord.DRAINED]).toBe(1);
    expect(lost).toEqual([]);
    bench.settle();
    expect(ports[LOOPBACK * PORT_WORDS + PortWord.DRAINED]).toBe(3);
    expect(lost).toEqual([[LOOPBACK, 2]]);
  });

  test('while there is traffic, lost is what the punt path has no room for', () => {
    const lost: number[] = [];
    const bench = new Bench('tc', { mostUnderWay: 10, lost: (_ifindex, packets) => lost.push(packets) });
    for (let i = 0; i < 5; i += 1) {
      bench.run(frame(), 8);
      bench.offload.drained(LOOPBACK, 4);
      bench.skippedMs += 200;
      bench.offload.poll();
    }
    // Of 40 packets 20 have come, and 10 may still come.
    expect(lost.reduce((sum, packets) => sum + packets, 0)).toBe(10);
    bench.offload.drained(LOOPBACK, 10);
    bench.settle();
    expect(lost.reduce((sum, packets) => sum + packets, 0)).toBe(10);
  });

  test('what came up while no process was there is told by the next one', () => {
    const first = new Bench('tc');
    first.run(frame(), 5);
    first.offload.drained(LOOPBACK, 2);
    const fs = new BpfFileSystem();
    cleanups.push(() => fs.close());
    for (const [name, map] of Object.entries(first.offload.maps.maps)) map.pin(fs.at(name));
    const opened = OffloadMaps.open((name) => fs.at(name), cpuParts());
    if ('reason' in opened) throw new Error(opened.reason);
    const lost: [number, number][] = [];
    const second = new Bench('tc', { adopt: opened, lost: (ifindex, packets) => lost.push([ifindex, packets]) });
    second.settle();
    expect(lost).toEqual([[LOOPBACK, 3]]);
  });
});

test('the next process takes over: flows that are put again keep entries and counters, others go', () => {
  const fs = new BpfFileSystem();
  cleanups.push(() => fs.close());
  const first = new Bench('xdp');
  first.put(UDP, '1');
  first.put(UDP.replace('10.0.0.2', '10.0.0.3'), '1');
  first.put(UDP.replace('10.0.0.2', '10.0.0.4'), '1');
  first.settle();
  for (const dst of [2, 3, 4]) first.run(frame({ dst }), dst);
  for (const [name, map] of Object.entries(first.offload.maps.maps)) map.pin(fs.at(name));

  const opened = OffloadMaps.open((name) => fs.at(name), cpuParts());
  if ('reason' in opened) throw new Error(opened.reason);
  const second = new Bench('xdp', { adopt: opened });
  expect(second.offload.unclaimed).toBe(3);
  // Entries that nobody has claimed yet go on working in programs of either process.
  expect(first.run(frame())).toBe(XDP.REDIRECT);
  expect(second.run(frame())).toBe(XDP.REDIRECT);
  const kept = second.put(UDP, '1');
  const changed = second.put(UDP.replace('10.0.0.2', '10.0.0.3'), 'drop');
  second.offload.sync();
  expect(second.table.packetsOf(kept)).toBe(4);
  expect(second.offload.reconcile()).toBe(1);
  second.settle();
  expect(second.run(frame())).toBe(XDP.REDIRECT);
  expect(second.run(frame({ dst: 3 }))).toBe(XDP.DROP);
  expect(second.run(frame({ dst: 4 }))).toBe(XDP.PASS);
  second.offload.sync();
  expect(second.table.packetsOf(kept)).toBe(5);
  expect(second.table.packetsOf(changed)).toBe(4);
  expect(showOffload(second.offload).entries).toBe(2);
});

test('flows of the former process end with their interfaces, and when their port gets another number', () => {
  const fs = new BpfFileSystem();
  cleanups.push(() => fs.close());
  const first = new Bench('tc');
  for (const dst of [2, 3]) first.put(UDP.replace('10.0.0.2', `10.0.0.${dst}`), '1');
  first.put(UDP.replace('10.0.0.2', '10.0.0.4'), '2');
  first.settle();
  for (const [name, map] of Object.entries(first.offload.maps.maps)) map.pin(fs.at(name));
  const opened = OffloadMaps.open((name) => fs.at(name), cpuParts());
  if ('reason' in opened) throw new Error(opened.reason);
  const { offload, table } = new Bench('tc', { adopt: opened });
  expect([...offload.leftFlows()].map(({ ifindex, outputs }) => [ifindex, outputs])).toEqual([
    [LOOPBACK, [LOOPBACK]],
    [LOOPBACK, [LOOPBACK]],
    [LOOPBACK, [LOOPBACK + 1]],
  ]);
  expect(offload.retain(new Set([LOOPBACK]))).toBe(1);
  table.flush();
  expect([offload.unclaimed, offload.isReconciled]).toEqual([2, false]);
  const port = { tapLike: false, puntIfindex: 0 as const, output: true, xdpOutput: true };
  offload.setPort({ ...port, ifindex: LOOPBACK, number: toKeyPort(5), hook: 'tc' });
  expect(offload.unclaimed).toBe(0);
  expect([offload.reconcile(1), offload.isReconciled]).toEqual([0, true]);
});

test('tables that another version left are refused with a reason', () => {
  const fs = new BpfFileSystem();
  cleanups.push(() => fs.close());
  const { offload } = new Bench('xdp');
  for (const [name, map] of Object.entries(offload.maps.maps)) map.pin(fs.at(name));
  expect(OffloadMaps.open((name) => fs.at(name), cpuParts() * 2)).toEqual({ reason: 'the number of CPUs has changed' });
  const { u8 } = offload.maps.maps.description.map();
  u8.fill(0x7b, 64);
  expect(OffloadMaps.open((name) => fs.at(name), cpuParts())).toEqual({
    reason: 'the description of the tables is damaged',
  });
});

test('flows whose packets are looked up again are at tc beside XDP, and tc carries what XDP passes on', () => {
  const bench = new Bench('xdp', { resumes: true });
  const own = { ifindex: LOOPBACK, number: toKeyPort(1), puntIfindex: toInterfaceIndex(LOOPBACK + 1) };
  bench.offload.setPort({ ...own, hook: 'xdp', tapLike: false, output: true, xdpOutput: true });
  const first = bench.put(UDP, 'set(eth(dst=02:00:00:00:00:07)),recirc(0x1)');
  const second = bench.put(UDP.replace('recirc_id(0)', 'recirc_id(0x1)'), 'recirc(0x2)');
  // XDP does not set marks.
  const third = bench.put(UDP.replace('recirc_id(0)', 'recirc_id(0x2)'), 'set(skb_mark(0x1)),1');
  bench.settle();
  expect(bench.offload.reasons().size).toBe(0);
  expect(bench.run(frame())).toBe(bench.up);
  const programs = bench.installations.flatMap((one) => one.programs);
  const context = new Uint8Array(192);
  new DataView(context.buffer).setUint32(SK_BUFF.ifindex, LOOPBACK, true);
  const run = programs.findLast(({ hook }) => hook === 'tc')?.program.run({ data: frame(), context });
  expect(run?.result).toBe(TC.REDIRECT);
  bench.offload.sync();
  expect([first, second, third].map((slot) => bench.table.packetsOf(slot))).toEqual([1, 1, 1]);
  // With the last one at XDP, tc has nothing to do.
  bench.put(UDP.replace('recirc_id(0)', 'recirc_id(0x2)'), '1');
  bench.settle();
  expect(bench.run(frame())).toBe(bench.sent);
  bench.offload.sync();
  expect([first, second, third].map((slot) => bench.table.packetsOf(slot))).toEqual([2, 2, 2]);
});

test('a hook without ports leaves its program with its tables, and gets another when a port comes back', () => {
  const bench = new Bench('xdp', { initialEntries: 16, maximumEntries: 4096 });
  const port = {
    ifindex: LOOPBACK,
    number: toKeyPort(1),
    tapLike: false,
    puntIfindex: 0 as const,
    output: true,
    xdpOutput: true,
  };
  const other = {
    ...port,
    ifindex: toInterfaceIndex(LOOPBACK + 1),
    number: toKeyPort(2),
    hook: 'tc',
    xdpOutput: false,
  } as const;
  expect(bench.offload.setPort(other)).toBeNull();
  bench.put(numberedFlow(1), '1');
  bench.settle();
  expect(bench.run(numberedFrame(1))).toBe(bench.sent);
  const before = bench.offload.maps;
  expect(bench.offload.setPort({ ...port, hook: null })).toBeNull();
  for (let i = 2; i < 1000; i += 1) bench.put(numberedFlow(i).replace('in_port(1)', 'in_port(2)'), '2');
  bench.settle();
  expect(bench.offload.maps === before).toBe(false);
  expect(bench.offload.setPort({ ...port, hook: 'xdp' })).toBeNull();
  bench.settle();
  expect(bench.attached?.plan.maps).toBe(bench.offload.maps);
  expect(bench.run(numberedFrame(1))).toBe(bench.sent);
});
