/**
 * Connection tracking with the unmodified ovs-vswitchd: what OpenFlow rules say of ct is what comes out, with programs in the kernel and without. One lab for each way; frames are made and
 * read here.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type End, echo, end, tcp, udp, unreachable } from '../src/connections/testing/frames.ts';
import { packetOf } from '../src/connections/testing/lab.ts';
import type { OffloadInfo } from '../src/daemon/client.ts';
import {
  Batch,
  describe as describeFrame,
  formatIpv4,
  formatIpv6,
  fragmentPacket,
  HeaderOffsets,
  PacketPool,
} from '../src/net/index.ts';
import { must } from './daemon-world.ts';
import { OvsLab, until } from './ovs-lab.ts';
import { hasOpenVSwitch } from './ovs-world.ts';

const headers = new HeaderOffsets();

/** From where to where a frame goes, after a look whether its checksums are right. */
function ends(frame: Uint8Array): string {
  expect(describeFrame(frame).filter(({ fields }) => fields.checksumState === 'bad')).toEqual([]);
  headers.parseBytes(frame, 0, frame.length);
  const { ipVersion, l3Offset, sourcePort, destinationPort } = headers;
  const [at, length, text] = ipVersion === 6 ? ([8, 16, formatIpv6] as const) : ([12, 4, formatIpv4] as const);
  const source = text(frame, l3Offset + at);
  return `${source}:${sourcePort} > ${text(frame, l3Offset + at + length)}:${destinationPort}`;
}

/** A frame in fragments, as a router with an MTU would make them. */
function pieces(frame: Uint8Array, mtuBytes: number): Uint8Array[] {
  const pool = new PacketPool({ packets: 64, bufferBytes: 2048 });
  const packet = packetOf(frame);
  const out = new Batch();
  headers.parse(packet);
  fragmentPacket(packet, headers, mtuBytes, 77, pool, out);
  return out.packets.slice(0, out.count).map((each) => each.frame().slice());
}

/** A frame in hexadecimal, but for the identification of an IPv6 fragment, which nobody knows any more of a packet that went up to ovs-vswitchd. */
function withoutIdentification(frame: Uint8Array): string {
  const copy = Buffer.from(frame);
  if (copy.readUInt16BE(12) === 0x86dd) copy.fill(0, 58, 62);
  return copy.toString('hex');
}

describe.runIf(hasOpenVSwitch()).each(['off', 'require'] as const)('with offload %s', (offload) => {
  let lab: OvsLab;

  beforeAll(async () => {
    lab = new OvsLab(true);
    await lab.start(offload, ['a', 'b', 'c']);
  }, 60_000);
  afterAll(() => lab.close(), 60_000);

  /** Send frames. @returns what arrives where, from where to where */
  async function say(from: string, frames: readonly Uint8Array[], count: number): Promise<Record<string, string[]>> {
    await lab.host(from).send(...frames);
    const arrived = Object.entries(await lab.arrived(count));
    return Object.fromEntries(arrived.map(([name, all]) => [name, all.map(ends)]));
  }

  const [inside, outside] = [end('10.0.0.1', 1000), end('10.0.0.2', 80)];

  /**
   * Wait until what is said between inside and outside is carried by the kernel, each way.
   * @param out how what inside says arrives at b, with another source
   * @param carried how many packets the kernel has carried that came in by a port
   */
  async function isCarriedBothWays(out: string, carried: (name: string) => number): Promise<void> {
    const answer = udp(outside, end('10.0.0.100', Number(/:(\d+) >/.exec(out)?.[1])));
    for (const [name, frame, to, wanted] of [
      ['b', answer, 'a', '10.0.0.2:80 > 10.0.0.1:1000'],
      ['a', udp(inside, outside), 'b', out],
    ] as const) {
      await until(
        `the kernel carries what comes in at ${name}`,
        async () => {
          const before = carried(name);
          expect((await say(name, Array(5).fill(frame), 5))[to]).toEqual(Array(5).fill(wanted));
          return carried(name) >= before + 5;
        },
        60_000,
      );
    }
  }

  /** A port, as `offload show` has it. */
  const shown = (name: string) =>
    lab.world.json<OffloadInfo>('offload', 'show').ports.find(({ port }) => port === name);

  test('ovs-vswitchd finds all that there is of connection tracking', () => {
    const features = lab.appctl('dpif/show-dp-features', 'br0');
    const ours = features.split('\n').filter((line) => /CT |Conntrack/i.test(line));
    expect(ours.length).toBeGreaterThan(8);
    expect(ours.filter((line) => !line.endsWith('Yes'))).toEqual([]);
    const log = readFileSync(join(lab.world.folder, 'ovs-vswitchd.log'), 'utf8');
    expect(log).not.toMatch(/WARN.*(conntrack|ct_)|kernel module may be out/);
  });

  test('a stateful firewall lets in what answers, and nothing else', async () => {
    lab.rules(
      'priority=10,ip,ct_state=-trk,actions=ct(zone=1,table=1)',
      'table=1,in_port=a,ip,ct_state=+trk+new,actions=ct(commit,zone=1),output:b',
      'table=1,in_port=a,ip,ct_state=+trk+est,actions=output:b',
      'table=1,in_port=b,ip,ct_state=+trk+est,actions=output:a',
      'table=1,priority=0,actions=drop',
    );
    expect(await say('b', [udp(outside, inside)], 0)).toEqual({});
    for (const flags of ['S', 'S.', '.']) {
      const isAnswer = flags === 'S.';
      const frame = isAnswer
        ? tcp(outside, inside, flags, { sequence: 100, acknowledgment: 1 })
        : tcp(inside, outside, flags, flags === 'S' ? {} : { sequence: 1, acknowledgment: 101 });
      const wanted = isAnswer ? { a: ['10.0.0.2:80 > 10.0.0.1:1000'] } : { b: ['10.0.0.1:1000 > 10.0.0.2:80'] };
      expect(await say(isAnswer ? 'b' : 'a', [frame], 1)).toEqual(wanted);
    }
    // Of the same connection many packets, each way.
    const out = Array.from({ length: 20 }, () => tcp(inside, outside, '.', { sequence: 1, acknowledgment: 101 }));
    expect((await say('a', out, 20)).b).toHaveLength(20);
    const back = Array.from({ length: 20 }, () => tcp(outside, inside, '.', { sequence: 101, acknowledgment: 1 }));
    expect((await say('b', back, 20)).a).toHaveLength(20);
    expect(await say('b', [tcp(end('10.0.0.2', 81), inside, 'S')], 0)).toEqual({});
    const flows = lab.world.ok('ovs', 'exec', '--', 'ovs-dpctl', 'dump-flows');
    expect(flows).toMatch(/ct_state\(-new\+est.*\+trk\)|ct_state\(\+est\+trk\)/);
    expect(flows).toContain('ct(commit,zone=1)');
    expect(lab.world.ok('ovs', 'dpctl', 'dump-flows')).toMatch(/ct\(commit,zone=1[,)]/);
  });

  test('marks and labels stay with a connection, and rules ask for them', async () => {
    lab.rules(
      'priority=10,ip,in_port=a,actions=ct(commit,zone=3,exec(set_field:0x5->ct_mark,set_field:0x700000000000000000001->ct_label)),output:b',
      'priority=10,ip,in_port=b,ct_state=-trk,actions=ct(zone=3,table=1)',
      'table=1,ip,ct_mark=0x5,ct_label=0x700000000000000000001,ct_nw_src=10.0.0.1,ct_tp_dst=80,ct_nw_proto=17,ct_state=+rpl,actions=output:a',
      'table=1,priority=0,actions=output:c',
    );
    expect(await say('a', [udp(inside, outside)], 1)).toEqual({ b: ['10.0.0.1:1000 > 10.0.0.2:80'] });
    expect(await say('b', [udp(outside, inside)], 1)).toEqual({ a: ['10.0.0.2:80 > 10.0.0.1:1000'] });
    expect(await say('b', [udp(end('10.0.0.2', 81), inside)], 1)).toEqual({ c: ['10.0.0.2:81 > 10.0.0.1:1000'] });
  });

  const SNAT = [
    'priority=10,ip,in_port=a,actions=ct(commit,zone=4,nat(src=10.0.0.100:5000-5001)),output:b',
    'priority=10,ip,in_port=b,ct_state=-trk,actions=ct(zone=4,nat,table=1)',
    'table=1,ip,ct_state=+trk+inv,actions=output:c',
    'table=1,ip,ct_state=+trk+new,actions=output:c',
    'table=1,ip,ct_state=+trk,actions=output:a',
  ];

  test('sources are translated to a range of ports, back again, and no further than it goes', async () => {
    lab.rules(...SNAT);
    const translated: string[] = [];
    for (const port of [1, 2, 3]) {
      const { b = [] } = await say('a', [udp(end('10.0.0.1', port), outside)], port === 3 ? 0 : 1);
      translated.push(...b);
    }
    expect(translated.sort()).toEqual(['10.0.0.100:5000 > 10.0.0.2:80', '10.0.0.100:5001 > 10.0.0.2:80']);
    const answers = [udp(outside, end('10.0.0.100', 5000)), udp(outside, end('10.0.0.100', 5001))];
    const { a } = await say('b', answers, 2);
    expect(a.sort()).toEqual(['10.0.0.2:80 > 10.0.0.1:1', '10.0.0.2:80 > 10.0.0.1:2']);
    expect(lab.world.ok('drops')).toMatch(/nat.exhausted/i);
  });

  test.runIf(offload === 'require')('what is established is carried by the kernel, translated both ways', async () => {
    lab.rules(...SNAT.map((rule) => rule.replaceAll('zone=4', 'zone=14')));
    const [out] = (await say('a', [udp(inside, outside)], 1)).b;
    await isCarriedBothWays(out, (name) => shown(name)?.carriedPackets ?? 0);
  });

  test.runIf(offload === 'require').each([
    ['tc', 15],
    ['xdp', 17],
  ] as const)(
    'at %s the kernel carries several ct of one list, and a translation before another look-up',
    async (hook, zone) => {
      const ports = ['a', 'b'];
      for (const name of ports) {
        lab.world.completesChecksums(name, hook === 'xdp');
        lab.world.ok('port', 'set', name, `offload=${hook}`);
      }
      await until(`the ports are at ${hook}`, () => ports.every((name) => shown(name)?.hook === hook));
      lab.rules(
        `priority=10,ip,in_port=a,actions=ct(commit,zone=${zone}),ct(commit,zone=${zone + 1},nat(src=10.0.0.100:5000-5001)),output:b`,
        `priority=10,ip,in_port=b,ct_state=-trk,actions=ct(zone=${zone + 1},nat,table=1)`,
        `table=1,ip,ct_state=+trk+est,ct_zone=${zone + 1},actions=ct(zone=${zone},table=2)`,
        'table=2,ip,ct_state=+trk+est,actions=output:a',
      );
      const [out] = (await say('a', [udp(inside, outside)], 1)).b;
      // What XDP passes on it has not carried.
      await isCarriedBothWays(out, (name) => {
        const port = shown(name);
        return port === undefined ? 0 : port.carriedPackets - port.passedPackets;
      });
      for (const name of ports) {
        lab.world.ok('port', 'set', name, 'offload=tc');
        lab.world.completesChecksums(name, false);
      }
    },
  );

  test('errors about translated packets come back as their sender knows them', async () => {
    lab.rules(...SNAT.map((rule) => rule.replaceAll('zone=4', 'zone=5')));
    const [out] = (await say('a', [udp(inside, outside, 'some payload')], 1)).b;
    const port = Number(/:(\d+) >/.exec(out)?.[1]);
    const error = unreachable('10.0.0.2', '10.0.0.100', udp(end('10.0.0.100', port), outside, 'some payload'));
    await lab.host('b').send(error);
    const { a } = await lab.arrived(1);
    expect(ends(a[0])).toBe('10.0.0.2:0 > 10.0.0.1:0');
    // The packet that it quotes is the one that was sent.
    expect([...a[0].subarray(42, 42 + 28)]).toEqual([...udp(inside, outside, 'some payload').subarray(14, 42)]);
  });

  test('destinations are translated, also for pings and over IPv6', async () => {
    lab.rules(
      'priority=10,in_port=a,tcp,actions=ct(commit,zone=6,nat(dst=10.0.0.7:8080)),output:b',
      'priority=10,in_port=a,icmp,actions=ct(commit,zone=6,nat(dst=10.0.0.7)),output:b',
      'priority=10,in_port=a,tcp6,actions=ct(commit,zone=6,nat(dst=[fd00::7]:8080)),output:b',
      'priority=10,in_port=b,ip,ct_state=-trk,actions=ct(zone=6,nat,table=1)',
      'priority=10,in_port=b,ipv6,ct_state=-trk,actions=ct(zone=6,nat,table=1)',
      'table=1,ct_state=+est+rpl+trk+dnat,ip,actions=output:c',
      'table=1,ct_state=+est+rpl+trk+snat,ip,actions=output:a',
      'table=1,ct_state=+est+rpl+trk+snat,ipv6,actions=output:a',
    );
    expect(await say('a', [tcp(inside, outside, 'S')], 1)).toEqual({ b: ['10.0.0.1:1000 > 10.0.0.7:8080'] });
    const synAck = tcp(end('10.0.0.7', 8080), inside, 'S.', { acknowledgment: 1 });
    expect(await say('b', [synAck], 1)).toEqual({ a: ['10.0.0.2:80 > 10.0.0.1:1000'] });
    expect(await say('a', [echo(inside, outside)], 1)).toEqual({ b: ['10.0.0.1:0 > 10.0.0.7:0'] });
    const [from, to] = [end('fd00::1', 9), end('fd00::2', 80)];
    expect(await say('a', [tcp(from, to, 'S')], 1)).toEqual({ b: ['fd00::1:9 > fd00::7:8080'] });
    const back = tcp(end('fd00::7', 8080), from, 'S.', { acknowledgment: 1 });
    expect(await say('b', [back], 1)).toEqual({ a: ['fd00::2:80 > fd00::1:9'] });
  });

  test('the same addresses and ports in two zones are two connections', async () => {
    lab.rules(
      'priority=10,udp,in_port=a,actions=ct(commit,zone=7),output:b',
      'priority=10,udp,in_port=c,actions=ct(zone=8,table=1)',
      'table=1,ct_state=+new+trk,udp,actions=ct(commit,zone=8),output:b',
      'table=1,ct_state=+est+trk,udp,actions=output:a',
      'priority=10,udp,in_port=b,actions=ct(zone=7,table=2)',
      'table=2,ct_state=+est+rpl+trk,udp,actions=ct_clear,ct(zone=8,table=3)',
      'table=3,ct_state=+new+trk,udp,actions=output:c',
      'table=3,ct_state=+est+trk,udp,actions=output:a',
    );
    expect(await say('a', [udp(inside, outside)], 1)).toEqual({ b: ['10.0.0.1:1000 > 10.0.0.2:80'] });
    expect(await say('b', [udp(outside, inside)], 1)).toEqual({ c: ['10.0.0.2:80 > 10.0.0.1:1000'] });
    expect(await say('c', [udp(inside, outside)], 1)).toEqual({ b: ['10.0.0.1:1000 > 10.0.0.2:80'] });
    expect(await say('b', [udp(outside, inside)], 1)).toEqual({ a: ['10.0.0.2:80 > 10.0.0.1:1000'] });
  });

  test.each([
    ['IPv4', inside, outside, 'ip'],
    ['IPv6', end('fd00::1', 5), end('fd00::2', 6), 'ipv6'],
  ] as [string, End, End, string][])(
    'fragments of %s are tracked as a whole, and go on in pieces as large as they came',
    async (_name, from, to, protocol) => {
      lab.rules(
        `priority=10,${protocol},in_port=a,actions=ct(zone=9,table=1)`,
        `table=1,ct_state=+new+trk,${protocol},actions=ct(commit,zone=9),output:b`,
        `table=1,ct_state=+est+trk,${protocol},actions=output:b`,
        'table=1,priority=0,actions=output:c',
      );
      const whole = udp(
        from,
        to,
        Uint8Array.from({ length: 3000 }, (_, i) => i),
      );
      const parts = pieces(whole, 1200);
      for (const order of [parts, parts.toReversed()]) {
        await lab.host('a').send(...order);
        const { b, c } = await lab.arrived(parts.length);
        expect(c).toBe(undefined);
        expect(b.map(withoutIdentification)).toEqual(parts.map(withoutIdentification));
      }
    },
  );

  test('FTP through a translation: what the client announces is what the server gets, and its connection comes in', async () => {
    lab.rules(
      'priority=10,tcp,in_port=a,actions=ct(commit,zone=14,alg=ftp,nat(src=10.0.0.100)),output:b',
      'priority=10,tcp,in_port=b,ct_state=-trk,actions=ct(zone=14,nat,table=1)',
      'table=1,ct_state=+est+trk,tcp,actions=output:a',
      'table=1,ct_state=+new+rel+trk,tcp,actions=ct(commit,zone=14,nat),output:a',
      'table=1,priority=0,actions=output:c',
    );
    const [client, server, seen] = [end('10.0.0.1', 1000), end('10.0.0.2', 21), end('10.0.0.100', 1000)];
    await say('a', [tcp(client, server, 'S', { sequence: 9 })], 1);
    await say('b', [tcp(server, seen, 'S.', { sequence: 99, acknowledgment: 10 })], 1);
    await lab.host('a').send(tcp(client, server, 'P.', { sequence: 10, acknowledgment: 100 }, 'PORT 10,0,0,1,4,1\r\n'));
    const { b } = await lab.arrived(1);
    expect(ends(b[0])).toBe('10.0.0.100:1000 > 10.0.0.2:21');
    expect(b[0].subarray(54).toString('latin1')).toBe('PORT 10,0,0,100,4,1\r\n');
    // Two bytes more have come than the client has sent.
    await lab.host('b').send(tcp(server, seen, '.', { sequence: 100, acknowledgment: 31 }));
    const { a } = await lab.arrived(1);
    expect(a[0].readUInt32BE(42)).toBe(29);
    const data = tcp(end('10.0.0.2', 20), end('10.0.0.100', 1025), 'S');
    expect(await say('b', [data], 1)).toEqual({ a: ['10.0.0.2:20 > 10.0.0.1:1025'] });
    const unasked = tcp(end('10.0.0.2', 20), end('10.0.0.100', 1026), 'S');
    expect(await say('b', [unasked], 1)).toEqual({ c: ['10.0.0.2:20 > 10.0.0.100:1026'] });
  });

  test('what real hosts say to each other comes through: super-packets of TCP, pings in fragments, behind a translation', async () => {
    // Host x answers for the address that it is translated to, so that host y finds it.
    lab.world.host('x', '10.9.0.1/24', '10.9.0.100/24');
    lab.world.host('y', '10.9.0.2/24');
    lab.vsctl('add-port', 'br0', 'x', '--', 'add-port', 'br0', 'y');
    lab.rules(
      'priority=20,arp,actions=NORMAL',
      'priority=10,ip,in_port=x,ip_src=10.9.0.1,actions=ct(commit,zone=15,nat(src=10.9.0.100)),output:y',
      'priority=10,ip,in_port=y,ct_state=-trk,actions=ct(zone=15,nat,table=1)',
      'table=1,ct_state=+est+trk,ip,actions=output:x',
      'table=1,priority=0,actions=drop',
    );
    expect(
      must(
        'ip',
        'netns',
        'exec',
        lab.world.namespace('x'),
        'ping',
        '-c',
        '3',
        '-s',
        '4000',
        '-I',
        '10.9.0.1',
        '-W',
        '5',
        '10.9.0.2',
      ),
    ).toContain('3 received');
    const peer = fileURLToPath(new URL('support/transfer-peer.mjs', import.meta.url));
    const inHost = (host: string, ...args: string[]) => {
      const child = lab.world.spawn('ip', [
        'netns',
        'exec',
        lab.world.namespace(host),
        process.execPath,
        peer,
        ...args,
      ]);
      let printed = '';
      child.stdout?.on('data', (text) => {
        printed += text;
      });
      return () => printed;
    };
    const received = inHost('y', 'receive', '7000');
    await until('the receiver listens', () => received().includes('listening'));
    const sent = inHost('x', 'send', '7000', '10.9.0.2', String(16 << 20));
    const digest = /sha256 \d+ [0-9a-f]{64}/;
    await until('all has arrived', () => digest.test(sent()) && digest.test(received()), 60_000);
    expect(digest.exec(received())?.[0]).toBe(digest.exec(sent())?.[0]);
  });

  test('a trace says what ct does, and does nothing', async () => {
    lab.rules(...SNAT.map((rule) => rule.replaceAll('zone=4', 'zone=12')));
    await say('a', [udp(inside, outside)], 1);
    const frame = Buffer.from(udp(inside, outside)).toString('hex');
    const told = lab.world.ok('trace', 'a', frame);
    expect(told).toMatch(/ct in zone 12: new\|trk\|snat.*translated: 10\.0\.0\.100:500[01] to 10\.0\.0\.2:80/);
    const other = Buffer.from(udp(end('10.0.0.1', 77), outside)).toString('hex');
    expect(lab.world.ok('trace', 'a', other)).toContain('ct in zone 12');
    // Two ports there are, of which one is taken: had the trace taken the other, this one would not pass.
    expect((await say('a', [udp(end('10.0.0.1', 78), outside)], 1)).b).toHaveLength(1);
  });

  test('connections, and limits of zones, outlive a daemon that is killed', async () => {
    const rules = SNAT.map((rule) => rule.replaceAll('zone=4', 'zone=13'));
    lab.appctl('dpctl/ct-set-limits', 'default=1000', 'zone=13,limit=2', 'zone=99,limit=0');
    lab.rules(...rules);
    const [out] = (await say('a', [udp(inside, outside)], 1)).b;
    const port = Number(/:(\d+) >/.exec(out)?.[1]);
    const pid = lab.world.pid();
    must('kill', '-9', String(pid));
    lab.world.ok(
      'ovs',
      'start',
      '-f',
      join(lab.world.folder, 'millrace.yaml'),
      '--pseudo-device',
      join(lab.world.folder, 'nl.sock'),
    );
    await until('the bridge is there again', () => lab.world.ok('ovs', 'dpctl', 'show').includes(': b\n'));
    const limits = lab.appctl('dpctl/ct-get-limits').trim().split('\n');
    expect(limits).toEqual(['default limit=1000', 'zone=13,limit=2,count=1', 'zone=99,limit=0,count=0']);
    // Rules are ovs-vswitchd's, which began anew with the daemon.
    lab.rules(...rules);
    const back = udp(outside, end('10.0.0.100', port));
    await until('answers come back', async () => (await say('b', [back], 1)).a?.[0] === '10.0.0.2:80 > 10.0.0.1:1000');
  });
});
