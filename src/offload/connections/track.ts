/**
 * The function that tracks a packet, as eBPF: it finds the packet's connection, takes it through its protocol as far as that changes no state, and tells
 * state, mark, label and original tuple as words of the flow key. It tells of established connections alone: unknown and new ones, errors, what opens
 * and closes, what a helper reads and what has expired are the engine's, which does all of it (`Tracker` of connections/).
 *
 * Transport checksums are not looked at, as with other fast paths: the receiver does.
 */
import {
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
import {
  ConnectionState,
  ControlWord,
  Direction,
  Kind,
  PARENT_ID_SHIFT,
  PARENT_RECORD,
  POLICY_WORDS,
  RecordWord,
  repliedTimeOut,
  Settings,
  SideFlag,
  STREAM_AT,
  Status,
  TcpWord,
  TIMEOUT_SHIFT,
  TUPLE_WORDS,
  TupleWord,
  unrepliedTimeOut,
} from '../../connections/index.ts';
import { Sound, Word } from '../../flow/index.ts';
import { EtherType, Fragment, IpProtocol } from '../../net/index.ts';
import { LAYER3_MAXIMUM } from '../actions/writer.ts';
import { TrackedWord } from '../layout/sizes.ts';
import type { KeyBits } from '../program/stage.ts';
import { type ConnectionCode, emitNowMs, emitPacket, ofRecord, ofTracked, type TrackSlots, takeSlots } from './code.ts';
import { emitTupleHash } from './hash.ts';
import { emitFind, emitRecord, emitStillThere, orderLoads } from './look-up.ts';
import { TrackRequest, TrackResult } from './request.ts';
import { eitherSide, emitTcp } from './tcp.ts';

/** Bits of the flow key that it reads. */
export const TRACK_KEY: readonly KeyBits[] = [
  [Word.ETH_TYPE, (0xffff_0000 | Sound.NETWORK | Sound.TRANSPORT) >>> 0],
  [Word.IP, 0xff00_00ff],
  [Word.PORTS, 0xffff_ffff],
  ...Array.from({ length: 8 }, (_, i): KeyBits => [Word.IPV6_SOURCE + i, 0xffff_ffff]),
];

/** Headers of IP, without options, and the least of a transport header. */
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const TRANSPORT_BYTES = 8;

const ECHO_TYPES = {
  // Request 8 and answer 0; 128 and 129: the bits that do not tell them apart, and what these are.
  v4: { bits: 0xfff7, value: 0 },
  v6: { bits: 0xfffe, value: 128 },
} as const;

/**
 * Write the function. Its parameters are the context, the CPU's part of `cpus` with the key, where layer 3 begins, the zone, and bits of
 * {@link TrackRequest}; it returns one of {@link TrackResult}, and has told what it found in TrackedWord. It leaves the packet as it is.
 */
export function emitTrackFunction(code: ConnectionCode): FunctionRef {
  return code.b.function('track', () => track(code));
}

/** R6: context. R7: the CPU's part. R8: the transport header. R9: kind, then the record. */
function track(code: ConnectionCode): void {
  const { b } = code;
  const slots = takeSlots(b);
  const up = b.label('the engine tracks it');
  const known = b.label('known');
  b.mov(R6, R1);
  b.mov(R7, R2);
  b.mov(R8, R3);
  b.mov(R9, R4);
  b.store('u32', slots.request, R5);
  emitNowMs(code);
  b.store('u32', slots.now, R0);
  readTuple(code, slots, up);
  takeTranslation(code, slots);
  code.note('the keyed hash of the tuple');
  emitTupleHash(code, slots);
  emitFind(code, slots, up);
  isUsual(code, slots, up);
  goesOn(code, slots, known, up);
  advance(code, slots, up);
  b.place(known);
  tell(code, slots);
  b.return(TrackResult.TRACKED);
  b.place(up);
  b.return(TrackResult.UP);
}

/** The slots of kind, ports, length and layer3 are filled, and R8 becomes the address of the transport header, of which 8 bytes are there. */
function readTuple(code: ConnectionCode, slots: TrackSlots, up: Label): void {
  const { b, key } = code;
  code.note('the tuple of the packet');
  b.load(R1, 'u32', key(Word.ETH_TYPE, R7));
  b.mov(R2, R1);
  b.and(R2, Sound.TRANSPORT);
  b.jumpIf(R2, '==', 0, up);
  b.shr(R1, 16);
  b.load(R2, 'u32', key(Word.IP, R7));
  b.mov(R3, R2);
  b.and(R3, 0xff);
  b.jumpIf(R3, '!=', Fragment.NONE, up);
  b.shr(R2, 24);
  b.and(R9, 0xffff);
  b.shl(R9, 16);
  b.mov(R3, R2);
  b.shl(R3, 8);
  b.or(R9, R3);
  b.or(R9, Kind.LIVE);
  b.store('u32', slots.layer3, R8);
  b.jumpIf(R8, '>', LAYER3_MAXIMUM, up);
  emitPacket(code, R0, R3);
  b.add(R8, R0);
  /** @param lengthAt where its header tells a length, which is R4 less `counted` */
  const network = (headerBytes: number, lengthAt: number, counted: number) => {
    b.needBytes(R8, R3, headerBytes + TRANSPORT_BYTES, R0, up);
    b.loadNetwork(R4, 'u16', at(R8, lengthAt));
    if (counted > 0) b.sub(R4, counted);
    b.add(R8, headerBytes);
  };
  b.if(
    R1,
    '==',
    EtherType.IPV6,
    () => {
      b.or(R9, Kind.IPV6);
      network(IPV6_BYTES, 4, 0);
    },
    () => {
      b.jumpIf(R1, '!=', EtherType.IPV4, up);
      network(IPV4_BYTES, 2, IPV4_BYTES);
    },
  );
  b.store('u32', slots.length, R4);
  b.block((hasPorts) => {
    b.load(R4, 'u32', key(Word.PORTS, R7));
    b.jumpIf(R2, '==', IpProtocol.TCP, hasPorts);
    b.jumpIf(R2, '==', IpProtocol.UDP, hasPorts);
    // Of ICMP the key has type 16 and code 16, and the tuple identifier 16, type 8 and code 8.
    b.mov(R5, R4);
    b.shr(R4, 16);
    b.mov(R3, R4);
    const echo = (protocol: number, { bits, value }: (typeof ECHO_TYPES)['v4' | 'v6']) => {
      b.jumpIf(R2, '!=', protocol, up);
      b.and(R3, bits);
      b.jumpIf(R3, '!=', value, up);
    };
    b.if(
      R1,
      '==',
      EtherType.IPV6,
      () => echo(IpProtocol.ICMPV6, ECHO_TYPES.v6),
      () => echo(IpProtocol.ICMPV4, ECHO_TYPES.v4),
    );
    b.shl(R4, 8);
    b.and(R5, 0xff);
    b.or(R4, R5);
    b.loadNetwork(R5, 'u16', at(R8, 4));
    b.shl(R5, 16);
    b.or(R4, R5);
  });
  b.store('u32', slots.ports, R4);
  // The verifier does not follow what lies in a map: behind this it does not tell versions and protocols apart, and walks the rest once.
  b.store('u32', ofTracked(TrackedWord.KIND, R7), R9);
  b.load(R9, 'u32', ofTracked(TrackedWord.KIND, R7));
  b.store('u32', slots.kind, R9);
  b.mov(R1, R9);
  b.and(R1, Kind.IPV6);
  b.mul(R1, (IPV6_BYTES - IPV4_BYTES) / Kind.IPV6);
  b.load(R8, 'u32', slots.layer3);
  b.jumpIf(R8, '>', LAYER3_MAXIMUM, up);
  b.add(R8, R1);
  emitPacket(code, R0, R3);
  b.add(R8, R0);
  b.add(R8, IPV4_BYTES);
  b.needBytes(R8, R3, TRANSPORT_BYTES, R0, up);
}

/** Behind a ct that translates: addresses in the key and the slot of the ports become those that it has told. */
function takeTranslation({ b, key, note }: ConnectionCode, slots: TrackSlots): void {
  note('as a ct before it in this pass translates it');
  const target = (word: number) => ofTracked(TrackedWord.TARGET + word, R7);
  const take = (keyWord: number, tupleWord: number) => {
    b.load(R1, 'u32', target(tupleWord));
    b.store('u32', key(keyWord, R7), R1);
  };
  b.block((leave) => {
    b.load(R1, 'u32', slots.request);
    b.and(R1, TrackRequest.BEHIND);
    b.jumpIf(R1, '==', 0, leave);
    b.load(R1, 'u32', ofTracked(TrackedWord.TRANSLATES, R7));
    b.jumpIf(R1, '==', 0, leave);
    b.load(R3, 'u32', target(TupleWord.PORTS));
    protocolOf(b, slots, R1);
    b.block((hasPorts) => {
      b.jumpIf(R1, '==', IpProtocol.TCP, hasPorts);
      b.jumpIf(R1, '==', IpProtocol.UDP, hasPorts);
      // Of an echo the identifier is translated; type and code are the packet's own.
      b.shr(R3, 16);
      b.shl(R3, 16);
      b.load(R2, 'u32', slots.ports);
      b.and(R2, 0xffff);
      b.or(R3, R2);
    });
    b.store('u32', slots.ports, R3);
    b.load(R1, 'u32', slots.kind);
    b.and(R1, Kind.IPV6);
    b.if(
      R1,
      '!=',
      0,
      () => {
        for (let i = 0; i < 8; i += 1) take(Word.IPV6_SOURCE + i, TupleWord.SOURCE + i);
      },
      () => {
        take(Word.IPV4_SOURCE, TupleWord.SOURCE);
        take(Word.IPV4_DESTINATION, TupleWord.DESTINATION);
      },
    );
  });
}

/** Goes on with connections that were answered, that no helper watches, and that have not expired. The slots of status and state are filled. */
function isUsual({ b, maps, note }: ConnectionCode, slots: TrackSlots, up: Label): void {
  note('answered, not watched, not expired');
  b.load(R1, 'u32', ofRecord(RecordWord.STATUS));
  b.store('u32', slots.status, R1);
  b.jumpIf(R1, '&', Status.HELPER | Status.SEQUENCE_ADJUSTED, up);
  b.and(R1, Status.SEEN_REPLY);
  b.jumpIf(R1, '==', 0, up);
  b.load(R1, 'u32', ofRecord(RecordWord.SETTINGS));
  b.and(R1, Settings.POLICY);
  b.mul(R1, POLICY_WORDS * 4);
  b.loadMapValue(R2, maps.control);
  b.add(R2, R1);
  b.load(R1, 'u32', ofRecord(RecordWord.STATE));
  b.store('u32', slots.state, R1);
  b.shr(R1, TIMEOUT_SHIFT);
  b.and(R1, 0xff);
  b.shl(R1, 2);
  b.add(R2, R1);
  b.load(R1, 'u32', at(R2, ControlWord.POLICIES * 4));
  b.load(R0, 'u32', slots.now);
  b.load(R3, 'u32', ofRecord(RecordWord.LAST_SEEN));
  b.sub32(R0, R3);
  b.jumpIf32(R0, 's>=', R1, up);
}

/** What the request says of the connection; a packet that the same zone has seen before does not go through the protocol again. */
function goesOn({ b }: ConnectionCode, slots: TrackSlots, known: Label, up: Label): void {
  b.load(R1, 'u32', slots.request);
  b.block((free) => {
    b.mov(R2, R1);
    b.and(R2, TrackRequest.FORCED);
    b.jumpIf(R2, '==', 0, free);
    b.load(R2, 'u64', slots.entry);
    b.jumpIf(R2, '&', Direction.REPLY, up);
  });
  b.block((strict) => {
    b.mov(R2, R1);
    b.and(R2, TrackRequest.LIBERAL);
    b.jumpIf(R2, '==', 0, strict);
    protocolOf(b, slots, R2);
    b.jumpIf(R2, '!=', IpProtocol.TCP, strict);
    b.load(R2, 'u32', ofRecord(TcpWord.OPTIONS));
    b.and(R2, eitherSide(SideFlag.LIBERAL));
    b.jumpIf(R2, '!=', eitherSide(SideFlag.LIBERAL), up);
  });
  b.block((first) => {
    b.and(R1, TrackRequest.GOES_ON | TrackRequest.ANEW);
    b.jumpIf(R1, '!=', TrackRequest.GOES_ON, first);
    b.load(R1, 'u32', ofTracked(TrackedWord.KEY, R7));
    b.mov(R2, R1);
    b.shr(R2, STATE_SHIFT);
    b.mov(R3, R2);
    b.and(R3, ConnectionState.TRACKED);
    b.jumpIf(R3, '==', 0, first);
    b.and(R1, 0xffff);
    b.load(R3, 'u32', slots.kind);
    b.shr(R3, 16);
    b.jumpIf(R1, '!=', R3, first);
    // Its tuple is not the one by which the connection is found.
    b.jumpIf(R2, '&', ConnectionState.NAT | ConnectionState.INVALID, up);
    b.jump(known);
  });
}

/** Where the state lies in the key's word about connections. */
const STATE_SHIFT = 24;

function protocolOf(b: ConnectionCode['b'], { kind }: TrackSlots, dst: Register): void {
  b.load(dst, 'u32', kind);
  b.shr(dst, 8);
  b.and(dst, 0xff);
}

/** The packet goes through its protocol, and the connection lasts longer. */
function advance(code: ConnectionCode, slots: TrackSlots, up: Label): void {
  const { b } = code;
  const stateOf = (place: number) => b.mov(R2, place << TIMEOUT_SHIFT);
  protocolOf(b, slots, R1);
  b.switch(
    R1,
    [
      [IpProtocol.TCP, () => emitTcp(code, slots, up)],
      [
        IpProtocol.UDP,
        () => {
          code.note('UDP: a stream, or questions and answers');
          stateOf(unrepliedTimeOut(IpProtocol.UDP, false));
          b.load(R0, 'u32', slots.now);
          b.load(R1, 'u32', ofRecord(STREAM_AT));
          b.sub32(R0, R1);
          b.if32(R0, 's>', 0, () => {
            b.load(R1, 'u32', slots.status);
            b.and(R1, Status.ASSURED);
            b.jumpIf(R1, '==', 0, up);
            stateOf(repliedTimeOut(IpProtocol.UDP, false));
          });
        },
      ],
      [IpProtocol.ICMPV6, () => stateOf(repliedTimeOut(IpProtocol.ICMPV6, true))],
    ],
    () => stateOf(repliedTimeOut(IpProtocol.ICMPV4, false)),
  );
  emitStillThere(code, slots, up);
  b.block((decided) => {
    b.load(R1, 'u32', slots.state);
    b.if(R1, '!=', R2, () => {
      // What the engine has decided meanwhile, by a reset or the end of a direction, holds.
      b.mov(R0, R1);
      b.atomic('cmpxchg', 'u32', ofRecord(RecordWord.STATE), R2);
      b.jumpIf(R0, '!=', R1, decided);
    });
    b.load(R0, 'u32', slots.now);
    b.load(R1, 'u32', ofRecord(RecordWord.LAST_SEEN));
    b.mov32(R2, R0);
    b.sub32(R2, R1);
    // The engine's clock is finer, and may be ahead.
    b.if32(R2, 's>', 0, () => b.store('u32', ofRecord(RecordWord.LAST_SEEN), R0));
  });
}

/** All words of TrackedWord. */
function tell(code: ConnectionCode, slots: TrackSlots): void {
  const { b } = code;
  code.note('what is told of the packet');
  b.load(R1, 'u64', slots.entry);
  b.and(R1, 1);
  b.mov(R0, ConnectionState.TRACKED | ConnectionState.ESTABLISHED);
  b.load(R2, 'u32', ofRecord(RecordWord.PARENT));
  b.if(R2, '!=', 0, () => b.or(R0, ConnectionState.RELATED));
  translation(code, slots);
  b.load(R1, 'u64', slots.entry);
  b.and(R1, 1);
  b.mul(R1, ConnectionState.REPLY);
  b.or(R0, R1);
  const words = { from: RecordWord.MARK, to: TrackedWord.KEY + Word.CT_MARK - Word.CT, count: 5 };
  copyWords(code, R9, words.from, words.to, words.count);
  originalTuple(code, slots);
}

/** Copy words from behind an address to what is told. Uses R1. */
function copyWords({ b }: ConnectionCode, base: Register, from: number, to: number, count: number): void {
  for (let i = 0; i < count; i += 1) {
    b.load(R1, 'u32', at(base, (from + i) * 4));
    b.store('u32', ofTracked(to + i, R7), R1);
  }
}

/** The tuple that the packet is to have: the inverse of the other direction's. The state in R0 gets its bits; R1 is the direction. Uses R1 to R4. */
function translation(code: ConnectionCode, slots: TrackSlots): void {
  const { b } = code;
  b.load(R2, 'u32', slots.request);
  b.block((stays) => {
    b.jumpIf(R2, '&', TrackRequest.BEHIND, stays);
    b.store('u32', ofTracked(TrackedWord.TRANSLATES, R7), 0);
  });
  b.block((leave) => {
    b.and(R2, TrackRequest.TRANSLATES);
    b.jumpIf(R2, '==', 0, leave);
    b.load(R2, 'u32', slots.status);
    b.and(R2, Status.SOURCE_NAT | Status.DESTINATION_NAT);
    b.jumpIf(R2, '==', 0, leave);
    b.store('u32', ofTracked(TrackedWord.TRANSLATES, R7), 1);
    // R4: the record, moved so that what is at the place of the original tuple is that of the other direction. R3: its ports.
    b.mov(R4, R9);
    b.if(
      R1,
      '==',
      Direction.ORIGINAL,
      () => {
        // What is translated is told by bits in the same order as those of the status.
        b.mul(R2, ConnectionState.SOURCE_NAT / Status.SOURCE_NAT);
        b.load(R3, 'u32', ofRecord(RecordWord.REPLY));
        b.add(R4, TUPLE_WORDS * 4);
      },
      () => {
        // The source one way is the destination the other way.
        b.mov(R3, R2);
        b.and(R3, Status.SOURCE_NAT);
        b.mul(R3, ConnectionState.DESTINATION_NAT / Status.SOURCE_NAT);
        b.and(R2, Status.DESTINATION_NAT);
        b.mul(R2, ConnectionState.SOURCE_NAT / Status.DESTINATION_NAT);
        b.or(R2, R3);
        b.load(R3, 'u32', slots.originalPorts);
      },
    );
    b.or(R0, R2);
    b.block((isIcmp) => {
      protocolOf(b, slots, R1);
      b.jumpIf(R1, '==', IpProtocol.ICMPV4, isIcmp);
      b.jumpIf(R1, '==', IpProtocol.ICMPV6, isIcmp);
      b.mov(R1, R3);
      b.shr(R1, 16);
      b.shl(R3, 16);
      b.or(R3, R1);
    });
    b.store('u32', ofTracked(TrackedWord.TARGET + TupleWord.PORTS, R7), R3);
    const { SOURCE, DESTINATION } = TupleWord;
    const words = DESTINATION - SOURCE;
    copyWords(code, R4, RecordWord.ORIGINAL + DESTINATION, TrackedWord.TARGET + SOURCE, words);
    copyWords(code, R4, RecordWord.ORIGINAL + SOURCE, TrackedWord.TARGET + DESTINATION, words);
  });
}

/** The original tuple, or that of the connection that has announced this one; and the first word, of which R0 is the state. Uses R1 to R5. */
function originalTuple(code: ConnectionCode, slots: TrackSlots): void {
  const { b, maps } = code;
  // R4: whose tuple it is. R3: its ports. R5: its kind.
  b.mov(R4, R9);
  b.load(R3, 'u32', slots.originalPorts);
  b.load(R5, 'u32', slots.kind);
  b.block((leave) => {
    b.load(R2, 'u32', ofRecord(RecordWord.PARENT));
    b.jumpIf(R2, '==', 0, leave);
    b.mov(R1, R2);
    b.and(R1, PARENT_RECORD);
    b.jumpIf(R1, '>', maps.capacity, leave);
    const parent = b.stack(8);
    emitRecord(b, maps.records, R4, R1);
    b.store('u64', parent, R4);
    b.load(R1, 'u32', at(R4, RecordWord.ORIGINAL * 4));
    b.store('u32', slots.ports, R1);
    orderLoads(b, slots);
    b.load(R1, 'u32', at(R4, RecordWord.KIND * 4));
    b.load(R4, 'u32', at(R4, RecordWord.ID * 4));
    b.shl32(R4, PARENT_ID_SHIFT);
    b.xor32(R4, R2);
    b.shr32(R4, PARENT_ID_SHIFT);
    b.mov(R2, R4);
    b.mov(R4, R9);
    b.jumpIf(R2, '!=', 0, leave);
    b.mov(R2, R1);
    b.and(R2, Kind.LIVE);
    b.jumpIf(R2, '==', 0, leave);
    // The word has few bits of the id: it is the parent if it has a helper, in the same zone.
    b.mov(R2, R1);
    b.xor(R2, R5);
    b.shr(R2, 16);
    b.jumpIf(R2, '!=', 0, leave);
    b.load(R2, 'u64', parent);
    b.load(R2, 'u32', at(R2, RecordWord.STATUS * 4));
    b.and(R2, Status.HELPER);
    b.jumpIf(R2, '==', 0, leave);
    b.mov(R5, R1);
    b.load(R3, 'u32', slots.ports);
    b.load(R4, 'u64', parent);
  });
  const word = (keyWord: number) => ofTracked(TrackedWord.KEY + keyWord - Word.CT, R7);
  // One of the other IP version has no place in the key.
  const isOther = b.label('of the other IP version');
  const told = b.label('told');
  b.shl(R0, STATE_SHIFT);
  b.load(R1, 'u32', slots.kind);
  b.xor(R1, R5);
  b.jumpIf(R1, '&', Kind.IPV6, isOther);
  // state 8 | protocol 8 | zone 16
  b.mov(R1, R5);
  b.shl(R1, 8);
  b.and(R1, 0xff_0000);
  b.or(R0, R1);
  b.load(R1, 'u32', slots.kind);
  b.shr(R1, 16);
  b.or(R0, R1);
  b.store('u32', word(Word.CT), R0);
  b.block((hasPorts) => {
    const isIcmp = b.label('ICMP');
    b.mov(R1, R5);
    b.shr(R1, 8);
    b.and(R1, 0xff);
    b.jumpIf(R1, '==', IpProtocol.ICMPV4, isIcmp);
    b.jumpIf(R1, '!=', IpProtocol.ICMPV6, hasPorts);
    b.place(isIcmp);
    // Type and code in the places of the ports.
    b.mov(R1, R3);
    b.and(R1, 0xff);
    b.shl(R3, 8);
    b.and(R3, 0xff_0000);
    b.or(R3, R1);
  });
  b.store('u32', word(Word.CT_PORTS), R3);
  const { SOURCE, DESTINATION } = TupleWord;
  const tuple = TrackedWord.KEY + Word.CT_SOURCE - Word.CT;
  b.and(R5, Kind.IPV6);
  b.if(
    R5,
    '!=',
    0,
    () => copyWords(code, R4, RecordWord.ORIGINAL + SOURCE, tuple, 8),
    () => {
      copyWords(code, R4, RecordWord.ORIGINAL + SOURCE, tuple, 1);
      copyWords(code, R4, RecordWord.ORIGINAL + DESTINATION, tuple + 1, 1);
      for (let i = 2; i < 8; i += 1) b.store('u32', ofTracked(tuple + i, R7), 0);
    },
  );
  b.jump(told);

  b.place(isOther);
  b.load(R1, 'u32', slots.kind);
  b.shr(R1, 16);
  b.or(R0, R1);
  b.store('u32', word(Word.CT), R0);
  for (let i = Word.CT_PORTS; i < Word.L2; i += 1) b.store('u32', word(i), 0);
  b.place(told);
}
