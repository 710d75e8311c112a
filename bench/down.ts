/**
 * What it costs the engine to hand a packet down beside going on itself, by the number of look-ups that follow: CPU time of this process, the way out by a pair of devices included. The policy
 * of offload/down rests on it. Run by itself, compiled, as root and in a network namespace of its own: `unshare -n node dist-bench/bench/down.js`.
 */
import { readFileSync } from 'node:fs';
import { Datapath, type FlowKey, PutMode, parseActions, parseFlowKey, writeResumeRecord } from '../src/flow/index.ts';
import { DownDevice, openPacketSocket, withRouteClient } from '../src/host/index.ts';
import {
  Batch,
  Checksum,
  ClonePool,
  ETHERNET_BYTES,
  Gso,
  IpProtocol,
  type Packet,
  PacketPool,
  TagAction,
  toInterfaceIndex,
  toKeyPort,
} from '../src/net/index.ts';
import { attach, DOWN_HEADER_BYTES, DownDoor, FlowOffload, writeDownHeader } from '../src/offload/index.ts';
import { run } from './shell.ts';
import { median } from './statistics.ts';

const LENGTHS = [60, 1514, 62_000] as const;
/** Longer ones are super-packets of such segments. */
const SEGMENT_BYTES = 1448;
const LOOK_UPS = [1, 2, 3, 4, 6, 8] as const;
const BATCH = 16;
const BATCHES = 600;
const ROUNDS = 9;
const TICKET = 1;
const IN = toKeyPort(1);
const PATIENCE_MS = 10_000;

/** An IPv4 frame of UDP. */
function fill(packet: Packet, length: number): void {
  const { bytes, offset: at } = packet;
  packet.length = length;
  bytes.fill(0, at, at + length);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0], at);
  bytes.set([(length - 14) >>> 8, (length - 14) & 0xff, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], at + 16);
  bytes.set([0, 5, 0, 6, (length - 34) >>> 8, (length - 34) & 0xff], at + 34);
  packet.checksum = Checksum.UNKNOWN;
  packet.gsoType = Gso.NONE;
  if (length <= ETHERNET_BYTES + 1500) return;
  // TCP, whose checksum is left to whoever cuts it.
  bytes[at + 23] = IpProtocol.TCP;
  bytes.set([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff], at + 38);
  packet.gsoType = Gso.TCPV4;
  packet.gsoSizeBytes = SEGMENT_BYTES;
  packet.headerLengthBytes = 54;
  packet.checksum = Checksum.PARTIAL;
  packet.checksumStart = 34;
  packet.checksumOffset = 16;
}

function pair(name: string): ReturnType<typeof toInterfaceIndex> {
  run('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}1`]);
  for (const each of [name, `${name}1`]) run('ip', ['link', 'set', each, 'up']);
  return toInterfaceIndex(withRouteClient((client) => client.link(name).index));
}

/** An engine with a way out and a way down. */
class Bench {
  handsDown = false;
  handedDown = 0;
  readonly #pool = new PacketPool({ packets: BATCH * 3, bufferBytes: 66_048, headroomBytes: 192 });
  readonly #batch = new Batch();
  readonly #held = new Batch();
  readonly #sent = new Batch();
  readonly #ifindex = pair('in');
  readonly #outIndex = pair('out');
  readonly #way = openPacketSocket({ interfaceName: 'out', receive: false });
  readonly #datapath: Datapath;
  readonly #offload: FlowOffload;
  readonly #door = new DownDoor();
  readonly #device: DownDevice;
  #place = -1;

  constructor() {
    this.#device = new DownDevice('down');
    attach({ program: this.#door.program, netdev: this.#device.interfaceIndex, hook: 'tc-ingress' });
    this.#device.begin();
    this.#datapath = new Datapath({
      hooks: {
        output: (packet) => {
          packet.hold();
          this.#sent.push(packet);
          this.#way.transmit(packet, TagAction.KEEP);
        },
        outputIgnoresKey: true,
        handDown: (_slot, packet, key) => this.handsDown && this.#handDown(packet, key),
      },
      nowMs: () => performance.now(),
      pool: this.#pool,
      clones: new ClonePool(BATCH),
    });
    this.#offload = new FlowOffload({
      table: this.#datapath.table,
      nowMs: () => performance.now(),
      hashSecret: this.#datapath.hashSecret,
      resumes: true,
      programs: { mark: () => 0, isPast: () => true },
      puntPath: { mark: () => 0, isPast: () => true },
      install: () => {},
    });
    const port = { tapLike: false, puntIfindex: this.#outIndex, output: true, xdpOutput: false };
    this.#offload.setPort({ ...port, ifindex: this.#ifindex, number: IN, hook: 'tc' });
    this.#offload.setPort({ ...port, ifindex: this.#outIndex, number: toKeyPort(2), hook: 'tc' });
  }

  #handDown(packet: Packet, key: FlowKey): boolean {
    const { before } = this.#device;
    const header = writeDownHeader(packet.bytes, packet.offset, this.#place, this.#ifindex, before, 0);
    const length = header + writeResumeRecord(key, before, header, TICKET);
    this.handedDown += 1;
    return this.#device.send(packet, length, header > DOWN_HEADER_BYTES) === 0;
  }

  /** Flows that look packets up so many times behind the first. */
  async flows(lookUps: number): Promise<void> {
    const { table } = this.#datapath;
    table.flush();
    let last = -1;
    for (let id = 0; id <= lookUps; id += 1) {
      const { key, mask } = parseFlowKey(`recirc_id(${id}),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)`);
      const actions = parseActions(id === lookUps ? 'set(eth(src=02:00:00:00:00:99)),2' : `recirc(${id + 1})`);
      last = table.put({ key, mask, actions, ufid: null, mode: PutMode.CREATE });
    }
    const endMs = performance.now() + PATIENCE_MS;
    while (this.#offload.wayDown(last, IN) === 0) {
      if (performance.now() > endMs) throw new Error(`not in the kernel: ${this.#offload.reasonOf(last)}`);
      this.#offload.poll();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const entry = this.#offload.downEntry;
    if (this.#place === -1 && entry !== null) this.#place = this.#door.open(entry);
  }

  /** CPU nanoseconds of a packet. */
  run(handsDown: boolean, lengthBytes: number): number {
    this.handsDown = handsDown;
    const leftBefore = this.#left();
    const before = process.cpuUsage();
    for (let i = 0; i < BATCHES; i += 1) {
      for (let j = 0; j < BATCH; j += 1) {
        const packet = this.#pool.allocate();
        if (packet === null) throw new Error('packets were not given back');
        fill(packet, lengthBytes);
        // The switch holds what it hands in, so that what is changed is copied.
        packet.hold();
        this.#held.push(packet);
        this.#batch.push(packet);
      }
      this.#datapath.receive(this.#batch, IN);
      this.#way.flush();
      this.#sent.releaseAll();
      this.#held.releaseAll();
    }
    const { user, system } = process.cpuUsage(before);
    const left = this.#left() - leftBefore;
    if (left < BATCHES * BATCH) throw new Error(`${left} of ${BATCHES * BATCH} packets have left`);
    return ((user + system) * 1000) / (BATCHES * BATCH);
  }

  #left(): number {
    return Number(readFileSync('/sys/class/net/out/statistics/tx_packets', 'utf8'));
  }

  close(): void {
    this.#offload.close();
    this.#device.close();
    this.#door.close();
    this.#way.close();
  }
}

const bench = new Bench();
console.log('bytes | look-ups | engine ns | handed down ns | ratio');
for (const length of LENGTHS) {
  for (const lookUps of LOOK_UPS) {
    await bench.flows(lookUps);
    const costs: { engine: number[]; down: number[] } = { engine: [], down: [] };
    for (let round = 0; round < ROUNDS; round += 1) {
      costs.engine.push(bench.run(false, length));
      costs.down.push(bench.run(true, length));
    }
    const [engine, down] = [median(costs.engine), median(costs.down)];
    console.log(`${length} | ${lookUps} | ${engine.toFixed(0)} | ${down.toFixed(0)} | ${(down / engine).toFixed(2)}`);
  }
}
bench.close();
