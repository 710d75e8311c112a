/**
 * One port of the datapath: its NIC in the switch, the adapter behind it, and its state. ports.ts keeps them all and decides when a port
 * attaches and detaches; here packets come in.
 */
import { type EventLoop, type LoopHandler, type Poller, type Timer, TimeShare } from '../../host/index.ts';
import type { KeptPort, PortWishes } from '../../keeper/index.ts';
import { type Adapter, BATCH_SIZE, Batch, PcapAdapter, type PortId } from '../../net/index.ts';
import type { VirtualSwitch } from '../../switch/index.ts';
import type { PortState } from '../api.ts';
import type { Port } from '../config/model.ts';
import { Seldom } from '../seldom.ts';
import { PortBackend } from './backend.ts';
import type { FoundStations } from './stations.ts';

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
export class DatapathPort implements LoopHandler, Poller, KeptPort {
  readonly name: string;
  /** The switch's number of the port. */
  readonly id: PortId;
  readonly backend: PortBackend;
  config: Port;
  state: PortState = 'missing';
  reason: string | null = null;
  /** The NIC exists in the switch. */
  attached = false;
  /** Its TAP is in another namespace than ours, and so runs no programs. */
  isAway = false;
  /** How its device is could not be found out the last time. */
  isUnseen = false;
  /** Its NIC is known to have no link. */
  isLinkDown = false;
  /** Its interface has come while the port waited for it. */
  isNewcomer = false;
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
  readonly #onRefused: (message: string) => void;
  /** Says that packets beyond the port's share were dropped; null before the first were. */
  #refusals: Seldom | null = null;
  readonly #batch = new Batch();
  readonly #time = new TimeShare(TURN_MS, LEAST_PACKETS, BATCH_SIZE);
  /** What adapters before the present one have lost. */
  #pastDropped = 0;
  #watchedDescriptor = -1;
  #paceTimer: Timer | null = null;

  constructor(
    name: string,
    id: PortId,
    config: Port,
    virtualSwitch: VirtualSwitch,
    loop: EventLoop,
    onTrouble: TroubleListener,
    onRefused: (message: string) => void,
  ) {
    this.name = name;
    this.id = id;
    this.config = config;
    this.backend = new PortBackend();
    this.#switch = virtualSwitch;
    this.#loop = loop;
    this.#onTrouble = onTrouble;
    this.#onRefused = onRefused;
  }

  get wishes(): PortWishes {
    const { config } = this;
    return {
      bar: configBar(config) ?? (this.attached ? null : 'its interface is not there'),
      xdp: config.kind === 'netdev' && config.offload === 'xdp',
      promiscuous: config.kind === 'netdev' && config.promiscuous !== false,
    };
  }

  get nicMtuBytes(): number {
    return this.#switch.port(this.id).nics[0]?.mtuBytes ?? 0;
  }

  receive(batch: Batch): void {
    this.#switch.receive(this.id, 0, batch);
  }

  refused(packets: number): void {
    this.countLost(packets);
    this.#refusals ??= new Seldom(
      (times) => {
        const what = `${times} packet${times === 1 ? ' was' : 's were'} dropped before a flow was found for them`;
        this.#onRefused(`${what}, as it has more of them than its share`);
      },
      (delayMs, call) => void this.#loop.timers.once(delayMs, { onTimer: call }),
    );
    this.#refusals.happened(packets);
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

/** Why the configuration keeps a port's packets from coming through programs, as the rest of a sentence that begins with it; null when it does not. */
export function configBar(config: Port): string | null {
  if (config.kind === 'memory' || config.kind === 'pcap') return `a port of kind ${config.kind} has no interface`;
  if (config.offload === 'off') return 'its configuration says offload=off';
  if (config.kind === 'netdev' && config.isolate === false) return 'its configuration says isolate=false';
  if (config.kind === 'tap' && config.netns !== undefined) return `its interface is in the namespace ${config.netns}`;
  return null;
}
