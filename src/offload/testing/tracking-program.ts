/** A program that does nothing but track and translate packets, as it is asked by mapped memory, and tells what it found: for the differential test of connections/ alone. */
import {
  ArrayMap,
  at,
  bytes,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  SK_BUFF,
  TC,
  type TickClock,
  XDP,
  XDP_MD,
} from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { toInterfaceIndex } from '../../net/index.ts';
import type { OffloadHook } from '../actions/contract.ts';
import { connectionCode, emitNowMs, ofTracked } from '../connections/code.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import { TrackResult } from '../connections/request.ts';
import { emitTrackFunction, TRACK_KEY } from '../connections/track.ts';
import { emitTranslateFunction } from '../connections/translate.ts';
import { HashSecrets } from '../layout/hash.ts';
import { OffloadMaps } from '../layout/maps.ts';
import { ANY_LENGTH, MTU_SHIFT, PORT_WORDS, PortFlag, PortWord, TableSizes, TrackedWord } from '../layout/sizes.ts';
import { Found } from '../program/facts.ts';
import { LoadedProgram, loadPlan } from '../program/load.ts';
import type { Stage } from '../program/stage.ts';
import { cpuParts } from '../table/flow-offload.ts';

/** Words of the flow key about a packet's connection. */
export const CONNECTION_KEY_WORDS = Word.L2 - Word.CT;

/** Places in what is asked and told, in words. */
const Told = { ZONE: 0, REQUEST: 1, RESULT: 2, NOW: 3, LATER: 4, TRANSLATED: 5, KEY: 8 } as const;
const TOLD_BYTES = 256;
/** Before anything is told. */
const NOTHING = 0xffff_ffff;
const LOOPBACK = toInterfaceIndex(1);

/** What became of a packet. */
export interface TrackingRun {
  /** Null when it went up. */
  readonly key: Uint32Array | null;
  readonly frame: Uint8Array;
  /** The program's time; null when the packet went up before it was asked for. */
  readonly nowMs: number | null;
  /** Whether the clock has gone on meanwhile, so that nobody knows which time the program took. */
  readonly isUnsteady: boolean;
  /** One of TranslateResult. */
  readonly translated: number;
}

/** Maps of flows in which interface 1 is a port. */
export function mapsWithPort(): OffloadMaps {
  const maps = OffloadMaps.create(new TableSizes({ entries: 256, cpus: cpuParts(), keyWords: 27, parameterWords: 64 }));
  const word = LOOPBACK * PORT_WORDS;
  maps.ports[word + PortWord.NUMBER] = 1;
  maps.ports[word + PortWord.FLAGS] = (ANY_LENGTH << MTU_SHIFT) | PortFlag.ON;
  return maps;
}

/** Load a program of stages alone. @throws Error with the listing and the verifier's log when it is refused */
export function loadStages(
  hook: OffloadHook,
  maps: OffloadMaps,
  stages: readonly Stage[],
  clock: TickClock | 'ktime_get_ns' = 'ktime_get_ns',
): LoadedProgram {
  const loaded = loadPlan({ hook, maps, secrets: new HashSecrets(), masks: [], shapes: [], stages, clock });
  if (loaded instanceof LoadedProgram) return loaded;
  throw new Error(`${loaded.reason}\n${loaded.listing}\n${loaded.log.slice(-4000)}`);
}

export class TrackingProgram {
  readonly hook: OffloadHook;
  readonly loaded: LoadedProgram;
  readonly #maps = mapsWithPort();
  readonly #told = ArrayMap.create({ name: 'told', value: bytes(TOLD_BYTES), maxEntries: 1, mappable: true });
  readonly #words = this.#told.map().u32;
  readonly #context: Uint8Array;

  /** @param withTracking false for a program that does all but that, to compare times with */
  constructor(
    hook: OffloadHook,
    connections: ConnectionReferences,
    clock: TickClock | 'ktime_get_ns',
    withTracking = true,
  ) {
    this.hook = hook;
    const stage = withTracking ? this.#stage(connections) : this.#emptyStage();
    this.loaded = loadStages(hook, this.#maps, [stage], clock);
    this.#context = new Uint8Array(hook === 'tc' ? 192 : 24);
  }

  close(): void {
    for (const handle of [this.loaded, this.#told, this.#maps]) handle.close();
  }

  /** Track a packet. @param request bits of TrackRequest */
  run(frame: Uint8Array, zone: number, request: number): TrackingRun {
    const words = this.#words;
    const { data } = this.#runs(frame, zone, request, 1);
    const isTold = words[Told.RESULT] !== NOTHING;
    return {
      key: words[Told.RESULT] === TrackResult.TRACKED ? words.slice(Told.KEY, Told.KEY + CONNECTION_KEY_WORDS) : null,
      frame: data,
      nowMs: isTold ? words[Told.NOW] : null,
      isUnsteady: isTold && words[Told.NOW] !== words[Told.LATER],
      translated: words[Told.TRANSLATED],
    };
  }

  /** Nanoseconds that a packet takes. At the end of each run stands the packet of the one before. */
  timeNs(frame: Uint8Array, zone: number, request: number, repeat: number): number {
    return this.#runs(frame, zone, request, repeat).durationNs;
  }

  #runs(data: Uint8Array, zone: number, request: number, repeat: number) {
    const words = this.#words;
    words.fill(0);
    words[Told.ZONE] = zone;
    words[Told.REQUEST] = request;
    words[Told.RESULT] = NOTHING;
    const view = new DataView(this.#context.buffer);
    if (this.hook === 'tc') view.setUint32(SK_BUFF.ifindex, LOOPBACK, true);
    else {
      view.setUint32(XDP_MD.dataEnd, data.length, true);
      view.setUint32(XDP_MD.ingressIfindex, LOOPBACK, true);
    }
    return this.loaded.program.run({ data, context: this.#context, repeat });
  }

  #stage(connections: ConnectionReferences): Stage {
    const told = this.#told;
    const place = (word: number) => at(R7, word * 4);
    return {
      name: 'tracking alone',
      needs: [Found.CPU, Found.HEADERS, Found.LAYER3],
      key: TRACK_KEY,
      readsLayer3: true,
      maps: [told, connections.control, connections.index, connections.records],
      emit(writer) {
        const { b } = writer;
        const code = connectionCode(writer, connections);
        const track = emitTrackFunction(code);
        const translate = emitTranslateFunction(code);
        b.loadMapValue(R7, told);
        const now = (word: number) => {
          emitNowMs(code);
          b.store('u32', place(word), R0);
        };
        now(Told.NOW);
        writer.cpu(R2);
        b.load(R3, 'u32', writer.layer3);
        b.load(R4, 'u32', place(Told.ZONE));
        b.load(R5, 'u32', place(Told.REQUEST));
        b.callLocal(track, R6, R2, R3, R4, R5);
        b.store('u32', place(Told.RESULT), R0);
        b.mov(R8, R0);
        now(Told.LATER);
        b.if(R8, '==', TrackResult.TRACKED, () => {
          writer.cpu(R8);
          for (let i = 0; i < CONNECTION_KEY_WORDS; i += 1) {
            b.load(R1, 'u32', ofTracked(TrackedWord.KEY + i, R8));
            b.store('u32', place(Told.KEY + i), R1);
          }
          b.load(R1, 'u32', ofTracked(TrackedWord.TRANSLATES, R8));
          b.if(R1, '!=', 0, () => {
            b.load(R3, 'u32', writer.layer3);
            b.callLocal(translate, R6, R8, R3);
            b.store('u32', place(Told.TRANSLATED), R0);
          });
        });
        b.return(writer.isTc ? TC.OK : XDP.DROP);
      },
    };
  }

  #emptyStage(): Stage {
    return {
      name: 'nothing',
      needs: [Found.CPU, Found.HEADERS, Found.LAYER3],
      key: TRACK_KEY,
      readsLayer3: true,
      emit: ({ b, isTc }) => b.return(isTc ? TC.OK : XDP.DROP),
    };
  }
}
