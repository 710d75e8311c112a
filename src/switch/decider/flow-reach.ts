/**
 * Whose packets the flows of a table are: the ports that they come in by and are sent to, so that those of some ports are found among very many. It is looked at when a flow is put, and kept as
 * one word of a flow, in which ports share bits. Neighbour: carried-flows.ts.
 */
import { TRACKED_RECIRCULATION } from '../../decide/index.ts';
import { Action, everyAction, KEY_WORDS, type OfferedFlows, Word } from '../../flow/index.ts';
import { type KeyPort, toKeyPort } from '../../net/index.ts';

const INITIAL_FLOWS = 1024;
/** Of a flow that may come in by any port. */
const ANY_PORT = -1;

/** Some ports, by their numbers in a table, or all. */
export class SomePorts {
  readonly isAll: boolean;
  readonly numbers: ReadonlySet<KeyPort>;
  /** As those of {@link FlowReach}. */
  readonly bits: number;

  /** @param numbers null for all */
  constructor(numbers: Iterable<KeyPort> | null) {
    this.isAll = numbers === null;
    this.numbers = new Set(numbers ?? []);
    let bits = 0;
    for (const number of this.numbers) bits |= bitOf(number);
    this.bits = this.isAll ? ANY_PORT : bits;
  }

  get isNone(): boolean {
    return this.bits === 0;
  }

  equals({ isAll, numbers }: SomePorts): boolean {
    return (
      this.isAll === isAll && this.numbers.size === numbers.size && [...numbers].every((one) => this.numbers.has(one))
    );
  }
}

export class FlowReach {
  readonly #table: OfferedFlows;
  /** By slot, a bit for each port. */
  #bits = new Int32Array(INITIAL_FLOWS);
  /** By slot: 1 for a flow before or behind the look-up that is the switch's own. */
  #reserved = new Uint8Array(INITIAL_FLOWS);
  readonly #key = new Uint32Array(KEY_WORDS);
  readonly #stopObserving: () => void;

  constructor(table: OfferedFlows) {
    this.#table = table;
    this.#stopObserving = table.observe({
      flowAdded: (slot) => this.#note(slot),
      flowModified: (slot) => this.#note(slot),
      flowRemoved: () => {},
      flowsFlushed: () => {},
    });
    for (let slot = table.next(0); slot !== -1; slot = table.next(slot + 1)) this.#note(slot);
  }

  close(): void {
    this.#stopObserving();
  }

  /** Whether a flow is looked up under the recirculation id that is the switch's own, or has packets looked up there. */
  isReserved(slot: number): boolean {
    return this.#reserved[slot] === 1;
  }

  /** Whether a flow may have to do with some ports: false is sure. */
  mayTouch(slot: number, bits: number): boolean {
    return (this.#bits[slot] & bits) !== 0;
  }

  /** Whether packets of a flow come in by one of some ports, or are sent to one. */
  touches(slot: number, { isAll, numbers, bits }: SomePorts): boolean {
    if (isAll || !this.mayTouch(slot, bits)) return isAll;
    const port = this.#table.portOf(slot);
    if (port === -1 || numbers.has(port)) return true;
    const actions = this.#table.actionsOf(slot);
    const sendsElsewhere = everyAction(
      actions,
      0,
      actions.length,
      ({ type }, at) => type !== Action.OUTPUT || !numbers.has(toKeyPort(actions[at + 1])),
    );
    return !sendsElsewhere;
  }

  #note(slot: number): void {
    if (slot >= this.#bits.length) this.#grow(slot);
    const port = this.#table.portOf(slot);
    const actions = this.#table.actionsOf(slot);
    this.#table.readKey(slot, this.#key);
    let isReserved = this.#key[Word.RECIRC_ID] === TRACKED_RECIRCULATION;
    let bits = port === -1 ? ANY_PORT : bitOf(port);
    everyAction(actions, 0, actions.length, ({ type }, at) => {
      if (type === Action.OUTPUT) bits |= bitOf(toKeyPort(actions[at + 1]));
      if (type === Action.RECIRC) isReserved ||= actions[at + 1] === TRACKED_RECIRCULATION;
    });
    this.#bits[slot] = bits;
    this.#reserved[slot] = isReserved ? 1 : 0;
  }

  #grow(slot: number): void {
    const bits = new Int32Array(Math.max(slot + 1, this.#bits.length * 2));
    bits.set(this.#bits);
    const reserved = new Uint8Array(bits.length);
    reserved.set(this.#reserved);
    this.#bits = bits;
    this.#reserved = reserved;
  }
}

function bitOf(number: KeyPort): number {
  return 1 << (number & 31);
}
