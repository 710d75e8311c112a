/**
 * Stages that somebody adds to the programs of flows: they run in their place, with maps of their own, and nothing else of a program knows of
 * them. Test runs hand packets to the programs; nothing leaves the kernel's test bench.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { ArrayMap, at, bytes, HashMap, R0, R1, R2, R3, SK_BUFF, TC, u32, XDP, XDP_MD } from '../src/bpf/index.ts';
import { Drop, FlowTable, PutMode, parseActions, parseFlowKey, Word } from '../src/flow/index.ts';
import { toInterfaceIndex, toKeyPort } from '../src/net/index.ts';
import { emitDrop, Fact, FlowOffload, Found, type LoadedProgram, type Stage } from '../src/offload/index.ts';

const LOOPBACK = toInterfaceIndex(1);
const OTHER = toInterfaceIndex(2);
const UDP = 'recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.2,proto=17,frag=no)';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function own<T extends { close(): void }>(one: T): T {
  cleanups.push(() => one.close());
  return one;
}

/** UDP over IPv4, 64 bytes. */
function frame({ source = 1, destination = 2, ttl = 64 } = {}): Uint8Array {
  const frame = new Uint8Array(64);
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50]);
  frame.set([0, 0, 0, 0, ttl, 17, 0, 0, 10, 0, 0, source, 10, 0, 0, destination, 0, 5, 0, 6, 0, 30], 18);
  return frame;
}

class Bench {
  readonly table = new FlowTable();
  readonly offload: FlowOffload;
  readonly refusals: string[] = [];
  readonly #hook: 'tc' | 'xdp';
  #attached: LoadedProgram | undefined;
  #skippedMs = 0;

  constructor(hook: 'tc' | 'xdp', stages: readonly Stage[]) {
    this.#hook = hook;
    this.offload = own(
      new FlowOffload({
        table: this.table,
        stages,
        nowMs: () => Number(process.hrtime.bigint() / 1_000_000n) + this.#skippedMs,
        refused: ({ reason }) => this.refusals.push(reason),
        install: ({ programs }) => {
          this.#attached = programs.find((program) => program.hook === hook) ?? this.#attached;
        },
      }),
    );
    const port = { tapLike: false, puntIfindex: 0 as const, output: true, xdpOutput: true };
    this.offload.setPort({ ...port, ifindex: LOOPBACK, number: toKeyPort(1), hook });
    this.offload.setPort({ ...port, ifindex: OTHER, number: toKeyPort(2), hook: null });
    this.#settle();
  }

  #settle(): void {
    for (let turn = 0; turn < 50; turn += 1) {
      this.#skippedMs += 200;
      this.offload.poll();
    }
  }

  put(flow: string, actions: string): number {
    const { key, mask } = parseFlowKey(flow);
    const slot = this.table.put({ key, mask, actions: parseActions(actions), ufid: null, mode: PutMode.CREATE });
    this.#settle();
    return slot;
  }

  packetsOf(slot: number): number {
    this.offload.sync();
    return this.table.packetsOf(slot);
  }

  get program(): LoadedProgram {
    if (this.#attached === undefined) throw new Error('no program is installed');
    return this.#attached;
  }

  run(data: Uint8Array): 'sent' | 'up' | 'dropped' | number {
    const context = new Uint8Array(this.#hook === 'tc' ? 192 : 24);
    const view = new DataView(context.buffer);
    if (this.#hook === 'tc') view.setUint32(SK_BUFF.ifindex, LOOPBACK, true);
    else {
      view.setUint32(XDP_MD.dataEnd, data.length, true);
      view.setUint32(XDP_MD.ingressIfindex, LOOPBACK, true);
    }
    const { result } = this.program.program.run({ data, context });
    const verdicts =
      this.#hook === 'tc'
        ? { [TC.REDIRECT]: 'sent', [TC.NEXT]: 'up', [TC.SHOT]: 'dropped' }
        : { [XDP.REDIRECT]: 'sent', [XDP.PASS]: 'up', [XDP.DROP]: 'dropped' };
    return (verdicts as Record<number, 'sent' | 'up' | 'dropped'>)[result] ?? result;
  }
}

function counterMap() {
  const map = own(ArrayMap.create({ name: 'own_count', value: bytes(8), maxEntries: 1, mappable: true }));
  const values = map.map();
  return {
    map,
    get count() {
      return values.count(0);
    },
  };
}

/** Counts packets whose time to live is 1, whatever becomes of them. */
function lastHops(map: ArrayMap<Uint8Array>): Stage {
  return {
    name: 'last hops',
    pass: 'first',
    needs: [Found.CPU],
    key: [[Word.IP, 0xff00]],
    maps: [map],
    emit(writer) {
      const { b } = writer;
      b.load(R1, 'u32', writer.key(Word.IP));
      b.and(R1, 0xff00);
      b.if(R1, '==', 0x0100, () => {
        b.loadMapValue(R1, map);
        b.mov(R2, 1);
        b.atomic('add', 'u64', at(R1), R2);
      });
    },
  };
}

/** Drops what comes from addresses in a map. */
function blocked(map: HashMap<number, number>): Stage {
  return {
    name: 'blocked sources',
    pass: 'first',
    needs: [Found.CPU],
    key: [[Word.IPV4_SOURCE, 0xffff_ffff]],
    maps: [map],
    emit(writer) {
      const { b } = writer;
      const source = b.stack(4);
      b.load(R1, 'u32', writer.key(Word.IPV4_SOURCE));
      b.store('u32', source, R1);
      b.lookup(map, source, () => emitDrop(writer, Drop.EXPLICIT));
    },
  };
}

describe.each(['tc', 'xdp'] as const)('at %s', (hook) => {
  test('a stage counts what it looks for in a map of its own, carried or not', () => {
    const counter = counterMap();
    const bench = new Bench(hook, [lastHops(counter.map)]);
    expect(bench.run(frame({ ttl: 1 }))).toBe('up');
    const slot = bench.put(UDP, '2');
    expect([frame(), frame({ ttl: 1 }), frame({ ttl: 1, destination: 3 })].map((each) => bench.run(each))).toEqual([
      'sent',
      'sent',
      'up',
    ]);
    expect(counter.count).toBe(3);
    expect(bench.packetsOf(slot)).toBe(2);
    expect(bench.program.maps.has(counter.map)).toBe(true);
    expect(bench.refusals).toEqual([]);
  });

  test('a stage drops by a map, before the flow is looked up, and the packet counts once as dropped', () => {
    const map = own(HashMap.create({ name: 'blocked', key: u32, value: u32, maxEntries: 16 }));
    const bench = new Bench(hook, [blocked(map)]);
    const slot = bench.put(UDP, '2');
    map.set(0x0a00_0007, 1);
    expect([frame({ source: 7 }), frame(), frame({ source: 8 })].map((each) => bench.run(each))).toEqual([
      'dropped',
      'sent',
      'sent',
    ]);
    map.delete(0x0a00_0007);
    expect(bench.run(frame({ source: 7 }))).toBe('sent');
    expect(bench.packetsOf(slot)).toBe(3);
    expect(bench.offload.portCounters(LOOPBACK)).toMatchObject({
      carriedPackets: 4,
      carriedBytes: 256,
      dropped: 1,
      failed: 0,
    });
    expect(bench.offload.drops()).toEqual(new Map([[Drop.EXPLICIT, 1]]));
  });

  test('what one stage finds out another uses, on packets that are carried alone', () => {
    const counter = counterMap();
    const isOdd = new Fact('whether the source is odd', { slotBytes: 8 });
    const finds: Stage = {
      name: 'odd sources',
      needs: [Found.CPU],
      key: [[Word.IPV4_SOURCE, 1]],
      gives: [isOdd],
      emit(writer) {
        writer.b.load(R1, 'u32', writer.key(Word.IPV4_SOURCE));
        writer.b.and(R1, 1);
        writer.b.store('u64', writer.slot(isOdd), R1);
      },
    };
    const counts: Stage = {
      name: 'carried from odd sources',
      needs: [isOdd, Found.COUNTED],
      keeps: [Found.ENTRY],
      maps: [counter.map],
      emit(writer) {
        const { b } = writer;
        b.load(R2, 'u64', writer.slot(isOdd));
        b.loadMapValue(R3, counter.map);
        b.atomic('add', 'u64', at(R3), R2);
      },
    };
    const bench = new Bench(hook, [counts, finds]);
    const slot = bench.put(UDP, '2');
    for (const source of [1, 2, 3]) expect(bench.run(frame({ source }))).toBe('sent');
    expect(bench.run(frame({ source: 1, destination: 9 }))).toBe('up');
    expect(counter.count).toBe(2);
    expect(bench.packetsOf(slot)).toBe(3);
  });

  test('in recirculated passes a stage runs where it says', () => {
    const counters = [counterMap(), counterMap()];
    const [first, again] = counters.map(({ map }) => lastHops(map));
    const bench = new Bench(hook, [first, { ...again, pass: 'again' }]);
    bench.put(UDP, 'recirc(0x5)');
    bench.put(UDP.replace('recirc_id(0)', 'recirc_id(0x5)'), '2');
    for (const ttl of [1, 64]) expect(bench.run(frame({ ttl }))).toBe('sent');
    expect(bench.run(frame({ ttl: 1, destination: 9 }))).toBe('up');
    expect(counters.map(({ count }) => count)).toEqual([2, 1]);
  });

  test('a stage that does not fit is told with a sentence, and no program is made', () => {
    const missing = new Fact('the connection');
    const bench = new Bench(hook, [{ name: 'tracker', needs: [missing], emit: () => {} }]);
    expect(bench.refusals[0]).toBe('stage tracker needs the connection, which no stage gives');
    expect(() => bench.program).toThrow();

    const { map } = counterMap();
    const careless = new Bench(hook, [{ name: 'careless', needs: [], emit: ({ b }) => b.loadMapValue(R0, map) }]);
    expect(careless.refusals[0]).toBe('stage careless uses the map own_count, which it does not name');
  });
});
