/**
 * Setting fields. What is set waits until the packet is sent, so that what is set twice, or before a drop, costs nothing.
 */
import { type ActionBuilder, KEY_WORDS, KeyAttribute, setLayout, TAG_PRESENT, Word } from '../flow/index.ts';
import { EtherType, IpProtocol } from '../net/index.ts';
import { DecisionError, shown } from './errors.ts';
import type { Field } from './field.ts';
import type { PacketState } from './packet-state.ts';
import { ArpView, EthernetView, IpView, PortsView } from './packet-view.ts';

/** What an address or a port is set to. */
export type SetValue = string | number | Uint8Array;

/** Fields that were set since the packet was last sent. */
export class PendingSets {
  readonly #state: PacketState;
  readonly #bits = new Uint32Array(KEY_WORDS);
  #any = false;
  #tag = false;

  constructor(state: PacketState) {
    this.#state = state;
  }

  clear(): void {
    if (this.#any) this.#bits.fill(0);
    this.#any = false;
    this.#tag = false;
  }

  /** Whether anything waits. */
  get isWaiting(): boolean {
    return this.#any || this.#tag;
  }

  /** Bits of a word have been set. */
  add(word: number, bits: number): void {
    this.#bits[word] |= bits;
    this.#any = true;
  }

  /** The outermost tag has been set. */
  addTag(): void {
    this.#tag = true;
  }

  /** Write what waits. */
  flush(builder: ActionBuilder): void {
    if (this.#tag) {
      this.#tag = false;
      const value = this.#state.lookTag(0, 0xffff_ffff);
      builder.popVlan().pushVlan(value >>> 16, (value & 0xffff) | TAG_PRESENT);
    }
    if (!this.#any) return;
    const { words } = this.#state;
    for (const attribute of this.#attributes()) {
      const layout = setLayout(attribute) ?? [];
      if (layout.some(({ word, writable }) => (this.#bits[word] & writable) !== 0))
        builder.set(attribute, words, this.#bits);
    }
    this.clear();
  }

  /** Attributes of the packet that can be set, from the outside in. */
  #attributes(): number[] {
    const { words } = this.#state;
    const attributes: number[] = [KeyAttribute.ETHERNET];
    const type = words[Word.ETH_TYPE] >>> 16;
    if (type === EtherType.IPV4) attributes.push(KeyAttribute.IPV4);
    else if (type === EtherType.IPV6) attributes.push(KeyAttribute.IPV6);
    else if (type === EtherType.ARP) attributes.push(KeyAttribute.ARP);
    if (type !== EtherType.IPV4 && type !== EtherType.IPV6) return attributes;
    const protocol = words[Word.IP] >>> 24;
    if (protocol === IpProtocol.TCP) attributes.push(KeyAttribute.TCP);
    if (protocol === IpProtocol.UDP) attributes.push(KeyAttribute.UDP);
    if (protocol === IpProtocol.SCTP) attributes.push(KeyAttribute.SCTP);
    return attributes;
  }
}

/** Sets one field after the other. */
class Rewrite {
  protected readonly state: PacketState;
  protected readonly sets: PendingSets;

  constructor(state: PacketState, sets: PendingSets) {
    this.state = state;
    this.sets = sets;
  }

  protected setField(field: Field, value: SetValue): void {
    field.set(value);
    for (const { word, bits } of field.parts) this.sets.add(word, bits);
  }

  protected setNumber(name: string, bits: number, shift: number, maximum: number, value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > maximum)
      throw new DecisionError(`${this.state.marks.by}: ${name} cannot be ${shown(value)}: it is 0 to ${maximum}`);
    this.state.set(Word.IP, bits, value << shift);
    this.sets.add(Word.IP, bits);
  }
}

export class EthernetRewrite extends Rewrite {
  readonly #view: EthernetView;

  constructor(state: PacketState, sets: PendingSets) {
    super(state, sets);
    this.#view = new EthernetView(state);
  }

  set source(value: SetValue) {
    this.setField(this.#view.source, value);
  }

  set destination(value: SetValue) {
    this.setField(this.#view.destination, value);
  }
}

/** IPv4 and IPv6. */
export class IpRewrite extends Rewrite {
  readonly #view: IpView;

  constructor(state: PacketState, sets: PendingSets, kind: 'ipv4' | 'ipv6') {
    super(state, sets);
    this.#view = new IpView(state, kind);
  }

  set source(value: SetValue) {
    this.setField(this.#view.source, value);
  }

  set destination(value: SetValue) {
    this.setField(this.#view.destination, value);
  }

  /** 0 to 63. */
  set dscp(value: number) {
    this.setNumber('dscp', 0x00fc_0000, 18, 63, value);
  }

  /** 0 to 3. */
  set ecn(value: number) {
    this.setNumber('ecn', 0x0003_0000, 16, 3, value);
  }

  /** 0 to 255; see Decision.decrementTtl. */
  set ttl(value: number) {
    this.setNumber('ttl', 0x0000_ff00, 8, 255, value);
  }
}

/** TCP, UDP and SCTP. */
export class PortsRewrite extends Rewrite {
  readonly #view: PortsView;

  constructor(state: PacketState, sets: PendingSets) {
    super(state, sets);
    this.#view = new PortsView(state, 'transport');
  }

  set sourcePort(value: number) {
    this.setField(this.#view.source, value);
  }

  set destinationPort(value: number) {
    this.setField(this.#view.destination, value);
  }
}

/** ARP, as to answer a request. */
export class ArpRewrite extends Rewrite {
  readonly #view: ArpView;

  constructor(state: PacketState, sets: PendingSets) {
    super(state, sets);
    this.#view = new ArpView(state);
  }

  /** 1 for a request, 2 for a reply. */
  set operation(value: number) {
    this.setNumber('operation', 0xff00_0000, 24, 255, value);
  }

  set senderAddress(value: SetValue) {
    this.setField(this.#view.senderAddress, value);
  }

  set targetAddress(value: SetValue) {
    this.setField(this.#view.targetAddress, value);
  }

  set senderMac(value: SetValue) {
    this.setField(this.#view.senderMac, value);
  }

  set targetMac(value: SetValue) {
    this.setField(this.#view.targetMac, value);
  }
}

/** The outermost VLAN tag. */
export class VlanRewrite extends Rewrite {
  /** 0 to 4095. */
  set id(value: number) {
    this.#set('id', 0xfff, value, 4095, 0);
  }

  /** 802.1p, 0 to 7. */
  set priority(value: number) {
    this.#set('priority', 0xe000, value, 7, 13);
  }

  #set(name: string, bits: number, value: number, maximum: number, shift: number): void {
    if (!Number.isInteger(value) || value < 0 || value > maximum)
      throw new DecisionError(
        `${this.state.marks.by}: the ${name} of a VLAN tag cannot be ${shown(value)}: it is 0 to ${maximum}`,
      );
    this.state.setTag(0, bits, value << shift);
    this.sets.addTag();
  }
}
