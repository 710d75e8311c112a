/**
 * When the frames of a recording are due again: at the distances that they were recorded with. Times that are no pause are no reason to
 * wait: a frame without one, or one whose time has jumped (a clock that was set, files put one behind the other), follows the frame before at once.
 */
import type { CapturePacket } from '../capture/types.ts';

/** A step back further than this is another clock, not frames of several interfaces that are slightly out of order. */
const LONGEST_STEP_BACK_MS = 1_000;
/** A step ahead of more than a day is another clock, not a pause. */
const LONGEST_PAUSE_MS = 86_400_000;

/** Turns recording times into times of the playing clock, in milliseconds. */
export class RecordingClock {
  readonly #speed: number;
  /** Of the present stretch, in which times count on: its first frame's time, and when it was played. */
  #recordedFromMs = 0;
  #playedFromMs = 0;
  /** Time of the last frame that had one; NaN before it. */
  #recordedMs = Number.NaN;
  #dueMs = 0;

  /** @param speed 2 plays twice as fast as it was recorded */
  constructor(speed: number) {
    this.#speed = speed;
  }

  /** The first frame is played now. */
  start(nowMs: number): void {
    this.#playedFromMs = nowMs;
    this.#dueMs = nowMs;
  }

  /** When the next frame of the recording is due; to be asked once for each, in their order. */
  next(packet: CapturePacket): number {
    // A time of 0 is what writers give who have none.
    if (!packet.hasTime || packet.seconds <= 0) return this.#dueMs;
    const recordedMs = packet.seconds * 1000 + packet.nanoseconds / 1e6;
    const stepMs = recordedMs - this.#recordedMs;
    if (!(stepMs >= -LONGEST_STEP_BACK_MS && stepMs <= LONGEST_PAUSE_MS)) {
      this.#recordedFromMs = recordedMs;
      this.#playedFromMs = this.#dueMs;
    }
    this.#recordedMs = recordedMs;
    this.#dueMs = Math.max(this.#dueMs, this.#playedFromMs + (recordedMs - this.#recordedFromMs) / this.#speed);
    return this.#dueMs;
  }
}
