/**
 * The subsystem of connections: dumps, look-ups, deletion and statistics. Dumps and flushes go through the table some records at a time, each time the program
 * asks for more, so that packets pass between.
 */
import {
  ConnectionCursor,
  type Connections,
  type ConnectionTable,
  Direction,
  Removal,
  type Tracker,
} from '../../../../connections/index.ts';
import { type MessageWriter, NlmFlag } from '../../../../netlink/index.ts';
import { be16At, be32At } from '../../attributes.ts';
import { Step } from '../../device/dump.ts';
import { Errno, OvsError } from '../../errors.ts';
import { trackerOf } from '../known-connections.ts';
import { writeConnection } from './connection.ts';
import { type IsWanted, readFilter } from './filter.ts';
import { beginNetfilter, type NetfilterRequest } from './message.ts';
import { ConnectionCommand, Cta, CtaGlobal, CtaStatistics, Subsystem } from './numbers.ts';
import { type Policy, U16, U32 } from './policy.ts';
import { readTuple } from './tuple.ts';

/** ct_nla_policy. */
export const CONNECTION_POLICY: Policy = {
  [Cta.TUPLE_ORIGINAL]: 'nest',
  [Cta.TUPLE_REPLY]: 'nest',
  [Cta.STATUS]: U32,
  [Cta.PROTOCOL_INFO]: 'nest',
  [Cta.HELPER]: 'nest',
  [Cta.NAT_SOURCE]: 'nest',
  [Cta.TIME_OUT]: U32,
  [Cta.MARK]: U32,
  [Cta.ID]: U32,
  [Cta.NAT_DESTINATION]: 'nest',
  [Cta.TUPLE_MASTER]: 'nest',
  [Cta.SEQUENCE_ORIGINAL]: 'nest',
  [Cta.SEQUENCE_REPLY]: 'nest',
  [Cta.ZONE]: U16,
  [Cta.MARK_MASK]: U32,
  [Cta.LABELS]: { atMost: 16 },
  [Cta.LABELS_MASK]: { atMost: 16 },
  [Cta.FILTER]: 'nest',
  [Cta.STATUS_MASK]: U32,
  [Cta.EVENT_TIME]: 'told',
};

/** Records that a part of a dump looks at, and connections that a step of a flush ends, at most: less than a millisecond each. */
const DUMP_STEPS = 16_384;
const FLUSH_STEPS = 1024;

const everyOne: IsWanted = () => true;

/**
 * @returns whether the answer is a dump, or work that is acknowledged when it is over
 * @throws OvsError
 */
export function handleConnections(request: NetfilterRequest, connections: Connections): boolean {
  const tracker = trackerOf(connections, false);
  const { table } = tracker;
  switch (request.command) {
    case ConnectionCommand.GET:
    case ConnectionCommand.GET_AND_ZERO:
      if (request.isDump) return dump(request, table, readFilter(table, request.attributes, request.family));
      answer(request, table);
      return false;
    case ConnectionCommand.DELETE:
      return remove(request, table);
    case ConnectionCommand.CPU_STATISTICS:
      if (!request.isDump) return false;
      return dumpStatistics(request, tracker);
    case ConnectionCommand.STATISTICS:
      tellTotals(request, connections);
      return false;
    case ConnectionCommand.DYING:
    case ConnectionCommand.UNCONFIRMED:
      // There are none: a connection is whole or not there.
      if (!request.isDump) throw new OvsError(Errno.EOPNOTSUPP, 'these can only be dumped');
      request.reply.dumpNothing();
      return true;
    case ConnectionCommand.NEW:
      throw new OvsError(Errno.EOPNOTSUPP, 'connections come of packets alone');
    default:
      throw new OvsError(Errno.EINVAL, `there is no command ${request.command} of connections`);
  }
}

function dump(request: NetfilterRequest, table: ConnectionTable, isWanted: IsWanted | null): boolean {
  const { sequence } = request.message;
  const { port } = request.reply.connection;
  const flags = isWanted === null ? 0 : NlmFlag.DUMP_FILTERED;
  const cursor = new ConnectionCursor(table, isWanted ?? everyOne);
  request.reply.dumpFrom({
    begin: () => cursor.allow(DUMP_STEPS),
    next(writer) {
      const record = cursor.take();
      if (record === 0) return cursor.next === 0 ? Step.END : Step.PAUSE;
      writeConnection(writer, table, record, cursor.now, flags, sequence, port);
      return Step.OBJECT;
    },
  });
  return true;
}

/** The record of the connection that a request names by a tuple; 0 when it has no tuple. @throws OvsError ENOENT, and as {@link readTuple} */
function named({ attributes, family }: NetfilterRequest, table: ConnectionTable): number {
  const zone = attributes.content(Cta.ZONE);
  const original = attributes.content(Cta.TUPLE_ORIGINAL);
  const content = original ?? attributes.content(Cta.TUPLE_REPLY);
  if (content === null) return 0;
  const { tuple, hasOwnZone } = readTuple(content, family, zone === null ? 0 : be16At(zone, 0));
  const entry = table.find(tuple, table.nowMs() | 0);
  const direction = original === null ? Direction.REPLY : Direction.ORIGINAL;
  if (entry === 0 || (hasOwnZone && (entry & 1) !== direction)) {
    throw new OvsError(Errno.ENOENT, 'there is no such connection');
  }
  return entry >>> 1;
}

function answer(request: NetfilterRequest, table: ConnectionTable): void {
  const record = named(request, table);
  if (record === 0) throw new OvsError(Errno.EINVAL, 'no tuple says which connection');
  const { message, reply } = request;
  reply.message((writer) =>
    writeConnection(writer, table, record, table.nowMs() | 0, 0, message.sequence, reply.connection.port),
  );
}

function remove(request: NetfilterRequest, table: ConnectionTable): boolean {
  const { attributes, version } = request;
  const isFiltered = attributes.has(Cta.FILTER);
  const record = isFiltered ? 0 : named(request, table);
  // The kernel looks at the family of a flush only when the version is not 0: programs have always said one there.
  if (record === 0) return flush(request, table, readFilter(table, attributes, version === 0 ? 0 : request.family));
  const id = attributes.content(Cta.ID);
  if (id !== null && be32At(id, 0) !== table.idOf(record)) throw new OvsError(Errno.ENOENT, 'it is another connection');
  table.remove(record, Removal.FLUSHED);
  return false;
}

function flush(request: NetfilterRequest, table: ConnectionTable, isWanted: IsWanted | null): boolean {
  const cursor = new ConnectionCursor(table, isWanted ?? everyOne, { withExpired: true });
  const step = () => {
    cursor.allow(DUMP_STEPS);
    for (let ended = 0; ended < FLUSH_STEPS; ended += 1) {
      const record = cursor.take();
      if (record === 0) break;
      table.remove(record, Removal.FLUSHED, cursor.now);
    }
    return cursor.next === 0;
  };
  if ((request.message.flags & NlmFlag.ACK) !== 0) {
    request.reply.acknowledgeAfter(step);
    return true;
  }
  // Who wants no acknowledgement does not ask on.
  request.workOn(step);
  return false;
}

function dumpStatistics(request: NetfilterRequest, { table, counters }: Tracker): boolean {
  const { created, removed, refusedFull, refusedIndex } = table.counters;
  const refused = counters.refused.reduce((sum, count) => sum + count, 0);
  let isOver = false;
  request.reply.dumpFrom({
    // One processor: one thread tracks.
    next(writer) {
      if (isOver) return Step.END;
      isOver = true;
      begin(writer, request, ConnectionCommand.CPU_STATISTICS);
      const be32 = (type: number, value: number) => writer.be32(type, value % 2 ** 32);
      be32(CtaStatistics.FOUND, 0);
      be32(CtaStatistics.INVALID, counters.invalid);
      be32(CtaStatistics.INSERTED, created);
      be32(CtaStatistics.INSERT_FAILED, refusedFull + refusedIndex);
      be32(CtaStatistics.DROPPED, refused);
      be32(CtaStatistics.EARLY_DROPPED, removed[Removal.EVICTED]);
      be32(CtaStatistics.ERROR, 0);
      be32(CtaStatistics.SEARCH_RESTARTED, 0);
      be32(CtaStatistics.CLASH_RESOLVED, 0);
      be32(CtaStatistics.CHAIN_TOO_LONG, refusedIndex);
      writer.end();
      return Step.OBJECT;
    },
  });
  return true;
}

function tellTotals(request: NetfilterRequest, { table, maximum }: Connections): void {
  request.reply.message((writer) => {
    begin(writer, request, ConnectionCommand.STATISTICS);
    writer.be32(CtaGlobal.ENTRIES, table?.size ?? 0);
    writer.be32(CtaGlobal.MAXIMUM, table?.capacity ?? maximum);
    writer.end();
  });
}

function begin(writer: MessageWriter, { message, reply }: NetfilterRequest, command: number): void {
  const type = (Subsystem.CONNECTIONS << 8) | command;
  beginNetfilter(writer, type, NlmFlag.MULTI, message.sequence, reply.connection.port);
}
