/** CT and CT_CLEAR: a connection is tracked, and what is known of it comes into the key, or is forgotten. */
import { helperNamed, POLICY_NAME_BYTES } from '../../../connections/index.ts';
import { EtherType } from '../../../net/index.ts';
import { Drop } from '../../engine/drops.ts';
import { Word } from '../../key/layout.ts';
import { type ActionDescription, bareText, leadsNowhere, noFlaw } from '../description.ts';
import { Action, packedWords } from '../encoding.ts';
import { structure } from '../netlink.ts';
import { ctNetlink } from './netlink.ts';
import { formatCt, parseCt } from './text.ts';
import { CT_FIELDS, Ct, CtFlag, NatFlag, namesOf } from './words.ts';

/** Longest name of a helper, its closing zero not counted (linux/netfilter). */
const HELPER_MAXIMUM_BYTES = 15;

export const ct: ActionDescription<typeof Action.CT> = {
  type: Action.CT,
  layout: {
    fields: CT_FIELDS,
    tail: (words, at) =>
      packedWords(words[at + Ct.NAME_BYTES] >>> 16) + packedWords(words[at + Ct.NAME_BYTES] & 0xffff),
  },
  flaw({ words, key }, at) {
    const etherType = key[Word.ETH_TYPE] >>> 16;
    if (etherType !== EtherType.IPV4 && etherType !== EtherType.IPV6) return 'the packet is not known to be IP';
    const commits = (words[at + Ct.FLAGS] & (CtFlag.COMMIT | CtFlag.FORCE)) !== 0;
    return (
      namesFlaw(words, at, key[Word.IP] >>> 24) ??
      valuesFlaw(words, at, commits) ??
      natFlaw(words, at, commits, etherType === EtherType.IPV6)
    );
  },
  leads: (to) => to.open(),
  text: { name: 'ct', isBare: true, format: formatCt, parse: parseCt },
  netlink: ctNetlink,
  run(engine, words, at) {
    return engine.tracking === null ? engine.drop(Drop.CONNECTION_UNAVAILABLE) : engine.tracking.run(engine, words, at);
  },
};

export const ctClear: ActionDescription<typeof Action.CT_CLEAR> = {
  type: Action.CT_CLEAR,
  layout: { fields: [] },
  flaw: noFlaw,
  leads: leadsNowhere,
  text: bareText('ct_clear', (builder) => builder.ctClear()),
  netlink: structure(Action.CT_CLEAR),
  run({ key }) {
    key.words.fill(0, Word.CT, Word.L2);
    return true;
  },
};

function namesFlaw(words: Int32Array, at: number, protocol: number): string | null {
  const helperBytes = words[at + Ct.NAME_BYTES] >>> 16;
  const timeoutBytes = words[at + Ct.NAME_BYTES] & 0xffff;
  if (helperBytes > HELPER_MAXIMUM_BYTES) return `a helper's name of ${helperBytes} bytes is too long`;
  if (timeoutBytes > POLICY_NAME_BYTES) return `a timeout policy's name of ${timeoutBytes} bytes is too long`;
  const { helper } = namesOf(words, at);
  if (helper !== '' && helperNamed(helper)?.protocol !== protocol)
    return `there is no helper ${helper} for this protocol`;
  return null;
}

function valuesFlaw(words: Int32Array, at: number, commits: boolean): string | null {
  const flags = words[at + Ct.FLAGS];
  const zone = words[at + Ct.ZONE];
  if (zone < 0 || zone > 0xffff) return `zone ${zone} is not within 0 to 65535`;
  if ((flags & CtFlag.MARK) !== 0) {
    if (words[at + Ct.MARK_MASK] === 0) return 'a mark with a mask of 0';
    if (!commits) return 'only a commit sets the mark';
    if ((words[at + Ct.MARK] & ~words[at + Ct.MARK_MASK]) !== 0) return 'the mark has bits outside of its mask';
  }
  if ((flags & CtFlag.LABEL) !== 0) {
    if (words.subarray(at + Ct.LABEL_MASK, at + Ct.LABEL_MASK + 4).every((word) => word === 0)) {
      return 'a label with a mask of 0';
    }
    if (!commits) return 'only a commit sets the label';
    for (let i = 0; i < 4; i += 1) {
      if ((words[at + Ct.LABEL + i] & ~words[at + Ct.LABEL_MASK + i]) !== 0)
        return 'the label has bits outside of its mask';
    }
  }
  return null;
}

function natFlaw(words: Int32Array, at: number, commits: boolean, isIpv6: boolean): string | null {
  const nat = words[at + Ct.NAT_FLAGS];
  if (nat === 0) return null;
  if ((words[at + Ct.FLAGS] & CtFlag.NAT) === 0) return 'arguments of NAT without NAT';
  const direction = nat & (NatFlag.SOURCE | NatFlag.DESTINATION);
  if (direction === (NatFlag.SOURCE | NatFlag.DESTINATION)) return 'NAT of source and destination at once';
  if (direction === 0) return 'a range for NAT of neither source nor destination';
  if (!commits) return 'only a commit chooses a translation';
  if ((nat & NatFlag.IPV4) !== 0 && (nat & NatFlag.IPV6) !== 0) return 'NAT to IPv4 and IPv6 at once';
  if ((nat & (isIpv6 ? NatFlag.IPV4 : NatFlag.IPV6)) !== 0) return 'NAT to the other version of IP';
  if ((nat & (NatFlag.IPV4 | NatFlag.IPV6)) !== 0 && isEmptyRange(words, at))
    return 'the highest address is below the lowest';
  const hash = NatFlag.PROTO_HASH | NatFlag.PROTO_RANDOM;
  if ((nat & hash) === hash) return 'ports by hash and at random at once';
  const ports = words[at + Ct.NAT_PORTS];
  if ((nat & NatFlag.PORTS) !== 0 && (ports & 0xffff) < ports >>> 16) return 'the highest port is below the lowest';
  return null;
}

/** Addresses are compared as numbers without sign, the first word first. */
function isEmptyRange(words: Int32Array, at: number): boolean {
  for (let i = 0; i < 4; i += 1) {
    const first = words[at + Ct.NAT_MINIMUM + i] >>> 0;
    const last = words[at + Ct.NAT_MAXIMUM + i] >>> 0;
    if (first !== last) return last < first;
  }
  return false;
}
