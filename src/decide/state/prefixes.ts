/**
 * An observed table of prefixes, as for address lists and routes: a look-up marks as many bits as tell its answer from every other, and rests
 * on the way through the tree that gave it. A prefix that comes, goes or changes ends the decisions whose answer it may change, and no other.
 *
 * It is a binary tree of bits. A walk ends at a node that has nothing below it in the packet's direction. What rests on a walk is tied to that
 * node, with the length of the prefix that was found, and the direction: 0 or 1 where the node has something below it the other way, else
 * either. A change of a prefix concerns what is tied at or below its node and found no longer prefix, and what is tied above it and looked
 * its way.
 */
import { bitOf, type Field, type FieldKind, type FieldValue, fieldValue } from '../field.ts';
import { Anchor, isReading } from './observed.ts';

/** What a walk looked like that ended where nothing is below: whichever way. */
const EITHER = 2;
/** Length of what was found when nothing was. */
const NONE = -1;

class Node<T> extends Anchor {
  readonly depth: number;
  readonly parent: Node<T> | null;
  /** Which child of its parent it is. */
  readonly direction: number;
  zero: Node<T> | null = null;
  one: Node<T> | null = null;
  entry: { readonly value: T; readonly text: string } | null = null;

  constructor(name: string, parent: Node<T> | null, direction: number) {
    super(name);
    this.parent = parent;
    this.direction = direction;
    this.depth = parent === null ? 0 : parent.depth + 1;
  }

  child(direction: number): Node<T> | null {
    return direction === 0 ? this.zero : this.one;
  }

  setChild(direction: number, node: Node<T> | null): void {
    if (direction === 0) this.zero = node;
    else this.one = node;
  }

  /** Nothing hangs here any more: when nothing else is here, nodes go, from here up. */
  protected override freed(): void {
    prune(this);
  }
}

function prune<T>(from: Node<T>): void {
  let node = from;
  while (node.isFree && node.entry === null && node.zero === null && node.one === null && node.parent !== null) {
    const { parent } = node;
    // Who has read it, and is not tied to it yet, is to read again.
    node.version += 1;
    if (parent.child(node.direction) === node) parent.setChild(node.direction, null);
    node = parent;
  }
}

/** A prefix that was found. */
export interface FoundPrefix<T> {
  /** As it was set, such as `10.0.0.0/8`. */
  readonly prefix: string;
  readonly value: T;
}

export class ObservedPrefixes<T> {
  readonly name: string;
  readonly #roots = new Map<FieldKind, Node<T>>();
  #size = 0;

  /** @param name for people */
  constructor(name: string) {
    this.name = name;
  }

  /** Prefixes there are. */
  get size(): number {
    return this.#size;
  }

  /**
   * The value of the longest prefix that a field of the packet lies in; undefined when there is none.
   * @param field such as `packet.ipv4.source`
   */
  longest(field: Field): T | undefined {
    return this.find(field)?.value;
  }

  /** As {@link longest}, with the prefix. */
  find(field: Field): FoundPrefix<T> | undefined {
    const found = this.#walk(field)?.entry ?? null;
    return found === null ? undefined : { prefix: found.text, value: found.value };
  }

  /** Whether a field of the packet lies in any of the prefixes. */
  covers(field: Field): boolean {
    return this.find(field) !== undefined;
  }

  /** The node of the longest prefix, or null. */
  #walk(field: Field): Node<T> | null {
    const words = field.peek();
    let node = this.#root(field.kind);
    let best: Node<T> | null = null;
    for (;;) {
      if (node.entry !== null) best = node;
      const next = node.depth === field.width ? null : node.child(bitOf(words, node.depth));
      if (next === null) break;
      node = next;
    }
    const isAlone = node.zero === null && node.one === null;
    field.mark(isAlone ? node.depth : node.depth + 1);
    if (isReading()) node.read(best === null ? NONE : best.depth, isAlone ? EITHER : bitOf(words, node.depth));
    return best;
  }

  /**
   * Add or change a prefix, or a single address.
   * @param kind of the fields that it is for; left out, it is told from the text
   * @throws DecisionError for what is no prefix
   */
  set(prefix: string, value: T, kind: FieldKind = kindOf(prefix)): void {
    const { words, bits } = fieldValue(kind, prefix);
    const path: Node<T>[] = [];
    let node = this.#root(kind);
    for (;;) {
      path.push(node);
      if (node.depth === bits) break;
      const direction = bitOf(words, node.depth);
      let next = node.child(direction);
      if (next === null) {
        next = new Node(this.name, node, direction);
        node.setChild(direction, next);
      }
      node = next;
    }
    if (node.entry !== null && Object.is(node.entry.value, value)) return;
    if (node.entry === null) this.#size += 1;
    node.entry = { value, text: prefix };
    this.#changed(path, words, bits);
  }

  /** @returns whether it was there */
  delete(prefix: string, kind: FieldKind = kindOf(prefix)): boolean {
    const { words, bits } = fieldValue(kind, prefix);
    const path: Node<T>[] = [];
    let node: Node<T> | null = this.#root(kind);
    for (; node !== null; node = node.child(bitOf(words, node.depth))) {
      path.push(node);
      if (node.depth === bits) break;
    }
    if (node === null || node.entry === null) return false;
    node.entry = null;
    this.#size -= 1;
    this.#changed(path, words, bits);
    prune(node);
    return true;
  }

  /** Make it hold these and no others. What stays the same ends nothing. */
  replace(prefixes: Iterable<readonly [prefix: string, value: T]>): void {
    const wanted = new Map(prefixes);
    // All are read before any is changed.
    for (const prefix of wanted.keys()) fieldValue(kindOf(prefix), prefix);
    const kept = new Set<string>();
    for (const prefix of wanted.keys()) kept.add(canonical(prefix));
    for (const { prefix } of this.entries()) if (!kept.has(canonical(prefix))) this.delete(prefix);
    for (const [prefix, value] of wanted) this.set(prefix, value);
  }

  /** All prefixes. No decision may rest on it. */
  entries(): FoundPrefix<T>[] {
    const found: FoundPrefix<T>[] = [];
    const visit = (node: Node<T> | null): void => {
      if (node === null) return;
      if (node.entry !== null) found.push({ prefix: node.entry.text, value: node.entry.value });
      visit(node.zero);
      visit(node.one);
    };
    for (const root of this.#roots.values()) visit(root);
    return found;
  }

  #root(kind: FieldKind): Node<T> {
    let root = this.#roots.get(kind);
    if (root === undefined) {
      root = new Node<T>(this.name, null, 0);
      this.#roots.set(kind, root);
    }
    return root;
  }

  #changed(path: readonly Node<T>[], words: readonly number[], bits: number): void {
    const last = path[path.length - 1];
    for (const node of path) {
      if (node === last) break;
      const direction = bitOf(words, node.depth);
      node.endWhere((_, side) => side === EITHER || side === direction);
    }
    const below = (node: Node<T> | null): void => {
      if (node === null) return;
      const { zero, one } = node;
      node.endWhere((found) => found <= bits);
      below(zero);
      below(one);
    };
    below(last);
  }
}

/** The same text for the same prefix, however it is written. */
function canonical(prefix: string): string {
  const kind = kindOf(prefix);
  const { words, bits }: FieldValue = fieldValue(kind, prefix);
  return `${kind} ${words.join(' ')}/${bits}`;
}

/** What kind of field a text is for. */
export function kindOf(prefix: string): FieldKind {
  const address = prefix.split('/')[0];
  if (/^[0-9]+$/.test(address)) return 'port';
  if (/^[0-9a-fA-F]{1,2}([:-][0-9a-fA-F]{1,2}){5}$/.test(address)) return 'mac';
  return address.includes(':') ? 'ipv6' : 'ipv4';
}
