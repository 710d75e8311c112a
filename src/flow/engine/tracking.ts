/**
 * What ct actions do: a packet is put together, if it came in fragments, then tracked, and what is known of its connection comes into the key's connection words. These are all
 * that goes with the packet, so that it can be looked up again, copied, handed up and come back: tracking goes on from them.
 */
import {
  ConnectionState,
  type Connections,
  FragmentResult,
  Kind,
  Refusal,
  Tracked,
  TUPLE_WORDS,
  TupleWord,
} from '../../connections/index.ts';
import { EtherType, Fragment, HeaderOffsets, IpProtocol } from '../../net/index.ts';
import { CtRequests } from '../actions/ct/requests.ts';
import { Word } from '../key/layout.ts';
import { Drop } from './drops.ts';
import type { ActionEngine } from './engine.ts';

const DROPS: Readonly<Record<number, number>> = {
  [Refusal.ZONE_LIMIT]: Drop.CONNECTION_ZONE_LIMIT,
  [Refusal.TABLE_FULL]: Drop.CONNECTION_TABLE_FULL,
  [Refusal.NAT_EXHAUSTED]: Drop.CONNECTION_NAT_EXHAUSTED,
  [Refusal.CLASH]: Drop.CONNECTION_CLASH,
  [Refusal.HELPER_ROOM]: Drop.CONNECTION_HELPER_ROOM,
  [Refusal.REDIRECT]: Drop.CONNECTION_REDIRECT,
};

const FRAGMENT_DROPS: Readonly<Record<number, number>> = {
  [FragmentResult.DUPLICATE]: Drop.FRAGMENT_DUPLICATE,
  [FragmentResult.BAD_FRAGMENT]: Drop.FRAGMENT_MALFORMED,
  [FragmentResult.OVERLAP]: Drop.FRAGMENT_OVERLAP,
  [FragmentResult.TOO_MANY]: Drop.FRAGMENT_TOO_MANY,
  [FragmentResult.NO_BUFFER]: Drop.NO_BUFFER,
};

export class PacketTracking {
  readonly #connections: Connections;
  readonly #requests = new CtRequests();
  readonly #headers = new HeaderOffsets();
  readonly #tracked = new Tracked();

  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /** A batch of packets is through. */
  settle(): void {
    this.#connections.settle();
  }

  /**
   * Track the engine's packet.
   * @param words the list, and `at` where the head of the ct action lies in it
   * @returns false when nothing is left to do for the packet: it was dropped, or is a fragment that waits for others
   */
  run(engine: ActionEngine, words: Int32Array, at: number): boolean {
    if (!engine.refreshKey()) return false;
    this.#connections.used();
    const { tracker } = this.#connections;
    const action = this.#requests.of(words, at, tracker.table.timeOuts);
    const { key } = engine;
    const headers = this.#headers;
    // Headers are read from frames. Of a packet without an Ethernet header no connection is known.
    if (key.l3Type !== 0) {
      this.#forget(engine);
      key.words[Word.CT] = ((ConnectionState.TRACKED | ConnectionState.INVALID) << 24) | action.zone;
      return true;
    }
    headers.parse(engine.packet);
    if (headers.fragment !== Fragment.NONE && !this.#putTogether(engine, action.zone)) return false;
    if (tracker.mayChange(action) && !engine.writable(0)) return false;
    const { packet } = engine;
    const { length } = packet;
    const tracked = this.#tracked;
    const before = key.words[Word.CT];
    tracked.state = before >>> 24;
    tracked.zone = before & 0xffff;
    const refusal = tracker.track(packet, headers, action, tracked, key.inPort);
    if (refusal !== Refusal.NONE) return engine.drop(DROPS[refusal]);
    this.#note(engine);
    const isTranslated = action.nat !== null && (tracked.state & ConnectionState.NAT) !== 0;
    if (!isTranslated && packet.length === length) return true;
    key.stale = true;
    return engine.refreshKey();
  }

  /** The packet's connection is forgotten. */
  #forget(engine: ActionEngine): void {
    engine.key.words.fill(0, Word.CT, Word.L2);
  }

  /** A fragment waits, or is the last one that was missing: then all go on as one packet. @returns as {@link run} */
  #putTogether(engine: ActionEngine, zone: number): boolean {
    const { reassembler } = this.#connections;
    const result = reassembler.add(engine.packet, this.#headers, zone);
    // Tracking says what is wrong with it.
    if (result === FragmentResult.NO_FRAGMENT) return true;
    if (result === FragmentResult.WAITING) {
      engine.sent();
      return false;
    }
    const { whole } = reassembler;
    if (result !== FragmentResult.WHOLE || whole === null) return engine.drop(FRAGMENT_DROPS[result]);
    const { key } = engine;
    key.largestFragmentBytes = reassembler.largestBytes;
    key.identification = reassembler.identification;
    engine.replace(whole);
    this.#headers.parse(whole);
    return engine.refreshKey();
  }

  /** The answer of tracking comes into the key. */
  #note(engine: ActionEngine): void {
    const { words } = engine.key;
    const { state, zone, mark, label, originalKind, original } = this.#tracked;
    words[Word.CT_MARK] = mark;
    for (let i = 0; i < 4; i += 1) words[Word.CT_LABEL + i] = label[i];
    for (let i = Word.CT_PORTS; i < Word.L2; i += 1) words[i] = 0;
    const isIpv6 = (originalKind & Kind.IPV6) !== 0;
    const hasOriginal = originalKind !== 0 && engine.key.etherType === (isIpv6 ? EtherType.IPV6 : EtherType.IPV4);
    const protocol = hasOriginal ? (originalKind >>> 8) & 0xff : 0;
    words[Word.CT] = (state << 24) | (protocol << 16) | zone;
    if (!hasOriginal) return;
    const ports = original[TupleWord.PORTS];
    // Of ICMP the key has type and code, the tuple those and the identifier.
    const isIcmp = protocol === (isIpv6 ? IpProtocol.ICMPV6 : IpProtocol.ICMPV4);
    words[Word.CT_PORTS] = isIcmp ? ((ports & 0xff00) << 8) | (ports & 0xff) : ports;
    words[Word.CT_SOURCE] = original[TupleWord.SOURCE];
    if (!isIpv6) {
      words[Word.CT_DESTINATION4] = original[TupleWord.DESTINATION];
      return;
    }
    for (let i = 1; i < TUPLE_WORDS; i += 1) words[Word.CT_SOURCE + i - 1] = original[i];
  }
}
