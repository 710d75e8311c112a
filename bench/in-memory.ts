/**
 * The in-memory figure: 64-byte frames in batches of 64 through the switch with the learning extension, from generators to sinks
 * that count. No system call is made on the way, so this is what switch and extension cost by themselves.
 *
 * npm run bench compiles and runs it with the others; compiled, it also runs alone and prints JSON:
 *
 *     node dist-bench/bench/in-memory.js [packets]
 *
 * `--module` takes the extension as a module of a user's (users-module.ts).
 */
import { performance } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { learningExtension } from '../src/extensions/learning/index.ts';
import { BATCH_SIZE, Batch, GeneratorAdapter } from '../src/net/index.ts';
import { createSwitch, type ExtensionFactory } from '../src/switch/index.ts';
import { learningAsModule } from './users-module.ts';

export interface InMemoryOptions {
  /** Packets that are measured; 10 million when not given. */
  readonly packets?: number;
  /** Ports, 2 or more; 4 when not given. Each sends to the others in turn. */
  readonly ports?: number;
  /** Packets handed over at once; 64 when not given. */
  readonly batch?: number;
  /** The learning extension; the one that comes with Millrace when not given. */
  readonly extension?: ExtensionFactory;
}

export interface InMemoryResult {
  readonly packets: number;
  readonly ports: number;
  readonly packetsPerSecond: number;
  /** The same by processor time of the process: what one core does when nobody else wants it. */
  readonly packetsPerCpuSecond: number;
  /** Copies that reached a sink: as many as packets when every address is known. */
  readonly delivered: number;
  /** Growth of the heap over the measured packets, collected before each look so that only what stays counts. */
  readonly heapGrowthBytes: number;
}

const FRAME_BYTES = 64;
const WARM_UP = 1_000_000;

/** A frame from one host to another; hosts are numbered by port. */
function frame(from: number, to: number): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES);
  bytes.set([2, 0, 0, 0, 0, to + 1, 2, 0, 0, 0, 0, from + 1, 0x08, 0x00, 0x45]);
  return bytes;
}

/** The garbage collector as a function, without a flag on the command line: a context made after the flag is set has it. */
function collector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** Measure; takes some seconds. */
export async function benchInMemory(options: InMemoryOptions = {}): Promise<InMemoryResult> {
  const total = options.packets ?? 10_000_000;
  const count = options.ports ?? 4;
  const batchSize = options.batch ?? BATCH_SIZE;
  const host = { nowMs: () => performance.now(), log: () => {} };
  const virtualSwitch = createSwitch({ name: 'bench', host });
  virtualSwitch.activate().result();
  virtualSwitch.enableExtension(options.extension ?? (learningExtension as ExtensionFactory)).result();
  const generators: GeneratorAdapter[] = [];
  for (let port = 0; port < count; port += 1) {
    const frames = [];
    for (let other = 0; other < count; other += 1) if (other !== port) frames.push(frame(port, other));
    const backend = new GeneratorAdapter({ name: `g${port}`, frames, packets: 256 });
    generators.push(backend);
    virtualSwitch.createPort({ portId: port + 1, name: backend.name }).result();
    virtualSwitch.createNic(port + 1, { name: backend.name, backend }).result();
    virtualSwitch.connectNic(port + 1).result();
  }
  const batch = new Batch();
  const run = (packets: number): void => {
    for (let left = packets; left > 0; ) {
      for (let port = 0; port < count && left > 0; port += 1) {
        left -= generators[port].receive(batch, Math.min(batchSize, left));
        virtualSwitch.receive(port + 1, 0, batch);
      }
    }
  };
  run(WARM_UP);
  const collect = collector();
  collect();
  const heapBefore = process.memoryUsage().heapUsed;
  const deliveredBefore = virtualSwitch.counters.copiesDelivered;
  const cpuBefore = process.cpuUsage();
  const started = performance.now();
  run(total);
  const elapsedMs = performance.now() - started;
  const cpu = process.cpuUsage(cpuBefore);
  collect();
  const heapGrowthBytes = process.memoryUsage().heapUsed - heapBefore;
  const delivered = virtualSwitch.counters.copiesDelivered - deliveredBefore;
  virtualSwitch.close().result();
  return {
    packets: total,
    ports: count,
    packetsPerSecond: Math.round((total / elapsedMs) * 1000),
    packetsPerCpuSecond: Math.round((total / (cpu.user + cpu.system)) * 1e6),
    delivered,
    heapGrowthBytes,
  };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const args = process.argv.slice(2).filter((arg) => arg !== '--module');
  const asModule = args.length < process.argv.length - 2;
  const result = await benchInMemory({
    ...(args[0] === undefined ? {} : { packets: Number(args[0]) }),
    ...(asModule ? { extension: learningAsModule() } : {}),
  });
  console.log(JSON.stringify(result));
}
