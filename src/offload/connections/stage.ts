/**
 * A stage that tracks each packet that has just come, in one zone, before anything is decided about it: it goes on with packets of established connections, and
 * what is told of them lies in TrackedWord for stages behind it. All others go up.
 */
import { R0, R3, R5, R6 } from '../../bpf/index.ts';
import { Found } from '../program/facts.ts';
import type { Stage } from '../program/stage.ts';
import type { ProgramWriter } from '../program/writer.ts';
import type { ConnectionCode } from './code.ts';
import type { ConnectionReferences } from './maps.ts';
import { TrackResult } from './request.ts';
import { emitTrackFunction, TRACK_KEY } from './track.ts';

/** What the functions of this folder need of the program around them. */
export function connectionCode(writer: ProgramWriter, maps: ConnectionReferences): ConnectionCode {
  return {
    b: writer.b,
    hook: writer.plan.hook,
    maps,
    clock: writer.plan.clock,
    key: (word, base) => writer.key(word, base),
    note: (text) => writer.note(text),
  };
}

/** @param zone that packets are tracked in */
export function trackStage(maps: ConnectionReferences, zone: number): Stage {
  return {
    name: 'connection',
    pass: 'first',
    needs: [Found.CPU, Found.HEADERS, Found.LAYER3],
    key: TRACK_KEY,
    readsLayer3: true,
    gives: [Found.CONNECTION],
    maps: [maps.control, maps.index, maps.records],
    emit(writer) {
      const { b } = writer;
      writer.note('the connection');
      const track = emitTrackFunction(connectionCode(writer, maps));
      b.load(R3, 'u32', writer.layer3);
      b.callLocal(track, R6, R5, R3, zone, 0);
      b.jumpIf(R0, '!=', TrackResult.TRACKED, writer.punt);
    },
  };
}
