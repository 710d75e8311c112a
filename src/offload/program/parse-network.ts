/**
 * Parsing, layer 3: IPv4, IPv6, ARP and MPLS. R0 is the EtherType as it lies in the packet, R7 the packet, R8 its end, R9 where layer 3 begins.
 * Versions and lengths must be as HeaderOffsets of net/ wants them: a flow may stand for a filter, which drops what is not.
 */
import { at, type Label, R0, R1, R2, R3, R6, R7, R8, R9, SK_BUFF } from '../../bpf/index.ts';
import { FlowEtherType, MAXIMUM_PADDING_BYTES, MPLS_DEPTH, Sound, Word } from '../../flow/index.ts';
import { EtherType, Fragment, IpProtocol } from '../../net/index.ts';
import { network16, network32 } from '../actions/order.ts';
import { parseTransport } from './parse-transport.ts';
import type { ProgramWriter } from './writer.ts';

/** Next headers of IPv6 that extraction steps over, or counts. */
const EXTENSIONS = [
  IpProtocol.HOP_BY_HOP,
  IpProtocol.ROUTING,
  IpProtocol.FRAGMENT,
  IpProtocol.AUTHENTICATION,
  IpProtocol.DESTINATION,
  IpProtocol.NO_NEXT,
];

/** R9 becomes the address of layer 3. R0 names the protocol. */
export function parseNetwork(writer: ProgramWriter): void {
  const { b } = writer;
  b.add(R9, R7);
  const type = (number: number) => network16(number);
  b.block((done) => {
    const is = (...numbers: number[]) => {
      const next = b.label();
      const here = b.label();
      numbers.forEach((number, i) => {
        if (i === numbers.length - 1) b.jumpIf(R0, '!=', type(number), next);
        else b.jumpIf(R0, '==', type(number), here);
      });
      b.placeIfUsed(here);
      return next;
    };
    let next: Label = is(EtherType.IPV4);
    writer.note('IPv4');
    ipv4(writer, done);
    b.place(next);
    next = is(EtherType.IPV6);
    writer.note('IPv6');
    ipv6(writer, done);
    b.place(next);
    next = is(EtherType.ARP, FlowEtherType.REVERSE_ARP);
    writer.note('ARP');
    arp(writer);
    b.jump(done);
    b.place(next);
    next = is(EtherType.MPLS, EtherType.MPLS_MULTICAST);
    writer.note('MPLS');
    mpls(writer, done);
    b.place(next);
    b.jumpIf(R0, '==', type(FlowEtherType.NSH), writer.punt);
  });
}

/** Copy words of the packet, from an offset behind layer 3 on, to words of the key. */
function copyWords(writer: ProgramWriter, from: number, word: number, count: number): void {
  const { b, needs } = writer;
  for (let i = 0; i < count; i += 1) {
    if (!needs.has(word + i)) continue;
    b.loadNetwork(R1, 'u32', at(R9, from + i * 4));
    writer.setKey(word + i, R1);
  }
}

/**
 * A datagram of UDP that is a super-packet may be one that is to become fragments, which the key tells apart and a program cannot see.
 * R3 is the protocol.
 */
function puntUdpSuperPackets(writer: ProgramWriter): void {
  const { b } = writer;
  if (!writer.isTc || (writer.needs.bits[Word.IP] & 0xff) === 0) return;
  b.block((leave) => {
    b.jumpIf(R3, '!=', IpProtocol.UDP, leave);
    b.load(R1, 'u32', at(R6, SK_BUFF.gsoSize));
    b.jumpIf(R1, '!=', 0, writer.punt);
  });
}

/** The length of layer 3, R0, is not beyond the frame, in pages as well, and what is behind it may be padding. Uses R1 and R2. */
function fitsFrame(writer: ProgramWriter): void {
  const { b } = writer;
  if (writer.isTc) {
    b.load(R1, 'u32', at(R6, SK_BUFF.len));
    b.mov(R2, R9);
    b.sub(R2, R7);
    b.sub(R1, R2);
  } else {
    b.mov(R1, R8);
    b.sub(R1, R9);
  }
  b.sub(R1, R0);
  // Less than no padding is a very large number.
  b.jumpIf(R1, '>', MAXIMUM_PADDING_BYTES, writer.punt);
}

function ipv4(writer: ProgramWriter, done: Label): void {
  const { b, needs } = writer;
  b.needBytes(R9, R8, 20, R1, writer.punt);
  b.load(R1, 'u8', at(R9));
  b.jumpIf(R1, '!=', 0x45, writer.punt);
  b.loadNetwork(R0, 'u16', at(R9, 2));
  b.jumpIf(R0, '<', 20, writer.punt);
  fitsFrame(writer);
  writer.setSound(Sound.NETWORK);
  copyWords(writer, 12, Word.IPV4_SOURCE, 2);
  b.load(R3, 'u8', at(R9, 9));
  const later = b.label('later fragment');
  const noted = b.label('fragment known');
  // R2: nw_frag
  b.mov(R2, Fragment.NONE);
  b.load(R1, 'u16', at(R9, 6));
  b.and(R1, network16(0x3fff));
  b.jumpIf(R1, '==', 0, noted);
  b.mov(R2, Fragment.LATER);
  b.and(R1, network16(0x1fff));
  b.jumpIf(R1, '!=', 0, noted);
  b.mov(R2, Fragment.FIRST);
  b.place(noted);
  puntUdpSuperPackets(writer);
  if (needs.has(Word.IP)) {
    b.mov(R1, R3);
    b.shl(R1, 24);
    b.or(R2, R1);
    b.load(R1, 'u8', at(R9, 1));
    b.shl(R1, 16);
    b.or(R2, R1);
    b.load(R1, 'u8', at(R9, 8));
    b.shl(R1, 8);
    b.or(R2, R1);
    writer.setKey(Word.IP, R2);
  }
  if (needs.any(Word.PORTS, Word.TCP_FLAGS)) {
    b.and(R2, 3);
    b.jumpIf(R2, '==', Fragment.LATER, later);
    parseTransport(writer, { at4: 20, icmp: IpProtocol.ICMPV4, mayBeFragment: true }, done);
    if (b.reachable) b.jump(done);
  }
  b.placeIfUsed(later);
  b.jump(done);
}

function ipv6(writer: ProgramWriter, done: Label): void {
  const { b, needs } = writer;
  b.needBytes(R9, R8, 40, R1, writer.punt);
  b.load(R1, 'u8', at(R9));
  b.shr(R1, 4);
  b.jumpIf(R1, '!=', 6, writer.punt);
  b.loadNetwork(R0, 'u16', at(R9, 4));
  b.add(R0, 40);
  fitsFrame(writer);
  b.load(R3, 'u8', at(R9, 6));
  for (const extension of EXTENSIONS) b.jumpIf(R3, '==', extension, writer.punt);
  writer.setSound(Sound.NETWORK);
  copyWords(writer, 8, Word.IPV6_SOURCE, 8);
  puntUdpSuperPackets(writer);
  if (needs.has(Word.IP) || needs.has(Word.IPV6_LABEL)) {
    b.loadNetwork(R1, 'u32', at(R9));
    if (needs.has(Word.IPV6_LABEL)) {
      b.mov(R2, R1);
      b.and(R2, 0xfffff);
      writer.setKey(Word.IPV6_LABEL, R2);
    }
    if (needs.has(Word.IP)) {
      // The traffic class lies in bits 20 to 27, and goes to 16 to 23.
      b.shr(R1, 4);
      b.and(R1, 0xff0000);
      b.mov(R2, R3);
      b.shl(R2, 24);
      b.or(R1, R2);
      b.load(R2, 'u8', at(R9, 7));
      b.shl(R2, 8);
      b.or(R1, R2);
      writer.setKey(Word.IP, R1);
    }
  }
  if (needs.any(Word.PORTS, Word.TCP_FLAGS)) {
    parseTransport(writer, { at4: 40, icmp: IpProtocol.ICMPV6, mayBeFragment: false }, done);
  }
  if (b.reachable) b.jump(done);
}

/** ARP for IPv4 over Ethernet with an operation of 8 bits. */
function arp(writer: ProgramWriter): void {
  const { b, needs } = writer;
  b.needBytes(R9, R8, 28, R1, writer.punt);
  b.load(R1, 'u32', at(R9));
  b.load(R2, 'u16', at(R9, 4));
  b.mov32(R3, network32((1 << 16) | EtherType.IPV4));
  b.jumpIf(R1, '!=', R3, writer.punt);
  b.jumpIf(R2, '!=', network16(0x0604), writer.punt);
  b.load(R1, 'u8', at(R9, 6));
  b.jumpIf(R1, '!=', 0, writer.punt);
  writer.setSound(Sound.NETWORK);
  if (needs.has(Word.IP)) {
    b.load(R1, 'u8', at(R9, 7));
    b.shl(R1, 24);
    writer.setKey(Word.IP, R1);
  }
  copyWords(writer, 14, Word.IPV4_SOURCE, 1);
  copyWords(writer, 24, Word.IPV4_DESTINATION, 1);
  copyWords(writer, 8, Word.ARP_MAC, 1);
  if (needs.has(Word.ARP_MAC + 1)) {
    b.loadNetwork(R1, 'u16', at(R9, 12));
    b.shl(R1, 16);
    b.loadNetwork(R2, 'u16', at(R9, 18));
    b.or(R1, R2);
    writer.setKey(Word.ARP_MAC + 1, R1);
  }
  copyWords(writer, 20, Word.ARP_MAC + 2, 1);
}

/** Label stacks of as many entries as the key holds; deeper ones go up. */
function mpls(writer: ProgramWriter, done: Label): void {
  const { b } = writer;
  for (let i = 0; i < MPLS_DEPTH; i += 1) {
    b.needBytes(R9, R8, (i + 1) * 4, R1, writer.punt);
    copyWords(writer, i * 4, Word.MPLS + i, 1);
    b.load(R1, 'u8', at(R9, i * 4 + 2));
    b.and(R1, 1);
    b.block((deeper) => {
      b.jumpIf(R1, '==', 0, deeper);
      b.mov(R2, (1 << (i + 1)) - 1);
      writer.setKey(Word.MPLS_LABELS, R2);
      b.jump(done);
    });
  }
  b.jump(writer.punt);
}
