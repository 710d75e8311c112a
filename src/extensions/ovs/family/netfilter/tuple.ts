/**
 * One direction of a connection as netlink has it: a nest with addresses and with what tells connections between them apart. Reading checks as the kernel does
 * (ctnetlink_parse_tuple).
 *
 *     CTA_TUPLE_ORIG or _REPLY { IP { source, destination }, PROTO { number, ports or ICMP's three } }
 */
import { hasPorts, isIcmp, Kind, Tuple, TupleWord } from '../../../../connections/index.ts';
import { IpProtocol } from '../../../../net/index.ts';
import type { MessageWriter } from '../../../../netlink/index.ts';
import { type Attributes, be16At, be32At } from '../../attributes.ts';
import { Errno, OvsError } from '../../errors.ts';
import { AF_INET, AF_INET6, CtaIp, CtaProtocol, CtaTuple } from './numbers.ts';
import { ADDRESS, type Policy, readNest, U8, U16, U32 } from './policy.ts';

const TUPLE: Policy = { [CtaTuple.IP]: 'nest', [CtaTuple.PROTOCOL]: 'nest', [CtaTuple.ZONE]: U16 };
const IP: Policy = {
  [CtaIp.SOURCE_V4]: U32,
  [CtaIp.DESTINATION_V4]: U32,
  [CtaIp.SOURCE_V6]: ADDRESS,
  [CtaIp.DESTINATION_V6]: ADDRESS,
};
const NUMBER: Policy = { [CtaProtocol.NUMBER]: U8 };
const PORTS: Policy = { [CtaProtocol.SOURCE_PORT]: U16, [CtaProtocol.DESTINATION_PORT]: U16 };
const ICMP: Policy = { [CtaProtocol.ICMP_ID]: U16, [CtaProtocol.ICMP_TYPE]: U8, [CtaProtocol.ICMP_CODE]: U8 };
const ICMPV6: Policy = { [CtaProtocol.ICMPV6_ID]: U16, [CtaProtocol.ICMPV6_TYPE]: U8, [CtaProtocol.ICMPV6_CODE]: U8 };

/** Identifier, type and code by version. */
const ICMP_TYPES = [CtaProtocol.ICMP_ID, CtaProtocol.ICMP_TYPE, CtaProtocol.ICMP_CODE] as const;
const ICMPV6_TYPES = [CtaProtocol.ICMPV6_ID, CtaProtocol.ICMPV6_TYPE, CtaProtocol.ICMPV6_CODE] as const;

const address = new Uint8Array(16);

/**
 * Write the nest of a tuple.
 * @param type CTA_TUPLE_ORIG, CTA_TUPLE_REPLY or CTA_TUPLE_MASTER
 * @param kind first word of the record
 * @param at where the tuple's words begin
 */
export function writeTuple(writer: MessageWriter, type: number, kind: number, words: Int32Array, at: number): void {
  const isIpv6 = (kind & Kind.IPV6) !== 0;
  const tuple = writer.beginNested(type);
  const ip = writer.beginNested(CtaTuple.IP);
  if (isIpv6) {
    writer.bytes(CtaIp.SOURCE_V6, addressBytes(words, at + TupleWord.SOURCE));
    writer.bytes(CtaIp.DESTINATION_V6, addressBytes(words, at + TupleWord.DESTINATION));
  } else {
    writer.be32(CtaIp.SOURCE_V4, words[at + TupleWord.SOURCE] >>> 0);
    writer.be32(CtaIp.DESTINATION_V4, words[at + TupleWord.DESTINATION] >>> 0);
  }
  writer.endNested(ip);
  const protocol = (kind >>> 8) & 0xff;
  const ports = words[at + TupleWord.PORTS];
  const nest = writer.beginNested(CtaTuple.PROTOCOL);
  writer.u8(CtaProtocol.NUMBER, protocol);
  if (isIcmp(protocol, isIpv6)) {
    const [identifier, icmpType, code] = isIpv6 ? ICMPV6_TYPES : ICMP_TYPES;
    writer.be16(identifier, ports >>> 16);
    writer.u8(icmpType, (ports >>> 8) & 0xff);
    writer.u8(code, ports & 0xff);
  } else if (hasKeys(protocol)) {
    writer.be16(CtaProtocol.SOURCE_PORT, ports >>> 16);
    writer.be16(CtaProtocol.DESTINATION_PORT, ports & 0xffff);
  }
  writer.endNested(nest);
  writer.endNested(tuple);
}

/** The kernel has GRE's keys where others have ports. */
function hasKeys(protocol: number): boolean {
  return hasPorts(protocol) || protocol === IpProtocol.GRE;
}

function addressBytes(words: Int32Array, at: number): Uint8Array {
  for (let i = 0; i < 16; i += 1) address[i] = words[at + (i >> 2)] >>> (24 - (i & 3) * 8);
  return address;
}

/** A tuple, and whether it has a zone of its own: then it means connections in the direction of its attribute alone. */
export interface NamedTuple {
  readonly tuple: Tuple;
  readonly hasOwnZone: boolean;
}

/**
 * Read the nest of a tuple.
 * @param family of the message: AF_INET or AF_INET6
 * @param zone of the message; 0 when it names none. A zone in the tuple itself counts when the message has none
 * @throws OvsError EOPNOTSUPP for another family, EINVAL for what is missing or cannot be, ERANGE for wrong lengths
 */
export function readTuple(content: Uint8Array, family: number, zone: number): NamedTuple {
  const attributes = readNest(content, CtaTuple.ZONE, TUPLE);
  if (family !== AF_INET && family !== AF_INET6) throw new OvsError(Errno.EOPNOTSUPP, `family ${family} has no tuples`);
  const isIpv6 = family === AF_INET6;
  const ip = readNest(attributes.required(CtaTuple.IP), CtaIp.DESTINATION_V6, IP);
  const source = ip.required(isIpv6 ? CtaIp.SOURCE_V6 : CtaIp.SOURCE_V4);
  const destination = ip.required(isIpv6 ? CtaIp.DESTINATION_V6 : CtaIp.DESTINATION_V4);
  const protocol = attributes.required(CtaTuple.PROTOCOL);
  const number = readNest(protocol, CtaProtocol.ICMPV6_CODE, NUMBER).required(CtaProtocol.NUMBER)[0];
  const ports = readPorts(protocol, number);
  const own = attributes.content(CtaTuple.ZONE);
  if (own !== null && zone !== 0) throw new OvsError(Errno.EINVAL, 'tuple and message both have a zone');
  const tuple = new Tuple();
  tuple.begin(own === null ? zone : be16At(own, 0), number, isIpv6);
  tuple.words[TupleWord.PORTS] = ports;
  for (let i = 0; i < (isIpv6 ? 4 : 1); i += 1) {
    tuple.words[TupleWord.SOURCE + i] = be32At(source, i * 4);
    tuple.words[TupleWord.DESTINATION + i] = be32At(destination, i * 4);
  }
  return { tuple, hasOwnZone: own !== null && tuple.zone !== 0 };
}

const message = new Tuple();
const inverse = new Tuple();

/** The word of ports; 0 for protocols that have none. */
function readPorts(content: Uint8Array, protocol: number): number {
  if (hasKeys(protocol)) {
    const attributes = readNest(content, CtaProtocol.ICMPV6_CODE, PORTS);
    const source = attributes.required(CtaProtocol.SOURCE_PORT);
    return (be16At(source, 0) << 16) | be16At(attributes.required(CtaProtocol.DESTINATION_PORT), 0);
  }
  // The kernel goes by the protocol alone: ICMP of the other version is read as well, and nothing is found.
  if (protocol === IpProtocol.ICMPV4)
    return readIcmp(readNest(content, CtaProtocol.ICMPV6_CODE, ICMP), ICMP_TYPES, false);
  if (protocol === IpProtocol.ICMPV6)
    return readIcmp(readNest(content, CtaProtocol.ICMPV6_CODE, ICMPV6), ICMPV6_TYPES, true);
  return 0;
}

/** @throws OvsError EINVAL for messages that are no queries and no answers, too */
function readIcmp(attributes: Attributes, types: typeof ICMP_TYPES | typeof ICMPV6_TYPES, isIpv6: boolean): number {
  const type = attributes.required(types[1])[0];
  const code = attributes.required(types[2])[0];
  const identifier = be16At(attributes.required(types[0]), 0);
  message.begin(0, isIpv6 ? IpProtocol.ICMPV6 : IpProtocol.ICMPV4, isIpv6);
  message.words[TupleWord.PORTS] = (identifier << 16) | (type << 8) | code;
  if (!inverse.invert(message)) throw new OvsError(Errno.EINVAL, 'messages of that ICMP type have no connection');
  return message.words[TupleWord.PORTS];
}
