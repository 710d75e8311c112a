/** One line about a frame, for people who watch packets go by. */
import { describe, type Layer } from '../../net/index.ts';

/** Layers that carry others and say little themselves. */
const ADDRESSED = ['ipv4', 'ipv6', 'arp', 'ethernet'];
const QUIET = new Set(['payload', 'padding']);

/** Fields that tell most about a protocol, in the order in which people read them. */
const TELLING: Readonly<Record<string, readonly string[]>> = {
  arp: ['operation'],
  icmpv4: ['type', 'code', 'identifier', 'sequence'],
  icmpv6: ['type', 'code', 'identifier', 'sequence', 'target'],
  tcp: ['flags', 'sequence', 'acknowledgment', 'window'],
  udp: [],
  sctp: [],
  vxlan: ['vni'],
  geneve: ['vni'],
  gre: ['protocol'],
};

function text(value: unknown): string {
  if (Array.isArray(value)) return value.map(text).join(',');
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}

/** The first of these fields that a layer has. */
function field(layer: Layer, names: readonly string[]): string | null {
  for (const name of names) if (name in layer.fields) return text(layer.fields[name]);
  return null;
}

const SOURCES = ['source', 'senderIp'];
const DESTINATIONS = ['destination', 'targetIp'];

/**
 * Say what a frame is: `vlan 10 10.0.0.1:5000 > 10.0.0.2:80 tcp flags=SYN, 74 bytes`.
 * @param frame what was captured of it
 * @param lengthBytes its length on the wire
 */
export function summaryOf(frame: Uint8Array, lengthBytes: number): string {
  const layers = describe(frame).filter((layer) => !QUIET.has(layer.protocol));
  const last = layers[layers.length - 1];
  if (last === undefined) return `${lengthBytes} bytes`;
  const tags = layers
    .filter((layer) => layer.protocol === 'vlan')
    .map((layer) => `vlan ${field(layer, ['vlanId']) ?? '?'} `);
  const addressed = layers.findLast((layer) => ADDRESSED.includes(layer.protocol)) ?? last;
  const ports = (side: string) => {
    const port = field(last, [`${side}Port`]);
    return port === null ? '' : `:${port}`;
  };
  const from = `${field(addressed, SOURCES) ?? '?'}${ports('source')}`;
  const to = `${field(addressed, DESTINATIONS) ?? '?'}${ports('destination')}`;
  const details = (TELLING[last.protocol] ?? [])
    .filter((name) => name in last.fields)
    .map((name) => ` ${name}=${text(last.fields[name])}`);
  const broken = layers.find((layer) => layer.error !== undefined);
  const error = broken?.error === undefined ? '' : ` MALFORMED ${broken.protocol}: ${broken.error.reason}`;
  return `${tags.join('')}${from} > ${to} ${last.protocol}${details.join('')}, ${lengthBytes} bytes${error}`;
}
