/**
 * Reads action lists in Open vSwitch's syntax, everything that format-actions.ts writes and what ovs-dpctl takes besides.
 * What it builds is well-formed but not yet judged: validateActions says whether a flow may have it.
 */
import { parseMacInto } from '../../net/index.ts';
import { ActionBuilder } from '../actions/builder.ts';
import { ACTIONS_MAXIMUM_DEPTH, HashAlgorithm, setLayout } from '../actions/encoding.ts';
import { groupNamed, KeyAttribute } from '../key/fields.ts';
import { TAG_PRESENT, Word } from '../key/layout.ts';
import { parseCt } from './ct.ts';
import { probabilityOf } from './format-actions.ts';
import { emptyKeyAndMask, type KeyAndMask, parseField, parseFields } from './groups.ts';
import { parseEntry } from './mpls.ts';
import { Scanner } from './scanner.ts';
import { parseTunnel } from './tunnel.ts';

/**
 * Read a list; 'drop' or nothing is the empty list.
 * @throws FlowTextError when the text is no list of actions
 */
export function parseActions(text: string): Int32Array {
  const scanner = new Scanner(text);
  const actions = parseList(scanner, 0);
  if (!scanner.atEnd) scanner.fail('an action expected');
  return actions;
}

/** Actions up to a closing parenthesis, which is left, or to the end. */
function parseList(scanner: Scanner, depth: number): Int32Array {
  if (depth > ACTIONS_MAXIMUM_DEPTH + 1) scanner.fail('lists nested too deep');
  const builder = new ActionBuilder();
  scanner.skipSpace();
  const isDrop = /drop(?!\()/y;
  if (scanner.match(isDrop) !== null || scanner.atEnd || scanner.text[scanner.at] === ')') {
    scanner.skipSpace();
    return builder.finish();
  }
  do {
    scanner.skipSpace();
    parseAction(scanner, builder, depth);
    scanner.skipSpace();
  } while (scanner.eat(','));
  return builder.finish();
}

/** A list in parentheses whose opening one has been read. */
function parseNested(scanner: Scanner, depth: number): Int32Array {
  const actions = parseList(scanner, depth + 1);
  scanner.expect(')');
  return actions;
}

const NAME = /[a-z][a-z0-9_]*/y;
const DIGIT = /[0-9]/;

function parseAction(scanner: Scanner, builder: ActionBuilder, depth: number): void {
  const start = scanner.at;
  if (DIGIT.test(scanner.text[start] ?? '')) {
    builder.output(scanner.number(32));
    return;
  }
  const name = scanner.match(NAME) ?? '';
  switch (name) {
    case 'pop_vlan':
      builder.popVlan();
      return;
    case 'pop_eth':
      builder.popEth();
      return;
    case 'ct_clear':
      builder.ctClear();
      return;
    case 'ct':
      parseCt(scanner, builder);
      return;
    case 'pop_nsh':
      if (scanner.eat('(')) scanner.expect(')');
      builder.popNsh();
      return;
  }
  if (!scanner.eat('(')) scanner.failAt(start, 'an action expected');
  switch (name) {
    case 'userspace':
      parseUserspace(scanner, builder);
      return;
    case 'set':
      parseSet(scanner, builder);
      return;
    case 'push_vlan':
      parsePushVlan(scanner, builder);
      return;
    case 'push_mpls':
    case 'add_mpls':
      parsePushMpls(scanner, builder, name);
      return;
    case 'push_eth':
      parsePushEth(scanner, builder);
      return;
    case 'push_nsh':
      parsePushNsh(scanner, builder);
      return;
    case 'pop_mpls':
      scanner.expect('eth_type=');
      builder.popMpls(scanner.number(16));
      break;
    case 'recirc':
      builder.recirc(scanner.number(32));
      break;
    case 'trunc':
      builder.trunc(scanner.number(32));
      break;
    case 'meter':
      builder.meter(scanner.number(32));
      break;
    case 'drop':
      builder.drop(scanner.text[scanner.at] === ')' ? 0 : scanner.number(32));
      break;
    case 'clone':
      builder.clone(parseNested(scanner, depth));
      return;
    case 'hash':
      parseHash(scanner, builder);
      break;
    case 'sample': {
      scanner.expect('sample=');
      const percent = scanner.fraction();
      if (percent > 100) scanner.fail('more than 100 %');
      scanner.expect('%,actions(');
      builder.sample(probabilityOf(percent), parseNested(scanner, depth));
      break;
    }
    case 'check_pkt_len': {
      scanner.expect('size=');
      const size = scanner.number(16);
      scanner.expect(',gt(');
      const greater = parseNested(scanner, depth);
      scanner.expect(',le(');
      builder.checkPacketLength(size, greater, parseNested(scanner, depth));
      break;
    }
    case 'dec_ttl':
      scanner.expect('le_1(');
      builder.decTtl(parseNested(scanner, depth));
      break;
    default:
      scanner.failAt(start, `unknown action '${name}'`);
  }
  scanner.expect(')');
}

function parseHash(scanner: Scanner, builder: ActionBuilder): void {
  const name = scanner.match(NAME);
  scanner.expect('(');
  if (name === 'l4' || name === 'hash_l4') builder.hash(HashAlgorithm.L4, scanner.number(32));
  else if (name === 'sym_l4') builder.hash(HashAlgorithm.SYMMETRIC_L4, scanner.number(32));
  else scanner.fail("'l4' or 'sym_l4' expected");
  scanner.expect(')');
}

const HEX_BYTES = /(?:[0-9a-fA-F]{2})*/y;

function parseUserspace(scanner: Scanner, builder: ActionBuilder): void {
  const options: { userdata?: Uint8Array; tunnelPort?: number; actions?: boolean } = {};
  scanner.expect('pid=');
  const pid = scanner.number(32);
  if (scanner.eat(')')) {
    builder.userspace(pid);
    return;
  }
  scanner.expect(',');
  scanner.list(() => {
    if (scanner.eat('userdata(')) {
      options.userdata = hexBytes(scanner.match(HEX_BYTES) ?? '');
      scanner.expect(')');
    } else if (scanner.eat('actions')) {
      options.actions = true;
    } else {
      scanner.expect('tunnel_out_port=');
      options.tunnelPort = scanner.number(32);
    }
  });
  builder.userspace(pid, options);
}

function hexBytes(digits: string): Uint8Array {
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
}

function parseSet(scanner: Scanner, builder: ActionBuilder): void {
  const start = scanner.at;
  const name = scanner.match(NAME) ?? '';
  scanner.expect('(');
  const into = emptyKeyAndMask();
  if (name === 'tunnel') {
    parseTunnel(scanner, into);
    builder.set(KeyAttribute.TUNNEL, into.key);
  } else if (name === 'mpls') {
    const [entry, mask] = parseEntry(scanner, () => scanner.fail('unknown part of a label stack entry'));
    into.key[Word.MPLS] = entry;
    into.mask[Word.MPLS] = mask;
    addSet(builder, KeyAttribute.MPLS, into);
  } else {
    const group = groupNamed(name);
    if (group === undefined || setLayout(group.attribute) === undefined)
      scanner.failAt(start, `'${name}' cannot be set`);
    parseFields(scanner, group, into);
    addSet(builder, group.attribute, into);
  }
  scanner.expect(')');
}

/** As Open vSwitch does: a set whose mask covers all of the attribute is a plain one. */
function addSet(builder: ActionBuilder, attribute: number, set: KeyAndMask): void {
  const layout = setLayout(attribute) ?? [];
  const isWhole = layout.every(({ word, bits }) => (set.mask[word] & bits) >>> 0 === bits);
  if (isWhole) builder.set(attribute, set.key);
  else builder.set(attribute, set.key, set.mask);
}

function parsePushVlan(scanner: Scanner, builder: ActionBuilder): void {
  let tpid = 0x8100;
  let tci = TAG_PRESENT;
  scanner.list(() => {
    const start = scanner.at;
    const name = scanner.match(NAME);
    scanner.expect('=');
    if (name === 'tpid') tpid = scanner.number(16);
    else if (name === 'vid') tci |= scanner.number(12);
    else if (name === 'pcp') tci |= scanner.number(3) << 13;
    else if (name === 'cfi') tci = (tci & ~TAG_PRESENT) | (scanner.number(1) << 12);
    else scanner.failAt(start, `push_vlan has no argument '${name ?? ''}'`);
  });
  builder.pushVlan(tpid, tci);
}

function parsePushMpls(scanner: Scanner, builder: ActionBuilder, name: string): void {
  let etherType = 0x8847;
  let flags = 0;
  const [entry] = parseEntry(scanner, (argument) => {
    if (argument === 'eth_type') etherType = scanner.number(16);
    else if (argument === 'tun_flags' && name === 'add_mpls') flags = scanner.number(16);
    else scanner.fail(`${name} has no argument '${argument}'`);
  });
  if (name === 'push_mpls') builder.pushMpls(entry, etherType);
  else builder.addMpls(entry, etherType, flags);
}

const ADDRESS = /[0-9a-fA-F:]+/y;

function parsePushEth(scanner: Scanner, builder: ActionBuilder): void {
  const bytes = new Uint8Array(12);
  scanner.list(() => {
    const start = scanner.at;
    const name = scanner.match(NAME);
    scanner.expect('=');
    if (name !== 'src' && name !== 'dst') scanner.failAt(start, `push_eth has no argument '${name ?? ''}'`);
    const at = scanner.at;
    if (!parseMacInto(scanner.match(ADDRESS) ?? '', bytes, name === 'src' ? 6 : 0)) {
      scanner.failAt(at, 'a MAC address expected');
    }
  });
  const view = new DataView(bytes.buffer);
  const { key } = emptyKeyAndMask();
  for (let i = 0; i < 3; i += 1) key[Word.MAC + i] = view.getUint32(i * 4);
  builder.pushEth(key);
}

/** No metadata is a 0. */
const METADATA = /0(?:x(?:[0-9a-fA-F]{2})*)?/y;

function parsePushNsh(scanner: Scanner, builder: ActionBuilder): void {
  const set = emptyKeyAndMask();
  const fields = groupNamed('nsh')?.fields ?? [];
  let metadata: Uint8Array | null = null;
  scanner.list(() => {
    const start = scanner.at;
    const name = scanner.match(NAME);
    scanner.expect('=');
    if (name === 'md2') {
      metadata = hexBytes((scanner.match(METADATA) ?? scanner.fail('hexadecimal bytes expected')).slice(2));
      return;
    }
    const field = fields.find((each) => each.name === name);
    if (field === undefined) scanner.failAt(start, `push_nsh has no argument '${name ?? ''}'`);
    parseField(scanner, field, set);
  });
  const base = set.key[Word.NSH_BASE];
  if (((base >>> 8) & 0xff) === 1) {
    const context = new Uint8Array(16);
    const view = new DataView(context.buffer);
    for (let i = 0; i < 4; i += 1) view.setUint32(i * 4, set.key[Word.NSH_CONTEXT + i]);
    metadata = context;
  }
  builder.pushNsh(base, set.key[Word.NSH_PATH], metadata ?? new Uint8Array(0));
}
