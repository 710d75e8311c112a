/** Wireshark's tools and tcpdump read the captures that src/net writes, and src/net reads theirs. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  type CapturePacket,
  chunksOf,
  Direction,
  MICROSECONDS,
  openFileSink,
  openFileSource,
  PcapngWriter,
  PcapWriter,
  readCapture,
} from '../src/net/index.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), `millrace-capture-${process.pid}-`));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const arp = Buffer.from('ffffffffffff02000000000108060001080006040001020000000001c0a80001000000000000c0a80002', 'hex');
const udp = Buffer.from(
  '02000000000202000000000108004500002000010000401179a9c0a80001c0a8000212340035000c000041424344',
  'hex',
);

function run(command: string, ...words: string[]): string {
  return execFileSync(command, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function fields(path: string, ...names: string[]): string[][] {
  const options = names.flatMap((name) => ['-e', name]);
  return run('tshark', '-r', path, '-T', 'fields', '-E', 'separator=|', ...options)
    .trimEnd()
    .split('\n')
    .map((line) => line.split('|'));
}

function packetsOf(path: string): CapturePacket[] {
  const source = openFileSource(path);
  const list = [...readCapture(chunksOf(source))].flatMap((one) => (one.kind === 'packet' ? [one.packet] : []));
  source.close();
  return list;
}

/** A capture with three interfaces of different time stamps, comments, flags and counters. */
function writePcapng(path: string, littleEndian: boolean): void {
  const sink = openFileSink(path);
  const writer = new PcapngWriter((chunk) => sink.write(chunk), {
    littleEndian,
    application: 'a test',
    comments: ['of the section'],
  });
  const first = writer.addInterface({
    name: 'eth0',
    description: 'the first port',
    macAddress: new Uint8Array([2, 0, 0, 0, 0, 1]),
    speedBps: 10e9,
    filter: 'arp or udp',
    comments: ['of the interface'],
  });
  const binary = writer.addInterface({ name: 'eth1', resolution: { base: 2, exponent: 20 }, snapLengthBytes: 40 });
  const late = writer.addInterface({ name: 'eth2', resolution: MICROSECONDS, offsetSeconds: 1_700_000_000 });
  const time = { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
  writer.packet(first, { ...time, data: arp, flags: Direction.INBOUND, comments: ['größer'], dropCount: 3 });
  writer.packet(binary, { seconds: 1_700_000_001, nanoseconds: 500_000_000, data: udp });
  writer.packet(late, { seconds: 1_700_000_002, nanoseconds: 250_000_000, data: udp, flags: Direction.OUTBOUND });
  writer.statistics(first, { seconds: 1_700_000_003, nanoseconds: 0, received: 5, dropped: 2 });
  writer.flush();
  sink.close();
}

test.each([true, false])('tshark and capinfos read pcapng, little-endian: %s', (littleEndian) => {
  const path = join(folder, `${littleEndian}.pcapng`);
  writePcapng(path, littleEndian);
  expect(
    fields(
      path,
      'frame.time_epoch',
      'frame.interface_name',
      'frame.cap_len',
      'frame.len',
      'frame.comment',
      'frame.packet_flags_direction',
      'frame.drop_count',
      'udp.dstport',
    ),
  ).toEqual([
    ['1700000000.123456789', 'eth0', '42', '42', 'größer', '0x00000001', '3', ''],
    ['1700000001.500000000', 'eth1', '40', '46', '', '', '', '53'],
    ['1700000002.250000000', 'eth2', '46', '46', '', '0x00000002', '', '53'],
  ]);
  const report = run('capinfos', path);
  for (const line of [
    /Number of packets: +3/,
    /Capture comment: +of the section/,
    /Name = eth0/,
    /Description = the first port/,
    /Filter string = arp or udp/,
    /Speed = 10000000000/,
    /Comment = of the interface/,
    /Number of stat entries = 1/,
    /Time ticks per second = 1048576/,
    /Timestamp offset = 1700000000/,
  ]) {
    expect(report).toMatch(line);
  }
});

test('tcpdump and tshark read pcap in both byte orders and resolutions', () => {
  for (const littleEndian of [true, false]) {
    for (const nanoseconds of [true, false]) {
      const path = join(folder, `${littleEndian}-${nanoseconds}.pcap`);
      const sink = openFileSink(path);
      const writer = new PcapWriter((chunk) => sink.write(chunk), { littleEndian, nanoseconds });
      writer.packet({ seconds: 1_700_000_000, nanoseconds: 123_456_789, data: arp });
      writer.packet({ seconds: 1_700_000_001, nanoseconds: 999_999_999, data: udp });
      writer.flush();
      sink.close();
      expect(fields(path, 'frame.time_epoch', 'frame.len')).toEqual([
        [nanoseconds ? '1700000000.123456789' : '1700000000.123456000', '42'],
        [nanoseconds ? '1700000001.999999999' : '1700000001.999999000', '46'],
      ]);
      const printed = run('tcpdump', '-nn', '-tt', '--time-stamp-precision=nano', '-r', path);
      expect(printed).toContain('ARP, Request who-has 192.168.0.2 tell 192.168.0.1');
      expect(printed).toContain('192.168.0.1.4660 > 192.168.0.2.53');
    }
  }
});

test('what editcap and mergecap make of a capture is read as tshark reads it', () => {
  const path = join(folder, 'source.pcapng');
  writePcapng(path, true);
  const outputs = ['pcap', 'nsecpcap', 'pcapng'].map((format) => {
    const output = join(folder, `edited.${format}`);
    // Classic pcap has no interfaces, and one snap length for all.
    run('editcap', '-F', format, path, output);
    return output;
  });
  const merged = join(folder, 'merged.pcapng');
  run('mergecap', '-a', '-w', merged, path, ...outputs);
  for (const file of [...outputs, merged]) {
    const expected = fields(file, 'frame.time_epoch', 'frame.cap_len', 'frame.len');
    const read = packetsOf(file).map((packet) => [
      `${packet.seconds}.${String(packet.nanoseconds).padStart(9, '0')}`,
      String(packet.data.length),
      String(packet.originalLengthBytes),
    ]);
    expect(read).toEqual(expected);
  }
  expect(packetsOf(merged)).toHaveLength(12);
});
