/**
 * Which shapes of packets a filter rule can match at all, and what it looks at. Neighbours: schema.ts reads rules from configuration, rule-table.ts compiles them.
 */
import {
  EtherType,
  IpProtocol,
  NetworkShape,
  SHAPE_COUNT,
  shapeOf,
  shapesOver,
  shapesWith,
  TransportShape,
} from '../../net/index.ts';
import { CONNECTION_STATES, type ConnectionStateName, ICMPV6_APART } from '../../switch/index.ts';
import type { FilterRule } from './schema.ts';

/** Numbers from low to high, both included; a list of them matches what any of them holds. */
export interface NumberRange {
  readonly low: number;
  readonly high: number;
}

/** The bit of a state in a set of them; 0 for a packet that has none. */
export function stateBit(state: ConnectionStateName | null): number {
  return state === null ? 0 : 1 << CONNECTION_STATES.indexOf(state);
}

/** Whether a number is in one of the ranges. */
export function inRanges(ranges: readonly NumberRange[], value: number): boolean {
  return ranges.some((range) => value >= range.low && value <= range.high);
}

const ALL_SHAPES = (1 << SHAPE_COUNT) - 1;
const IPV4_SHAPES = shapesOver(NetworkShape.IPV4);
const IPV6_SHAPES = shapesOver(NetworkShape.IPV6);
const IP_SHAPES = IPV4_SHAPES | IPV6_SHAPES;

/** Fields that tell shapes apart. */
const SHAPING = [
  'etherType',
  'sourceIp',
  'destinationIp',
  'protocol',
  'fragment',
  'sourcePort',
  'destinationPort',
  'tcpFlags',
  'icmpType',
  'state',
] as const satisfies readonly (keyof FilterRule)[];

type ShapingField = (typeof SHAPING)[number];

/** The set of shapes that one field of a rule leaves, as bits. */
function shapesOfField(rule: FilterRule, field: ShapingField): number {
  switch (field) {
    case 'etherType': {
      if (rule.etherType === null) return ALL_SHAPES;
      let shapes = ALL_SHAPES;
      if (!inRanges(rule.etherType, EtherType.IPV4)) shapes &= ~IPV4_SHAPES;
      if (!inRanges(rule.etherType, EtherType.IPV6)) shapes &= ~IPV6_SHAPES;
      return shapes;
    }
    case 'sourceIp':
    case 'destinationIp': {
      const prefix = rule[field];
      if (prefix === null) return ALL_SHAPES;
      return prefix.version === 4 ? IPV4_SHAPES : IPV6_SHAPES;
    }
    case 'protocol':
      return rule.protocol === null ? ALL_SHAPES : shapesOfProtocol(rule.protocol);
    case 'fragment':
      return rule.fragment === null ? ALL_SHAPES : IP_SHAPES;
    case 'sourcePort':
    case 'destinationPort':
      return rule[field] === null
        ? ALL_SHAPES
        : shapesWith(TransportShape.TCP, TransportShape.UDP, TransportShape.SCTP);
    case 'tcpFlags':
      return rule.tcpFlags === null ? ALL_SHAPES : shapesWith(TransportShape.TCP);
    case 'icmpType':
      return rule.icmpType === null ? ALL_SHAPES : shapesWith(TransportShape.ICMP);
    case 'state':
      return rule.state === null ? ALL_SHAPES : IP_SHAPES;
  }
}

function shapesOfProtocol(protocol: readonly NumberRange[]): number {
  let shapes = shapesWith(TransportShape.PROTOCOL);
  if (inRanges(protocol, IpProtocol.TCP)) shapes |= shapesWith(TransportShape.TCP);
  if (inRanges(protocol, IpProtocol.UDP)) shapes |= shapesWith(TransportShape.UDP);
  if (inRanges(protocol, IpProtocol.SCTP)) shapes |= shapesWith(TransportShape.SCTP);
  if (inRanges(protocol, IpProtocol.ICMPV4)) shapes |= 1 << shapeOf(NetworkShape.IPV4, TransportShape.ICMP);
  if (inRanges(protocol, IpProtocol.ICMPV6)) shapes |= 1 << shapeOf(NetworkShape.IPV6, TransportShape.ICMP);
  return shapes;
}

/** The set of shapes that a rule can match, as bits. */
export function shapesOfRule(rule: FilterRule): number {
  let shapes = ALL_SHAPES;
  for (const field of SHAPING) shapes &= shapesOfField(rule, field);
  return shapes;
}

/** What a rule looks at of the packets that it may match. Bits. */
export const Fact = {
  VLAN: 1,
  ETHER_TYPE: 2,
  MAC: 4,
  /** IP addresses. */
  ADDRESSES: 8,
  FRAGMENT: 16,
  TCP_FLAGS: 32,
  ICMP: 64,
  /** Anything behind the Ethernet header, of packets of this version. */
  IPV4: 128,
  IPV6: 256,
  /** Which protocol such packets are of, or more. */
  TRANSPORT4: 512,
  TRANSPORT6: 1024,
  /** The state of connections. */
  STATE: 2048,
} as const;

/** @returns bits of {@link Fact} */
export function factsOf(rule: FilterRule): number {
  const isGiven = (field: keyof FilterRule, fact: number): number => (rule[field] === null ? 0 : fact);
  let facts = isGiven('vlan', Fact.VLAN) | isGiven('etherType', Fact.ETHER_TYPE) | isGiven('fragment', Fact.FRAGMENT);
  facts |= isGiven('sourceMac', Fact.MAC) | isGiven('destinationMac', Fact.MAC);
  facts |= isGiven('sourceIp', Fact.ADDRESSES) | isGiven('destinationIp', Fact.ADDRESSES);
  facts |= isGiven('tcpFlags', Fact.TCP_FLAGS) | isGiven('icmpType', Fact.ICMP) | isGiven('state', Fact.STATE);
  if (SHAPING.every((field) => field === 'etherType' || rule[field] === null)) return facts;
  const shapes = shapesOfRule(rule);
  for (const [all, network, transport] of [
    [IPV4_SHAPES, Fact.IPV4, Fact.TRANSPORT4],
    [IPV6_SHAPES, Fact.IPV6, Fact.TRANSPORT6],
  ]) {
    const own = shapes & all;
    if (own !== 0) facts |= own === all ? network : network | transport;
  }
  return facts;
}

/** The first two fields that exclude each other, so that the rule can never match; null when there are none. */
export function contradiction(rule: FilterRule): readonly [string, string] | null {
  for (let second = 1; second < SHAPING.length; second += 1) {
    for (let first = 0; first < second; first += 1) {
      if ((shapesOfField(rule, SHAPING[first]) & shapesOfField(rule, SHAPING[second])) === 0) {
        return [SHAPING[first], SHAPING[second]];
      }
    }
  }
  return stateContradiction(rule);
}

/** What has no connection, or an invalid one, is in no other state. */
function stateContradiction({ state, fragment, icmpType, protocol }: FilterRule): readonly [string, string] | null {
  if (state === null) return null;
  if (fragment === true && (state & stateBit('invalid')) === 0) return ['fragment', 'state'];
  const isV6 = protocol?.every(({ low, high }) => low === IpProtocol.ICMPV6 && high === low);
  const isApart = isV6 && icmpType?.every(allApart);
  return isApart === true ? ['icmpType', 'state'] : null;
}

/** Whether all ICMPv6 messages of some types belong to no connection. */
function allApart({ low, high }: NumberRange): boolean {
  for (let type = low; type <= high; type += 1) if (!ICMPV6_APART.has(type)) return false;
  return true;
}
