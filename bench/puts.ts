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
  /** Half of the flows, and all but one in a hundred, are active so long after the program began to send the put. */
  readonly activeP50Us: number;
  readonly activeP99Us: number;
  readonly putsPerSecond: number;
}

/** Where the program sits. */
type Hook = 'tc' | 'xdp';

/** Of `struct __sk_buff` and `struct xdp_md`. */
const CONTEXT_BYTES = { tc: 192, xdp: 24 } as const;
const TYPE = { tc: 'sched_cls', xdp: 'xdp' } as const;
const DROPPED = { tc: TC.SHOT, xdp: XDP.DROP } as const;
const FIRST_SOURCE = 0x0a14_0000;
const FIRST_MANY = 0x0a20_0000;
/** How often one flow is put and looked for. */
const TRIALS = 1000;
/** Put right before each trial. All together must fit the tables of 65,536 entries: when these grow, the program is another. */
const PUTS_BEFORE = 5;
/** Put one by one before, so that what is measured is code that has been compiled. */
const WARM_PUTS = 2_000;
const MANY_PUTS = 50_000;
/** As many as ovs-vswitchd sends at once. */
const PUTS_A_DATAGRAM = 64;
const ACTIVE_WITHIN_MS = 5_000;

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
    // The length of UDP: programs carry no packet whose headers disagree.
    this.#frame.set([0, 26], 38);
    this.#view = new DataView(this.#frame.buffer);
    this.#input = { data: this.#frame, context: contextOf(hook, this.#frame.length, ifindex) };
  }

  isActive(source: number): boolean {
    this.#view.setUint32(26, source);
    return this.#program.run(this.#input).result === DROPPED[this.#hook];
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
      pause(500);
      const putsPerSecond = rate(daemon, client, datapath, inPort);
      const programId = daemon.requireOffload(hook).find(({ port }) => port === 'sa')?.program;
      if (programId === undefined || programId === null)
        throw new NotAvailable('offload show names no program of port sa');
      middle.enter();
      const probe = new Probe(programId, hook, ifindex);
      const times = timesToActive(client, probe, datapath, inPort);
      probe.close();
      return { ...times, putsPerSecond };
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

/** From sending a put to its acknowledgement, of flows that the program then carries. @throws NotAvailable when it does not */
function timesToActive(client: PseudoDeviceClient, probe: Probe, datapath: number, inPort: number) {
  let source = FIRST_SOURCE + 1;
  const put = () => client.put(datapath, [{ inPort, source: source++ }]);
  for (let i = 0; i < WARM_PUTS; i += 1) put();
  const timesUs: number[] = [];
  for (let trial = 0; trial < TRIALS; trial += 1) {
    // Flows come in numbers: neither side has just woken up.
    for (let i = 0; i < PUTS_BEFORE; i += 1) put();
    const start = performance.now();
    put();
    timesUs.push((performance.now() - start) * 1000);
    if (!probe.isActive(source - 1)) throw new NotAvailable('a flow that was put is not in the kernel');
  }
  timesUs.sort((a, b) => a - b);
  return { activeP50Us: median(timesUs), activeP99Us: timesUs[Math.floor(TRIALS * 0.99)] };
}

/** Until the last of many is acknowledged, and in the kernel. @throws NotAvailable when some are not */
function rate(daemon: DaemonUnderTest, client: PseudoDeviceClient, datapath: number, inPort: number): number {
  const inKernel = () => daemon.offload().tables.reduce((sum, table) => sum + table.flowsInKernel, 0);
  const before = inKernel();
  const start = performance.now();
  for (let done = 0; done < MANY_PUTS; done += PUTS_A_DATAGRAM) {
    const flows: DropFlow[] = [];
    for (let i = done; i < Math.min(done + PUTS_A_DATAGRAM, MANY_PUTS); i += 1)
      flows.push({ inPort, source: FIRST_MANY + i });
    client.put(datapath, flows);
  }
  let endMs = performance.now();
  // A put is in the kernel with its acknowledgement, but for those that wait for larger tables.
  while (inKernel() < before + MANY_PUTS) {
    endMs = performance.now();
    if (endMs > start + ACTIVE_WITHIN_MS)
      throw new NotAvailable(`${inKernel()} of ${MANY_PUTS} flows are in the kernel`);
    pause(20);
  }
  return (MANY_PUTS * 1000) / (endMs - start);
}

function pause(timeMs: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, timeMs);
}
