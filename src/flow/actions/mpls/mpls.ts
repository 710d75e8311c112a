/** PUSH_MPLS, ADD_MPLS and POP_MPLS: label stack entries before layer 3, or before the whole frame. */
import { EtherType } from '../../../net/index.ts';
import { writeHalf, writeWord } from '../../bytes.ts';
import { Drop } from '../../engine/drops.ts';
import { becomes, insertBytes, removeBytes } from '../../engine/edit.ts';
import type { ActionEngine } from '../../engine/engine.ts';
import { FlowEtherType, isMpls } from '../../key/layout.ts';
import { formatEntry, parseEntry } from '../../text/mpls.ts';
import type { ActionBuilder } from '../builder.ts';
import { type ActionDescription, type ActionText, type Judgement, leadsNowhere } from '../description.ts';
import { Action } from '../encoding.ts';
import { structure } from '../netlink.ts';

/** The bit of ADD_MPLS's flags that puts the entry before layer 3, where there else is no Ethernet header any more. */
export const MPLS_L3_TUNNEL = 1;

const LABEL_BYTES = 4;

export const pushMpls: ActionDescription<typeof Action.PUSH_MPLS> = {
  type: Action.PUSH_MPLS,
  layout: { fields: ['label stack entry', 'EtherType'] },
  flaw: (its, at) => pushFlaw(its, at, true),
  leads: leadsNowhere,
  text: entryText('push_mpls', false, (builder, entry, etherType) => builder.pushMpls(entry, etherType)),
  netlink: structure(Action.PUSH_MPLS, ['be32', 'be16'], 2),
  run: (engine, words, at) => runPush(engine, words, at, true),
};

export const addMpls: ActionDescription<typeof Action.ADD_MPLS> = {
  type: Action.ADD_MPLS,
  layout: { fields: ['label stack entry', 'EtherType', 'flags'] },
  flaw: (its, at) => pushFlaw(its, at, (its.words[at + 3] & MPLS_L3_TUNNEL) !== 0),
  leads: leadsNowhere,
  text: entryText('add_mpls', true, (builder, entry, etherType, flags) => builder.addMpls(entry, etherType, flags)),
  netlink: structure(Action.ADD_MPLS, ['be32', 'be16', 'u16']),
  run: (engine, words, at) => runPush(engine, words, at, (words[at + 3] & MPLS_L3_TUNNEL) !== 0),
};

export const popMpls: ActionDescription<typeof Action.POP_MPLS> = {
  type: Action.POP_MPLS,
  layout: { fields: ['EtherType below'] },
  flaw({ words, shape }, at) {
    const below = words[at + 1];
    if (shape.hasTag || !isMpls(shape.etherType)) return 'the packet does not begin with MPLS';
    if (below === EtherType.TRANSPARENT_ETHERNET && shape.hasEthernet) return 'the packet has an Ethernet header';
    shape.labels -= 1;
    // What lies below the last label is a guess until the packet has been parsed again.
    shape.etherType = isMpls(below) && shape.labels !== 0 ? below : 0;
    shape.keyHolds = false;
    return null;
  },
  leads: leadsNowhere,
  text: {
    name: 'pop_mpls',
    format: (words, at) => `pop_mpls(eth_type=0x${(words[at + 1] >>> 0).toString(16)})`,
    parse(scanner, builder) {
      scanner.expect('eth_type=');
      builder.popMpls(scanner.number(16));
      scanner.expect(')');
    },
  },
  netlink: structure(Action.POP_MPLS, ['be16']),
  // Transparent Ethernet below the label is a whole frame.
  run(engine, words, at) {
    const etherType = words[at + 1];
    if (!engine.writable(0)) return false;
    const { packet, key } = engine;
    const l3 = key.l3Offset;
    if (!isMpls(key.etherType) || packet.length < l3 + LABEL_BYTES) return engine.drop(Drop.HEADER_MISSING);
    removeBytes(packet, l3, LABEL_BYTES);
    if (key.l3Type === 0) {
      writeHalf(packet.bytes, packet.offset + l3 - 2, etherType);
      becomes(key, etherType, 0, l3);
    } else if (etherType === EtherType.TRANSPARENT_ETHERNET) {
      becomes(key, 0, 0, 0);
    } else {
      becomes(key, etherType, etherType, 0);
    }
    return true;
  },
};

function pushFlaw({ words, shape }: Judgement, at: number, beforeL3: boolean): string | null {
  const etherType = words[at + 2];
  if (!isMpls(etherType)) return 'not an EtherType of MPLS';
  if (beforeL3) {
    if (shape.hasTag) return 'the packet has a VLAN tag';
    if (!canLieBelow(shape.etherType)) return 'what it would lie before is not known';
    shape.labels += 1;
  } else if (shape.hasEthernet) {
    shape.labels = 1;
    shape.hasEthernet = false;
    shape.hasTag = false;
  } else {
    shape.labels += 1;
  }
  shape.etherType = etherType;
  shape.keyHolds = false;
  return null;
}

function canLieBelow(etherType: number): boolean {
  const isArp = etherType === EtherType.ARP || etherType === FlowEtherType.REVERSE_ARP;
  return etherType === EtherType.IPV4 || etherType === EtherType.IPV6 || isArp || isMpls(etherType);
}

function entryText(
  name: string,
  hasFlags: boolean,
  add: (builder: ActionBuilder, entry: number, etherType: number, flags: number) => void,
): ActionText {
  return {
    name,
    format(words, at) {
      const flags = hasFlags && words[at + 3] !== 0 ? `,tun_flags=0x${(words[at + 3] >>> 0).toString(16)}` : '';
      return `${name}(${formatEntry(words[at + 1], 0xffff_ffff)},eth_type=0x${words[at + 2].toString(16)}${flags})`;
    },
    parse(scanner, builder) {
      let etherType = 0x8847;
      let flags = 0;
      const [entry] = parseEntry(scanner, (argument) => {
        if (argument === 'eth_type') etherType = scanner.number(16);
        else if (argument === 'tun_flags' && hasFlags) flags = scanner.number(16);
        else scanner.fail(`${name} has no argument '${argument}'`);
      });
      add(builder, entry, etherType, flags);
    },
  };
}

/** @param beforeL3 between Ethernet header and layer 3, else before everything, which leaves no Ethernet header outside */
function runPush(engine: ActionEngine, words: Int32Array, at: number, beforeL3: boolean): boolean {
  const entry = words[at + 1];
  const etherType = words[at + 2];
  if (!engine.writable(LABEL_BYTES)) return false;
  const { packet, key } = engine;
  const l3 = key.l3Offset;
  if (l3 < 0 || packet.length < l3) return engine.drop(Drop.HEADER_MISSING);
  if (!beforeL3 || key.l3Type !== 0) {
    insertBytes(packet, 0, LABEL_BYTES);
    writeWord(packet.bytes, packet.offset, entry);
    becomes(key, etherType, etherType, 0);
    return true;
  }
  insertBytes(packet, l3, LABEL_BYTES);
  writeWord(packet.bytes, packet.offset + l3, entry);
  writeHalf(packet.bytes, packet.offset + l3 - 2, etherType);
  becomes(key, etherType, 0, l3);
  return true;
}
