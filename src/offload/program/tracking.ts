/**
 * What the code of shapes needs of connections: it tracks packets, translates them, and forgets what was told. A packet that was tracked may still have to go up, to be looked
 * up again as it was before this pass: what was told by then is put back. Neighbour: actions.ts writes the shapes.
 */
import {
  type Address,
  at,
  type FunctionRef,
  type Label,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  type Register,
} from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import type { EmitContext, TrackPlaces } from '../actions/contract.ts';
import { type ConnectionCode, connectionCode, forgetConnection, ofTracked } from '../connections/code.ts';
import { TrackRequest, TrackResult } from '../connections/request.ts';
import { emitTrackFunction } from '../connections/track.ts';
import { emitTranslateFunction, TranslateResult } from '../connections/translate.ts';
import { CpuByte, TrackedWord } from '../layout/sizes.ts';
import { keepHeaders } from './undo.ts';
import type { ProgramWriter } from './writer.ts';

type ConnectionCalls = Required<Pick<EmitContext, 'track' | 'translate' | 'forget'>>;

/** The calls for connections. */
export function connectionCalls(writer: ProgramWriter): ConnectionCalls {
  const { b, plan, puntAfterHit } = writer;
  const { connections } = plan;
  const forget = () => {
    writer.cpu(R1);
    forgetConnection(b, R1);
  };
  if (connections !== undefined) return { ...new Tracking(writer, connectionCode(writer, connections)).calls, forget };
  // Flows that a former process has left may track packets, and there is no table any more: the engine does it.
  const track = () => {
    b.mov(R0, TrackResult.UP);
    b.jumpIf(R0, '!=', TrackResult.TRACKED, puntAfterHit);
  };
  return { track, translate: () => {}, forget };
}

class Tracking {
  readonly calls: Pick<ConnectionCalls, 'track' | 'translate'> = {
    track: (requests) => this.#track(requests),
    translate: (failed, keeps) => this.#translate(failed, keeps),
  };
  readonly #writer: ProgramWriter;
  readonly #code: ConnectionCode;
  // Functions that nothing calls are no valid code.
  #trackFunction: FunctionRef | null = null;
  #translateFunction: FunctionRef | null = null;

  constructor(writer: ProgramWriter, code: ConnectionCode) {
    this.#writer = writer;
    this.#code = code;
  }

  #track(requests: readonly TrackPlaces[]): void {
    const writer = this.#writer;
    const { b, puntAfterHit } = writer;
    const mayBeOther = requests.length > 1 || requests.some(({ mark, label }) => mark !== null || label !== null);
    // At the first pass, and where packets come up as they came, nobody asks what was told.
    const keeps = mayBeOther && writer.again && writer.resumes;
    const up = keeps ? b.label('what was told before') : puntAfterHit;
    if (keeps) {
      writer.note('what was told before this pass');
      this.#copyTold(CpuByte.TRACKED + TrackedWord.KEY * 4, CpuByte.TOLD_BEFORE);
    }
    for (const places of requests) this.#one(places, up);
    if (!keeps) return;
    b.block((done) => {
      b.jump(done);
      b.place(up);
      this.#copyTold(CpuByte.TOLD_BEFORE, CpuByte.TRACKED + TrackedWord.KEY * 4);
      b.jump(puntAfterHit);
    });
  }

  /** Copy the words of the key about a connection from one place of the CPU's part to another. Uses R1 to R3. */
  #copyTold(from: number, to: number): void {
    const { b } = this.#writer;
    const place = (register: Register, byte: number) => {
      this.#writer.cpu(register);
      b.add(register, byte);
    };
    place(R1, from);
    place(R2, to);
    const bytes = (Word.L2 - Word.CT) * 4;
    for (let byte = 0; byte < bytes; byte += 4) {
      b.load(R3, 'u32', at(R1, byte));
      b.store('u32', at(R2, byte), R3);
    }
  }

  #one({ request, mark, label }: TrackPlaces, up: Label): void {
    const writer = this.#writer;
    const { b } = writer;
    writer.note('the connection');
    this.#trackFunction ??= emitTrackFunction(this.#code);
    b.load(R4, 'u32', request);
    b.mov(R5, R4);
    b.and(R5, 0xffff);
    if (writer.again) b.or(R5, TrackRequest.GOES_ON);
    b.shr(R4, 16);
    writer.cpu(R2);
    b.load(R3, 'u32', writer.layer3);
    b.callLocal(this.#trackFunction, R6, R2, R3, R4, R5);
    b.jumpIf(R0, '!=', TrackResult.TRACKED, up);
    if (mark !== null || label !== null) writer.cpu(R1);
    if (mark !== null) this.#has(Word.CT_MARK, mark, 1, up);
    if (label !== null) this.#has(Word.CT_LABEL, label, 4, up);
  }

  /** Words of the connection, by R1, have their values already. */
  #has(keyWord: number, values: Address, count: number, up: Label): void {
    const { b } = this.#writer;
    for (let i = 0; i < count; i += 1) {
      b.load(R2, 'u32', ofTracked(TrackedWord.KEY + keyWord - Word.CT + i, R1));
      b.load(R3, 'u32', at(values.base, values.offset + (count + i) * 4));
      b.and(R2, R3);
      b.load(R3, 'u32', at(values.base, values.offset + i * 4));
      b.jumpIf(R2, '!=', R3, up);
    }
  }

  #translate(failed: Label, keeps: boolean): void {
    const writer = this.#writer;
    const { b } = writer;
    writer.note('translate it');
    this.#translateFunction ??= emitTranslateFunction(this.#code);
    const function_ = this.#translateFunction;
    writer.cpu(R2);
    b.load(R1, 'u32', ofTracked(TrackedWord.TRANSLATES, R2));
    b.if(R1, '!=', 0, () => {
      if (keeps) keepHeaders(writer);
      writer.cpu(R2);
      b.load(R3, 'u32', writer.layer3);
      b.callLocal(function_, R6, R2, R3);
      b.jumpIf(R0, '!=', TranslateResult.DONE, failed);
    });
  }
}
