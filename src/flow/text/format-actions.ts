/**
 * Action lists as text in Open vSwitch's syntax: `set(ipv4(ttl=63)),push_vlan(vid=5,pcp=0),2`. parse-actions.ts reads it back.
 * Userdata is always written as hexadecimal bytes: what the cookies of ovs-vswitchd mean is for it to tell.
 */

import { formatMac } from '../../net/index.ts';
import {
  Action,
  actionLength,
  actionType,
  HashAlgorithm,
  setLayout,
  Userspace,
  UserspaceFlag,
  unpackBytes,
} from '../actions/encoding.ts';
import { groupOf, KeyAttribute } from '../key/fields.ts';
import { TAG_PRESENT, Word } from '../key/layout.ts';
import { formatCt } from './ct.ts';
import { emptyKeyAndMask, formatFields, formatGroup, type KeyAndMask } from './groups.ts';
import { formatEntry } from './mpls.ts';
import { formatSetTunnel } from './tunnel.ts';
import { hexNumber } from './values.ts';

/** A list as text; 'drop' when it is empty. The list has been validated. */
export function formatActions(words: Int32Array): string {
  return formatList(words, 0, words.length);
}

function formatList(words: Int32Array, from: number, end: number): string {
  if (from === end) return 'drop';
  const parts: string[] = [];
  for (let at = from; at < end; at += actionLength(words[at])) parts.push(formatAction(words, at));
  return parts.join(',');
}

function formatAction(words: Int32Array, at: number): string {
  const end = at + actionLength(words[at]);
  const first = words[at + 1] >>> 0;
  switch (actionType(words[at])) {
    case Action.OUTPUT:
      return String(first);
    case Action.USERSPACE:
      return formatUserspace(words, at);
    case Action.SET:
    case Action.SET_MASKED:
      return `set(${formatSet(words, at, end)})`;
    case Action.PUSH_VLAN:
      return `push_vlan(${formatPushVlan(first)})`;
    case Action.POP_VLAN:
      return 'pop_vlan';
    case Action.PUSH_MPLS:
      return `push_mpls(${formatEntry(first, 0xffff_ffff)},eth_type=0x${words[at + 2].toString(16)})`;
    case Action.ADD_MPLS: {
      const flags = words[at + 3] === 0 ? '' : `,tun_flags=0x${(words[at + 3] >>> 0).toString(16)}`;
      return `add_mpls(${formatEntry(first, 0xffff_ffff)},eth_type=0x${words[at + 2].toString(16)}${flags})`;
    }
    case Action.POP_MPLS:
      return `pop_mpls(eth_type=0x${first.toString(16)})`;
    case Action.PUSH_ETH: {
      const bytes = unpackBytes(words, at + 1, 12);
      return `push_eth(src=${formatMac(bytes, 6)},dst=${formatMac(bytes, 0)})`;
    }
    case Action.POP_ETH:
      return 'pop_eth';
    case Action.PUSH_NSH:
      return formatPushNsh(words, at);
    case Action.POP_NSH:
      return 'pop_nsh()';
    case Action.SAMPLE:
      return `sample(sample=${formatProbability(first)}%,actions(${formatList(words, at + 2, end)}))`;
    case Action.CLONE:
      return `clone(${formatList(words, at + 1, end)})`;
    case Action.CHECK_PKT_LEN: {
      const middle = at + 3 + words[at + 2];
      return `check_pkt_len(size=${first},gt(${formatList(words, at + 3, middle)}),le(${formatList(words, middle, end)}))`;
    }
    case Action.DEC_TTL:
      return `dec_ttl(le_1(${formatList(words, at + 1, end)}))`;
    case Action.RECIRC:
      return `recirc(${hexNumber(first)})`;
    case Action.HASH:
      return `hash(${first === HashAlgorithm.L4 ? 'l4' : 'sym_l4'}(${words[at + 2] >>> 0}))`;
    case Action.TRUNC:
      return `trunc(${first})`;
    case Action.METER:
      return `meter(${first})`;
    case Action.CT:
      return formatCt(words, at);
    case Action.CT_CLEAR:
      return 'ct_clear';
    case Action.DROP:
      return first === 0 ? 'drop()' : `drop(${first})`;
    default:
      return `action${actionType(words[at])}()`;
  }
}

/** The shortest percentage, with at least one digit behind the point, that reads back as the same 32-bit fraction. */
function formatProbability(probability: number): string {
  const percent = (probability / 0xffff_ffff) * 100;
  for (let digits = 1; digits < 12; digits += 1) {
    const text = percent.toFixed(digits);
    if (probabilityOf(Number(text)) === probability) return text;
  }
  return percent.toFixed(12);
}

/** The 32-bit fraction of a percentage. */
export function probabilityOf(percent: number): number {
  return Math.min(Math.round((percent / 100) * 0xffff_ffff), 0xffff_ffff);
}

function formatUserspace(words: Int32Array, at: number): string {
  const flags = words[at + Userspace.FLAGS];
  let text = `userspace(pid=${words[at + Userspace.PID] >>> 0}`;
  if ((flags & UserspaceFlag.USERDATA) !== 0) {
    const bytes = unpackBytes(words, at + Userspace.USERDATA, words[at + Userspace.USERDATA_BYTES]);
    text += `,userdata(${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')})`;
  }
  if ((flags & UserspaceFlag.ACTIONS) !== 0) text += ',actions';
  if ((flags & UserspaceFlag.TUNNEL_PORT) !== 0) text += `,tunnel_out_port=${words[at + Userspace.TUNNEL_PORT] >>> 0}`;
  return `${text})`;
}

function formatPushVlan(word: number): string {
  const tpid = word >>> 16;
  const tpidText = tpid === 0x8100 ? '' : `tpid=0x${tpid.toString(16).padStart(4, '0')},`;
  const cfi = (word & TAG_PRESENT) === 0 ? ',cfi=0' : '';
  return `${tpidText}vid=${word & 0xfff},pcp=${(word >>> 13) & 7}${cfi}`;
}

/** The attribute that a set action sets. */
function formatSet(words: Int32Array, at: number, end: number): string {
  const attribute = words[at + 1];
  const set: KeyAndMask = emptyKeyAndMask();
  if (attribute === KeyAttribute.TUNNEL) {
    set.key.set(words.subarray(at + 2, end), Word.TUNNEL);
    return formatSetTunnel(set.key);
  }
  const layout = setLayout(attribute) ?? [];
  for (const [i, { word }] of layout.entries()) {
    set.key[word] = words[at + 2 + i * 2];
    set.mask[word] = words[at + 3 + i * 2];
  }
  if (attribute === KeyAttribute.MPLS) return `mpls(${formatEntry(set.key[Word.MPLS], set.mask[Word.MPLS])})`;
  const group = groupOf(attribute);
  if (group === undefined) return `attribute${attribute}()`;
  // A mask of nothing changes nothing, but it is an action all the same.
  return formatGroup(group, set) || `${group.name}(${group.fields[0].name === '' ? '0/0x0' : ''})`;
}

const NSH_HEAD = groupOf(KeyAttribute.NSH)?.fields.slice(0, 6) ?? [];
const NSH_CONTEXT = groupOf(KeyAttribute.NSH)?.fields.slice(6) ?? [];

function formatPushNsh(words: Int32Array, at: number): string {
  const set = emptyKeyAndMask();
  set.mask.fill(0xffff_ffff);
  set.key[Word.NSH_BASE] = words[at + 1];
  set.key[Word.NSH_PATH] = words[at + 2];
  const head = formatFields(NSH_HEAD, set);
  const bytes = words[at + 3];
  if (((words[at + 1] >>> 8) & 0xff) === 1) {
    set.key.set(words.subarray(at + 4, at + 8), Word.NSH_CONTEXT);
    return `push_nsh(${head},${formatFields(NSH_CONTEXT, set)})`;
  }
  const metadata = Array.from(unpackBytes(words, at + 4, bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `push_nsh(${head},md2=${metadata === '' ? '0' : `0x${metadata}`})`;
}
