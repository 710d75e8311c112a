/** The host's addresses as who receives tunnels asks for them: is this one of ours, and what has changed. interfaces.ts fills it. */
import type { LocalAddress, LocalAddresses } from '../../net/index.ts';

export class KnownAddresses implements LocalAddresses {
  isComplete = false;
  /** By their words, mixed: few share a number. */
  readonly #byMix = new Map<number, LocalAddress[]>();
  readonly #listeners = new Set<() => void>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  has(isIpv6: boolean, word0: number, word1: number, word2: number, word3: number, interfaceIndex: number): boolean {
    const mix = isIpv6 ? word0 ^ word1 ^ word2 ^ word3 : word0;
    const found = this.#byMix.get(mix | 0);
    if (found === undefined) return false;
    for (let i = 0; i < found.length; i += 1) {
      const address = found[i];
      const { words } = address;
      if (!address.isUsable || address.isIpv6 !== isIpv6 || words[0] !== (word0 | 0)) continue;
      if (interfaceIndex !== 0 && address.interfaceIndex !== interfaceIndex) continue;
      if (!isIpv6) return true;
      if (words[1] === (word1 | 0) && words[2] === (word2 | 0) && words[3] === (word3 | 0)) return true;
    }
    return false;
  }

  list(): LocalAddress[] {
    return [...this.#byMix.values()].flat();
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** For interfaces.ts: as are those below. */
  add(address: LocalAddress): void {
    const mix = mixOf(address);
    const found = this.#byMix.get(mix);
    if (found === undefined) this.#byMix.set(mix, [address]);
    else found.push(address);
    this.#count += 1;
  }

  remove(address: LocalAddress): void {
    const mix = mixOf(address);
    const found = this.#byMix.get(mix);
    const at = found?.indexOf(address) ?? -1;
    if (found === undefined || at < 0) return;
    found.splice(at, 1);
    if (found.length === 0) this.#byMix.delete(mix);
    this.#count -= 1;
  }

  /** They have changed. */
  tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Words of IPv4 behind the first are 0. */
function mixOf({ words }: LocalAddress): number {
  return words[0] ^ words[1] ^ words[2] ^ words[3];
}
