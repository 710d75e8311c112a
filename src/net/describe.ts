/**
 * A frame in words: every layer with its fields, for people and as JSON. It allocates freely and never throws: a malformed
 * layer is a layer with an error. describe-network.ts and describe-transport.ts know the protocols; dissect.ts is the fast
 * neighbour, compose.ts the opposite.
 */
import { type Dissector, type LayerValue, type Span, textOf } from './describe-fields.ts';
import { arp, ethernet, extension, ipv4, ipv6, llc, mpls, vlan } from './describe-network.ts';
import { geneve, gre, icmpv4, icmpv6, sctp, tcp, udp, vxlan } from './describe-transport.ts';
import { WireError } from './wire/error.ts';
import { IpProtocol } from './wire/numbers.ts';

/** One decoded layer. */
export interface Layer {
  /**
   * 'ethernet', 'vlan', 'ipv4', 'tcp', ...; 'payload' for bytes that no format claims, 'padding' for those behind the end
   * that a length field names.
   */
  protocol: string;
  /** From the start of the frame. */
  offset: number;
  /** Of the header alone. */
  lengthBytes: number;
  fields: Record<string, LayerValue>;
  /** What was wrong, for a layer that could not be decoded. Nothing is decoded behind it. */
  error?: { reason: string; offset: number };
}

/** Layers of one frame, at most. Stacks of tags, labels and headers go on for as long as a sender likes. */
export const MAXIMUM_LAYERS = 32;

const payload: Dissector = (span, offset) => ({
  fields: { data: textOf(span.bytes.subarray(offset, span.end)) },
  payloadOffset: span.end,
  next: '',
});

/** By layer name. */
const dissectors: Readonly<Record<string, Dissector>> = {
  ethernet,
  vlan,
  llc,
  arp,
  ipv4,
  ipv6,
  'ipv6-hop-by-hop': extension(IpProtocol.HOP_BY_HOP),
  'ipv6-routing': extension(IpProtocol.ROUTING),
  'ipv6-fragment': extension(IpProtocol.FRAGMENT),
  'ipv6-authentication': extension(IpProtocol.AUTHENTICATION),
  'ipv6-destination': extension(IpProtocol.DESTINATION),
  icmpv4,
  icmpv6,
  tcp,
  udp,
  sctp,
  mpls,
  gre,
  vxlan,
  geneve,
  payload,
};

/**
 * Decode a frame from its Ethernet header on, tunnels (VXLAN, Geneve, GRE, IP in IP, MPLS) included.
 * @param frame the frame as on the wire; it is only read
 * @param options.partialChecksumStart where a checksum that is still partial starts (Packet.checksumStart), so that it is
 *   called that and not bad
 * @returns the layers from the outside in, at least one
 */
export function describe(frame: Uint8Array, options: { partialChecksumStart?: number } = {}): Layer[] {
  const layers: Layer[] = [];
  const span: Span = { bytes: frame, end: frame.length, ip: null, partialAt: options.partialChecksumStart ?? -1 };
  let paddingFrom = frame.length;
  let protocol = 'ethernet';
  let offset = 0;
  while (protocol !== '') {
    if (layers.length === MAXIMUM_LAYERS) {
      layers.push(broken('payload', offset, span.end, `more than ${MAXIMUM_LAYERS} layers`, offset));
      break;
    }
    const dissector = dissectors[protocol] ?? payload;
    const before = span.end;
    const next = decode(layers, protocol, dissector, span, offset);
    if (span.end < before && paddingFrom === frame.length) paddingFrom = span.end;
    protocol = next.protocol;
    offset = next.offset;
    if (offset >= span.end && (protocol === 'payload' || protocol === '')) break;
  }
  if (paddingFrom < frame.length) {
    layers.push({
      protocol: 'padding',
      offset: paddingFrom,
      lengthBytes: frame.length - paddingFrom,
      fields: { data: textOf(frame.subarray(paddingFrom)) },
    });
  }
  return layers;
}

function decode(
  layers: Layer[],
  protocol: string,
  dissector: Dissector,
  span: Span,
  offset: number,
): { protocol: string; offset: number } {
  try {
    const decoded = dissector(span, offset);
    layers.push({ protocol, offset, lengthBytes: decoded.payloadOffset - offset, fields: decoded.fields });
    return { protocol: decoded.next, offset: decoded.payloadOffset };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    layers.push(broken(protocol, offset, span.end, error.reason, error.offset));
    return { protocol: '', offset: span.end };
  }
}

function broken(protocol: string, offset: number, end: number, reason: string, at: number): Layer {
  return { protocol, offset, lengthBytes: end - offset, fields: {}, error: { reason, offset: at } };
}

/**
 * One line of text for a layer, such as `ipv4 14..34 source=10.0.0.1 destination=10.0.0.2 ...`; bytes as from..behind.
 * Values from the wire appear as numbers, addresses and hexadecimal only, so the line is safe to print on a terminal.
 */
export function layerText(layer: Layer): string {
  const fields = Object.entries(layer.fields).map(([name, value]) => `${name}=${valueText(name, value)}`);
  const error = layer.error === undefined ? [] : [`MALFORMED at ${layer.error.offset}: ${layer.error.reason}`];
  return [layer.protocol, `${layer.offset}..${layer.offset + layer.lengthBytes}`, ...fields, ...error].join(' ');
}

/** Fields that people know in hexadecimal. */
const HEXADECIMAL = new Set(['etherType', 'checksum', 'verificationTag', 'identification', 'spi']);

function valueText(name: string, value: LayerValue): string {
  if (Array.isArray(value)) return `[${value.map((each) => valueText(name, each)).join(' ')}]`;
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .map(([key, each]) => `${key}=${valueText(key, each)}`)
      .join(' ')}}`;
  }
  if (typeof value === 'number' && HEXADECIMAL.has(name)) return `0x${value.toString(16).padStart(4, '0')}`;
  return String(value);
}
