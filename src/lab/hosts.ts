/**
 * The lab's hosts: network namespaces, each with one veth whose other end lies in the namespace of the switch.
 *
 *   h1 eth0   10.77.10.1, fd77:10::1   VLAN 10, untagged   --- trunk: native 10, also 20 --- \
 *                                                                                         \
 *   h2 eth0   10.77.10.2, fd77:10::2   VLAN 10             --- access 10 ------------------- switch
 *                                                                                         /
 *   h3 eth0   10.77.20.3, 10.77.10.3   VLAN 20             --- access 20 ----------------- /
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** One host of the lab. */
export interface LabHost {
  /** Short name, also that of its port on the switch. */
  readonly name: string;
  /** Its network namespace. */
  readonly namespace: string;
}

/** Run a command to its end; throws with its standard error. */
export function run(command: string, args: string[], timeoutMs = 30_000): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs });
  } catch (error) {
    const detail = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    throw new Error(`${command} ${args.join(' ')} failed${detail === '' ? '' : `: ${detail}`}`);
  }
}

/** How the temporary folder of the lab with this tag begins. */
export function labDirectoryPrefix(tag: string): string {
  return `millrace-lab-${tag}-`;
}

/** Whether a process lives; one that has ended and that nobody has waited for does not. */
function isRunning(pid: string): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat[stat.lastIndexOf(')') + 2] !== 'Z';
  } catch {
    return false;
  }
}

/** What labs that were killed left behind: their namespaces, and the switches that still run in them. @returns the names */
export function removeStaleLabs(): string[] {
  const removed: string[] = [];
  for (const line of run('ip', ['netns', 'list']).split('\n')) {
    const name = line.split(' ', 1)[0];
    const owner = /^lab(\d+)-(?:switch|h\d)$/.exec(name);
    if (owner === null || isRunning(owner[1])) continue;
    for (const pid of run('ip', ['netns', 'pids', name]).split('\n').filter(Boolean).map(Number)) {
      try {
        process.kill(pid, 'SIGTERM');
      } catch {
        // It has just ended.
      }
    }
    run('ip', ['netns', 'delete', name]);
    for (const entry of readdirSync(tmpdir())) {
      if (entry.startsWith(labDirectoryPrefix(owner[1])))
        rmSync(join(tmpdir(), entry), { recursive: true, force: true });
    }
    removed.push(name);
  }
  return removed;
}

/** The namespaces of one lab; several labs can run at once. */
export class LabHosts {
  readonly switchNamespace: string;
  readonly hosts: readonly LabHost[];

  /** @param tag makes the names of this lab its own */
  constructor(tag: string) {
    this.switchNamespace = `lab${tag}-switch`;
    this.hosts = ['h1', 'h2', 'h3'].map((name) => ({ name, namespace: `lab${tag}-${name}` }));
  }

  /** A host by its short name. */
  host(name: string): LabHost {
    const host = this.hosts.find((candidate) => candidate.name === name);
    if (host === undefined) throw new Error(`the lab has no host ${name}`);
    return host;
  }

  /** Make the namespaces, cables and addresses. */
  create(): void {
    run('ip', ['netns', 'add', this.switchNamespace]);
    run('ip', ['-n', this.switchNamespace, 'link', 'set', 'lo', 'up']);
    for (const { name, namespace } of this.hosts) {
      run('ip', ['netns', 'add', namespace]);
      run('ip', [
        ...['link', 'add', name, 'netns', this.switchNamespace, 'type', 'veth'],
        ...['peer', 'name', 'eth0', 'netns', namespace],
      ]);
      for (const link of ['lo', 'eth0']) run('ip', ['-n', namespace, 'link', 'set', link, 'up']);
    }
    this.#address('h1', 'eth0', '10.77.10.1/24', 'fd77:10::1/64');
    this.#address('h2', 'eth0', '10.77.10.2/24', 'fd77:10::2/64');
    // An address in VLAN 10's subnet as well: only the VLAN keeps h2 from it.
    this.#address('h3', 'eth0', '10.77.20.3/24', '10.77.10.3/24');
  }

  /** Remove the namespaces, and with them all cables. Passes over what is not there. */
  destroy(): void {
    for (const namespace of [...this.hosts.map((host) => host.namespace), this.switchNamespace]) {
      try {
        run('ip', ['netns', 'delete', namespace]);
      } catch {
        // create() did not get that far.
      }
    }
  }

  #address(host: string, device: string, ...addresses: string[]): void {
    for (const address of addresses) {
      // Duplicate address detection would only make the first second of an IPv6 address useless here.
      const flags = address.includes('::') ? ['nodad'] : [];
      run('ip', ['-n', this.host(host).namespace, 'address', 'add', address, 'dev', device, ...flags]);
    }
  }
}

/** The switch's configuration for the lab, as millrace.yaml. */
export function labConfiguration(): string {
  return [
    'ports:',
    '  h1: { kind: netdev, vlan: { mode: trunk, native: 10, allowed: [10, 20] } }',
    '  h2: { kind: netdev, vlan: { mode: access, id: 10 } }',
    '  h3: { kind: netdev, vlan: { mode: access, id: 20 } }',
    'extensions: [learning]',
    '',
  ].join('\n');
}
