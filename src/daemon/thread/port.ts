/**
 * One port of the datapath: its NIC in the switch, the adapter behind it, and its state. ports.ts keeps them all and decides when a port
 * attaches and detaches; here packets come in.
 */
import type { EventLoop, LoopHandler, Poller, Timer } from '../../host/index.ts';
import { type Adapter, BATCH_SIZE, Batch, PcapAdapter } from '../../net/index.ts';
import type { VirtualSwitch } from '../../switch/index.ts';
import type { PortState } from '../api.ts';
import type { Port } from '../config/model.ts';
import type { Seldom } from '../seldom.ts';
import { PortBackend } from './backend.ts';
import type { FoundStations } from './stations.ts';
import { TimeShare } from './time-share.ts';

/** Time of the thread that the packets of one port may take at once, and packets that are taken however long they take. */
const TURN_MS = 1;
const LEAST_PACKETS = 4;

/** Told when a port should be looked at: its descriptor reports an error, or its capture has been read. */
export type TroubleListener = (port: DatapathPort) => void;

/** Who uses a port, beside the switch. */
export interface PortUser {
  readonly name: string;
  /** The device of a port that was made for this user has vanished. */
  onGone(): void;
}

/** A port that exists in the switch. */
export class DatapathPort implements LoopHandler, Poller {
  readonly name: string;
  /** The switch's number of the port. */
  readonly id: number;
  readonly backend: PortBackend;
  config: Port;
  state: PortState = 'missing';
  reason: string | null = null;
  /** The NIC exists in the switch. */
  attached = false;
  /** Its TAP is in another namespace than ours, and so runs no programs. */
  isAway = false;
  /** Its NIC is known to have no link. */
  isLinkDown = false;
  /** The extension that uses the port under a name of its own, such as Open vSwitch; null for none. */
  user: PortUser | null = null;
  /** It was made for its user, not by the configuration: it goes with its device. */
  ownedByUser = false;
  /** The further name that its interface was given for Open vSwitch; null for none. */
  givenName: string | null = null;
  /** Says that packets of it were lost on their way to Open vSwitch; null before the first was. */
  upcallRefusals: Seldom | null = null;
  /** MAC address of the device before it went; null when none has gone. */
  lastMac: string | null = null;

  readonly #switch: VirtualSwitch;
  readonly #loop: EventLoop;
  readonly #onTrouble: TroubleListener;
  readonly #batch = new Batch();
  readonly #time = new TimeShare(TURN_MS, LEAST_PACKETS, BATCH_SIZE);
  /** What adapters before the present one have lost. */
  #pastDropped = 0;
  #watchedDescriptor = -1;
  #paceTimer: Timer | null = null;

  constructor(
    name: string,
    id: number,
    config: Port,
    virtualSwitch: VirtualSwitch,
    loop: EventLoop,
    onTrouble: TroubleListener,
  ) {
    this.name = name;
    this.id = id;
    this.config = config;
    this.backend = new PortBackend();
    this.#switch = virtualSwitch;
    this.#loop = loop;
    this.#onTrouble = onTrouble;
  }

  /** Who is behind it, as far as that counts. */
  stations: FoundStations | null = null;
  /** Told how many packets of the adapter the switch is done with. */
  onWorkedOff: ((packets: number) => void) | null = null;

  get adapter(): Adapter | null {
    return this.backend.adapter;
  }

  /** Begin to receive. The NIC is connected by then. */
  start(adapter: Adapter): void {
    this.backend.adapter = adapter;
    this.attached = true;
    if (adapter.fileDescriptor >= 0) {
      this.#loop.add(adapter.fileDescriptor, this);
      this.#watchedDescriptor = adapter.fileDescriptor;
    }
    // A ring in shared memory, or a queue in ours, is looked at without a system call; other descriptors only when they are ready.
    if (adapter.kind !== 'tap') this.#loop.addPoller(this);
    if (adapter instanceof PcapAdapter) this.#pace(adapter);
  }

  /** Stop receiving and let the adapter go. Its memory lives on until the last of its packets is released. */
  stop(): void {
    const adapter = this.backend.adapter;
    if (adapter === null) return;
    this.#loop.remove(this.#watchedDescriptor);
    this.#watchedDescriptor = -1;
    this.#loop.removePoller(this);
    this.#paceTimer?.cancel();
    this.#paceTimer = null;
    this.backend.adapter = null;
    this.#pastDropped += adapter.counters.receiveDropped;
    adapter.close();
  }

  /** Frames that the device lost before the switch saw them, over all adapters that the port has had. */
  get receiveDropped(): number {
    return this.#pastDropped + (this.backend.adapter?.counters.receiveDropped ?? 0);
  }

  /** Frames were lost on another way than through the adapter. */
  countLost(frames: number): void {
    this.#pastDropped += frames;
  }

  poll(): number {
    const adapter = this.backend.adapter;
    if (adapter === null) return 0;
    const batch = this.#batch;
    const count = adapter.receive(batch, this.#time.packets);
    if (count > 0) {
      const beganMs = performance.now();
      this.#switch.receive(this.id, 0, batch);
      this.onWorkedOff?.(count);
      this.#time.spent(count, performance.now() - beganMs);
    }
    return count;
  }

  /** Nothing wakes the loop for the next frame of a capture but a timer. */
  #pace(adapter: PcapAdapter): void {
    const dueMs = adapter.nextDueMs;
    if (dueMs === null) {
      this.#onTrouble(this);
      return;
    }
    const delayMs = Math.max(1, dueMs - (performance.timeOrigin + performance.now()));
    this.#paceTimer = this.#loop.timers.once(delayMs, {
      onTimer: () => {
        this.poll();
        if (this.backend.adapter === adapter) this.#pace(adapter);
      },
    });
  }

  onReady(): void {
    this.poll();
  }

  onError(): void {
    this.#onTrouble(this);
  }
}
