/**
 * Small packets through the switch: 60-byte UDP frames made inside A's kernel by Millrace's own generator, counted where B's
 * interface receives them. Offered is what reached the switch's side of A's cable. The frames are for a MAC address behind B's
 * interface, not its own: B drops them at once, and the processors are left to what is measured.
 */
import { join } from 'node:path';
import { at, attachXdp, loadProgram, ProgramBuilder, R0, R1, R2, R3, XDP } from '../../src/bpf/index.ts';
import { NetworkNamespace } from '../../src/host/index.ts';
import type { Peer, Traffic } from '../peers/peer.ts';
import { run, runAside, sleep } from '../shell.ts';
import { busySeconds, MAC_BEHIND_B, TwoHosts } from '../two-host.ts';

const millrace = join(import.meta.dirname, '../../../bin/millrace.js');

/** Result of one run at one offered rate. */
export interface SmallPackets {
  offeredPps: number;
  deliveredPps: number;
  /** Busy time of the whole machine, generator and receiving host included, for each delivered packet. */
  machineUsPerPacket: number;
}

/** How a run is made. */
export interface SmallPacketOptions {
  /** Frames a second to offer, or 'max'. */
  ratePps: number | 'max';
  durationSeconds: number;
  traffic: Traffic;
  receiver: Peer['receiver'];
}

/** `millrace generate` in a host's namespace, as arguments of `ip`. */
export function generatorArguments(host: string, args: readonly string[]): string[] {
  const fixed = ['generate', '--netdev', 'e0', '--size', '60', '--json'];
  return ['netns', 'exec', host, process.execPath, millrace, ...fixed, ...args];
}

/** Have a frame of the station behind B cross the switch: whoever learns addresses learns where it is. */
export function showStationBehindB(hosts: TwoHosts): void {
  const args = ['--count', '10', '--src-mac', MAC_BEHIND_B, '--dst-mac', TwoHosts.macA];
  run('ip', generatorArguments(hosts.b, args));
}

/** Offer small packets for a time, and count. */
export async function measureSmallPackets(hosts: TwoHosts, options: SmallPacketOptions): Promise<SmallPackets> {
  const { traffic, durationSeconds } = options;
  // A veth takes frames that are generated inside the kernel only while its peer polls, which GRO makes it do. It is off by
  // default, and stays off for all else: a userspace switch without super-packets could not take what GRO merges.
  for (const port of ['sa', 'sb']) hosts.inside(hosts.middle, 'ethtool', ['-K', port, 'gro', 'on']);
  const drain = options.receiver === 'xdp' ? dropBeforeStack(hosts) : null;
  try {
    showStationBehindB(hosts);
    const rate = options.ratePps === 'max' ? ['--max'] : ['--pps', String(options.ratePps)];
    const generator = runAside(
      'ip',
      generatorArguments(hosts.a, [
        ...[...rate, '--flows', String(traffic.flows), '--vary', traffic.vary, '--duration', `${durationSeconds + 2}s`],
        ...['--src-mac', TwoHosts.macA, '--dst-mac', traffic.destinationMac],
        ...['--src-ip', TwoHosts.addressA, '--dst-ip', traffic.destinationAddress],
      ]),
    );
    // Nobody looks at a failure before the end.
    generator.catch(() => undefined);
    try {
      await sleep(1_200);
      return await count(hosts, durationSeconds);
    } finally {
      await generator;
    }
  } finally {
    drain?.close();
    for (const port of ['sa', 'sb']) hosts.inside(hosts.middle, 'ethtool', ['-K', port, 'gro', 'off']);
  }
}

async function count(hosts: TwoHosts, durationSeconds: number): Promise<SmallPackets> {
  const start = process.hrtime.bigint();
  const busyStart = busySeconds();
  const offeredStart = hosts.offeredByA();
  const deliveredStart = hosts.receivedAtB();
  await sleep(durationSeconds * 1_000);
  const delivered = hosts.receivedAtB() - deliveredStart;
  const offered = hosts.offeredByA() - offeredStart;
  const busy = busySeconds() - busyStart;
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  return {
    offeredPps: offered / seconds,
    deliveredPps: delivered / seconds,
    machineUsPerPacket: delivered === 0 ? Number.POSITIVE_INFINITY : (busy * 1e6) / delivered,
  };
}

/** Drop what is for the station behind B in the driver of B's interface, and let all else pass. */
function dropBeforeStack(hosts: TwoHosts): { close(): void } {
  const b = new ProgramBuilder('behind_b');
  const pass = b.label('pass');
  b.packetOfXdp(R1, R2, R3);
  b.needBytes(R2, R3, 14, R0, pass);
  b.loadNetwork(R0, 'u16', at(R2, 4));
  b.if(R0, '==', Number.parseInt(MAC_BEHIND_B.slice(-5).replace(':', ''), 16), () => b.return(XDP.DROP));
  b.place(pass);
  b.return(XDP.PASS);
  const namespace = NetworkNamespace.byName(hosts.b);
  try {
    return namespace.run(() => {
      const program = loadProgram({ type: 'xdp', code: b });
      try {
        const link = attachXdp({ program, netdev: 'e0', mode: 'driver' });
        return link;
      } finally {
        // The link holds the program.
        program.close();
      }
    });
  } finally {
    namespace.close();
  }
}
