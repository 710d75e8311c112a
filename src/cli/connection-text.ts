/** Connections in words: one a line, or all that is known of one. */
import type { ConnectionChange, ConnectionEnds, ConnectionInfo, EndedConnection } from '../daemon/client.ts';
import { duration } from './format.ts';

const NO_LABEL = /^0+$/;
const PROTOCOL_WIDTH = 6;
const STATE_WIDTH = 11;

function endText(address: string, port: number | undefined): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** `10.0.0.1:4000 > 192.0.2.9:80` */
export function endsText(ends: ConnectionEnds): string {
  const { source, destination, sourcePort, destinationPort, identifier, type, code } = ends;
  const way = `${endText(source, sourcePort)} > ${endText(destination, destinationPort)}`;
  return identifier === undefined ? way : `${way} type ${type} code ${code} id ${identifier}`;
}

/** Whether packets come back by the same ends as they went. */
function isTranslated({ flags }: EndedConnection): boolean {
  return flags.includes('source-nat') || flags.includes('destination-nat');
}

function markText(mark: number): string {
  return `0x${mark.toString(16)}`;
}

function labelText(label: string): string {
  return `0x${label.replace(/^0+(?=.)/, '')}`;
}

/** What stands behind the ends: only what is not as usual. */
function remarks(connection: EndedConnection): string[] {
  const { zone, flags, mark, label, helper, reply } = connection;
  return [
    ...(isTranslated(connection) ? [`back ${endsText(reply)}`] : []),
    ...(zone === 0 ? [] : [`zone ${zone}`]),
    ...(flags.includes('replied') ? [] : ['unreplied']),
    ...(flags.includes('assured') ? ['assured'] : []),
    ...(flags.includes('expected') ? ['expected'] : []),
    ...(mark === 0 ? [] : [`mark ${markText(mark)}`]),
    ...(NO_LABEL.test(label) ? [] : [`label ${labelText(label)}`]),
    ...(helper === null ? [] : [`helper ${helper}`]),
  ];
}

function begin({ protocol, state, original }: EndedConnection): string {
  return `${protocol.padEnd(PROTOCOL_WIDTH)}  ${(state ?? '-').padEnd(STATE_WIDTH)}  ${endsText(original)}`;
}

/** A connection on one line. */
export function connectionLine(connection: ConnectionInfo): string {
  const { id, expiresInSeconds } = connection;
  return [begin(connection), ...remarks(connection), `expires in ${duration(expiresInSeconds)}`, `id ${id}`].join('  ');
}

/** What has happened to a connection, on one line. */
export function changeText({ type, what, connection }: ConnectionChange): string {
  const happened = what.length === 0 ? type : `${type}: ${what.join(', ')}`;
  return [happened.padEnd(24), begin(connection), ...remarks(connection), `id ${connection.id}`].join('  ');
}

/** All that is known of a connection, as headings and texts. */
export function connectionDetails(connection: ConnectionInfo): [string, string][] {
  const { id, zone, version, protocol, state, flags, original, reply, mark, label, helper } = connection;
  return [
    ['id', String(id)],
    ['protocol', `${protocol}, IPv${version}`],
    ...(state === null ? [] : [['state', state] as [string, string]]),
    ['zone', String(zone)],
    ['original', endsText(original)],
    ['reply', endsText(reply)],
    ['flags', flags.length === 0 ? 'none' : flags.join(', ')],
    ['mark', markText(mark)],
    ['label', labelText(label)],
    ...(helper === null ? [] : [['helper', helper] as [string, string]]),
    ...(connection.parent === null ? [] : [['announced by', `connection ${connection.parent}`] as [string, string]]),
    ['expires in', duration(connection.expiresInSeconds)],
  ];
}
