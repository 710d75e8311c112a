/**
 * A datapath: packets come in through ports, are looked up in the flow table, and the actions of their flow are run. What is
 * outside (ports, flow setup, meters, connections, time) is handed in as hooks, so it runs anywhere: in an extension
 * of the switch, under an offload's punt path, in a test.
 */
import type { Connections } from '../connections/index.ts';
import { type Batch, type ClonePool, type KeyPort, type Packet, type PacketPool, toKeyPort } from '../net/index.ts';
import { Action, actionType } from './actions/encoding.ts';
import { Drop, type DropCounters, MAXIMUM_RECIRCULATIONS, MAXIMUM_REENTRY } from './engine/drops.ts';
import { ActionEngine, extractionDrop } from './engine/engine.ts';
import type { FlowHooks } from './engine/hooks.ts';
import { Extraction, extract } from './key/extract.ts';
import { FlowKey } from './key/key.ts';
import { TUNNEL_WORDS, Word } from './key/layout.ts';
import { type ResumeBytes, readResumeRecord } from './resume/record.ts';
import { RecentFlows } from './table/recent-flows.ts';
import { FlowTable } from './table/table.ts';

/** Words of an output action. */
const OUTPUT_WORDS = 2;

export interface DatapathOptions {
  hooks: FlowHooks;
  /** Milliseconds of a monotonic clock: when flows were used. */
  nowMs: () => number;
  /** Buffers for the copies that actions make; a headroom of 128 bytes is enough for every action but the largest NSH header. */
  pool: PacketPool;
  /** Buffers for packets that are longer than those of `pool`, such as super-packets. */
  largePool?: PacketPool;
  clones: ClonePool;
  /** A table of the caller's making; an own one when left out. */
  table?: FlowTable;
  /** Whether TCP flags of packets are counted to their flows; when left out, they are. */
  countsTcpFlags?: boolean;
  sampleSeed?: number;
  /** The secret of the hash action, for tests of two that must hash alike; random when left out. */
  hashSeed?: readonly [number, number];
  /** The connections that ct actions are about. Without it they drop packets, as nobody tracks any. */
  connections?: Connections;
}

/** Counters in the terms of struct ovs_dp_stats and ovs_dp_megaflow_stats (linux/openvswitch.h). */
export interface DatapathStatistics {
  hits: number;
  misses: number;
  /** Misses that nobody heard of. */
  lost: number;
  flows: number;
  masks: number;
  masksTried: number;
  cacheHits: number;
}

/** Of {@link Datapath.slot}. */
const NO_FLOW = -2;

export class Datapath {
  readonly table: FlowTable;
  readonly #recent: RecentFlows;
  readonly #engine: ActionEngine;
  readonly #hooks: FlowHooks;
  readonly #nowMs: () => number;
  /** Calls of receive and execute that are under way, one inside a hook of the other. */
  #active = 0;
  readonly #spare = new FlowKey();
  #slot = -1;
  /** The flows that the packet which is through next fell to when it was looked up again, in turn. */
  readonly #chain = new Int32Array(MAXIMUM_RECIRCULATIONS);
  /** How many packets had been copied before each of them. */
  readonly #copiesBefore = new Float64Array(MAXIMUM_RECIRCULATIONS);

  constructor(options: DatapathOptions) {
    this.table = options.table ?? new FlowTable();
    this.#recent = new RecentFlows(this.table, options.countsTcpFlags !== false);
    this.#hooks = options.hooks;
    this.#nowMs = options.nowMs;
    this.#engine = new ActionEngine(options.hooks, options);
  }

  /** To be asked within hooks: the flow that the packet falls to; -1 for one that actions of its own are run over, -2 for one that comes to neither. */
  get slot(): number {
    return this.#slot;
  }

  /** Packets dropped, by reason. */
  get drops(): DropCounters {
    return this.#engine.drops;
  }

  /** The secret of the hash action, for an offload that is to give the same hashes. */
  get hashSecret(): { readonly low: number; readonly high: number } {
    return this.#engine.hashSecret;
  }

  statistics(): DatapathStatistics {
    return {
      hits: this.table.hits,
      misses: this.table.misses,
      lost: this.#engine.drops.of(Drop.UPCALL_LOST),
      flows: this.table.size,
      masks: this.table.masks.length,
      masksTried: this.table.masksTried,
      cacheHits: this.table.cacheHits,
    };
  }

  /**
   * Take in packets of one port. Their references pass to the datapath, and the batch is empty afterwards.
   * @param l3Type EtherType of packets that come without an Ethernet header; 0 for frames
   */
  receive(batch: Batch, port: KeyPort, l3Type = 0): void {
    const nowMs = this.#nowMs();
    const count = batch.count;
    batch.count = 0;
    let i = 0;
    const entered = this.#enter();
    const key = this.#engine.borrowKey();
    try {
      let isFresh = false;
      while (i < count) {
        const packet = batch.packets[i];
        i += 1;
        if (!isFresh) key.begin(port, l3Type);
        const connection = this.#hooks.connectionOf?.(packet) ?? 0;
        key.words[Word.CT] = connection;
        if (entered) isFresh = this.#take(packet, key, nowMs, l3Type === 0 && connection === 0);
        else this.#engine.discard(packet, Drop.REENTRY_LIMIT);
      }
    } finally {
      for (; i < count; i += 1) batch.packets[i].release();
      this.#leave();
    }
  }

  /**
   * Look whether it is known without a look-up that a packet that has just come in is sent as it is, and nothing else: whoever can do that need not have it received. Nothing
   * has happened yet; with {@link take} it has come in.
   * @returns to how many ports, see {@link outputAt}; 0 when it is to be received
   */
  glance(packet: Packet, port: KeyPort): number {
    const slot = this.#recent.find(packet, port, 0);
    if (slot === -1) return 0;
    this.#slot = slot;
    if (!this.#recent.knowsOutputs) this.#noteOutputs(slot);
    return this.#recent.outputs;
  }

  /** Find out whether a flow only sends its packets, and whereto. */
  #noteOutputs(slot: number): void {
    const { words } = this.table.heap;
    const from = this.table.actionsOffset(slot);
    const length = from === 0 || this.#hooks.isPlain?.(slot) === false ? 0 : words[from - 1];
    let outputs = length / OUTPUT_WORDS;
    for (let at = 0; at < length; at += OUTPUT_WORDS) if (actionType(words[from + at]) !== Action.OUTPUT) outputs = 0;
    this.#recent.noteOutputs(outputs, outputs === 0 ? 0 : words[from + 1]);
  }

  /** A port that the packet that {@link glance} saw is sent to. */
  outputAt(index: number): KeyPort {
    if (index === 0) return toKeyPort(this.#recent.output);
    return toKeyPort(this.table.heap.words[this.table.actionsOffset(this.#slot) + index * OUTPUT_WORDS + 1]);
  }

  /** The packet that {@link glance} saw is sent. With the last of a list {@link took} is to be told. */
  take(packet: Packet, nowMs: number): void {
    this.table.count(this.#slot, packet.length, this.#recent.tcpFlags, nowMs);
  }

  /** So many packets were taken. */
  took(packets: number): void {
    this.table.foundAgain(packets);
  }

  /**
   * Take in one packet that came through a tunnel or with other metadata. Its reference passes to the datapath.
   * @param tunnel the key's tunnel part from Word.TUNNEL on, or null
   * @param l3Type as for {@link receive}
   * @param mark the packet's mark, and `priority` its priority, as in the key
   */
  receiveOne(packet: Packet, port: KeyPort, tunnel: Uint32Array | null, l3Type = 0, mark = 0, priority = 0): void {
    const entered = this.#enter();
    const key = this.#engine.borrowKey();
    try {
      key.begin(port, l3Type);
      key.words[Word.MARK] = mark;
      key.words[Word.PRIORITY] = priority;
      if (tunnel !== null) {
        for (let i = 0; i < TUNNEL_WORDS; i += 1) key.words[Word.TUNNEL + i] = tunnel[i];
        key.hasTunnel = true;
      }
      if (entered) this.#take(packet, key, this.#nowMs(), false);
      else this.#engine.discard(packet, Drop.REENTRY_LIMIT);
    } finally {
      this.#leave();
    }
  }

  /**
   * Go on with a packet that ran elsewhere up to a look-up. Its reference passes to the datapath. What it did before counts where it ran.
   * @param port the number of the port that it came in by
   * @param record what is known of it; one that makes no sense is the end of the packet ({@link Drop.RESUME_MALFORMED})
   */
  resume(packet: Packet, port: KeyPort, record: ResumeBytes): void {
    const entered = this.#enter();
    const key = this.#engine.borrowKey();
    try {
      const isOutermost = this.#active === 1;
      const nowMs = this.#nowMs();
      if (isOutermost) this.#engine.begin();
      if (!entered) this.#engine.discard(packet, Drop.REENTRY_LIMIT);
      else if (readResumeRecord(record, port, key) !== null) this.#engine.discard(packet, Drop.RESUME_MALFORMED);
      else this.#forward(packet, key, nowMs, false);
      if (isOutermost) this.#end(nowMs);
    } finally {
      this.#leave();
    }
  }

  /**
   * Run actions over a packet as if a flow had them: what Open vSwitch asks for after an upcall. Its reference passes to the
   * datapath.
   * @param metadata a key whose metadata, connection and tunnel parts are filled in; layers 2 to 4 are extracted
   * @param actions a validated list
   */
  execute(packet: Packet, metadata: FlowKey, actions: Int32Array): void {
    const entered = this.#enter();
    const key = this.#engine.borrowKey();
    try {
      const isOutermost = this.#active === 1;
      if (isOutermost) this.#engine.begin();
      key.copyFrom(metadata);
      const extraction = entered ? extract(packet, key) : Extraction.DONE;
      if (!entered) this.#engine.discard(packet, Drop.REENTRY_LIMIT);
      else if (extraction !== Extraction.DONE) this.#engine.discard(packet, extractionDrop(extraction));
      else {
        this.#slot = -1;
        this.#engine.run(packet, key, actions, 0, actions.length);
      }
      if (isOutermost) this.#end(this.#nowMs());
    } finally {
      this.#leave();
    }
  }

  /** To be called within the hooks output and userspace: the packet that they are called with could not be sent, for a reason of Drop. */
  refuse(packet: Packet, reason: number): void {
    this.#engine.refuse(packet, reason);
  }

  /**
   * A packet that has just come in.
   * @param isPlain whether nothing is known of it but its bytes and its port
   * @returns whether nobody had reason to change the key: what {@link FlowKey.begin} has set is still so
   */
  #take(packet: Packet, key: FlowKey, nowMs: number, isPlain: boolean): boolean {
    // A packet that a hook fed back counts to the one that the hook was called for.
    const isOutermost = this.#active === 1;
    if (isOutermost) this.#engine.begin();
    const isFresh = this.#forward(packet, key, nowMs, isPlain);
    if (isOutermost) this.#end(nowMs);
    return isFresh;
  }

  /** See {@link #take}. */
  #forward(packet: Packet, key: FlowKey, nowMs: number, isPlain: boolean): boolean {
    let slot = isPlain ? this.#recent.find(packet, key.words[Word.IN_PORT], 0) : -1;
    if (slot !== -1) this.table.foundAgain(1);
    if (slot !== -1 && this.#hooks.outputIgnoresKey === true) {
      const port = this.#soleOutput(slot);
      if (port !== -1) {
        this.#slot = slot;
        this.table.count(slot, packet.length, this.#recent.tcpFlags, nowMs);
        this.#output(packet, port, key);
        return true;
      }
    }
    const extraction = extract(packet, key);
    if (extraction !== Extraction.DONE) {
      this.#slot = NO_FLOW;
      this.#engine.discard(packet, extractionDrop(extraction));
      return false;
    }
    if (slot === -1) {
      slot = this.table.lookup(key);
      if (isPlain && slot !== -1) this.#recent.remember(slot);
    }
    return this.#process(slot, packet, key, nowMs);
  }

  /** @param slot the flow that was found, or -1 @returns as {@link #take} */
  #process(slot: number, packet: Packet, key: FlowKey, nowMs: number): boolean {
    if (slot === -1) {
      this.#missed(packet, key, nowMs);
      return false;
    }
    this.#slot = slot;
    this.table.count(slot, packet.length, key.words[Word.TCP_FLAGS] >>> 16, nowMs);
    const port = this.#soleOutput(slot);
    if (port !== -1) {
      this.#output(packet, port, key);
      return true;
    }
    const heap = this.table.heap;
    const from = this.table.actionsOffset(slot);
    this.#engine.run(packet, key, heap.words, from, from === 0 ? 0 : from + heap.lengthAt(from));
    return false;
  }

  /** The port of a flow that does nothing but one output, as most flows of a switch do; else -1. It needs no engine. */
  #soleOutput(slot: number): KeyPort | -1 {
    const heap = this.table.heap;
    const from = this.table.actionsOffset(slot);
    if (from === 0 || heap.lengthAt(from) !== OUTPUT_WORDS || actionType(heap.words[from]) !== Action.OUTPUT) return -1;
    return toKeyPort(heap.words[from + 1]);
  }

  #output(packet: Packet, port: KeyPort, key: FlowKey): void {
    this.#engine.sent();
    try {
      this.#hooks.output(packet, port, key);
    } finally {
      packet.release();
    }
  }

  #missed(packet: Packet, key: FlowKey, nowMs: number): void {
    const decided = this.#decide(packet, key);
    if (typeof decided === 'number' && decided >= 0) {
      this.#process(decided, packet, key, nowMs);
      return;
    }
    if (typeof decided === 'object') {
      this.#slot = -1;
      this.#engine.run(packet, key, decided, 0, decided.length);
      return;
    }
    this.#slot = NO_FLOW;
    let heard = false;
    try {
      heard = this.#hooks.miss?.(packet, key) === true;
    } finally {
      if (heard) {
        this.#engine.sent();
        packet.release();
      } else this.#engine.discard(packet, Drop.UPCALL_LOST);
    }
  }

  /** What is decided about a packet that no flow matches: a slot, actions for it alone, or -1. A hook that throws leaves no packet behind. */
  #decide(packet: Packet, key: FlowKey): number | Int32Array {
    if (this.#hooks.decide === undefined) return -1;
    let decided: number | Int32Array | null = null;
    try {
      decided = this.#hooks.decide(packet, key);
    } finally {
      if (decided === null) packet.release();
    }
    return decided;
  }

  /** The packet that began is through once nothing of it waits. */
  #end(nowMs: number): void {
    this.#drain(nowMs);
    this.#hooks.ended?.(this.#engine.fate);
  }

  /** Look up what waits, until nothing does. */
  #drain(nowMs: number): void {
    const deferred = this.#engine.deferred;
    if (deferred.isEmpty) return;
    const key = this.#engine.borrowKey();
    const chain = this.#chain;
    let length = 0;
    try {
      while (!deferred.isEmpty) {
        const packet = deferred.take(key);
        const slot = this.table.lookup(key);
        // Of a packet with others beside it, it is not known what is to come first.
        if (!deferred.isEmpty) length = chain.length;
        else if (slot === -1) length = this.#tellChain(length, 0);
        else if (length < chain.length) {
          if (this.#handDown(slot, packet, key)) continue;
          chain[length] = slot;
          this.#copiesBefore[length] = this.#engine.copies;
          length += 1;
        }
        this.#process(slot, packet, key, nowMs);
      }
    } finally {
      this.#engine.returnKey();
    }
    if (length < chain.length) this.#tellChain(length, length);
  }

  /** @returns whether somebody else goes on with a packet, whose reference has passed over */
  #handDown(slot: number, packet: Packet, key: FlowKey): boolean {
    if (this.#hooks.handDown === undefined) return false;
    let isTaken: boolean | null = null;
    try {
      isTaken = this.#hooks.handDown(slot, packet, key);
    } finally {
      if (isTaken !== false) packet.release();
    }
    if (isTaken) this.#engine.sent();
    return isTaken;
  }

  /** Tell of the flows that a packet fell to. @param lookUps from the first of them on; 0 when it found nothing in the end @returns that none is to be told of */
  #tellChain(length: number, lookUps: number): number {
    const { copies } = this.#engine;
    for (let i = 0; i < length; i += 1) {
      const isCopied = copies > this.#copiesBefore[i];
      this.#hooks.wentOn?.(this.#chain[i], lookUps === 0 ? 0 : lookUps - i, isCopied);
    }
    return 0;
  }

  /** Always followed by {@link #leave}. @returns false when calls lie too deep inside each other */
  #enter(): boolean {
    this.#active += 1;
    if (this.#active === 1) this.table.heap.beginRead();
    return this.#active <= MAXIMUM_REENTRY;
  }

  #leave(): void {
    this.#engine.returnKey();
    this.#active -= 1;
    if (this.#active > 0) return;
    // Something waits still when a hook has thrown.
    const deferred = this.#engine.deferred;
    while (!deferred.isEmpty) deferred.take(this.#spare).release();
    this.table.heap.endRead();
    this.#engine.tracking?.settle();
  }
}
