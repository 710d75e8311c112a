/**
 * A quick look into the network and transport headers of a frame, for access control, guards and address limits: where the
 * addresses are, which protocol, which ports. Built for hostile bytes: what does not fit is reported as such, nothing throws.
 *
 * net/ has the full formats; this is the allocation-free subset that runs per packet.
 */
import type { Packet } from '../../net/index.ts';

/** What a look found. One instance is reused for all packets. */
export class Headers {
  /** 4, 6, or 0 for anything else or for a header that does not fit. */
  version = 0;
  /** Index in the packet's bytes of the source and destination IP address. */
  sourceAt = 0;
  destinationAt = 0;
  /** IP protocol behind all IPv6 extension headers that could be walked; -1 when unknown. */
  protocol = -1;
  /** Index of the transport header; -1 when the frame does not hold it. */
  transportAt = -1;
  /** Index behind the last byte of the frame. */
  end = 0;
  /** TCP, UDP or SCTP ports; -1 when there are none to see. */
  sourcePort = -1;
  destinationPort = -1;
  /** A fragment other than the first. */
  laterFragment = false;
  /** Fragmented at all. */
  fragment = false;
  /** The IPv6 header chain does not end within the frame, or within what is walked. */
  truncatedChain = false;
}

/** Extension headers walked before giving up. */
const MAX_EXTENSION_HEADERS = 16;

/**
 * Fill `headers` from a frame.
 * @param etherType behind the tags
 * @param payloadOffset where the network header starts, from the start of the frame
 * @returns whether there is an IP header (headers.version tells which)
 */
export function readHeaders(headers: Headers, packet: Packet, etherType: number, payloadOffset: number): boolean {
  headers.version = 0;
  headers.protocol = -1;
  headers.transportAt = -1;
  headers.sourcePort = -1;
  headers.destinationPort = -1;
  headers.laterFragment = false;
  headers.fragment = false;
  headers.truncatedChain = false;
  headers.end = packet.offset + packet.length;
  const at = packet.offset + payloadOffset;
  if (etherType === 0x0800) {
    if (!readIpv4(headers, packet.bytes, at)) return false;
  } else if (etherType === 0x86dd) {
    if (!readIpv6(headers, packet.bytes, at)) return false;
  } else {
    return false;
  }
  const bytes = packet.bytes;
  const transport = headers.transportAt;
  const protocol = headers.protocol;
  if (transport !== -1 && (protocol === 6 || protocol === 17 || protocol === 132) && transport + 4 <= headers.end) {
    headers.sourcePort = (bytes[transport] << 8) | bytes[transport + 1];
    headers.destinationPort = (bytes[transport + 2] << 8) | bytes[transport + 3];
  }
  return true;
}

function readIpv4(headers: Headers, bytes: Uint8Array, at: number): boolean {
  if (at + 20 > headers.end || bytes[at] >> 4 !== 4) return false;
  const headerBytes = (bytes[at] & 15) * 4;
  if (headerBytes < 20) return false;
  headers.version = 4;
  headers.sourceAt = at + 12;
  headers.destinationAt = at + 16;
  headers.protocol = bytes[at + 9];
  const fragment = (bytes[at + 6] << 8) | bytes[at + 7];
  headers.fragment = (fragment & 0x3fff) !== 0;
  headers.laterFragment = (fragment & 0x1fff) !== 0;
  if (!headers.laterFragment && at + headerBytes < headers.end) headers.transportAt = at + headerBytes;
  return true;
}

function readIpv6(headers: Headers, bytes: Uint8Array, at: number): boolean {
  if (at + 40 > headers.end || bytes[at] >> 4 !== 6) return false;
  headers.version = 6;
  headers.sourceAt = at + 8;
  headers.destinationAt = at + 24;
  let next = bytes[at + 6];
  let position = at + 40;
  for (let i = 0; i < MAX_EXTENSION_HEADERS; i += 1) {
    // Hop-by-hop, routing, destination options, mobility, HIP, shim6: RFC 8200 section 4, RFC 6564.
    if (next === 0 || next === 43 || next === 60 || next === 135 || next === 139 || next === 140) {
      if (position + 8 > headers.end) break;
      next = bytes[position];
      position += (bytes[position + 1] + 1) * 8;
    } else if (next === 44) {
      if (position + 8 > headers.end) break;
      headers.fragment = true;
      const laterFragment = (((bytes[position + 2] << 8) | bytes[position + 3]) & 0xfff8) !== 0;
      next = bytes[position];
      position += 8;
      if (laterFragment) {
        headers.laterFragment = true;
        headers.protocol = next;
        return true;
      }
    } else if (next === 51) {
      if (position + 8 > headers.end) break;
      next = bytes[position];
      position += (bytes[position + 1] + 2) * 4;
    } else {
      headers.protocol = next;
      if (position < headers.end) headers.transportAt = position;
      else if (next !== 59) headers.truncatedChain = true;
      return true;
    }
  }
  headers.truncatedChain = true;
  return true;
}
