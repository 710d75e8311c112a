/**
 * Parsing, layer 2: from the packet's bytes to the words of flow/key/layout.ts. Only what somebody looks at is read. The rules
 * are those of flow/key/extract.ts; packets that are cut off, or odd in another way, are punted, so that extraction decides about them.
 * parse-network.ts and parse-transport.ts go on from here.
 */
import { at, type Label, R0, R1, R2, R3, R5, R6, R7, R8, R9, SK_BUFF } from '../../bpf/index.ts';
import { TAG_PRESENT, Word } from '../../flow/index.ts';
import { EtherType, MAXIMUM_TAGS } from '../../net/index.ts';
import { network16 } from '../actions/order.ts';
import { Found } from './facts.ts';
import { parseNetwork } from './parse-network.ts';
import type { Stage } from './stage.ts';
import type { ProgramWriter } from './writer.ts';

/** The most that parsing looks at: Ethernet, two tags, IPv6, TCP; and without layer 3. */
const PARSED_BYTES = 14 + 8 + 40 + 20;
const PARSED_LINK_BYTES = 14 + 8;
/** A frame of so many bytes ends within none of the tags that the switch reads. */
const LONGEST_TAGS_BYTES = 14 + 4 * MAXIMUM_TAGS;
/** What it looks at behind an Ethernet header without a tag behind it. */
const PARSED_OF = [
  [EtherType.IPV4, 14 + 20 + 20],
  [EtherType.IPV6, 14 + 40 + 20],
] as const;

/** The parser: fills in what of layers 2 to 4 is looked at. */
export const parseStage: Stage = {
  name: 'parser',
  role: 'on demand',
  needs: [Found.CPU, Found.LAYER3],
  gives: [Found.HEADERS, Found.PACKET],
  givesKey: [[Word.L2, Word.TUNNEL]],
  keeps: [Found.CPU],
  emit: parse,
};

/** Uses R0 to R3 and R7 to R9. */
function parse(writer: ProgramWriter): void {
  const { b, needs } = writer;
  const network = needs.any(Word.IP, Word.TUNNEL - 1);
  const layer3 = network || needs.layer3;
  const tags = layer3 || needs.any(Word.ETH_TYPE, Word.ETH_TYPE) || needs.any(Word.VLAN, Word.INNER_VLAN);
  if (!tags && !needs.any(Word.MAC, Word.MAC + 2)) {
    // A packet without an Ethernet header is dropped by extraction, whatever masks look at.
    writer.note('the packet: an Ethernet header must be there');
    bounds(writer, false);
    b.needBytes(R7, R8, 14, R1, writer.punt);
    puntCutTags(writer);
    return;
  }
  writer.note('the packet: Ethernet');
  bounds(writer, network);
  b.needBytes(R7, R8, 14, R1, writer.punt);
  for (let i = 0; i < 3; i += 1) {
    if (!needs.has(Word.MAC + i)) continue;
    b.loadNetwork(R1, 'u32', at(R7, i * 4));
    writer.setKey(Word.MAC + i, R1);
  }
  if (!tags) {
    puntCutTags(writer);
    return;
  }
  b.load(R0, 'u16', at(R7, 12));
  b.mov(R9, 14);
  parseTags(writer, network);
  if (needs.has(Word.ETH_TYPE)) {
    b.mov(R1, R0);
    b.toBigEndian(R1, 16);
    b.shl(R1, 16);
    writer.setKey(Word.ETH_TYPE, R1);
  }
  // Lengths instead of EtherTypes: what LLC and SNAP say is left to extraction.
  b.mov(R1, R0);
  b.toBigEndian(R1, 16);
  b.jumpIf(R1, '<', 0x0600, writer.punt);
  if (needs.layer3) b.store('u32', writer.layer3, R9);
  if (network) parseNetwork(writer);
}

/**
 * R7 and R8: the bounds of the packet. At tc enough of it is made linear, if it is not: that copies what senders still hold, and a super-packet often
 * has just its headers there.
 */
function bounds(writer: ProgramWriter, network: boolean): void {
  const { b } = writer;
  writer.packet();
  if (!writer.isTc) return;
  const mostBytes = network ? PARSED_BYTES : PARSED_LINK_BYTES;
  b.block((enough) => {
    b.mov(R1, R8);
    b.sub(R1, R7);
    b.jumpIf(R1, 's>=', mostBytes, enough);
    b.load(R2, 'u32', at(R6, SK_BUFF.len));
    b.jumpIf(R1, '==', R2, enough);
    if (network) {
      b.load(R3, 'u32', at(R6, SK_BUFF.protocol));
      for (const [etherType, bytes] of PARSED_OF) {
        b.if(R3, '==', network16(etherType), () => b.jumpIf(R1, 's>=', bytes, enough));
      }
    }
    writer.note('headers lie in pages: bring them together');
    b.if(R2, '>', mostBytes, () => b.mov(R2, mostBytes));
    b.mov(R1, R6);
    b.callHelper('skb_pull_data');
    writer.cpu(R5);
    writer.packet();
  });
}

/**
 * R0 becomes the EtherType behind all tags, as it lies in the packet, and R9 the place behind it.
 * @param network whether layer 3 is looked at: what lies behind a third tag only the engine sees
 */
function parseTags(writer: ProgramWriter, network: boolean): void {
  const { b } = writer;
  writer.note('tags');
  b.block((done) => {
    if (writer.isTc) {
      b.load(R1, 'u32', at(R6, SK_BUFF.vlanPresent));
      b.if(R1, '!=', 0, () => {
        writer.note('the outer tag lies beside the packet');
        if (writer.needs.has(Word.VLAN)) {
          b.load(R1, 'u32', at(R6, SK_BUFF.vlanProto));
          b.toBigEndian(R1, 16);
          b.shl(R1, 16);
          b.load(R2, 'u32', at(R6, SK_BUFF.vlanTci));
          b.and(R2, 0xffff);
          b.or(R1, R2);
          b.or(R1, TAG_PRESENT);
          writer.setKey(Word.VLAN, R1);
        }
        oneTag(writer, Word.INNER_VLAN, 14, done);
        behindTags(writer, network);
        b.jump(done);
      });
    }
    oneTag(writer, Word.VLAN, 14, done);
    oneTag(writer, Word.INNER_VLAN, 18, done);
    behindTags(writer, network);
  });
}

/** R0 is the EtherType behind two tags. */
function behindTags(writer: ProgramWriter, network: boolean): void {
  if (network) noTag(writer);
  else unlessLong(writer, () => noTag(writer));
}

/** Nobody looks at tags: a frame that may end within one is for the switch to drop. Uses R0 and R1. */
function puntCutTags(writer: ProgramWriter): void {
  const { b } = writer;
  unlessLong(writer, () => {
    writer.note('a short frame: it may end within a tag');
    b.load(R0, 'u16', at(R7, 12));
    noTag(writer);
  });
}

/** Do something with a frame that is shorter than one with as many tags as the switch reads. Uses R1. */
function unlessLong(writer: ProgramWriter, emit: () => void): void {
  const { b } = writer;
  if (writer.isTc) b.load(R1, 'u32', at(R6, SK_BUFF.len));
  else {
    b.mov(R1, R8);
    b.sub(R1, R7);
  }
  b.if(R1, '<', LONGEST_TAGS_BYTES, emit);
}

function noTag(writer: ProgramWriter): void {
  const { b } = writer;
  for (const type of [EtherType.VLAN, EtherType.SERVICE_VLAN]) b.jumpIf(R0, '==', network16(type), writer.punt);
}

/** If R0 names a tag, take it: its TCI lies at `offset`. */
function oneTag(writer: ProgramWriter, word: number, offset: number, done: Label): void {
  const { b } = writer;
  b.block((isTag) => {
    b.jumpIf(R0, '==', network16(EtherType.VLAN), isTag);
    b.jumpIf(R0, '!=', network16(EtherType.SERVICE_VLAN), done);
  });
  b.needBytes(R7, R8, offset + 4, R1, writer.punt);
  if (writer.needs.has(word)) {
    b.load(R1, 'u16', at(R7, offset));
    b.toBigEndian(R1, 16);
    b.mov(R2, R0);
    b.toBigEndian(R2, 16);
    b.shl(R2, 16);
    b.or(R1, R2);
    b.or(R1, TAG_PRESENT);
    writer.setKey(word, R1);
  }
  b.load(R0, 'u16', at(R7, offset + 2));
  b.mov(R9, offset + 4);
}
