/**
 * The capture sessions of one switch: the daemon opens, reads and closes them here, the extension hands packets over, and so may somebody who
 * carries packets past the switch ({@link CopySource}). All live in the datapath thread.
 */
import type { Packet } from '../../net/index.ts';
import { type CaptureOptions, CaptureOptionsError, parseCaptureOptions } from './options.ts';
import { CaptureFlag } from './ring.ts';
import { CaptureSession } from './session.ts';

/** Each session costs time for every packet. */
const MAXIMUM_SESSIONS = 16;

/** Who carries packets past the switch, and can show copies of them to sessions. */
export interface CopySource {
  /**
   * What sessions want has changed; {@link CaptureHub.wantedBytes} tells. From now on it is to offer what it carries of that.
   * @returns whether it does; else packets that somebody wants to see have to come up
   */
  changed(): boolean;
  /** Offer what was carried until now, or the first part of it. @returns how many were offered; 0 when all are */
  drain(): number;
}

/** Parts of what was carried that are offered before a session ends: traffic may go on as fast as it is recorded. */
const MOST_DRAINS = 256;

/** So much of a frame is enough for every filter: all headers that a filter looks at. */
const FILTERED_BYTES = 512;

/** Open it once for each switch, and give it to captureExtension. */
export class CaptureHub {
  /** Open sessions, oldest first. */
  readonly sessions: CaptureSession[] = [];
  /** Those that want one direction: empty while nobody captures. */
  #ingress: CaptureSession[] = [];
  #egress: CaptureSession[] = [];
  #lastId = 0;
  readonly #watchers = new Set<() => void>();
  readonly #wallClockMs: () => number;
  #source: CopySource | null = null;
  /** Packets may go past: nobody wants any, or copies come of those that are wanted. */
  #mayPass = true;

  /** @param wallClockMs milliseconds since 1970, for packets that came without a timestamp */
  constructor(wallClockMs: () => number = Date.now) {
    this.#wallClockMs = wallClockMs;
  }

  /** Take copies from somebody who carries packets past the switch. @returns call to stop */
  copyFrom(source: CopySource): () => void {
    this.#source = source;
    this.changed();
    return () => {
      if (this.#source !== source) return;
      this.#source = null;
      this.changed();
    };
  }

  /** Take the copies that are there, so that what is offered next comes behind them. */
  drain(): void {
    if (this.sessions.length !== 0) this.#source?.drain();
  }

  /** Be told when packets that could go past have to come, or the other way round. @returns call to stop */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** Whether packets that come in or go out through a port have to come for some session. */
  needsPort(portId: number): boolean {
    return !this.#mayPass && (this.wantedBytes(portId, 0) !== 0 || this.wantedBytes(portId, CaptureFlag.OUT) !== 0);
  }

  /** The most bytes that some session wants of each frame of a port; 0 when none wants any. @param direction 0 or CaptureFlag.OUT */
  wantedBytes(portId: number, direction: number): number {
    let most = 0;
    for (const session of direction === 0 ? this.#ingress : this.#egress) {
      if (!session.wantsPort(portId)) continue;
      const { snapLengthBytes, filter } = session.options;
      most = Math.max(most, snapLengthBytes, filter === null ? 0 : FILTERED_BYTES);
    }
    return most;
  }

  get wantsIngress(): boolean {
    return this.#ingress.length !== 0;
  }

  get wantsEgress(): boolean {
    return this.#egress.length !== 0;
  }

  /**
   * Start a session.
   * @param options unknown input is checked
   * @throws CaptureOptionsError
   */
  open(options: CaptureOptions): CaptureSession {
    const checked = parseCaptureOptions(options);
    if (this.sessions.length === MAXIMUM_SESSIONS) {
      throw new CaptureOptionsError(`${MAXIMUM_SESSIONS} captures are running already: stop one of them first`);
    }
    this.#lastId += 1;
    const session = new CaptureSession(this.#lastId, checked, (closed) => this.#remove(closed));
    this.sessions.push(session);
    this.#sort();
    return session;
  }

  /**
   * Datapath: offer a packet to the sessions of a direction.
   * @param direction 0 or CaptureFlag.OUT
   * @param missingBytes of the frame, behind those that the packet has
   */
  offer(
    packet: Packet,
    tagAction: number,
    portId: number,
    nicIndex: number,
    direction: number,
    missingBytes = 0,
  ): void {
    const sessions = direction === 0 ? this.#ingress : this.#egress;
    let seconds = packet.timestampSeconds;
    let nanoseconds = packet.timestampNanoseconds;
    if (seconds === 0) {
      const nowMs = this.#wallClockMs();
      seconds = Math.floor(nowMs / 1000);
      nanoseconds = Math.floor((nowMs - seconds * 1000) * 1e6);
    }
    for (let i = 0; i < sessions.length; i += 1) {
      const session = sessions[i];
      if (session.wantsPort(portId)) {
        session.offer(packet, tagAction, seconds, nanoseconds, portId, nicIndex, direction, missingBytes);
      }
    }
  }

  /** Datapath: frames of a port were lost before they could be offered. @param direction 0 or CaptureFlag.OUT */
  lose(portId: number, direction: number, frames: number): void {
    for (const session of direction === 0 ? this.#ingress : this.#egress) {
      if (session.wantsPort(portId)) session.lose(frames);
    }
  }

  #remove(session: CaptureSession): void {
    const source = this.#source;
    for (let i = 0; i < MOST_DRAINS && source !== null && source.drain() > 0; i += 1);
    session.isOpen = false;
    this.sessions.splice(this.sessions.indexOf(session), 1);
    this.#sort();
  }

  #sort(): void {
    this.#ingress = this.sessions.filter((session) => session.options.direction !== 'out');
    this.#egress = this.sessions.filter((session) => session.options.direction !== 'in');
    this.changed();
  }

  /** Sessions or ports have changed, or what the source of copies can do. */
  changed(): void {
    const before = this.#mayPass;
    const isCopied = this.#source?.changed() ?? false;
    this.#mayPass = isCopied || this.sessions.length === 0;
    if (!before || !this.#mayPass) for (const watcher of this.#watchers) watcher();
  }
}
