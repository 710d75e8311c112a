/** Builds action lists in the form of encoding.ts. It writes what it is told; validate.ts judges it. */
import { Word } from '../key/layout.ts';
import { type CtOptions, ctWords } from './ct/words.ts';
import { Action, type ActionType, actionHead, packBytes } from './encoding.ts';
import { setWords } from './set/attributes.ts';
import { type UserspaceOptions, userspaceWords } from './userspace/userspace.ts';

/** All methods but finish return the builder, so that they chain. */
export class ActionBuilder {
  readonly #words: number[] = [];

  /** The list, as a new array. */
  finish(): Int32Array {
    return Int32Array.from(this.#words);
  }

  output(port: number): this {
    return this.add(Action.OUTPUT, [port]);
  }

  userspace(pid: number, options: UserspaceOptions = {}): this {
    return this.add(Action.USERSPACE, userspaceWords(pid, options));
  }

  /**
   * Set the fields of an attribute.
   * @param attribute one of KeyAttribute
   * @param value a key's words; those of the attribute are taken
   * @param mask a mask's words: only these bits are set; left out, all of the attribute are
   * @throws RangeError when the attribute cannot be set
   */
  set(attribute: number, value: Uint32Array, mask?: Uint32Array): this {
    return this.add(mask === undefined ? Action.SET : Action.SET_MASKED, setWords(attribute, value, mask));
  }

  /** @param tci with bit 12 (CFI) set, as the kernel wants it */
  pushVlan(tpid: number, tci: number): this {
    return this.add(Action.PUSH_VLAN, [(tpid << 16) | tci]);
  }

  popVlan(): this {
    return this.add(Action.POP_VLAN);
  }

  pushMpls(labelStackEntry: number, etherType: number): this {
    return this.add(Action.PUSH_MPLS, [labelStackEntry, etherType]);
  }

  popMpls(etherType: number): this {
    return this.add(Action.POP_MPLS, [etherType]);
  }

  addMpls(labelStackEntry: number, etherType: number, flags: number): this {
    return this.add(Action.ADD_MPLS, [labelStackEntry, etherType, flags]);
  }

  /** @param value a key's words; the MAC addresses are taken */
  pushEth(value: Uint32Array): this {
    return this.add(Action.PUSH_ETH, [...value.subarray(Word.MAC, Word.MAC + 3)]);
  }

  popEth(): this {
    return this.add(Action.POP_ETH);
  }

  /** @param base flags 8 | ttl 8 | metadata type 8 | next protocol 8 */
  pushNsh(base: number, path: number, metadata: Uint8Array): this {
    return this.add(Action.PUSH_NSH, [base, path, metadata.length, ...packBytes(metadata)]);
  }

  popNsh(): this {
    return this.add(Action.POP_NSH);
  }

  recirc(id: number): this {
    return this.add(Action.RECIRC, [id]);
  }

  hash(algorithm: number, basis: number): this {
    return this.add(Action.HASH, [algorithm, basis]);
  }

  trunc(maximumBytes: number): this {
    return this.add(Action.TRUNC, [maximumBytes]);
  }

  meter(id: number): this {
    return this.add(Action.METER, [id]);
  }

  ct(options: CtOptions): this {
    return this.add(Action.CT, ctWords(options));
  }

  ctClear(): this {
    return this.add(Action.CT_CLEAR);
  }

  drop(error = 0): this {
    return this.add(Action.DROP, [error]);
  }

  /** @param probability of 0xffff_ffff, which is always */
  sample(probability: number, actions: Int32Array): this {
    return this.add(Action.SAMPLE, [probability], actions);
  }

  clone(actions: Int32Array): this {
    return this.add(Action.CLONE, [], actions);
  }

  checkPacketLength(lengthBytes: number, greater: Int32Array, lessOrEqual: Int32Array): this {
    return this.add(Action.CHECK_PKT_LEN, [lengthBytes], greater, lessOrEqual);
  }

  decTtl(expired: Int32Array): this {
    return this.add(Action.DEC_TTL, [], expired);
  }

  /** Actions that are encoded already. */
  append(actions: Int32Array): this {
    for (const word of actions) this.#words.push(word);
    return this;
  }

  /**
   * An action from its words behind the head.
   * @param lists the lists inside, behind those words
   */
  add(type: ActionType, fields: readonly number[] = [], ...lists: readonly Int32Array[]): this {
    const words = this.#words;
    const at = words.length;
    words.push(0, ...fields);
    if (lists.length === 2) words.push(lists[0].length);
    for (const list of lists) this.append(list);
    const length = words.length - at;
    if (length > 0xffff) throw new RangeError(`an action of ${length} words is too long`);
    words[at] = actionHead(type, length);
    return this;
  }
}
