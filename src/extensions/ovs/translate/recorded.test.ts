/**
 * Flows that Open vSwitch's own programs put, byte for byte (made by test/ovs-record-flows.ts): all are taken, what is read back of them is what
 * was sent, and the frame that led to one falls to it.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { formatActions, formatFlowKey, inPortOf, KEY_WORDS, parseActions, Word } from '../../../flow/index.ts';
import { Batch } from '../../../net/index.ts';
import { MessageWriter } from '../../../netlink/index.ts';
import { Command, Family, FlowAttribute, VportAttribute, VportType } from '../abi.ts';
import { Attributes, eachNested } from '../attributes.ts';
import { asOvsPort } from '../port-number.ts';
import { MemoryWorld, Program, request } from '../testing-memory.ts';
import { decodeActions, encodeActions } from './actions.ts';
import { type DecodedMatch, decodeKey, decodeMatch } from './key-decode.ts';
import { encodeKey } from './key-encode.ts';

const ACK = 4;
const CREATE = 0x400;

interface Recorded {
  rule: string;
  /** The frame for which ovs-vswitchd made it; null for a flow of ovs-dpctl. */
  frame: string | null;
  key: string;
  mask: string;
  actions: string;
  /** As ovs-dpctl prints what it reads back. */
  shown: string | null;
}

const FLOWS = readFileSync(new URL('../testing/flows.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Recorded);
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
/** What this ovs-dpctl takes for an explicit drop is another action in the kernel, and a helper needs its protocol matched. */
const isRefused = ({ rule, frame }: Recorded) => frame === null && / drop$|helper=/.test(rule);
const TAKEN = FLOWS.filter((flow) => !isRefused(flow)).map((flow) => [flow.rule, flow] as const);

/** A datapath with the flow, and the number of its input port's device. */
function put(flow: Recorded) {
  const world = new MemoryWorld();
  const program = new Program(world.server);
  const datapath = world.server.addDatapath('ovs-system');
  const { interfaceIndex } = datapath;
  for (const name of ['va', 'vb']) {
    program.request(
      request(Family.VPORT, Command.NEW, ACK, interfaceIndex, (writer) => {
        writer.string(VportAttribute.NAME, name);
        writer.u32(VportAttribute.TYPE, VportType.NETDEV);
        writer.u32(VportAttribute.UPCALL_PID, 0);
      }),
    );
  }
  const answers = program.request(
    request(Family.FLOW, Command.NEW, ACK | CREATE, interfaceIndex, (writer) => {
      writer.bytes(FlowAttribute.KEY, bytesOf(flow.key));
      writer.bytes(FlowAttribute.MASK, bytesOf(flow.mask));
      writer.bytes(FlowAttribute.UFID, new Uint8Array(16).fill(7));
      writer.bytes(FlowAttribute.ACTIONS, bytesOf(flow.actions));
    }),
  );
  const dump = () => {
    const [answer] = program.request(request(Family.FLOW, Command.GET, 0x300, interfaceIndex));
    const attributes = new Attributes(answer.bytes, 24, answer.bytes.length, 11);
    const of = (type: number) => (attributes.content(type) ?? new Uint8Array(0)).slice();
    return { key: of(FlowAttribute.KEY), mask: of(FlowAttribute.MASK), actions: of(FlowAttribute.ACTIONS) };
  };
  return { world, datapath, errno: answers.at(-1)?.errno, dump };
}

function masked({ key, mask }: DecodedMatch): Uint32Array {
  return key.map((word, i) => word & mask[i]);
}

/** Every plain attribute of a key or mask, by its path. */
function leaves(content: Uint8Array, path = '', into = new Map<string, Uint8Array>()): Map<string, Uint8Array> {
  eachNested(content, (type, value) => {
    const name = `${path}/${type}`;
    // ENCAP, TUNNEL and NSH, and the options of VXLAN.
    const isNest = /^(\/1)*$/.test(path) ? [1, 16, 28].includes(type) : path.endsWith('/16') && type === 11;
    if (isNest) leaves(value, name, into);
    else into.set(name, value);
  });
  return into;
}

test.each(TAKEN)('%s: is taken, and its actions are read back byte for byte', (_rule, flow) => {
  const { errno, dump } = put(flow);
  expect(errno).toBe(0);
  expect(hexOf(dump().actions)).toBe(flow.actions);
});

test.each(TAKEN)('%s: what is read back, put again, is the same flow', (_rule, flow) => {
  const { dump } = put(flow);
  const { key, mask } = dump();
  const first = decodeMatch(bytesOf(flow.key), bytesOf(flow.mask));
  const again = decodeMatch(key, mask);
  expect(again.mask).toEqual(first.mask);
  const wanted = masked(first);
  // The context belongs to metadata of type 1: where the type does not count, the kernel leaves the context out.
  const isNsh = wanted[Word.ETH_TYPE] >>> 16 === 0x894f;
  if (isNsh && (wanted[Word.NSH_BASE] & 0xff00) === 0) wanted.fill(0, Word.NSH_CONTEXT, Word.NSH_CONTEXT + 4);
  expect(masked(again)).toEqual(wanted);
});

test.each(TAKEN)('%s: no bit counts less than was asked for', (_rule, flow) => {
  const dumped = leaves(put(flow).dump().mask);
  for (const [name, wanted] of leaves(bytesOf(flow.mask))) {
    // The key holds the lower 8 bits of ARP's operation.
    if (/^(\/1)*\/13$/.test(name)) wanted[8] = 0;
    const given = dumped.get(name);
    if (given === undefined) expect([name, hexOf(wanted)]).toEqual([name, '00'.repeat(wanted.length)]);
    else expect([name, hexOf(wanted.map((byte, i) => byte & ~given[i]))]).toEqual([name, '00'.repeat(wanted.length)]);
  }
});

test.each(TAKEN.filter(([, { frame }]) => frame !== null))('%s: its frame falls to it', (_rule, flow) => {
  const { world, datapath } = put(flow);
  if (flow.frame === null) throw new Error('no frame');
  // A flow behind a recirculation is of what its list has made of the frame.
  const key = decodeKey(bytesOf(flow.key));
  if (key[Word.RECIRC_ID] !== 0) return;
  const packet = world.pool.allocate();
  if (packet === null) throw new Error('no buffer');
  const frame = bytesOf(flow.frame);
  packet.bytes.set(frame, packet.offset);
  packet.length = frame.length;
  const batch = new Batch();
  batch.push(packet);
  datapath.receive(batch, asOvsPort(inPortOf(key)));
  expect(datapath.flows.table.hits).toBe(1);
});

test.each(TAKEN)('%s: the text of its actions leads to the same bytes', (_rule, flow) => {
  const list = decodeActions(bytesOf(flow.actions), masked(decodeMatch(bytesOf(flow.key), bytesOf(flow.mask))));
  const writer = new MessageWriter();
  encodeActions(writer, 2, parseActions(formatActions(list)));
  expect(hexOf(writer.take().slice(4))).toBe(flow.actions);
});

/** Actions as Open vSwitch prints them; what its cookies mean is for it to tell. */
const PRINTED = TAKEN.filter(([, { shown }]) => shown !== null && !shown.includes('userspace('));

test.each(PRINTED)('%s: its actions are printed as ovs-dpctl prints them', (_rule, flow) => {
  const key = masked(decodeMatch(bytesOf(flow.key), bytesOf(flow.mask)));
  expect(formatActions(decodeActions(bytesOf(flow.actions), key))).toBe(flow.shown?.split(' actions:')[1]);
});

/**
 * Matches that ovs-dpctl prints in another way than it reads them, or does not say whole: the context of NSH where its type does not count, frames
 * without an EtherType inside a tag, stacks of labels, ARP's operation of 16 bits, options of which no bit counts, packets without Ethernet.
 */
const UNLIKE = /nsh\(.*c4=0x0\)|encap\(\)|label=.*label=|op=1\/0xff|len=8}|eth\(\)eth_type|^in_port\(1\),eth_type/;

test.each(TAKEN.filter(([, { shown }]) => shown !== null && !UNLIKE.test(shown)))(
  '%s: its match is printed as ovs-dpctl prints it',
  (_rule, flow) => {
    const match = decodeMatch(bytesOf(flow.key), bytesOf(flow.mask));
    expect(formatFlowKey(masked(match), match.mask)).toBe(flow.shown?.split(' actions:')[0]);
  },
);

test.each(FLOWS.filter(isRefused).map((flow) => [flow.rule, flow] as const))('%s: is refused', (_rule, flow) => {
  expect(put(flow).errno).toBe(22);
});

test('all kinds of attributes and actions are among them', () => {
  const keys = new Set<number>();
  const actions = new Set<number>();
  for (const flow of FLOWS) {
    for (const name of leaves(bytesOf(flow.key)).keys()) for (const part of name.split('/')) keys.add(Number(part));
    eachNested(bytesOf(flow.actions), (type) => actions.add(type));
  }
  // OVS_KEY_ATTR_* but for ct_*, ND extensions and IPv6 extension headers.
  for (let type = 1; type <= 21; type += 1) expect(keys, `key attribute ${type}`).toContain(type);
  expect(keys).toContain(28);
  for (let type = 1; type <= 22; type += 1) expect(actions, `action ${type}`).toContain(type);
});

test('a key that is written never has a nest marked as one, as the kernel writes it', () => {
  for (const { key } of FLOWS) {
    const words = decodeKey(bytesOf(key));
    const writer = new MessageWriter();
    encodeKey(writer, 1, words, words);
    expect(writer.take()[3]).toBe(0);
    expect(words.length).toBe(KEY_WORDS);
  }
});
