/**
 * The two-host bench: host A and host B, each a network namespace with one veth, and a third namespace that holds the
 * other ends, sa and sb, and whatever is measured between them.
 *
 *    A: e0 10.9.0.1 ---- sa [ switch namespace ] sb ---- e0 10.9.0.2 :B
 */
import { readFileSync } from 'node:fs';
import { run } from './shell.ts';

/** A station that is not there: B's interface receives frames for it, and its stack drops them at once. */
export const MAC_BEHIND_B = '02:00:00:00:0b:99';

/** The three namespaces of one bench. */
export class TwoHosts {
  readonly a: string;
  readonly b: string;
  readonly middle: string;
  static readonly addressA = '10.9.0.1';
  static readonly addressB = '10.9.0.2';
  static readonly macA = '02:00:00:00:0a:01';
  static readonly macB = '02:00:00:00:0b:02';

  constructor(tag: string) {
    const id = `mr${process.pid.toString(36)}${tag}`;
    this.a = `${id}-a`;
    this.b = `${id}-b`;
    this.middle = `${id}-s`;
  }

  /** Build the namespaces and cables, all with the kernel's default settings. */
  create(): void {
    for (const name of [this.a, this.b, this.middle]) run('ip', ['netns', 'add', name]);
    for (const [port, host, mac, address] of [
      ['sa', this.a, TwoHosts.macA, TwoHosts.addressA],
      ['sb', this.b, TwoHosts.macB, TwoHosts.addressB],
    ]) {
      run('ip', ['link', 'add', port, 'netns', this.middle, 'type', 'veth', 'peer', 'name', 'e0', 'netns', host]);
      run('ip', ['-n', host, 'link', 'set', 'e0', 'address', mac]);
      run('ip', ['-n', host, 'address', 'add', `${address}/24`, 'dev', 'e0']);
      run('ip', ['-n', host, 'link', 'set', 'lo', 'up']);
      run('ip', ['-n', host, 'link', 'set', 'e0', 'up']);
      run('ip', ['-n', this.middle, 'link', 'set', port, 'up']);
    }
  }

  /** Remove everything; what is already gone is passed over. */
  destroy(): void {
    for (const name of [this.a, this.b, this.middle]) {
      try {
        run('ip', ['netns', 'delete', name]);
      } catch {
        // Not there: create() failed half-way.
      }
    }
  }

  /** Run a command inside a namespace to its end. */
  inside(namespace: string, command: string, args: string[], timeoutMs = 60_000): string {
    return run('ip', ['netns', 'exec', namespace, command, ...args], { timeoutMs });
  }

  /** Packets that B's interface has received since it was made. */
  receivedAtB(): number {
    return interfaceCounter(this, this.b, 'e0', 'rx');
  }

  /** Packets that the switch side has received from A since the interface was made. */
  offeredByA(): number {
    return interfaceCounter(this, this.middle, 'sa', 'rx');
  }
}

/** The kernel's number of an interface within its namespace. */
export function interfaceIndex(hosts: TwoHosts, namespace: string, name: string): number {
  return JSON.parse(hosts.inside(namespace, 'ip', ['-j', 'link', 'show', 'dev', name]))[0].ifindex;
}

function interfaceCounter(hosts: TwoHosts, namespace: string, name: string, direction: 'rx' | 'tx'): number {
  const [link] = JSON.parse(hosts.inside(namespace, 'ip', ['-s', '-j', 'link', 'show', 'dev', name]));
  return link.stats64[direction].packets;
}

/** Processor time that the whole machine has been busy, in seconds since boot, idle and waiting left out. */
export function busySeconds(): number {
  const fields = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0].split(/\s+/).slice(1).map(Number);
  const [user, nice, system, , , irq, softirq, steal] = fields;
  return (user + nice + system + irq + softirq + (steal ?? 0)) / 100;
}
