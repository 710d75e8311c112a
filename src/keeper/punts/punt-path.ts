/**
 * The punt path: the punt channel by which packets that programs do not carry come to the engine, and the program that hands up everything. It is
 * there from the first port or table on that needs it. Neighbours: ports/ and tables/.
 */
import {
  openPuntChannel,
  type PuntChannel,
  type PuntClaim,
  type PuntCounters,
  type PuntHandler,
  type PuntTrouble,
  type Timer,
} from '../../host/index.ts';
import { BATCH_SIZE, type InterfaceIndex } from '../../net/index.ts';
import type { Marks } from '../../offload/index.ts';
import { type KeeperHost, messageOf } from '../contract.ts';
import { puntNameOf, puntPathOf } from '../left/pin-place.ts';
import type { Takeover } from '../left/takeover.ts';
import { Condition } from '../ports/condition.ts';
import { BaseProgram } from './base-program.ts';

/** Slots of the ring that all ports share. */
export const RING_SLOTS = 255;
/** Most packets of a port that programs have handed up and the engine is not done with. */
export const MOST_UNDER_WAY = RING_SLOTS + BATCH_SIZE;
/** How often it is looked for packets that the program which hands up everything has counted and that have not come, while there may be some. */
const LOOK_MS = 10;
/** How often the devices of the channel are looked at, and how long after news of them, which mostly come several at once. */
const WATCH_MS = 1_000;
const SOON_MS = 20;
/** Batches that are taken at the end, at most. */
const LAST_TURNS = 1000;

const DONE: Readonly<Record<PuntTrouble, string>> = {
  gone: 'was taken away by somebody, and has been made anew: packets of new flows were lost meanwhile',
  down: 'was set down by somebody, and is up again',
  open: 'was opened to the kernel by somebody, who took programs off, and is closed again',
};

export class PuntPath implements Marks {
  readonly #host: KeeperHost;
  readonly #takeover: Takeover;
  #taken = 0;
  /** Marks that were given, and those of them that are past; beside them the oldest that are not, with what had been taken then. */
  #given = 0;
  #past = 0;
  readonly #marks: { readonly mark: number; readonly taken: number }[] = [];
  #channel: PuntChannel | null = null;
  #base: BaseProgram | null = null;
  /** The next look for what was lost, and what had been taken at the one before. */
  #look: Timer | null = null;
  #takenAtLook = 0;
  /** Looks at the devices: from time to time, and soon. */
  #watch: Timer | null = null;
  #soon: Timer | null = null;
  /** Why the devices are not what they should be, when that was last seen to. */
  readonly #upkeepTrouble = new Condition();

  constructor(host: KeeperHost, takeover: Takeover) {
    this.#host = host;
    this.#takeover = takeover;
  }

  /** The program that hands up everything; null before a port has asked for it. */
  get base(): BaseProgram | null {
    return this.#base;
  }

  /** What has come, and what was lost by cause; null while nothing can come. */
  get counters(): PuntCounters | null {
    return this.#channel?.counters ?? null;
  }

  mark(): number {
    this.#given += 1;
    this.#marks.push({ mark: this.#given, taken: this.#taken });
    return this.#given;
  }

  isPast(mark: number): boolean {
    return this.#channel === null || mark <= this.#past;
  }

  /** Take what has come up; what it is for is done when this returns. @returns how much there was */
  #receive(channel: PuntChannel): number {
    const count = channel.receive();
    this.#taken += count;
    if (count > 0 && this.#look === null && this.#base !== null) this.#lookLater(channel);
    if (this.#marks.length === 0) return count;
    // The ring was empty then, or as much has been taken as there is room in it.
    const isEmpty = count < BATCH_SIZE;
    while (this.#marks.length > 0 && (isEmpty || this.#taken - this.#marks[0].taken >= RING_SLOTS)) {
      this.#past = this.#marks[0].mark;
      this.#marks.shift();
    }
    return count;
  }

  #lookLater(channel: PuntChannel): void {
    this.#look = this.#host.loop.timers.once(LOOK_MS, {
      onTimer: () => {
        this.#look = null;
        if (this.#channel !== channel || this.#base === null) return;
        const isEmpty = this.#receive(channel) < BATCH_SIZE;
        const haveCome = isEmpty || this.#taken - this.#takenAtLook >= RING_SLOTS;
        this.#takenAtLook = this.#taken;
        if (this.#base.look(haveCome) && this.#look === null) this.#lookLater(channel);
      },
    });
  }

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    const channel = this.#channel;
    if (channel === null || (ifindex !== channel.interfaceIndex && ifindex !== -1)) return;
    this.#soon ??= this.#host.loop.timers.once(SOON_MS, {
      onTimer: () => {
        this.#soon = null;
        this.#lookAfter(channel);
      },
    });
  }

  /** See that programs have somewhere to send packets to. */
  #lookAfter(channel: PuntChannel): void {
    if (this.#channel !== channel) return;
    const { interfaceName } = channel;
    let trouble: string | null = null;
    try {
      const found = channel.trouble();
      if (found !== null) {
        this.#mend(channel, found);
        this.#host.warn(`the interface ${interfaceName}, by which packets come up to the switch, ${DONE[found]}`);
      }
    } catch (error) {
      trouble = messageOf(error);
    }
    if (!this.#upkeepTrouble.see(trouble, this.#host.nowMs()) || trouble === null) return;
    this.#host.warn(
      `the interface ${interfaceName}, by which packets come up to the switch, is not what it was made: packets of new flows are lost, as it cannot be put right: ${trouble}`,
    );
  }

  #mend(channel: PuntChannel, found: PuntTrouble): void {
    const { loop } = this.#host;
    if (found !== 'gone') {
      channel.mend(found);
      return;
    }
    this.drain();
    // It is closed when there is another one.
    loop.remove(channel.fileDescriptor);
    try {
      channel.mend(found);
    } finally {
      this.#listen(channel);
    }
  }

  /** @returns the interface that programs redirect to @throws SystemError, as openPuntChannel */
  open(): InterfaceIndex {
    return this.#channelOf().interfaceIndex;
  }

  /** @returns the program that hands up everything @throws SystemError, PrivilegeError, VerifierError */
  openForPorts(): BaseProgram {
    this.#base ??= new BaseProgram(this.#channelOf().interfaceIndex);
    return this.#base;
  }

  /** Take the packets that come up of an interface. @throws RangeError when somebody has them already */
  claim(ifindex: InterfaceIndex, handler: PuntHandler): PuntClaim {
    return this.#channelOf().claim(ifindex, handler);
  }

  disclaim(ifindex: InterfaceIndex): void {
    this.#channel?.disclaim(ifindex);
  }

  /** Take what has come up until now. */
  drain(): void {
    for (let turn = 0; turn < LAST_TURNS && this.#channel !== null; turn += 1)
      if (this.#receive(this.#channel) === 0) return;
  }

  /** @param remove whether devices that could outlive the process go, too */
  close(remove: boolean): void {
    this.#look?.cancel();
    this.#look = null;
    this.#watch?.cancel();
    this.#watch = null;
    this.#soon?.cancel();
    this.#soon = null;
    this.#base?.close();
    this.#base = null;
    const channel = this.#channel;
    if (channel === null) return;
    this.#channel = null;
    this.#host.loop.remove(channel.fileDescriptor);
    if (remove) channel.remove();
    else channel.close();
  }

  #channelOf(): PuntChannel {
    if (this.#channel !== null) return this.#channel;
    const { loop, identity } = this.#host;
    const channel = openPuntChannel({
      interfaceName: puntNameOf(identity),
      receiveSlots: RING_SLOTS,
      // Its devices outlive the process as programs do.
      namespacePath: this.#takeover.folder === null ? null : puntPathOf(identity),
    });
    for (const warning of channel.warnings) this.#host.warn(warning);
    this.#channel = channel;
    this.#listen(channel);
    this.#watch = loop.timers.every(WATCH_MS, { onTimer: () => this.#lookAfter(channel) });
    loop.addPoller({ poll: () => (this.#channel === channel ? this.#receive(channel) : 0) });
    return channel;
  }

  #listen(channel: PuntChannel): void {
    this.#host.loop.add(channel.fileDescriptor, {
      onReady: () => void this.#receive(channel),
      onError: () => this.heard(channel.interfaceIndex),
    });
  }
}
