/** Which connections a dump or a flush is about: what ctnetlink_alloc_filter reads, and what ctnetlink_filter_match asks. */
import { type ConnectionTable, RecordWord } from '../../../../connections/index.ts';
import { type Attributes, be16At, be32At } from '../../attributes.ts';
import { Errno, OvsError } from '../../errors.ts';
import { netlinkStatus } from './connection.ts';
import { familyOf } from './message.ts';
import { Cta } from './numbers.ts';

/** Whether a record is meant. */
export type IsWanted = (record: number) => boolean;

/**
 * @param family of addresses; 0 for any
 * @returns null when all connections are meant
 * @throws OvsError EINVAL for a filter that cannot match, EOPNOTSUPP for one by parts of tuples
 */
export function readFilter(table: ConnectionTable, attributes: Attributes, family: number): IsWanted | null {
  const zone = attributes.content(Cta.ZONE);
  const mark = attributes.content(Cta.MARK);
  const status = attributes.content(Cta.STATUS);
  if (attributes.has(Cta.FILTER)) throw new OvsError(Errno.EOPNOTSUPP, 'connections are not picked by parts of tuples');
  if (family === 0 && zone === null && mark === null && status === null) return null;
  const markMask = attributes.content(Cta.MARK_MASK);
  const statusMask = attributes.content(Cta.STATUS_MASK);
  if ((mark === null && markMask !== null) || (status === null && statusMask !== null)) {
    throw new OvsError(Errno.EINVAL, 'a mask of nothing');
  }
  const wanted = {
    zone: zone === null ? -1 : be16At(zone, 0),
    mark: mark === null ? 0 : be32At(mark, 0) | 0,
    markMask: mark === null ? 0 : markMask === null ? -1 : be32At(markMask, 0) | 0,
    status: status === null ? 0 : be32At(status, 0) | 0,
    statusMask: status === null ? 0 : be32At(statusMask ?? status, 0) | 0,
  };
  if (status !== null && wanted.statusMask === 0) throw new OvsError(Errno.EINVAL, 'the mask of the status is 0');
  const { records } = table;
  return (record) => {
    const at = table.at(record);
    const kind = records[at];
    if (wanted.zone !== -1 && kind >>> 16 !== wanted.zone) return false;
    if (family !== 0 && familyOf(kind) !== family) return false;
    // As in the kernel, values with bits outside of their masks agree with nothing.
    if ((records[at + RecordWord.MARK] & wanted.markMask) !== wanted.mark) return false;
    return (netlinkStatus(records[at + RecordWord.STATUS]) & wanted.statusMask) === wanted.status;
  };
}
