/** A cursor that emits of this folder write with: it checks that values fit their fields and the header fits the bytes. */
import { parseIpv4Into, parseIpv6Into, parseMacInto } from './address.ts';
import { setU16, setU24, setU32 } from './bytes.ts';
import { WireError } from './error.ts';

/** Writes one header, field by field, from its first byte to its last. */
export class Emitter {
  readonly #protocol: string;
  readonly #bytes: Uint8Array;
  /** Index of the next byte to write. */
  at: number;
  readonly #end: number;

  /** @throws WireError when `length` bytes from `offset` do not lie within the bytes */
  constructor(protocol: string, bytes: Uint8Array, offset: number, length: number) {
    if (!(offset >= 0 && offset + length <= bytes.length)) {
      throw new WireError(protocol, `${length} bytes do not fit into ${bytes.length} from byte ${offset}`, offset);
    }
    this.#protocol = protocol;
    this.#bytes = bytes;
    this.at = offset;
    this.#end = offset + length;
  }

  /** Refuse the record. */
  fail(reason: string): never {
    throw new WireError(this.#protocol, reason, this.at);
  }

  /** The value itself, once it is known to be a whole number of so many bits. */
  bits(name: string, value: number, width: number): number {
    if (!(Number.isInteger(value) && value >= 0 && value < 2 ** width)) {
      this.fail(`${name} ${value} is not a whole number of ${width} bits`);
    }
    return value;
  }

  u8(name: string, value: number): void {
    this.bits(name, value, 8);
    this.#bytes[this.#advance(1)] = value;
  }

  u16(name: string, value: number): void {
    this.bits(name, value, 16);
    setU16(this.#bytes, this.#advance(2), value);
  }

  u24(name: string, value: number): void {
    this.bits(name, value, 24);
    setU24(this.#bytes, this.#advance(3), value);
  }

  u32(name: string, value: number): void {
    this.bits(name, value, 32);
    setU32(this.#bytes, this.#advance(4), value);
  }

  data(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#advance(bytes.length));
  }

  zeros(count: number): void {
    const at = this.#advance(count);
    this.#bytes.fill(0, at, at + count);
  }

  mac(name: string, text: string): void {
    if (!parseMacInto(text, this.#bytes, this.#advance(6))) this.fail(`${name} '${text}' is not a MAC address`);
  }

  ipv4(name: string, text: string): void {
    if (!parseIpv4Into(text, this.#bytes, this.#advance(4))) this.fail(`${name} '${text}' is not an IPv4 address`);
  }

  ipv6(name: string, text: string): void {
    if (!parseIpv6Into(text, this.#bytes, this.#advance(16))) this.fail(`${name} '${text}' is not an IPv6 address`);
  }

  #advance(length: number): number {
    const at = this.at;
    if (at + length > this.#end) this.fail('the record is longer than its own length');
    this.at = at + length;
    return at;
  }
}
