/** The connections of a switch: made late, taken up again, given back; and previews, which leave them as they are. */

import { expect, test } from 'vitest';
import { HeaderOffsets } from '../net/index.ts';
import { ConnectionAction, type ConnectionRequest, Tracked } from './action.ts';
import { type ConnectionStore, Connections, connectionsOf } from './connections.ts';
import { stateText } from './describe.ts';
import { type ConnectionMemory, plainMemory } from './layout.ts';
import { ConnectionPreview } from './preview.ts';
import { LayoutError } from './table.ts';
import { end, tcp, udp } from './testing/frames.ts';
import { packetOf } from './testing/lab.ts';

const [client, server] = [end('10.0.0.1', 1000), end('10.0.0.2', 80)];
const headers = new HeaderOffsets();

/** @returns the state of a packet behind a request, and its bytes */
function send(
  connections: Connections,
  frame: Uint8Array,
  request: ConnectionRequest,
): { state: string; frame: Uint8Array } {
  const packet = packetOf(frame);
  headers.parse(packet);
  const tracked = new Tracked();
  connections.used();
  connections.tracker.track(packet, headers, new ConnectionAction(request), tracked);
  return { state: stateText(tracked.state), frame: packet.frame().slice() };
}

/** Memory that outlives whoever has it. */
class Shelf implements ConnectionStore {
  readonly restMs = 0;
  memory: ConnectionMemory | null = null;
  made = 0;

  left(): ConnectionMemory | null {
    return this.memory;
  }

  make(capacity: number): ConnectionMemory {
    this.made += 1;
    this.memory = plainMemory(capacity);
    return this.memory;
  }

  close(keeps: boolean): void {
    if (!keeps) this.memory = null;
  }
}

test('nothing is made before something is tracked, and a table has the size that was wanted then', () => {
  const store = new Shelf();
  const connections = new Connections({ nowMs: () => 1000, store });
  connections.maximum = 50;
  connections.settle();
  connections.tick();
  expect([connections.table, connections.fragments, store.made]).toEqual([null, null, 0]);
  send(connections, udp(client, server), { commit: true });
  connections.maximum = 60;
  expect([connections.table?.capacity, connections.table?.size, store.made]).toEqual([50, 1, 1]);
});

test('what one leaves the next takes up; what is given back is gone', () => {
  const store = new Shelf();
  const first = new Connections({ nowMs: () => 1000, store, maximum: 50 });
  expect(first.adopt()).toBe(null);
  send(first, udp(client, server), { commit: true, nat: { source: { addresses: ['192.0.2.1', '192.0.2.1'] } } });
  first.close(true);
  expect(() => first.tracker).toThrow('not tracked any more');
  const second = new Connections({ nowMs: () => 2000, store });
  expect(second.adopt()).toEqual({ connections: 1, unsound: 0, repaired: 0 });
  expect(send(second, udp(server, end('192.0.2.1', 1000)), { nat: {} }).state).toBe('est|rpl|trk|dnat');
  second.close(false);
  expect(new Connections({ nowMs: () => 3000, store }).adopt()).toBe(null);
});

test('memory that holds no table is said, and the next table takes its place', () => {
  const store = new Shelf();
  store.memory = plainMemory(10);
  const connections = new Connections({ nowMs: () => 1000, store, maximum: 10 });
  expect(() => connections.adopt()).toThrow(LayoutError);
  expect(send(connections, udp(client, server), { commit: true }).state).toBe('new|trk');
});

test('behind a batch, and with time, what has expired is freed', () => {
  let nowMs = 1000;
  const connections = new Connections({ nowMs: () => nowMs, maximum: 50 });
  send(connections, udp(client, server), { commit: true });
  nowMs += 31_000;
  connections.settle();
  expect(connections.table?.size).toBe(0);
  send(connections, udp(client, server), { commit: true });
  connections.settle();
  nowMs += 31_000;
  // Nothing was tracked since.
  connections.settle();
  expect(connections.table?.size).toBe(1);
  connections.tick();
  expect(connections.table?.size).toBe(0);
});

test('they are found among services by what they are', () => {
  const connections = new Connections({ nowMs: () => 0 });
  expect(connectionsOf({ connections })).toBe(connections);
  expect([connectionsOf(undefined), connectionsOf({ connections: {} })]).toEqual([null, null]);
});

test('a preview says what would be, of connections that are there and new ones, and changes nothing', () => {
  const connections = new Connections({ nowMs: () => 1000, maximum: 50 });
  const nat = { source: { addresses: ['192.0.2.1', '192.0.2.1'], ports: [5000, 5001] } } as const;
  send(connections, udp(client, server), { zone: 3, commit: true, nat, mark: { value: 7, mask: 15 } });
  const { tracker } = connections;
  const records = tracker.table.records.slice();
  const told: string[] = [];
  const preview = new ConnectionPreview(connections, ({ tracked, stateBefore, refusal }) => {
    told.push(`${stateBefore} ${stateText(tracked.state)} ${tracked.mark} ${refusal}`);
  });
  const answer = send(preview, udp(server, end('192.0.2.1', 5000)), { zone: 3, nat: {} });
  expect(answer.frame).toEqual(udp(server, client));
  expect(send(preview, udp(end('10.0.0.1', 1001), server), { zone: 3, commit: true, nat }).state).toBe('new|trk|snat');
  expect(send(preview, udp(client, server), { zone: 4 }).state).toBe('new|trk');
  expect(told).toEqual(['0 est|rpl|trk|dnat 7 0', '0 new|trk|snat 0 0', '0 new|trk 0 0']);
  expect([tracker.table.size, tracker.table.records]).toEqual([1, records]);
  expect(tracker.table.control).toEqual(connections.table?.control);
});

test('a preview of a connection that was announced knows so', () => {
  const connections = new Connections({ nowMs: () => 1000, maximum: 50 });
  const ftp = { commit: true, helper: 'ftp' } as const;
  const [from, to] = [end('10.0.0.1', 1000), end('10.0.0.2', 21)];
  send(connections, tcp(from, to, 'S'), ftp);
  send(connections, tcp(to, from, 'S.', { acknowledgment: 1 }), {});
  send(connections, tcp(from, to, 'P.', { sequence: 1, acknowledgment: 1 }, 'PORT 10,0,0,1,4,1\r\n'), {});
  const preview = new ConnectionPreview(connections, () => {});
  expect(send(preview, tcp(end('10.0.0.2', 20), end('10.0.0.1', 1025), 'S'), {}).state).toBe('new|rel|trk');
  expect(
    send(new ConnectionPreview(new Connections({ nowMs: () => 1 }), () => {}), udp(client, server), {}).state,
  ).toBe('new|trk');
});
