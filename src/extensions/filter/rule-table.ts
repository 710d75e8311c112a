/**
 * Rules compiled to integers. They are sorted beforehand by what is known of a packet without looking at them: direction,
 * port, and the packet's shape (IPv4 with TCP, ARP, ...). For each combination there is a list of the rules that can still
 * match, with the tests that are still open, as integers in one array:
 *
 *     rule:  [ index of the next rule, number of the rule, tests ... ]     a 0 instead of the index ends the list
 *     test:  [ operation << 8 | field, count or mask, low, high | value, ... ]
 *            [ ANY_BIT << 8 | field, mask, 0 ]                              one of the bits is set
 *
 * Walking a list tells which rules match, and which bits of the packet made it so: packets that agree in these are judged alike.
 * Neighbours: rule.ts says which shapes a rule can match, fields.ts of net/ holds the words tested, judge.ts fills them and asks.
 */
import {
  Field,
  Need,
  NetworkShape,
  networkOf,
  PacketFields,
  SHAPE_COUNT,
  TransportShape,
  transportOf,
} from '../../net/index.ts';
import { Fact, factsOf, type NumberRange, shapesOfRule } from './rule.ts';
import type { FilterConfiguration, FilterRule } from './schema.ts';

/** Which list of rules is asked. */
export const Direction = { IN: 0, OUT: 1 } as const;

/** No `allow` or `drop` rule matched. */
export const NO_RULE = -1;

const RANGE = 0;
const RANGES = 1;
const BITS = 2;
const ANY_BIT = 3;

const COUNT_ACTION = 2;
const ACTIONS = { allow: 0, drop: 1, count: COUNT_ACTION } as const;

/** Bits of ports and addresses count in steps of so many: flows of few masks are found faster than flows of many. */
const PORT_STEP = 4;
const ADDRESS_STEP = 8;

/** One packet and what comes of it; used again for the next. */
export class Judgement extends PacketFields {
  /** Numbers of the rules that match, in order, up to the one that decides. */
  readonly matched: number[] = [];
  /** The rule that allows or drops, or NO_RULE. */
  decided = NO_RULE;
  /** By Field: the bits of each word that made it so. */
  readonly looked = new Int32Array(this.words.length);
}

/** All rules, ready to judge packets. */
export class RuleTable {
  readonly configuration: FilterConfiguration;
  /** Bits of Need, by direction. */
  readonly needs: readonly [number, number];
  /** Whether judging is of any use, by direction: there is a rule, or the default is to drop. */
  readonly judges: readonly [boolean, boolean];
  /** Whether any rule goes by connections. */
  readonly tracks: boolean;
  /** TCP flags that rules look at, by direction. */
  readonly flags: readonly [number, number];
  readonly #actions: Uint8Array;
  /** Group of a port by its id: ports that the same rules name. Group 0 is every port that none names. */
  #groups = new Uint16Array(65_536);
  /** By group: the numbers of the rules that name its ports, as a text. */
  #keys: readonly string[] = [''];
  /** The ids that the names of ports in rules stand for, in their order; null before they are looked up. */
  #meaning: string | null = null;
  /** Bits of Fact, by group and direction. */
  #facts = new Uint16Array(0);
  /** Where the list of a group, direction and shape starts in the code. */
  #starts = new Int32Array(0);
  #code = new Int32Array(0);

  /** @param portIds ids of the ports there are, by name */
  constructor(configuration: FilterConfiguration, portIds: ReadonlyMap<string, number>) {
    const { rules } = configuration;
    this.configuration = configuration;
    this.#actions = Uint8Array.from(rules, (rule) => ACTIONS[rule.action]);
    this.needs = [needsOf(rules, Direction.IN), needsOf(rules, Direction.OUT)];
    this.judges = [
      configuration.default === 'drop' || rules.some((rule) => applies(rule, Direction.IN)),
      configuration.default === 'drop' || rules.some((rule) => applies(rule, Direction.OUT)),
    ];
    this.tracks = rules.some(({ state }) => state !== null);
    this.flags = [flagsOf(rules, Direction.IN), flagsOf(rules, Direction.OUT)];
    this.resolvePorts(portIds);
  }

  /** Compile again if the names of ports in rules mean other ports now. @returns the ids of ports that other rules name now */
  resolvePorts(portIds: ReadonlyMap<string, number>): number[] {
    const { rules } = this.configuration;
    const names = rules.flatMap((rule) => rule.ports ?? []);
    const meaning = names.map((name) => portIds.get(name) ?? 0).join();
    if (meaning === this.#meaning) return [];
    this.#meaning = meaning;
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
    const facts: number[] = [];
    const shapes = rules.map(shapesOfRule);
    for (const named of members) {
      for (const direction of [Direction.IN, Direction.OUT]) {
        const candidates = rules.map(
          (rule, number) => applies(rule, direction) && (rule.ports === null || named.has(number)),
        );
        facts.push(rules.reduce((found, rule, number) => (candidates[number] ? found | factsOf(rule) : found), 0));
        for (let shape = 0; shape < SHAPE_COUNT; shape += 1) {
          starts.push(code.length);
          rules.forEach((rule, number) => {
            if (candidates[number] && (shapes[number] & (1 << shape)) !== 0) emitRule(rule, number, shape, code);
          });
          code.push(0);
        }
      }
    }
    const before = this.#groups;
    const keysBefore = this.#keys;
    this.#groups = groups;
    this.#keys = [...groupOf.keys()];
    this.#facts = Uint16Array.from(facts);
    this.#starts = Int32Array.from(starts);
    this.#code = Int32Array.from(code);
    const changed: number[] = [];
    for (let portId = 0; portId < groups.length; portId += 1)
      if (keysBefore[before[portId]] !== this.#keys[groups[portId]]) changed.push(portId);
    return changed;
  }

  /** What the rules for a port look at: bits of Fact. */
  factsOf(direction: number, portId: number): number {
    return this.#facts[this.#groups[portId] * 2 + direction];
  }

  /**
   * Which rules match the packet read into a judgement, up to the first that allows or drops it.
   * @param portId the source port with Direction.IN, the destination port with Direction.OUT
   */
  judge(packet: Judgement, direction: number, portId: number): void {
    const { words, looked, matched } = packet;
    const code = this.#code;
    matched.length = 0;
    looked.fill(0);
    packet.decided = NO_RULE;
    let rule = this.#starts[(this.#groups[portId] * 2 + direction) * SHAPE_COUNT + packet.shape];
    for (let next = code[rule]; next !== 0; next = code[rule]) {
      if (matches(code, words, looked, rule + 2, next)) {
        const number = code[rule + 1];
        matched.push(number);
        if (this.#actions[number] !== COUNT_ACTION) {
          packet.decided = number;
          return;
        }
      }
      rule = next;
    }
  }

  /** Whether the outcome of {@link judge} is to drop. */
  drops(rule: number): boolean {
    return rule === NO_RULE ? this.configuration.default === 'drop' : this.#actions[rule] === ACTIONS.drop;
  }
}

/** Whether the tests from `at` to `end` hold. The bits that tell are added to `looked`: of a rule that does not match, those of one test. */
function matches(code: Int32Array, words: Int32Array, looked: Int32Array, at: number, end: number): boolean {
  let test = at;
  while (test < end) {
    const operation = code[test] >> 8;
    if (operation === RANGES) {
      if (!isInAny(code, words, looked, test)) return false;
      test += 2 + code[test + 1] * 2;
      continue;
    }
    const field = code[test] & 0xff;
    const value = words[field];
    if (operation === RANGE) {
      const low = code[test + 1];
      const high = code[test + 2];
      looked[field] |= settling(field, value, low, high);
      if (value < low || value > high) return false;
    } else if (operation === ANY_BIT) {
      // What made it so is marked with the packet's kind.
      if ((value & code[test + 1]) === 0) return false;
    } else {
      const mask = code[test + 1];
      const differing = (value & mask) ^ code[test + 2];
      if (differing !== 0) {
        // What is up to the first bit that differs is enough.
        looked[field] |= mask & highBits(roundUp(Math.clz32(differing) + 1, ADDRESS_STEP));
        return false;
      }
      looked[field] |= mask;
    }
    test += 3;
  }
  return true;
}

/** As {@link matches}, for a test with several ranges. */
function isInAny(code: Int32Array, words: Int32Array, looked: Int32Array, test: number): boolean {
  const field = code[test] & 0xff;
  const value = words[field];
  const end = test + 2 + code[test + 1] * 2;
  let bits = 0;
  for (let range = test + 2; range < end; range += 2) {
    const settled = settling(field, value, code[range], code[range + 1]);
    if (value >= code[range] && value <= code[range + 1]) {
      looked[field] |= settled;
      return true;
    }
    bits |= settled;
  }
  looked[field] |= bits;
  return false;
}

/** The high bits of a value that settle whether it is within a range; of all but ports, the whole word. */
function settling(field: number, value: number, low: number, high: number): number {
  if (field !== Field.SOURCE_PORT && field !== Field.DESTINATION_PORT) return -1;
  const isWithin = value >= low && value <= high;
  for (let size = 16; size > 0; size -= PORT_STEP) {
    const first = (value >> size) << size;
    const last = first + (1 << size) - 1;
    if (isWithin ? first >= low && last <= high : last < low || first > high) return (0xffff << size) & 0xffff;
  }
  return 0xffff;
}

/** A word whose highest bits are 1. @param count 1 to 32 */
function highBits(count: number): number {
  return -1 << (32 - count);
}

function roundUp(count: number, step: number): number {
  return Math.ceil(count / step) * step;
}

function applies(rule: FilterRule, direction: number): boolean {
  return rule.direction === 'both' || (rule.direction === 'in') === (direction === Direction.IN);
}

function needsOf(rules: readonly FilterRule[], direction: number): number {
  let needs: number = Need.NONE;
  for (const rule of rules) {
    if (!applies(rule, direction)) continue;
    const facts = factsOf(rule);
    if ((facts & Fact.MAC) !== 0) needs |= Need.MAC;
    if ((facts & Fact.ADDRESSES) !== 0) needs |= Need.IP;
    if ((facts & Fact.TCP_FLAGS) !== 0) needs |= Need.TCP_FLAGS;
  }
  return needs;
}

function flagsOf(rules: readonly FilterRule[], direction: number): number {
  return rules.reduce((flags, rule) => (applies(rule, direction) ? flags | (rule.tcpFlags?.mask ?? 0) : flags), 0);
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
  if (rule.state !== null) code.push((ANY_BIT << 8) | Field.CONNECTION, rule.state, 0);
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
