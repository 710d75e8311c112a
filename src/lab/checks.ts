/** What the lab checks, each a sentence that is true or false, with a figure where there is one. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { LabHosts } from './hosts.ts';
import { taggedPing } from './tagged-ping.ts';

/** A line of /proc/net/tcp6: a socket in the state LISTEN on iperf3's port, 5201. */
const LISTENING = /:1451 [0-9A-F]+:0000 0A /;

/** The outcome of one check. */
export interface CheckResult {
  what: string;
  passed: boolean;
  /** The figure, or why it failed. */
  detail: string;
}

interface Finished {
  code: number;
  output: string;
}

/** Run a command inside a host without blocking; never rejects. */
function inside(hosts: LabHosts, host: string, command: string, args: string[], timeoutMs: number): Promise<Finished> {
  return new Promise((resolve) => {
    const all = ['netns', 'exec', hosts.host(host).namespace, command, ...args];
    execFile('ip', all, { timeout: timeoutMs, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
      resolve({ code, output: `${stdout}${stderr}` });
    });
  });
}

async function ping(hosts: LabHosts, from: string, to: string, what: string): Promise<CheckResult> {
  const { code, output } = await inside(hosts, from, 'ping', ['-n', '-c', '3', '-i', '0.2', '-W', '2', to], 15_000);
  const times = /= [\d.]+\/([\d.]+)\//.exec(output);
  const loss = /(\d+)% packet loss/.exec(output);
  const passed = code === 0 && loss?.[1] === '0';
  return { what, passed, detail: passed ? `${times?.[1] ?? '?'} ms` : `${loss?.[1] ?? '100'} % lost` };
}

async function pingTagged(hosts: LabHosts, what: string): Promise<CheckResult> {
  const { namespace } = hosts.host('h1');
  try {
    const addresses = { source: '10.77.20.1', destination: '10.77.20.3' };
    const timeMs = await taggedPing({ namespace, device: 'eth0', vlanId: 20, ...addresses });
    return { what, passed: true, detail: `${timeMs.toFixed(1)} ms` };
  } catch (error) {
    return { what, passed: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

async function unreachable(hosts: LabHosts, from: string, to: string, what: string): Promise<CheckResult> {
  const { output } = await inside(hosts, from, 'ping', ['-n', '-c', '2', '-i', '0.2', '-W', '1', to], 15_000);
  const passed = output.includes('100% packet loss');
  return { what, passed, detail: passed ? 'no reply, as it should be' : 'it was answered' };
}

/** Bits a second that the receiver counted, or what went wrong. iperf3 may say so in its JSON and still end with 0. */
function iperfReport(output: string): number | string {
  try {
    const report = JSON.parse(output) as { error?: string; end?: { sum_received?: { bits_per_second?: number } } };
    return report.end?.sum_received?.bits_per_second ?? report.error ?? 'iperf3 reported no figure';
  } catch {
    return output.trim() === '' ? 'iperf3 said nothing' : output.trim().slice(0, 200);
  }
}

/** Whether a server listens for TCP connections in its network namespace; `ip netns exec` becomes the program. */
function listens(server: ChildProcess): boolean {
  try {
    return LISTENING.test(readFileSync(`/proc/${server.pid}/net/tcp6`, 'utf8'));
  } catch {
    return false;
  }
}

async function throughput(
  hosts: LabHosts,
  from: string,
  to: string,
  toHost: string,
  what: string,
): Promise<CheckResult> {
  const server: ChildProcess = spawn('ip', ['netns', 'exec', hosts.host(toHost).namespace, 'iperf3', '-s', '-1'], {
    stdio: 'ignore',
  });
  try {
    // It needs a moment until it listens.
    for (let attempt = 0; attempt < 20 && !listens(server); attempt += 1)
      await new Promise((resolve) => setTimeout(resolve, 100));
    const { output } = await inside(hosts, from, 'iperf3', ['-c', to, '-t', '2', '-J'], 20_000);
    const report = iperfReport(output);
    return typeof report === 'number'
      ? { what, passed: report > 0, detail: `${(report / 1e9).toFixed(1)} Gbit/s` }
      : { what, passed: false, detail: report };
  } finally {
    server.kill('SIGTERM');
  }
}

/**
 * Run all checks in order.
 * @param announce called with each result as soon as it is there
 */
export async function runChecks(hosts: LabHosts, announce: (result: CheckResult) => void): Promise<CheckResult[]> {
  const steps: (() => Promise<CheckResult>)[] = [
    () => ping(hosts, 'h1', '10.77.10.2', 'IPv4: h1 pings h2'),
    () => ping(hosts, 'h1', 'fd77:10::2', 'IPv6: h1 pings h2'),
    () => pingTagged(hosts, 'VLAN 20: h1, tagged, pings h3, untagged'),
    () => unreachable(hosts, 'h2', '10.77.10.3', 'VLANs apart: h2 in VLAN 10 does not reach h3 in VLAN 20'),
    () => throughput(hosts, 'h1', '10.77.10.2', 'h2', 'TCP: h1 to h2'),
    () => throughput(hosts, 'h2', '10.77.10.1', 'h1', 'TCP: h2 to h1'),
  ];
  const results: CheckResult[] = [];
  for (const step of steps) {
    const result = await step();
    results.push(result);
    announce(result);
  }
  return results;
}
