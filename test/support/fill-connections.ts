/** Connections as packets of them would make them: some of every kind, or many of one packet each. */
import { ConnectionAction, type ConnectionRequest, Tracked, type Tracker } from '../../src/connections/index.ts';
import { echo, end, sctp, tcp, udp } from '../../src/connections/testing/frames.ts';
import { packetOf } from '../../src/connections/testing/lab.ts';
import { HeaderOffsets, Packet, Region, SctpChunkType } from '../../src/net/index.ts';

const headers = new HeaderOffsets();

/** Track one frame. */
export function track(tracker: Tracker, frame: Uint8Array, request: ConnectionRequest = {}): void {
  const packet = packetOf(frame);
  headers.parse(packet);
  tracker.track(packet, headers, new ConnectionAction(request), new Tracked());
}

/** A connection of each kind: established TCP behind source NAT, UDP with mark and label, ICMP, SCTP, IPv6, a helper. They last for some minutes. */
export function fillKinds(tracker: Tracker): void {
  const longMs = 600_000;
  tracker.table.timeOuts.setDefaults({
    tcp: { syn_sent: longMs },
    icmp: { timeout: longMs },
    sctp: { closed: longMs },
  });
  const a = end('10.0.0.1', 4000);
  const b = end('192.0.2.9', 80);
  const outside = end('198.51.100.1', 7);
  const source = { addresses: ['198.51.100.1', '198.51.100.1'], ports: [7, 7] } as const;
  const out = { commit: true, zone: 5, nat: { source } } as const;
  track(tracker, tcp(a, b, 'S', { sequence: 1 }), out);
  track(tracker, tcp(b, outside, 'S.', { sequence: 100, acknowledgment: 2 }), { zone: 5, nat: {} });
  track(tracker, tcp(a, b, '.', { sequence: 2, acknowledgment: 101 }), out);
  const label = { value: [0, 0, 0, 0x1234], mask: [0, 0, 0, -1] };
  track(tracker, udp(end('10.0.0.1', 5000), end('10.0.0.2', 53)), {
    commit: true,
    zone: 6,
    mark: { value: 0x2a, mask: 0xffff_ffff },
    label,
  });
  track(tracker, echo(end('10.0.0.1', 77), end('10.0.0.2')), { commit: true });
  track(tracker, udp(end('fd00::1', 1), end('fd00::2', 53)), { commit: true });
  track(tracker, tcp(end('10.0.0.1', 4001), end('10.0.0.2', 21), 'S'), { commit: true, helper: 'ftp' });
  const init = { kind: 'other' as const, type: SctpChunkType.INIT, flags: 0, value: new Uint8Array(16).fill(9) };
  track(tracker, sctp(end('10.0.0.1', 4002), end('10.0.0.2', 36412), 0, [init]), { commit: true });
}

const ADDRESS = 26;
const PORTS = 34;

/**
 * Connections of one UDP packet each, from 10.x.x.x by number to 172.16.0.1:53.
 * @param zoneOf the zone of each
 */
export function fillMany(tracker: Tracker, count: number, zoneOf: (number: number) => number): void {
  const bytes = new Uint8Array(64);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0]);
  bytes.set([10, 0, 0, 0, 172, 16, 0, 1, 0x10, 0, 0, 53, 0, 30, 0, 0], ADDRESS);
  const packet = new Packet({ recycle: () => {} }, new Region(bytes.buffer), 0);
  packet.length = bytes.length;
  packet.limit = bytes.length;
  const actions = new Map<number, ConnectionAction>();
  const tracked = new Tracked();
  for (let number = 0; number < count; number += 1) {
    const zone = zoneOf(number);
    const action = actions.get(zone) ?? new ConnectionAction({ commit: true, zone });
    actions.set(zone, action);
    bytes.set([10, number >>> 16, number >>> 8, number], ADDRESS);
    bytes[PORTS] = 0x10;
    bytes[PORTS + 1] = number >>> 20;
    headers.parse(packet);
    tracked.state = 0;
    tracker.track(packet, headers, action, tracked, 1);
  }
}
