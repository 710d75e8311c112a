/** TCP's states in a connection, and how the packets of both sides lead from one to the next. The numbers are Linux's (TCP_CONNTRACK_*). */
import { TcpFlag } from '../net/index.ts';

export const TcpState = {
  NONE: 0,
  SYN_SENT: 1,
  SYN_RECV: 2,
  ESTABLISHED: 3,
  FIN_WAIT: 4,
  CLOSE_WAIT: 5,
  LAST_ACK: 6,
  TIME_WAIT: 7,
  CLOSE: 8,
  /** Both sides have sent a SYN. */
  SYN_SENT2: 9,
  /** No state: the packet passes, and says nothing about the connection. */
  IGNORE: 10,
  /** No state: the packet cannot belong to the connection. */
  INVALID: 11,
} as const;

/** The names of the states, as Linux's tools write them. */
export const TCP_STATE_NAMES: readonly string[] = [
  'NONE',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'FIN_WAIT',
  'CLOSE_WAIT',
  'LAST_ACK',
  'TIME_WAIT',
  'CLOSE',
  'SYN_SENT2',
];

/** What a packet is to the state machine. */
export const TcpKind = { SYN: 0, SYN_ACK: 1, FIN: 2, ACK: 3, RST: 4, NONE: 5 } as const;

export function tcpKind(flags: number): number {
  if ((flags & TcpFlag.RST) !== 0) return TcpKind.RST;
  if ((flags & TcpFlag.SYN) !== 0) return (flags & TcpFlag.ACK) !== 0 ? TcpKind.SYN_ACK : TcpKind.SYN;
  if ((flags & TcpFlag.FIN) !== 0) return TcpKind.FIN;
  return (flags & TcpFlag.ACK) !== 0 ? TcpKind.ACK : TcpKind.NONE;
}

/** Whether a TCP sender makes such flags: PSH, ECE and CWR may stand with any. */
export function areTcpFlagsValid(flags: number): boolean {
  switch (flags & (TcpFlag.FIN | TcpFlag.SYN | TcpFlag.RST | TcpFlag.ACK | TcpFlag.URG)) {
    case TcpFlag.SYN:
    case TcpFlag.SYN | TcpFlag.URG:
    case TcpFlag.SYN | TcpFlag.ACK:
    case TcpFlag.RST:
    case TcpFlag.RST | TcpFlag.ACK:
    case TcpFlag.FIN | TcpFlag.ACK:
    case TcpFlag.FIN | TcpFlag.ACK | TcpFlag.URG:
    case TcpFlag.ACK:
    case TcpFlag.ACK | TcpFlag.URG:
      return true;
    default:
      return false;
  }
}

/*
 * A row for each kind of packet, a letter for each state that the connection is in:
 *
 *   - none  s SYN_SENT  r SYN_RECV  e ESTABLISHED  f FIN_WAIT  c CLOSE_WAIT  l LAST_ACK  t TIME_WAIT  x CLOSE  2 SYN_SENT2
 *   . ignored: a SYN or an acknowledgment that may be of a connection of which we know nothing yet, or of one that we take for another
 *   ! invalid
 */
const LETTERS = '-srefcltx2.!';

const ORIGINAL = {
  //        -srefcltx2
  SYN: /**/ 'ss.....ss2',
  SYN_ACK: '!!r!!!!!!r',
  FIN: /**/ '!!ffllltx!',
  ACK: /**/ 'e!eeccttx!',
  RST: /**/ '!xxxxxxxxx',
};

/*
 * In the reply direction a SYN is a simultaneous open; a SYN-ACK is ignored once the connection has gone on, for it may be the answer to a SYN that was ignored; an ACK before any
 * SYN-ACK may be the answer to a SYN into a connection that only the peer remembers.
 */
const REPLY = {
  SYN: /**/ '!2!!!!!s!2',
  SYN_ACK: '!r.......r',
  FIN: /**/ '!!ffllltx!',
  ACK: /**/ '!.reccttx.',
  RST: /**/ '!xxxxxxxxx',
};

const TRANSITIONS = makeTransitions();

function makeTransitions(): Uint8Array {
  const table = new Uint8Array(2 * 6 * 10).fill(TcpState.INVALID);
  [ORIGINAL, REPLY].forEach((rows, direction) => {
    for (const [name, row] of Object.entries(rows)) {
      const kind = TcpKind[name as keyof typeof TcpKind];
      for (let state = 0; state < 10; state += 1) {
        table[(direction * 6 + kind) * 10 + state] = LETTERS.indexOf(row[state]);
      }
    }
  });
  return table;
}

/** The state after a packet, or {@link TcpState.IGNORE} or {@link TcpState.INVALID}. */
export function nextTcpState(direction: number, kind: number, state: number): number {
  return TRANSITIONS[(direction * 6 + kind) * 10 + state];
}
