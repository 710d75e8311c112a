/** Protocols whose packets say nothing of a state: UDP, ICMP queries, GRE, and all that are not known here. Connections of theirs end by time alone. */
import { IpProtocol } from '../net/index.ts';
import { RecordWord, Status, TIMEOUT_SHIFT } from './layout.ts';
import { repliedTimeOut, unrepliedTimeOut } from './time-outs.ts';

/** UDP in both directions for longer than this is a stream. */
const STREAM_AFTER_MS = 2000;

/** When a connection becomes a stream, in the first word of its protocol. */
export const STREAM_AT = RecordWord.PROTOCOL;

/** A packet of a connection, its first one included. @param now a 32-bit time in milliseconds */
export function advanceStateless(
  records: Int32Array,
  at: number,
  protocol: number,
  isIpv6: boolean,
  now: number,
  isFirst: boolean,
): void {
  const status = records[at + RecordWord.STATUS];
  let place = unrepliedTimeOut(protocol, isIpv6);
  if (isFirst) records[at + STREAM_AT] = (now + STREAM_AFTER_MS) | 0;
  else if ((status & Status.SEEN_REPLY) !== 0) {
    // Of UDP only what goes on for a while gets the longer time: questions and answers are many and short.
    const isStream = protocol !== IpProtocol.UDP || ((now - records[at + STREAM_AT]) | 0) > 0;
    if (isStream) {
      place = repliedTimeOut(protocol, isIpv6);
      if (protocol === IpProtocol.UDP || protocol === IpProtocol.GRE)
        records[at + RecordWord.STATUS] = status | Status.ASSURED;
    }
  }
  records[at + RecordWord.STATE] = place << TIMEOUT_SHIFT;
  records[at + RecordWord.LAST_SEEN] = now;
}
