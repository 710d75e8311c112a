/**
 * What other ports have left while one port attacks, under ovs-vswitchd with offload at tc: a mask of its own for each packet, or a flow of its own for each of very many.
 * Each figure is what a port had during the attack, to what it had before.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { NetworkNamespace, openPacketSocket } from '../src/host/index.ts';
import { PacketPool, TagAction } from '../src/net/index.ts';
import type { Pace } from './forward.ts';
import { DaemonUnderTest } from './peers/daemon.ts';
import { NotAvailable } from './peers/peer.ts';
import { progress, run, runAside, sleep } from './shell.ts';
import { median } from './statistics.ts';
import { MAC_BEHIND_B, TwoHosts } from './two-host.ts';

/** The attacks, by what each packet is the first of. */
export const ATTACKS = ['masks', 'flows'] as const;
export type Attack = (typeof ATTACKS)[number];

/** Shares of what there was before. */
export interface Left {
  /** Packets of established flows that arrive. */
  readonly rate: number;
  /** Echo requests that are answered. */
  readonly pings: number;
  /** Hosts with a new address that are answered. */
  readonly newFlows: number;
}

export interface AttackFigures {
  readonly left: Readonly<Partial<Record<Attack, Left>>>;
  readonly notAvailable: Readonly<Record<string, string>>;
}

/** The program, beside the compiled bench. */
const MILLRACE = join(import.meta.dirname, '../../bin/millrace.js');
const MASKS_PPS = 300;
const FLOWS_PPS = 50_000;
/** How long an attack goes on before it is measured what it does. */
const RUN_UP_MS = 12_000;
const PINGS = 20;
const NEW_HOSTS = 6;
/** Of established flows. */
const FLOWS = 16;

/** Under these a packet's megaflow depends on the first bits by which it differs from them. */
const RULES = [
  'priority=1000,arp,actions=normal',
  'priority=900,icmp,actions=normal',
  'priority=30,udp,tp_dst=80,actions=normal',
  'priority=20,udp,nw_src=10.0.0.1,actions=normal',
  'priority=10,udp,tp_src=12345,actions=normal',
  'priority=5,udp,in_port=sa,actions=output:sb',
];

interface Had {
  readonly packets: number;
  readonly pings: number;
  readonly newFlows: number;
}

/** Measure all attacks, each in a lab of its own. */
export async function benchAttacks(pace: Pace): Promise<AttackFigures> {
  const left: Partial<Record<Attack, Left>> = {};
  const notAvailable: Record<string, string> = {};
  for (const attack of ATTACKS) {
    const rounds: Left[] = [];
    try {
      for (let round = 0; round < pace.rounds; round += 1) {
        progress(`round ${round + 1} of ${pace.rounds}: other ports while one makes new ${attack}`);
        rounds.push(await measure(attack, round));
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      notAvailable[`attack ${attack}`] = error instanceof NotAvailable ? text : `failed: ${text}`;
      continue;
    }
    const of = (share: keyof Left) => median(rounds.map((one) => one[share]));
    left[attack] = { rate: of('rate'), pings: of('pings'), newFlows: of('newFlows') };
  }
  return { left, notAvailable };
}

async function measure(attack: Attack, round: number): Promise<Left> {
  const hosts = new TwoHosts(`k${round}`);
  const attacker = `${hosts.middle}-c`;
  const daemon = new DaemonUnderTest();
  try {
    hosts.create();
    run('ip', ['netns', 'add', attacker]);
    run('ip', ['link', 'add', 'sc', 'netns', hosts.middle, 'type', 'veth', 'peer', 'name', 'e0', 'netns', attacker]);
    run('ip', ['-n', attacker, 'link', 'set', 'e0', 'up']);
    run('ip', ['-n', hosts.middle, 'link', 'set', 'sc', 'up']);
    for (const port of ['sa', 'sc']) hosts.inside(hosts.middle, 'ethtool', ['-K', port, 'gro', 'on']);
    daemon.start(hosts, { brain: 'ovs', hook: 'tc' });
    daemon.startOpenVSwitch();
    daemon.inside('ovs-vsctl', '--timeout=20', 'add-port', 'br0', 'sc');
    daemon.requireOffload('tc');
    if (attack === 'masks') {
      daemon.inside('ovs-ofctl', 'del-flows', 'br0');
      for (const rule of RULES) daemon.inside('ovs-ofctl', 'add-flow', 'br0', rule);
    }
    await sleep(1000);
    await had(hosts, 1);
    const before = await had(hosts, 2);
    const stop = new AbortController();
    const ended = attack === 'masks' ? explode(attacker, stop.signal) : flood(attacker, stop.signal);
    try {
      await sleep(RUN_UP_MS);
      const during = await had(hosts, 3);
      return {
        rate: during.packets / before.packets,
        pings: during.pings / before.pings,
        newFlows: during.newFlows / before.newFlows,
      };
    } finally {
      stop.abort();
      await ended;
    }
  } finally {
    daemon.stop();
    hosts.destroy();
    run('ip', ['netns', 'delete', attacker]);
  }
}

/** What host A has of the switch now. @param turn its new addresses are others in each */
async function had(hosts: TwoHosts, turn: number): Promise<Had> {
  const received = hosts.receivedAtB();
  const macs = ['--src-mac', TwoHosts.macA, '--dst-mac', MAC_BEHIND_B];
  await sendFrom(hosts.a, ['--max', '--flows', String(FLOWS), '--duration', '2s', ...macs]);
  const packets = hosts.receivedAtB() - received;
  const pings = await answered(hosts, PINGS, 0.1);
  let newFlows = 0;
  for (let host = 0; host < NEW_HOSTS; host += 1) {
    run('ip', ['-n', hosts.a, 'link', 'set', 'e0', 'address', `02:00:00:00:${turn}${host}:0a`]);
    if ((await answered(hosts, 3, 0.3)) > 0) newFlows += 1;
  }
  run('ip', ['-n', hosts.a, 'link', 'set', 'e0', 'address', TwoHosts.macA]);
  return { packets, pings, newFlows };
}

async function answered(hosts: TwoHosts, count: number, intervalSeconds: number): Promise<number> {
  const ping = ['ping', '-n', '-q', '-c', String(count), '-i', String(intervalSeconds), '-W', '1', TwoHosts.addressB];
  // It ends with an error when nothing was answered.
  const script = `${ping.join(' ')} || true`;
  const text = await runAside('ip', ['netns', 'exec', hosts.a, 'sh', '-c', script]);
  return Number(/(\d+) received/.exec(text)?.[1] ?? 0);
}

/** Send from a namespace, in a process of its own: several send at once from several. */
function sendFrom(namespace: string, options: readonly string[], signal?: AbortSignal): Promise<void> {
  const generator = [process.execPath, MILLRACE, 'generate', '--netdev', 'e0', ...options];
  const child = spawn('ip', ['netns', 'exec', namespace, ...generator], { stdio: ['ignore', 'ignore', 'inherit'] });
  const stop = () => void child.kill('SIGINT');
  signal?.addEventListener('abort', stop);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      signal?.removeEventListener('abort', stop);
      if (code === 0 || signal?.aborted === true) resolve();
      else reject(new Error(`the generator ended with ${code}`));
    });
  });
}

/** Packets with ever new source addresses. */
function flood(namespace: string, signal: AbortSignal): Promise<void> {
  const what = ['--vary', 'mac', '--src-mac', '02:66:00:00:00:00', '--dst-mac', '02:77:00:00:00:01'];
  return sendFrom(namespace, [...what, '--pps', String(FLOWS_PPS), '--flows', '65536'], signal);
}

/** Packets each of which differs from the rules at other bits first. */
async function explode(namespace: string, signal: AbortSignal): Promise<void> {
  const there = NetworkNamespace.byName(namespace);
  const socket = there.run(() => openPacketSocket({ interfaceName: 'e0', receiveSlots: 16 }));
  there.close();
  const pool = new PacketPool({ packets: 16, bufferBytes: 2048 });
  const begunMs = performance.now();
  try {
    for (let sent = 0; !signal.aborted; await sleep(5)) {
      for (const due = ((performance.now() - begunMs) * MASKS_PPS) / 1000; sent < due; sent += 1) {
        const packet = pool.allocate();
        if (packet === null) break;
        const frame = explosive(sent);
        packet.bytes.set(frame, packet.offset);
        packet.length = frame.length;
        socket.transmit(packet, TagAction.KEEP);
        socket.flush();
        packet.release();
      }
    }
  } finally {
    socket.close();
  }
}

/** One of 32 x 16 x 16 frames, in an order in which neighbours have little in common. */
function explosive(number: number): Uint8Array {
  const index = (number * 4787) % (32 * 16 * 16);
  const frame = new Uint8Array(60);
  const view = new DataView(frame.buffer);
  frame.set([2, 0, 0, 0, 0x0b, 2, 2, 0, 0, 0, 0, 3, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
  view.setUint32(26, 0x0a00_0001 ^ (1 << (index & 31)));
  frame.set([10, 9, 0, 2], 30);
  view.setUint16(34, 12_345 ^ (1 << ((index >> 5) & 15)));
  view.setUint16(36, 80 ^ (1 << ((index >> 9) & 15)));
  view.setUint16(38, 26);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(24, ~sum & 0xffff);
  return frame;
}
