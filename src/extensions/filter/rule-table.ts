/**
 * Rules compiled for the datapath. Rules are sorted beforehand by what is known of a packet without looking at them: direction,
 * port, and the packet's shape (IPv4 with TCP, ARP, ...). For each combination there is a list of the rules that can still
 * match, with the tests that are still open, as integers in one array:
 *
 *     rule:  [ index of the next rule, number of the rule, tests ... ]     a 0 instead of the index ends the list
 *     test:  [ operation << 8 | field, count or mask, low, high | value, ... ]
 *
 * Neighbours: rule.ts says which shapes a rule can match, fields.ts of net/ holds the words tested, extension.ts asks.
 */
import {
  EtherType,
  Field,
  Need,
  NetworkShape,
  networkOf,
  type PacketFields,
  SHAPE_COUNT,
  shapeOf,
  TransportShape,
  transportOf,
} from '../../net/index.ts';
import { HeaderField } from '../../switch/index.ts';
import { type FilterConfiguration, type FilterRule, type NumberRange, shapesOfRule } from './rule.ts';

/** Which list of rules is asked. */
export const Direction = { IN: 0, OUT: 1 } as const;

/** No `allow` or `drop` rule matched. */
export const NO_RULE = -1;

const RANGE = 0;
const RANGES = 1;
const BITS = 2;

const COUNT_ACTION = 2;
const ACTIONS = { allow: 0, drop: 1, count: COUNT_ACTION } as const;

/** All rules, ready to judge packets, with their counters. */
export class RuleTable {
  readonly configuration: FilterConfiguration;
  /** By number of the rule; super-packets count as one packet. */
  readonly packets: Float64Array;
  readonly bytes: Float64Array;
  /** Of packets that no rule decided. */
  defaultPackets = 0;
  defaultBytes = 0;
  /** Bits of Need, by direction. */
  readonly needs: readonly [number, number];
  /** Whether judging is of any use, by direction: there is a rule, or the default is to drop. */
  readonly judges: readonly [boolean, boolean];
  readonly #actions: Uint8Array;
  /** Group of a port by its id: ports that the same rules name. Group 0 is every port that none names. */
  #groups = new Uint16Array(0);
  /** Where the list of a group, direction and shape starts in the code. */
  #starts = new Int32Array(0);
  #code = new Int32Array(0);

  /** @param portIds ids of the ports there are, by name */
  constructor(configuration: FilterConfiguration, portIds: ReadonlyMap<string, number>) {
    const { rules } = configuration;
    this.configuration = configuration;
    this.packets = new Float64Array(rules.length);
    this.bytes = new Float64Array(rules.length);
    this.#actions = Uint8Array.from(rules, (rule) => ACTIONS[rule.action]);
    this.needs = [needsOf(rules, Direction.IN), needsOf(rules, Direction.OUT)];
    this.judges = [
      configuration.default === 'drop' || rules.some((rule) => applies(rule, Direction.IN)),
      configuration.default === 'drop' || rules.some((rule) => applies(rule, Direction.OUT)),
    ];
    this.resolvePorts(portIds);
  }

  /** Compile again for other ports; counters stay. */
  resolvePorts(portIds: ReadonlyMap<string, number>): void {
    const { rules } = this.configuration;
    const numbersOfPort = new Map<number, Set<number>>();
    rules.forEach((rule, number) => {
      for (const name of rule.ports ?? []) {
        const portId = portIds.get(name);
        if (portId === undefined) continue;
        const numbers = numbersOfPort.get(portId);
        if (numbers === undefined) numbersOfPort.set(portId, new Set([number]));
        else numbers.add(number);
      }
    });
    const groups = new Uint16Array(65_536);
    const groupOf = new Map<string, number>([['', 0]]);
    const members: ReadonlySet<number>[] = [new Set()];
    for (const [portId, numbers] of numbersOfPort) {
      const key = [...numbers].join();
      let group = groupOf.get(key);
      if (group === undefined) {
        group = members.length;
        groupOf.set(key, group);
        members.push(numbers);
      }
      groups[portId] = group;
    }
    const code: number[] = [0];
    const starts: number[] = [];
    const shapes = rules.map(shapesOfRule);
    for (const named of members) {
      for (const direction of [Direction.IN, Direction.OUT]) {
        const candidates = rules.map(
          (rule, number) => applies(rule, direction) && (rule.ports === null || named.has(number)),
        );
        for (let shape = 0; shape < SHAPE_COUNT; shape += 1) {
          starts.push(code.length);
          rules.forEach((rule, number) => {
            if (candidates[number] && (shapes[number] & (1 << shape)) !== 0) emitRule(rule, number, shape, code);
          });
          code.push(0);
        }
      }
    }
    this.#groups = groups;
    this.#starts = Int32Array.from(starts);
    this.#code = Int32Array.from(code);
  }

  /**
   * The first rule that allows or drops the packet read into `fields`; rules that count are counted on the way.
   * @param portId the source port with Direction.IN, the destination port with Direction.OUT
   * @returns number of the rule, or NO_RULE
   */
  judge(fields: PacketFields, direction: number, portId: number, lengthBytes: number): number {
    const code = this.#code;
    const words = fields.words;
    let at = this.#list(fields.shape, direction, portId);
    for (;;) {
      at = firstMatch(code, words, at);
      if (at < 0) {
        this.defaultPackets += 1;
        this.defaultBytes += lengthBytes;
        return NO_RULE;
      }
      const rule = code[at + 1];
      this.packets[rule] += 1;
      this.bytes[rule] += lengthBytes;
      if (this.#actions[rule] !== COUNT_ACTION) return rule;
      at = code[at];
    }
  }

  /** Whether the outcome of {@link judge} is to drop. */
  drops(rule: number): boolean {
    return rule === NO_RULE ? this.configuration.default === 'drop' : this.#actions[rule] === ACTIONS.drop;
  }

  /** The numbers of the rules that judge would count or obey, in order, without counting. Allocates. */
  matching(fields: PacketFields, direction: number, portId: number): number[] {
    const matched: number[] = [];
    let at = firstMatch(this.#code, fields.words, this.#list(fields.shape, direction, portId));
    while (at >= 0) {
      const rule = this.#code[at + 1];
      matched.push(rule);
      if (this.#actions[rule] !== COUNT_ACTION) break;
      at = firstMatch(this.#code, fields.words, this.#code[at]);
    }
    return matched;
  }

  /**
   * What of a packet's IP headers decides in {@link judge}, for packets that agree with this one in port, Ethernet header, VLAN and
   * EtherType, when their headers are sound.
   * @returns bits of HeaderField
   */
  fieldsOf({ words, shape }: PacketFields, direction: number, portId: number): number {
    const etherType = words[Field.ETHER_TYPE];
    // Rules on IP match nothing else. The shape tells it as well, but not where headers are broken.
    if (etherType !== EtherType.IPV4 && etherType !== EtherType.IPV6) return 0;
    const network = etherType === EtherType.IPV4 ? NetworkShape.IPV4 : NetworkShape.IPV6;
    const own = this.#looks(shape, direction, portId);
    let others = own;
    for (const transport of Object.values(TransportShape)) {
      others |= this.#looks(shapeOf(network, transport), direction, portId);
    }
    return others === 0 ? 0 : own | HeaderField.PROTOCOL;
  }

  /** What the tests of one list look at. */
  #looks(shape: number, direction: number, portId: number): number {
    const code = this.#code;
    let fields = 0;
    let rule = this.#list(shape, direction, portId);
    for (let next = code[rule]; next !== 0; next = code[rule]) {
      for (let test = rule + 2; test < next; test += testWords(code, test)) fields |= headerFieldOf(code[test] & 0xff);
      rule = next;
    }
    return fields;
  }

  /**
   * Count packets that went past the switch as {@link judge} would have.
   * @param matched what {@link matching} gave for one of them
   */
  countCarried(matched: readonly number[], packets: number, bytes: number): void {
    for (const rule of matched) {
      this.packets[rule] += packets;
      this.bytes[rule] += bytes;
    }
    if (this.decided(matched) !== NO_RULE) return;
    this.defaultPackets += packets;
    this.defaultBytes += bytes;
  }

  /** The rule that decides among those that {@link matching} gave, or NO_RULE. */
  decided(matched: readonly number[]): number {
    const last = matched.at(-1);
    return last === undefined || this.#actions[last] === COUNT_ACTION ? NO_RULE : last;
  }

  /** Start counting anew. */
  resetCounters(): void {
    this.packets.fill(0);
    this.bytes.fill(0);
    this.defaultPackets = 0;
    this.defaultBytes = 0;
  }

  #list(shape: number, direction: number, portId: number): number {
    return this.#starts[(this.#groups[portId] * 2 + direction) * SHAPE_COUNT + shape];
  }
}

/** Where the next rule of a list that matches starts, from `at` on; -1 when none does. */
function firstMatch(code: Int32Array, words: Int32Array, at: number): number {
  let rule = at;
  for (;;) {
    const next = code[rule];
    if (next === 0) return -1;
    let test = rule + 2;
    while (test < next) {
      const head = code[test];
      const value = words[head & 0xff];
      const operation = head >> 8;
      if (operation === RANGE) {
        if (value < code[test + 1] || value > code[test + 2]) break;
        test += 3;
      } else if (operation === BITS) {
        if ((value & code[test + 1]) !== code[test + 2]) break;
        test += 3;
      } else {
        const end = test + 2 + code[test + 1] * 2;
        let range = test + 2;
        while (range < end && (value < code[range] || value > code[range + 1])) range += 2;
        if (range === end) break;
        test = end;
      }
    }
    if (test === next) return rule;
    rule = next;
  }
}

/** Length of a test. */
function testWords(code: Int32Array, test: number): number {
  return code[test] >> 8 === RANGES ? 2 + code[test + 1] * 2 : 3;
}

/** The bit of HeaderField for a field that a test looks at; 0 for what lies outside of IP. */
function headerFieldOf(field: number): number {
  if (field >= Field.SOURCE_IP && field < Field.PROTOCOL) return HeaderField.ADDRESSES;
  switch (field) {
    case Field.PROTOCOL:
    case Field.FRAGMENT:
      return HeaderField.PROTOCOL;
    case Field.DESTINATION_PORT:
      return HeaderField.DESTINATION_PORT;
    case Field.SOURCE_PORT:
    case Field.ICMP_TYPE:
      return HeaderField.PORTS;
    case Field.TCP_FLAGS:
      return HeaderField.TCP_FLAGS;
    default:
      return 0;
  }
}

function applies(rule: FilterRule, direction: number): boolean {
  return rule.direction === 'both' || (rule.direction === 'in') === (direction === Direction.IN);
}

function needsOf(rules: readonly FilterRule[], direction: number): number {
  let needs: number = Need.NONE;
  for (const rule of rules) {
    if (!applies(rule, direction)) continue;
    if (rule.sourceMac !== null || rule.destinationMac !== null) needs |= Need.MAC;
    if (rule.sourceIp !== null || rule.destinationIp !== null) needs |= Need.IP;
    if (rule.tcpFlags !== null) needs |= Need.TCP_FLAGS;
  }
  return needs;
}

/** Append a rule with the tests that a shape leaves open, those that tell most packets apart first. */
function emitRule(rule: FilterRule, number: number, shape: number, code: number[]): void {
  const start = code.length;
  code.push(0, number);
  emitRanges(rule.destinationPort, Field.DESTINATION_PORT, code);
  emitRanges(rule.sourcePort, Field.SOURCE_PORT, code);
  emitRanges(rule.icmpType, Field.ICMP_TYPE, code);
  if (rule.tcpFlags !== null) emitBits(Field.TCP_FLAGS, rule.tcpFlags.mask, rule.tcpFlags.value, code);
  emitPrefix(rule.sourceIp, Field.SOURCE_IP, code);
  emitPrefix(rule.destinationIp, Field.DESTINATION_IP, code);
  // A shape with a transport implies the protocol, one with IP the EtherType.
  if (transportOf(shape) === TransportShape.PROTOCOL) emitRanges(rule.protocol, Field.PROTOCOL, code);
  if (!isIp(shape)) emitRanges(rule.etherType, Field.ETHER_TYPE, code);
  if (rule.fragment === true) code.push((RANGE << 8) | Field.FRAGMENT, 1, 2);
  if (rule.fragment === false) code.push((RANGE << 8) | Field.FRAGMENT, 0, 0);
  emitRanges(rule.vlan, Field.VLAN, code);
  for (const [mac, field] of [
    [rule.sourceMac, Field.SOURCE_MAC],
    [rule.destinationMac, Field.DESTINATION_MAC],
  ] as const) {
    if (mac === null) continue;
    emitBits(field, mac.highMask, mac.high, code);
    emitBits(field + 1, mac.lowMask, mac.low, code);
  }
  code[start] = code.length;
}

function isIp(shape: number): boolean {
  const network = networkOf(shape);
  return network === NetworkShape.IPV4 || network === NetworkShape.IPV6;
}

function emitRanges(ranges: readonly NumberRange[] | null, field: number, code: number[]): void {
  if (ranges === null) return;
  if (ranges.length > 1) code.push((RANGES << 8) | field, ranges.length);
  else code.push((RANGE << 8) | field);
  for (const { low, high } of ranges) code.push(low, high);
}

function emitBits(field: number, mask: number, value: number, code: number[]): void {
  if (mask !== 0) code.push((BITS << 8) | field, mask, value);
}

function emitPrefix(prefix: FilterRule['sourceIp'], field: number, code: number[]): void {
  if (prefix === null) return;
  for (let i = 0; i < prefix.words.length; i += 1) emitBits(field + i, prefix.masks[i], prefix.words[i], code);
}
