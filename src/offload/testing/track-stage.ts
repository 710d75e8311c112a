/**
 * For tests only: a stage that tracks each packet that has just come, in one zone, before anything is decided about it. It goes on with packets of established connections, and what is told of
 * them lies in TrackedWord for stages behind it. All others go up.
 */
import { R0, R3, R5, R6 } from '../../bpf/index.ts';
import { connectionCode } from '../connections/code.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import { TrackResult } from '../connections/request.ts';
import { emitTrackFunction, TRACK_KEY } from '../connections/track.ts';
import { Found } from '../program/facts.ts';
import type { Stage } from '../program/stage.ts';

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
