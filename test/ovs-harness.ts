/**
 * A datapath process for tests: an event loop, the pseudo device's socket and real devices, with no daemon around it. Run by
 * ovs-world.ts with the path of the socket; prints "ready" when it listens, and ends with its parent.
 */
import { type DeviceKind, type OvsDevice, OvsErrno, OvsError, OvsServer } from '../src/extensions/ovs/index.ts';
import {
  Clock,
  ClockId,
  EventLoop,
  type LoopHandler,
  openPacketSocket,
  openTap,
  type PortAdapter,
  SeqpacketServer,
  SystemError,
} from '../src/host/index.ts';
import { BATCH_SIZE, Batch, ClonePool, type Packet, PacketPool, TagAction } from '../src/net/index.ts';

const loop = new EventLoop();
const clock = new Clock(ClockId.MONOTONIC);

function nowMs(): number {
  clock.read();
  return clock.seconds * 1000 + clock.nanoseconds / 1e6;
}

class Device implements OvsDevice, LoopHandler {
  readonly #adapter: PortAdapter;
  readonly #receive: (batch: Batch) => void;
  readonly #batch = new Batch();

  constructor(adapter: PortAdapter, receive: (batch: Batch) => void) {
    this.#adapter = adapter;
    this.#receive = receive;
    loop.add(adapter.fileDescriptor, this);
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

  transmit(packet: Packet): void {
    this.#adapter.transmit(packet, TagAction.KEEP);
  }

  flush(): void {
    this.#adapter.flush();
  }

  close(): void {
    loop.remove(this.#adapter.fileDescriptor);
    this.#adapter.close();
  }

  onReady(): void {
    if (this.#adapter.receive(this.#batch, BATCH_SIZE) > 0) this.#receive(this.#batch);
  }

  onError(): void {
    this.#adapter.refresh();
  }
}

function open(kind: DeviceKind, name: string, receive: (batch: Batch) => void): OvsDevice {
  try {
    const adapter =
      kind === 'internal'
        ? openTap({ interfaceName: name, up: false })
        : openPacketSocket({ interfaceName: name, receiveSlots: 60 });
    return new Device(adapter, receive);
  } catch (error) {
    if (error instanceof SystemError) throw new OvsError(error.errno, error.message);
    if (error instanceof RangeError) throw new OvsError(OvsErrno.EINVAL, error.message);
    throw error;
  }
}

const server = new OvsServer(
  { nowMs, open },
  {
    pool: new PacketPool({ packets: 2048, bufferBytes: 2304 }),
    largePool: new PacketPool({ packets: 64, bufferBytes: 66_048 }),
    clones: new ClonePool(4096),
  },
);
const listener = new SeqpacketServer(loop, process.argv[2], (transport) => {
  transport.handler = server.device.accept(transport);
});
process.stdout.write('ready\n');
const parent = process.ppid;
// The loop blocks Node's own, and with it signals that Node would handle: the parent's end of life is looked for instead.
while (process.ppid === parent) loop.poll(200);
listener.close();
server.close();
loop.close();
