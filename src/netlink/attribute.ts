/**
 * AttributeCursor: walks a run of attributes (struct nlattr) without allocating per attribute. The policies of policy.ts stand on it;
 * code that handles many messages a second may use it alone.
 *
 *      0        2                    4
 *      | length | N B | type (14 bits) | content | padding to four |
 *
 * The length counts the header and not the padding. N is NLA_F_NESTED, B is NLA_F_NET_BYTEORDER (the content is big-endian), which nothing here depends on.
 */
import { align4, readU16 } from './bytes.ts';
import { ATTRIBUTE_HEADER_BYTES, NLA_F_NESTED, NLA_TYPE_MASK } from './constants.ts';
import { NetlinkError } from './error.ts';

/** Walks the attributes between two indexes: `while (cursor.next()) ...` */
export class AttributeCursor {
  readonly bytes: Uint8Array;
  /** Type of the current attribute, without flags. */
  type = 0;
  /** Whether NLA_F_NESTED is set on it. */
  nested = false;
  /** Where its content starts. */
  start = 0;
  /** Where its content ends. */
  end = 0;
  /** Bytes behind the last attribute that are too few for another: valid only once `next` said false. */
  trailingBytes = 0;
  #at: number;
  readonly #limit: number;

  /**
   * @param bytes the message
   * @param start index of the first attribute's header
   * @param limit index behind the last attribute
   */
  constructor(bytes: Uint8Array, start: number, limit: number) {
    this.bytes = bytes;
    this.#at = start;
    this.#limit = limit;
  }

  /**
   * Step to the next attribute.
   * @returns false at the end
   * @throws NetlinkError for an attribute that is shorter than its header or longer than the bytes that are left
   */
  next(): boolean {
    const at = this.#at;
    const left = this.#limit - at;
    if (left < ATTRIBUTE_HEADER_BYTES) {
      this.trailingBytes = Math.max(0, left);
      return false;
    }
    const length = readU16(this.bytes, at);
    if (length < ATTRIBUTE_HEADER_BYTES) {
      throw new NetlinkError(`attribute length ${length} is below its header's ${ATTRIBUTE_HEADER_BYTES}`, {
        offset: at,
      });
    }
    if (length > left) {
      throw new NetlinkError(`attribute of ${length} bytes, but only ${left} are left`, { offset: at });
    }
    const type = readU16(this.bytes, at + 2);
    this.type = type & NLA_TYPE_MASK;
    this.nested = (type & NLA_F_NESTED) !== 0;
    this.start = at + ATTRIBUTE_HEADER_BYTES;
    this.end = at + length;
    this.#at = at + Math.min(align4(length), left);
    return true;
  }
}
