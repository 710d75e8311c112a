/** Loading: what the kernel says of programs that it takes, and how refusals are explained. */
import { expect, test } from 'vitest';
import { cached } from '../src/bpf/feature/raw.ts';
import {
  ArrayMap,
  Assembler,
  array,
  at,
  count64,
  emitTickTime,
  LayoutError,
  loadProgram,
  PrivilegeError,
  Program,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R6,
  R10,
  requireProgramType,
  tickClock,
  UnsupportedError,
  u64,
  VerifierError,
  XDP,
} from '../src/bpf/index.ts';
import { createMap } from '../src/bpf/map/handle.ts';
import { BpfFileSystem } from './support/bpf-fs.ts';
import { TakenDescriptors } from './support/index.ts';

function refusal(write: (a: Assembler) => void): VerifierError {
  const a = new Assembler('refused');
  write(a);
  try {
    loadProgram({ type: 'xdp', code: a }).close();
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  throw new Error('the verifier took it');
}

test('a loaded program is known to the kernel under its name, with the names of its functions', () => {
  const b = new ProgramBuilder('named program!');
  const helper = b.function('the_helper', () => b.return(3));
  b.callLocal(helper);
  b.exit();
  const program = loadProgram({ type: 'xdp', code: b });
  const info = program.info();
  expect(info.name).toBe('named_program_');
  expect(info.type).toBe('xdp');
  expect(info.id).toBeGreaterThan(0);
  expect(info.tag).toMatch(/^[0-9a-f]{16}$/);
  expect(info.jitedBytes).toBeGreaterThan(0);
  expect(program.run({ data: new Uint8Array(64) }).result).toBe(3);
  program.close();
  expect(() => program.info()).toThrow('program "named program!" is closed');
});

test('a refusal shows the instruction, its registers, the line that emitted it, and the words of the verifier', () => {
  const error = refusal((a) => {
    a.load(R2, 'u32', at(R1, 0));
    a.load(R0, 'u8', at(R2, 14)); // this very line
    a.exit();
  });
  expect(error.reason).toContain('invalid access to packet');
  expect(error.slot).toBe(1);
  expect(error.instruction).toBe('(71) r0 = *(u8 *)(r2 +14)');
  expect(error.registers.get('R1')).toBe('ctx()');
  expect(error.registers.get('R2')).toMatch(/^pkt\(/);
  expect(error.source?.file).toBe('test/bpf-loader.test.ts');
  expect(error.source?.text).toContain('// this very line');
  expect(error.message).toContain('test/bpf-loader.test.ts:');
  expect(error.log).toContain('processed 2 insns');
});

test('refusals of other kinds name their instruction as well', () => {
  const uninitialised = refusal((a) => {
    a.mov(R0, R6);
    a.exit();
  });
  expect(uninitialised.reason).toContain('R6 !read_ok');
  expect(uninitialised.slot).toBe(0);
  const afterBranch = refusal((a) => {
    const over = a.label();
    a.load(R2, 'u32', at(R1, 12));
    a.mov(R0, 0);
    a.jumpIf(R2, '==', 7, over);
    a.mov(R0, 1);
    a.exit();
    a.place(over);
    a.load(R0, 'u64', at(R10, -8 * 80));
    a.exit();
  });
  expect(afterBranch.instruction).toBe('(79) r0 = *(u64 *)(r10 -640)');
  expect(afterBranch.registers.get('R2')).toBe('7');
  const endless = refusal((a) => {
    const again = a.label();
    a.mov(R0, 0);
    a.place(again);
    a.add(R0, 0);
    a.jump(again);
  });
  expect(endless.reason).toMatch(/infinite loop|last insn|unreachable|back-edge/);
});

test('a refusal after a long walk still brings its whole log', () => {
  const error = refusal((a) => {
    a.mov(R0, 0);
    a.load(R6, 'u32', at(R1, 12));
    for (let turn = 0; turn < 3000; turn++) {
      a.add(R0, R6);
      a.xor(R0, 1);
    }
    a.load(R0, 'u8', at(R0));
    a.exit();
  });
  expect(error.slot).toBe(6002);
  expect(error.log.length).toBeGreaterThan(1 << 16);
});

test('with line info the verifier itself prints our source lines', () => {
  const b = new ProgramBuilder('lines');
  b.mov(R0, 1); // a line that the kernel knows
  b.add(R0, 1);
  b.exit();
  const program = loadProgram({ type: 'xdp', code: b, lineInfo: true, logLevel: 2 });
  expect(program.log).toContain('// a line that the kernel knows');
  program.close();
});

test('without privilege loading says what is needed', () => {
  const b = new ProgramBuilder('unprivileged');
  b.return(XDP.PASS);
  process.seteuid?.(65534);
  try {
    expect(() => loadProgram({ type: 'xdp', code: b })).toThrow(PrivilegeError);
    expect(() => loadProgram({ type: 'xdp', code: b })).toThrow(/EPERM; it needs CAP_BPF/);
  } finally {
    process.seteuid?.(0);
  }
});

test('socket filters, TC and the other types load with what they need', () => {
  for (const type of ['socket_filter', 'sched_cls', 'sched_act', 'cgroup_skb', 'lwt_in', 'kprobe', 'xdp'] as const) {
    const b = new ProgramBuilder(`a_${type}`);
    b.return(0);
    const program = loadProgram({ type, code: b });
    expect(program.info().type).toBe(type);
    program.close();
  }
  const b = new ProgramBuilder('lookup');
  b.return(1);
  loadProgram({ type: 'sk_lookup', code: b, expectedAttachType: 'sk_lookup' }).close();
  const forDevmap = new ProgramBuilder('devmap');
  forDevmap.return(XDP.PASS);
  loadProgram({ type: 'xdp', code: forDevmap, expectedAttachType: 'xdp_devmap' }).close();
});

test('test runs take a packet and a context and give both back, with the time', () => {
  const b = new ProgramBuilder('rewrite');
  b.packetOfTc(R1, R2, R0);
  b.needBytes(R2, R0, 20, R6, () => b.return(99));
  b.store('u16', at(R2, 12), 0x0608);
  b.store('u32', at(R1, 8), 0xabcd);
  b.return(-1);
  const program = loadProgram({ type: 'sched_cls', code: b });
  const context = new Uint8Array(192);
  const run = program.run({ data: new Uint8Array(60), context, repeat: 1000 });
  expect(run.result).toBe(-1);
  expect(run.data).toHaveLength(60);
  expect(run.data.subarray(12, 14)).toEqual(Uint8Array.of(8, 6));
  expect(new DataView(run.context.buffer).getUint32(8, true)).toBe(0xabcd);
  expect(run.durationNs).toBeLessThan(1000);
  expect(() => program.run({ data: new Uint8Array(3) })).toThrow(/run program "rewrite".*EINVAL/);
  program.close();
});

test('live frames run the program once for each frame, and are dropped or passed on as it says', () => {
  const counter = ArrayMap.create({ name: 'counter', value: count64, maxEntries: 1, mappable: true });
  const b = new ProgramBuilder('live');
  b.loadMapValue(R2, counter);
  b.mov(R0, 1);
  b.atomic('add', 'u64', at(R2), R0);
  b.return(XDP.DROP);
  const program = loadProgram({ type: 'xdp', code: b });
  program.runLiveFrames({ data: new Uint8Array(60), count: 1000, batch: 7 });
  expect(counter.get(0)).toBe(1000);
  expect(() => program.runLiveFrames({ data: new Uint8Array(5000), count: 1 })).toThrow(LayoutError);
  program.close();
  counter.close();
});

test('a pinned program is opened again by its type', () => {
  const pins = new BpfFileSystem();
  try {
    const b = new ProgramBuilder('kept');
    b.return(XDP.TX);
    const program = loadProgram({ type: 'xdp', code: b });
    const { id } = program.info();
    program.pin(pins.at('kept'));
    program.close();
    const again = Program.open(pins.at('kept'), 'xdp');
    expect(again.info().id).toBe(id);
    expect(again.run({ data: new Uint8Array(64) }).result).toBe(XDP.TX);
    again.close();
    expect(() => Program.open(pins.at('kept'), 'sched_cls')).toThrow('is xdp, not sched_cls');
  } finally {
    pins.close();
  }
});

test('a program of anybody is opened by its id and type', () => {
  const b = new ProgramBuilder('by_id');
  b.return(XDP.TX);
  const program = loadProgram({ type: 'xdp', code: b });
  const { id } = program.info();
  const again = Program.byId(id, 'xdp');
  expect(again.name).toBe('by_id');
  expect(() => Program.byId(id, 'sched_cls')).toThrow('is xdp, not sched_cls');
  program.close();
  expect(again.run({ data: new Uint8Array(64) }).result).toBe(XDP.TX);
  again.close();
  expect(() => Program.byId(0x7fff_ffff, 'xdp')).toThrow('ENOENT');
});

test('a kernel that does not know a type is named with the one that does', () => {
  // The probes keep their answers: this one is given, as a kernel before 5.8 would.
  cached('map ringbuf', () => false);
  cached('program xdp', () => false);
  expect(() => createMap('old', { type: 'ringbuf', keyBytes: 0, valueBytes: 0, maxEntries: 5000, flags: 0 })).toThrow(
    /does not have map type ringbuf: it came with Linux 5\.8/,
  );
  expect(() => requireProgramType('xdp')).toThrow(UnsupportedError);
});

test('jiffies become the nanoseconds of CLOCK_MONOTONIC, without a step into the future or away', async () => {
  const clock = tickClock();
  if (clock === null) throw new Error('this kernel has no jiffies64');
  expect([1, 4, 10, 1000 / 300]).toContainEqual(expect.closeTo(clock.tickNs / 1e6, 4));
  const told = ArrayMap.create({ name: 'time', value: array(u64, 2), maxEntries: 1 });
  const b = new ProgramBuilder('time');
  emitTickTime(b, clock);
  b.loadMapValue(R6, told);
  b.store('u64', at(R6), R0);
  b.callHelper('ktime_get_ns');
  b.store('u64', at(R6, 8), R0);
  b.return(XDP.PASS);
  const program = loadProgram({ type: 'xdp', code: b });
  try {
    for (let i = 0; i < 40; i += 1) {
      program.run({ data: new Uint8Array(14) });
      const [ticks, exact] = (told.get(0) ?? []).map(Number);
      // The offset is found within a tick, and a processor may be late with its own.
      expect(exact - ticks).toBeGreaterThan(-clock.tickNs);
      expect(exact - ticks).toBeLessThan(20 * clock.tickNs);
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
  } finally {
    program.close();
    told.close();
  }
});

test('want of descriptors is no refusal of the verifier, and no feature that the kernel lacks: it is told, and passes', () => {
  const b = new ProgramBuilder('plain');
  b.return(XDP.PASS);
  const attempts = [() => loadProgram({ type: 'xdp', code: b }).close(), () => requireProgramType('sock_ops')];
  const thrown: unknown[] = [];
  const taken = new TakenDescriptors();
  try {
    for (const attempt of attempts) {
      try {
        attempt();
      } catch (error) {
        thrown.push(error);
      }
    }
  } finally {
    taken.end();
  }
  expect(thrown.map((error) => [error instanceof VerifierError, Object(error).code])).toEqual([
    [false, 'EMFILE'],
    [false, 'EMFILE'],
  ]);
  for (const attempt of attempts) attempt();
});
