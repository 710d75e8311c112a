/**
 * Firewalls that are measured side by side: Open vSwitch's userspace datapath and Millrace under ovs-vswitchd with the same rules, and the kernel's own, nftables over Linux routing. Each says how
 * many connections it has, so that new ones can be counted without a look at packets.
 */
import { readFileSync } from 'node:fs';
import { Client } from '../../src/daemon/client.ts';
import { NetworkNamespace } from '../../src/host/index.ts';
import { LinuxRouting } from '../peers/bridge.ts';
import { DaemonUnderTest } from '../peers/daemon.ts';
import type { OffloadHook } from '../peers/millrace.ts';
import { OpenVSwitch } from '../peers/open-vswitch.ts';
import { bridged, type Traffic } from '../peers/peer.ts';
import type { TwoHosts } from '../two-host.ts';
import { ControlSocket } from '../unixctl.ts';
import { firewallRules, TRANSLATED } from './rules.ts';

export interface Firewall {
  /** Short name, as in figures. */
  readonly id: string;
  readonly title: string;
  /** Where packets from A have to go, so that it forwards them and B drops them. */
  readonly traffic: Pick<Traffic, 'destinationMac' | 'destinationAddress'>;
  start(hosts: TwoHosts): Promise<void>;
  /** Forward by rules that track, in place of those that are there. @param translates whether source addresses are translated */
  rule(translates: boolean): void;
  /** Connections that there are. */
  connections(): Promise<number>;
  /** End all. */
  flush(): Promise<void>;
  stop(hosts: TwoHosts): Promise<void>;
}

/** A firewall of OpenFlow rules. */
export interface OpenFlowFirewall extends Firewall {
  /** Its type in Open vSwitch's database. */
  readonly datapathType: 'netdev' | 'system';
  /** Path of ovs-vswitchd's control socket. */
  readonly control: string;
  vsctl(...args: string[]): void;
}

/** Open vSwitch's userspace datapath. */
export class UserspaceFirewall implements OpenFlowFirewall {
  readonly id = 'ovs';
  readonly title = 'OVS userspace';
  readonly datapathType = 'netdev';
  readonly traffic = bridged(1);
  readonly #peer = new OpenVSwitch('plain');
  #control: ControlSocket | null = null;

  async start(hosts: TwoHosts): Promise<void> {
    await this.#peer.start(hosts);
    this.#control = await ControlSocket.connect(this.control);
  }

  rule(translates: boolean): void {
    this.#peer.ofctl('del-flows', 'br0');
    for (const rule of firewallRules(translates)) this.#peer.ofctl('add-flow', 'br0', rule);
  }

  get control(): string {
    return this.#peer.control;
  }

  vsctl(...args: string[]): void {
    this.#peer.vsctl(...args);
  }

  async connections(): Promise<number> {
    return Number(await this.#control?.call('dpctl/ct-get-nconns'));
  }

  async flush(): Promise<void> {
    await this.#control?.call('dpctl/flush-conntrack');
  }

  async stop(): Promise<void> {
    this.#control?.close();
    await this.#peer.stop();
  }
}

/** Millrace under ovs-vswitchd. */
export class MillraceFirewall implements OpenFlowFirewall {
  readonly id: string;
  readonly title: string;
  readonly datapathType = 'system';
  readonly traffic = bridged(1);
  readonly daemon = new DaemonUnderTest();
  readonly #hook: OffloadHook;
  readonly #maximum: number;
  #client: Client | null = null;
  #control: ControlSocket | null = null;

  /** @param maximum connections that there is room for */
  constructor(hook: OffloadHook, maximum: number) {
    this.#hook = hook;
    this.#maximum = maximum;
    this.id = hook === 'off' ? 'millrace' : `millrace-${hook}`;
    this.title = `Millrace, ${hook === 'off' ? 'engine' : `offload ${hook}`}`;
  }

  async start(hosts: TwoHosts): Promise<void> {
    this.daemon.start(hosts, { brain: 'ovs', hook: this.#hook, connections: this.#maximum });
    this.daemon.startOpenVSwitch();
    if (this.#hook !== 'off') this.daemon.requireOffload(this.#hook);
    this.#client = await Client.connect(this.daemon.socket);
    this.#control = await ControlSocket.connect(this.control);
  }

  rule(translates: boolean): void {
    this.daemon.rules(firewallRules(translates));
  }

  get control(): string {
    return this.daemon.control;
  }

  vsctl(...args: string[]): void {
    this.daemon.inside('ovs-vsctl', '--timeout=20', ...args);
  }

  async connections(): Promise<number> {
    return (await this.#client?.call('connections.stats', { zones: 0 }))?.connections ?? 0;
  }

  async flush(): Promise<void> {
    await this.#control?.call('dpctl/flush-conntrack');
  }

  async stop(): Promise<void> {
    this.#client?.close();
    this.#control?.close();
    this.daemon.stop();
  }
}

const COUNT = '/proc/sys/net/netfilter/nf_conntrack_count';

/** nftables, with the kernel's routing. */
export class NftablesFirewall implements Firewall {
  readonly id = 'nftables';
  readonly title = 'nftables, Linux routing';
  readonly #routing = new LinuxRouting();
  readonly traffic: Firewall['traffic'];
  #hosts: TwoHosts | null = null;
  #middle: NetworkNamespace | null = null;

  constructor() {
    [this.traffic] = this.#routing.measures.small;
  }

  async start(hosts: TwoHosts): Promise<void> {
    this.#hosts = hosts;
    await this.#routing.start(hosts);
    this.#middle = NetworkNamespace.byName(hosts.middle);
  }

  rule(translates: boolean): void {
    const { middle } = this.#there;
    const nat = `chain out { type nat hook postrouting priority 100; oifname "sb" snat to ${TRANSLATED.join('-')}; }`;
    const script = `
flush ruleset
table ip firewall {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "sa" ct state new accept
  }
  ${translates ? nat : ''}
}`;
    this.#there.inside(middle, 'nft', [script]);
  }

  async connections(): Promise<number> {
    return Number(this.#middle?.run(() => readFileSync(COUNT, 'utf8')));
  }

  async flush(): Promise<void> {
    this.#there.inside(this.#there.middle, 'conntrack', ['-F']);
  }

  async stop(): Promise<void> {
    this.#middle?.close();
    await this.#routing.stop();
  }

  get #there(): TwoHosts {
    if (this.#hosts === null) throw new Error('the firewall was not started');
    return this.#hosts;
  }
}
