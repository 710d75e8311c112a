/** The one error of capture files: what is wrong, where in the file, and how much was good before. */

/** A capture could not be read or written. */
export class CaptureError extends Error {
  override readonly name: string = 'CaptureError';
  /** Offset in the file of the block or record at fault, or -1 when writing. */
  readonly offsetBytes: number;
  /** Packets that were read before, all of them good. */
  readonly packetsRead: number;

  constructor(reason: string, offsetBytes = -1, packetsRead = 0) {
    const where = offsetBytes < 0 ? '' : ` at byte ${offsetBytes}, after ${packetsRead} packets`;
    super(`capture: ${reason}${where}`);
    this.offsetBytes = offsetBytes;
    this.packetsRead = packetsRead;
  }
}
