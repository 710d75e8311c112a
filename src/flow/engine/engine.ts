/**
 * The action engine: runs one action list over one packet. It changes packets in place for as long as nobody else holds them
 * and copies at the first change after somebody does, so that outputs share the bytes that no later action changes.
 * Recirculated packets wait in a queue for the datapath to look them up; lists inside lists run at once.
 */
import {
  Checksum,
  type ClonePool,
  copyPacket,
  EtherType,
  Gso,
  IpProtocol,
  Packet,
  type PacketPool,
  Region,
} from '../../net/index.ts';
import { Action, actionLength, actionType, HashAlgorithm, MPLS_L3_TUNNEL } from '../actions/encoding.ts';
import { Extraction, extract } from '../key/extract.ts';
import { FlowKey } from '../key/key.ts';
import { Word } from '../key/layout.ts';
import { HashSecret, hashMasked } from '../table/hash.ts';
import { DeferredQueue } from './deferred.ts';
import { Drop, DropCounters, MAXIMUM_DEFERRED, MAXIMUM_RECIRCULATIONS } from './drops.ts';
import { CtVerdict, type FlowHooks, type PacketContext } from './hooks.ts';
import {
  ETHERNET_BYTES,
  hasTag,
  LABEL_BYTES,
  NSH_BASE_BYTES,
  popEthernet,
  popMpls,
  popNsh,
  popVlan,
  pushEthernet,
  pushMpls,
  pushNsh,
  pushVlan,
  TAG_BYTES,
} from './push-pop.ts';
import { applySet, changesPacket } from './rewrite.ts';
import { readTtl, writeTtl } from './rewrite-ip.ts';

/** No limit on the length of the next output. */
const WHOLE = 0x7fff_ffff;

/** The words that a connection's hash goes by: addresses, protocol, ports; the IPv6 ones come after. */
const HASH_WORDS = Int32Array.from({ length: 10 }, (_, i) =>
  i < 2 ? [Word.PORTS, Word.IP][i] : Word.IPV4_SOURCE + i - 2,
);
const HASH_MASKS = Int32Array.from({ length: 10 }, (_, i) => (i === 1 ? 0xff00_0000 | 0 : -1));

export interface EngineOptions {
  /** Buffers for copies. Packets longer than these go to `largePool`, or are dropped where a copy is needed. */
  pool: PacketPool;
  largePool?: PacketPool;
  /** Descriptors for truncated outputs. */
  clones: ClonePool;
  /** Seed of the numbers that sample actions draw; random when left out. */
  sampleSeed?: number;
  /** The secret of the hash action, for tests of two that must hash alike; random when left out. */
  hashSeed?: readonly [number, number];
}

export class ActionEngine implements PacketContext {
  /** What is being worked on; of use inside hooks only. */
  packet: Packet;
  key: FlowKey;
  readonly drops = new DropCounters();
  /** The secret of the hash action: whoever runs it elsewhere for the same packets needs the same. */
  readonly hashSecret: HashSecret;
  /** Packets that wait for their next look-up. */
  readonly deferred = new DeferredQueue();

  readonly #hooks: FlowHooks;
  readonly #pool: PacketPool;
  readonly #largePool: PacketPool | null;
  readonly #clones: ClonePool;
  /** Keys of lists inside lists: a stack that grows to the deepest nesting ever seen and stays. */
  readonly #keys: FlowKey[] = [];
  #keysInUse = 0;
  /** Bounds of the whole list, for userspace actions; reused. */
  readonly #bounds = { from: 0, end: 0 };
  /** Most bytes of the next output. */
  #limit = WHOLE;
  #deferredCount = 0;
  /** What became of the received packet and its copies so far: how many went somewhere, how many were dropped, and why the last. */
  #sent = 0;
  #dropped = 0;
  #reason = 0;
  /** Grows with all of that, and with each packet that waits for another look-up. */
  #events = 0;
  #random: number;

  constructor(hooks: FlowHooks, options: EngineOptions) {
    this.#hooks = hooks;
    this.#pool = options.pool;
    this.#largePool = options.largePool ?? null;
    this.#clones = options.clones;
    this.hashSecret = new HashSecret(options.hashSeed);
    this.#random = (options.sampleSeed ?? Math.floor(Math.random() * 0xffff_ffff)) | 1;
    this.packet = new Packet({ recycle: () => {} }, new Region(new ArrayBuffer(0)), 0);
    this.key = new FlowKey();
  }

  /** A received packet begins: what it leads to is counted anew. */
  begin(): void {
    this.#deferredCount = 0;
    this.#sent = 0;
    this.#dropped = 0;
    this.#reason = 0;
  }

  /** What became of the packet that began: 0 when it or a copy went somewhere, else the reason of its last drop. */
  get fate(): number {
    return this.#sent > 0 ? 0 : this.#reason;
  }

  /** The packet, or a copy, goes somewhere. {@link refuse} takes it back. */
  sent(): void {
    this.#sent += 1;
    this.#events += 1;
  }

  /** A hook could not send what it was called to send. */
  refuse(packet: Packet, reason: number): void {
    this.#sent -= 1;
    this.#count(packet, reason);
  }

  /**
   * Run a list. The packet's reference is the engine's from here on, and the key is changed with the packet. A hook may call
   * this for another packet meanwhile.
   * @param words where the list lies, from `from` to `end`; it was validated and does not change meanwhile
   */
  run(packet: Packet, key: FlowKey, words: Int32Array, from: number, end: number): void {
    const outerPacket = this.packet;
    const outerKey = this.key;
    const outerLimit = this.#limit;
    const outerFrom = this.#bounds.from;
    const outerEnd = this.#bounds.end;
    this.packet = packet;
    this.key = key;
    this.#limit = WHOLE;
    this.#bounds.from = from;
    this.#bounds.end = end;
    // A hook that throws leaves no packet behind and no state of its run.
    try {
      const events = this.#events;
      this.#list(words, from, end);
      if (this.#events === events) this.#drop(Drop.FLOW);
    } finally {
      this.packet.release();
      this.packet = outerPacket;
      this.key = outerKey;
      this.#limit = outerLimit;
      this.#bounds.from = outerFrom;
      this.#bounds.end = outerEnd;
    }
  }

  /** A key to work with until {@link returnKey}: keys are lent and returned like a stack. */
  borrowKey(): FlowKey {
    let key = this.#keys[this.#keysInUse];
    if (key === undefined) {
      key = new FlowKey();
      this.#keys.push(key);
    }
    this.#keysInUse += 1;
    return key;
  }

  returnKey(): void {
    this.#keysInUse -= 1;
  }

  /** Count a drop of a packet and release it. */
  discard(packet: Packet, reason: number): void {
    this.#count(packet, reason);
    packet.release();
  }

  #count(packet: Packet, reason: number): void {
    this.#dropped += 1;
    this.#events += 1;
    this.#reason = reason;
    this.drops.count(reason);
    this.#hooks.dropped?.(packet, reason);
  }

  /** See {@link PacketContext.writable}. */
  writable(headroomBytes: number): boolean {
    const packet = this.packet;
    if (packet.references === 1 && packet.parent === null && packet.offset - packet.headroomStart >= headroomBytes) {
      return true;
    }
    let copy = copyPacket(packet, this.#pool);
    if (copy === null && this.#largePool !== null) copy = copyPacket(packet, this.#largePool);
    if (copy === null) return this.#drop(Drop.NO_BUFFER);
    if (copy.offset - copy.headroomStart < headroomBytes) {
      copy.release();
      return this.#drop(Drop.NO_BUFFER);
    }
    packet.release();
    this.packet = copy;
    return true;
  }

  /** Count a drop of the current packet; the list it is in ends. Always false. */
  #drop(reason: number): false {
    this.#count(this.packet, reason);
    return false;
  }

  /** Run actions over the current packet until their end or until the packet is gone. */
  #list(words: Int32Array, from: number, end: number): void {
    let at = from;
    while (at < end) {
      const length = actionLength(words[at]);
      if (length === 0) {
        this.#drop(Drop.ACTION_UNKNOWN);
        return;
      }
      const next = at + length;
      if (!this.#one(words, at, next, next >= end)) return;
      at = next;
    }
  }

  /** @returns false when nothing is left to do for this packet in this list */
  #one(words: Int32Array, at: number, end: number, isLast: boolean): boolean {
    const first = words[at + 1];
    switch (actionType(words[at])) {
      case Action.OUTPUT:
        return this.#output(first >>> 0);
      case Action.SET:
      case Action.SET_MASKED:
        if (changesPacket(first) && !this.writable(0)) return false;
        return applySet(this.packet, this.key, words, at, end) || this.#drop(Drop.HEADER_MISSING);
      case Action.PUSH_VLAN:
        if (!this.writable(TAG_BYTES)) return false;
        return pushVlan(this.packet, this.key, first) || this.#drop(Drop.HEADER_MISSING);
      case Action.POP_VLAN:
        if (!hasTag(this.packet)) return true;
        if (!this.writable(0)) return false;
        return popVlan(this.packet, this.key) || this.#drop(Drop.HEADER_MISSING);
      case Action.RECIRC:
        return this.#recirculate(first);
      case Action.USERSPACE:
        this.sent();
        if (this.#hooks.userspace === undefined) this.refuse(this.packet, Drop.UPCALL_LOST);
        this.#hooks.userspace?.(
          this.packet,
          this.key,
          words,
          at,
          this.#bounds,
          Math.min(this.packet.length, this.#limit),
        );
        this.#limit = WHOLE;
        return true;
      case Action.SAMPLE:
        if (first !== -1 && this.#nextRandom() >>> 0 >= first >>> 0) return true;
        return this.#nested(words, at + 2, end, isLast);
      case Action.CLONE:
        return this.#nested(words, at + 1, end, isLast);
      case Action.CHECK_PKT_LEN: {
        const middle = at + 3 + words[at + 2];
        if (this.#segmentBytes() <= first) return this.#nested(words, middle, end, isLast);
        return this.#nested(words, at + 3, middle, isLast);
      }
      case Action.DEC_TTL:
        return this.#decTtl(words, at, end);
      case Action.HASH:
        this.key.words[Word.DP_HASH] = this.#hash(first, words[at + 2]);
        return true;
      case Action.TRUNC:
        this.#limit = first >>> 0 < WHOLE ? first : WHOLE;
        return true;
      case Action.METER:
        if (this.#hooks.meter === undefined || this.#hooks.meter(first >>> 0, this.packet, this.key)) return true;
        return this.#drop(Drop.METER);
      case Action.CT:
        return this.#track(words, at);
      case Action.CT_CLEAR:
        this.#hooks.trackClear?.(this.packet, this.key);
        for (let i = Word.CT; i < Word.L2; i += 1) this.key.words[i] = 0;
        return true;
      case Action.DROP:
        return this.#drop(first === 0 ? Drop.EXPLICIT : Drop.EXPLICIT_ERROR);
      default:
        return this.#pushOrPop(words, at);
    }
  }

  #pushOrPop(words: Int32Array, at: number): boolean {
    const first = words[at + 1];
    switch (actionType(words[at])) {
      case Action.PUSH_MPLS:
      case Action.ADD_MPLS: {
        if (!this.writable(LABEL_BYTES)) return false;
        const beforeL3 = actionType(words[at]) === Action.PUSH_MPLS || (words[at + 3] & MPLS_L3_TUNNEL) !== 0;
        return pushMpls(this.packet, this.key, first, words[at + 2], beforeL3) || this.#drop(Drop.HEADER_MISSING);
      }
      case Action.POP_MPLS:
        if (!this.writable(0)) return false;
        return popMpls(this.packet, this.key, first) || this.#drop(Drop.HEADER_MISSING);
      case Action.PUSH_ETH:
        if (!this.writable(ETHERNET_BYTES)) return false;
        return pushEthernet(this.packet, this.key, words, at + 1) || this.#drop(Drop.HEADER_MISSING);
      case Action.POP_ETH:
        if (!this.writable(0)) return false;
        return popEthernet(this.packet, this.key) || this.#drop(Drop.HEADER_MISSING);
      case Action.PUSH_NSH:
        if (!this.writable(NSH_BASE_BYTES + (((words[at + 3] + 3) >>> 2) << 2))) return false;
        return pushNsh(this.packet, this.key, words, at) || this.#drop(Drop.HEADER_MISSING);
      case Action.POP_NSH:
        if (!this.writable(0)) return false;
        return popNsh(this.packet, this.key) || this.#drop(Drop.HEADER_MISSING);
      default:
        return this.#drop(Drop.ACTION_UNKNOWN);
    }
  }

  #output(port: number): boolean {
    const packet = this.packet;
    if (this.#limit >= packet.length) {
      this.#limit = WHOLE;
      this.sent();
      this.#hooks.output(packet, port, this.key);
      return true;
    }
    const clone = this.#clones.clone(packet);
    const limit = this.#limit;
    this.#limit = WHOLE;
    if (clone === null) {
      this.#drop(Drop.NO_BUFFER);
      return true;
    }
    // What is cut off cannot be segmented any more. A partial checksum is completed over what is left, as in the kernel.
    clone.length = limit;
    clone.limit = clone.offset + limit;
    const isSummed = clone.checksum === Checksum.PARTIAL && clone.checksumStart + clone.checksumOffset + 2 <= limit;
    if (!isSummed || clone.gsoType !== Gso.NONE) clone.checksum = Checksum.UNKNOWN;
    clone.gsoType = 0;
    clone.gsoSizeBytes = 0;
    this.sent();
    try {
      this.#hooks.output(clone, port, this.key);
    } finally {
      clone.release();
    }
    return true;
  }

  /** Run a list as if over a packet and a key of its own. As the last action it may have the packet itself. */
  #nested(words: Int32Array, from: number, end: number, isLast: boolean): boolean {
    if (from === end) return true;
    if (isLast) {
      this.#list(words, from, end);
      return false;
    }
    const packet = this.packet;
    const key = this.key;
    const limit = this.#limit;
    const own = this.borrowKey();
    own.copyFrom(key);
    packet.hold();
    this.key = own;
    try {
      this.#list(words, from, end);
    } finally {
      this.packet.release();
      this.returnKey();
      this.packet = packet;
      this.key = key;
      this.#limit = limit;
    }
    return true;
  }

  /** The packet waits for its next look-up; what the list still does to it happens to a copy. */
  #recirculate(id: number): boolean {
    if (this.key.recirculations >= MAXIMUM_RECIRCULATIONS) {
      this.#drop(Drop.RECIRCULATION_LIMIT);
      return true;
    }
    if (this.#deferredCount >= MAXIMUM_DEFERRED) {
      this.#drop(Drop.DEFERRED_LIMIT);
      return true;
    }
    if (this.key.stale && !this.#extractAgain()) return false;
    this.#deferredCount += 1;
    this.#events += 1;
    this.packet.hold();
    const waiting = this.deferred.add(this.packet, this.key);
    waiting.words[Word.RECIRC_ID] = id;
    waiting.recirculations += 1;
    return true;
  }

  #extractAgain(): boolean {
    const result = extract(this.packet, this.key);
    return result === Extraction.DONE || this.#drop(extractionDrop(result));
  }

  #track(words: Int32Array, at: number): boolean {
    if (this.#hooks.track === undefined) return this.#drop(Drop.CONNECTION_UNAVAILABLE);
    if (this.key.stale && !this.#extractAgain()) return false;
    const dropped = this.#dropped;
    const verdict = this.#hooks.track(this, words, at);
    if (verdict === CtVerdict.CONTINUE) return true;
    if (verdict === CtVerdict.DROP) return this.#drop(Drop.CONNECTION);
    if (this.#dropped === dropped) this.sent();
    return false;
  }

  #decTtl(words: Int32Array, at: number, end: number): boolean {
    const ttl = readTtl(this.packet, this.key);
    if (ttl === -1) return true;
    if (ttl === -2) return this.#drop(Drop.HEADER_MISSING);
    if (ttl <= 1) {
      if (at + 1 === end) return this.#drop(Drop.TIME_EXCEEDED);
      this.#list(words, at + 1, end);
      return false;
    }
    if (!this.writable(0)) return false;
    writeTtl(this.packet, this.key, ttl - 1);
    return true;
  }

  /** Length of the longest frame that the packet will be on a wire: of one segment for a super-packet. */
  #segmentBytes(): number {
    const packet = this.packet;
    if (packet.gsoType === Gso.NONE) return packet.length;
    let headers = packet.headerLengthBytes;
    const l4 = this.key.l4Offset;
    if (l4 !== -1 && packet.length >= l4 + 14) {
      const isTcp = this.key.protocol === IpProtocol.TCP;
      headers = l4 + (isTcp ? (packet.bytes[packet.offset + l4 + 12] >>> 4) << 2 : 8);
    }
    return Math.min(headers + packet.gsoSizeBytes, packet.length);
  }

  /** Hash of the packet's connection, never 0. */
  #hash(algorithm: number, basis: number): number {
    const words = this.key.words;
    const type = this.key.etherType;
    let hash: number;
    if (type !== EtherType.IPV4 && type !== EtherType.IPV6) {
      hash = (words[Word.MAC] ^ words[Word.MAC + 1] ^ words[Word.MAC + 2] ^ words[Word.ETH_TYPE]) | 0;
    } else if (algorithm === HashAlgorithm.SYMMETRIC_L4) {
      const ports = words[Word.PORTS];
      hash = (ports >>> 16) ^ (ports & 0xffff) ^ (words[Word.IP] >>> 24);
      const half = type === EtherType.IPV4 ? 1 : 4;
      for (let i = 0; i < half * 2; i += 1) hash = (hash + Math.imul(words[Word.IPV4_SOURCE + i], 0x9e37_79b1)) | 0;
    } else {
      hash = hashMasked(words, HASH_WORDS, HASH_MASKS, type === EtherType.IPV4 ? 4 : 10, this.hashSecret);
    }
    hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b) ^ Math.imul(basis, 0xc2b2_ae35);
    hash ^= hash >>> 13;
    return hash === 0 ? 1 : hash >>> 0;
  }

  /** A 32-bit xorshift generator: sampling needs speed, not secrecy. */
  #nextRandom(): number {
    let state = this.#random;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#random = state;
    return state;
  }
}

/** The drop reason for a packet that extraction refused. */
export function extractionDrop(extraction: number): number {
  if (extraction === Extraction.NSH_MALFORMED) return Drop.NSH_MALFORMED;
  return extraction === Extraction.TAG_WITHOUT_ETHERNET ? Drop.TAG_WITHOUT_ETHERNET : Drop.ETHERNET_TRUNCATED;
}
