/** Connections as plain data, for dumps, JSON and people. Slow paths: they allocate. */
import { formatIpv4, formatIpv6, IpProtocol } from '../net/index.ts';
import { ConnectionState } from './action.ts';
import { setWord } from './bytes.ts';
import { Direction, Kind, RecordWord, STATE_MASK, Status, tupleWord } from './layout.ts';
import { helperName } from './related/known-helpers.ts';
import { SCTP_STATE_NAMES } from './sctp.ts';
import type { ConnectionTable } from './table.ts';
import { TCP_STATE_NAMES } from './tcp-state.ts';
import { hasPorts, isIcmp } from './tuple.ts';

const STATE_NAMES: readonly (readonly [number, string])[] = [
  [ConnectionState.NEW, 'new'],
  [ConnectionState.ESTABLISHED, 'est'],
  [ConnectionState.RELATED, 'rel'],
  [ConnectionState.REPLY, 'rpl'],
  [ConnectionState.INVALID, 'inv'],
  [ConnectionState.TRACKED, 'trk'],
  [ConnectionState.SOURCE_NAT, 'snat'],
  [ConnectionState.DESTINATION_NAT, 'dnat'],
];

/** A packet's connection state as text, such as 'new|trk'. @param state bits of {@link ConnectionState} */
export function stateText(state: number): string {
  return STATE_NAMES.filter(([bit]) => (state & bit) !== 0)
    .map(([, name]) => name)
    .join('|');
}

/** One direction of a connection. */
export interface TupleData {
  readonly source: string;
  readonly destination: string;
  /** Of TCP, UDP and SCTP. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Of ICMP. */
  readonly identifier?: number;
  readonly type?: number;
  readonly code?: number;
}

/** A connection. */
export interface ConnectionData {
  /** The next 4 billion connections have others. */
  readonly id: number;
  readonly zone: number;
  /** 4 or 6. */
  readonly version: number;
  readonly protocol: number;
  readonly original: TupleData;
  readonly reply: TupleData;
  /** Of TCP and SCTP, as Linux names it. */
  readonly state?: string;
  /** Bits of Status. */
  readonly status: number;
  readonly mark: number;
  /** 32 digits in hexadecimal. */
  readonly label: string;
  /** Until it expires, when no packet comes. */
  readonly leftMs: number;
  /** What reads it for connections to come. */
  readonly helper?: string;
  /** Id of the connection that has announced it. */
  readonly parentId?: number;
  /** Where it began; 0 when that was not said. */
  readonly port: number;
}

/** A connection of a table as it is now. @param record of a connection that is there */
export function describeConnection(table: ConnectionTable, record: number): ConnectionData {
  const at = table.at(record);
  const { records } = table;
  const parent = table.parentOf(record);
  const data: ConnectionData = Object.assign(describeRecord(records, at), {
    leftMs: table.leftMs(record, table.nowMs() | 0),
  });
  return parent === 0 ? data : { ...data, parentId: records[table.at(parent) + RecordWord.ID] >>> 0 };
}

/**
 * A record by itself, such as an event's copy.
 * @param at its first word
 */
export function describeRecord(records: Int32Array, at: number): Omit<ConnectionData, 'leftMs' | 'parentId'> {
  const kind = records[at];
  const protocol = (kind >>> 8) & 0xff;
  const state = records[at + RecordWord.STATE] & STATE_MASK;
  const status = records[at + RecordWord.STATUS];
  const helper = helperName(records[at + RecordWord.SETTINGS]);
  const data = {
    id: records[at + RecordWord.ID] >>> 0,
    zone: kind >>> 16,
    version: (kind & Kind.IPV6) === 0 ? 4 : 6,
    protocol,
    original: describeTuple(records, at, Direction.ORIGINAL),
    reply: describeTuple(records, at, Direction.REPLY),
    status,
    mark: records[at + RecordWord.MARK] >>> 0,
    label: labelText(records, at + RecordWord.LABEL),
    port: records[at + RecordWord.PORT] >>> 0,
    ...((status & Status.HELPER) === 0 || helper === undefined ? {} : { helper }),
  };
  if (protocol === IpProtocol.TCP) return { ...data, state: TCP_STATE_NAMES[state] ?? 'NONE' };
  return protocol === IpProtocol.SCTP ? { ...data, state: SCTP_STATE_NAMES[state] ?? 'NONE' } : data;
}

const NO_LABEL = '0'.repeat(32);

function labelText(records: Int32Array, at: number): string {
  if ((records[at] | records[at + 1] | records[at + 2] | records[at + 3]) === 0) return NO_LABEL;
  const words = Array.from(records.subarray(at, at + 4), (word) => (word >>> 0).toString(16).padStart(8, '0'));
  return words.join('');
}

function describeTuple(records: Int32Array, at: number, direction: number): TupleData {
  const isIpv6 = (records[at] & Kind.IPV6) !== 0;
  const protocol = (records[at] >>> 8) & 0xff;
  const first = at + tupleWord(direction);
  const ports = records[first];
  const source = addressText(records, first + 1, isIpv6);
  const destination = addressText(records, first + 5, isIpv6);
  if (hasPorts(protocol)) return { source, destination, sourcePort: ports >>> 16, destinationPort: ports & 0xffff };
  if (!isIcmp(protocol, isIpv6)) return { source, destination };
  return { source, destination, identifier: ports >>> 16, type: (ports >>> 8) & 0xff, code: ports & 0xff };
}

const scratch = new Uint8Array(16);

function addressText(records: Int32Array, at: number, isIpv6: boolean): string {
  for (let i = 0; i < (isIpv6 ? 4 : 1); i += 1) setWord(scratch, i * 4, records[at + i]);
  return isIpv6 ? formatIpv6(scratch, 0) : formatIpv4(scratch, 0);
}
