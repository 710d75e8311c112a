/** Addresses of interfaces (struct ifaddrmsg and IFA_*). */
import { readU32, writeU32 } from '../bytes.ts';
import { binary, string, struct, u8, u32 } from '../fields.ts';
import type { Message } from '../message.ts';
import { policy, type ValuesOf } from '../policy.ts';
import { checkUnsigned, type MessageWriter } from '../writer.ts';
import { type Header, parseObject, writeObject } from './object.ts';

/** The fields of struct ifaddrmsg. */
export interface AddressHeader {
  family: number;
  prefixLength: number;
  /** Bits of AddressFlag below 256; extendedFlags, when there, has all of them. */
  flags: number;
  /** One of RouteScope. */
  scope: number;
  /** The interface. */
  index: number;
}

/**
 *      0        1               2       3       4
 *      | family | prefix length | flags | scope | index |
 */
const header: Header<AddressHeader> = {
  name: 'ifaddrmsg',
  lengthBytes: 8,
  empty: { family: 0, prefixLength: 0, flags: 0, scope: 0, index: 0 },
  read: (bytes, at) => ({
    family: bytes[at],
    prefixLength: bytes[at + 1],
    flags: bytes[at + 2],
    scope: bytes[at + 3],
    index: readU32(bytes, at + 4),
  }),
  fill(bytes, address) {
    bytes[0] = checkUnsigned('address family', address.family, 0xff);
    bytes[1] = checkUnsigned('prefix length', address.prefixLength, 128);
    bytes[2] = checkUnsigned('address flags', address.flags, 0xff);
    bytes[3] = checkUnsigned('scope', address.scope, 0xff);
    writeU32(bytes, 4, checkUnsigned('interface index', address.index, 0x7fff_ffff));
  },
};

/** Lifetimes of an address. 0xffffffff seconds are for ever. */
export interface AddressLifetime {
  preferredSeconds: number;
  validSeconds: number;
  /** Creation and last change, in hundredths of a second since boot. */
  createdCentiseconds: number;
  changedCentiseconds: number;
}

const lifetime = struct<AddressLifetime>(
  'ifa_cacheinfo',
  16,
  (bytes, at) => ({
    preferredSeconds: readU32(bytes, at),
    validSeconds: readU32(bytes, at + 4),
    createdCentiseconds: readU32(bytes, at + 8),
    changedCentiseconds: readU32(bytes, at + 12),
  }),
  (bytes, value) => {
    writeU32(bytes, 0, checkUnsigned('preferred lifetime', value.preferredSeconds, 0xffff_ffff));
    writeU32(bytes, 4, checkUnsigned('valid lifetime', value.validSeconds, 0xffff_ffff));
    writeU32(bytes, 8, checkUnsigned('creation time', value.createdCentiseconds, 0xffff_ffff));
    writeU32(bytes, 12, checkUnsigned('change time', value.changedCentiseconds, 0xffff_ffff));
  },
);

const addressPolicy = policy({
  /** The prefix's address; on a point-to-point link the other end's. */
  address: [1, binary({ maxBytes: 16 })],
  /** This end's own address. IPv6 leaves it out unless the link is point-to-point. */
  local: [2, binary({ maxBytes: 16 })],
  label: [3, string({ maxBytes: 15 })],
  broadcast: [4, binary({ maxBytes: 16 })],
  lifetime: [6, lifetime],
  extendedFlags: [8, u32()],
  routePriority: [9, u32()],
  protocol: [11, u8()],
});

/** An address of an interface. Addresses are 4 or 16 bytes in network order. */
export type InterfaceAddress = AddressHeader & ValuesOf<typeof addressPolicy>;

/** @throws NetlinkError when the message is malformed */
export function parseAddress(message: Message): InterfaceAddress {
  return parseObject(message, header, addressPolicy);
}

/** Write the body of an address message, behind `begin`. */
export function writeAddress(
  writer: MessageWriter,
  address: Partial<AddressHeader> & ValuesOf<typeof addressPolicy>,
): void {
  writeObject(writer, header, addressPolicy, address);
}
