/**
 * One port of an unmodified ovs-vswitchd attacks: each of its packets asks for another mask, or for another flow. The other ports keep what they
 * carry in the kernel, their pings are answered, and their new flows are set up; and it is said which port it is.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DaemonEvent, OffloadInfo } from '../src/daemon/client.ts';
import { must, run, until } from './daemon-world.ts';
import { FrameHost, mac, OvsLab } from './ovs-lab.ts';
import { hasOpenVSwitch } from './ovs-world.ts';
import { pingArguments, unanswered } from './support/ping.ts';

const MASKS = 32;
const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms));

/** UDP over IPv4 without a checksum of its own. */
function datagram(source: number, sourcePort: number, destinationPort: number): Buffer {
  const frame = Buffer.alloc(60);
  frame.set([...mac(2), ...mac(3), 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
  frame.writeUInt32BE(source, 26);
  frame.set([10, 0, 0, 2], 30);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += frame.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame.writeUInt16BE(~sum & 0xffff, 24);
  frame.writeUInt16BE(sourcePort, 34);
  frame.writeUInt16BE(destinationPort, 36);
  frame.writeUInt16BE(26, 38);
  return frame;
}

/** Each differs from what the rules match first at another bit of the source, of one port or of the other: each makes another mask. */
function explosion(): Buffer[] {
  const frames: Buffer[] = [];
  for (let i = 0; i < 32; i += 1) {
    for (let j = 0; j < 16; j += 2) {
      for (let k = 0; k < 16; k += 2)
        frames.push(datagram((0x0a00_0001 ^ (1 << i)) >>> 0, 12_345 ^ (1 << k), 80 ^ (1 << j)));
    }
  }
  // Without an order in which the first masks are alike.
  return frames
    .map((frame, i) => ({ frame, at: (i * 7919) % frames.length }))
    .sort((a, b) => a.at - b.at)
    .map(({ frame }) => frame);
}

describe.runIf(hasOpenVSwitch())('while one port attacks', () => {
  let lab: OvsLab;
  beforeEach(async () => {
    lab = new OvsLab();
    await lab.start('require', []);
    for (const [i, name] of ['a', 'b', 'c'].entries()) {
      lab.world.host(name, `10.0.0.${i + 1}/24`);
      must('ip', '-n', lab.world.namespace(name), 'link', 'set', 'eth0', 'address', `02:00:00:00:00:0${i + 1}`);
      lab.vsctl('add-port', 'br0', name);
    }
  }, 60_000);
  afterEach(() => lab.close(), 60_000);

  const show = () => lab.world.json<OffloadInfo>('offload', 'show');
  const portOf = (name: string) => {
    const port = show().ports.find((each) => each.port === name);
    if (port === undefined) throw new Error(`port ${name} is not shown`);
    return port;
  };
  const shown = (line: RegExp) => Number(line.exec(lab.appctl('dpctl/show'))?.[1] ?? -1);
  const warnings = (port: string) =>
    lab.world
      .json<DaemonEvent[]>('events')
      .filter(({ type, subject }) => type === 'warning' && subject === port)
      .map(({ message }) => message);

  test('with a mask of its own for each packet, flows of others keep their places in the kernel', async () => {
    lab.rules(
      'priority=1000,arp,actions=normal',
      'priority=900,icmp,actions=normal',
      'priority=30,udp,tp_dst=80,actions=normal',
      'priority=20,udp,nw_src=10.0.0.1,actions=normal',
      'priority=10,udp,tp_src=12345,actions=normal',
      'priority=5,udp,in_port=a,actions=output:b',
    );
    const attacker = new FrameHost(lab.world.namespace('c'));
    await attacker.line();
    const frames = explosion();
    let isOver = false;
    const attack = (async () => {
      for (let at = 0; !isOver; at = (at + 15) % frames.length) {
        await attacker.send(...frames.slice(at, at + 15));
        await pause(40);
      }
    })();
    try {
      await until(
        'there are more masks than the kernel takes',
        () => shown(/masks: .*total:(\d+)/) > MASKS * 8,
        60_000,
      );
      // It comes when the places are taken, and takes places all the same.
      const to = [
        '--src-mac',
        '02:00:00:00:00:01',
        '--dst-mac',
        '02:00:00:00:00:02',
        '--src-ip',
        '10.9.9.9',
        '--dst-ip',
        '10.0.0.2',
      ];
      const generate = ['generate', '--netdev', 'eth0', '--flows', '50', '--vary', 'port', '--batch', '16', ...to];
      const generator = lab.world.startIn('a', [...generate, '--pps', '10k', '--duration', '60s', '--prepare']);
      try {
        await until(
          'its flows are carried by the kernel',
          async () => {
            const before = portOf('a');
            await pause(1000);
            const after = portOf('a');
            const carried = after.carriedPackets - before.carriedPackets;
            return carried > 1000 && carried > (after.puntedPackets - before.puntedPackets) * 9;
          },
          40_000,
        );
        const pings = run('ip', [
          'netns',
          'exec',
          lab.world.namespace('a'),
          'ping',
          ...pingArguments('10.0.0.2', 20, 0.1, 20),
        ]);
        expect(unanswered(pings.stdout, 20)).toEqual([]);
      } finally {
        generator.kill('SIGINT');
      }
      expect(warnings('c').join()).toMatch(/\d+ of them for port c: those that carry most are there/);
    } finally {
      isOver = true;
      await attack;
      await attacker.close();
    }
  }, 180_000);

  test('with a new address in each of very many packets, others have their new flows, and the port is named', async () => {
    const flood = [
      '--flows',
      '65536',
      '--vary',
      'mac',
      '--src-mac',
      '02:66:00:00:00:00',
      '--dst-mac',
      '02:77:00:00:00:01',
    ];
    const generate = ['generate', '--netdev', 'eth0', '--pps', '40k', '--duration', '90s', '--prepare'];
    const generator = lab.world.startIn('c', [...generate, ...flood]);
    try {
      await until('the port has more than its share', () => portOf('c').lost.refused > 1000, 30_000);
      for (let i = 1; i <= 4; i += 1) {
        // A host that nobody has heard of: its address is asked for, and flows are made for both directions.
        must('ip', '-n', lab.world.namespace('a'), 'link', 'set', 'eth0', 'address', `02:00:00:00:0${i}:01`);
        // ping gives up when the other address has not been told for three seconds.
        await until(`host ${i} is answered`, () => lab.world.pings('a', '10.0.0.2', 1), 20_000);
      }
      expect(portOf('a').lost.refused).toBe(0);
      expect(warnings('c').join()).toMatch(/as it has more of them than its share/);
      expect(lab.world.ok('status')).toMatch(/overloaded +c: more new flows than their share/);
    } finally {
      generator.kill('SIGINT');
    }
  }, 180_000);
});
