/**
 * Large arrays that were dropped, and their collection. V8 looks for garbage by what arrays take when they are made, not by what was dropped: a
 * thread that has dropped hundreds of megabytes and then makes little keeps them for good.
 */

/** Less is not worth a collection. */
const WORTHWHILE_BYTES = 8 << 20;
/** More than V8 lets arrays take between two collections before it begins one, in small steps. */
const HINT_BYTES = 128 << 20;

/** So many bytes of arrays were dropped: have V8 begin to collect them, if that is worthwhile. */
export function collectSoon(droppedBytes: number): void {
  if (droppedBytes < WORTHWHILE_BYTES) return;
  try {
    // Its pages are never touched, so that it takes no memory.
    void new ArrayBuffer(HINT_BYTES);
  } catch (error) {
    // Where addresses are scarce, V8 has just collected everything.
    if (!(error instanceof RangeError)) throw error;
  }
}
