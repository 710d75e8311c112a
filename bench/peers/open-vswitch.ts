/**
 * Open vSwitch's userspace datapath (datapath_type=netdev), from Debian's packages, with a database and a run directory of its own:
 * as installed, with userspace-tso-enable, and the build with DPDK over AF_XDP.
 *
 * Without userspace-tso-enable it neither finishes partial checksums nor takes super-packets, so the hosts must hand it plain
 * frames, as its documentation tells users to do: their transmit offloads are switched off, for these peers alone.
 *
 * With DPDK, ports are net_af_xdp devices on sa and sb, polled by one core; memory is ordinary pages, because a machine need not have
 * huge ones. ovs-vswitchd adds --in-memory by itself, which excludes --no-huge, unless --legacy-mem is given.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Background, background, run, until } from '../shell.ts';
import type { TwoHosts } from '../two-host.ts';
import { ALL_MEASURES, bridged, type Measures, NotAvailable, type Peer } from './peer.ts';

/** What Debian's update-alternatives would choose between; the build with DPDK is always run by its own name. */
const DPDK_BUILD = '/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk';
const DPDK_MEMORY = '--legacy-mem --no-huge -m 512 --no-pci --no-telemetry';

const KINDS = {
  plain: { id: 'ovs', title: 'OVS userspace, as installed' },
  tso: { id: 'ovs-tso', title: 'OVS userspace, userspace-tso-enable' },
  dpdk: { id: 'ovs-dpdk', title: 'OVS-DPDK, net_af_xdp, one polling core' },
} as const;

/** ovsdb-server and ovs-vswitchd in the bench's middle namespace. */
export class OpenVSwitch implements Peer {
  readonly id: string;
  readonly title: string;
  readonly measures: Measures;
  readonly receiver = 'stack';
  readonly #kind: keyof typeof KINDS;
  #directory = '';
  #servers: Background[] = [];

  constructor(kind: keyof typeof KINDS) {
    this.#kind = kind;
    this.id = KINDS[kind].id;
    this.title = KINDS[kind].title;
    this.measures =
      kind === 'dpdk' ? { ...ALL_MEASURES, tcpStreams: [1], small: [bridged(16), bridged(1000)] } : ALL_MEASURES;
  }

  async start(hosts: TwoHosts): Promise<void> {
    const daemon = this.#kind === 'dpdk' ? DPDK_BUILD : 'ovs-vswitchd';
    if (this.#kind === 'dpdk' && !existsSync(DPDK_BUILD))
      throw new NotAvailable('openvswitch-switch-dpdk is not installed');
    this.#directory = mkdtempSync(join(tmpdir(), 'millrace-bench-ovs-'));
    const database = join(this.#directory, 'conf.db');
    run('ovsdb-tool', ['create', database, '/usr/share/openvswitch/vswitch.ovsschema']);
    this.#serve(hosts, ['ovsdb-server', database, `--remote=p${this.#socket}`, '--log-file=/dev/null']);
    await until('ovsdb-server answers', 10_000, () => {
      try {
        this.vsctl('--no-wait', 'init');
        return true;
      } catch {
        return false;
      }
    });
    for (const setting of this.#settings()) {
      this.vsctl('--no-wait', 'set', 'Open_vSwitch', '.', `other_config:${setting}`);
    }
    this.#serve(hosts, [daemon, this.#socket, `--unixctl=${this.control}`, '--log-file=/dev/null', '-vconsole:off']);
    this.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev');
    for (const port of ['sa', 'sb']) this.vsctl('add-port', 'br0', ...this.#device(port));
    if (this.#kind !== 'tso') {
      for (const host of [hosts.a, hosts.b]) hosts.inside(host, 'ethtool', ['-K', 'e0', 'tx', 'off']);
    }
  }

  async stop(): Promise<void> {
    for (const server of this.#servers.reverse()) await server.stop();
    this.#servers = [];
    if (this.#directory !== '') rmSync(this.#directory, { recursive: true, force: true });
  }

  describe(): string {
    if (this.#kind === 'dpdk' && !existsSync(DPDK_BUILD)) return 'not installed';
    const [version, dpdk] = run(this.#kind === 'dpdk' ? DPDK_BUILD : 'ovs-vswitchd', ['--version']).split('\n');
    return this.#kind === 'dpdk' ? `${version}, ${dpdk}` : version;
  }

  /** ovs-vsctl on this peer's database. */
  vsctl(...args: string[]): string {
    return run('ovs-vsctl', [`--db=${this.#socket}`, '--timeout=15', ...args], { env: this.#environment });
  }

  /** ovs-ofctl. */
  ofctl(...args: string[]): string {
    return run('ovs-ofctl', args, { env: this.#environment });
  }

  get #socket(): string {
    return `unix:${join(this.#directory, 'db.sock')}`;
  }

  /** Path of ovs-vswitchd's control socket. */
  get control(): string {
    return join(this.#directory, 'vswitchd.ctl');
  }

  get #environment(): NodeJS.ProcessEnv {
    const directory = this.#directory;
    return {
      ...process.env,
      OVS_RUNDIR: directory,
      OVS_LOGDIR: directory,
      OVS_DBDIR: directory,
      // Where DPDK keeps what it would share with other processes of its own.
      RUNTIME_DIRECTORY: directory,
    };
  }

  #settings(): string[] {
    if (this.#kind === 'tso') return ['userspace-tso-enable=true'];
    if (this.#kind === 'plain') return [];
    return ['dpdk-init=true', `dpdk-extra=${DPDK_MEMORY}`, 'dpdk-lcore-mask=0x1', 'pmd-cpu-mask=0x2'];
  }

  #device(port: string): string[] {
    if (this.#kind !== 'dpdk') return [port];
    const device = `options:dpdk-devargs=net_af_xdp_${port},iface=${port}`;
    return [`d${port}`, '--', 'set', 'interface', `d${port}`, 'type=dpdk', device];
  }

  #serve(hosts: TwoHosts, args: string[]): void {
    this.#servers.push(background('ip', ['netns', 'exec', hosts.middle, ...args], { env: this.#environment }));
  }
}
