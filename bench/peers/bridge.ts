/** The kernel's own forwarding: its bridge, and its routing. */
import { release } from 'node:os';
import { run } from '../shell.ts';
import { MAC_BEHIND_B, TwoHosts } from '../two-host.ts';
import { ALL_MEASURES, bridged, type Measures, type Peer } from './peer.ts';

/** A Linux bridge with default settings. */
export class LinuxBridge implements Peer {
  readonly id = 'bridge';
  readonly title = 'Linux bridge';
  readonly receiver = 'stack';
  readonly measures: Measures = { ...ALL_MEASURES, small: [bridged(16), bridged(1000)] };

  async start(hosts: TwoHosts): Promise<void> {
    run('ip', ['-n', hosts.middle, 'link', 'add', 'br0', 'type', 'bridge']);
    run('ip', ['-n', hosts.middle, 'link', 'set', 'br0', 'up']);
    for (const port of ['sa', 'sb']) run('ip', ['-n', hosts.middle, 'link', 'set', port, 'master', 'br0']);
  }

  async stop(): Promise<void> {
    // The bridge goes with its namespace.
  }

  describe(): string {
    return `Linux ${release()}`;
  }
}

/** An address that no interface has: the router knows it behind B. */
const BEHIND_B = '10.9.0.99';
const GATEWAY_A = '10.9.0.254';
const GATEWAY_B = '10.9.0.253';
const MAC_OF_SA = '02:00:00:00:0a:fe';

/** Linux routing between sa and sb, by host routes: the hosts keep their addresses. */
export class LinuxRouting implements Peer {
  readonly id = 'routing';
  readonly title = 'Linux routing';
  readonly receiver = 'stack';
  readonly measures: Measures = {
    ...ALL_MEASURES,
    small: [{ flows: 16, vary: 'port', destinationMac: MAC_OF_SA, destinationAddress: BEHIND_B }],
  };

  async start(hosts: TwoHosts): Promise<void> {
    const { a, b, middle } = hosts;
    const ip = (namespace: string, ...args: string[]) => run('ip', ['-n', namespace, ...args]);
    ip(middle, 'link', 'set', 'sa', 'address', MAC_OF_SA);
    for (const [host, gateway, other] of [
      [a, GATEWAY_A, TwoHosts.addressB],
      [b, GATEWAY_B, TwoHosts.addressA],
    ]) {
      ip(host, 'route', 'flush', 'dev', 'e0', 'scope', 'link');
      ip(host, 'route', 'add', `${gateway}/32`, 'dev', 'e0');
      ip(host, 'route', 'add', `${other}/32`, 'via', gateway, 'dev', 'e0');
    }
    ip(middle, 'address', 'add', `${GATEWAY_A}/32`, 'dev', 'sa');
    ip(middle, 'address', 'add', `${GATEWAY_B}/32`, 'dev', 'sb');
    ip(middle, 'route', 'add', `${TwoHosts.addressA}/32`, 'dev', 'sa');
    for (const address of [TwoHosts.addressB, BEHIND_B]) ip(middle, 'route', 'add', `${address}/32`, 'dev', 'sb');
    ip(middle, 'neigh', 'add', BEHIND_B, 'lladdr', MAC_BEHIND_B, 'dev', 'sb', 'nud', 'permanent');
    hosts.inside(middle, 'sysctl', ['-q', '-w', 'net.ipv4.ip_forward=1']);
  }

  async stop(): Promise<void> {
    // Addresses and routes go with their namespaces.
  }

  describe(): string {
    return `Linux ${release()}`;
  }
}
