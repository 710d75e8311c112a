/**
 * A datapath process for tests: an event loop, the pseudo device's socket and real devices, with no daemon around it. Run by
 * ovs-world.ts with the path of the socket; prints "ready" when it listens, and ends with its parent.
 *
 * OVS_HARNESS_FLOWS=n: it begins with a datapath "big" that has n flows under 8 masks.
 * OVS_HARNESS_CONNECTIONS=n: n connections of UDP are tracked already, in zones 0 to 9 in turn. OVS_HARNESS_KINDS=1: and before them one of each kind.
 * OVS_HARNESS_TRACE=path: every netlink datagram of programs is appended there, a line of hexadecimal digits each.
 */
import { appendFileSync } from 'node:fs';
import { Connections } from '../src/connections/index.ts';
import { type DeviceKind, type OvsDevice, OvsErrno, OvsError, OvsServer } from '../src/extensions/ovs/index.ts';
import { type FlowTable, PutMode, parseActions, parseFlowKey, Word } from '../src/flow/index.ts';
import {
  Clock,
  ClockId,
  EventLoop,
  LinkWatch,
  type LoopHandler,
  openPacketSocket,
  openTap,
  type PortAdapter,
  SeqpacketServer,
  SystemError,
} from '../src/host/index.ts';
import { BATCH_SIZE, Batch, ClonePool, type Packet, PacketPool, TagAction } from '../src/net/index.ts';
import { fillKinds, fillMany } from './support/fill-connections.ts';

const loop = new EventLoop();
const clock = new Clock(ClockId.MONOTONIC);

function nowMs(): number {
  clock.read();
  return clock.seconds * 1000 + clock.nanoseconds / 1e6;
}

const devices = new Set<Device>();

class Device implements OvsDevice, LoopHandler {
  readonly #adapter: PortAdapter;
  readonly #receive: (batch: Batch) => void;
  readonly #onGone: () => void;
  readonly #batch = new Batch();

  constructor(adapter: PortAdapter, receive: (batch: Batch) => void, onGone: () => void) {
    this.#adapter = adapter;
    this.#receive = receive;
    this.#onGone = onGone;
    loop.add(adapter.fileDescriptor, this);
    devices.add(this);
  }

  get name(): string {
    return this.#adapter.interfaceName;
  }

  get interfaceIndex(): number {
    return this.#adapter.interfaceIndex;
  }

  get offloads(): number {
    return this.#adapter.offloads;
  }

  get counters() {
    return this.#adapter.counters;
  }

  transmit(packet: Packet): boolean {
    this.#adapter.transmit(packet, TagAction.KEEP);
    return true;
  }

  flush(): void {
    this.#adapter.flush();
  }

  close(): void {
    devices.delete(this);
    loop.remove(this.#adapter.fileDescriptor);
    this.#adapter.close();
  }

  onReady(): void {
    if (this.#adapter.receive(this.#batch, BATCH_SIZE) > 0) this.#receive(this.#batch);
  }

  onError(): void {
    if (this.#adapter.refresh() === 'gone') this.#onGone();
  }
}

const links = new LinkWatch();
loop.add(links.fileDescriptor, {
  onReady() {
    const changed = new Set(links.process().map(({ link }) => link.index));
    for (const device of [...devices]) if (changed.has(device.interfaceIndex)) device.onError();
  },
  onError() {},
});

function open(kind: DeviceKind, name: string, receive: (batch: Batch) => void, onGone: () => void): OvsDevice {
  try {
    const adapter =
      kind === 'internal'
        ? openTap({ interfaceName: name, up: false })
        : openPacketSocket({ interfaceName: name, receiveSlots: 60 });
    return new Device(adapter, receive, onGone);
  } catch (error) {
    if (error instanceof SystemError) throw new OvsError(error.errno, error.message);
    if (error instanceof RangeError) throw new OvsError(OvsErrno.EINVAL, error.message);
    throw error;
  }
}

const tracked = process.env.OVS_HARNESS_CONNECTIONS;
const connections = new Connections({ nowMs, maximum: Math.max(1000, Number(tracked ?? 0) * 1.1) | 0 });
if (tracked !== undefined) {
  const { tracker } = connections;
  tracker.table.timeOuts.setDefaults({ udp: { unreplied: 600_000 } });
  if (process.env.OVS_HARNESS_KINDS === '1') fillKinds(tracker);
  fillMany(tracker, Number(tracked), (number) => number % 10);
}
const server = new OvsServer(
  { nowMs, connections, open },
  {
    pool: new PacketPool({ packets: 2048, bufferBytes: 2304 }),
    largePool: new PacketPool({ packets: 64, bufferBytes: 66_048 }),
    clones: new ClonePool(4096),
  },
);
const FLOW = 'in_port(1),eth(src=00:01:02:03:04:05,dst=10:11:12:13:14:15),eth_type(0x0800),';
const trace = process.env.OVS_HARNESS_TRACE;
const listener = new SeqpacketServer(loop, process.argv[2], (transport) => {
  const connection = server.device.accept(transport);
  transport.handler =
    trace === undefined
      ? connection
      : {
          onDatagram(frame) {
            if (frame[0] === 0) appendFileSync(trace, `${Buffer.from(frame.subarray(4)).toString('hex')}\n`);
            connection.onDatagram(frame);
          },
          onWritable: () => connection.onWritable(),
          onClose: () => connection.onClose(),
        };
});
const flows = Number(process.env.OVS_HARNESS_FLOWS ?? 0);
if (flows > 0) fill(server.addDatapath('big').flows.table, flows);
process.stdout.write('ready\n');
const parent = process.ppid;
// The loop blocks Node's own, and with it signals that Node would handle: the parent's end of life is looked for instead.
while (process.ppid === parent) loop.poll(200);
listener.close();
server.close();
loop.close();

/** Flows as a switch of many connections has them: under 8 masks, with identifiers. */
function fill(table: FlowTable, count: number): void {
  const actions = parseActions('set(ipv4(ttl=63)),2');
  const masks = Array.from({ length: 8 }, (_, i) => {
    const dotted = [24, 16, 8, 0].map((shift) => ((0xffff_ffff << i) >>> shift) & 0xff).join('.');
    return parseFlowKey(`${FLOW}ipv4(src=10.0.0.0,dst=10.0.0.1/${dotted},proto=6,frag=no),tcp(src=1,dst=80)`);
  });
  for (let i = 0; i < count; i += 1) {
    const { key, mask } = masks[i % 8];
    key[Word.IPV4_SOURCE] = 0x0a00_0000 + i;
    const ufid = new Uint8Array(16);
    new DataView(ufid.buffer).setUint32(0, i + 1);
    const slot = table.put({ key, mask, actions, ufid, mode: PutMode.CREATE });
    if (slot < 0) throw new Error(`flow ${i} was not put: ${slot}`);
    table.count(slot, 64, 0x10, nowMs());
  }
}
