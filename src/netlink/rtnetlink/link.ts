/** Links: network interfaces as rtnetlink describes them (struct ifinfomsg and IFLA_*). link-kinds.ts has what depends on their kind. */
import { readS32, readU16, readU32, writeU16, writeU32 } from '../bytes.ts';
import { binary, nested, s32, string, u8, u32 } from '../fields.ts';
import type { Message } from '../message.ts';
import { type PolicyShape, policy, type ValuesOf } from '../policy.ts';
import { checkUnsigned, type MessageWriter } from '../writer.ts';
import { type LinkInfo, linkInfo, propertyPolicy, xdpPolicy } from './link-kinds.ts';
import { type Header, parseObject, writeObject } from './object.ts';
import { statistics } from './statistics.ts';

/** Longest interface name (IFNAMSIZ, less the terminating zero). */
export const MAX_NAME_BYTES = 15;

/** The fields of struct ifinfomsg. */
export interface LinkHeader {
  /** AF_UNSPEC, or AF_BRIDGE in messages about ports of a bridge. */
  family: number;
  /** ARPHRD_*: 1 for Ethernet, 772 for loopback. */
  hardwareType: number;
  /** Interface index; 0 in a request that names the link otherwise. */
  index: number;
  /** Bits of LinkFlag. */
  flags: number;
  /** In a request: which bits of the flags to set to what `flags` says. */
  changeMask: number;
}

/**
 *      0        1     2                 4       8       12
 *      | family | pad | hardware type   | index | flags | change mask |
 */
const header: Header<LinkHeader> = {
  name: 'ifinfomsg',
  lengthBytes: 16,
  empty: { family: 0, hardwareType: 0, index: 0, flags: 0, changeMask: 0 },
  read: (bytes, at) => ({
    family: bytes[at],
    hardwareType: readU16(bytes, at + 2),
    index: readS32(bytes, at + 4),
    flags: readU32(bytes, at + 8),
    changeMask: readU32(bytes, at + 12),
  }),
  fill(bytes, link) {
    bytes[0] = checkUnsigned('address family', link.family, 0xff);
    writeU16(bytes, 2, checkUnsigned('hardware type', link.hardwareType, 0xffff));
    writeU32(bytes, 4, checkUnsigned('interface index', link.index, 0x7fff_ffff));
    writeU32(bytes, 8, checkUnsigned('link flags', link.flags, 0xffff_ffff));
    writeU32(bytes, 12, checkUnsigned('change mask', link.changeMask, 0xffff_ffff));
  },
};

const inet6Policy = policy({
  /** IN6_ADDR_GEN_MODE_*: 0 from the MAC address, 1 none, 2 stable-privacy, 3 random. */
  addressGenerationMode: [8, u8()],
});
const familySpecificPolicy = policy({ inet6: [10, nested(inet6Policy)] });

/** Attributes of any link but its kind (IFLA_*). */
const basicAttributes = {
  macAddress: [1, binary({ maxBytes: 32 })],
  broadcastAddress: [2, binary({ maxBytes: 32 })],
  name: [3, string({ maxBytes: MAX_NAME_BYTES })],
  mtuBytes: [4, u32()],
  /** Index of the link below or of a veth's other end, in the namespace that linkNamespaceId names. */
  linkedIndex: [5, u32()],
  queueDiscipline: [6, string()],
  /** Index of the bridge or bond that this link is a port of; 0 to leave it. */
  masterIndex: [10, u32()],
  transmitQueueLength: [13, u32()],
  /** One of OperationalState. */
  operationalState: [16, u8()],
  namespacePid: [19, u32()],
  alias: [20, string({ maxBytes: 255 })],
  statistics: [23, statistics],
  familySpecific: [26, nested(familySpecificPolicy)],
  group: [27, u32()],
  namespaceDescriptor: [28, u32()],
  /** RTEXT_FILTER_*: what a reply shall hold or leave out. */
  extensionMask: [29, u32()],
  /** How many have asked for promiscuous mode. */
  promiscuity: [30, u32()],
  transmitQueues: [31, u32()],
  receiveQueues: [32, u32()],
  carrier: [33, u8()],
  carrierChanges: [35, u32()],
  /** Id of the namespace where linkedIndex counts; absent when it is this one. */
  linkNamespaceId: [37, s32()],
  gsoMaxSegments: [40, u32()],
  gsoMaxBytes: [41, u32()],
  xdp: [43, nested(xdpPolicy)],
  newNamespaceId: [45, s32()],
  /** In requests: the id of the namespace to look in, as this one numbers others. */
  targetNamespaceId: [46, s32()],
  newIndex: [49, s32()],
  minMtuBytes: [50, u32()],
  maxMtuBytes: [51, u32()],
  properties: [52, nested(propertyPolicy)],
  /** Selects a link by a further or long name, in requests. */
  alternativeName: [53, string({ maxBytes: 127 })],
  permanentAddress: [54, binary({ maxBytes: 32 })],
  /** The device of the machine behind it ('0000:00:1f.6'), and its bus ('pci', 'virtio', 'xen'); absent for virtual interfaces. */
  parentDevice: [56, string()],
  parentBus: [57, string()],
  groMaxBytes: [58, u32()],
  tsoMaxBytes: [59, u32()],
  allMulticastCount: [61, u32()],
} as const satisfies PolicyShape;

const peerPolicy = policy(basicAttributes);

/** The other end of a veth that is to be made. */
export type LinkPeer = Partial<LinkHeader> & ValuesOf<typeof peerPolicy>;

const linkPolicy = policy({
  ...basicAttributes,
  info: [
    18,
    linkInfo<LinkPeer>({
      read(input, start, end) {
        if (end - start < header.lengthBytes) input.fail('peer is too short for ifinfomsg', start);
        return {
          ...peerPolicy.decodeNest(input, start + header.lengthBytes, end),
          ...header.read(input.bytes, start),
        };
      },
      write: (writer, peer) => writeObject(writer, header, peerPolicy, peer),
    }),
  ],
});

/** A link with its header's fields and the attributes that are there. */
export type Link = LinkHeader & ValuesOf<typeof linkPolicy>;
export type { LinkInfo };

/**
 * Read RTM_NEWLINK, RTM_DELLINK or a request about links.
 * @throws NetlinkError when it is malformed
 */
export function parseLink(message: Message): Link {
  return parseObject(message, header, linkPolicy);
}

/** Write the body of a link message, behind `begin`. */
export function writeLink(writer: MessageWriter, link: Partial<LinkHeader> & ValuesOf<typeof linkPolicy>): void {
  writeObject(writer, header, linkPolicy, link);
}
