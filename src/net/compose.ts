/**
 * Whole frames from records: headers in a row, with all lengths and checksums filled in. For generators, tests and tools;
 * the opposite of describe.ts.
 */
import { finishSum, internetChecksum, pseudoHeaderSum4, pseudoHeaderSum6, sumBytes } from './checksum.ts';
import { sctpChecksum } from './crc32c.ts';
import { setU16 } from './wire/bytes.ts';
import { WireError } from './wire/error.ts';
import { GreView } from './wire/gre.ts';
import { Ipv4View } from './wire/ipv4.ts';
import { IpProtocol } from './wire/numbers.ts';
import { SctpView } from './wire/sctp.ts';
import type { Codec } from './wire/view.ts';

/** A header to compose: a format and a record of it. */
export interface HeaderLayer {
  readonly protocol: string;
  readonly lengthBytes: number;
  emit(bytes: Uint8Array, offset: number): void;
}

/** Pair a record with its format for {@link composeFrame}. */
export function header<R>(codec: Codec<R>, record: R): HeaderLayer {
  return {
    protocol: codec.protocol,
    lengthBytes: codec.byteLength(record),
    emit: (bytes, offset) => {
      codec.emit(record, bytes, offset);
    },
  };
}

/**
 * A frame of headers and a payload. Length fields (IPv4, IPv6, UDP) are set so that each layer reaches to the end, whatever
 * the records say, and all checksums are written; the numbers that name the next header are the caller's.
 * The pseudo header takes its destination from the fixed IPv6 header, so a routing header should have no segments left.
 * @example
 * composeFrame(
 *   [
 *     header(Ethernet, { destination: '02:00:00:00:00:02', source: '02:00:00:00:00:01', etherType: EtherType.IPV4 }),
 *     header(Ipv4, { ...addresses, protocol: IpProtocol.UDP }),
 *     header(Udp, { sourcePort: 53, destinationPort: 5353, payloadLength: 0 }),
 *   ],
 *   new TextEncoder().encode('hello'),
 * );
 * @throws WireError when a record does not fit its header, or a layer is too long for its length field
 */
export function composeFrame(layers: readonly HeaderLayer[], payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  const headersLength = layers.reduce((sum, layer) => sum + layer.lengthBytes, 0);
  const bytes = new Uint8Array(headersLength + payload.length);
  const offsets: number[] = [];
  let at = 0;
  for (const layer of layers) {
    offsets.push(at);
    layer.emit(bytes, at);
    at += layer.lengthBytes;
  }
  bytes.set(payload, at);
  // Inner layers first: the checksums of outer ones run over them.
  for (let i = layers.length - 1; i >= 0; i -= 1) finish(bytes, layers, offsets, i);
  return bytes;
}

function finish(bytes: Uint8Array, layers: readonly HeaderLayer[], offsets: readonly number[], index: number): void {
  const offset = offsets[index];
  const length = bytes.length - offset;
  switch (layers[index].protocol) {
    case 'ipv4': {
      const view = new Ipv4View();
      setU16(bytes, offset + 2, fieldLength('ipv4', length, offset));
      view.over(bytes, offset, bytes.length);
      view.fillChecksum();
      break;
    }
    case 'ipv6':
      setU16(bytes, offset + 4, fieldLength('ipv6', length - 40, offset));
      break;
    case 'udp': {
      setU16(bytes, offset + 4, fieldLength('udp', length, offset));
      const sum = transportChecksum(bytes, layers, offsets, index, IpProtocol.UDP);
      setU16(bytes, offset + 6, sum === 0 ? 0xffff : sum);
      break;
    }
    case 'tcp':
      setU16(bytes, offset + 16, transportChecksum(bytes, layers, offsets, index, IpProtocol.TCP));
      break;
    case 'icmpv6':
      setU16(bytes, offset + 2, transportChecksum(bytes, layers, offsets, index, IpProtocol.ICMPV6));
      break;
    case 'icmpv4':
      setU16(bytes, offset + 2, internetChecksum(bytes, offset, length));
      break;
    case 'sctp': {
      const view = new SctpView();
      view.over(bytes, offset, bytes.length);
      view.checksum = sctpChecksum(bytes, offset, length);
      break;
    }
    case 'gre': {
      const view = new GreView();
      view.over(bytes, offset, bytes.length);
      if (view.hasChecksum) view.checksum = internetChecksum(bytes, offset, length);
    }
  }
}

/** The checksum of a transport under the nearest IP header before it; 0 where there is none. */
function transportChecksum(
  bytes: Uint8Array,
  layers: readonly HeaderLayer[],
  offsets: readonly number[],
  index: number,
  protocol: number,
): number {
  const offset = offsets[index];
  const length = bytes.length - offset;
  for (let i = index - 1; i >= 0; i -= 1) {
    if (layers[i].protocol === 'ipv4') {
      return finishSum(sumBytes(bytes, offset, length, pseudoHeaderSum4(bytes, offsets[i] + 12, protocol, length)));
    }
    if (layers[i].protocol === 'ipv6') {
      return finishSum(sumBytes(bytes, offset, length, pseudoHeaderSum6(bytes, offsets[i] + 8, protocol, length)));
    }
  }
  return 0;
}

function fieldLength(protocol: string, length: number, offset: number): number {
  if (length > 0xffff) throw new WireError(protocol, `${length} bytes are more than its length field holds`, offset);
  return length;
}
