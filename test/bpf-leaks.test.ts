/** Descriptors and mappings never leak: ten thousand cycles of things that work and things that fail, and as many open as before. */
import { readdirSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import {
  ArrayMap,
  Assembler,
  AttachConflictError,
  at,
  attachClsact,
  attachTcx,
  attachXdp,
  EventRing,
  generate,
  HashMap,
  Link,
  LruHashMap,
  loadProgram,
  MapArray,
  PerfBufferReader,
  PerfEventArrayMap,
  ProgramBuilder,
  queryNetdev,
  R0,
  R1,
  Receiver,
  u32,
  u64,
  VerifierError,
  XDP,
} from '../src/bpf/index.ts';
import { mappedMemory, openDescriptors } from '../src/host/sys/index.ts';
import { BpfFileSystem } from './support/bpf-fs.ts';
import { useLab } from './support/index.ts';

const lab = useLab();
const pins = new BpfFileSystem();
afterAll(() => pins.close());

const CYCLES = 10_000;

/** Descriptors of this process, less those that Node opens and closes as it likes. */
function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

const good = new ProgramBuilder('good', { recordSites: false });
good.return(XDP.PASS);
const bad = new Assembler('bad', { recordSites: false });
bad.load(R0, 'u8', at(R1, 400));
bad.exit();

/** Things that are made and closed, and things that are refused. */
const cycles: readonly (() => void)[] = [
  () => loadProgram({ type: 'xdp', code: good }).close(),
  () => expect(() => loadProgram({ type: 'xdp', code: bad })).toThrow(VerifierError),
  () => HashMap.create({ name: 'good', key: u32, value: u64, maxEntries: 4 }).close(),
  () => expect(() => HashMap.create({ name: 'bad', key: u32, value: u64, maxEntries: 0 })).toThrow(),
  () => expect(() => HashMap.open(pins.at('map'), { name: 'x', key: u32, value: u64, maxEntries: 4 })).toThrow(),
  () => expect(() => LruHashMap.open(pins.at('none'), { name: 'x', key: u32, value: u64, maxEntries: 4 })).toThrow(),
  () => HashMap.open(pins.at('map'), { name: 'x', key: u32, value: u32, maxEntries: 4 }).close(),
  () => expect(() => attachXdp({ program, netdev: 'absent0' })).toThrow(),
  () => expect(() => Link.open(pins.at('map'), 'xdp')).toThrow(),
  () => {
    const template = ArrayMap.create({ name: 'inner', value: u32, maxEntries: 1 });
    MapArray.create({ name: 'outer', maxEntries: 1, template }).close();
    template.close();
  },
];

const program = loadProgram({ type: 'xdp', code: good });
const pinned = HashMap.create({ name: 'pinned', key: u32, value: u32, maxEntries: 4 });
pinned.pin(pins.at('map'));

test(`${CYCLES} cycles of maps and programs, half of them refused, leave no descriptor`, () => {
  for (const cycle of cycles) cycle();
  const [before, owned] = [descriptors(), openDescriptors()];
  for (let turn = 0; turn < CYCLES; turn++) cycles[turn % cycles.length]?.();
  expect(openDescriptors()).toBe(owned);
  expect(descriptors()).toBe(before);
});

test('links, filters, readers, receivers and generators that come, go and are refused leave no descriptor and no mapping', async () => {
  const [a] = lab.hosts(1);
  if (a === undefined) throw new Error('no host');
  lab.veth(a, 'eth0', a, 'eth1');
  const tcCode = new ProgramBuilder('tc');
  tcCode.return(-1);
  const tc = loadProgram({ type: 'sched_cls', code: tcCode });
  const perf = PerfEventArrayMap.create({ name: 'perf' });
  const round = () =>
    a.inside(() => {
      const link = attachXdp({ program, netdev: 'eth0' });
      expect(() => attachXdp({ program, netdev: 'eth0' })).toThrow(AttachConflictError);
      expect(() => new Receiver({ netdev: 'eth0' })).toThrow(AttachConflictError);
      queryNetdev('eth0');
      link.close();
      attachTcx({ program: tc, netdev: 'eth0', direction: 'ingress' }).close();
      attachClsact({ program: tc, netdev: 'eth0', direction: 'ingress' }).detach();
      expect(() => attachClsact({ program: tc, netdev: 'eth9', direction: 'ingress' })).toThrow();
      EventRing.create({ name: 'events', sizeBytes: 4096, event: u64 }).close();
      new PerfBufferReader(perf, { bytesPerCpu: 4096 }).close();
      new Receiver({ netdev: 'eth1' }).close();
    });
  round();
  await expect(generate({ netdev: 'absent0', count: 1 })).rejects.toThrow();
  const [before, owned, mapped] = [descriptors(), openDescriptors(), mappedMemory()];
  for (let turn = 0; turn < 20; turn++) round();
  for (let turn = 0; turn < 20; turn++) await expect(generate({ netdev: 'lo', count: 1 })).rejects.toThrow();
  expect(openDescriptors()).toBe(owned);
  expect(descriptors()).toBe(before);
  expect(mappedMemory()).toEqual(mapped);
  tc.close();
  perf.close();
});
