/**
 * Open vSwitch's userspace datapath (datapath_type=netdev), from Debian's package, with a database and a run directory of its own.
 *
 * Without userspace-tso-enable it neither finishes partial checksums nor takes super-packets, so the hosts must hand it plain
 * frames, as its documentation tells users to do: their transmit offloads are switched off, for this peer alone.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Background, background, run, until } from '../shell.ts';
import type { TwoHosts } from '../two-host.ts';
import type { Peer } from './peer.ts';

/** ovsdb-server and ovs-vswitchd in the bench's middle namespace. */
export class OpenVSwitch implements Peer {
  readonly id: string;
  readonly title: string;
  readonly #segmentationOffload: boolean;
  #directory = '';
  #servers: Background[] = [];

  constructor(options: { userspaceTso: boolean }) {
    this.#segmentationOffload = options.userspaceTso;
    this.id = options.userspaceTso ? 'ovs-tso' : 'ovs';
    this.title = options.userspaceTso ? 'OVS userspace, userspace-tso-enable' : 'OVS userspace, as installed';
  }

  async start(hosts: TwoHosts): Promise<void> {
    this.#directory = mkdtempSync(join(tmpdir(), 'millrace-bench-ovs-'));
    const database = join(this.#directory, 'conf.db');
    const socket = `unix:${join(this.#directory, 'db.sock')}`;
    const env = {
      ...process.env,
      OVS_RUNDIR: this.#directory,
      OVS_LOGDIR: this.#directory,
      OVS_DBDIR: this.#directory,
    };
    run('ovsdb-tool', ['create', database, '/usr/share/openvswitch/vswitch.ovsschema']);
    const remote = `--remote=p${socket}`;
    const serve = (args: string[]) =>
      this.#servers.push(background('ip', ['netns', 'exec', hosts.middle, ...args], { env }));
    serve(['ovsdb-server', database, remote, '--log-file=/dev/null']);
    const vsctl = (...args: string[]) => run('ovs-vsctl', [`--db=${socket}`, '--timeout=15', ...args], { env });
    await until('ovsdb-server answers', 10_000, () => {
      try {
        vsctl('--no-wait', 'init');
        return true;
      } catch {
        return false;
      }
    });
    if (this.#segmentationOffload) {
      vsctl('--no-wait', 'set', 'Open_vSwitch', '.', 'other_config:userspace-tso-enable=true');
    }
    serve(['ovs-vswitchd', socket, '--log-file=/dev/null']);
    vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev');
    vsctl('add-port', 'br0', 'sa', '--', 'add-port', 'br0', 'sb');
    if (!this.#segmentationOffload) {
      for (const host of [hosts.a, hosts.b]) hosts.inside(host, 'ethtool', ['-K', 'e0', 'tx', 'off']);
    }
  }

  async stop(): Promise<void> {
    for (const server of this.#servers.reverse()) await server.stop();
    this.#servers = [];
    if (this.#directory !== '') rmSync(this.#directory, { recursive: true, force: true });
  }

  describe(): string {
    return run('ovs-vswitchd', ['--version']).split('\n', 1)[0];
  }
}
