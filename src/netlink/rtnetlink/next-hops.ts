/** RTA_MULTIPATH: the next hops of a route (struct rtnexthop, each with attributes), and RTA_VIA. For route.ts. */
import { align4, readS32, readU16, writeU16, writeU32 } from '../bytes.ts';
import { Errno } from '../error.ts';
import { binary } from '../fields.ts';
import { type Field, policy, type ValuesOf } from '../policy.ts';
import { checkUnsigned } from '../writer.ts';

/** struct rtvia: an address with its family. */
export interface Via {
  family: number;
  address: Uint8Array;
}

/** The attribute RTA_VIA. */
export const via: Field<Via> = {
  nested: false,
  read(input, start, end) {
    if (end - start < 2) input.fail('via holds no address family', start, Errno.ERANGE);
    return { family: readU16(input.bytes, start), address: input.bytes.slice(start + 2, end) };
  },
  write(writer, type, value) {
    const bytes = new Uint8Array(2 + value.address.length);
    writeU16(bytes, 0, checkUnsigned('address family', value.family, 0xffff));
    bytes.set(value.address, 2);
    writer.bytes(type, bytes);
  },
};

const nextHopPolicy = policy({
  gateway: [5, binary({ maxBytes: 16 })],
  via: [18, via],
});

/** One of several next hops. */
export type NextHop = {
  outputIndex: number;
  /** Share of the traffic, from 1. */
  weight: number;
  /** RTNH_F_*: 1 dead, 4 on-link, 16 link down. */
  flags: number;
} & ValuesOf<typeof nextHopPolicy>;

/** Length of struct rtnexthop: u16 length, u8 flags, u8 weight - 1, s32 index. */
const NEXT_HOP_BYTES = 8;

/** The attribute RTA_MULTIPATH. */
export const nextHops: Field<NextHop[]> = {
  nested: false,
  read(input, start, end) {
    const hops: NextHop[] = [];
    const { bytes } = input;
    let at = start;
    while (end - at >= NEXT_HOP_BYTES) {
      const length = readU16(bytes, at);
      if (length < NEXT_HOP_BYTES || length > end - at) {
        input.fail(`next hop of ${length} bytes does not fit the ${end - at} that are left`, at + 4);
      }
      input.path.push(String(hops.length));
      const attributes = nextHopPolicy.decodeNest(input, at + NEXT_HOP_BYTES, at + length);
      input.path.pop();
      hops.push({
        ...attributes,
        flags: bytes[at + 2],
        weight: bytes[at + 3] + 1,
        outputIndex: readS32(bytes, at + 4),
      });
      at += Math.min(align4(length), end - at);
    }
    return hops;
  },
  write(writer, type, hops) {
    const list = writer.beginNested(type, false);
    for (const hop of hops) {
      const head = new Uint8Array(NEXT_HOP_BYTES);
      head[2] = checkUnsigned('next hop flags', hop.flags, 0xff);
      head[3] = checkUnsigned('weight, less one,', hop.weight - 1, 0xff);
      writeU32(head, 4, checkUnsigned('interface index', hop.outputIndex, 0x7fff_ffff));
      const start = writer.length;
      writer.raw(head);
      nextHopPolicy.encode(writer, hop);
      writer.patchU16(start, writer.length - start);
    }
    writer.endNested(list);
  },
};
