/** Millrace itself: the daemon as a user would start it, with a learning switch over sa and sb. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../shell.ts';
import type { TwoHosts } from '../two-host.ts';
import type { Peer } from './peer.ts';

const root = join(import.meta.dirname, '../../..');
const millrace = join(root, 'bin/millrace.js');

/** `millrace up --daemon` in the bench's middle namespace. */
export class Millrace implements Peer {
  readonly id = 'millrace';
  readonly title = 'Millrace, learning extension';
  #directory = '';
  /** Process id of the running daemon. */
  daemonPid = 0;

  async start(hosts: TwoHosts): Promise<void> {
    this.#directory = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
    const config = join(this.#directory, 'millrace.yaml');
    writeFileSync(config, 'ports:\n  sa: { kind: netdev }\n  sb: { kind: netdev }\nextensions: [learning]\n');
    this.#millrace(hosts, ['up', '--daemon', '-f', config]);
    this.daemonPid = Number(JSON.parse(this.#millrace(hosts, ['status', '--json'])).pid);
  }

  async stop(hosts: TwoHosts): Promise<void> {
    this.#millrace(hosts, ['down']);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  describe(): string {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    return `millrace ${version} on Node.js ${process.versions.node}`;
  }

  #millrace(hosts: TwoHosts, args: string[]): string {
    const command = [process.execPath, millrace, '--socket', join(this.#directory, 'bench.sock'), ...args];
    return run('ip', ['netns', 'exec', hosts.middle, ...command]);
  }
}
