/** Every kind of map against the running kernel, from user space and from programs. */
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, expect, test } from 'vitest';
import {
  ArrayMap,
  array,
  at,
  bytes,
  ClosedError,
  count64,
  DeviceHashMap,
  DeviceMap,
  HashMap,
  LayoutError,
  LpmTrieMap,
  LruHashMap,
  loadProgram,
  MapArray,
  MapFullError,
  MapMismatchError,
  type MappedValues,
  PerCpuArrayMap,
  PerCpuHashMap,
  PerfEventArrayMap,
  PrivilegeError,
  ProgramArrayMap,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R6,
  RingBufferMap,
  struct,
  type Table,
  u8,
  u16be,
  u32,
  u64,
  XDP,
  XskMap,
} from '../src/bpf/index.ts';
import { mappedMemory, NativeBlock, onLostMapping, Socket, setNumberOption, socket } from '../src/host/sys/index.ts';
import { BpfFileSystem } from './support/bpf-fs.ts';

const cleanups: (() => void)[] = [];
afterAll(() => {
  for (const cleanup of cleanups.reverse()) cleanup();
});
function own<T extends { close(): void }>(resource: T): T {
  cleanups.push(() => resource.close());
  return resource;
}
const pins = own(new BpfFileSystem());

/** Mappings of eBPF arrays in this process, as the kernel lists them. */
function arraysMapped(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('anon_inode:bpf-map').length - 1;
}

const flow = struct({ address: bytes(4), port: u16be, tag: u8 }, 'flow_key');
const counters = struct({ packets: count64, bytes: u64, history: array(u32, 3) }, 'flow_value');
const someFlow = { address: Uint8Array.of(10, 0, 0, 1), port: 443, tag: 3 };
const someCounters = { packets: 5, bytes: 700n, history: [1, 2, 3] };

test('a hash takes, finds, replaces, takes out and deletes typed entries', () => {
  const map = own(HashMap.create({ name: 'flows', key: flow, value: counters, maxEntries: 2 }));
  expect(map.get(someFlow)).toBeUndefined();
  expect(map.replace(someFlow, someCounters)).toBe(false);
  expect(map.add(someFlow, someCounters)).toBe(true);
  expect(map.add(someFlow, { ...someCounters, packets: 9 })).toBe(false);
  expect(map.get(someFlow)).toEqual(someCounters);
  map.set({ ...someFlow, port: 80 }, { ...someCounters, packets: 1 });
  expect([...map.entries()].map(([key, value]) => [key.port, value.packets]).sort()).toEqual([
    [443, 5],
    [80, 1],
  ]);
  expect(() => map.set({ ...someFlow, port: 22 }, someCounters)).toThrow(MapFullError);
  expect(map.take({ ...someFlow, port: 80 })?.packets).toBe(1);
  expect(map.has({ ...someFlow, port: 80 })).toBe(false);
  expect(map.delete(someFlow)).toBe(true);
  expect(map.delete(someFlow)).toBe(false);
  expect(map.info().btfId).toBeGreaterThan(0);
});

test('values that do not fit are refused before the kernel sees them', () => {
  const map = own(HashMap.create({ name: 'flows', key: flow, value: counters, maxEntries: 2 }));
  expect(() => map.set({ ...someFlow, port: 65536 }, someCounters)).toThrow(LayoutError);
  expect(() => map.set({ ...someFlow, address: Uint8Array.of(1) }, someCounters)).toThrow(/1 bytes given where 4/);
  expect(() => map.set(someFlow, { ...someCounters, bytes: -1n })).toThrow(LayoutError);
  expect([...map.keys()]).toEqual([]);
});

test('batches set, read, delete and take thousands of entries', () => {
  const map = own(HashMap.create({ name: 'batch', key: u32, value: u64, maxEntries: 20_000 }));
  const entries = Array.from({ length: 10_000 }, (_, index) => [index, BigInt(index) * 3n] as const);
  expect(map.setMany(entries)).toBe(10_000);
  const read = new Map(map.readMany());
  expect(read.size).toBe(10_000);
  expect(read.get(7777)).toBe(23_331n);
  const keys = [...Array.from({ length: 100 }, (_, index) => index * 50), 50_000, 60_000];
  expect(map.deleteMany(keys)).toBe(100);
  expect(map.readMany()).toHaveLength(9_900);
  expect(map.takeMany()).toHaveLength(9_900);
  expect(map.readMany()).toEqual([]);
  expect(() => map.setMany(Array.from({ length: 30_000 }, (_, index) => [index, 0n] as const))).toThrow(MapFullError);
});

test('what does not fit is left out of a batch, counted, and everything else is set', () => {
  const map = own(HashMap.create({ name: 'full', key: u32, value: u32, maxEntries: 64 }));
  for (let key = 0; key < 32; key++) map.set(key, 0);
  const fresh = Array.from({ length: 60 }, (_, index) => [5000 + index, 1] as const);
  // Keys that are there need no room, wherever they stand.
  const wanted = [...fresh, ...Array.from({ length: 32 }, (_, key) => [key, 77] as const)];
  expect(() => map.setMany(wanted)).toThrow(/it holds 64 entries; 28 of 92 entries found no room/);
  expect([map.get(0), map.get(31), map.readMany().length]).toEqual([77, 77, 64]);
  const [keys, values] = [new NativeBlock(8), new NativeBlock(8)];
  keys.u32.set([9000, 3]);
  values.u32.set([1, 5]);
  expect(() => map.setBytes(keys, values, 2)).toThrow(expect.objectContaining({ name: 'MapFullError', left: 1 }));
  expect(map.get(3)).toBe(5);
});

/** Delete what comes, and a quarter of the rest, while new keys are set: as a program would that expires connections. */
function churn<K>(map: Table<K, number>, keyOf: (number: number) => K, numberOf: (key: K) => number): number[] {
  const seen: number[] = [];
  let fresh = 1000;
  for (const key of map.keys()) {
    const number = numberOf(key);
    seen.push(number);
    // Some go that are still to come.
    for (const gone of number >= 1000 || number % 4 === 0 ? [number, (number * 7 + 4) & ~3] : []) {
      if (!map.delete(keyOf(gone))) continue;
      map.set(keyOf(fresh), 0);
      fresh += 1;
    }
    if (seen.length > 100_000) throw new Error('the walk does not end');
  }
  return seen;
}

test('each key that stays comes exactly once, whatever is set and deleted during the walk', () => {
  const plain = { keyOf: (number: number) => number, numberOf: (key: number) => key };
  const address = (number: number) => Uint8Array.of(10, 0, number >> 8, number & 255);
  const trie = {
    keyOf: (number: number) => ({ length: 32, address: address(number) }),
    numberOf: ({ address: [, , high = 0, low = 0] }: { address: Uint8Array }) => high * 256 + low,
  };
  for (let round = 0; round < 20; round++) {
    const hash = own(HashMap.create({ name: 'walk', key: u32, value: u32, maxEntries: 64 }));
    const lru = own(LruHashMap.create({ name: 'walk', key: u32, value: u32, maxEntries: 4096 }));
    const routes = own(LpmTrieMap.create({ name: 'walk', addressBytes: 4, value: u32, maxEntries: 64 }));
    for (let number = 0; number < 32; number++) {
      for (const map of [hash, lru]) map.set(number, 0);
      routes.set(trie.keyOf(number), 0);
    }
    const stayed = Array.from({ length: 32 }, (_, number) => number).filter((number) => number % 4 !== 0);
    const seen = {
      hash: churn(hash, plain.keyOf, plain.numberOf),
      lru: churn(lru, plain.keyOf, plain.numberOf),
      trie: churn(routes, trie.keyOf, trie.numberOf),
    };
    for (const [kind, numbers] of Object.entries(seen)) {
      const kept = numbers.filter((number) => number < 1000 && number % 4 !== 0).sort((a, b) => a - b);
      expect(kept, kind).toEqual(stayed);
    }
    for (const map of [hash, lru, routes]) map.close();
  }
});

test('an LRU hash forgets instead of being full', () => {
  const map = own(LruHashMap.create({ name: 'lru', key: u32, value: u32, maxEntries: 128 }));
  for (let key = 0; key < 1000; key++) map.set(key, key);
  const keys = [...map.keys()];
  expect(keys.length).toBeGreaterThan(0);
  expect(keys.length).toBeLessThanOrEqual(128);
  expect(map.get(999)).toBe(999);
});

test('an array is all there, zero at first, in single operations, batches and memory', () => {
  const map = own(ArrayMap.create({ name: 'array', value: counters, maxEntries: 100, mappable: true }));
  expect(map.get(99)).toEqual({ packets: 0, bytes: 0n, history: [0, 0, 0] });
  expect(map.get(100)).toBeUndefined();
  expect(() => map.set(100, someCounters)).toThrow(MapFullError);
  map.set(4, someCounters);
  const mapped = map.map();
  expect(mapped.get(4)).toEqual(someCounters);
  mapped.set(5, { ...someCounters, packets: 8 });
  mapped.u32[mapped.offsetOf(5) / 4] += 1;
  expect(map.get(5)?.packets).toBe(9);
  expect(map.readMany()).toHaveLength(100);
  expect(() => mapped.get(100)).toThrow(RangeError);
  expect(mapped.strideBytes).toBe(32);
});

test('closing a map gives its memory back at once, and what still points to it harms nobody', () => {
  const [before, arrays] = [mappedMemory(), arraysMapped()];
  const map = ArrayMap.create({ name: 'given_back', value: u64, maxEntries: 1024, mappable: true });
  const values = map.map();
  expect(map.map()).toBe(values);
  map.map('read');
  expect(arraysMapped()).toBe(arrays + 2);
  const { u64: stale } = values;
  stale[3] = 5n;
  map.close();
  map.close();
  expect(mappedMemory()).toEqual(before);
  expect(arraysMapped()).toBe(arrays);
  expect(() => values.get(3)).toThrow('the memory of array "given_back" is closed');
  expect(() => values.set(3, 1n)).toThrow(ClosedError);
  expect(() => values.count(0)).toThrow(ClosedError);
  expect(() => map.map()).toThrow(ClosedError);
  const other = own(ArrayMap.create({ name: 'other', value: u64, maxEntries: 1024, mappable: true })).map();
  expect(stale[3]).toBe(0n);
  stale.fill(9n);
  expect(other.u64.every((value) => value === 0n)).toBe(true);
});

test('memory that nobody gave back is unmapped when it is collected, and reported; nothing goes with it that was mapped since', async () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const before = mappedMemory();
  const lost: string[] = [];
  onLostMapping((doing, lengthBytes) => lost.push(`${doing} ${lengthBytes}`));
  let kept: { marked: number; map: ArrayMap<Uint8Array>; values: MappedValues<Uint8Array> }[] = [];
  for (let round = 0; round < 100; round += 1) {
    for (let i = 0; i < 4; i += 1) {
      const map = ArrayMap.create({ name: 'marked', value: bytes(4096), maxEntries: 1, mappable: true });
      const values = map.map();
      const marked = 4 * round + i + 1;
      values.u32[0] = marked;
      kept.push({ marked, map, values });
    }
    if (round % 3 === 0) collectGarbage();
    // Addresses are given back in turns of the event loop.
    await turn();
    expect(kept.map(({ values }) => values.u32[0])).toEqual(kept.map(({ marked }) => marked));
    // Of those that go, every second is closed as it should be.
    for (const { map, marked } of kept.slice(0, -6)) if (marked % 2 === 0) map.close();
    kept = kept.slice(-6);
  }
  for (const { map } of kept) map.close();
  kept = [];
  collectGarbage();
  await turn();
  expect(lost.length).toBeGreaterThan(100);
  expect(lost.every((line) => line === 'map array "marked" 4096')).toBe(true);
  expect(mappedMemory().lost - before.lost).toBe(lost.length);
});

test('mapped memory is shared with programs, and atomic operations on it hold', () => {
  const map = own(ArrayMap.create({ name: 'shared', value: u64, maxEntries: 1, mappable: true }));
  const b = new ProgramBuilder('count');
  b.loadMapValue(R1, map);
  b.mov(R2, 1);
  b.atomic('add', 'u64', at(R1), R2);
  b.return(XDP.DROP);
  const program = own(loadProgram({ type: 'xdp', code: b }));
  const { u64: values } = map.map();
  Atomics.add(values, 0, 5n);
  program.run({ data: new Uint8Array(64), repeat: 1000 });
  expect(Atomics.load(values, 0)).toBe(1005n);
});

test('an array that cannot be mapped says so, and a frozen one is read-only', () => {
  const plain = own(ArrayMap.create({ name: 'plain', value: u32, maxEntries: 1 }));
  expect(() => plain.map()).toThrow(/map array "plain"/);
  const frozen = own(ArrayMap.create({ name: 'frozen', value: u32, maxEntries: 1, mappable: true }));
  frozen.set(0, 7);
  frozen.freeze();
  expect(() => frozen.set(0, 8)).toThrow(PrivilegeError);
  expect(() => frozen.map()).toThrow(/map array "frozen"/);
  expect(frozen.map('read').get(0)).toBe(7);
});

test('per-CPU maps hold a value for every CPU', () => {
  const list = own(PerCpuArrayMap.create({ name: 'percpu', value: counters, maxEntries: 4 }));
  const values = list.get(2) ?? [];
  expect(values.length).toBeGreaterThan(0);
  const b = new ProgramBuilder('percpu');
  const key = b.stack(4);
  b.store('u32', key, 2);
  b.lookup(list, key, () => {
    b.load(R1, 'u64', at(R0));
    b.add(R1, 1);
    b.store('u64', at(R0), R1);
  });
  b.return(XDP.PASS);
  own(loadProgram({ type: 'xdp', code: b })).run({ data: new Uint8Array(64), repeat: 10 });
  expect((list.get(2) ?? []).reduce((sum, { packets }) => sum + packets, 0)).toBe(10);
  const hash = own(PerCpuHashMap.create({ name: 'percpuhash', key: u32, value: u32, maxEntries: 4 }));
  const numbers = values.map((_, cpu) => cpu + 1);
  hash.set(9, numbers);
  expect(hash.get(9)).toEqual(numbers);
  expect(() => hash.set(9, [...numbers, 1])).toThrow(LayoutError);
  list.set(
    0,
    values.map(() => someCounters),
  );
  expect(list.readMany()[0]?.[1]).toEqual(values.map(() => someCounters));
});

test('an LPM trie finds the longest prefix, and lists what it holds', () => {
  const trie = own(LpmTrieMap.create({ name: 'routes', addressBytes: 4, value: u32, maxEntries: 10 }));
  const ip = (text: string) => Uint8Array.from(text.split('.'), Number);
  trie.set({ length: 8, address: ip('10.0.0.0') }, 1);
  trie.set({ length: 24, address: ip('10.1.2.0') }, 2);
  trie.set({ length: 0, address: ip('0.0.0.0') }, 3);
  const route = (address: string) => trie.get({ length: 32, address: ip(address) });
  expect([route('10.1.2.9'), route('10.1.3.9'), route('8.8.8.8')]).toEqual([2, 1, 3]);
  expect(trie.delete({ length: 24, address: ip('10.1.2.0') })).toBe(true);
  expect(route('10.1.2.9')).toBe(1);
  expect([...trie.keys()].map(({ length }) => length).sort()).toEqual([0, 8]);
  expect(() => trie.set({ length: 33, address: ip('1.1.1.1') }, 0)).toThrow(LayoutError);
  const six = own(LpmTrieMap.create({ name: 'routes6', addressBytes: 16, value: u32, maxEntries: 10 }));
  six.set({ length: 64, address: new Uint8Array(16).fill(1) }, 4);
  expect(six.get({ length: 128, address: new Uint8Array(16).fill(1) })).toBe(4);
});

test('device maps hold interfaces, with a program on the way out', () => {
  const LOOPBACK = 1;
  const b = new ProgramBuilder('way_out');
  b.return(XDP.PASS);
  const program = own(loadProgram({ type: 'xdp', code: b, expectedAttachType: 'xdp_devmap' }));
  for (const map of [
    own(DeviceMap.create({ name: 'ports', maxEntries: 8 })),
    own(DeviceHashMap.create({ name: 'ports_hash', maxEntries: 8 })),
  ]) {
    map.set(3, { ifindex: LOOPBACK });
    expect(map.get(3)).toEqual({ ifindex: LOOPBACK, programId: 0 });
    map.set(3, { ifindex: LOOPBACK, program });
    expect(map.get(3)).toEqual({ ifindex: LOOPBACK, programId: program.info().id });
    expect(map.delete(3)).toBe(true);
    expect(map.get(3)).toBeUndefined();
    expect(() => map.set(3, { ifindex: 0x7ffffff0 })).toThrow(/write map "ports/);
  }
});

test('a program array takes programs of one type and tells their ids', () => {
  const map = own(ProgramArrayMap.create({ name: 'stages', maxEntries: 4 }));
  const load = (type: 'xdp' | 'sched_cls') => {
    const b = new ProgramBuilder('stage');
    b.return(1);
    return own(loadProgram({ type, code: b }));
  };
  const program = load('xdp');
  map.put(2, program);
  expect(map.get(2)).toBe(program.info().id);
  expect(() => map.put(3, load('sched_cls'))).toThrow(/EINVAL/);
  expect(map.delete(2)).toBe(true);
});

test('an array of maps exchanges whole maps under a running program', () => {
  const inner = (value: number) => {
    const map = own(ArrayMap.create({ name: 'inner', value: u32, maxEntries: 1 }));
    map.set(0, value);
    return map;
  };
  const [first, second] = [inner(11), inner(22)];
  const outer = own(MapArray.create({ name: 'outer', maxEntries: 2, template: first }));
  const b = new ProgramBuilder('two_steps');
  const key = b.stack(4);
  b.store('u32', key, 0);
  b.lookup(outer, key, () => {
    b.mov(R6, R0);
    b.call('map_lookup_elem', R6, key);
    b.if(R0, '!=', 0, () => {
      b.load(R0, 'u32', at(R0));
      b.exit();
    });
  });
  b.return(404);
  const program = own(loadProgram({ type: 'xdp', code: b }));
  const run = () => program.run({ data: new Uint8Array(64) }).result;
  expect(run()).toBe(404);
  outer.put(0, first);
  expect(run()).toBe(11);
  outer.put(0, second);
  expect(run()).toBe(22);
  expect(outer.get(0)).toBe(second.info().id);
  expect(() => outer.put(1, own(ArrayMap.create({ name: 'wide', value: u64, maxEntries: 1 })))).toThrow(/EINVAL/);
});

test('an XSK map takes AF_XDP sockets, and no others', () => {
  const [AF_XDP, SOL_XDP, XDP_RX_RING] = [44, 283, 2];
  const map = own(XskMap.create({ name: 'sockets', maxEntries: 4 }));
  const descriptor = own(socket(AF_XDP, Socket.RAW, 0, 'open an AF_XDP socket'));
  const another = own(socket(Socket.AF_INET, Socket.DGRAM, 0, 'open a UDP socket'));
  expect(() => map.put(0, another.number)).toThrow(/EOPNOTSUPP/);
  setNumberOption(descriptor.number, SOL_XDP, XDP_RX_RING, 64, 'give it a receive ring');
  map.put(0, descriptor.number);
  expect(() => map.put(4, descriptor.number)).toThrow(MapFullError);
  expect(map.delete(0)).toBe(true);
});

test('ring buffers and perf event arrays are made with the sizes that the kernel takes', () => {
  const ring = own(RingBufferMap.create({ name: 'ring', sizeBytes: 65536 }));
  expect(ring.info()).toMatchObject({ type: 'ringbuf', maxEntries: 65536 });
  expect(() => RingBufferMap.create({ name: 'odd', sizeBytes: 5000 })).toThrow(LayoutError);
  expect(own(PerfEventArrayMap.create({ name: 'perf' })).info().type).toBe('perf_event_array');
});

test('a pinned map outlives its handle, and opening it as something else is refused', () => {
  const options = { name: 'pinned', key: flow, value: counters, maxEntries: 16 };
  const map = HashMap.create(options);
  map.set(someFlow, someCounters);
  map.pin(pins.at('flows'));
  expect(() => map.pin(pins.at('flows'))).toThrow(/EEXIST/);
  expect(() => map.pin('/nowhere-on-bpffs')).toThrow(/bpf file system/);
  map.close();
  const again = own(HashMap.open(pins.at('flows'), options));
  expect(again.get(someFlow)).toEqual(someCounters);
  expect(() => HashMap.open(pins.at('flows'), { ...options, value: u32 })).toThrow(
    /another shape: value bytes 32, not 4/,
  );
  expect(() => LruHashMap.open(pins.at('flows'), options)).toThrow(MapMismatchError);
  expect(() => ArrayMap.open(pins.at('flows'), { name: 'x', value: counters, maxEntries: 16 })).toThrow(
    /type hash, not array/,
  );
  expect(() => HashMap.open(pins.at('absent'), options)).toThrow(/ENOENT/);
});

test('every kind of map opens again from its pin', () => {
  const template = own(ArrayMap.create({ name: 'template', value: u32, maxEntries: 1 }));
  const size = { name: 'again', maxEntries: 4 };
  const valued = { ...size, value: u32 };
  const kinds = [
    [ArrayMap.create({ ...valued, mappable: true }), (p: string) => ArrayMap.open(p, { ...valued, mappable: true })],
    [PerCpuArrayMap.create(valued), (p: string) => PerCpuArrayMap.open(p, valued)],
    [LruHashMap.create({ ...valued, key: u32 }), (p: string) => LruHashMap.open(p, { ...valued, key: u32 })],
    [PerCpuHashMap.create({ ...valued, key: u32 }), (p: string) => PerCpuHashMap.open(p, { ...valued, key: u32 })],
    [
      LpmTrieMap.create({ ...valued, addressBytes: 4 }),
      (p: string) => LpmTrieMap.open(p, { ...valued, addressBytes: 4 }),
    ],
    [DeviceMap.create(size), (p: string) => DeviceMap.open(p, size)],
    [DeviceHashMap.create(size), (p: string) => DeviceHashMap.open(p, size)],
    [ProgramArrayMap.create(size), (p: string) => ProgramArrayMap.open(p, size)],
    [MapArray.create({ ...size, template }), (p: string) => MapArray.open(p, size)],
    [XskMap.create(size), (p: string) => XskMap.open(p, size)],
    [PerfEventArrayMap.create(size), (p: string) => PerfEventArrayMap.open(p, size)],
    [
      RingBufferMap.create({ name: 'again', sizeBytes: 4096 }),
      (p: string) => RingBufferMap.open(p, { name: 'again', sizeBytes: 4096 }),
    ],
  ] as const;
  for (const [map, open] of kinds) {
    const path = pins.at(`kind_${map.shape.type}`);
    map.pin(path);
    const { id } = map.info();
    map.close();
    expect(own(open(path)).info().id, map.shape.type).toBe(id);
  }
});

test('raw batches take memory as it lies', () => {
  const map = own(HashMap.create({ name: 'raw', key: u32, value: u32, maxEntries: 64 }));
  const [keys, values] = [new NativeBlock(256), new NativeBlock(256)];
  for (let index = 0; index < 64; index++) {
    keys.u32[index] = index;
    values.u32[index] = index * 2;
  }
  map.setBytes(keys, values, 64);
  expect(map.get(40)).toBe(80);
});

test('a closed map says so', () => {
  const map = HashMap.create({ name: 'gone', key: u32, value: u32, maxEntries: 1 });
  map.close();
  map.close();
  expect(() => map.get(1)).toThrow('map "gone" is closed');
});
