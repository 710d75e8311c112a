/** Builds action lists in the form of encoding.ts. It writes what it is told; validate.ts judges it. */
import { KeyAttribute } from '../key/fields.ts';
import { Word } from '../key/layout.ts';
import {
  Action,
  actionHead,
  Ct,
  packBytes,
  setLayout,
  TUNNEL_BASE_WORDS,
  tunnelOptionsBytes,
  UserspaceFlag,
} from './encoding.ts';

/** What a userspace action tells besides the packet. */
export interface UserspaceOptions {
  readonly userdata?: Uint8Array;
  /** Report the tunnel that this port would send through. */
  readonly tunnelPort?: number;
  /** Report the flow's actions too. */
  readonly actions?: boolean;
}

/** Arguments of connection tracking. Masked values come with their mask. */
export interface CtOptions {
  /** Bits of CtFlag; ZONE, MARK, LABEL and EVENT_MASK say which of the values below are given. */
  readonly flags: number;
  readonly zone?: number;
  readonly mark?: readonly [value: number, mask: number];
  /** Four words and four words. */
  readonly label?: readonly [value: ArrayLike<number>, mask: ArrayLike<number>];
  readonly eventMask?: number;
  readonly natFlags?: number;
  /** Four words each. */
  readonly natMinimum?: ArrayLike<number>;
  readonly natMaximum?: ArrayLike<number>;
  readonly natPorts?: readonly [minimum: number, maximum: number];
  readonly helper?: string;
  readonly timeout?: string;
}

/** All methods return the builder, so that they chain. */
export class ActionBuilder {
  readonly #words: number[] = [];

  /** The list, as a new array. */
  finish(): Int32Array {
    return Int32Array.from(this.#words);
  }

  output(port: number): this {
    return this.#add(Action.OUTPUT, port);
  }

  userspace(pid: number, options: UserspaceOptions = {}): this {
    const userdata = options.userdata ?? new Uint8Array(0);
    const flags =
      (options.userdata === undefined ? 0 : UserspaceFlag.USERDATA) |
      (options.tunnelPort === undefined ? 0 : UserspaceFlag.TUNNEL_PORT) |
      (options.actions === true ? UserspaceFlag.ACTIONS : 0);
    return this.#add(Action.USERSPACE, pid, flags, options.tunnelPort ?? 0, userdata.length, ...packBytes(userdata));
  }

  /**
   * Set the fields of an attribute.
   * @param attribute one of KeyAttribute
   * @param value a key's words; those of the attribute are taken
   * @param mask a mask's words: only these bits are set; left out, all of the attribute are
   * @throws RangeError when the attribute cannot be set
   */
  set(attribute: number, value: Uint32Array, mask?: Uint32Array): this {
    if (attribute === KeyAttribute.TUNNEL) {
      const words = TUNNEL_BASE_WORDS + Math.ceil(tunnelOptionsBytes(value[Word.TUNNEL_FLAGS]) / 4);
      return this.#add(Action.SET, attribute, ...value.subarray(Word.TUNNEL, Word.TUNNEL + words));
    }
    const layout = setLayout(attribute);
    if (layout === undefined) throw new RangeError(`attribute ${attribute} cannot be set`);
    const pairs: number[] = [];
    for (const { word, bits } of layout) {
      const wanted = mask === undefined ? bits : mask[word] & bits;
      pairs.push(value[word] & wanted, wanted);
    }
    return this.#add(mask === undefined ? Action.SET : Action.SET_MASKED, attribute, ...pairs);
  }

  /** @param tci with bit 12 (CFI) set, as the kernel wants it */
  pushVlan(tpid: number, tci: number): this {
    return this.#add(Action.PUSH_VLAN, (tpid << 16) | tci);
  }

  popVlan(): this {
    return this.#add(Action.POP_VLAN);
  }

  pushMpls(labelStackEntry: number, etherType: number): this {
    return this.#add(Action.PUSH_MPLS, labelStackEntry, etherType);
  }

  popMpls(etherType: number): this {
    return this.#add(Action.POP_MPLS, etherType);
  }

  addMpls(labelStackEntry: number, etherType: number, flags: number): this {
    return this.#add(Action.ADD_MPLS, labelStackEntry, etherType, flags);
  }

  /** @param value a key's words; the MAC addresses are taken */
  pushEth(value: Uint32Array): this {
    return this.#add(Action.PUSH_ETH, value[Word.MAC], value[Word.MAC + 1], value[Word.MAC + 2]);
  }

  popEth(): this {
    return this.#add(Action.POP_ETH);
  }

  /** @param base flags 8 | ttl 8 | metadata type 8 | next protocol 8 */
  pushNsh(base: number, path: number, metadata: Uint8Array): this {
    return this.#add(Action.PUSH_NSH, base, path, metadata.length, ...packBytes(metadata));
  }

  popNsh(): this {
    return this.#add(Action.POP_NSH);
  }

  recirc(id: number): this {
    return this.#add(Action.RECIRC, id);
  }

  hash(algorithm: number, basis: number): this {
    return this.#add(Action.HASH, algorithm, basis);
  }

  trunc(maximumBytes: number): this {
    return this.#add(Action.TRUNC, maximumBytes);
  }

  meter(id: number): this {
    return this.#add(Action.METER, id);
  }

  ctClear(): this {
    return this.#add(Action.CT_CLEAR);
  }

  drop(error = 0): this {
    return this.#add(Action.DROP, error);
  }

  /** @param probability of 0xffff_ffff, which is always */
  sample(probability: number, actions: Int32Array): this {
    return this.#add(Action.SAMPLE, probability, ...actions);
  }

  clone(actions: Int32Array): this {
    return this.#add(Action.CLONE, ...actions);
  }

  checkPacketLength(lengthBytes: number, greater: Int32Array, lessOrEqual: Int32Array): this {
    return this.#add(Action.CHECK_PKT_LEN, lengthBytes, greater.length, ...greater, ...lessOrEqual);
  }

  decTtl(expired: Int32Array): this {
    return this.#add(Action.DEC_TTL, ...expired);
  }

  ct(options: CtOptions): this {
    const helper = new TextEncoder().encode(options.helper ?? '');
    const timeout = new TextEncoder().encode(options.timeout ?? '');
    const words = new Array<number>(Ct.NAMES - 1).fill(0);
    const put = (at: number, ...values: number[]) => words.splice(at - 1, values.length, ...values);
    put(Ct.FLAGS, options.flags, options.zone ?? 0, options.mark?.[0] ?? 0, options.mark?.[1] ?? 0);
    if (options.label !== undefined) put(Ct.LABEL, ...Array.from(options.label[0]), ...Array.from(options.label[1]));
    put(Ct.EVENT_MASK, options.eventMask ?? 0, options.natFlags ?? 0);
    if (options.natMinimum !== undefined) put(Ct.NAT_MINIMUM, ...Array.from(options.natMinimum));
    if (options.natMaximum !== undefined) put(Ct.NAT_MAXIMUM, ...Array.from(options.natMaximum));
    if (options.natPorts !== undefined) put(Ct.NAT_PORTS, (options.natPorts[0] << 16) | options.natPorts[1]);
    put(Ct.NAME_BYTES, (helper.length << 16) | timeout.length);
    return this.#add(Action.CT, ...words, ...packBytes(helper), ...packBytes(timeout));
  }

  /** Actions that are encoded already. */
  append(actions: Int32Array): this {
    for (const word of actions) this.#words.push(word);
    return this;
  }

  #add(type: number, ...args: number[]): this {
    if (args.length + 1 > 0xffff) throw new RangeError(`an action of ${args.length} words is too long`);
    this.#words.push(actionHead(type, args.length + 1), ...args);
    return this;
  }
}
