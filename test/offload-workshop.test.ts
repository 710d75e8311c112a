/**
 * Programs and tables that are made on another thread: flows come, change and go while they are made and filled, and the kernel carries each packet as the
 * flow table says at that moment, or hands it up. The other thread's work is done here between two steps, at random.
 */
import { readdirSync } from 'node:fs';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import { SK_BUFF, TC, XDP, XDP_MD } from '../src/bpf/index.ts';
import { FlowTable, PutMode, parseActions, parseFlowKey } from '../src/flow/index.ts';
import { mappedMemory, openDescriptors } from '../src/host/sys/index.ts';
import { toInterfaceIndex, toKeyPort } from '../src/net/index.ts';
import { CopyChannel, cpuParts, FlowOffload, type LoadedProgram } from '../src/offload/index.ts';
import { RandomSource } from '../src/offload/testing/random.ts';
import { WorkshopAside } from '../src/offload/workshop/aside.ts';
import { type OrderData, work } from '../src/offload/workshop/work.ts';

const LOOPBACK = toInterfaceIndex(1);
const FLOWS = 300;
const STEPS = 4_000;
const MACS = ['', 'src=02:00:00:00:00:01', 'dst=02:00:00:00:00:02', 'src=02:00:00:00:00:01,dst=02:00:00:00:00:02'];

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

/** One of many flows under four masks. */
const flowOf = (i: number) =>
  parseFlowKey(
    `recirc_id(0),in_port(1),eth(${MACS[i % MACS.length]}),eth_type(0x0800),ipv4(dst=10.1.${i >> 8}.${i & 255},proto=17,frag=no)`,
  );

function frameOf(i: number): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17]);
  bytes.set([10, 0, 0, 1, 10, 1, i >> 8, i & 255, 0, 5, 0, 6, 0, 30], 26);
  return bytes;
}

type Verdict = 'up' | 'sent' | 'dropped';

/** What has been ordered of another thread is done when the test says so. */
class Bench {
  readonly table = new FlowTable();
  readonly offload: FlowOffload;
  readonly workshop: WorkshopAside;
  nowMs = Number(process.hrtime.bigint() / 1_000_000n);
  installations = 0;
  /** How often programs could not be installed, while they cannot; null while they can. */
  refusals: number | null = null;
  readonly #hook: 'tc' | 'xdp';
  readonly #other: MessagePort;
  #attached: readonly LoadedProgram[] = [];

  constructor(hook: 'tc' | 'xdp') {
    this.#hook = hook;
    const { port1, port2 } = new MessageChannel();
    this.#other = port2;
    port2.postMessage('ready');
    this.workshop = new WorkshopAside(() => ({ port: port1, stop: () => {} }));
    this.offload = new FlowOffload({
      table: this.table,
      nowMs: () => this.nowMs,
      initialEntries: 16,
      maximumEntries: 1024,
      stepEntries: 8,
      workshop: this.workshop,
      // Whatever ran has ended, and what came up is worked off.
      programs: { mark: () => 0, isPast: () => true },
      puntPath: { mark: () => 0, isPast: () => true },
      install: ({ programs }) => {
        if (this.refusals !== null) {
          this.refusals += 1;
          throw new Error('no interface takes it');
        }
        this.installations += 1;
        this.#attached = programs;
      },
    });
    const port = { tapLike: false, puntIfindex: 0 as const, output: true, xdpOutput: true };
    this.offload.setPort({ ...port, ifindex: LOOPBACK, number: toKeyPort(1), hook });
    cleanups.push(() => this.close());
  }

  /** The other thread works off one order. @returns whether there was one */
  work(): boolean {
    const got = receiveMessageOnPort(this.#other);
    if (got === undefined) return false;
    this.#other.postMessage(work(got.message as OrderData));
    return true;
  }

  put(i: number, actions: string): number {
    const { key, mask } = flowOf(i);
    return this.table.put({ key, mask, actions: parseActions(actions), ufid: null, mode: PutMode.CREATE_OR_MODIFY });
  }

  /** What becomes of a packet of a flow. What XDP passes on comes to tc; what goes up the engine is done with at once. */
  run(i: number): Verdict {
    const verdict = this.#hook === 'xdp' ? this.#runAt('xdp', i) : 'up';
    if (verdict !== 'up') return verdict;
    const atTc = this.#runAt('tc', i);
    if (atTc === 'up') this.offload.drained(LOOPBACK, 1);
    return atTc;
  }

  #runAt(hook: 'tc' | 'xdp', i: number): Verdict {
    const attached = this.#attached.find((program) => program.hook === hook);
    if (attached === undefined) return 'up';
    const data = frameOf(i);
    const context = new Uint8Array(hook === 'tc' ? 192 : 24);
    const view = new DataView(context.buffer);
    if (hook === 'tc') view.setUint32(SK_BUFF.ifindex, LOOPBACK, true);
    else {
      view.setUint32(XDP_MD.dataEnd, data.length, true);
      view.setUint32(XDP_MD.ingressIfindex, LOOPBACK, true);
    }
    const { result } = attached.program.run({ data, context });
    if (result === (hook === 'tc' ? TC.REDIRECT : XDP.REDIRECT)) return 'sent';
    return result === (hook === 'tc' ? TC.SHOT : XDP.DROP) ? 'dropped' : 'up';
  }

  /** Until nothing is to be done. */
  settle(): void {
    for (let turn = 0; turn < 60; turn += 1) {
      this.nowMs += 200;
      this.offload.poll();
      this.work();
    }
  }

  close(): void {
    this.offload.close();
    while (this.work());
    this.workshop.close();
    this.#other.close();
  }
}

describe.each(['tc', 'xdp'] as const)('at %s', (hook) => {
  test.each([1, 2, 3])('flows come, change and go while programs are made and tables grow (%i)', (seed) => {
    const random = new RandomSource(seed);
    const bench = new Bench(hook);
    /** Flows that are there: what they do, and how many packets were carried of each. */
    const there = new Map<number, { slot: number; does: Verdict; carried: number }>();
    let carried = 0;
    for (let step = 0; step < STEPS; step += 1) {
      // In the first part more come than go, then more go than come.
      const most = step < STEPS / 2 ? FLOWS : 40;
      const i = random.below(FLOWS);
      const flow = there.get(i);
      switch (random.below(8)) {
        case 0:
        case 1:
        case 2: {
          if (there.size >= most) break;
          const does = random.below(2) === 0 ? 'sent' : 'dropped';
          const slot = bench.put(i, does === 'sent' ? '1' : 'drop');
          if (flow === undefined) there.set(i, { slot, does, carried: 0 });
          else flow.does = does;
          break;
        }
        case 3:
          if (flow === undefined || there.size < most / 2) break;
          bench.table.refreshCounts(flow.slot);
          expect(bench.table.packetsOf(flow.slot), `flow ${i} in step ${step}`).toBeLessThanOrEqual(flow.carried);
          bench.table.remove(flow.slot);
          there.delete(i);
          break;
        case 4:
          bench.work();
          break;
        case 5:
        case 6:
          bench.nowMs += random.below(4);
          bench.offload.poll();
          break;
        default: {
          const verdict = bench.run(i);
          if (verdict === 'up') break;
          expect(verdict, `flow ${i} in step ${step}`).toBe(flow?.does);
          if (flow !== undefined) flow.carried += 1;
          carried += 1;
        }
      }
    }
    expect(carried).toBeGreaterThan(STEPS / 40);
    expect(bench.installations).toBeGreaterThan(3);
    bench.settle();
    for (const [i, flow] of there) {
      expect(bench.run(i), `flow ${i}`).toBe(flow.does);
      flow.carried += 1;
    }
    expect(bench.run(FLOWS)).toBe('up');
    bench.offload.sync();
    for (const [i, { slot, carried }] of there) expect(bench.table.packetsOf(slot), `flow ${i}`).toBe(carried);
    expect(bench.offload.reasons().size).toBe(0);
  });

  test('a flow whose program is being made is carried by it, and no further one is made', () => {
    const bench = new Bench(hook);
    bench.put(0, '1');
    bench.nowMs += 10;
    bench.offload.poll();
    bench.nowMs += 10;
    bench.offload.poll();
    // It is ordered, and has the mask and the shape of the next ones.
    for (const i of [4, 8, 12]) bench.put(i, '1');
    expect(bench.run(4)).toBe('up');
    bench.settle();
    for (const i of [0, 4, 8, 12]) expect(bench.run(i)).toBe('sent');
    expect(bench.installations).toBe(1);
  });

  test('copies that are asked for while a program is made are there when that returns', () => {
    const bench = new Bench(hook);
    const channel = CopyChannel.create({ ringBytes: 1 << 16, cpus: cpuParts() });
    cleanups.push(() => channel.close());
    bench.put(0, '1');
    bench.settle();
    bench.put(1, '1');
    for (let turn = 0; turn < 3; turn += 1) {
      bench.nowMs += 10;
      bench.offload.poll();
    }
    expect(bench.offload.setCopies(channel.maps)).toBe(true);
    channel.want(LOOPBACK, 100, 0);
    expect(bench.run(0)).toBe('sent');
    let copies = 0;
    channel.read(() => {
      copies += 1;
    }, 10);
    expect(copies).toBe(1);
    bench.settle();
    expect(bench.run(1)).toBe('sent');
    expect(bench.offload.setCopies(null)).toBe(true);
  });

  test('what could not be installed is tried again after a while; until then the former programs go on', () => {
    const bench = new Bench(hook);
    bench.put(0, '1');
    bench.settle();
    bench.refusals = 0;
    // Further masks, and more flows than there is room for.
    for (let i = 1; i < 60; i += 1) bench.put(i, '1');
    const begunMs = bench.nowMs;
    let failures = 0;
    while (bench.nowMs < begunMs + 2000) {
      bench.nowMs += 5;
      try {
        bench.offload.poll();
      } catch (error) {
        expect(String(error)).toContain('no interface takes it');
        failures += 1;
      }
      bench.work();
      expect(bench.run(0)).toBe('sent');
    }
    expect(bench.run(1)).toBe('up');
    expect(failures).toBe(bench.refusals);
    expect(failures).toBeGreaterThan(1);
    expect(failures).toBeLessThanOrEqual(4);
    bench.refusals = null;
    bench.settle();
    for (let i = 0; i < 60; i += 1) expect(bench.run(i), `flow ${i}`).toBe('sent');
    expect(bench.offload.reasons().size).toBe(0);
  });

  test('a thread that ends while it makes something is named, and the thread that has asked makes it itself', () => {
    const bench = new Bench(hook);
    bench.put(0, '1');
    for (let turn = 0; turn < 2; turn += 1) {
      bench.nowMs += 10;
      bench.offload.poll();
    }
    bench.workshop.gone('it was ended by the test');
    bench.nowMs += 10;
    expect(() => bench.offload.poll()).toThrow('it was ended by the test');
    bench.settle();
    expect(bench.run(0)).toBe('sent');
  });
});

test('tables that end while something is made for them leave no descriptor and no memory', () => {
  const comeAndGo = () => {
    const bench = new Bench('tc');
    for (let i = 0; i < 40; i += 1) bench.put(i, '1');
    for (let turn = 0; turn < 3; turn += 1) {
      bench.nowMs += 10;
      bench.offload.poll();
    }
    bench.close();
    cleanups.pop();
  };
  comeAndGo();
  const held = () => ({
    ...mappedMemory(),
    owned: openDescriptors(),
    descriptors: readdirSync('/proc/self/fd').length,
  });
  const before = held();
  for (let time = 0; time < 20; time += 1) comeAndGo();
  expect(held()).toEqual(before);
});

// The compiled room, as Node runs no thread of TypeScript.
test('threads that are let go while they begin end', async () => {
  const load = (path: string): Promise<unknown> => import(new URL(`../dist/offload/${path}`, import.meta.url).href);
  const { startWorkshop } = (await load('workshop/start.js')) as typeof import('../src/offload/workshop/start.ts');
  const { OffloadMaps } = (await load('layout/maps.js')) as typeof import('../src/offload/layout/maps.ts');
  const { TableSizes } = (await load('layout/sizes.js')) as typeof import('../src/offload/layout/sizes.ts');
  const threads = () => readdirSync('/proc/self/task').length;
  const before = threads();
  const warnings: string[] = [];
  const maps = OffloadMaps.create(new TableSizes({ entries: 16, keyWords: 4, parameterWords: 4, cpus: cpuParts() }));
  for (let i = 0; i < 20; i += 1) {
    const workshop = startWorkshop((message) => warnings.push(message));
    workshop.begin({ maps, sizes: null, drafts: [] }).abandon();
    workshop.close();
  }
  expect(threads()).toBeGreaterThan(before);
  // The thread that orders has no turn of Node's loop meanwhile.
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 1000 && threads() > before; i += 1) Atomics.wait(pause, 0, 0, 20);
  expect(threads()).toBeLessThanOrEqual(before);
  expect(warnings).toEqual([]);
  maps.close();
}, 60_000);
