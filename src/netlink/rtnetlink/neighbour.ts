/** Neighbours: ARP and ND entries, and the forwarding tables of bridges (struct ndmsg and NDA_*). */
import { readS32, readU16, readU32, writeU16, writeU32 } from '../bytes.ts';
import { be16, binary, struct, u8, u16, u32 } from '../fields.ts';
import type { Message } from '../message.ts';
import { policy, type ValuesOf } from '../policy.ts';
import { checkUnsigned, type MessageWriter } from '../writer.ts';
import { type Header, parseObject, writeObject } from './object.ts';

/** The fields of struct ndmsg. */
export interface NeighbourHeader {
  /** AF_INET, AF_INET6, or AF_BRIDGE for forwarding tables. */
  family: number;
  index: number;
  /** Bits of NeighbourState. */
  state: number;
  /** Bits of NeighbourFlag. */
  flags: number;
  /** RTN_* of the address. */
  type: number;
}

/**
 *      0        1         4       8       10      11
 *      | family | padding | index | state | flags | type |
 */
const header: Header<NeighbourHeader> = {
  name: 'ndmsg',
  lengthBytes: 12,
  empty: { family: 0, index: 0, state: 0, flags: 0, type: 0 },
  read: (bytes, at) => ({
    family: bytes[at],
    index: readS32(bytes, at + 4),
    state: readU16(bytes, at + 8),
    flags: bytes[at + 10],
    type: bytes[at + 11],
  }),
  fill(bytes, neighbour) {
    bytes[0] = checkUnsigned('address family', neighbour.family, 0xff);
    writeU32(bytes, 4, checkUnsigned('interface index', neighbour.index, 0x7fff_ffff));
    writeU16(bytes, 8, checkUnsigned('neighbour state', neighbour.state, 0xffff));
    bytes[10] = checkUnsigned('neighbour flags', neighbour.flags, 0xff);
    bytes[11] = checkUnsigned('neighbour type', neighbour.type, 0xff);
  },
};

/** How long ago things happened to a neighbour, in clock ticks (USER_HZ: hundredths of a second). */
export interface NeighbourAges {
  confirmedTicks: number;
  usedTicks: number;
  updatedTicks: number;
  references: number;
}

const ages = struct<NeighbourAges>(
  'nda_cacheinfo',
  16,
  (bytes, at) => ({
    confirmedTicks: readU32(bytes, at),
    usedTicks: readU32(bytes, at + 4),
    updatedTicks: readU32(bytes, at + 8),
    references: readU32(bytes, at + 12),
  }),
  (bytes, value) => {
    writeU32(bytes, 0, checkUnsigned('age', value.confirmedTicks, 0xffff_ffff));
    writeU32(bytes, 4, checkUnsigned('age', value.usedTicks, 0xffff_ffff));
    writeU32(bytes, 8, checkUnsigned('age', value.updatedTicks, 0xffff_ffff));
    writeU32(bytes, 12, checkUnsigned('reference count', value.references, 0xffff_ffff));
  },
);

const neighbourPolicy = policy({
  /** The network-layer address, or the remote tunnel end of a forwarding entry. */
  destination: [1, binary({ maxBytes: 32 })],
  macAddress: [2, binary({ maxBytes: 32 })],
  ages: [3, ages],
  probes: [4, u32()],
  vlanId: [5, u16()],
  udpPort: [6, be16()],
  vni: [7, u32()],
  /** The interface of a tunnel's remote end; in a dump request, the interface whose neighbours are wanted. */
  interfaceIndex: [8, u32()],
  masterIndex: [9, u32()],
  protocol: [12, u8()],
  nexthopId: [13, u32()],
  extendedFlags: [15, u32()],
});

/** A neighbour. */
export type Neighbour = NeighbourHeader & ValuesOf<typeof neighbourPolicy>;

/** @throws NetlinkError when the message is malformed */
export function parseNeighbour(message: Message): Neighbour {
  return parseObject(message, header, neighbourPolicy);
}

/** Write the body of a neighbour message, behind `begin`. */
export function writeNeighbour(
  writer: MessageWriter,
  neighbour: Partial<NeighbourHeader> & ValuesOf<typeof neighbourPolicy>,
): void {
  writeObject(writer, header, neighbourPolicy, neighbour);
}
