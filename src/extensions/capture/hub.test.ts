import { expect, test } from 'vitest';
import { Checksum, Gso, TagAction } from '../../net/index.ts';
import { packetOf } from '../../net/match/testing.ts';
import { CaptureHub } from './hub.ts';
import { type CaptureOptions, CaptureOptionsError } from './options.ts';
import { CaptureFlag } from './ring.ts';
import type { CaptureSession } from './session.ts';

const ARP = '02000000000a02000000000b08060001080006040001';
const IPV6 = '02000000000a02000000000b86dd6000000000003b40';

function packet(hex: string) {
  const frame = Uint8Array.from(Buffer.from(hex.padEnd(120, '0'), 'hex'));
  return packetOf(frame);
}

function records(session: CaptureSession): string[] {
  const list: string[] = [];
  session.take(100, (record) => {
    const side = (record.flags & CaptureFlag.OUT) !== 0 ? 'out' : 'in';
    list.push(`${side} ${record.portId} ${record.frame()[12]}`);
  });
  return list;
}

test('sessions are independent: each gets its ports, direction and filter', () => {
  const hub = new CaptureHub();
  expect([hub.wantsIngress, hub.wantsEgress]).toEqual([false, false]);
  const all = hub.open({});
  const ports = hub.open({ portIds: [2, 65_535] });
  const arpIn = hub.open({ direction: 'in', filter: 'arp' });
  const out = hub.open({ direction: 'out' });
  hub.offer(packet(ARP), 0, 1, 0, 0);
  hub.offer(packet(IPV6), 0, 2, 0, 0);
  hub.offer(packet(ARP), 0, 65_535, 0, CaptureFlag.OUT);
  expect(records(all)).toEqual(['in 1 8', 'in 2 134', 'out 65535 8']);
  expect(records(ports)).toEqual(['in 2 134', 'out 65535 8']);
  expect(records(arpIn)).toEqual(['in 1 8']);
  expect(records(out)).toEqual(['out 65535 8']);
  all.close();
  ports.close();
  arpIn.close();
  expect([hub.wantsIngress, hub.wantsEgress]).toEqual([false, true]);
  out.close();
  out.close();
  expect([hub.wantsIngress, hub.wantsEgress]).toEqual([false, false]);
});

test('a closed session records nothing more, and keeps what it has', () => {
  const hub = new CaptureHub();
  const session = hub.open({});
  hub.offer(packet(ARP), 0, 1, 0, 0);
  session.close();
  hub.offer(packet(ARP), 0, 2, 0, 0);
  expect(records(session)).toEqual(['in 1 8']);
});

test('a slow reader loses frames, which are counted, in its session and behind the gap', () => {
  const hub = new CaptureHub();
  const session = hub.open({ ringBytes: 131_072 });
  for (let i = 0; i < 2000; i += 1) hub.offer(packet(ARP), 0, 1, 0, 0);
  expect(session.lostPackets).toBeGreaterThan(0);
  expect(session.capturedPackets + session.lostPackets).toBe(2000);
  session.take(10, () => {});
  hub.offer(packet(ARP), 0, 9, 0, 0);
  const gaps: number[] = [];
  session.take(5000, (record) => {
    if (record.lostBefore > 0) gaps.push(record.portId, record.lostBefore);
  });
  expect(gaps).toEqual([9, session.lostPackets]);
});

test('records carry time, lengths and what the offloads say; a packet without a time gets that of the clock', () => {
  const hub = new CaptureHub(() => 1_700_000_000_123.5);
  const session = hub.open({ snapLengthBytes: 64 });
  const large = packet('00'.repeat(3000));
  large.timestampSeconds = 1_600_000_000;
  large.timestampNanoseconds = 999_999_999;
  large.gsoType = Gso.TCPV4;
  large.checksum = Checksum.PARTIAL;
  hub.offer(large, TagAction.PUSH | 5, 3, 1, CaptureFlag.OUT);
  hub.offer(packet(ARP), 0, 3, 0, 0);
  const seen: unknown[] = [];
  session.take(9, (record) => {
    const { timestampSeconds, timestampNanoseconds, originalBytes, lengthBytes, nicIndex, flags } = record;
    seen.push([timestampSeconds, timestampNanoseconds, originalBytes, lengthBytes, nicIndex, flags]);
  });
  const all = CaptureFlag.OUT | CaptureFlag.CHECKSUM_PARTIAL | CaptureFlag.SUPER_PACKET;
  expect(seen).toEqual([
    [1_600_000_000, 999_999_999, 3004, 64, 1, all],
    [1_700_000_000, 123_500_000, 60, 60, 0, 0],
  ]);
});

test.each([
  [{ filter: 'host nowhere' }, 'character 6: "nowhere" is neither an IPv4 nor an IPv6 address'],
  [{ snapLengthBytes: 10 }, 'snapLengthBytes: '],
  [{ ringBytes: 1e12 }, 'ringBytes: '],
  [{ portIds: [0] }, 'portIds: 0: '],
  [{ portIds: [] }, 'portIds: '],
  [{ snaplen: 64 }, 'Unrecognized key: "snaplen"'],
])('options that cannot be obeyed are refused: %j', (options, sentence) => {
  const hub = new CaptureHub();
  expect(() => hub.open(options as CaptureOptions)).toThrow(CaptureOptionsError);
  expect(() => hub.open(options as CaptureOptions)).toThrow(sentence);
  expect(hub.sessions).toEqual([]);
});

test('the number of sessions is bounded', () => {
  const hub = new CaptureHub();
  for (let i = 0; i < 16; i += 1) hub.open({ ringBytes: 131_072 });
  expect(() => hub.open({})).toThrow('16 captures are running already');
});
