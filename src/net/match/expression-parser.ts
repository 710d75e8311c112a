/**
 * The parser of filter expressions, a small part of the language of pcap-filter(7):
 *
 *     expression  = factor { ("and" | "or") factor }        equal precedence, from the left, as pcap-filter has it
 *     factor      = ("not" | "!") factor | "(" expression ")" | primitive
 *     primitive   = ["src" | "dst"] ["host"] ADDRESS | ["src" | "dst"] "net" PREFIX
 *                 | ["tcp" | "udp" | "sctp"] ["src" | "dst"] ("port" N | "portrange" N-M)
 *                 | "proto" (NAME | N) | "ether" ["src" | "dst" | "host"] MAC | "ether" "proto" (NAME | N)
 *                 | "ether" ("broadcast" | "multicast") | "vlan" [N]
 *                 | "ip" | "ip6" | "arp" | "tcp" | "udp" | "sctp" | "icmp" | "icmp6"
 *                 | "ipv4" | "ipv6" | "icmpv4" | "icmpv6"     the same by the names that other tools have
 *
 * Unlike there, headers are looked for behind VLAN tags in any case, and a port never matches a fragment that carries none.
 * Neighbours: lexical forms of addresses and names are in names.ts; expression.ts compiles the result.
 */
import { EtherType, IpProtocol } from '../wire/numbers.ts';
import { ARP_SHAPE, Field, NetworkShape, PRIORITY_TAGGED, shapesOver, shapesWith, TransportShape } from './fields.ts';
import { etherTypeNumber, parseMaskedMac, parsePrefix, protocolNumber, unsignedNumber } from './names.ts';
import { and, type Condition, or } from './predicate.ts';

/** Longest expression, in characters, and deepest nesting. */
const MAXIMUM_LENGTH = 2000;
const MAXIMUM_DEPTH = 64;

/** A filter expression that cannot be read. The message quotes the place. */
export class FilterExpressionError extends Error {
  override readonly name = 'FilterExpressionError';
  /** Index in the text of the word that is wrong; its length when the text ends too early. */
  readonly position: number;

  constructor(message: string, position: number) {
    super(message);
    this.position = position;
  }
}

/**
 * Read an expression.
 * @returns null for one that is empty or blank
 * @throws FilterExpressionError
 */
export function parseFilterExpression(text: string): Condition | null {
  return new Parser(text).parse();
}

/** Shapes in which the IP protocol is known. */
const PROTOCOL_SHAPES =
  (shapesOver(NetworkShape.IPV4) | shapesOver(NetworkShape.IPV6)) & ~shapesWith(TransportShape.UNKNOWN);
const PORT_SHAPES = shapesWith(TransportShape.TCP, TransportShape.UDP, TransportShape.SCTP);

function equals(field: number, value: number): Condition {
  return { kind: 'range', field, low: value, high: value };
}

function protocolIs(number: number): Condition {
  return and({ kind: 'shape', shapes: PROTOCOL_SHAPES }, equals(Field.PROTOCOL, number));
}

type Side = 'src' | 'dst' | 'either';

/** A condition on one side's field, or on either's. */
function onSide(side: Side, make: (source: boolean) => Condition): Condition {
  if (side === 'src') return make(true);
  if (side === 'dst') return make(false);
  return or(make(true), make(false));
}

interface Token {
  readonly text: string;
  readonly at: number;
}

const TOKEN = /\(|\)|!|&&|\|\||[^\s()!&|]+|\S/g;
const TRANSPORTS: ReadonlyMap<string, number> = new Map([
  ['tcp', TransportShape.TCP],
  ['udp', TransportShape.UDP],
  ['sctp', TransportShape.SCTP],
]);
const JOINS: ReadonlyMap<string, 'and' | 'or'> = new Map([
  ['and', 'and'],
  ['&&', 'and'],
  ['or', 'or'],
  ['||', 'or'],
]);

class Parser {
  readonly #text: string;
  readonly #tokens: Token[];
  #next = 0;

  constructor(text: string) {
    this.#text = text;
    if (text.length > MAXIMUM_LENGTH) {
      throw new FilterExpressionError(`a filter expression has at most ${MAXIMUM_LENGTH} characters`, MAXIMUM_LENGTH);
    }
    this.#tokens = [...text.matchAll(TOKEN)].map((match) => ({ text: match[0].toLowerCase(), at: match.index }));
  }

  parse(): Condition | null {
    if (this.#tokens.length === 0) return null;
    const condition = this.#expression(0);
    const rest = this.#peek();
    if (rest !== '') this.#fail(rest === ')' ? 'a ")" without its "("' : `expected "and" or "or" before "${rest}"`);
    return condition;
  }

  #peek(): string {
    return this.#tokens[this.#next]?.text ?? '';
  }

  #take(): string {
    const text = this.#peek();
    this.#next += 1;
    return text;
  }

  /** The next word, which must be there. @param what it stands for, for people */
  #operand(what: string): string {
    if (this.#next >= this.#tokens.length) this.#fail(`expected ${what} where the expression ends`);
    return this.#take();
  }

  #accept(text: string): boolean {
    if (this.#peek() !== text) return false;
    this.#next += 1;
    return true;
  }

  /** @param back how many words ago the wrong one was */
  #fail(message: string, back = 0): never {
    const position = this.#tokens[this.#next - back]?.at ?? this.#text.length;
    throw new FilterExpressionError(`filter expression, character ${position + 1}: ${message}`, position);
  }

  #expression(depth: number): Condition {
    let left = this.#factor(depth);
    for (;;) {
      const join = JOINS.get(this.#peek());
      if (join === undefined) return left;
      this.#next += 1;
      left = { kind: join, left, right: this.#factor(depth) };
    }
  }

  #factor(depth: number): Condition {
    if (depth === MAXIMUM_DEPTH) this.#fail(`more than ${MAXIMUM_DEPTH} levels of nesting`);
    if (this.#accept('not') || this.#accept('!')) return { kind: 'not', inner: this.#factor(depth + 1) };
    if (this.#accept('(')) {
      const inner = this.#expression(depth + 1);
      if (!this.#accept(')')) this.#fail('expected ")"');
      return inner;
    }
    return this.#primitive();
  }

  #primitive(): Condition {
    const word = this.#operand('a condition');
    switch (word) {
      case 'src':
      case 'dst':
        return this.#sided(word, PORT_SHAPES);
      case 'host':
      case 'net':
      case 'port':
      case 'portrange':
        this.#next -= 1;
        return this.#sided('either', PORT_SHAPES);
      case 'tcp':
      case 'udp':
      case 'sctp':
        return this.#transport(word);
      case 'proto':
        return this.#protocol();
      case 'ether':
        return this.#ether();
      case 'vlan':
        return this.#vlan();
      case 'ip':
      case 'ipv4':
        return equals(Field.ETHER_TYPE, EtherType.IPV4);
      case 'ip6':
      case 'ipv6':
        return equals(Field.ETHER_TYPE, EtherType.IPV6);
      case 'arp':
        return equals(Field.ETHER_TYPE, EtherType.ARP);
      case 'icmp':
      case 'icmpv4':
        return and({ kind: 'shape', shapes: shapesOver(NetworkShape.IPV4) }, protocolIs(IpProtocol.ICMPV4));
      case 'icmp6':
      case 'icmpv6':
        return and({ kind: 'shape', shapes: shapesOver(NetworkShape.IPV6) }, protocolIs(IpProtocol.ICMPV6));
      default:
        return this.#fail(`"${word}" does not begin a condition; see host, net, port, proto, ether, vlan`, 1);
    }
  }

  /** `tcp`, or `tcp [src|dst] port N`. */
  #transport(name: string): Condition {
    const shapes = shapesWith(TRANSPORTS.get(name) ?? 0);
    const next = this.#peek();
    if (next === 'port' || next === 'portrange') return this.#sided('either', shapes);
    if (next === 'src' || next === 'dst') {
      this.#next += 1;
      if (this.#peek() !== 'port' && this.#peek() !== 'portrange') {
        this.#fail(`expected "port" or "portrange" behind "${name} ${next}"`);
      }
      return this.#sided(next, shapes);
    }
    return protocolIs(protocolNumber(name));
  }

  #sided(side: Side, portShapes: number): Condition {
    const word = this.#operand('host, net, port or an address');
    if (word === 'port') return this.#ports(side, portShapes, this.#port(this.#operand('a port number')));
    if (word === 'portrange') {
      const bounds = this.#operand('a port range').split('-');
      if (bounds.length !== 2) this.#fail('a port range is written 1000-2000', 1);
      const low = this.#port(bounds[0]);
      const high = this.#port(bounds[1]);
      if (low > high) this.#fail('the lower port comes first in a range', 1);
      return this.#ports(side, portShapes, low, high);
    }
    if (word === 'net') return this.#network(side, this.#operand('a prefix'));
    const address = word === 'host' ? this.#operand('an address') : word;
    if (address.includes('/')) this.#fail(`"${address}" is a prefix: write "net ${address}"`, 1);
    return this.#network(side, address);
  }

  #port(text: string): number {
    const port = unsignedNumber(text, 0xffff);
    if (port < 0) this.#fail(`"${text}" is not a port number from 0 to 65535`, 1);
    return port;
  }

  #ports(side: Side, shapes: number, low: number, high = low): Condition {
    return and(
      { kind: 'shape', shapes },
      onSide(side, (source) => ({
        kind: 'range',
        field: source ? Field.SOURCE_PORT : Field.DESTINATION_PORT,
        low,
        high,
      })),
    );
  }

  /** Addresses of IP, and for IPv4 those in ARP too. */
  #network(side: Side, text: string): Condition {
    const prefix = parsePrefix(text);
    if (typeof prefix === 'string') return this.#fail(prefix, 1);
    const shapes =
      prefix.version === 4 ? shapesOver(NetworkShape.IPV4) | (1 << ARP_SHAPE) : shapesOver(NetworkShape.IPV6);
    const inPrefix = (source: boolean): Condition => {
      let condition: Condition = { kind: 'shape', shapes };
      const field = source ? Field.SOURCE_IP : Field.DESTINATION_IP;
      for (let i = 0; i < prefix.words.length; i += 1) {
        if (prefix.masks[i] === 0) continue;
        condition = and(condition, { kind: 'bits', field: field + i, mask: prefix.masks[i], value: prefix.words[i] });
      }
      return condition;
    };
    return onSide(side, inPrefix);
  }

  #protocol(): Condition {
    const text = this.#operand('an IP protocol');
    const number = protocolNumber(text);
    if (number < 0) this.#fail(`"${text}" is neither the name nor the number of an IP protocol`, 1);
    return protocolIs(number);
  }

  #ether(): Condition {
    const word = this.#operand('a MAC address');
    if (word === 'proto') {
      const text = this.#operand('an EtherType');
      const number = etherTypeNumber(text);
      if (number < 0) this.#fail(`"${text}" is neither the name nor the number of an EtherType`, 1);
      return equals(Field.ETHER_TYPE, number);
    }
    if (word === 'broadcast') return this.#mac('dst', 'ff:ff:ff:ff:ff:ff');
    if (word === 'multicast') return this.#mac('dst', '01:00:00:00:00:00/01:00:00:00:00:00');
    if (word === 'src' || word === 'dst') {
      this.#accept('host');
      return this.#mac(word, this.#operand('a MAC address'));
    }
    return this.#mac('either', word === 'host' ? this.#operand('a MAC address') : word);
  }

  #mac(side: Side, text: string): Condition {
    const mac = parseMaskedMac(text);
    if (typeof mac === 'string') return this.#fail(mac, 1);
    return onSide(side, (source) => {
      const field = source ? Field.SOURCE_MAC : Field.DESTINATION_MAC;
      return and(
        { kind: 'bits', field, mask: mac.highMask, value: mac.high },
        { kind: 'bits', field: field + 1, mask: mac.lowMask, value: mac.low },
      );
    });
  }

  #vlan(): Condition {
    const text = this.#peek();
    if (!/^\d/.test(text)) return { kind: 'range', field: Field.VLAN, low: 1, high: PRIORITY_TAGGED };
    this.#next += 1;
    const id = unsignedNumber(text, 4095);
    if (id < 0) this.#fail(`"${text}" is not a VLAN id from 0 to 4095`, 1);
    return equals(Field.VLAN, id === 0 ? PRIORITY_TAGGED : id);
  }
}
