/**
 * A region: one stretch of memory that many packets live in, such as a receive ring or a pool.
 * Packets point into it (packet.ts); they never own bytes of their own.
 */

/** One stretch of packet memory. All views cover the same bytes from the same start. */
export class Region {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /**
   * Where the region starts in this process's address space, as a plain number, or 0 when nobody has asked yet.
   * Platform code that hands packets to the kernel by address fills it in; it stays valid as long as the region is referenced.
   */
  nativeAddress = 0;

  /**
   * @param buffer the memory; for memory that the kernel shares with us, the mapping
   * @param nativeAddress its address when it is already known
   */
  constructor(buffer: ArrayBufferLike, nativeAddress = 0) {
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.nativeAddress = nativeAddress;
  }

  get lengthBytes(): number {
    return this.bytes.length;
  }
}
