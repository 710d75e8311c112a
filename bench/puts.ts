/**
 * How soon a flow is active in the kernel, and how many can be put: a program's puts over the pseudo device of a running daemon, until the
 * daemon's own eBPF program drops a packet of the flow in a test run. So the figures hold everything: the request's way, its
 * checks, the table, and the copy that the kernel reads.
 */
import { Program, SK_BUFF, TC, type TestRunInput, XDP, XDP_MD } from '../src/bpf/index.ts';
import { NetworkNamespace } from '../src/host/index.ts';
import { DaemonUnderTest } from './peers/daemon.ts';
import { portNumbers } from './peers/flows.ts';
import { NotAvailable } from './peers/peer.ts';
import { prepareHostsForXdp } from './peers/redirect.ts';
import { type DropFlow, PseudoDeviceClient } from './pseudo-device.ts';
import { median } from './statistics.ts';
import { interfaceIndex, TwoHosts } from './two-host.ts';

/** What puts cost. */
export interface PutFigures {
  readonly latencyP50Us: number;
  readonly latencyP99Us: number;
  readonly putsPerSecond: number;
}

/** Where the program sits. */
type Hook = 'tc' | 'xdp';

/** Of `struct __sk_buff` and `struct xdp_md`. */
const CONTEXT_BYTES = { tc: 192, xdp: 24 } as const;
const TYPE = { tc: 'sched_cls', xdp: 'xdp' } as const;
const DROPPED = { tc: TC.SHOT, xdp: XDP.DROP } as const;
const FIRST_SOURCE = 0x0a14_0000;
const SINGLE_PUTS = 500;
const MANY_PUTS = 50_000;
/** As many as ovs-vswitchd sends at once. */
const PUTS_A_DATAGRAM = 64;
const ACTIVE_WITHIN_MS = 2_000;

/** The context of a frame that came in by an interface. */
export function contextOf(hook: Hook, lengthBytes: number, ifindex: number): Uint8Array {
  const context = new Uint8Array(CONTEXT_BYTES[hook]);
  const view = new DataView(context.buffer);
  if (hook === 'tc') view.setUint32(SK_BUFF.ifindex, ifindex, true);
  else {
    view.setUint32(XDP_MD.dataEnd, lengthBytes, true);
    view.setUint32(XDP_MD.ingressIfindex, ifindex, true);
  }
  return context;
}

/** The program of port sa, and a frame for it. */
class Probe {
  readonly #program: Program;
  readonly #hook: Hook;
  readonly #frame: Uint8Array;
  readonly #view: DataView;
  readonly #input: TestRunInput;

  constructor(programId: number, hook: Hook, ifindex: number) {
    this.#program = Program.byId(programId, TYPE[hook]);
    this.#hook = hook;
    this.#frame = new Uint8Array(60);
    this.#frame.set([2, 0, 0, 0, 0xb, 0x99, 2, 0, 0, 0, 0xa, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
    this.#view = new DataView(this.#frame.buffer);
    this.#input = { data: this.#frame, context: contextOf(hook, this.#frame.length, ifindex) };
  }

  isActive(source: number): boolean {
    this.#view.setUint32(26, source);
    return this.#program.run(this.#input).result === DROPPED[this.#hook];
  }

  /** @throws NotAvailable when it is not in time */
  wait(source: number): void {
    const deadline = performance.now() + ACTIVE_WITHIN_MS;
    while (!this.isActive(source)) {
      if (performance.now() > deadline)
        throw new NotAvailable(`a flow is not in the kernel after ${ACTIVE_WITHIN_MS} ms`);
    }
  }

  close(): void {
    this.#program.close();
  }
}

/** Measure in a daemon of its own. @throws NotAvailable */
export function measurePuts(hook: Hook, round: number): PutFigures {
  const hosts = new TwoHosts(`p${round}`);
  const daemon = new DaemonUnderTest();
  const home = NetworkNamespace.current();
  try {
    hosts.create();
    if (hook === 'xdp') prepareHostsForXdp(hosts);
    daemon.start(hosts, { brain: 'ovs', hook });
    const dpctl = (...args: string[]) => daemon.millrace('ovs', 'exec', '--', 'ovs-dpctl', ...args);
    dpctl('add-dp', 'bench');
    dpctl('add-if', 'bench', 'sa', 'sb');
    const { inPort } = portNumbers(dpctl('show', 'bench'));
    const datapath = interfaceIndex(hosts, hosts.middle, 'bench');
    const ifindex = interfaceIndex(hosts, hosts.middle, 'sa');
    const client = new PseudoDeviceClient(daemon.pseudoDevice);
    const middle = NetworkNamespace.byName(hosts.middle);
    try {
      // The first flow brings its mask and the shape of its actions, and with them another program.
      client.put(datapath, [{ inPort, source: FIRST_SOURCE }]);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
      const programId = daemon.requireOffload(hook).find(({ port }) => port === 'sa')?.program;
      if (programId === undefined || programId === null)
        throw new NotAvailable('offload show names no program of port sa');
      middle.enter();
      const probe = new Probe(programId, hook, ifindex);
      try {
        probe.wait(FIRST_SOURCE);
        return { ...latencies(client, probe, datapath, inPort), putsPerSecond: rate(client, probe, datapath, inPort) };
      } finally {
        probe.close();
      }
    } finally {
      home.enter();
      middle.close();
      client.close();
    }
  } finally {
    home.close();
    daemon.stop();
    hosts.destroy();
  }
}

function latencies(client: PseudoDeviceClient, probe: Probe, datapath: number, inPort: number) {
  const timesUs: number[] = [];
  for (let i = 1; i <= SINGLE_PUTS; i += 1) {
    const source = FIRST_SOURCE + i;
    const start = performance.now();
    client.send(datapath, [{ inPort, source }]);
    probe.wait(source);
    timesUs.push((performance.now() - start) * 1000);
    client.wait();
  }
  timesUs.sort((a, b) => a - b);
  return { latencyP50Us: median(timesUs), latencyP99Us: timesUs[Math.floor(timesUs.length * 0.99)] };
}

function rate(client: PseudoDeviceClient, probe: Probe, datapath: number, inPort: number): number {
  const first = FIRST_SOURCE + SINGLE_PUTS + 1;
  const start = performance.now();
  for (let done = 0; done < MANY_PUTS; done += PUTS_A_DATAGRAM) {
    const flows: DropFlow[] = [];
    for (let i = done; i < Math.min(done + PUTS_A_DATAGRAM, MANY_PUTS); i += 1)
      flows.push({ inPort, source: first + i });
    client.put(datapath, flows);
  }
  probe.wait(first + MANY_PUTS - 1);
  return (MANY_PUTS * 1000) / (performance.now() - start);
}
