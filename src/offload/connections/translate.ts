/**
 * The function that translates a packet, as eBPF: addresses and ports become those of the tuple that track.ts has told, and checksums follow, as in
 * connections/rewrite.ts. At tc by the kernel's helpers, which know of partial checksums and shared buffers; at xdp in the packet.
 */
import {
  type Address,
  at,
  type FunctionRef,
  type Label,
  R0,
  R1,
  R2,
  R3,
  R4,
  R5,
  R6,
  R7,
  R8,
  R9,
  type Register,
} from '../../bpf/index.ts';
import { TupleWord } from '../../connections/index.ts';
import { Word } from '../../flow/index.ts';
import { EtherType, IpProtocol } from '../../net/index.ts';
import { difference, fold32, MANGLED_0, PSEUDO_HEADER, TRANSPORT, updateSum } from '../actions/sums.ts';
import { LAYER3_MAXIMUM, RECOMPUTE } from '../actions/writer.ts';
import { TrackedWord } from '../layout/sizes.ts';
import { type ConnectionCode, emitPacket, ofTracked } from './code.ts';

/** What the function returns. */
export const TranslateResult = {
  DONE: 0,
  /** There was no memory, and the packet is as it was. */
  UNCHANGED: 1,
  /** There was no memory, and a part of the packet is changed already. */
  BROKEN: 2,
} as const;

/** The headers of one IP version: bytes, and where addresses begin. IPv4's checksum lies right before them. */
const VERSIONS = {
  4: { headerBytes: 20, addressesAt: 12, words: 1, checksumAt: 10 },
  6: { headerBytes: 40, addressesAt: 8, words: 4, checksumAt: -1 },
} as const;
type Version = keyof typeof VERSIONS;

/** Where the identifier of an ICMP echo lies, and its checksum. */
const IcmpByte = { CHECKSUM: 2, IDENTIFIER: 4 } as const;
const ECHO_BYTES = 8;

/**
 * Write the function. Its parameters are the context, the CPU's part of `cpus` with the key and what tracking has told, and where layer 3 begins; it returns
 * one of {@link TranslateResult}. The packet is the one that was tracked, and has not changed since in what the tuple is read from.
 */
export function emitTranslateFunction(code: ConnectionCode): FunctionRef {
  return code.b.function('translate', () => translate(code));
}

/** R6: context. R7: the CPU's part. R8: layer 3, an offset at tc and an address at xdp. R9: what addresses change in sums, in the packet's byte order. */
function translate(code: ConnectionCode): void {
  const { b, key } = code;
  code.note('translate');
  const unchanged = b.label('as it was');
  const broken = b.label('changed in part');
  b.mov(R6, R1);
  b.mov(R7, R2);
  b.mov(R8, R3);
  b.jumpIf(R8, '>', LAYER3_MAXIMUM, unchanged);
  if (code.hook === 'xdp') {
    emitPacket(code, R1, R2);
    b.add(R8, R1);
  }
  b.load(R1, 'u32', key(Word.ETH_TYPE, R7));
  b.shr(R1, 16);
  b.if(
    R1,
    '==',
    EtherType.IPV6,
    () => version(code, 6, unchanged, broken),
    () => version(code, 4, unchanged, broken),
  );
  b.return(TranslateResult.DONE);
  b.placeIfUsed(broken);
  if (b.reachable) b.return(TranslateResult.BROKEN);
  b.place(unchanged);
  b.return(TranslateResult.UNCHANGED);
}

function version(code: ConnectionCode, which: Version, unchanged: Label, broken: Label): void {
  const { b, key } = code;
  if (code.hook === 'tc') addressesAtTc(code, which, unchanged);
  else {
    emitPacket(code, R1, R2);
    b.needBytes(R8, R2, VERSIONS[which].headerBytes + ECHO_BYTES, R1, unchanged);
    changeAddresses(code, which, (offset) => at(R8, offset));
    b.mov(R9, R4);
  }
  const icmp = which === 4 ? IpProtocol.ICMPV4 : IpProtocol.ICMPV6;
  b.load(R1, 'u32', key(Word.IP, R7));
  b.shr(R1, 24);
  const transport = (of: 'tcp' | 'udp') => () => changePorts(code, which, of, broken);
  b.switch(R1, [
    [IpProtocol.TCP, transport('tcp')],
    [IpProtocol.UDP, transport('udp')],
    [icmp, () => changeIdentifier(code, which, broken)],
  ]);
}

/** Addresses as `place` finds them, and IPv4's checksum. R4 becomes what they change. Uses R1 to R3 and R5. */
function changeAddresses(code: ConnectionCode, which: Version, place: (offset: number) => Address): void {
  const { b } = code;
  const { addressesAt, words, checksumAt } = VERSIONS[which];
  b.mov(R4, 0);
  b.mov(R5, 0);
  for (const [side, from] of [TupleWord.SOURCE, TupleWord.DESTINATION].entries()) {
    for (let i = 0; i < words; i += 1) {
      b.block((leave) => {
        const field = place(addressesAt + (side * words + i) * 4);
        b.load(R1, 'u32', field);
        b.loadNetwork(R2, 'u32', ofTracked(TrackedWord.TARGET + from + i, R7));
        b.jumpIf(R1, '==', R2, leave);
        b.store('u32', field, R2);
        difference(b, 32, which === 4 ? [R5, R4] : [R4]);
      });
    }
  }
  if (checksumAt !== -1) updateSum(b, place(checksumAt), R5, false);
}

/** tc: the same in a copy of the header, which is stored back. R9 becomes what they change, in 32 bits. */
function addressesAtTc(code: ConnectionCode, which: Version, unchanged: Label): void {
  const { b } = code;
  const { headerBytes, addressesAt } = VERSIONS[which];
  // From the checksum of IPv4 on.
  const from = which === 4 ? addressesAt - 4 : addressesAt;
  const bytes = headerBytes - from;
  b.scope(() => {
    const copy = b.stack(bytes, 8);
    b.mov(R2, R8);
    b.add(R2, from);
    b.call('skb_load_bytes', R6, R2, copy, bytes);
    b.jumpIf(R0, '!=', 0, unchanged);
    changeAddresses(code, which, (offset) => copy.at(offset - from));
    fold32(b, R4, R1);
    b.mov(R9, R4);
    b.block((leave) => {
      b.jumpIf(R9, '==', 0, leave);
      b.mov(R2, R8);
      b.add(R2, from);
      b.call('skb_store_bytes', R6, R2, copy, bytes, which === 4 ? 0 : RECOMPUTE);
      b.jumpIf(R0, '!=', 0, unchanged);
    });
  });
}

/** Ports, and the checksum of TCP or UDP for all that has changed. */
function changePorts(code: ConnectionCode, which: Version, of: 'tcp' | 'udp', broken: Label): void {
  const { b } = code;
  const { headerBytes } = VERSIONS[which];
  const { field, bytes } = TRANSPORT[of];
  const isUdp = of === 'udp';
  const target = ofTracked(TrackedWord.TARGET + TupleWord.PORTS, R7);
  if (code.hook === 'xdp') {
    emitPacket(code, R1, R2);
    b.needBytes(R8, R2, headerBytes + bytes, R1, broken);
    b.load(R1, 'u32', at(R8, headerBytes));
    b.loadNetwork(R2, 'u32', target);
    b.if(R1, '!=', R2, () => {
      b.store('u32', at(R8, headerBytes), R2);
      difference(b, 32, [R9]);
    });
    updateSum(b, at(R8, headerBytes + field), R9, isUdp);
    return;
  }
  const mangled = isUdp ? MANGLED_0 : 0;
  replaceSum(code, headerBytes + field, R9, PSEUDO_HEADER | mangled, broken);
  b.block((leave) => {
    // With the checksum of UDP.
    const ports = b.stack(8);
    b.mov(R2, R8);
    b.add(R2, headerBytes);
    b.call('skb_load_bytes', R6, R2, ports, isUdp ? 8 : 4);
    b.jumpIf(R0, '!=', 0, broken);
    b.load(R1, 'u32', ports);
    b.loadNetwork(R2, 'u32', target);
    b.jumpIf(R1, '==', R2, leave);
    b.store('u32', ports, R2);
    b.mov(R9, 0);
    difference(b, 32, [R9]);
    fold32(b, R9, R1);
    b.mov(R5, 0);
    if (isUdp) {
      // Without a checksum that makes up for the change the sum over all of the packet has to follow.
      b.load(R1, 'u16', ports.at(field));
      b.if(R1, '==', 0, () => b.mov(R5, RECOMPUTE));
    }
    b.mov(R2, R8);
    b.add(R2, headerBytes);
    b.call('skb_store_bytes', R6, R2, ports, 4, R5);
    b.jumpIf(R0, '!=', 0, broken);
    replaceSum(code, headerBytes + field, R9, mangled, broken);
  });
}

/** The identifier of an echo, and the checksum: under IPv6 it covers the addresses. */
function changeIdentifier(code: ConnectionCode, which: Version, broken: Label): void {
  const { b } = code;
  const { headerBytes } = VERSIONS[which];
  const fieldAt = headerBytes + IcmpByte.IDENTIFIER;
  const sumAt = headerBytes + IcmpByte.CHECKSUM;
  /** R2: as it is to be, in the packet's order. */
  const wanted = () => {
    b.load(R2, 'u32', ofTracked(TrackedWord.TARGET + TupleWord.PORTS, R7));
    b.shr(R2, 16);
    b.toBigEndian(R2, 16);
  };
  if (code.hook === 'xdp') {
    if (which === 4) b.mov(R9, 0);
    emitPacket(code, R1, R2);
    b.needBytes(R8, R2, headerBytes + ECHO_BYTES, R1, broken);
    b.load(R1, 'u16', at(R8, fieldAt));
    wanted();
    b.if(R1, '!=', R2, () => {
      b.store('u16', at(R8, fieldAt), R2);
      difference(b, 16, [R9]);
    });
    updateSum(b, at(R8, sumAt), R9, false);
    return;
  }
  if (which === 6) replaceSum(code, sumAt, R9, PSEUDO_HEADER, broken);
  b.block((leave) => {
    const identifier = b.stack(8);
    b.mov(R2, R8);
    b.add(R2, fieldAt);
    b.call('skb_load_bytes', R6, R2, identifier, 2);
    b.jumpIf(R0, '!=', 0, broken);
    b.load(R1, 'u16', identifier);
    wanted();
    b.jumpIf(R1, '==', R2, leave);
    b.store('u16', identifier, R2);
    b.mov(R9, 0);
    difference(b, 16, [R9]);
    b.mov(R2, R8);
    b.add(R2, fieldAt);
    b.call('skb_store_bytes', R6, R2, identifier, 2, 0);
    b.jumpIf(R0, '!=', 0, broken);
    replaceSum(code, sumAt, R9, 0, broken);
  });
}

/** tc: update a transport checksum, which may be partial, by a difference, if there is one. */
function replaceSum({ b }: ConnectionCode, field: number, sum: Register, flags: number, broken: Label): void {
  b.if(sum, '!=', 0, () => {
    b.mov(R2, R8);
    b.add(R2, field);
    b.call('l4_csum_replace', R6, R2, 0, sum, flags);
    b.jumpIf(R0, '!=', 0, broken);
  });
}
