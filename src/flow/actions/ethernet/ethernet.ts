/** PUSH_ETH and POP_ETH. */
import { ETHERNET_BYTES, formatMac, parseMacInto } from '../../../net/index.ts';
import { writeHalf, writeWord } from '../../bytes.ts';
import { Drop } from '../../engine/drops.ts';
import { insertBytes, moveOffsets, removeBytes } from '../../engine/edit.ts';
import { L3_MARKER, Word } from '../../key/layout.ts';
import { type ActionDescription, bareText, leadsNowhere } from '../description.ts';
import { Action, packBytes, unpackBytes } from '../encoding.ts';
import { placed, structure } from '../netlink.ts';

const ADDRESS = /[0-9a-fA-F:]+/y;

export const pushEth: ActionDescription<typeof Action.PUSH_ETH> = {
  type: Action.PUSH_ETH,
  layout: { fields: ['destination 32', 'destination 16 | source 16', 'source 32'] },
  flaw({ shape }) {
    if (shape.hasEthernet) return 'the packet has an Ethernet header';
    shape.hasEthernet = true;
    return null;
  },
  leads: leadsNowhere,
  text: {
    name: 'push_eth',
    format(words, at) {
      const bytes = unpackBytes(words, at + 1, 12);
      return `push_eth(src=${formatMac(bytes, 6)},dst=${formatMac(bytes, 0)})`;
    },
    parse(scanner, builder) {
      const bytes = new Uint8Array(12);
      scanner.arguments((name, start) => {
        if (name !== 'src' && name !== 'dst') scanner.failAt(start, `push_eth has no argument '${name}'`);
        const at = scanner.at;
        if (!parseMacInto(scanner.match(ADDRESS) ?? '', bytes, name === 'src' ? 6 : 0)) {
          scanner.failAt(at, 'a MAC address expected');
        }
      });
      builder.add(Action.PUSH_ETH, packBytes(bytes));
    },
  },
  // The source comes first.
  netlink: placed(Action.PUSH_ETH, 3, [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]),
  run(engine, words, at) {
    if (!engine.writable(ETHERNET_BYTES)) return false;
    const { packet, key } = engine;
    const type = key.l3Type;
    if (type === 0) return engine.drop(Drop.HEADER_MISSING);
    insertBytes(packet, 0, ETHERNET_BYTES);
    for (let i = 0; i < 3; i += 1) {
      writeWord(packet.bytes, packet.offset + i * 4, words[at + 1 + i]);
      key.words[Word.MAC + i] = words[at + 1 + i];
    }
    writeHalf(packet.bytes, packet.offset + 12, type);
    moveOffsets(key, ETHERNET_BYTES);
    key.l3Type = 0;
    key.words[Word.ETH_TYPE] &= ~L3_MARKER;
    key.stale = true;
    return true;
  },
};

export const popEth: ActionDescription<typeof Action.POP_ETH> = {
  type: Action.POP_ETH,
  layout: { fields: [] },
  flaw({ shape }) {
    if (!shape.hasEthernet) return 'the packet has no Ethernet header';
    if (shape.hasTag) return 'the packet has a VLAN tag';
    shape.hasEthernet = false;
    return null;
  },
  leads: leadsNowhere,
  text: bareText('pop_eth', (builder) => builder.popEth()),
  netlink: structure(Action.POP_ETH),
  run(engine) {
    if (!engine.writable(0)) return false;
    const { packet, key } = engine;
    if (key.l3Type !== 0 || packet.length < ETHERNET_BYTES) return engine.drop(Drop.HEADER_MISSING);
    removeBytes(packet, 0, ETHERNET_BYTES);
    moveOffsets(key, -ETHERNET_BYTES);
    key.l3Type = key.etherType;
    key.words[Word.ETH_TYPE] |= L3_MARKER;
    key.stale = true;
    return true;
  },
};
