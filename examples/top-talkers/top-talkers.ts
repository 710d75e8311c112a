/**
 * A capturing extension: which source addresses send the most, and how large packets are. It shows how to watch packets with no
 * cost for the garbage collector: all state is in typed arrays of a fixed size.
 */
import { type Batch, formatIpv4, formatIpv6, HeaderOffsets, type Packet } from 'millrace/net';
import type { Extension, ExtensionFactory, ExtensionHandle, JsonValue } from 'millrace/switch';

/** Places that one address may have; of these the one with the fewest bytes makes room for a newcomer. */
const WAYS = 4;
/** Upper bounds of the size classes, in bytes; the last class has none. */
const SIZE_BOUNDS = [64, 128, 256, 512, 1024, 1518, 9018];

interface Configuration {
  /** Addresses that are remembered at most, a power of two from 16 to 65536. */
  readonly addresses: number;
  /** How many the status lists. */
  readonly top: number;
}

function parseConfiguration(value: unknown): Configuration {
  const given = { addresses: 1024, top: 10, ...(value as object | null) };
  for (const [key, number] of Object.entries(given)) {
    if (key !== 'addresses' && key !== 'top') throw new Error(`unknown key "${key}"; there are addresses and top`);
    if (typeof number !== 'number' || !Number.isInteger(number)) throw new Error(`${key}: must be a whole number`);
  }
  const { addresses, top } = given;
  if (addresses < 16 || addresses > 65_536 || (addresses & (addresses - 1)) !== 0) {
    throw new Error('addresses: must be a power of two from 16 to 65536');
  }
  if (top < 1 || top > 100) throw new Error('top: must be 1 to 100');
  return { addresses, top };
}

class TopTalkers implements Extension {
  readonly #handle: ExtensionHandle;
  readonly #configuration: Configuration;
  readonly #headers = new HeaderOffsets();
  /** 16 bytes for each place; an IPv4 address is in the first four. */
  readonly #addresses: Uint8Array;
  /** 4 or 6; 0 for a free place. */
  readonly #versions: Uint8Array;
  readonly #packets: Float64Array;
  readonly #bytes: Float64Array;
  readonly #sizes = new Float64Array(SIZE_BOUNDS.length + 1);

  constructor(handle: ExtensionHandle, configuration: Configuration) {
    this.#handle = handle;
    this.#configuration = configuration;
    this.#addresses = new Uint8Array(configuration.addresses * 16);
    this.#versions = new Uint8Array(configuration.addresses);
    this.#packets = new Float64Array(configuration.addresses);
    this.#bytes = new Float64Array(configuration.addresses);
  }

  onIngress(batch: Batch, flags: number): void {
    for (let i = 0; i < batch.count; i += 1) this.#note(batch.packets[i]);
    // A capturing extension passes on whatever it was given.
    this.#handle.sendIngress(batch, flags);
  }

  #note(packet: Packet): void {
    let size = 0;
    while (size < SIZE_BOUNDS.length && packet.length > SIZE_BOUNDS[size]) size += 1;
    this.#sizes[size] += 1;
    const headers = this.#headers;
    headers.parse(packet);
    if (headers.ipVersion === 0) return;
    const at = packet.offset + headers.l3Offset + (headers.ipVersion === 4 ? 12 : 8);
    const place = this.#placeOf(packet.bytes, at, headers.ipVersion);
    this.#packets[place] += 1;
    this.#bytes[place] += packet.length;
  }

  /** Where an address is counted; a new one takes the place of the one among its neighbours that sent least. */
  #placeOf(bytes: Uint8Array, at: number, version: number): number {
    const length = version === 4 ? 4 : 16;
    let hash = version;
    for (let i = 0; i < length; i += 1) hash = Math.imul(hash ^ bytes[at + i], 0x01000193);
    const first = ((hash ^ (hash >>> 15)) & (this.#configuration.addresses / WAYS - 1)) * WAYS;
    let least = first;
    for (let place = first; place < first + WAYS; place += 1) {
      if (this.#versions[place] === version && this.#isAt(place, bytes, at, length)) return place;
      if (this.#bytes[place] < this.#bytes[least]) least = place;
    }
    this.#versions[least] = version;
    for (let i = 0; i < length; i += 1) this.#addresses[least * 16 + i] = bytes[at + i];
    this.#packets[least] = 0;
    this.#bytes[least] = 0;
    return least;
  }

  #isAt(place: number, bytes: Uint8Array, at: number, length: number): boolean {
    for (let i = 0; i < length; i += 1) if (this.#addresses[place * 16 + i] !== bytes[at + i]) return false;
    return true;
  }

  status(): JsonValue {
    const places = [...this.#versions.keys()].filter((place) => this.#versions[place] !== 0);
    places.sort((a, b) => this.#bytes[b] - this.#bytes[a]);
    return {
      talkers: places.slice(0, this.#configuration.top).map((place) => ({
        address: (this.#versions[place] === 4 ? formatIpv4 : formatIpv6)(this.#addresses, place * 16),
        packets: this.#packets[place],
        bytes: this.#bytes[place],
      })),
      sizes: [...this.#sizes].map((packets, index) => ({ upToBytes: SIZE_BOUNDS[index] ?? null, packets })),
    };
  }

  command(name: string): JsonValue {
    if (name !== 'reset') throw new Error(`there is no command "${name}", only "reset"`);
    this.#versions.fill(0);
    this.#packets.fill(0);
    this.#bytes.fill(0);
    this.#sizes.fill(0);
    return this.status();
  }
}

const topTalkers: ExtensionFactory<Configuration> = {
  descriptor: {
    name: 'top-talkers',
    type: 'capturing',
    version: '1.0.0',
    description: 'counts bytes by source address, and packets by size',
  },
  parseConfiguration,
  create: (handle, configuration) => new TopTalkers(handle, configuration),
};

export default topTalkers;
