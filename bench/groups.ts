/** What can be measured, by name: groups, and the peers of the side-by-side groups. */
import { LinuxBridge, LinuxRouting } from './peers/bridge.ts';
import { Flows } from './peers/flows.ts';
import { Millrace } from './peers/millrace.ts';
import { OpenVSwitch } from './peers/open-vswitch.ts';
import type { Peer } from './peers/peer.ts';
import { TcRedirect, XdpRedirect } from './peers/redirect.ts';

/** Groups, in the order in which they run, with what they are. */
export const GROUPS = {
  forward: 'every forwarder between the two hosts: TCP, small packets, round trips',
  masks: 'small packets against 1,000 and 100,000 flows under 1 and 8 masks in the kernel, and the bare XDP redirect',
  latency: 'round trips of Linux bridge, bare redirect and offload at tc, side by side in many short turns',
  control:
    "flow set-up through ovs-vswitchd, and 100 ports added and removed, beside OVS's own userspace datapath; ovs-dpctl on 100,000 flows",
  attack: 'what other ports have left while one makes new masks or new flows, under ovs-vswitchd with offload at tc',
  offload:
    'what the generated program costs in memory, beside an empty one; how soon flows are in the kernel, and how many',
  stalls: 'the longest round trip through the engine while programs change, tables grow, ports come and go',
  memory: 'the engine with the learning extension, in memory',
  bpf: 'the eBPF library: generator, mapped reads, batches, loading',
  flow: 'the flow table in memory',
  tables: "the host's tables: look-ups, new paths, and a burst of 20,000 routes",
  decide: 'decisions in memory: how many a second, and how soon flows end with what they rest on',
  connections:
    "connections: new ones a second beside OVS's userspace datapath and nftables, established ones beside traffic without any, a million of them; the table in memory by itself",
  tunnels: 'packets in memory into VXLAN, Geneve and GRE and out of them, over IPv4 and IPv6',
} as const;

/** The name of a group. */
export type Group = keyof typeof GROUPS;

/** All forwarders, each made anew. */
export function allPeers(): Peer[] {
  return [
    new LinuxBridge(),
    new LinuxRouting(),
    new TcRedirect(),
    new XdpRedirect(),
    new OpenVSwitch('plain'),
    new OpenVSwitch('tso'),
    new OpenVSwitch('dpdk'),
    new Millrace('learning', 'off'),
    new Millrace('ovs', 'off'),
    new Millrace('learning', 'tc'),
    new Millrace('ovs', 'tc'),
    new Millrace('learning', 'xdp'),
    new Flows('xdp', 1, 1_000),
    new Flows('xdp', 8, 100_000),
  ];
}

const isOfMasks = (peer: Peer) => peer instanceof Flows || peer instanceof XdpRedirect;

/** What a run measures. */
export class Selection {
  readonly peers: readonly Peer[];
  readonly #names: ReadonlySet<string> | null;

  /**
   * @param names groups and peers; everything when not given
   * @throws RangeError that says which names there are
   */
  constructor(names?: readonly string[]) {
    const peers = allPeers();
    this.#names = names === undefined ? null : new Set(names);
    for (const name of names ?? []) {
      if (name in GROUPS || peers.some((peer) => peer.id === name)) continue;
      throw new RangeError(`there is no group or peer "${name}"; ${namesThereAre(peers)}`);
    }
    this.peers = peers.filter(
      (peer) =>
        this.#has(peer.id) ||
        (this.#has('forward') && !(peer instanceof Flows)) ||
        (this.#has('masks') && isOfMasks(peer)),
    );
  }

  /** Whether a group that is not made of peers is measured. */
  has(group: Exclude<Group, 'forward' | 'masks'>): boolean {
    return this.#has(group);
  }

  #has(name: string): boolean {
    return this.#names === null || this.#names.has(name);
  }
}

function namesThereAre(peers: readonly Peer[]): string {
  return `groups: ${Object.keys(GROUPS).join(', ')}; peers: ${peers.map((peer) => peer.id).join(', ')}`;
}

/** The names, for the command's help. */
export function helpOnNames(): string {
  const line = (name: string, text: string) => `  ${name.padEnd(20)}${text}`;
  return [
    'Groups:',
    ...Object.entries(GROUPS).map(([name, text]) => line(name, text)),
    '',
    'Peers of forward and masks:',
    ...allPeers().map((peer) => line(peer.id, peer.title)),
    '',
    'Examples:',
    '  npm run bench -- --only control --rounds 5',
    '  npm run bench -- --only bridge tc-redirect millrace-tc --seconds 2',
  ].join('\n');
}
