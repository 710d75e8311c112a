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
import { Recorder, type SentFrame } from './recorder.ts';

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

const EINVAL = 22;
/** Frames from this length on are taken by test runs whatever is in them. */
const SHORTEST_SURE = 14 + 4 + 8 + 40;
const ENTRY_BYTES = 4 * 66;

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
  readonly #recorder: Recorder;
  readonly #entries;
  readonly #devices: DeviceHashMap | null;
  readonly #in;

  /** @param ifindexes the interfaces that flows may send to */
  constructor(hook: OffloadHook, flows: readonly CompiledFlow[], ifindexes: readonly number[]) {
    this.hook = hook;
    this.#recorder = new Recorder(hook);
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
    this.program = loadProgram({ type: hook === 'tc' ? 'sched_cls' : 'xdp', code: this.#build(shapes) });
  }

  close(): void {
    for (const handle of [this.program, this.#input, this.#recorder, this.#entries, this.#devices]) handle?.close();
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
    this.#recorder.reset();
    words.set(input.key, Input.KEY);
    words[Input.RESULT] = 0;
    return hasTag ? Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)]) : frame;
  }

  /** What has become of the frame; the result is 0 when it was sent. */
  taken(): ActionsRun {
    const words = this.#in.u32;
    return {
      result: words[Input.RESULT],
      sent: this.#recorder.taken(),
      recircId: words[Input.RECIRC_ID],
      hash: words[Input.HASH],
    };
  }

  #build(shapes: readonly Shape[]): ProgramBuilder {
    const b = new ProgramBuilder('actions', { recordSites: false });
    const isTc = this.hook === 'tc';
    b.mov(R6, R1);
    const layer3 = b.stack(4);
    const flow = b.stack(4);
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
            observe: (ifindex) => this.#recorder.emit(b, ifindex),
          }),
      ]),
    );
    if (b.reachable) b.jump(failed);
    b.placeIfUsed(punt);
    if (b.reachable) this.#end(b, Verdict.PUNT);
    b.place(failed);
    this.#end(b, Verdict.FAILED);
    return b;
  }

  #end(b: ProgramBuilder, verdict: number): void {
    b.loadMapValue(R1, this.#input);
    b.store('u32', at(R1, Input.RESULT * 4), verdict);
    b.return(verdict);
  }
}
