/** The MAC addresses of who is behind a port: those that may be sources where spoofing is not allowed. */
import { formatMac, macBytes, macHighAt, macLowAt, type Packet, parseMac } from '../../net/index.ts';

/** How long a link may be lost until somebody else may be behind it: longer than a host takes to set its interface down and up, shorter than to change a cable. */
const LINK_LOST_MS = 1_000;

/** The address of a NIC, in two words. */
export interface MacWords {
  readonly macHigh: number;
  readonly macLow: number;
}

/** Addresses that are known, or the first that is seen. */
export class StationMacs {
  /** High 16 and low 32 bits of each, in turn. Null: whatever address the NIC has. */
  #words: Int32Array | null;
  readonly #learns: boolean;
  /** The address was learned, and not told. */
  #isLearned = false;
  /** Since when the link is down; infinite while it is up. */
  #downMs = Number.POSITIVE_INFINITY;

  /**
   * @param addresses as text; null: the NIC's own
   * @param learns the first source address becomes the one while there is none
   * @param previous what was known until now: a learned address is kept
   */
  constructor(addresses: readonly string[] | null, learns: boolean, previous?: StationMacs) {
    this.#words = addresses === null ? null : Int32Array.from(addresses.flatMap((text) => wordsAt(parseMac(text), 0)));
    this.#learns = learns;
    if (previous !== undefined) this.#downMs = previous.#downMs;
    if (!learns || this.#words?.length !== 0 || !previous || !previous.#isLearned) return;
    this.#words = previous.#words;
    this.#isLearned = true;
  }

  /** Whether an address, as two words, is one of these. */
  owns(nic: MacWords, high: number, low: number): boolean {
    const words = this.#words;
    if (words === null) return high === nic.macHigh && low === nic.macLow;
    for (let i = 0; i < words.length; i += 2) if (words[i] === high && words[i + 1] === low) return true;
    return false;
  }

  /** The addresses, six bytes each; none of zeros, which nobody has. */
  addresses(nic: MacWords): Uint8Array[] {
    const words = this.#words ?? Int32Array.of(nic.macHigh, nic.macLow);
    const found: Uint8Array[] = [];
    for (let i = 0; i < words.length; i += 2)
      if ((words[i] | words[i + 1]) !== 0) found.push(macBytes(words[i], words[i + 1]));
    return found;
  }

  /** Whether the first source address is to become the one. */
  get awaitsFirst(): boolean {
    return this.#learns && this.#words?.length === 0;
  }

  /** Take the source of a packet if no address is known yet and one is to be learned. @returns whether it was taken */
  learn(packet: Packet): boolean {
    if (!this.#learns || this.#words?.length !== 0) return false;
    const [high, low] = wordsAt(packet.bytes, packet.offset + 6);
    if ((high & 0x0100) !== 0 || (high | low) === 0) return false;
    this.#words = Int32Array.of(high, low);
    this.#isLearned = true;
    return true;
  }

  /** Forget what was learned: somebody else may be behind the port from now on. */
  forget(): void {
    if (!this.#isLearned) return;
    this.#words = new Int32Array(0);
    this.#isLearned = false;
  }

  /**
   * The link went down, or came up.
   * @param nowMs of any clock that only goes forward
   * @returns whether something was forgotten over it
   */
  linkChanged(isUp: boolean, nowMs: number): boolean {
    if (!this.#learns) return false;
    const isLost = nowMs - this.#downMs >= LINK_LOST_MS;
    if (!isUp) this.#downMs = Math.min(this.#downMs, nowMs);
    else this.#downMs = Number.POSITIVE_INFINITY;
    if (!isUp || !isLost || !this.#isLearned) return false;
    this.forget();
    return true;
  }

  /** The addresses, for people. */
  list(nic: MacWords | null): string[] {
    const words = this.#words ?? (nic === null ? [] : [nic.macHigh, nic.macLow]);
    const texts: string[] = [];
    for (let i = 0; i < words.length; i += 2) texts.push(macText(words[i], words[i + 1]));
    return texts;
  }
}

/** A MAC address in two words as text. */
export function macText(high: number, low: number): string {
  return formatMac(macBytes(high, low));
}

function wordsAt(bytes: Uint8Array, at: number): [number, number] {
  return [macHighAt(bytes, at), macLowAt(bytes, at)];
}

/** Of ports that nobody was named for. */
export const NIC_MACS = new StationMacs(null, false);
