/**
 * Frames that a NIC was given and did not send: its backend notes them while they are queued and flushed, and the core takes them out
 * of what the port has sent behind each flush, under the reason that the backend gives.
 */
import type { DropReasonCode } from '../drop-reason.ts';

export class RefusedFrames {
  frames = 0;
  bytes = 0;
  readonly reasons = new Map<DropReasonCode, number>();

  /** Note some more. */
  add(reason: DropReasonCode, frames: number, bytes: number): void {
    this.frames += frames;
    this.bytes += bytes;
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + frames);
  }

  clear(): void {
    this.frames = 0;
    this.bytes = 0;
    this.reasons.clear();
  }
}
