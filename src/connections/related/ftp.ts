/** What FTP says on its control connection about the data connection that comes next (RFC 959, RFC 2428), and how that is written. Nothing is believed, and nothing is kept: where lines begin is known by line-starts.ts. */
import { formatIpv4, formatIpv6, parseIpv4Into, parseIpv6Into } from '../../net/index.ts';
import { word } from '../bytes.ts';
import { Direction } from '../layout.ts';

/** The forms in which an address or a port is told. */
export const FtpForm = {
  NONE: 0,
  /** PORT 10,0,0,1,4,5 */
  PORT: 1,
  /** EPRT |1|10.0.0.1|1029| */
  EPRT: 2,
  /** 227 Entering Passive Mode (10,0,0,1,4,5) */
  PASSIVE: 3,
  /** 229 Entering Extended Passive Mode (|||1029|) */
  EXTENDED_PASSIVE: 4,
} as const;

/** Longest line that is read: as long as replies are, with room. */
const LONGEST_LINE = 512;

const PORT = /^PORT +(\d{1,3}(?:,\d{1,3}){5}) *\r?\n/i;
const EPRT = /^EPRT +(([!-~])([12])\2([0-9a-f:.]{2,45})\2(\d{1,5})\2) *\r?\n/i;
const PASSIVE = /^227 [^\r\n]*?(?<![\d,])(\d{1,3}(?:,\d{1,3}){5})(?![\d,])[^\r\n]*\r?\n/;
const EXTENDED_PASSIVE = /^229 [^\r\n]*?\((([!-~])\2\2(\d{1,5})\2)\)[^\r\n]*\r?\n/;

/** One announcement. Made once and filled again. */
export class FtpAnnouncement {
  /** One of {@link FtpForm}. */
  form: number = FtpForm.NONE;
  /** Where the text is that names the address, from the start of the payload, and how long it is. */
  offset = 0;
  lengthBytes = 0;
  port = 0;
  /** Four words; of IPv4 the first. Of EXTENDED_PASSIVE, which names none, zeros. */
  readonly address = new Int32Array(4);
  #delimiter = '|';

  /**
   * Look at the begin of a segment's payload.
   * @param direction of the segment: clients send commands in the original direction, servers reply
   * @returns whether it announces a data connection
   */
  read(bytes: Uint8Array, start: number, end: number, direction: number): boolean {
    this.form = FtpForm.NONE;
    if (!mayAnnounce(bytes, start, end, direction)) return false;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset + start, Math.min(end - start, LONGEST_LINE)).toString(
      'latin1',
    );
    if (direction === Direction.ORIGINAL) return this.#port(text) || this.#eprt(text);
    return this.#passive(text) || this.#extendedPassive(text);
  }

  /** The text that stands for another address and port in the same form. */
  write(address: Int32Array, port: number, isIpv6: boolean): string {
    const d = this.#delimiter;
    const bytes = new Uint8Array(16);
    for (let i = 0; i < 16; i += 1) bytes[i] = address[i >> 2] >>> (24 - (i & 3) * 8);
    if (this.form === FtpForm.EXTENDED_PASSIVE) return `${d}${d}${d}${port}${d}`;
    if (this.form === FtpForm.EPRT) {
      return `${d}${isIpv6 ? 2 : 1}${d}${isIpv6 ? formatIpv6(bytes, 0) : formatIpv4(bytes, 0)}${d}${port}${d}`;
    }
    return [...bytes.subarray(0, 4), port >>> 8, port & 0xff].join(',');
  }

  #port(text: string): boolean {
    const match = PORT.exec(text);
    return match !== null && this.#six(FtpForm.PORT, text, match[0], match[1]);
  }

  #passive(text: string): boolean {
    const match = PASSIVE.exec(text);
    return match !== null && this.#six(FtpForm.PASSIVE, text, match[0], match[1]);
  }

  #six(form: number, text: string, line: string, six: string): boolean {
    const numbers = six.split(',').map(Number);
    if (numbers.some((number) => number > 255)) return false;
    this.address.fill(0);
    this.address[0] = (numbers[0] << 24) | (numbers[1] << 16) | (numbers[2] << 8) | numbers[3];
    return this.#found(form, text.indexOf(six, line.indexOf(' ')), six.length, (numbers[4] << 8) | numbers[5]);
  }

  #eprt(text: string): boolean {
    const match = EPRT.exec(text);
    if (match === null) return false;
    const [line, told, delimiter, family, address, port] = match;
    const bytes = new Uint8Array(16);
    if (!(family === '2' ? parseIpv6Into(address, bytes, 0) : parseIpv4Into(address, bytes, 0))) return false;
    for (let i = 0; i < 4; i += 1) this.address[i] = word(bytes, i * 4);
    this.#delimiter = delimiter;
    return this.#found(FtpForm.EPRT, line.indexOf(told), told.length, Number(port));
  }

  #extendedPassive(text: string): boolean {
    const match = EXTENDED_PASSIVE.exec(text);
    if (match === null) return false;
    const [line, told, delimiter, port] = match;
    this.#delimiter = delimiter;
    this.address.fill(0);
    return this.#found(FtpForm.EXTENDED_PASSIVE, line.indexOf(told), told.length, Number(port));
  }

  #found(form: number, offset: number, lengthBytes: number, port: number): boolean {
    if (port < 1 || port > 0xffff) return false;
    this.form = form;
    this.offset = offset;
    this.lengthBytes = lengthBytes;
    this.port = port;
    return true;
  }
}

/** Most segments announce nothing, and are told by their first bytes: PORT and EPRT in any case, 227 and 229. */
function mayAnnounce(bytes: Uint8Array, start: number, end: number, direction: number): boolean {
  if (end - start < 8) return false;
  const first = bytes[start];
  if (direction === Direction.ORIGINAL) return (first & 0xdf) === 0x50 || (first & 0xdf) === 0x45;
  return first === 0x32 && bytes[start + 1] === 0x32 && (bytes[start + 2] === 0x37 || bytes[start + 2] === 0x39);
}
