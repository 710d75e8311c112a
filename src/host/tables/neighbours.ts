/**
 * Neighbours of the paths in use, and of no others: each is asked for by itself when the first path wants it, and followed by notifications from then on. So nothing here
 * is as large as the host's own table, nor as busy.
 *
 * Linux resolves. One that it does not know, or whose failure is some time ago, it is asked to resolve (NTF_USE, as `ip neigh ... use`). It does not see what is sent along a
 * path, so that an entry in use would stay stale for ever, with an address that may be wrong: for one that is stale and in use it is told so, and probes.
 */
import {
  getNeighbour,
  MESSAGE_HEADER_BYTES,
  type Message,
  NeighbourState,
  parseNeighbour,
  useNeighbour,
} from '../../netlink/index.ts';
import { Errno } from '../sys/index.ts';
import { MAC_BYTES, Neighbour, VALID_STATES } from './neighbour.ts';
import type { CachedPath } from './path.ts';
import { type KernelQuestions, passes } from './questions.ts';
import { addressKey, bytesOfWords, fillWords } from './words.ts';

/** After a failure Linux is asked again in the second tick from then on. */
const FAILURE_TICKS = 1;
/** A resolution that nothing is heard of for so long is looked at. Linux gives up after three seconds, if nobody has set it otherwise. */
const SILENCE_TICKS = 4;
/** So many in a tick: packets go on meanwhile, and a stale one is good enough for longer. */
const REFRESHMENTS = 64;

export interface NeighbourCounters {
  /** How often Linux was asked to resolve one, and to see to one that is stale. */
  resolutions: number;
  refreshments: number;
  /** Resolutions that failed. */
  failures: number;
}

export class Neighbours {
  readonly counters: NeighbourCounters = { resolutions: 0, refreshments: 0, failures: 0 };
  readonly #byKey = new Map<string, Neighbour>();
  /** How many there are on each interface: of others nothing is read. */
  readonly #byInterface = new Map<number, number>();
  readonly #questions: KernelQuestions;
  readonly #onChange: (neighbour: Neighbour) => void;
  /** News were lost so many times. */
  #generation = 0;
  #tick = 0;

  /** @param onChange told when packets to it are to be treated otherwise than before */
  constructor(questions: KernelQuestions, onChange: (neighbour: Neighbour) => void) {
    this.#questions = questions;
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** The neighbour by which a path leads, from now until {@link leave}. */
  join(path: CachedPath, interfaceIndex: number, isIpv6: boolean, words: Int32Array): Neighbour {
    const key = keyOf(interfaceIndex, isIpv6, words);
    let neighbour = this.#byKey.get(key);
    if (neighbour === undefined) {
      neighbour = new Neighbour(interfaceIndex, isIpv6, words);
      this.#byKey.set(key, neighbour);
      this.#byInterface.set(interfaceIndex, (this.#byInterface.get(interfaceIndex) ?? 0) + 1);
    }
    neighbour.paths.add(path);
    return neighbour;
  }

  leave(path: CachedPath, neighbour: Neighbour): void {
    neighbour.paths.delete(path);
    if (neighbour.paths.size > 0) return;
    const { interfaceIndex } = neighbour;
    this.#byKey.delete(keyOf(interfaceIndex, neighbour.isIpv6, neighbour.words));
    const left = (this.#byInterface.get(interfaceIndex) ?? 1) - 1;
    if (left === 0) this.#byInterface.delete(interfaceIndex);
    else this.#byInterface.set(interfaceIndex, left);
  }

  /** Somebody sends there now: have Linux asked about it, or resolve it, where that is due. */
  want(neighbour: Neighbour): void {
    if (!neighbour.isAsking && neighbour.generation !== this.#generation) this.#ask(neighbour);
    // The answer may be there already.
    const isKnown = !neighbour.isAsking && neighbour.generation === this.#generation;
    if (isKnown && neighbour.state === NeighbourState.NONE) this.#resolve(neighbour);
  }

  /** News were lost: what is known may be out of date. */
  lost(): void {
    this.#generation += 1;
  }

  /** Read a notification. @returns whether it was about one of these neighbours */
  hear(message: Message, isGone: boolean): boolean {
    const neighbour = this.#of(message);
    if (neighbour === null) return false;
    neighbour.told += 1;
    const isNews = isGone ? this.#set(neighbour, NeighbourState.NONE, undefined, true) : this.#read(neighbour, message);
    if (isNews) this.#onChange(neighbour);
    return true;
  }

  /**
   * To be called once a tick.
   * @param isUsed whether packets have gone along a path lately
   */
  look(tick: number, isUsed: (path: CachedPath) => boolean): void {
    this.#tick = tick;
    let refreshments = 0;
    for (const neighbour of this.#byKey.values()) {
      const age = tick - neighbour.tick;
      if (neighbour.isAsking) {
        if (age <= SILENCE_TICKS) continue;
        // The answer is lost: the next packet asks again.
        neighbour.isAsking = false;
        this.#onChange(neighbour);
      } else if (neighbour.hasFailed && age > FAILURE_TICKS) {
        // From now on it is as one that was never asked for: the next packet has it resolved.
        neighbour.state = NeighbourState.NONE;
        this.#onChange(neighbour);
      } else if (neighbour.state === NeighbourState.INCOMPLETE && age > SILENCE_TICKS) {
        this.#ask(neighbour);
      } else if (neighbour.state === NeighbourState.STALE && refreshments < REFRESHMENTS) {
        if (![...neighbour.paths].some(isUsed)) continue;
        refreshments += 1;
        this.#refresh(neighbour);
      }
    }
  }

  #ask(neighbour: Neighbour): void {
    neighbour.isAsking = true;
    neighbour.tick = this.#tick;
    const generation = this.#generation;
    const { interfaceIndex, words, isIpv6, told } = neighbour;
    this.#questions.ask(getNeighbour(interfaceIndex, bytesOfWords(words, isIpv6)), (errno, message) => {
      neighbour.isAsking = false;
      if (neighbour.paths.size === 0) return;
      // What passes is asked for again when the neighbour is wanted next.
      if (passes(errno)) return;
      // What Linux has told meanwhile is younger than the answer.
      if (neighbour.told !== told) {
        this.#onChange(neighbour);
        return;
      }
      neighbour.generation = generation;
      if (message !== null) this.#readAnswer(neighbour, message);
      // Linux before 5.0 does not answer for one neighbour; asked to resolve it, it tells.
      else if (errno === Errno.ENOENT || errno === Errno.EOPNOTSUPP)
        this.#set(neighbour, NeighbourState.NONE, undefined, errno === Errno.ENOENT);
      else this.#set(neighbour, NeighbourState.FAILED, undefined, false);
      this.#onChange(neighbour);
    });
  }

  #readAnswer(neighbour: Neighbour, message: Message): void {
    const isResolving = neighbour.state === NeighbourState.INCOMPLETE;
    this.#read(neighbour, message);
    // A failure from before is none of this time: the next try may succeed.
    if (neighbour.hasFailed && !isResolving) neighbour.state = NeighbourState.NONE;
  }

  #resolve(neighbour: Neighbour): void {
    neighbour.isAsking = true;
    neighbour.tick = this.#tick;
    this.counters.resolutions += 1;
    const { interfaceIndex, words, isIpv6, isAbsent } = neighbour;
    this.#questions.ask(useNeighbour(interfaceIndex, bytesOfWords(words, isIpv6), isAbsent), (errno) => {
      neighbour.isAsking = false;
      if (neighbour.paths.size === 0) return;
      if (errno === 0 || errno === Errno.EEXIST) {
        neighbour.isAbsent = false;
        // Linux may have told of the end before.
        if (neighbour.isValid || neighbour.hasFailed) return;
        if (errno === 0) neighbour.state = NeighbourState.INCOMPLETE;
        // It may be resolved already, or need no resolution, and of that nobody tells.
        this.#ask(neighbour);
        return;
      }
      // Linux has no room in its table, or the interface cannot do it.
      this.#set(neighbour, NeighbourState.FAILED, undefined, neighbour.isAbsent);
      this.#onChange(neighbour);
    });
  }

  #refresh(neighbour: Neighbour): void {
    neighbour.isAsking = true;
    neighbour.tick = this.#tick;
    this.counters.refreshments += 1;
    const { interfaceIndex, words, isIpv6 } = neighbour;
    this.#questions.ask(useNeighbour(interfaceIndex, bytesOfWords(words, isIpv6), false), (errno) => {
      neighbour.isAsking = false;
      // Of this change Linux tells nobody; of the next one it does.
      if (errno === 0 && neighbour.state === NeighbourState.STALE) neighbour.state = NeighbourState.DELAY;
    });
  }

  /** The neighbour that a message is about; null for others, of which only the header is read where nobody is on the interface. */
  #of(message: Message): Neighbour | null {
    const { bytes } = message;
    if (bytes.length < INDEX_AT + 4) return null;
    const index = new DataView(bytes.buffer, bytes.byteOffset).getInt32(INDEX_AT, true);
    if (!this.#byInterface.has(index)) return null;
    const { destination } = parseNeighbour(message);
    if (destination === undefined || (destination.length !== 4 && destination.length !== 16)) return null;
    fillWords(scratch, destination);
    return this.#byKey.get(keyOf(index, destination.length === 16, scratch)) ?? null;
  }

  #read(neighbour: Neighbour, message: Message): boolean {
    const { state, macAddress } = parseNeighbour(message);
    return this.#set(neighbour, state, macAddress, false);
  }

  /** @returns whether packets to it are to be treated otherwise than before */
  #set(neighbour: Neighbour, state: number, macAddress: Uint8Array | undefined, isAbsent: boolean): boolean {
    const isUsable = (state & VALID_STATES) !== 0 && macAddress?.length === MAC_BYTES;
    const hasFailed = state === NeighbourState.FAILED;
    // An entry that was made and not asked for yet is as good as none.
    const next = isUsable || hasFailed || state === NeighbourState.INCOMPLETE ? state : NeighbourState.NONE;
    const hasMoved = isUsable && macAddress !== undefined && Buffer.compare(neighbour.macAddress, macAddress) !== 0;
    const isNews = hasMoved || isUsable !== neighbour.isValid || (!isUsable && next !== neighbour.state);
    if (hasFailed) {
      neighbour.tick = this.#tick;
      if (!neighbour.hasFailed) this.counters.failures += 1;
    }
    neighbour.state = next;
    neighbour.isAbsent = isAbsent;
    if (isUsable && macAddress !== undefined) neighbour.macAddress.set(macAddress);
    return isNews;
  }
}

/** Of the index in struct ndmsg, behind the message's header. */
const INDEX_AT = MESSAGE_HEADER_BYTES + 4;
const scratch = new Int32Array(4);

function keyOf(interfaceIndex: number, isIpv6: boolean, words: Int32Array): string {
  return `${interfaceIndex}/${addressKey(isIpv6, words)}`;
}
