/** PUSH_NSH and POP_NSH: the service header of RFC 8300 before a packet. */
import { EtherType } from '../../../net/index.ts';
import { readHalf, writeHalf, writeWord } from '../../bytes.ts';
import { Drop } from '../../engine/drops.ts';
import { becomes, insertBytes, removeBytes } from '../../engine/edit.ts';
import { FlowEtherType, Word } from '../../key/layout.ts';
import { type ActionDescription, leadsNowhere } from '../description.ts';
import { Action, packedWords } from '../encoding.ts';
import { structure } from '../netlink.ts';
import { pushNshNetlink } from './netlink.ts';
import { pushNshText } from './text.ts';

const BASE_BYTES = 8;
/** Longest metadata: the header's length field counts 63 words of 4 bytes, the base header included. */
const METADATA_MAXIMUM_BYTES = 244;
const METADATA_1_BYTES = 16;

/** The bits of the key's NSH word that flags (2 bits) and TTL (6 bits) do not have in the header. */
export const NSH_FLAGS_TTL_EXCESS = 0xfcc0_0000;

export const pushNsh: ActionDescription<typeof Action.PUSH_NSH> = {
  type: Action.PUSH_NSH,
  layout: {
    fields: ['base, as in the key', 'path', 'bytes of metadata'],
    tail: (words, at) => packedWords(words[at + 3]),
  },
  flaw({ words, shape }, at) {
    if (!shape.hasEthernet && nextProtocolOf(shape.etherType) === 0) return 'what it would carry has no number in NSH';
    const reason = headerFlaw(words[at + 1], words[at + 3]);
    if (reason !== null) return reason;
    shape.hasEthernet = false;
    shape.hasTag = false;
    shape.etherType = FlowEtherType.NSH;
    shape.keyHolds = false;
    return null;
  },
  leads: leadsNowhere,
  text: pushNshText,
  netlink: pushNshNetlink,
  run(engine, words, at) {
    const metadataWords = packedWords(words[at + 3]);
    const length = BASE_BYTES + metadataWords * 4;
    if (!engine.writable(length)) return false;
    const { packet, key } = engine;
    const next = nextProtocolOf(key.l3Type === 0 ? EtherType.TRANSPARENT_ETHERNET : key.l3Type);
    if (next === 0) return engine.drop(Drop.HEADER_MISSING);
    const base = words[at + 1];
    insertBytes(packet, 0, length);
    const bytes = packet.bytes;
    const header = packet.offset;
    // Version 0, flags 2 bits, TTL 6, length in words 6; metadata type, next protocol.
    writeHalf(bytes, header, (((base >>> 24) & 3) << 12) | (((base >>> 16) & 0x3f) << 6) | (length >>> 2));
    bytes[header + 2] = (base >>> 8) & 0xff;
    bytes[header + 3] = next;
    writeWord(bytes, header + 4, words[at + 2]);
    for (let i = 0; i < metadataWords; i += 1) writeWord(bytes, header + BASE_BYTES + i * 4, words[at + 4 + i]);
    becomes(key, FlowEtherType.NSH, FlowEtherType.NSH, 0);
    return true;
  },
};

export const popNsh: ActionDescription<typeof Action.POP_NSH> = {
  type: Action.POP_NSH,
  layout: { fields: [] },
  flaw({ key, shape }) {
    if (shape.etherType !== FlowEtherType.NSH || !shape.keyHolds) return 'the packet is not known to be NSH';
    const next = key[Word.NSH_BASE] & 0xff;
    const etherType = etherTypeOf(next);
    if (etherType === 0) return `next protocol ${next} is unknown`;
    shape.hasEthernet = etherType === EtherType.TRANSPARENT_ETHERNET;
    shape.etherType = 0;
    shape.keyHolds = false;
    return null;
  },
  leads: leadsNowhere,
  text: {
    name: 'pop_nsh',
    isBare: true,
    format: () => 'pop_nsh()',
    parse(scanner, builder) {
      if (scanner.eat('(')) scanner.expect(')');
      builder.popNsh();
    },
  },
  netlink: structure(Action.POP_NSH),
  // The NSH header goes, and with it an Ethernet header before it.
  run(engine) {
    if (!engine.writable(0)) return false;
    const { packet, key } = engine;
    const l3 = key.l3Offset;
    if (key.etherType !== FlowEtherType.NSH || packet.length < l3 + BASE_BYTES) return engine.drop(Drop.HEADER_MISSING);
    const header = packet.offset + l3;
    const length = (readHalf(packet.bytes, header) & 0x3f) << 2;
    const type = etherTypeOf(packet.bytes[header + 3]);
    if (length < BASE_BYTES || packet.length < l3 + length || type === 0) return engine.drop(Drop.HEADER_MISSING);
    removeBytes(packet, 0, l3 + length);
    if (type === EtherType.TRANSPARENT_ETHERNET) becomes(key, 0, 0, 0);
    else becomes(key, type, type, 0);
    return true;
  },
};

function headerFlaw(base: number, metadataBytes: number): string | null {
  if ((base & NSH_FLAGS_TTL_EXCESS) !== 0) return 'flags or TTL are too large';
  const metadataType = (base >>> 8) & 0xff;
  if (metadataType === 1) return metadataBytes === METADATA_1_BYTES ? null : 'metadata of type 1 takes 16 bytes';
  if (metadataType !== 2) return `unknown metadata type ${metadataType}`;
  if ((metadataBytes & 3) === 0 && metadataBytes <= METADATA_MAXIMUM_BYTES) return null;
  return `metadata of ${metadataBytes} bytes does not fit the header`;
}

/** EtherTypes by NSH next protocol (RFC 8300, section 2.2). */
const CARRIED = [
  0,
  EtherType.IPV4,
  EtherType.IPV6,
  EtherType.TRANSPARENT_ETHERNET,
  FlowEtherType.NSH,
  EtherType.MPLS,
] as const;

/** 0 for a next protocol that is not known. */
function etherTypeOf(nextProtocol: number): number {
  return CARRIED[nextProtocol] ?? 0;
}

/** 0 for what has no number in NSH. */
function nextProtocolOf(etherType: number): number {
  for (let next = 1; next < CARRIED.length; next += 1) if (CARRIED[next] === etherType) return next;
  return 0;
}
