/**
 * The capture sessions of one switch: the daemon opens, reads and closes them here, the extension hands packets over.
 * Both live in the datapath thread. Neighbours: session.ts, extension.ts.
 */
import type { Packet } from '../../net/index.ts';
import { type CaptureOptions, CaptureOptionsError, parseCaptureOptions } from './options.ts';
import { CaptureSession } from './session.ts';

/** Each session costs time for every packet. */
const MAXIMUM_SESSIONS = 16;

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

  /** @param wallClockMs milliseconds since 1970, for packets that came without a timestamp */
  constructor(wallClockMs: () => number = Date.now) {
    this.#wallClockMs = wallClockMs;
  }

  /** Be told when sessions have come or gone. @returns call to stop */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** Whether any session wants packets that come in through one port and go out through another. */
  wantsPath(sourcePortId: number, portId: number): boolean {
    return (
      this.#ingress.some((session) => session.wantsPort(sourcePortId)) ||
      this.#egress.some((session) => session.wantsPort(portId))
    );
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

  /** Datapath: offer a packet to the sessions of a direction. @param direction 0 or CaptureFlag.OUT */
  offer(packet: Packet, tagAction: number, portId: number, nicIndex: number, direction: number): void {
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
        session.offer(packet, tagAction, seconds, nanoseconds, portId, nicIndex, direction);
      }
    }
  }

  #remove(session: CaptureSession): void {
    this.sessions.splice(this.sessions.indexOf(session), 1);
    this.#sort();
  }

  #sort(): void {
    this.#ingress = this.sessions.filter((session) => session.options.direction !== 'out');
    this.#egress = this.sessions.filter((session) => session.options.direction !== 'in');
    for (const watcher of this.#watchers) watcher();
  }
}
