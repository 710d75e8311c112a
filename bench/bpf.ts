/** Figures of bpf/: the generator over a veth, reads of mapped memory, batches, and loading. Each function takes a second or two. */
import { execFileSync } from 'node:child_process';
import {
  ArrayMap,
  at,
  count64,
  generate,
  HashMap,
  loadProgram,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R6,
  Receiver,
  u32,
  u64,
  XDP,
} from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { median } from './statistics.ts';

/** Frames a second from the generator into the receiver that counts and drops them. */
export interface GeneratorFigures {
  readonly packetsPerSecond: number;
  /** The same for each second of CPU time that this process was given: what a machine that does nothing else would do. */
  readonly packetsPerCpuSecond: number;
  readonly lost: number;
}

/** Generator over a veth between two namespaces into a dropping receiver. @param durationMs length of the run */
export async function benchGenerator(durationMs = 1000, flows = 16): Promise<GeneratorFigures> {
  const names = ['a', 'b'].map((end) => `mrbench${process.pid}${end}`);
  const [nameA, nameB] = names as [string, string];
  const ip = (...args: string[]) => execFileSync('ip', args);
  const home = NetworkNamespace.current();
  try {
    for (const name of names) ip('netns', 'add', name);
    ip('link', 'add', 'e0', 'netns', nameA, 'type', 'veth', 'peer', 'name', 'e0', 'netns', nameB);
    for (const name of names) ip('-n', name, 'link', 'set', 'e0', 'up');
    const [a, b] = [NetworkNamespace.byName(nameA), NetworkNamespace.byName(nameB)];
    const receiver = b.run(() => new Receiver({ netdev: 'e0', flows }));
    a.enter();
    await generate({ netdev: 'e0', count: 100_000, flows });
    const before = receiver.read();
    const cpu = process.cpuUsage();
    const { durationMs: elapsedMs } = await generate({ netdev: 'e0', durationMs, flows });
    const { user, system } = process.cpuUsage(cpu);
    const after = receiver.read();
    receiver.close();
    a.close();
    b.close();
    const received = after.received - before.received;
    return {
      packetsPerSecond: (received * 1000) / elapsedMs,
      packetsPerCpuSecond: (received * 1e6) / (user + system),
      lost: after.lost,
    };
  } finally {
    home.enter();
    home.close();
    for (const name of names) execFileSync('ip', ['netns', 'delete', name]);
  }
}

/** Reads a second of counters in a mapped array: as typed array elements, and atomically. */
export function benchMappedReads(durationMs = 200): {
  readonly plainPerSecond: number;
  readonly atomicPerSecond: number;
} {
  const map = ArrayMap.create({ name: 'bench', value: count64, maxEntries: 65536, mappable: true });
  const values = map.map();
  const rate = (read: (index: number) => number) => {
    let [reads, sum] = [0, 0];
    const start = performance.now();
    while (performance.now() - start < durationMs) {
      for (let index = 0; index < 65536; index++) sum += read(index);
      reads += 65536;
    }
    if (sum !== 0) throw new Error('an array that nobody wrote is not zero');
    return (reads * 1000) / (performance.now() - start);
  };
  const { u32: words, s32 } = values;
  const plainPerSecond = rate((index) => words[index * 2]);
  const atomicPerSecond = rate((index) => Atomics.load(s32, index * 2));
  map.close();
  return { plainPerSecond, atomicPerSecond };
}

/** Milliseconds to set entries of a hash by batches; the map is new each time. */
export function benchBatchUpdate(
  entries = 100_000,
  rounds = 5,
): { readonly entries: number; readonly medianMs: number } {
  const all = Array.from({ length: entries }, (_, index) => [index, BigInt(index)] as const);
  const times = Array.from({ length: rounds }, () => {
    const map = HashMap.create({ name: 'bench', key: u32, value: u64, maxEntries: entries });
    const start = performance.now();
    map.setMany(all);
    const elapsedMs = performance.now() - start;
    map.close();
    return elapsedMs;
  });
  return { entries, medianMs: median(times) };
}

/** Milliseconds to assemble and load a program, verifier included: a few loads, stores, branches and arithmetic over and over. */
export function benchLoad(
  instructions = 500,
  rounds = 15,
): { readonly instructions: number; readonly medianMs: number } {
  const times = Array.from({ length: rounds }, () => {
    const start = performance.now();
    const b = new ProgramBuilder('bench');
    const pass = b.label('pass');
    b.packetOfXdp(R1, R6, R2);
    b.needBytes(R6, R2, 64, R0, pass);
    const slot = b.stack(8);
    // As a parser does: a field out of the packet, arithmetic, a word on the stack, a branch.
    while (b.instructions.length < instructions - 2) {
      const turn = b.instructions.length;
      b.load(R0, 'u32', at(R6, turn % 60));
      b.add(R0, turn);
      b.store('u64', slot, R0);
      b.if(R0, '==', turn * 3, () => b.store('u64', slot, turn));
    }
    b.place(pass);
    b.return(XDP.PASS);
    const program = loadProgram({ type: 'xdp', code: b });
    const elapsedMs = performance.now() - start;
    program.close();
    return elapsedMs;
  });
  return { instructions, medianMs: median(times) };
}
