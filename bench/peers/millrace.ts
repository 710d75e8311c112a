/**
 * Millrace itself, the daemon as a user would start it over sa and sb: with the learning extension, or with Open vSwitch in charge,
 * with packets going through the engine or through the kernel. Neighbours: daemon.ts runs `millrace`, flows.ts puts flows by itself.
 */

import type { TwoHosts } from '../two-host.ts';
import { DaemonUnderTest } from './daemon.ts';
import { bridged, type Measures, type Peer } from './peer.ts';
import { prepareHostsForXdp } from './redirect.ts';

/** Where packets are forwarded: `off` is the TypeScript engine. */
export type OffloadHook = 'off' | 'tc' | 'xdp';

const TITLES: Record<'learning' | 'ovs', Record<OffloadHook, string>> = {
  learning: {
    off: 'Millrace, learning extension',
    tc: 'Millrace, learning, offload tc',
    xdp: 'Millrace, learning, offload xdp',
  },
  ovs: {
    off: 'Millrace, ovs-vswitchd NORMAL',
    tc: 'Millrace, ovs-vswitchd NORMAL, offload tc',
    xdp: 'Millrace, ovs-vswitchd NORMAL, offload xdp',
  },
};

const MEASURES: Record<OffloadHook, Measures> = {
  off: { tcpStreams: [1, 4], small: [bridged(16)], steady: true, latency: true },
  tc: { tcpStreams: [1, 4], small: [bridged(1), bridged(16), bridged(1000)], steady: true, latency: true },
  // Super-packets and unfinished checksums are what XDP does not carry.
  xdp: { tcpStreams: [], small: [bridged(1), bridged(16), bridged(1000)], steady: true, latency: true },
};

/** One way of running Millrace. */
export class Millrace implements Peer {
  readonly id: string;
  readonly title: string;
  readonly measures: Measures;
  readonly receiver: 'stack' | 'xdp';
  readonly #brain: 'learning' | 'ovs';
  readonly #hook: OffloadHook;
  readonly #daemon = new DaemonUnderTest();

  constructor(brain: 'learning' | 'ovs', hook: OffloadHook) {
    this.#brain = brain;
    this.#hook = hook;
    this.id = ['millrace', ...(brain === 'ovs' ? ['ovs'] : []), ...(hook === 'off' ? [] : [hook])].join('-');
    this.title = TITLES[brain][hook];
    this.measures = MEASURES[hook];
    this.receiver = hook === 'xdp' ? 'xdp' : 'stack';
  }

  /** Process id of the running daemon. */
  get daemonPid(): number {
    return this.#daemon.pid;
  }

  async start(hosts: TwoHosts): Promise<void> {
    if (this.#hook === 'xdp') prepareHostsForXdp(hosts);
    this.#daemon.start(hosts, { brain: this.#brain, hook: this.#hook });
    if (this.#brain === 'ovs') this.#daemon.startOpenVSwitch();
    if (this.#hook !== 'off') this.#daemon.requireOffload(this.#hook);
  }

  remark(): string {
    return this.#hook === 'off' ? '' : this.#daemon.offloadRemark();
  }

  async stop(): Promise<void> {
    this.#daemon.stop();
  }

  describe(): string {
    return this.#daemon.describe();
  }
}
