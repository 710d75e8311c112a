/**
 * A table that another process has left is taken over: each entry is checked before anybody trusts it, for that process may have died between two stores, and
 * memory may have been written by others. Programs may read all the while, so sound entries stay where they are.
 */
import { IpProtocol } from '../net/index.ts';
import type { IndexTable } from './index-table.ts';
import { Kind, RecordWord, Settings, STATE_MASK, Status, TIMEOUT_SHIFT, tupleWord } from './layout.ts';
import type { ConnectionTable } from './table.ts';
import { LONGEST_MS } from './time-outs.ts';
import { Tuple } from './tuple.ts';

/** What came of an adoption. */
export interface AdoptReport {
  readonly connections: number;
  /** Records that were freed, as they could not be right. */
  readonly unsound: number;
  /** Index words that were missing and were put in, or led nowhere and were emptied. */
  readonly repaired: number;
}

/** Away for longer than this, nobody knows which turn of a 32-bit clock a time belongs to. */
const LONGEST_AWAY_MS = 2 ** 31 - 1 - LONGEST_MS;

/** So far ahead of the table's clock a last-seen word may be: programs write it meanwhile, by a clock of the kernel that is read another way. */
const CLOCK_SLACK_MS = 1000;

/**
 * Check all records and the index.
 * @param awayMs since somebody swept the table; negative when the clock is another one
 */
export function adoptRecords(table: ConnectionTable, index: IndexTable, awayMs: number): AdoptReport {
  const { records } = table;
  const isOfThisClock = awayMs >= 0 && awayMs <= LONGEST_AWAY_MS;
  let connections = 0;
  let unsound = 0;
  let repaired = 0;
  for (let record = 1; record < table.fresh; record += 1) {
    const at = table.at(record);
    if ((records[at] & Kind.LIVE) === 0) {
      records[at] = 0;
      continue;
    }
    if (isOfThisClock && isSound(table, record)) {
      const missing = completeIndex(table, index, record);
      if (missing >= 0) {
        repaired += missing;
        connections += 1;
        continue;
      }
    }
    Atomics.store(records, at, 0);
    unsound += 1;
  }
  repaired += index.clean((entry) => table.isLive(entry >>> 1));
  return { connections, unsound, repaired };
}

const found = new Tuple();
const inverse = new Tuple();

function isSound(table: ConnectionTable, record: number): boolean {
  const { records } = table;
  const at = table.at(record);
  const kind = records[at];
  if ((kind & 0xff & ~Kind.MASK) !== 0) return false;
  const status = records[at + RecordWord.STATUS];
  if ((status & ~Status.MASK) !== 0 || (status & Status.CONFIRMED) === 0) return false;
  if (!table.timeOuts.has(records[at + RecordWord.SETTINGS] & Settings.POLICY)) return false;
  const state = records[at + RecordWord.STATE];
  if (state >>> TIMEOUT_SHIFT >= 32 || (state & STATE_MASK) > lastState((kind >>> 8) & 0xff)) return false;
  if (((table.nowMs() - records[at + RecordWord.LAST_SEEN]) | 0) < -CLOCK_SLACK_MS) return false;
  return isTuple(kind, records, at + RecordWord.ORIGINAL) && isTuple(kind, records, at + RecordWord.REPLY);
}

function isTuple(kind: number, records: Int32Array, at: number): boolean {
  found.read(kind, records, at);
  if (!inverse.invert(found)) return false;
  if ((kind & Kind.IPV6) !== 0) return true;
  const { words } = found;
  return (words[2] | words[3] | words[4] | words[6] | words[7] | words[8]) === 0;
}

/** The highest state of a protocol: the state machines go by tables. */
function lastState(protocol: number): number {
  if (protocol === IpProtocol.TCP) return 9;
  return protocol === IpProtocol.SCTP ? 8 : 1;
}

/** @returns how many of a record's two index words were missing; -1 when another connection has one of its tuples, or there is no room */
function completeIndex(table: ConnectionTable, index: IndexTable, record: number): number {
  let missing = 0;
  for (let entry = record << 1; entry <= ((record << 1) | 1); entry += 1) {
    const hash = table.hashOf(entry);
    found.read(table.records[table.at(record)], table.records, table.at(record) + tupleWord(entry & 1));
    const there = table.lookUp(found);
    if (there !== 0 && there >>> 1 !== record) return -1;
    if (index.placeOf(hash, entry) !== -1) continue;
    if (!index.insert(hash, entry)) return -1;
    missing += 1;
  }
  return missing;
}
