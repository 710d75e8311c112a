/**
 * The down path: the device by which packets of the engine come to programs, and the program there that finds the table. It is there from the first packet on that is to be handed
 * down, and goes with the process, as do the packets: nothing waits in it. Neighbours: table-down.ts says which packets; punts/ is the way up.
 */
import { DownDevice, Errno, type Timer } from '../../host/index.ts';
import type { Packet } from '../../net/index.ts';
import { type Attachment, DownDoor, type DownEntry } from '../../offload/index.ts';
import { type KeeperHost, messageOf } from '../contract.ts';
import { transientHolder } from '../left/kept.ts';
import { downNameOf } from '../left/pin-place.ts';
import { Condition } from '../ports/condition.ts';

/** How long after something went wrong it is tried again, and how often it is looked at whether the program is still there. */
const RETRY_MS = 1_000;
const WATCH_MS = 1_000;

interface Open {
  readonly door: DownDoor;
  readonly device: DownDevice;
  readonly attachment: Attachment;
  readonly places: Map<DownEntry, number>;
  readonly watch: Timer;
}

export class DownPath {
  readonly #host: KeeperHost;
  #open: Open | null = null;
  #retryMs = 0;
  /** Why it cannot be, when that was last tried. */
  readonly #trouble = new Condition();

  constructor(host: KeeperHost) {
    this.#host = host;
  }

  /** What lies before the next packet is to be written here; null while there is no path. */
  get before(): Uint8Array | null {
    return this.#open?.device.before ?? null;
  }

  /** The place of a table to which packets are to be handed down. @returns -1 while there is no path */
  placeOf(entry: DownEntry): number {
    const open = this.#open ?? this.#begin();
    if (open === null) return -1;
    let place = open.places.get(entry);
    if (place === undefined) {
      place = open.door.open(entry);
      if (place !== -1) open.places.set(entry, place);
    }
    return place;
  }

  /** Nothing comes for a table any more. */
  forget(entry: DownEntry): void {
    const place = this.#open?.places.get(entry);
    if (place === undefined) return;
    this.#open?.places.delete(entry);
    this.#open?.door.shut(place);
  }

  /**
   * Hand a packet down: programs are through with it when this returns.
   * @param beforeBytes how much of {@link before} lies before it
   * @param hasTag whether that has its outer tag
   * @returns whether it went
   */
  send(packet: Packet, beforeBytes: number, hasTag: boolean): boolean {
    const errno = this.#open?.device.send(packet, beforeBytes, hasTag) ?? -1;
    // Of what it does not take for a frame it says so; other errors are of the device.
    if (errno > 0 && errno !== Errno.EINVAL) this.#failed(`it does not take packets (error ${errno})`);
    return errno === 0;
  }

  #begin(): Open | null {
    const host = this.#host;
    const nowMs = host.nowMs();
    if (nowMs < this.#retryMs) return null;
    const name = downNameOf(host.identity);
    const closing: { close(): void }[] = [];
    try {
      const door = own(closing, new DownDoor());
      const device = own(closing, new DownDevice(name));
      const result = transientHolder.attach({
        program: door.program,
        netdev: device.interfaceIndex,
        hook: 'tc-ingress',
      });
      if (result.attachment === null) throw new Error(result.reason);
      const attachment = own(closing, result.attachment);
      device.begin();
      for (const warning of device.warnings) host.warn(warning);
      const watch = host.loop.timers.every(WATCH_MS, { onTimer: () => this.#look() });
      this.#open = { door, device, attachment, places: new Map(), watch };
      this.#trouble.see(null, nowMs);
    } catch (error) {
      for (const each of closing.reverse()) each.close();
      this.#say(`${name}: ${messageOf(error)}`);
    }
    return this.#open;
  }

  /** Whoever may attach programs may take ours off. */
  #look(): void {
    if (this.#open?.attachment.present === false) this.#failed('somebody has taken its program off');
  }

  #failed(why: string): void {
    const name = this.#open?.device.interfaceName ?? '';
    this.close();
    this.#say(`${name}: ${why}`);
  }

  #say(why: string): void {
    const nowMs = this.#host.nowMs();
    this.#retryMs = nowMs + RETRY_MS;
    if (this.#trouble.see(why, nowMs))
      this.#host.warn(
        `packets of the engine cannot be handed to the kernel for now, and are run by the engine: ${why}`,
      );
  }

  close(): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    open.watch.cancel();
    open.attachment.detach();
    open.device.close();
    open.door.close();
  }
}

function own<Resource extends { close(): void }>(closing: { close(): void }[], resource: Resource): Resource {
  closing.push(resource);
  return resource;
}
