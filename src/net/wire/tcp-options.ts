/** TCP options as data. Their bytes are split by options.ts; here they get their meaning. */
import { setU16, setU32, u16, u32 } from './bytes.ts';
import type { RawOption } from './options.ts';

/** One TCP option; those that are unknown or of a wrong length stay as they are. */
export type TcpOption =
  | { kind: 'no-operation' }
  /** Maximum segment size in bytes. */
  | { kind: 'mss'; mss: number }
  /** The window counts in units of 2 to the power of `shift`. */
  | { kind: 'window-scale'; shift: number }
  | { kind: 'sack-permitted' }
  /** One to four stretches received, as sequence numbers; `end` is behind the last. */
  | { kind: 'sack'; blocks: { start: number; end: number }[] }
  | { kind: 'timestamps'; value: number; echoReply: number }
  | { kind: 'unknown'; number: number; data: Uint8Array };

const NUMBER = { NO_OPERATION: 1, MSS: 2, WINDOW_SCALE: 3, SACK_PERMITTED: 4, SACK: 5, TIMESTAMPS: 8 } as const;

/** The meaning of one option (RFC 9293, 7323, 2018). */
export function readTcpOption(raw: RawOption): TcpOption {
  const { kind, data } = raw;
  if (kind === NUMBER.NO_OPERATION) return { kind: 'no-operation' };
  if (kind === NUMBER.MSS && data.length === 2) return { kind: 'mss', mss: u16(data, 0) };
  if (kind === NUMBER.WINDOW_SCALE && data.length === 1) return { kind: 'window-scale', shift: data[0] };
  if (kind === NUMBER.SACK_PERMITTED && data.length === 0) return { kind: 'sack-permitted' };
  if (kind === NUMBER.SACK && data.length >= 8 && data.length % 8 === 0) {
    const blocks: { start: number; end: number }[] = [];
    for (let at = 0; at < data.length; at += 8) blocks.push({ start: u32(data, at), end: u32(data, at + 4) });
    return { kind: 'sack', blocks };
  }
  if (kind === NUMBER.TIMESTAMPS && data.length === 8) {
    return { kind: 'timestamps', value: u32(data, 0), echoReply: u32(data, 4) };
  }
  return { kind: 'unknown', number: kind, data };
}

/**
 * The bytes of one option.
 * @param fits checks that a value is a whole number of so many bits, and throws
 */
export function writeTcpOption(
  option: TcpOption,
  fits: (name: string, value: number, width: number) => number,
): RawOption {
  switch (option.kind) {
    case 'no-operation':
      return { kind: NUMBER.NO_OPERATION, data: new Uint8Array(0) };
    case 'mss': {
      const data = new Uint8Array(2);
      setU16(data, 0, fits('mss', option.mss, 16));
      return { kind: NUMBER.MSS, data };
    }
    case 'window-scale':
      return { kind: NUMBER.WINDOW_SCALE, data: Uint8Array.of(fits('shift', option.shift, 8)) };
    case 'sack-permitted':
      return { kind: NUMBER.SACK_PERMITTED, data: new Uint8Array(0) };
    case 'sack': {
      const data = new Uint8Array(option.blocks.length * 8);
      option.blocks.forEach((block, i) => {
        setU32(data, i * 8, fits('start', block.start, 32));
        setU32(data, i * 8 + 4, fits('end', block.end, 32));
      });
      return { kind: NUMBER.SACK, data };
    }
    case 'timestamps': {
      const data = new Uint8Array(8);
      setU32(data, 0, fits('value', option.value, 32));
      setU32(data, 4, fits('echoReply', option.echoReply, 32));
      return { kind: NUMBER.TIMESTAMPS, data };
    }
    case 'unknown':
      return { kind: option.number, data: option.data };
  }
}

/** Bytes that an option takes in the header. */
export function tcpOptionLength(option: TcpOption): number {
  switch (option.kind) {
    case 'no-operation':
      return 1;
    case 'sack-permitted':
      return 2;
    case 'window-scale':
      return 3;
    case 'mss':
      return 4;
    case 'sack':
      return 2 + option.blocks.length * 8;
    case 'timestamps':
      return 10;
    case 'unknown':
      return option.number === NUMBER.NO_OPERATION ? 1 : 2 + option.data.length;
  }
}
