/**
 * A program that does nothing but run the actions of a flow that it is told: for the differential test of actions/ alone. It takes from
 * mapped memory which flow a packet hit and where its layer 3 is, runs the flow's shape, and writes down all that it sends.
 */
import {
  ArrayMap,
  at,
  bytes,
  DeviceHashMap,
  loadProgram,
  type Program,
  ProgramBuilder,
  R0,
  R1,
  R2,
  R3,
  R4,
  R6,
  R7,
  R8,
  R9,
  SK_BUFF,
} from '../../bpf/index.ts';
import { KEY_WORDS } from '../../flow/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { emitShape } from '../actions/emit.ts';
import { network16 } from '../actions/order.ts';
import type { Shape } from '../actions/shape.ts';

/** A flow as the program holds it. */
export interface CompiledFlow {
  readonly shape: Shape;
  readonly parameters: Uint32Array;
}

/** What the program returns: sent is the hook's own number for a redirect. */
export const Verdict = { PUNT: 77, FAILED: 78, RECIRCULATE: 79, DROP: 200 } as const;

/** Places in the input, in words. */
const Input = {
  FLOW: 0,
  LAYER3: 1,
  TAG: 2,
  TPID: 3,
  TCI: 4,
  SENT: 5,
  RECIRC_ID: 6,
  HASH: 7,
  RESULT: 8,
  KEY: 9,
} as const;
const INPUT_WORDS = Input.KEY + KEY_WORDS;

/** Places in a record of what was sent, in words; then the bytes. */
const Record = { IFINDEX: 0, LENGTH: 1, TAG: 2, TPID: 3, TCI: 4, MARK: 5, PRIORITY: 6, BYTES: 8 } as const;
const FRAME_ROOM = 1024;
const RECORDS = 64;
const EINVAL = 22;
/** Frames from this length on are taken by test runs whatever is in them. */
const SHORTEST_SURE = 14 + 4 + 8 + 40;
const ENTRY_BYTES = 4 * 66;

/** One frame that the program sent. */
export interface SentFrame {
  readonly ifindex: number;
  readonly frame: Uint8Array;
  readonly mark: number;
  readonly priority: number;
}

export interface ActionsRun {
  readonly result: number;
  readonly sent: readonly SentFrame[];
  readonly recircId: number;
  readonly hash: number;
}

/** What a run is told beside the frame. */
export interface ActionsInput {
  readonly flow: number;
  readonly layer3: number;
  readonly key: Uint32Array;
}

export class ActionsProgram {
  readonly hook: OffloadHook;
  readonly program: Program;
  readonly #input = ArrayMap.create({ name: 'input', value: bytes(INPUT_WORDS * 4), maxEntries: 1, mappable: true });
  readonly #records = ArrayMap.create({
    name: 'records',
    value: bytes(Record.BYTES * 4 + FRAME_ROOM),
    maxEntries: RECORDS,
    mappable: true,
  });
  readonly #entries;
  readonly #devices: DeviceHashMap | null;
  readonly #in;
  readonly #out;

  /** @param ifindexes the interfaces that flows may send to */
  constructor(hook: OffloadHook, flows: readonly CompiledFlow[], ifindexes: readonly number[]) {
    this.hook = hook;
    this.#entries = ArrayMap.create({
      name: 'entries',
      value: bytes(ENTRY_BYTES),
      maxEntries: Math.max(flows.length, 1),
      mappable: true,
    });
    this.#devices = hook === 'xdp' ? DeviceHashMap.create({ name: 'devices', maxEntries: 64 }) : null;
    for (const ifindex of ifindexes) this.#devices?.set(ifindex, { ifindex });
    const shapes: Shape[] = [];
    const numbers = new Map<string, number>();
    const entries = this.#entries.map();
    flows.forEach(({ shape, parameters }, i) => {
      if (!numbers.has(shape.id)) {
        numbers.set(shape.id, shapes.length);
        shapes.push(shape);
      }
      const word = entries.offsetOf(i) >>> 2;
      entries.u32[word] = numbers.get(shape.id) ?? 0;
      entries.u32.set(parameters, word + 1);
    });
    this.#in = this.#input.map();
    this.#out = this.#records.map();
    this.program = loadProgram({ type: hook === 'tc' ? 'sched_cls' : 'xdp', code: this.#build(shapes) });
  }

  close(): void {
    for (const handle of [this.program, this.#input, this.#records, this.#entries, this.#devices]) handle?.close();
  }

  /** {@link run}; null for a frame that the kernel's test runs do not take: too short for what its EtherType says. */
  tryRun(frame: Uint8Array, input: ActionsInput): ActionsRun | null {
    try {
      return this.run(frame, input);
    } catch (error) {
      if (error instanceof Error && 'errno' in error && error.errno === EINVAL && frame.length < SHORTEST_SURE)
        return null;
      throw error;
    }
  }

  /** Run it on a frame. At tc an outer tag is taken out of the frame and put beside it, as the kernel does on reception. */
  run(frame: Uint8Array, input: ActionsInput): ActionsRun {
    const data = this.arm(frame, input);
    const { result } = this.program.run({ data });
    return { ...this.taken(), result };
  }

  /** Tell the program what the next frame is. @returns the frame as a test run has to have it, without a tag beside it */
  arm(frame: Uint8Array, input: ActionsInput): Uint8Array {
    const words = this.#in.u32;
    const hasTag = this.hook === 'tc' && input.key[24] !== 0;
    words[Input.FLOW] = input.flow;
    words[Input.LAYER3] = input.layer3 - (hasTag ? 4 : 0);
    words[Input.TAG] = hasTag ? 1 : 0;
    words[Input.TPID] = network16((frame[12] << 8) | frame[13]);
    words[Input.TCI] = (frame[14] << 8) | frame[15];
    words[Input.SENT] = 0;
    words.set(input.key, Input.KEY);
    words[Input.RESULT] = 0;
    return hasTag ? Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)]) : frame;
  }

  /** What has become of the frame; the result is 0 when it was sent. */
  taken(): ActionsRun {
    const words = this.#in.u32;
    const sent: SentFrame[] = [];
    for (let i = 0; i < words[Input.SENT]; i += 1) sent.push(this.#sent(i));
    return { result: words[Input.RESULT], sent, recircId: words[Input.RECIRC_ID], hash: words[Input.HASH] };
  }

  #sent(index: number): SentFrame {
    const { u32: words, u8 } = this.#out;
    const byte = this.#out.offsetOf(index);
    const word = byte >>> 2;
    const length = words[word + Record.LENGTH];
    const start = byte + Record.BYTES * 4;
    let frame = u8.slice(start, start + length);
    if (words[word + Record.TAG] !== 0) {
      const tpid = network16(words[word + Record.TPID]);
      const tci = words[word + Record.TCI];
      const tag = [tpid >>> 8, tpid & 0xff, tci >>> 8, tci & 0xff];
      frame = Uint8Array.from([...frame.subarray(0, 12), ...tag, ...frame.subarray(12)]);
    }
    const at = (place: number) => words[word + place];
    return { ifindex: at(Record.IFINDEX), frame, mark: at(Record.MARK), priority: at(Record.PRIORITY) };
  }

  #build(shapes: readonly Shape[]): ProgramBuilder {
    const b = new ProgramBuilder('actions', { recordSites: false });
    const isTc = this.hook === 'tc';
    b.mov(R6, R1);
    const layer3 = b.stack(4);
    const flow = b.stack(4);
    const record = b.stack(4);
    const key = b.stack(45 * 4, 4);
    b.loadMapValue(R7, this.#input);
    for (let i = 0; i < 45; i += 1) {
      b.load(R1, 'u32', at(R7, (Input.KEY + i) * 4));
      b.store('u32', key.at(i * 4), R1);
    }
    b.load(R1, 'u32', at(R7, Input.LAYER3 * 4));
    b.store('u32', layer3, R1);
    if (isTc) {
      b.load(R1, 'u32', at(R7, Input.TAG * 4));
      // On a real interface the kernel has put the tag beside the packet already.
      b.load(R2, 'u32', at(R6, SK_BUFF.vlanPresent));
      b.if(R2, '!=', 0, () => b.mov(R1, 0));
      b.if(R1, '!=', 0, () => {
        b.load(R2, 'u32', at(R7, Input.TPID * 4));
        b.load(R3, 'u32', at(R7, Input.TCI * 4));
        b.mov(R1, R6);
        b.callHelper('skb_vlan_push');
      });
    }
    b.load(R1, 'u32', at(R7, Input.FLOW * 4));
    b.store('u32', flow, R1);
    const punt = b.label('punt');
    const failed = b.label('failed');
    b.call('map_lookup_elem', this.#entries, flow);
    b.jumpIf(R0, '==', 0, failed);
    b.mov(R7, R0);
    b.load(R1, 'u32', at(R7));
    b.add(R7, 4);
    b.switch(
      R1,
      shapes.map((shape, number) => [
        number,
        () =>
          emitShape(b, shape, {
            hook: this.hook,
            layer3,
            key: (word) => key.at(word * 4),
            punt,
            failed,
            drop: (reason) => this.#end(b, Verdict.DROP + reason),
            ...(this.#devices === null ? {} : { devices: this.#devices }),
            recirculate: () => {
              b.loadMapValue(R1, this.#input);
              b.store('u32', at(R1, Input.RECIRC_ID * 4), R8);
              b.store('u32', at(R1, Input.HASH * 4), R9);
              this.#end(b, Verdict.RECIRCULATE);
            },
            observe: (ifindex) => this.#observe(b, ifindex, record),
          }),
      ]),
    );
    if (b.reachable) b.jump(failed);
    b.place(punt);
    this.#end(b, Verdict.PUNT);
    b.place(failed);
    this.#end(b, Verdict.FAILED);
    return b;
  }

  #end(b: ProgramBuilder, verdict: number): void {
    b.loadMapValue(R1, this.#input);
    b.store('u32', at(R1, Input.RESULT * 4), verdict);
    b.return(verdict);
  }

  #observe(
    b: ProgramBuilder,
    ifindex: { base: typeof R7; offset: number },
    record: ReturnType<ProgramBuilder['stack']>,
  ) {
    const isTc = this.hook === 'tc';
    b.loadMapValue(R1, this.#input);
    b.load(R2, 'u32', at(R1, Input.SENT * 4));
    b.store('u32', record, R2);
    b.add(R2, 1);
    b.store('u32', at(R1, Input.SENT * 4), R2);
    b.lookup(this.#records, record, () => {
      const copy = (place: number, field: number) => {
        b.load(R1, 'u32', at(R6, field));
        b.store('u32', at(R0, place * 4), R1);
      };
      b.load(R1, 'u32', ifindex);
      b.store('u32', at(R0, Record.IFINDEX * 4), R1);
      if (isTc) {
        copy(Record.TAG, SK_BUFF.vlanPresent);
        copy(Record.TPID, SK_BUFF.vlanProto);
        copy(Record.TCI, SK_BUFF.vlanTci);
        copy(Record.MARK, SK_BUFF.mark);
        copy(Record.PRIORITY, SK_BUFF.priority);
        b.load(R4, 'u32', at(R6, SK_BUFF.len));
      } else {
        b.packetOfXdp(R6, R2, R4);
        b.sub(R4, R2);
      }
      b.block((leave) => {
        b.jumpIf(R4, '==', 0, leave);
        b.jumpIf(R4, '>', FRAME_ROOM, leave);
        b.store('u32', at(R0, Record.LENGTH * 4), R4);
        b.mov(R3, R0);
        b.add(R3, Record.BYTES * 4);
        b.mov(R2, 0);
        b.mov(R1, R6);
        b.callHelper(isTc ? 'skb_load_bytes' : 'xdp_load_bytes');
      });
    });
  }
}
