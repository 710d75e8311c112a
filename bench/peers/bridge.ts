/** The Linux bridge. */
import { release } from 'node:os';
import { run } from '../shell.ts';
import type { TwoHosts } from '../two-host.ts';
import type { Peer } from './peer.ts';

/** The kernel's own bridge with default settings. */
export class LinuxBridge implements Peer {
  readonly id = 'bridge';
  readonly title = 'Linux bridge';

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
