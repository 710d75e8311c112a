/** CHECK_PKT_LEN: one list for packets that are longer than so many bytes, another for those that are not. */
import { Gso, IpProtocol } from '../../../net/index.ts';
import type { ActionEngine } from '../../engine/engine.ts';
import type { ActionDescription } from '../description.ts';
import { Action } from '../encoding.ts';
import { TOO_SHORT } from '../netlink.ts';

/** Parts of its attribute, OVS_CHECK_PKT_LEN_ATTR_*. */
const Part = { LENGTH: 1, LONGER: 2, OTHERWISE: 3 } as const;

export const checkLength: ActionDescription<typeof Action.CHECK_PKT_LEN> = {
  type: Action.CHECK_PKT_LEN,
  layout: { fields: ['length in bytes'], lists: ['longer', 'otherwise'] },
  flaw(its, at) {
    const length = its.words[at + 1];
    return length > 0 && length <= 0xffff ? null : `length ${length} is not within 1 to 65535`;
  },
  leads: (to, _words, _at, [longer, otherwise]) => to.either(longer, otherwise),
  text: {
    name: 'check_pkt_len',
    format: (words, at, [longer, otherwise]) =>
      `check_pkt_len(size=${words[at + 1] >>> 0},gt(${longer}),le(${otherwise}))`,
    parse(scanner, builder, list) {
      scanner.expect('size=');
      const size = scanner.number(16);
      scanner.expect(',gt(');
      const longer = list();
      scanner.expect(',le(');
      builder.checkPacketLength(size, longer, list());
      scanner.expect(')');
    },
  },
  netlink: {
    write(to, words, at, [longer, otherwise]) {
      to.nest(Action.CHECK_PKT_LEN, () => {
        to.message.u16(Part.LENGTH, words[at + 1]);
        to.list(Part.LONGER, longer);
        to.list(Part.OTHERWISE, otherwise);
      });
    },
    read(from, content, builder) {
      const parts: (Uint8Array | undefined)[] = [];
      from.each(content, (type, value) => {
        if (type === Part.LENGTH && value.length < 2) from.refuse('check_pkt_len', TOO_SHORT);
        if (type < Part.LENGTH || type > Part.OTHERWISE) from.refuse('check_pkt_len');
        parts[type] = value;
      });
      const [, length, longer, otherwise] = parts;
      const lengthBytes = length === undefined ? 0 : from.number(length.subarray(0, 2));
      if (lengthBytes === 0 || longer === undefined || otherwise === undefined) {
        return from.refuse('check_pkt_len is incomplete');
      }
      builder.checkPacketLength(lengthBytes, from.list(longer), from.list(otherwise));
    },
  },
  run(engine, words, at, end, isLast) {
    const middle = at + 3 + words[at + 2];
    if (segmentBytes(engine) <= words[at + 1]) return engine.nested(words, middle, end, isLast);
    return engine.nested(words, at + 3, middle, isLast);
  },
};

/** Length of the longest frame that the packet will be on a wire: of one segment for a super-packet. */
function segmentBytes({ packet, key }: ActionEngine): number {
  if (packet.gsoType === Gso.NONE) return packet.length;
  let headers = packet.headerLengthBytes;
  const l4 = key.l4Offset;
  if (l4 !== -1 && packet.length >= l4 + 14) {
    const isTcp = key.protocol === IpProtocol.TCP;
    headers = l4 + (isTcp ? (packet.bytes[packet.offset + l4 + 12] >>> 4) << 2 : 8);
  }
  return Math.min(headers + packet.gsoSizeBytes, packet.length);
}
