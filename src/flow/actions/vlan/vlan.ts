/** PUSH_VLAN and POP_VLAN. */
import { ETHERNET_BYTES, EtherType, type Packet, TAG_BYTES } from '../../../net/index.ts';
import { readHalf, writeWord } from '../../bytes.ts';
import { Drop } from '../../engine/drops.ts';
import { insertBytes, moveOffsets, removeBytes } from '../../engine/edit.ts';
import { TAG_PRESENT, Word } from '../../key/layout.ts';
import { type ActionDescription, bareText, leadsNowhere } from '../description.ts';
import { Action } from '../encoding.ts';
import { structure } from '../netlink.ts';

export const pushVlan: ActionDescription<typeof Action.PUSH_VLAN> = {
  type: Action.PUSH_VLAN,
  layout: { fields: ['TPID 16 | TCI 16'] },
  flaw({ words, shape }, at) {
    const tag = words[at + 1];
    if (!shape.hasEthernet) return 'the packet has no Ethernet header';
    if (tag >>> 16 !== EtherType.VLAN && tag >>> 16 !== EtherType.SERVICE_VLAN) return 'not the TPID of a VLAN';
    if ((tag & TAG_PRESENT) === 0) return 'the CFI bit of the TCI must be set';
    shape.hasTag = true;
    return null;
  },
  leads: leadsNowhere,
  text: {
    name: 'push_vlan',
    format(words, at) {
      const tag = words[at + 1];
      const tpid = tag >>> 16 === EtherType.VLAN ? '' : `tpid=0x${(tag >>> 16).toString(16).padStart(4, '0')},`;
      const cfi = (tag & TAG_PRESENT) === 0 ? ',cfi=0' : '';
      return `push_vlan(${tpid}vid=${tag & 0xfff},pcp=${(tag >>> 13) & 7}${cfi})`;
    },
    parse(scanner, builder) {
      let tpid: number = EtherType.VLAN;
      let tci = TAG_PRESENT;
      scanner.arguments((name, start) => {
        if (name === 'tpid') tpid = scanner.number(16);
        else if (name === 'vid') tci |= scanner.number(12);
        else if (name === 'pcp') tci |= scanner.number(3) << 13;
        else if (name === 'cfi') tci = (tci & ~TAG_PRESENT) | (scanner.number(1) << 12);
        else scanner.failAt(start, `push_vlan has no argument '${name}'`);
      });
      builder.pushVlan(tpid, tci);
    },
  },
  netlink: structure(Action.PUSH_VLAN, ['be32']),
  // The CFI bit only says that there is a tag and is not sent.
  run(engine, words, at) {
    const tag = words[at + 1];
    if (!engine.writable(TAG_BYTES)) return false;
    const { packet, key } = engine;
    if (key.l3Type !== 0 || packet.length < ETHERNET_BYTES) return engine.drop(Drop.HEADER_MISSING);
    insertBytes(packet, 12, TAG_BYTES);
    writeWord(packet.bytes, packet.offset + 12, tag & ~TAG_PRESENT);
    moveOffsets(key, TAG_BYTES);
    if (key.words[Word.VLAN] !== 0) key.stale = true;
    key.words[Word.INNER_VLAN] = key.words[Word.VLAN];
    key.words[Word.VLAN] = tag | TAG_PRESENT;
    return true;
  },
};

export const popVlan: ActionDescription<typeof Action.POP_VLAN> = {
  type: Action.POP_VLAN,
  layout: { fields: [] },
  flaw({ shape }) {
    if (!shape.hasEthernet) return 'the packet has no Ethernet header';
    shape.hasTag = false;
    return null;
  },
  leads: leadsNowhere,
  text: bareText('pop_vlan', (builder) => builder.popVlan()),
  netlink: structure(Action.POP_VLAN),
  // A packet without a tag stays as it is.
  run(engine) {
    if (!hasTag(engine.packet)) return true;
    if (!engine.writable(0)) return false;
    const { packet, key } = engine;
    if (key.l3Type !== 0) return engine.drop(Drop.HEADER_MISSING);
    removeBytes(packet, 12, TAG_BYTES);
    moveOffsets(key, -TAG_BYTES);
    if (key.words[Word.INNER_VLAN] !== 0) key.stale = true;
    key.words[Word.VLAN] = key.words[Word.INNER_VLAN];
    key.words[Word.INNER_VLAN] = 0;
    return true;
  },
};

function hasTag(packet: Packet): boolean {
  if (packet.length < ETHERNET_BYTES + TAG_BYTES) return false;
  const type = readHalf(packet.bytes, packet.offset + 12);
  return type === EtherType.VLAN || type === EtherType.SERVICE_VLAN;
}
