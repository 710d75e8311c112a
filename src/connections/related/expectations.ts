/**
 * Connections that another one has announced: a data connection of FTP, the answer of a TFTP server from a port of its own. Each is expected once, for five minutes, and only as long as
 * the connection that announced it is there. They are in the memory of this process alone: a restart forgets what was announced and has not come yet.
 */
import type { ConnectionTable } from '../table.ts';
import { Tuple, TupleWord } from '../tuple.ts';

/** What is expected. */
export interface Expectation {
  /** Record of the connection that announced it. */
  readonly parent: number;
  /** The tuple of its first packet, whose source port may be any. */
  readonly tuple: Tuple;
  /** Which way it goes: as packets of this direction of its parent. */
  readonly direction: number;
  /** The port that its receiver has announced, which a translation may have changed on the way. */
  readonly announcedPort: number;
  readonly endsAtMs: number;
}

const LIFETIME_MS = 300_000;
/** Expectations of a table; each connection has one at most. */
const MOST = 4096;

export class Expectations {
  readonly #table: ConnectionTable;
  readonly #byHash = new Map<number, Expectation[]>();
  readonly #byParent = new Map<number, Expectation>();
  readonly #key = new Tuple();

  constructor(table: ConnectionTable) {
    this.#table = table;
  }

  get size(): number {
    return this.#byParent.size;
  }

  /**
   * Expect a connection. What its parent has announced before is expected no longer.
   * @param tuple source address, destination and protocol; it is copied
   * @returns false when another connection has announced the same, or there are too many
   */
  add(parent: number, tuple: Tuple, direction: number, announcedPort: number): boolean {
    const nowMs = this.#table.nowMs();
    const known = this.find(tuple);
    if (known !== null && known.parent !== parent) return false;
    this.drop(parent);
    if (this.#byParent.size >= MOST) this.#dropOld(nowMs);
    if (this.#byParent.size >= MOST) return false;
    const own = new Tuple();
    own.copy(tuple);
    own.sourcePort = 0;
    const expectation = { parent, tuple: own, direction, announcedPort, endsAtMs: nowMs + LIFETIME_MS };
    const hash = this.#hash(own);
    const others = this.#byHash.get(hash);
    if (others === undefined) this.#byHash.set(hash, [expectation]);
    else others.push(expectation);
    this.#byParent.set(parent, expectation);
    return true;
  }

  /** What is expected of a packet that begins a connection, or null. */
  find(tuple: Tuple): Expectation | null {
    if (this.#byParent.size === 0) return null;
    for (const each of this.#byHash.get(this.#hash(tuple)) ?? []) {
      if (each.endsAtMs > this.#table.nowMs() && isExpected(each.tuple, tuple)) return each;
    }
    return null;
  }

  /** The expectation of a connection is met, or the connection is gone. */
  drop(parent: number): void {
    const expectation = this.#byParent.get(parent);
    if (expectation === undefined) return;
    this.#byParent.delete(parent);
    const hash = this.#hash(expectation.tuple);
    const left = (this.#byHash.get(hash) ?? []).filter((each) => each !== expectation);
    if (left.length === 0) this.#byHash.delete(hash);
    else this.#byHash.set(hash, left);
  }

  #dropOld(nowMs: number): void {
    for (const [parent, { endsAtMs }] of this.#byParent) if (endsAtMs <= nowMs) this.drop(parent);
  }

  /** By what does not vary: protocol, zone, addresses and destination port. */
  #hash(tuple: Tuple): number {
    this.#key.copy(tuple);
    this.#key.sourcePort = 0;
    return this.#table.hash(this.#key);
  }
}

function isExpected(expected: Tuple, tuple: Tuple): boolean {
  if (expected.kind !== tuple.kind || expected.destinationPort !== tuple.destinationPort) return false;
  for (let i: number = TupleWord.SOURCE; i < TupleWord.DESTINATION + 4; i += 1) {
    if (expected.words[i] !== tuple.words[i]) return false;
  }
  return true;
}
