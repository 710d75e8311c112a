/** The way that an outer packet takes, as whoever knows routes and neighbours hands it in. */

/** A link without tags, the neighbour on it, and what the outer header takes from here. Made once for each remote and changed in place. */
export class TunnelPath {
  /** Destination and source MAC address, as in the frame. */
  readonly #macs = new Uint32Array(3);
  /** Our address, IPv4 in the first word: for keys that name none. */
  readonly source = new Uint32Array(4);
  /** Longest outer IP packet. */
  mtuBytes = 1500;
  /** GRE: whether packets are numbered, and the number of the next. */
  numbered = false;
  nextNumber = 0;

  /** @param destination six bytes @param source six bytes */
  setMacAddresses(destination: Uint8Array, source: Uint8Array): void {
    const bytes = new DataView(this.#macs.buffer);
    for (let i = 0; i < 6; i += 1) {
      bytes.setUint8(i, destination[i]);
      bytes.setUint8(6 + i, source[i]);
    }
    for (let i = 0; i < 3; i += 1) this.#macs[i] = bytes.getUint32(i * 4);
  }

  /** Write both addresses, with which a frame begins. */
  writeMacAddresses(view: DataView, at: number): void {
    view.setUint32(at, this.#macs[0]);
    view.setUint32(at + 4, this.#macs[1]);
    view.setUint32(at + 8, this.#macs[2]);
  }
}
