/**
 * Writing BTF, the kernel's type format (Documentation/bpf/btf.rst): names for functions, lines of source, and the fields of map keys and
 * values, so that the kernel's listings and bpftool show them. Neighbours: map/layout.ts describes fields,
 * btf/load.ts loads the result.
 *
 *     header    magic 0xeb9f, version 1, flags, hdr_len 24, type_off, type_len, str_off, str_len
 *     one type  name_off:32, info:32 = kind_flag:1 unused:2 kind:5 unused:8 vlen:16, size_or_type:32, then what the kind adds
 */

const KIND = { INT: 1, ARRAY: 3, STRUCT: 4, FUNC: 12, FUNC_PROTO: 13 } as const;
const SIGNED = 1;

const MAGIC = 0xeb9f;
const HEADER_BYTES = 24;

/** A field of a struct for {@link BtfTypes.struct}. */
export interface BtfMember {
  readonly name: string;
  readonly type: number;
  readonly offsetBytes: number;
}

/** A set of types being written. Ids start at 1; 0 is void. */
export class BtfTypes {
  readonly #words: number[] = [];
  #strings = '\0';
  readonly #offsets = new Map<string, number>([['', 0]]);
  readonly #integers = new Map<string, number>();
  #count = 0;

  /** Put a string into the string section. @returns its offset */
  string(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const offset = Buffer.byteLength(this.#strings);
    this.#strings += `${text}\0`;
    this.#offsets.set(text, offset);
    return offset;
  }

  #type(name: string, kind: number, vlen: number, sizeOrType: number, ...rest: number[]): number {
    this.#words.push(this.string(name), ((kind << 24) | vlen) >>> 0, sizeOrType, ...rest);
    this.#count++;
    return this.#count;
  }

  /** An integer type of 1, 2, 4 or 8 bytes. */
  integer(sizeBytes: number, isSigned = false): number {
    const name = `${isSigned ? 's' : 'u'}${sizeBytes * 8}`;
    let id = this.#integers.get(name);
    if (id === undefined) {
      id = this.#type(name, KIND.INT, 0, sizeBytes, ((isSigned ? SIGNED : 0) << 24) | (sizeBytes * 8));
      this.#integers.set(name, id);
    }
    return id;
  }

  /** An array type. */
  array(element: number, length: number): number {
    const index = this.integer(4);
    return this.#type('', KIND.ARRAY, 0, 0, element, index, length);
  }

  /** A struct type. Names that are no C identifiers are made so. */
  struct(name: string, sizeBytes: number, members: readonly BtfMember[]): number {
    const words = members.flatMap((member) => [
      this.string(identifier(member.name)),
      member.type,
      member.offsetBytes * 8,
    ]);
    return this.#type(identifier(name), KIND.STRUCT, members.length, sizeBytes, ...words);
  }

  /** A function without parameters that returns an integer: enough for the kernel to know its name. */
  function(name: string): number {
    const prototype = this.#type('', KIND.FUNC_PROTO, 0, this.integer(4, true));
    return this.#type(identifier(name), KIND.FUNC, 0, prototype);
  }

  /** The bytes that BPF_BTF_LOAD takes. */
  encode(): Uint8Array {
    const strings = Buffer.from(this.#strings);
    const typeBytes = this.#words.length * 4;
    const bytes = new Uint8Array(HEADER_BYTES + typeBytes + strings.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, MAGIC, true);
    view.setUint8(2, 1);
    view.setUint32(4, HEADER_BYTES, true);
    view.setUint32(12, typeBytes, true);
    view.setUint32(16, typeBytes, true);
    view.setUint32(20, strings.length, true);
    for (let index = 0; index < this.#words.length; index++) {
      view.setUint32(HEADER_BYTES + index * 4, this.#words[index] ?? 0, true);
    }
    bytes.set(strings, HEADER_BYTES + typeBytes);
    return bytes;
  }
}

function identifier(name: string): string {
  const clean = name.replace(/[^A-Za-z0-9_]/g, '_');
  return /^[A-Za-z_]/.test(clean) ? clean : `_${clean}`;
}
