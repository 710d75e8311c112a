/**
 * A carrier that is the generated program as a whole: masks, entries and ports are put into its maps, and test runs say by which
 * interface a frame has come. At tc a small program before it puts an outer tag beside the frame, as the kernel does on reception.
 */
import {
  ArrayMap,
  at,
  bytes,
  loadProgram,
  type Program,
  ProgramArrayMap,
  ProgramBuilder,
  R1,
  R2,
  R3,
  R6,
  R7,
  SK_BUFF,
  TC,
  type TestRun,
  XDP_MD,
} from '../../bpf/index.ts';
import { type FlowTable, KEY_WORDS, RESUME_BYTES } from '../../flow/index.ts';
import { RECORD_MARK } from '../../host/index.ts';
import { toInterfaceIndex } from '../../net/index.ts';
import { compileActions } from '../actions/compile.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { network16 } from '../actions/order.ts';
import type { Shape } from '../actions/shape.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import { DownEntry } from '../down/entry.ts';
import { EntryTable } from '../layout/entry-table.ts';
import { HashSecrets } from '../layout/hash.ts';
import { IndexTable } from '../layout/index-table.ts';
import { OffloadMaps } from '../layout/maps.ts';
import { dropsIn } from '../layout/port-table.ts';
import { ANY_LENGTH, CounterByte, MTU_SHIFT, PORT_WORDS, PortFlag, PortWord, TableSizes } from '../layout/sizes.ts';
import { LoadedProgram, loadPlan } from '../program/load.ts';
import type { ProgramMask } from '../program/plan.ts';
import { Recorder } from './recorder.ts';
import type { Carried, Carrier } from './table-rounds.ts';

/** Tables as programs find them: counters apart, beside each entry with a cache line for each CPU, and beside it close together. */
const SIZES = [
  { entries: 256, cpus: 64 },
  { entries: 256, cpus: 4 },
  { entries: 1 << 15, cpus: 2 },
].map((sizes) => new TableSizes({ ...sizes, keyWords: 27, parameterWords: 64 }));
let carriers = 0;
const EINVAL = 22;
/** Frames from this length on are taken by test runs whatever is in them. */
const SHORTEST_SURE = 14 + 4 + 8 + 40;
const PUNTED: Carried = { verdict: 'punted', sent: [] };
/** What programs return, by hook. */
const RESULTS = {
  tc: new Map<number, Carried['verdict']>([
    [-1, 'punted'],
    [2, 'dropped'],
    [7, 'sent'],
  ]),
  xdp: new Map<number, Carried['verdict']>([
    [2, 'punted'],
    [1, 'dropped'],
    [4, 'sent'],
  ]),
};

export class GeneratedCarrier implements Carrier {
  readonly strict = true;
  readonly #table: FlowTable;
  readonly #hook: OffloadHook;
  readonly #ifindexes: readonly number[];
  readonly #recorder: Recorder;
  readonly #maps = OffloadMaps.create(SIZES[carriers++ % SIZES.length]);
  readonly #loaded: LoadedProgram;
  readonly #slots = new Map<number, number>();
  readonly #tagger: Tagger | null;
  /** tc: where packets come in that are handed down. */
  readonly #entry: DownEntry | null;
  readonly #down: Tagger | null;

  /** Why flows are not carried, by their actions. */
  readonly refusals: string[] = [];

  /**
   * @param connections by which programs track packets
   * @throws Error when the verifier refuses the program: the message has it, with the log
   */
  constructor(
    table: FlowTable,
    hook: OffloadHook,
    hashSecret: { readonly low: number; readonly high: number },
    ifindexes: readonly number[],
    connections?: ConnectionReferences,
  ) {
    this.#table = table;
    this.#hook = hook;
    this.#ifindexes = ifindexes;
    this.#recorder = new Recorder(hook);
    const secrets = new HashSecrets();
    const masks: ProgramMask[] = table.masks.map(({ index, values }, number) => ({
      number,
      index: Array.from(index),
      values: Array.from(values, (value) => value >>> 0),
    }));
    const shapes: { readonly number: number; readonly shape: Shape }[] = [];
    const entries = new EntryTable(this.#maps);
    const hashes = new Map<number, number>();
    const index = new IndexTable(this.#maps.index, this.#maps.sizes.indexPlaces);
    const key = new Uint32Array(KEY_WORDS);
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) {
      const { words } = table.maskOf(slot);
      table.readKey(slot, key);
      const masked = key.map((word, i) => word & words[i]);
      const compiled = compileActions(table.actionsOf(slot), masked, words, {
        hook,
        hashSecret,
        resumes: true,
        connections: connections !== undefined,
        port: (port) =>
          port > ifindexes.length
            ? null
            : { ifindex: toInterfaceIndex(ifindexes[port - 1]), ingress: false, xdp: true },
      });
      if ('reason' in compiled) {
        this.refusals.push(compiled.reason);
        continue;
      }
      let shape = shapes.findIndex((each) => each.shape.id === compiled.shape.id);
      if (shape === -1) shape = shapes.push({ number: shapes.length, shape: compiled.shape }) - 1;
      const number = table.masks.indexOf(table.maskOf(slot));
      const mask = masks[number];
      const entry = entries.take(0);
      const entryKey = mask.index.map((word) => masked[word]);
      entries.write(entry, mask.number, shape, 0, entryKey, compiled.parameters);
      const hash = secrets.hash(mask.number, mask.index, entryKey);
      hashes.set(entry, hash);
      if (!index.insert(hash, entry, (each) => hashes.get(each) ?? 0)) throw new Error('the index is full');
      this.#slots.set(entry, slot);
    }
    ifindexes.forEach((ifindex, i) => {
      const word = ifindex * PORT_WORDS;
      this.#maps.ports[word + PortWord.NUMBER] = i + 1;
      this.#maps.ports[word + PortWord.LANE] = i;
      // Nothing is redirected in a test run, whatever the number.
      this.#maps.ports[word + PortWord.PUNT_IFINDEX] = ifindex;
      this.#maps.ports[word + PortWord.FLAGS] = (ANY_LENGTH << MTU_SHIFT) | PortFlag.ON;
      this.#maps.maps.devices.set(ifindex, { ifindex });
    });
    const loaded = loadPlan({
      hook,
      maps: this.#maps,
      secrets,
      masks,
      shapes,
      observe: this.#recorder,
      ...(connections === undefined ? {} : { connections }),
      handsDown: hook === 'tc',
      clock: 'ktime_get_ns',
    });
    if (!(loaded instanceof LoadedProgram)) {
      throw new Error(`${loaded.reason}\n${loaded.listing}\n${loaded.log.slice(-4000)}`);
    }
    this.#loaded = loaded;
    this.#tagger = hook === 'tc' ? new Tagger(loaded.program) : null;
    this.#entry = hook === 'tc' ? new DownEntry(this.#maps) : null;
    this.#down = this.#entry === null ? null : new Tagger(this.#entry.program);
    if (loaded.again !== null) this.#entry?.goOnWith(loaded.again);
  }

  run(frame: Uint8Array, port: number): Carried {
    const context = new Uint8Array(this.#hook === 'tc' ? 192 : 24);
    const view = new DataView(context.buffer);
    const ifindex = this.#ifindexes[port - 1];
    this.#recorder.reset();
    let run: TestRun;
    try {
      if (this.#tagger !== null) {
        view.setUint32(SK_BUFF.ifindex, ifindex, true);
        run = this.#tagger.run(frame, context);
      } else {
        view.setUint32(XDP_MD.dataEnd, frame.length, true);
        view.setUint32(XDP_MD.ingressIfindex, ifindex, true);
        run = this.#loaded.program.run({ data: frame, context });
      }
    } catch (error) {
      // The kernel does not test programs on IP packets without an IP header.
      const isShort = frame.length < SHORTEST_SURE;
      if (error instanceof Error && 'errno' in error && error.errno === EINVAL && isShort) return PUNTED;
      throw error;
    }
    return this.#outcome(run, frame);
  }

  /**
   * Run the programs as if a packet had been handed down.
   * @param bytes what is written to the device: header, record, frame
   */
  handDown(bytes: Uint8Array): Carried {
    if (this.#down === null) throw new Error('packets are handed down to tc alone');
    const context = new Uint8Array(192);
    // Whatever device it is, it is no port.
    new DataView(context.buffer).setUint32(SK_BUFF.ifindex, 1, true);
    this.#recorder.reset();
    return this.#outcome(this.#down.run(bytes, context), bytes);
  }

  #outcome(run: TestRun, frame: Uint8Array): Carried {
    const sent = this.#recorder.taken();
    const resumed = sent.findIndex(({ ifindex }) => ifindex === 0);
    if (resumed !== -1) {
      const [{ frame }] = sent.splice(resumed, 1);
      return { verdict: 'resumed', sent, resumed: { frame, record: this.#recordOf(run, frame) } };
    }
    const verdict = RESULTS[this.#hook].get(run.result) ?? 'lost';
    if (this.#hook === 'xdp' && verdict === 'punted' && !Buffer.from(run.data).equals(frame)) {
      throw new Error(`XDP passes ${Buffer.from(run.data).toString('hex')} on, not the frame as it came`);
    }
    // Sent, but by no output: that is the punt path.
    if (verdict === 'sent' && sent.length === 0) return PUNTED;
    // All that there was to send went as copies.
    return { verdict: verdict === 'dropped' && sent.length > 0 ? 'sent' : verdict, sent };
  }

  /** What lies before the frame, of which the interface is told in the place of the time. */
  #recordOf({ data, context, result }: TestRun, frame: Uint8Array): Uint8Array {
    const told = new DataView(context.buffer, context.byteOffset).getBigUint64(SK_BUFF.tstamp, true);
    const ifindex = Number(told) & ~RECORD_MARK;
    if (result !== TC.REDIRECT || !this.#ifindexes.includes(ifindex) || Number(told) < RECORD_MARK) {
      throw new Error(`a packet with a record goes up with the time ${told} and result ${result}`);
    }
    // A tag beside the packet is not in the data.
    const record = data.slice(0, RESUME_BYTES);
    const rest = Buffer.from(data.subarray(RESUME_BYTES));
    const behindTag = Buffer.concat([frame.subarray(0, 12), frame.subarray(16)]);
    if (!rest.equals(frame) && !rest.equals(behindTag)) throw new Error('the frame is another behind its record');
    return record;
  }

  sync(): void {
    const { sizes, counters } = this.#maps;
    for (const [entry, slot] of this.#slots) {
      for (let cpu = 0; cpu < sizes.cpus; cpu += 1) {
        const byte = sizes.counterAt(entry, cpu);
        const packets = counters.count(byte + CounterByte.PACKETS);
        const flags = counters.u32[(byte + CounterByte.TCP_FLAGS) >>> 2];
        if (packets > 0) this.#table.addCounts(slot, packets, counters.count(byte + CounterByte.BYTES), flags, 1);
      }
    }
  }

  get loaded(): LoadedProgram {
    return this.#loaded;
  }

  drops(): ReadonlyMap<number, number> {
    return dropsIn(this.#maps);
  }

  close(): void {
    for (const handle of [this.#tagger, this.#down, this.#entry]) handle?.close();
    this.#loaded.close();
    this.#recorder.close();
    this.#maps.close();
  }
}

/** tc: takes an outer tag out of a frame before the run, and has it put beside it before the program. */
class Tagger {
  readonly #input = ArrayMap.create({ name: 'tag', value: bytes(16), maxEntries: 1, mappable: true });
  readonly #next = ProgramArrayMap.create({ name: 'next', maxEntries: 1 });
  readonly #program: Program;
  readonly #words = this.#input.map().u32;

  constructor(next: Program) {
    this.#next.put(0, next);
    const b = new ProgramBuilder('tagger');
    b.mov(R6, R1);
    b.loadMapValue(R7, this.#input);
    b.load(R1, 'u32', at(R7));
    b.if(R1, '!=', 0, () => {
      b.load(R2, 'u32', at(R7, 4));
      b.load(R3, 'u32', at(R7, 8));
      b.mov(R1, R6);
      b.callHelper('skb_vlan_push');
    });
    b.call('tail_call', R6, this.#next, 0);
    b.return(-2);
    this.#program = loadProgram({ type: 'sched_cls', code: b });
  }

  run(frame: Uint8Array, context: Uint8Array): TestRun {
    const type = (frame[12] << 8) | frame[13];
    const hasTag = (type === 0x8100 || type === 0x88a8) && frame.length >= 18;
    this.#words[0] = hasTag ? 1 : 0;
    this.#words[1] = network16(type);
    this.#words[2] = (frame[14] << 8) | frame[15];
    const data = hasTag ? Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)]) : frame;
    return this.#program.run({ data, context });
  }

  close(): void {
    for (const handle of [this.#program, this.#next, this.#input]) handle.close();
  }
}
