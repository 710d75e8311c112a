/**
 * Filter expressions: text such as `host 10.0.0.1 and tcp port 80`, compiled, for `millrace capture` and whoever else picks
 * packets. Neighbours: expression-parser.ts has the language, predicate.ts runs the tests, fields.ts reads packets for them.
 */
import { TagAction } from '../adapter.ts';
import type { Packet } from '../packet.ts';
import { EtherType } from '../wire/numbers.ts';
import { parseFilterExpression } from './expression-parser.ts';
import { Field, Need, PacketFields, PRIORITY_TAGGED } from './fields.ts';
import { type Condition, Predicate } from './predicate.ts';

/** A compiled expression: {@link matches} allocates nothing. */
export class FilterExpression {
  readonly text: string;
  readonly #predicate: Predicate;
  readonly #needs: number;
  readonly #fields = new PacketFields();

  /**
   * @param text the expression; empty or blank: every packet matches
   * @throws FilterExpressionError
   */
  constructor(text: string) {
    this.text = text;
    const condition = parseFilterExpression(text);
    this.#predicate = new Predicate(condition);
    this.#needs = condition === null ? Need.NONE : needsOf(condition);
  }

  /**
   * Whether a packet matches. A VLAN in the expression is that of the frame's outer tag.
   * @param tagAction the TagAction that is going to be carried out: the tag counts as it will be then
   */
  matches(packet: Packet, tagAction: number = TagAction.KEEP): boolean {
    this.#fields.read(packet, this.#needs, tagAction === TagAction.KEEP ? -1 : vlanAfter(packet, tagAction));
    return this.#predicate.matches(this.#fields);
  }
}

function needsOf(condition: Condition): number {
  switch (condition.kind) {
    case 'and':
    case 'or':
      return needsOf(condition.left) | needsOf(condition.right);
    case 'not':
      return needsOf(condition.inner);
    case 'shape':
      return Need.NONE;
    default:
      if (condition.field >= Field.SOURCE_MAC && condition.field < Field.SOURCE_IP) return Need.MAC;
      if (condition.field >= Field.SOURCE_IP && condition.field < Field.PROTOCOL) return Need.IP;
      return Need.NONE;
  }
}

/** The word for Field.VLAN once a tag action other than KEEP has been carried out. */
function vlanAfter(packet: Packet, tagAction: number): number {
  if ((tagAction & TagAction.PUSH) !== 0) return tagAction & 0xfff || PRIORITY_TAGGED;
  const { bytes, length } = packet;
  const at = packet.offset + 12;
  // What the outer tag uncovers when it is stripped.
  if (length < 22 || !isTag(bytes, at) || !isTag(bytes, at + 4)) return 0;
  return ((bytes[at + 6] << 8) | bytes[at + 7]) & 0xfff || PRIORITY_TAGGED;
}

function isTag(bytes: Uint8Array, at: number): boolean {
  const type = (bytes[at] << 8) | bytes[at + 1];
  return type === EtherType.VLAN || type === EtherType.SERVICE_VLAN;
}
