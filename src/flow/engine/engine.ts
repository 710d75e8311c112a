/**
 * The action engine: runs one action list over one packet. It changes packets in place for as long as nobody else holds them
 * and copies at the first change after somebody does, so that outputs share the bytes that no later action changes.
 * Recirculated packets wait in a queue for the datapath to look them up; lists inside lists run at once. What each action does is
 * told in its folder of actions/.
 */
import type { Connections } from '../../connections/index.ts';
import { type ClonePool, copyPacket, Packet, type PacketPool, Region } from '../../net/index.ts';
import { checkLength } from '../actions/check-length/check-length.ts';
import { clone, sample } from '../actions/clone/clone.ts';
import { Action, actionLength, actionType } from '../actions/encoding.ts';
import { meter } from '../actions/meter/meter.ts';
import { runOutput, trunc, WHOLE } from '../actions/output/output.ts';
import { recirc } from '../actions/recirc/recirc.ts';
import { runSet } from '../actions/set/set.ts';
import { ACTIONS } from '../actions/table.ts';
import { popVlan, pushVlan } from '../actions/vlan/vlan.ts';
import { Extraction, extract } from '../key/extract.ts';
import { FlowKey } from '../key/key.ts';
import { HashSecret } from '../table/hash.ts';
import { DeferredQueue } from './deferred.ts';
import { Drop, DropCounters } from './drops.ts';
import type { FlowHooks } from './hooks.ts';
import { PacketTracking } from './tracking.ts';

type Run = (engine: ActionEngine, words: Int32Array, at: number, end: number, isLast: boolean) => boolean;

/** What each action does, by its type. There is no type 0. */
const RUN: Run[] = [(engine) => engine.drop(Drop.ACTION_UNKNOWN)];
for (const { type, run } of Object.values(ACTIONS)) RUN[type] = run;

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
  /** The connections that ct actions are about. Without it they drop packets, as nobody tracks any. */
  connections?: Connections;
}

export class ActionEngine {
  /** What is being worked on; of use inside hooks only. */
  packet: Packet;
  key: FlowKey;
  readonly drops = new DropCounters();
  /** The secret of the hash action: whoever runs it elsewhere for the same packets needs the same. */
  readonly hashSecret: HashSecret;
  /** What ct actions do; null where nobody tracks connections. */
  readonly tracking: PacketTracking | null;
  /** Packets that wait for their next look-up. */
  readonly deferred = new DeferredQueue();

  // For the functions of actions.
  readonly hooks: FlowHooks;
  readonly clones: ClonePool;
  /** Where the whole list lies; reused. */
  readonly bounds = { from: 0, end: 0 };
  /** Most bytes of the next output. */
  limit = WHOLE;
  /** Of the received packet and its copies so far: how many have waited for another look-up, and how many were dropped. */
  deferredCount = 0;
  dropped = 0;
  /** Packets that were copied so far, as somebody held what was to change. */
  copies = 0;

  readonly #pool: PacketPool;
  readonly #largePool: PacketPool | null;
  /** Keys of lists inside lists: a stack that grows to the deepest nesting ever seen and stays. */
  readonly #keys: FlowKey[] = [];
  #keysInUse = 0;
  /** Likewise: how many went somewhere, and why the last was dropped. */
  #sent = 0;
  #reason = 0;
  /** Grows with all of that, and with each packet that waits for another look-up. */
  #events = 0;
  #random: number;

  constructor(hooks: FlowHooks, options: EngineOptions) {
    this.hooks = hooks;
    this.#pool = options.pool;
    this.#largePool = options.largePool ?? null;
    this.clones = options.clones;
    this.tracking = options.connections === undefined ? null : new PacketTracking(options.connections);
    this.hashSecret = new HashSecret(options.hashSeed);
    this.#random = (options.sampleSeed ?? Math.floor(Math.random() * 0xffff_ffff)) | 1;
    this.packet = new Packet({ recycle: () => {} }, new Region(new ArrayBuffer(0)), 0);
    this.key = new FlowKey();
  }

  /** A received packet begins: what it leads to is counted anew. */
  begin(): void {
    this.deferredCount = 0;
    this.#sent = 0;
    this.dropped = 0;
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
    const outerLimit = this.limit;
    const outerFrom = this.bounds.from;
    const outerEnd = this.bounds.end;
    this.packet = packet;
    this.key = key;
    this.limit = WHOLE;
    this.bounds.from = from;
    this.bounds.end = end;
    // A hook that throws leaves no packet behind and no state of its run.
    try {
      const events = this.#events;
      this.list(words, from, end);
      if (this.#events === events) this.drop(Drop.FLOW);
    } finally {
      this.packet.release();
      this.packet = outerPacket;
      this.key = outerKey;
      this.limit = outerLimit;
      this.bounds.from = outerFrom;
      this.bounds.end = outerEnd;
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
    this.dropped += 1;
    this.#events += 1;
    this.#reason = reason;
    this.drops.count(reason);
    this.hooks.dropped?.(packet, reason);
  }

  /**
   * Make the packet one that may be written to, by copying it if somebody else holds it.
   * @param headroomBytes free bytes that are needed before the frame
   * @returns false when there is no buffer; the drop is counted
   */
  writable(headroomBytes: number): boolean {
    const packet = this.packet;
    if (packet.references === 1 && packet.parent === null && packet.offset - packet.headroomStart >= headroomBytes) {
      return true;
    }
    let copy = copyPacket(packet, this.#pool);
    if (copy === null && this.#largePool !== null) copy = copyPacket(packet, this.#largePool);
    if (copy === null) return this.drop(Drop.NO_BUFFER);
    if (copy.offset - copy.headroomStart < headroomBytes) {
      copy.release();
      return this.drop(Drop.NO_BUFFER);
    }
    packet.release();
    this.packet = copy;
    this.copies += 1;
    return true;
  }

  /** Go on with another packet, whose reference passes over, in place of the current one. The key is that of the old one, but for what is read from its bytes. */
  replace(packet: Packet): void {
    this.packet.release();
    this.packet = packet;
    this.key.stale = true;
  }

  /** Count a drop of the current packet; the list it is in ends. Always false. */
  drop(reason: number): false {
    this.#count(this.packet, reason);
    return false;
  }

  /** Run actions over the current packet until their end or until the packet is gone. */
  list(words: Int32Array, from: number, end: number): void {
    let at = from;
    while (at < end) {
      const length = actionLength(words[at]);
      if (length === 0) {
        this.drop(Drop.ACTION_UNKNOWN);
        return;
      }
      const next = at + length;
      if (!this.#one(words, at, next, next >= end)) return;
      at = next;
    }
  }

  /** @returns false when nothing is left to do for this packet in this list */
  #one(words: Int32Array, at: number, end: number, isLast: boolean): boolean {
    const type = actionType(words[at]);
    // What most lists are made of is called by name: the machine's compiler sees through such a call, which is worth 2 to 6 %.
    switch (type) {
      case Action.OUTPUT:
        return runOutput(this, words, at);
      case Action.SET:
      case Action.SET_MASKED:
        return runSet(this, words, at, end);
      case Action.PUSH_VLAN:
        return pushVlan.run(this, words, at, end, isLast);
      case Action.POP_VLAN:
        return popVlan.run(this, words, at, end, isLast);
      case Action.TRUNC:
        return trunc.run(this, words, at, end, isLast);
      case Action.CLONE:
        return clone.run(this, words, at, end, isLast);
      case Action.SAMPLE:
        return sample.run(this, words, at, end, isLast);
      case Action.CHECK_PKT_LEN:
        return checkLength.run(this, words, at, end, isLast);
      case Action.RECIRC:
        return recirc.run(this, words, at, end, isLast);
      case Action.METER:
        return meter.run(this, words, at, end, isLast);
      default:
        return type < RUN.length ? RUN[type](this, words, at, end, isLast) : this.drop(Drop.ACTION_UNKNOWN);
    }
  }

  /** Run a list as if over a packet and a key of its own. As the last action it may have the packet itself. */
  nested(words: Int32Array, from: number, end: number, isLast: boolean): boolean {
    if (from === end) return true;
    if (isLast) {
      this.list(words, from, end);
      return false;
    }
    const packet = this.packet;
    const key = this.key;
    const limit = this.limit;
    const own = this.borrowKey();
    own.copyFrom(key);
    packet.hold();
    this.key = own;
    try {
      this.list(words, from, end);
    } finally {
      this.packet.release();
      this.returnKey();
      this.packet = packet;
      this.key = key;
      this.limit = limit;
    }
    return true;
  }

  /** The current packet waits for its next look-up, and is held. @returns the key that waits with it */
  defer(): FlowKey {
    this.deferredCount += 1;
    this.#events += 1;
    this.packet.hold();
    return this.deferred.add(this.packet, this.key);
  }

  /** Have the key describe the packet again. @returns false when it was dropped, as its headers make no key */
  refreshKey(): boolean {
    if (!this.key.stale) return true;
    const result = extract(this.packet, this.key);
    return result === Extraction.DONE || this.drop(extractionDrop(result));
  }

  /** A 32-bit xorshift generator: sampling needs speed, not secrecy. */
  nextRandom(): number {
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
