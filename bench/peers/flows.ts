/**
 * Millrace's datapath with flows put by `ovs-dpctl`, and nobody else in charge: so many flows under so many masks, every packet of
 * the traffic matched by one of them, all in turn. What a look-up in the kernel costs shows beside the bare redirect.
 */
import { writeFileSync } from 'node:fs';
import { until } from '../shell.ts';
import type { TwoHosts } from '../two-host.ts';
import { DaemonUnderTest } from './daemon.ts';
import type { OffloadHook } from './millrace.ts';
import { bridged, type Measures, NotAvailable, type Peer } from './peer.ts';
import { prepareHostsForXdp } from './redirect.ts';

/** The generator varies 16 bits: further flows are in the tables, and no packet is theirs. */
const MOST_FLOWS_SENT = 65_536;
const SETTLE_MS = 30_000;

/** Megaflows of one datapath. */
export class Flows implements Peer {
  readonly id: string;
  readonly title: string;
  readonly measures: Measures;
  readonly receiver: 'stack' | 'xdp';
  readonly #hook: OffloadHook;
  readonly #masks: number;
  readonly #flows: number;
  readonly #daemon = new DaemonUnderTest();

  constructor(hook: 'tc' | 'xdp', masks: number, flows: number) {
    this.#hook = hook;
    this.#masks = masks;
    this.#flows = flows;
    const title = `${masks} mask${masks === 1 ? '' : 's'}, ${flows.toLocaleString('en')} flows`;
    this.id = `flows-${hook}-${masks}x${flows}`;
    this.title = `Millrace, offload ${hook}, ${title}`;
    this.receiver = hook === 'xdp' ? 'xdp' : 'stack';
    const small = [bridged(Math.min(flows, MOST_FLOWS_SENT), 'address')];
    this.measures = { tcpStreams: [], small, steady: false, latency: false };
  }

  async start(hosts: TwoHosts): Promise<void> {
    if (this.#hook === 'xdp') prepareHostsForXdp(hosts);
    const daemon = this.#daemon;
    daemon.start(hosts, { brain: 'ovs', hook: this.#hook });
    const dpctl = (...args: string[]) => daemon.millrace('ovs', 'exec', '--', 'ovs-dpctl', ...args);
    dpctl('add-dp', 'bench');
    dpctl('add-if', 'bench', 'sa', 'sb');
    const file = daemon.file('flows.txt');
    const { inPort, outPort } = portNumbers(dpctl('show', 'bench'));
    writeFileSync(file, flowList(this.#masks, this.#flows, inPort, outPort));
    dpctl('add-flows', 'bench', file);
    daemon.requireOffload(this.#hook);
    let inKernel = 0;
    await until(`${this.#flows} flows are in the kernel`, SETTLE_MS, () => {
      inKernel = daemon.offload().tables.reduce((sum, table) => sum + table.flowsInKernel, 0);
      return inKernel >= this.#flows;
    }).catch(() => {
      throw new NotAvailable(`${inKernel} of ${this.#flows} flows came into the kernel`);
    });
  }

  remark(): string {
    return this.#daemon.offloadRemark();
  }

  async stop(): Promise<void> {
    this.#daemon.stop();
  }

  describe(): string {
    return this.#daemon.describe();
  }
}

/** The number of a port, as ovs-dpctl prints it. */
export function portNumber(shown: string, name: string): number {
  const match = new RegExp(`port (\\d+): ${name}\\b`).exec(shown);
  if (match === null) throw new Error(`there is no port ${name}: ${shown}`);
  return Number(match[1]);
}

/** Numbers of sa and sb. */
export function portNumbers(shown: string): { inPort: number; outPort: number } {
  return { inPort: portNumber(shown, 'sa'), outPort: portNumber(shown, 'sb') };
}

/**
 * Flows for `ovs-dpctl add-flows`, one a line. The flow's number is the source address, 10.9.0.0 and up; which of the masks it is
 * under follows from the number, so that packets in turn need the masks in turn.
 * @param masks 1 to 8
 */
export function flowList(masks: number, flows: number, inPort: number, outPort: number): string {
  const lines: string[] = [];
  for (let flow = 0; flow < flows; flow += 1) {
    const mask = flow % masks;
    const source = [10, 9 + (flow >>> 16), (flow >>> 8) & 0xff, flow & 0xff].join('.');
    const ethernet = [
      ...((mask & 1) === 0 ? [] : ['src=02:00:00:00:0a:01']),
      ...((mask & 2) === 0 ? [] : ['dst=02:00:00:00:0b:99']),
    ];
    const ports = (mask & 4) === 0 ? '' : 'dst=9';
    const ip = `eth_type(0x0800),ipv4(src=${source},proto=17,frag=no),udp(${ports})`;
    lines.push(`in_port(${inPort}),eth(${ethernet.join(',')}),${ip}, ${outPort}\n`);
  }
  return lines.join('');
}
