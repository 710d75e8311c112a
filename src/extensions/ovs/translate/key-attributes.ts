/**
 * The attributes of a flow key or mask: which there are and where their contents lie. One object serves many keys in turn, as two
 * are needed for every flow that is put. key-decode.ts takes them from here.
 */
import { KeyAttribute } from '../../../flow/index.ts';
import { eachAttribute } from '../attributes.ts';
import { Errno, OvsError } from '../errors.ts';
import { structureBytes } from './key-attribute.ts';

const LAST_ATTRIBUTE = KeyAttribute.IPV6_EXTHDRS;
/** Attributes that never come from outside: two that Open vSwitch uses in itself, and the kernel's own. */
const FOREIGN: readonly number[] = [KeyAttribute.PACKET_TYPE, 30, 31];
const CONNECTION: readonly number[] = [
  KeyAttribute.CT_STATE,
  KeyAttribute.CT_ZONE,
  KeyAttribute.CT_MARK,
  KeyAttribute.CT_LABELS,
  KeyAttribute.CT_ORIG_TUPLE_IPV4,
  KeyAttribute.CT_ORIG_TUPLE_IPV6,
];
/** OVS_KEY_ATTR_* whose content is attributes, besides which there are MPLS (of variable length) and VLAN. */
const NESTS: readonly number[] = [KeyAttribute.ENCAP, KeyAttribute.TUNNEL, KeyAttribute.NSH];

const Kind = { PLAIN: 0, FOREIGN: 1, CONNECTION: 2, NEST: 3, NONE: 4 } as const;
/** What each type is, and how long it must be; -1 for any length. */
const KINDS = new Uint8Array(LAST_ATTRIBUTE + 1);
const LENGTHS = Int32Array.from(KINDS, (_, type) => (type === KeyAttribute.VLAN ? 2 : structureBytes(type)));
KINDS[0] = Kind.NONE;
LENGTHS[0] = 0;
for (const type of FOREIGN) KINDS[type] = Kind.FOREIGN;
for (const type of CONNECTION) KINDS[type] = Kind.CONNECTION;
for (const type of NESTS) KINDS[type] = Kind.NEST;

/** Whether an attribute holds attributes. */
export function isNest(type: number): boolean {
  return KINDS[type] === Kind.NEST;
}

/** Whether an attribute is of connection tracking. */
export function isConnection(type: number): boolean {
  return KINDS[type] === Kind.CONNECTION;
}

const refuse = (reason: string): never => {
  throw new OvsError(Errno.EINVAL, `flow key: ${reason}`);
};

export class KeyAttributes {
  /** Where the contents lie. */
  bytes: Uint8Array = new Uint8Array(0);
  /** By type: first byte of the content, -1 when it is not there, and one behind the last. */
  readonly starts = new Int32Array(LAST_ATTRIBUTE + 1);
  readonly ends = new Int32Array(LAST_ATTRIBUTE + 1);
  #isMask = false;
  readonly #visit = (type: number, from: number, to: number) => this.#add(type, from, to);

  /**
   * Forget what was there and read the attributes of a key or mask.
   * @param isMask attributes that are all 0 count as absent, nests that are empty among them
   * @throws OvsError EINVAL for what is malformed, of the wrong length, double or not known
   */
  read(content: Uint8Array, isMask: boolean): void {
    this.bytes = content;
    this.starts.fill(-1);
    this.#isMask = isMask;
    this.#walk(0, content.length);
  }

  /** Take a tag and its ENCAP away, and put the attributes inside it in their place. @throws OvsError EINVAL */
  unwrap(): void {
    const from = this.starts[KeyAttribute.ENCAP];
    const to = this.ends[KeyAttribute.ENCAP];
    this.remove(KeyAttribute.ENCAP);
    this.remove(KeyAttribute.VLAN);
    this.remove(KeyAttribute.ETHERTYPE);
    this.#walk(from, to);
  }

  has(type: number): boolean {
    return this.starts[type] !== -1;
  }

  /** An attribute's content as a view; empty when it is not there. */
  content(type: number): Uint8Array {
    return this.has(type) ? this.bytes.subarray(this.starts[type], this.ends[type]) : this.bytes.subarray(0, 0);
  }

  /** Whether a content of 2 bytes is there, and as what big-endian number; -1 when it is not there. */
  be16(type: number): number {
    const at = this.starts[type];
    return at === -1 ? -1 : (this.bytes[at] << 8) | this.bytes[at + 1];
  }

  remove(type: number): void {
    this.starts[type] = -1;
  }

  #walk(from: number, to: number): void {
    const rest = eachAttribute(this.bytes, from, to, this.#visit);
    if (rest > 0) refuse(`${rest} bytes are no attribute`);
  }

  #add(type: number, from: number, to: number): void {
    if (type > LAST_ATTRIBUTE || KINDS[type] === Kind.FOREIGN) refuse(`attribute ${type} is not known`);
    if (this.starts[type] !== -1) refuse(`attribute ${type} comes twice`);
    if (LENGTHS[type] >= 0 && to - from !== LENGTHS[type]) refuse(`attribute ${type} has ${to - from} bytes`);
    if (this.#isMask && this.#isZero(from, to)) return;
    if (KINDS[type] === Kind.NONE) refuse('attribute 0 is not known');
    this.starts[type] = from;
    this.ends[type] = to;
  }

  #isZero(from: number, to: number): boolean {
    for (let at = from; at < to; at += 1) if (this.bytes[at] !== 0) return false;
    return true;
  }
}
