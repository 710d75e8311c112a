/**
 * The yardsticks: programs that do nothing but redirect what comes in on one port to the other, made with src/bpf. What a fast
 * path in the kernel can reach is measured against them.
 */
import { release } from 'node:os';
import { attachTcx, attachXdp, DeviceMap, loadProgram, ProgramBuilder, XDP } from '../../src/bpf/index.ts';
import { NetworkNamespace } from '../../src/host/index.ts';
import { interfaceIndex, type TwoHosts } from '../two-host.ts';
import { bridged, type Measures, type Peer } from './peer.ts';

/** Handles that are closed together. */
class Handles {
  readonly #open: { close(): void }[] = [];

  keep<T extends { close(): void }>(handle: T): T {
    this.#open.push(handle);
    return handle;
  }

  close(): void {
    for (const handle of this.#open.splice(0).reverse()) handle.close();
  }
}

function inside(namespaceName: string, work: () => void): void {
  const namespace = NetworkNamespace.byName(namespaceName);
  try {
    namespace.run(work);
  } finally {
    namespace.close();
  }
}

const DIRECTIONS = [
  ['sa', 'sb'],
  ['sb', 'sa'],
] as const;

/** `bpf_redirect` at TCX ingress: three instructions and an exit. */
export class TcRedirect implements Peer {
  readonly id = 'tc-redirect';
  readonly title = 'bare eBPF redirect, TC';
  readonly receiver = 'stack';
  readonly measures: Measures = {
    tcpStreams: [1, 4],
    small: [bridged(1), bridged(16), bridged(1000)],
    steady: true,
    latency: true,
  };
  readonly #handles = new Handles();

  async start(hosts: TwoHosts): Promise<void> {
    inside(hosts.middle, () => {
      for (const [from, to] of DIRECTIONS) {
        const b = new ProgramBuilder('bare_redirect');
        b.call('redirect', interfaceIndex(hosts, hosts.middle, to), 0);
        b.exit();
        const program = this.#handles.keep(loadProgram({ type: 'sched_cls', code: b }));
        this.#handles.keep(attachTcx({ program, netdev: from, direction: 'ingress' }));
      }
    });
  }

  async stop(): Promise<void> {
    this.#handles.close();
  }

  describe(): string {
    return `Linux ${release()}, TCX`;
  }
}

/**
 * `bpf_redirect_map` in the driver of both ports. A veth takes such frames only when the other end polls, so the hosts have GRO on;
 * and frames that XDP hands on have lost the note that their checksum is unfinished, so the hosts finish checksums themselves.
 */
export class XdpRedirect implements Peer {
  readonly id = 'xdp-redirect';
  readonly title = 'bare eBPF redirect, XDP';
  readonly receiver = 'xdp';
  readonly measures: Measures = {
    tcpStreams: [],
    small: [bridged(1), bridged(16), bridged(1000, 'address'), bridged(65_536, 'address')],
    steady: true,
    latency: true,
  };
  readonly #handles = new Handles();

  async start(hosts: TwoHosts): Promise<void> {
    prepareHostsForXdp(hosts);
    inside(hosts.middle, () => {
      const devices = this.#handles.keep(DeviceMap.create({ name: 'other_port', maxEntries: DIRECTIONS.length }));
      DIRECTIONS.forEach(([from, to], slot) => {
        devices.set(slot, { ifindex: interfaceIndex(hosts, hosts.middle, to) });
        const b = new ProgramBuilder('bare_redirect');
        b.call('redirect_map', devices, slot, XDP.DROP);
        b.exit();
        const program = this.#handles.keep(loadProgram({ type: 'xdp', code: b }));
        this.#handles.keep(attachXdp({ program, netdev: from, mode: 'driver' }));
      });
    });
  }

  async stop(): Promise<void> {
    this.#handles.close();
  }

  describe(): string {
    return `Linux ${release()}, XDP in the driver`;
  }
}

/** What hosts need to be behind a switch that works at XDP. */
export function prepareHostsForXdp(hosts: TwoHosts): void {
  for (const host of [hosts.a, hosts.b]) hosts.inside(host, 'ethtool', ['-K', 'e0', 'gro', 'on', 'tx', 'off']);
}
