/**
 * An observed table of prefixes, as for address lists and routes: a look-up marks as many bits as tell its answer from every other, and rests
 * on the way through the tree that gave it. A prefix that comes, goes or changes ends the decisions whose answer it may change, and no other.
 *
 * It is a binary tree of bits. A walk ends at a node that has nothing below it in the packet's direction; the bits up to there, and the one that has nothing
 * behind it, are what was looked at. scoped-anchor.ts keeps what rests on walks.
 */
import { DecisionError } from '../errors.ts';
import { bitOf, FIELD_KINDS, type Field, type FieldKind, type FieldValue, fieldValue, kindName } from '../field.ts';
import { Anchor, readBy } from './observed.ts';
import { ScopedAnchor } from './scoped-anchor.ts';

/** Length of what was found when nothing was. */
const NONE = -1;

class Node<T> {
  readonly depth: number;
  readonly parent: Node<T> | null;
  /** Which child of its parent it is. */
  readonly direction: number;
  zero: Node<T> | null = null;
  one: Node<T> | null = null;
  entry: { readonly value: T; readonly text: string } | null = null;

  constructor(parent: Node<T> | null, direction: number) {
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
}

/** Nodes go that nothing needs any more, from here up. */
function prune<T>(from: Node<T>): void {
  let node = from;
  while (node.entry === null && node.zero === null && node.one === null && node.parent !== null) {
    node.parent.setChild(node.direction, null);
    node = node.parent;
  }
}

/** The prefixes of one kind of field. */
interface Tree<T> {
  readonly root: Node<T>;
  readonly anchor: ScopedAnchor;
}

/** A prefix that was found. */
export interface FoundPrefix<T> {
  /** As it was set, such as `10.0.0.0/8`. */
  readonly prefix: string;
  readonly value: T;
}

export class ObservedPrefixes<T> {
  readonly name: string;
  readonly #trees = new Map<FieldKind, Tree<T>>();
  readonly #kinds: readonly FieldKind[];
  /** What rests on all prefixes at once. */
  readonly #all: Anchor;
  #size = 0;

  /** @param name for people; @param kinds of fields that it is for */
  constructor(name: string, kinds: readonly FieldKind[] = FIELD_KINDS) {
    this.name = name;
    this.#kinds = kinds;
    this.#all = new Anchor(name);
  }

  /** How many prefixes there are: rests on all of them. */
  get size(): number {
    this.#all.read();
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
    const { root, anchor } = this.#tree(field.kind);
    const words = field.peek();
    let node = root;
    let best: Node<T> | null = null;
    for (;;) {
      if (node.entry !== null) best = node;
      const next = node.depth === field.width ? null : node.child(bitOf(words, node.depth));
      if (next === null) break;
      node = next;
    }
    const isAlone = node.zero === null && node.one === null;
    field.mark(isAlone ? node.depth : node.depth + 1);
    readBy(anchor, best === null ? NONE : best.depth, field);
    return best;
  }

  /**
   * Add or change a prefix, or a single address.
   * @param kind of the fields that it is for; left out, it is told from the text
   * @throws DecisionError for what is no prefix
   */
  set(prefix: string, value: T, kind: FieldKind = kindOf(prefix)): void {
    const { words, bits } = this.#read(kind, prefix);
    const { root, anchor } = this.#tree(kind);
    let node = root;
    while (node.depth < bits) {
      const direction = bitOf(words, node.depth);
      let next = node.child(direction);
      if (next === null) {
        next = new Node(node, direction);
        node.setChild(direction, next);
      }
      node = next;
    }
    if (node.entry !== null && Object.is(node.entry.value, value)) return;
    if (node.entry === null) this.#size += 1;
    node.entry = { value, text: prefix };
    anchor.changedWithin(words, bits);
    this.#all.changed();
  }

  /** @returns whether it was there */
  delete(prefix: string, kind: FieldKind = kindOf(prefix)): boolean {
    const { words, bits } = this.#read(kind, prefix);
    const { root, anchor } = this.#tree(kind);
    let node: Node<T> | null = root;
    while (node !== null && node.depth < bits) node = node.child(bitOf(words, node.depth));
    if (node === null || node.entry === null) return false;
    node.entry = null;
    this.#size -= 1;
    prune(node);
    anchor.changedWithin(words, bits);
    this.#all.changed();
    return true;
  }

  /** Why a text can be no prefix of this table, such as `300.0.0.0/8 is no IPv4 address or prefix`; null when it can. */
  flaw(prefix: string): string | null {
    try {
      this.#read(kindOf(prefix), prefix);
      return null;
    } catch (error) {
      if (error instanceof DecisionError) return error.message;
      throw error;
    }
  }

  #read(kind: FieldKind, prefix: string): FieldValue {
    if (this.#kinds.includes(kind)) return fieldValue(kind, prefix);
    throw new DecisionError(`${prefix} is no ${this.#kinds.map(kindName).join(', nor ')}`);
  }

  /**
   * Make it hold these and no others. What stays the same ends nothing.
   * @throws DecisionError for what is no prefix; then nothing has changed
   */
  replace(prefixes: Iterable<readonly [prefix: string, value: T]>): void {
    const wanted = new Map(prefixes);
    // All are read before any is changed.
    for (const prefix of wanted.keys()) this.#read(kindOf(prefix), prefix);
    const kept = new Set<string>();
    for (const prefix of wanted.keys()) kept.add(canonical(prefix));
    for (const { prefix } of this.entries()) if (!kept.has(canonical(prefix))) this.delete(prefix);
    for (const [prefix, value] of wanted) this.set(prefix, value);
  }

  /** All prefixes: rests on all of them. */
  entries(): FoundPrefix<T>[] {
    this.#all.read();
    const found: FoundPrefix<T>[] = [];
    const visit = (node: Node<T> | null): void => {
      if (node === null) return;
      if (node.entry !== null) found.push({ prefix: node.entry.text, value: node.entry.value });
      visit(node.zero);
      visit(node.one);
    };
    for (const { root } of this.#trees.values()) visit(root);
    return found;
  }

  #tree(kind: FieldKind): Tree<T> {
    let tree = this.#trees.get(kind);
    if (tree === undefined) {
      tree = { root: new Node<T>(null, 0), anchor: new ScopedAnchor(this.name) };
      this.#trees.set(kind, tree);
    }
    return tree;
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
