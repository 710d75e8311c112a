/** CT and CT_CLEAR: a connection is tracked, and what is known of it comes into the key, or is forgotten. */
import { Drop } from '../../engine/drops.ts';
import { CtVerdict } from '../../engine/hooks.ts';
import { Word } from '../../key/layout.ts';
import { type ActionDescription, bareText, leadsNowhere, noFlaw } from '../description.ts';
import { Action, packedWords } from '../encoding.ts';
import { refused } from '../netlink.ts';
import { formatCt, parseCt } from './text.ts';
import { CT_FIELDS, Ct, CtFlag, NatFlag } from './words.ts';

/** Longest names of a helper and a timeout policy, their closing zero not counted (linux/netfilter). */
const HELPER_MAXIMUM_BYTES = 15;
const TIMEOUT_MAXIMUM_BYTES = 31;

/** That one of the two is accepted tells programs that connections are tracked. */
const UNTRACKED = 'connections are not tracked';

export const ct: ActionDescription<typeof Action.CT> = {
  type: Action.CT,
  layout: {
    fields: CT_FIELDS,
    tail: (words, at) =>
      packedWords(words[at + Ct.NAME_BYTES] >>> 16) + packedWords(words[at + Ct.NAME_BYTES] & 0xffff),
  },
  flaw({ words }, at) {
    const commits = (words[at + Ct.FLAGS] & (CtFlag.COMMIT | CtFlag.FORCE)) !== 0;
    return namesFlaw(words[at + Ct.NAME_BYTES]) ?? valuesFlaw(words, at, commits) ?? natFlaw(words, at, commits);
  },
  leads: (to) => to.open(),
  text: { name: 'ct', isBare: true, format: formatCt, parse: parseCt },
  netlink: refused(Action.CT, UNTRACKED),
  run(engine, words, at) {
    const { hooks } = engine;
    if (hooks.track === undefined) return engine.drop(Drop.CONNECTION_UNAVAILABLE);
    if (!engine.refreshKey()) return false;
    const { dropped } = engine;
    const verdict = hooks.track(engine, words, at);
    if (verdict === CtVerdict.CONTINUE) return true;
    if (verdict === CtVerdict.DROP) return engine.drop(Drop.CONNECTION);
    if (engine.dropped === dropped) engine.sent();
    return false;
  },
};

export const ctClear: ActionDescription<typeof Action.CT_CLEAR> = {
  type: Action.CT_CLEAR,
  layout: { fields: [] },
  flaw: noFlaw,
  leads: leadsNowhere,
  text: bareText('ct_clear', (builder) => builder.ctClear()),
  netlink: refused(Action.CT_CLEAR, UNTRACKED),
  run({ hooks, packet, key }) {
    hooks.trackClear?.(packet, key);
    key.words.fill(0, Word.CT, Word.L2);
    return true;
  },
};

function namesFlaw(nameBytes: number): string | null {
  const helperBytes = nameBytes >>> 16;
  const timeoutBytes = nameBytes & 0xffff;
  if (helperBytes > HELPER_MAXIMUM_BYTES) return `a helper's name of ${helperBytes} bytes is too long`;
  if (timeoutBytes > TIMEOUT_MAXIMUM_BYTES) return `a timeout policy's name of ${timeoutBytes} bytes is too long`;
  return null;
}

function valuesFlaw(words: Int32Array, at: number, commits: boolean): string | null {
  const flags = words[at + Ct.FLAGS];
  const zone = words[at + Ct.ZONE];
  if (zone < 0 || zone > 0xffff) return `zone ${zone} is not within 0 to 65535`;
  if ((flags & CtFlag.MARK) !== 0) {
    if (!commits && words[at + Ct.MARK_MASK] !== 0) return 'only a commit sets the mark';
    if ((words[at + Ct.MARK] & ~words[at + Ct.MARK_MASK]) !== 0) return 'the mark has bits outside of its mask';
  }
  if ((flags & CtFlag.LABEL) !== 0) {
    for (let i = 0; i < 4; i += 1) {
      const mask = words[at + Ct.LABEL_MASK + i];
      if (!commits && mask !== 0) return 'only a commit sets the label';
      if ((words[at + Ct.LABEL + i] & ~mask) !== 0) return 'the label has bits outside of its mask';
    }
  }
  return null;
}

function natFlaw(words: Int32Array, at: number, commits: boolean): string | null {
  const nat = words[at + Ct.NAT_FLAGS];
  if (nat === 0) return null;
  if ((words[at + Ct.FLAGS] & CtFlag.NAT) === 0) return 'arguments of NAT without NAT';
  const direction = nat & (NatFlag.SOURCE | NatFlag.DESTINATION);
  if (direction === (NatFlag.SOURCE | NatFlag.DESTINATION)) return 'NAT of source and destination at once';
  if (direction === 0) return 'a range for NAT of neither source nor destination';
  if (!commits) return 'only a commit chooses a translation';
  if ((nat & NatFlag.IPV4) !== 0 && (nat & NatFlag.IPV6) !== 0) return 'NAT to IPv4 and IPv6 at once';
  const hash = NatFlag.PROTO_HASH | NatFlag.PROTO_RANDOM;
  if ((nat & hash) === hash) return 'ports by hash and at random at once';
  const ports = words[at + Ct.NAT_PORTS];
  if ((nat & NatFlag.PORTS) !== 0 && (ports & 0xffff) < ports >>> 16) return 'the highest port is below the lowest';
  return null;
}
