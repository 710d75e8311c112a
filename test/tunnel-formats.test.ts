/** What this project writes as tunnels is what tshark reads: an independent reader for all kinds, families, options and checksums. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { TunnelFlag, TunnelOptions } from '../src/flow/index.ts';
import {
  Batch,
  Checksum,
  completeChecksum,
  composeFrame,
  EtherType,
  Gso,
  IpProtocol,
  openFileSink,
  PcapWriter,
  segment,
} from '../src/net/index.ts';
import { TunnelKind, TunnelPort, type TunnelPortSettings } from '../src/tunnels/index.ts';
import {
  encapsulatorOf,
  ethernet,
  hex,
  ipv4,
  type Key,
  packetOf,
  pathOf,
  payloadOf,
  smallPool,
  tcp,
  udpFrame,
  wordsOf,
} from '../src/tunnels/testing.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-tunnels-'));
let files = 0;
afterAll(() => rmSync(folder, { recursive: true }));

/**
 * Fields of each packet, with checksums looked at; where a field comes twice in a packet the outer one is first.
 * @param isStt STT looks like TCP: it has to be asked for
 */
function rows(frames: readonly Uint8Array[], names: readonly string[], isStt = false): string[][] {
  files += 1;
  const path = join(folder, `${files}.pcap`);
  const sink = openFileSink(path);
  const writer = new PcapWriter((chunk) => sink.write(chunk));
  for (const data of frames) writer.packet({ seconds: 1, nanoseconds: 0, data });
  writer.flush();
  sink.close();
  const preferences = ['udp.check_checksum', 'ip.check_checksum', 'tcp.check_checksum'];
  if (isStt) preferences.push('ip.try_heuristic_first', 'stt.reassemble');
  const options = [...preferences.flatMap((each) => ['-o', `${each}:TRUE`]), '-T', 'fields', '-E', 'separator=|'];
  if (isStt) options.push('--enable-heuristic', 'stt_ip');
  const fields = names.flatMap((name) => ['-e', name]);
  return execFileSync('tshark', ['-r', path, ...options, ...fields], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
    .trimEnd()
    .split('\n')
    .map((line) => line.split('|'));
}

const tshark = (frame: Uint8Array, ...names: string[]) => rows([frame], names)[0];

function encapsulated(settings: TunnelPortSettings, key: Key): Uint8Array {
  const packet = packetOf(udpFrame());
  const path = pathOf(key.destination?.includes(':'));
  expect(encapsulatorOf().encapsulate(packet, 0, new TunnelPort(settings), wordsOf(key), 0, path)).toBe(0);
  completeChecksum(packet);
  return packet.frame();
}

const GOOD = '1';

test.each(['10.1.0.2', 'fd00:1::2'])('VXLAN and Geneve to %s', (destination) => {
  const flags = TunnelFlag.KEY | TunnelFlag.CHECKSUM;
  const policy = { kind: TunnelOptions.VXLAN_GBP, options: hex('00480123') };
  const vxlan = encapsulated(
    { kind: TunnelKind.VXLAN, groupPolicy: true },
    { id: 0x123456n, destination, flags, ...policy },
  );
  expect(
    tshark(vxlan, 'vxlan.vni', 'vxlan.gbp', 'vxlan.flag_a', 'udp.dstport', 'udp.checksum.status', 'frame.protocols'),
  ).toEqual([
    String(0x123456),
    String(0x123),
    expect.stringMatching(/^(1|True)$/),
    expect.stringMatching(/^4789,53$/),
    expect.stringMatching(/^1,1$/),
    expect.stringMatching(/:udp:vxlan:eth:ethertype:ip:udp/),
  ]);
  const geneve = encapsulated(
    { kind: TunnelKind.GENEVE },
    { id: 7n, destination, flags, tos: 0xb8, options: hex('0102 80 01 00010002') },
  );
  expect(
    tshark(
      geneve,
      'geneve.vni',
      'geneve.option.class',
      'geneve.option.length',
      'geneve.flags.critical',
      'udp.checksum.status',
      'frame.protocols',
    ),
  ).toEqual([
    expect.stringMatching(/^(0x0*7|7)$/),
    expect.stringMatching(/^0x0*102$/),
    '8,8',
    expect.stringMatching(/^(1|True)$/),
    `${GOOD},${GOOD}`,
    expect.stringMatching(/:udp:geneve:eth:ethertype:ip:udp/),
  ]);
});

test('GRE with checksum, key and sequence number', () => {
  const gre = encapsulated(
    { kind: TunnelKind.GRE, numbered: true },
    { id: 0xdeadbeefn, flags: TunnelFlag.KEY | TunnelFlag.CHECKSUM },
  );
  expect(
    tshark(gre, 'gre.key', 'gre.sequence_number', 'gre.checksum.status', 'gre.proto', 'ip.checksum.status'),
  ).toEqual(['0xdeadbeef', '0', GOOD, '0x6558', `${GOOD},${GOOD}`]);
});

test('STT: a frame in one segment, and a super-packet in many, which tshark puts together', () => {
  const stt = encapsulated({ kind: TunnelKind.STT }, { id: 0x0123_4567_89ab_cdefn });
  const names = ['stt.context_id', 'stt.pkt_len', 'stt.seg_off', 'stt.version', 'stt.dport', 'frame.protocols'];
  expect(rows([stt], names, true)).toEqual([
    ['0x0123456789abcdef', String(stt.length - 54), '0', '0', '7471', expect.stringContaining(':stt:eth:')],
  ]);

  const inside = composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.TCP), tcp()], payloadOf(5000));
  const packet = packetOf(inside);
  Object.assign(packet, { checksum: Checksum.PARTIAL, checksumStart: 34, checksumOffset: 16 });
  Object.assign(packet, { gsoType: Gso.TCPV4, gsoSizeBytes: 1400 });
  const port = new TunnelPort({ kind: TunnelKind.STT });
  expect(encapsulatorOf().encapsulate(packet, 0, port, wordsOf({}), 0, pathOf())).toBe(0);
  const out = new Batch();
  expect(segment(packet, smallPool(), out)).toBe(0);
  const frames = out.packets.slice(0, out.count).map((each) => each.frame().slice());
  const read = rows(frames, ['stt.seg_off', 'stt.segment.count', 'stt.mss', 'stt.l4offset', 'tcp.len'], true);
  expect(read.map(([place]) => place)).toEqual(['0', '1460', '2920', '4380']);
  expect(read[3].slice(1)).toEqual(['4', '1400', '34', '5000']);
  // Its checksums are those of the TCP that it looks like.
  expect(rows([stt, ...frames], ['tcp.checksum.status', 'ip.checksum.status'])).toEqual(
    [stt, ...frames].map(() => [GOOD, GOOD]),
  );
});
