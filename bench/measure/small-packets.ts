/**
 * Small packets through the switch: 60-byte UDP frames made inside A's kernel by Millrace's own generator, counted where B's
 * interface receives them. Offered is what reached the switch's side of A's cable. The frames are for a MAC address behind B's
 * interface, not its own: B's stack drops them at once, and the processors are left to what is measured.
 */
import { join } from 'node:path';
import { run, runAside, sleep } from '../shell.ts';
import { busySeconds, TwoHosts } from '../two-host.ts';

const millrace = join(import.meta.dirname, '../../../bin/millrace.js');

const MAC_BEHIND_B = '02:00:00:00:0b:99';

/** Result of one run at one offered rate. */
export interface SmallPackets {
  offeredPps: number;
  deliveredPps: number;
  /** Busy time of the whole machine, generator and receiving host included, for each delivered packet. */
  machineUsPerPacket: number;
}

/**
 * @param ratePps frames a second to offer, or 'max'
 * @param flows how many UDP flows they are spread over
 */
export async function measureSmallPackets(
  hosts: TwoHosts,
  options: { ratePps: number | 'max'; durationSeconds: number; flows: number },
): Promise<SmallPackets> {
  // A veth takes frames that are generated inside the kernel only while its peer polls, which GRO makes it do. It is off by
  // default, and stays off for all else: a userspace switch without super-packets could not take what GRO merges.
  for (const port of ['sa', 'sb']) hosts.inside(hosts.middle, 'ethtool', ['-K', port, 'gro', 'on']);
  const generate = (host: string, args: string[]) => [
    ...[
      'netns',
      'exec',
      host,
      process.execPath,
      millrace,
      'generate',
      '--netdev',
      'e0',
      '--size',
      '60',
      '--json',
      ...args,
    ],
  ];
  // Whoever learns addresses learns where the frames' destination is.
  run('ip', generate(hosts.b, ['--count', '10', '--src-mac', MAC_BEHIND_B, '--dst-mac', TwoHosts.macA]));
  const rate = options.ratePps === 'max' ? ['--max'] : ['--pps', String(options.ratePps)];
  const generator = runAside(
    'ip',
    generate(hosts.a, [
      ...[...rate, '--flows', String(options.flows), '--duration', `${options.durationSeconds + 2}s`],
      ...['--src-mac', TwoHosts.macA, '--dst-mac', MAC_BEHIND_B],
      ...['--src-ip', TwoHosts.addressA, '--dst-ip', TwoHosts.addressB],
    ]),
  );
  try {
    await sleep(1_200);
    const start = process.hrtime.bigint();
    const busyStart = busySeconds();
    const offeredStart = hosts.offeredByA();
    const deliveredStart = hosts.receivedAtB();
    await sleep(options.durationSeconds * 1_000);
    const delivered = hosts.receivedAtB() - deliveredStart;
    const offered = hosts.offeredByA() - offeredStart;
    const busy = busySeconds() - busyStart;
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    return {
      offeredPps: offered / seconds,
      deliveredPps: delivered / seconds,
      machineUsPerPacket: delivered === 0 ? Number.POSITIVE_INFINITY : (busy * 1e6) / delivered,
    };
  } finally {
    await generator;
    for (const port of ['sa', 'sb']) hosts.inside(hosts.middle, 'ethtool', ['-K', port, 'gro', 'off']);
  }
}
