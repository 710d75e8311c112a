/** Filters that pick some connections, by what their records hold. A filter is checked and compiled once; then asking it about a record allocates nothing. */
import { IpProtocol, type Prefix, parsePrefix } from '../net/index.ts';
import { Direction, Kind, RecordWord, STATE_MASK, Status, tupleWord } from './layout.ts';
import { SCTP_STATE_NAMES } from './sctp.ts';
import { TCP_STATE_NAMES } from './tcp-state.ts';
import { hasPorts, TupleWord } from './tuple.ts';

/** Which translation a connection has. */
export type NatKind = 'source' | 'destination' | 'any' | 'none';

/**
 * Which connections are meant: those that agree with all that is given. Addresses are addresses or prefixes such as 10.0.0.0/8. Ports and addresses are of the original
 * direction, but for `address` and `port`, which may be any end of either.
 */
export interface ConnectionFilter {
  readonly id?: number | undefined;
  readonly zone?: number | undefined;
  /** 4 or 6. */
  readonly version?: number | undefined;
  readonly protocol?: number | undefined;
  readonly source?: string | undefined;
  readonly destination?: string | undefined;
  readonly address?: string | undefined;
  readonly sourcePort?: number | undefined;
  readonly destinationPort?: number | undefined;
  readonly port?: number | undefined;
  /** Of TCP and SCTP, as Linux names it. */
  readonly state?: string | undefined;
  readonly mark?: { readonly value: number; readonly mask: number } | undefined;
  /** Only connections that were answered, or only those that were not. */
  readonly isReplied?: boolean | undefined;
  readonly nat?: NatKind | undefined;
}

/** Whether a record is meant. @param at its first word; it may be a copy, such as an event's */
export type RecordFilter = (records: Int32Array, at: number) => boolean;

/**
 * Make a filter of its description.
 * @throws RangeError in words, for addresses and states that there are not
 */
export function connectionFilter(filter: ConnectionFilter): RecordFilter {
  const { id, zone, version, protocol, mark, isReplied, sourcePort, destinationPort, port } = filter;
  if (mark !== undefined && (mark.value & ~mark.mask) !== 0) {
    throw new RangeError(`mark ${mark.value} has bits set outside its mask ${mark.mask}`);
  }
  const source = prefixOf(filter.source);
  const destination = prefixOf(filter.destination);
  const address = prefixOf(filter.address);
  const states = statesOf(filter.state);
  const [natMask, natWanted] = natOf(filter.nat);
  const wantsPorts = sourcePort !== undefined || destinationPort !== undefined || port !== undefined;
  return (records, at) => {
    const kind = records[at];
    if (zone !== undefined && kind >>> 16 !== zone) return false;
    const ofRecord = (kind >>> 8) & 0xff;
    if (protocol !== undefined && ofRecord !== protocol) return false;
    if (version !== undefined && ((kind & Kind.IPV6) === 0 ? 4 : 6) !== version) return false;
    if (id !== undefined && records[at + RecordWord.ID] >>> 0 !== id) return false;
    if (mark !== undefined && ((records[at + RecordWord.MARK] ^ mark.value) & mark.mask) !== 0) return false;
    const status = records[at + RecordWord.STATUS];
    if (isReplied !== undefined && isReplied !== ((status & Status.SEEN_REPLY) !== 0)) return false;
    const nat = status & natMask;
    if (natMask !== 0 && (natWanted ? nat === 0 : nat !== 0)) return false;
    if (states !== null && !states.has((ofRecord << 8) | (records[at + RecordWord.STATE] & STATE_MASK))) return false;
    const original = at + tupleWord(Direction.ORIGINAL);
    const reply = at + tupleWord(Direction.REPLY);
    if (wantsPorts) {
      if (!hasPorts(ofRecord)) return false;
      const ports = records[original];
      if (sourcePort !== undefined && ports >>> 16 !== sourcePort) return false;
      if (destinationPort !== undefined && (ports & 0xffff) !== destinationPort) return false;
      if (port !== undefined && !hasPort(ports, port) && !hasPort(records[reply], port)) return false;
    }
    if (source !== null && !contains(source, kind, records, original + TupleWord.SOURCE)) return false;
    if (destination !== null && !contains(destination, kind, records, original + TupleWord.DESTINATION)) return false;
    return (
      address === null ||
      contains(address, kind, records, original + TupleWord.SOURCE) ||
      contains(address, kind, records, original + TupleWord.DESTINATION) ||
      contains(address, kind, records, reply + TupleWord.SOURCE) ||
      contains(address, kind, records, reply + TupleWord.DESTINATION)
    );
  };
}

function hasPort(ports: number, port: number): boolean {
  return ports >>> 16 === port || (ports & 0xffff) === port;
}

function contains({ version, words, masks }: Prefix, kind: number, records: Int32Array, at: number): boolean {
  if (((kind & Kind.IPV6) === 0 ? 4 : 6) !== version) return false;
  for (let i = 0; i < words.length; i += 1) if (((records[at + i] ^ words[i]) & masks[i]) !== 0) return false;
  return true;
}

function prefixOf(text: string | undefined): Prefix | null {
  if (text === undefined) return null;
  const prefix = parsePrefix(text);
  if (typeof prefix === 'string') throw new RangeError(prefix);
  return prefix;
}

/** States of that name, as protocol 8 | state 8; null for any. */
function statesOf(name: string | undefined): ReadonlySet<number> | null {
  if (name === undefined) return null;
  const wanted = name.toUpperCase();
  const states = new Set<number>();
  for (const [protocol, names] of [
    [IpProtocol.TCP, TCP_STATE_NAMES],
    [IpProtocol.SCTP, SCTP_STATE_NAMES],
  ] as const) {
    const state = names.indexOf(wanted);
    if (state > 0) states.add((protocol << 8) | state);
  }
  if (states.size > 0) return states;
  const known = [...new Set([...TCP_STATE_NAMES, ...SCTP_STATE_NAMES])].filter((each) => each !== 'NONE');
  throw new RangeError(`there is no state "${name}"; states of TCP and SCTP are ${known.join(', ')}`);
}

/** The bits of the status that are looked at, and whether one of them has to be set, or none. */
function natOf(nat: NatKind | undefined): [mask: number, wanted: boolean] {
  const both = Status.SOURCE_NAT | Status.DESTINATION_NAT;
  switch (nat) {
    case undefined:
      return [0, false];
    case 'source':
      return [Status.SOURCE_NAT, true];
    case 'destination':
      return [Status.DESTINATION_NAT, true];
    case 'any':
      return [both, true];
    case 'none':
      return [both, false];
  }
}
