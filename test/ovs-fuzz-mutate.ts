/**
 * Changes netlink messages of Open vSwitch the way a hostile or broken program might: bits, lengths, types and whole attributes, at
 * any depth. Used by ovs-fuzz.test.ts; everything follows from the seed.
 */

/** A generator of 32-bit numbers that repeats for a seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** A number from 0 to limit - 1. */
  below(limit: number): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return (state >>> 0) % limit;
  }
}

/** nlmsghdr, genlmsghdr, ovs_header. */
const HEADERS_BYTES = 24;
const EXTREMES = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

interface Node {
  type: number;
  /** Either content or children. */
  content: Uint8Array;
  children: Node[] | null;
}

/** The attributes that fill some bytes exactly, or null. */
function parse(bytes: Uint8Array, depth: number): Node[] | null {
  const nodes: Node[] = [];
  let at = 0;
  while (bytes.length - at >= 4) {
    const length = bytes[at] | (bytes[at + 1] << 8);
    const type = bytes[at + 2] | (bytes[at + 3] << 8);
    if (length < 4 || length > bytes.length - at || (type & 0x3fff) > 63) return null;
    const content = bytes.subarray(at + 4, at + length);
    const children = depth < 6 && content.length >= 4 ? parse(content, depth + 1) : null;
    nodes.push({ type, content, children });
    at += (length + 3) & ~3;
  }
  return at >= bytes.length && nodes.length > 0 ? nodes : null;
}

function bytesOf(nodes: readonly Node[]): number[] {
  const bytes: number[] = [];
  for (const node of nodes) {
    const content = node.children === null ? node.content : bytesOf(node.children);
    const length = (content.length + 4) & 0xffff;
    bytes.push(length & 255, length >> 8, node.type & 255, node.type >> 8);
    for (const byte of content) bytes.push(byte);
    while (bytes.length % 4 !== 0) bytes.push(0);
  }
  return bytes;
}

/** A list of attributes somewhere in a tree. */
function someList(nodes: Node[], random: Random): Node[] {
  let list = nodes;
  for (;;) {
    const inner = list.filter((node) => node.children !== null && node.children.length > 0);
    if (inner.length === 0 || random.below(3) === 0) return list;
    list = inner[random.below(inner.length)].children ?? list;
  }
}

function changeTree(nodes: Node[], others: readonly Node[][], random: Random): void {
  const list = someList(nodes, random);
  const at = random.below(list.length);
  const node = list[at];
  switch (random.below(8)) {
    case 0:
      list.splice(at, 1);
      break;
    case 1:
      list.splice(at, 0, node);
      break;
    case 2:
      node.type = (node.type & 0xc000) | random.below(36);
      break;
    case 3: {
      const donor = others[random.below(others.length)];
      const donated = someList([...donor], random);
      list.splice(at, 0, structuredCloneTree([donated[random.below(donated.length)]])[0]);
      break;
    }
    case 4: {
      // A value at one of its bounds.
      const value = EXTREMES[random.below(EXTREMES.length)];
      const content = node.content.slice();
      for (let i = 0; i < content.length; i += 1) content[i] = value >>> ((i & 3) * 8);
      node.content = content;
      node.children = null;
      break;
    }
    case 5: {
      const length = random.below(2) === 0 ? random.below(20) : random.below(3000);
      const content = new Uint8Array(length);
      content.set(node.content.subarray(0, length));
      node.content = content;
      node.children = null;
      break;
    }
    case 6: {
      // Inside itself, as deep as it gets.
      let inner = structuredCloneTree([node])[0];
      for (let depth = random.below(24); depth > 0; depth -= 1) {
        inner = { type: node.type, content: new Uint8Array(0), children: [inner] };
      }
      list[at] = inner;
      break;
    }
    default: {
      const content = node.content.slice();
      if (content.length > 0) content[random.below(content.length)] ^= 1 << random.below(8);
      node.content = content;
      node.children = null;
    }
  }
}

/** A changed copy of one of the datagrams of a trace, which hold one message each. */
export class Mutator {
  readonly #trace: readonly Uint8Array[];
  readonly #trees: Node[][];
  readonly #random: Random;

  constructor(trace: readonly Uint8Array[], random: Random) {
    this.#trace = trace;
    this.#trees = trace.map((datagram) => parse(datagram.subarray(HEADERS_BYTES), 0)).filter((tree) => tree !== null);
    this.#random = random;
  }

  next(): Uint8Array {
    const random = this.#random;
    const datagram = this.#trace[random.below(this.#trace.length)];
    const tree = parse(datagram.subarray(HEADERS_BYTES), 0);
    let bytes: Uint8Array;
    if (tree === null || random.below(4) === 0) {
      bytes = datagram.slice();
    } else {
      const nodes = structuredCloneTree(tree);
      for (let count = 1 + random.below(3); count > 0 && nodes.length > 0; count -= 1) {
        changeTree(nodes, this.#trees, random);
      }
      bytes = Uint8Array.of(...datagram.subarray(0, HEADERS_BYTES), ...bytesOf(nodes).slice(0, 100_000));
      new DataView(bytes.buffer).setUint32(0, bytes.length, true);
    }
    return random.below(4) === 0 ? this.#changeBytes(bytes) : bytes;
  }

  #changeBytes(bytes: Uint8Array): Uint8Array {
    const random = this.#random;
    switch (random.below(5)) {
      case 0:
        return bytes.subarray(0, random.below(bytes.length));
      case 1: {
        const cut = bytes.slice(0, 16 + random.below(Math.max(1, bytes.length - 16)));
        new DataView(cut.buffer).setUint32(0, cut.length, true);
        return cut;
      }
      case 2:
        // Headers: length, type, flags, command, version, datapath.
        bytes[random.below(Math.min(HEADERS_BYTES, bytes.length))] = random.below(256);
        return bytes;
      default:
        for (let count = 1 + random.below(6); count > 0; count -= 1)
          bytes[random.below(bytes.length)] = random.below(256);
        return bytes;
    }
  }
}

function structuredCloneTree(nodes: readonly Node[]): Node[] {
  return nodes.map(({ type, content, children }) => ({
    type,
    content,
    children: children === null ? null : structuredCloneTree(children),
  }));
}
