/** Connections as the control socket tells of them: names in the place of numbers and bits. */
import { type ConnectionData, describeRecord, Status } from '../../connections/index.ts';
import { IpProtocol } from '../../net/index.ts';
import type { ConnectionInfo, EndedConnection } from '../api.ts';

const PROTOCOLS = new Map<number, string>([
  [IpProtocol.ICMPV4, 'icmp'],
  [IpProtocol.TCP, 'tcp'],
  [IpProtocol.UDP, 'udp'],
  [IpProtocol.GRE, 'gre'],
  [IpProtocol.ICMPV6, 'icmpv6'],
  [IpProtocol.SCTP, 'sctp'],
]);

const FLAGS: readonly (readonly [name: ConnectionInfo['flags'][number], bit: number])[] = [
  ['expected', Status.EXPECTED],
  ['replied', Status.SEEN_REPLY],
  ['assured', Status.ASSURED],
  ['source-nat', Status.SOURCE_NAT],
  ['destination-nat', Status.DESTINATION_NAT],
];

export function connectionInfo(data: ConnectionData): ConnectionInfo {
  return {
    ...ended(data),
    expiresInSeconds: Math.max(0, Math.floor(data.leftMs / 1000)),
    parent: data.parentId ?? null,
  };
}

/** A connection as it was. @param at where its record, or a copy of it, begins */
export function endedInfo(records: Int32Array, at: number): EndedConnection {
  return ended(describeRecord(records, at));
}

function ended(data: ReturnType<typeof describeRecord>): EndedConnection {
  const { id, zone, version, protocol, original, reply, state, status, mark, label, helper } = data;
  return {
    id,
    zone,
    version,
    protocol: PROTOCOLS.get(protocol) ?? String(protocol),
    state: state ?? null,
    flags: FLAGS.filter(([, bit]) => (status & bit) !== 0).map(([name]) => name),
    original,
    reply,
    mark,
    label,
    helper: helper ?? null,
  };
}
