/**
 * The flow table: megaflows, that is masked keys with an action list each, found by the key of a packet. A look-up first asks
 * the flow cache, which goes by the hash of the connection; then the mask that answered last for that hash; then every mask that
 * the packet's input port has flows under, the busiest first. Overlapping flows are the caller's affair, as in Open vSwitch: any one that matches answers.
 * records.ts is what is known of each flow, mask.ts holds the hash tables; engine/ runs what is found.
 */
import type { FlowKey } from '../key/key.ts';
import { KEY_WORDS, Word } from '../key/layout.ts';
import { ConnectionHash } from './connection-hash.ts';
import { FlowError, type FlowObserver, type FlowPut, type FlowTableOptions, PutMode } from './contract.ts';
import { FlowCache } from './flow-cache.ts';
import { HashSecret } from './hash.ts';
import { HEAP_BLOCK_MAXIMUM, WordHeap } from './heap.ts';
import type { FlowMask } from './mask.ts';
import { MaskList, type PortMasks } from './mask-list.ts';
import { TableMemory } from './memory.ts';
import { FlowRecords } from './records.ts';
import { FlowSlots, INFO_SHIFT, INITIAL_SLOTS, Info, STATS_SHIFT, Stats } from './slots.ts';
import { packSparse, SPARSE_MAXIMUM } from './sparse.ts';
import { UFID_MAXIMUM_BYTES, UfidIndex } from './ufid-index.ts';

export class FlowTable extends FlowRecords {
  /** Look-ups that found a flow, and that found none. */
  hits = 0;
  misses = 0;
  /** Grows whenever a flow gets other actions. */
  actionsVersion = 0;
  /** Masks tried by all look-ups, and look-ups that the flow cache answered: the megaflow statistics of Open vSwitch. */
  masksTried = 0;
  cacheHits = 0;

  readonly #connections: ConnectionHash;
  readonly #masks: MaskList;
  readonly #slots: FlowSlots;
  readonly #ufids: UfidIndex;
  readonly #heap: WordHeap;
  readonly #observers: FlowObserver[] = [];
  readonly #maximumFlows: number;
  readonly #cache: FlowCache;
  readonly #memory: TableMemory;
  #size = 0;
  readonly #masked = new Uint32Array(KEY_WORDS);
  readonly #expanded = new Uint32Array(KEY_WORDS);
  readonly #sparse = new Int32Array(SPARSE_MAXIMUM);

  constructor(options: FlowTableOptions = {}) {
    const secret = new HashSecret(options.seed);
    const slots = new FlowSlots(INITIAL_SLOTS);
    const masks = new MaskList(secret);
    const ufids = new UfidIndex(INITIAL_SLOTS, secret);
    const heap = new WordHeap();
    super({ slots, masks, ufids, heap });
    this.#slots = slots;
    this.#masks = masks;
    this.#ufids = ufids;
    this.#heap = heap;
    this.#connections = new ConnectionHash(secret);
    this.#maximumFlows = options.maximumFlows ?? 1_048_576;
    this.#cache = new FlowCache(options.cacheEntries ?? 262_144);
    this.#memory = new TableMemory({ slots, masks, ufids, heap }, this.#cache);
  }

  /** Flows in the table. */
  get size(): number {
    return this.#size;
  }

  /** The masks in use. */
  get masks(): readonly FlowMask[] {
    return this.#masks.all;
  }

  /** Those that packets of an input port may fall under, in the order in which they are tried; another object, or of another version, only with another {@link masksVersion}. */
  masksOf(port: number): PortMasks {
    return this.#masks.of(port);
  }

  get masksVersion(): number {
    return this.#masks.version;
  }

  /** Where action lists live. Readers that run them call beginRead and endRead. */
  get heap(): WordHeap {
    return this.#heap;
  }

  /** Bytes that the table takes, flow cache and spare room included. */
  get memoryBytes(): number {
    return this.#memory.bytes;
  }

  /** @returns call to stop */
  observe(observer: FlowObserver): () => void {
    this.#observers.push(observer);
    return () => {
      const at = this.#observers.indexOf(observer);
      if (at !== -1) this.#observers.splice(at, 1);
    };
  }

  /** Bring statistics up to date before they are read. @param slot -1 for those of all flows */
  refreshCounts(slot = -1): void {
    for (const observer of this.#observers) observer.statisticsWanted?.(slot);
  }

  unobserve(observer: FlowObserver): void {
    const at = this.#observers.indexOf(observer);
    if (at !== -1) this.#observers.splice(at, 1);
  }

  /**
   * The flow that a packet falls to.
   * @returns its slot, or -1 when none matches
   */
  lookup(key: FlowKey): number {
    const words = key.words;
    const hash = this.#connections.of(words);
    const cache = this.#cache;
    const bucket = cache.bucket(hash);
    let entry = cache.next(bucket, bucket, hash);
    let likely = -1;
    while (entry !== -1) {
      const slot = cache.entries[entry + 1] - 1;
      const at = slot << INFO_SHIFT;
      const info = this.#slots.info;
      const mask = info[at + Info.MASK] === -1 ? null : this.#masks.byId[info[at + Info.MASK]];
      if (mask !== null) {
        if (mask.matches(info[at + Info.POSITION], words)) {
          mask.hits += 1;
          this.hits += 1;
          this.cacheHits += 1;
          this.masksTried += 1;
          return slot;
        }
        likely = entry;
      }
      entry = cache.next(bucket, entry + 2, hash);
    }
    const found = likely === -1 ? this.#walk(words, null) : this.#likely(words, likely);
    if (found === -1) {
      this.misses += 1;
      return -1;
    }
    this.hits += 1;
    if (likely === -1) cache.add(hash, found);
    else cache.entries[likely + 1] = found + 1;
    return found;
  }

  /** A packet of this connection fell under the entry's mask before: that mask first, then the others. */
  #likely(words: Uint32Array, entry: number): number {
    const mask = this.maskOf(this.#cache.entries[entry + 1] - 1);
    this.masksTried += 1;
    const found = mask.find(words);
    if (found === -1) return this.#walk(words, mask);
    mask.hits += 1;
    return found;
  }

  #walk(words: Uint32Array, except: FlowMask | null): number {
    const masks = this.#masks.of(words[Word.IN_PORT]);
    masks.walked();
    const { trials } = masks;
    for (let i = 0; i < trials.length; i += 1) {
      const trial = trials[i];
      if (trial.mask === except) continue;
      this.masksTried += 1;
      const found = trial.mask.find(words);
      if (found !== -1) {
        trial.hits += 1;
        trial.mask.hits += 1;
        return found;
      }
    }
    return -1;
  }

  /** Flows were found without a look-up, by somebody who remembers what look-ups gave: counted as answers of the cache. */
  foundAgain(times: number): void {
    this.hits += times;
    this.cacheHits += times;
    this.masksTried += times;
  }

  /** Add what was counted elsewhere, such as by an offloaded copy of the flow: look-ups that found it there, too. */
  addCounts(slot: number, packets: number, bytes: number, tcpFlags: number, usedMs: number): void {
    const stats = this.#slots.stats;
    const at = slot << STATS_SHIFT;
    this.hits += packets;
    stats[at + Stats.PACKETS] += packets;
    stats[at + Stats.BYTES] += bytes;
    stats[at + Stats.USED_MS] = Math.max(stats[at + Stats.USED_MS], usedMs);
    this.#slots.info[(slot << INFO_SHIFT) + Info.TCP_FLAGS] |= tcpFlags;
  }

  /**
   * Add or change a flow, with the rules of openvswitch.ko: a flow is the same when its identifier is or, without one, when its
   * unmasked key is; another flow that the masked key would fall to stands in the way.
   * @returns the flow's slot, or a {@link FlowError} and nothing changed
   */
  put(flow: FlowPut): number {
    if (!this.#isSound(flow)) return FlowError.INVALID;
    let there = flow.ufid === null ? -1 : this.#ufids.find(flow.ufid);
    if (flow.mode === PutMode.MODIFY) {
      if (flow.ufid === null) there = this.findExact(flow.key);
      return there === -1 ? FlowError.NOT_FOUND : this.setActions(there, flow.actions);
    }
    for (let i = 0; i < KEY_WORDS; i += 1) this.#masked[i] = flow.key[i] & flow.mask[i];
    if (there === -1) {
      there = flow.mayOverlap === true ? this.#withMask(flow.mask) : this.match(this.#masked);
    }
    if (there === -1) return this.#add(flow);
    if (flow.mode === PutMode.CREATE) return FlowError.EXISTS;
    if (!this.#isSame(there, flow)) {
      there = this.#ufids.lengthOf(there) === 0 ? this.findExact(flow.key) : -1;
      if (there === -1) return FlowError.NOT_FOUND;
    }
    return this.setActions(there, flow.actions);
  }

  /**
   * Change a flow's actions.
   * @returns the slot, or INVALID for a list that is too long
   */
  setActions(slot: number, actions: Int32Array): number {
    if (actions.length > HEAP_BLOCK_MAXIMUM) return FlowError.INVALID;
    const at = (slot << INFO_SHIFT) + Info.ACTIONS;
    const before = this.#slots.info[at];
    this.actionsVersion += 1;
    this.#slots.info[at] = actions.length === 0 ? 0 : this.#heap.store(actions, actions.length);
    if (before !== 0) this.#heap.free(before);
    for (const observer of this.#observers) observer.flowModified(slot);
    return slot;
  }

  /** The flow without an identifier that was put with exactly this key, or -1. */
  findExact(key: Uint32Array): number {
    for (const { mask } of this.#masks.of(key[Word.IN_PORT]).trials) {
      const slot = mask.find(key);
      if (slot !== -1 && this.#hasKey(slot, key)) return slot;
    }
    return -1;
  }

  /** The flow with this identifier, or -1. */
  findUfid(ufid: Uint8Array): number {
    return ufid.length === 0 || ufid.length > UFID_MAXIMUM_BYTES ? -1 : this.#ufids.find(ufid);
  }

  /** The flow that a key falls to, for look-ups that are not packets: no statistics, no cache. */
  match(key: Uint32Array): number {
    for (const { mask } of this.#masks.of(key[Word.IN_PORT]).trials) {
      const slot = mask.find(key);
      if (slot !== -1) return slot;
    }
    return -1;
  }

  /** @throws what an observer throws first: the flow is removed, and the others have been told */
  remove(slot: number): void {
    const failures: unknown[] = [];
    this.#tellRemoved(slot, failures);
    this.#leaveMask(slot);
    this.#ufids.remove(slot);
    this.#empty(slot);
    this.#size -= 1;
    this.#memory.removed(1);
    this.giveBack();
    if (failures.length > 0) throw failures[0];
  }

  /** A flow falls under its mask no more. */
  #leaveMask(slot: number): void {
    const mask = this.maskOf(slot);
    const port = this.portOf(slot);
    mask.remove(this.#slots.info[(slot << INFO_SHIFT) + Info.POSITION]);
    this.#masks.flowRemoved(mask, port);
  }

  /** Give up a slot with its actions and its key. */
  #empty(slot: number): void {
    const { info } = this.#slots;
    const at = slot << INFO_SHIFT;
    if (info[at + Info.ACTIONS] !== 0) this.#heap.free(info[at + Info.ACTIONS]);
    if (info[at + Info.KEY] !== 0) this.#heap.free(info[at + Info.KEY]);
    this.#slots.release(slot);
  }

  #tellRemoved(slot: number, failures: unknown[]): void {
    for (const observer of this.#observers) {
      try {
        observer.flowRemoved(slot);
      } catch (error) {
        failures.push(error);
      }
    }
  }

  /**
   * Remove many flows, each named once. Where all flows of a mask go nothing is looked for in its table. Memory is given back by {@link giveBack}, or by later removals.
   * @throws as {@link remove}, when all are removed
   */
  removeMany(slots: readonly number[]): void {
    const failures: unknown[] = [];
    for (const slot of slots) this.#tellRemoved(slot, failures);
    const { info } = this.#slots;
    const going = new Int32Array(this.#masks.byId.length);
    for (const slot of slots) going[info[(slot << INFO_SHIFT) + Info.MASK]] += 1;
    const isWhole = this.#masks.byId.map((mask, id) => mask !== null && mask.flows === going[id]);
    for (const slot of slots) {
      if (!isWhole[info[(slot << INFO_SHIFT) + Info.MASK]]) this.#leaveMask(slot);
      this.#ufids.remove(slot);
      this.#empty(slot);
    }
    for (const mask of [...this.#masks.all]) if (isWhole[mask.id]) this.#masks.remove(mask);
    this.#size -= slots.length;
    this.#memory.removed(slots.length);
    if (failures.length > 0) throw failures[0];
  }

  /** Give back memory that the flows that are left do not need, if that is worthwhile. */
  giveBack(): void {
    this.#memory.giveBack(this.#size);
  }

  /** Remove every flow. @throws as {@link remove}, when all are removed */
  flush(): void {
    const failures: unknown[] = [];
    for (const observer of this.#observers) {
      try {
        observer.flowsFlushed();
      } catch (error) {
        failures.push(error);
      }
    }
    for (let slot = this.next(0); slot !== -1; slot = this.next(slot + 1)) this.#empty(slot);
    this.#ufids.clear();
    this.#masks.clear();
    this.#size = 0;
    this.#memory.flushed();
    if (failures.length > 0) throw failures[0];
  }

  /** The flow of this mask that the masked key falls to, or -1. */
  #withMask(mask: Uint32Array): number {
    return this.#masks.find(mask)?.find(this.#masked) ?? -1;
  }

  #isSound(flow: FlowPut): boolean {
    return (
      flow.key.length === KEY_WORDS &&
      flow.mask.length === KEY_WORDS &&
      flow.actions.length <= HEAP_BLOCK_MAXIMUM &&
      (flow.ufid === null || (flow.ufid.length >= 1 && flow.ufid.length <= UFID_MAXIMUM_BYTES))
    );
  }

  #hasKey(slot: number, key: Uint32Array): boolean {
    if (this.#ufids.lengthOf(slot) !== 0) return false;
    this.readKey(slot, this.#expanded);
    return equalWords(this.#expanded, key);
  }

  #isSame(slot: number, flow: FlowPut): boolean {
    if (this.#ufids.lengthOf(slot) === 0) return this.#hasKey(slot, flow.key);
    this.readKey(slot, this.#expanded);
    return equalWords(this.#expanded, this.#masked);
  }

  #add(flow: FlowPut): number {
    if (this.#size >= this.#maximumFlows) return FlowError.FULL;
    let slot = this.#slots.take();
    if (slot === -1) {
      this.#slots.grow(this.#slots.capacity * 2);
      this.#ufids.resize(this.#slots.capacity);
      slot = this.#slots.take();
    }
    const mask = this.#masks.take(flow.mask, this.#masked);
    const at = slot << INFO_SHIFT;
    this.#slots.info[at + Info.MASK] = mask.id;
    mask.insert(this.#masked, slot, this.#slots);
    this.#masks.flowAdded(mask, this.portOf(slot));
    if (flow.actions.length > 0) {
      this.#slots.info[at + Info.ACTIONS] = this.#heap.store(flow.actions, flow.actions.length);
    }
    if (flow.ufid === null) {
      this.#slots.info[at + Info.KEY] = this.#heap.store(this.#sparse, packSparse(flow.key, this.#sparse));
    } else {
      this.#ufids.insert(flow.ufid, slot);
    }
    this.#size += 1;
    for (const observer of this.#observers) observer.flowAdded(slot);
    return slot;
  }
}

function equalWords(a: Uint32Array, b: Uint32Array): boolean {
  for (let i = 0; i < KEY_WORDS; i += 1) if (a[i] !== b[i]) return false;
  return true;
}
