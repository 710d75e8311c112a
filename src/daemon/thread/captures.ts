/**
 * Captures in the datapath: sessions of the capture extension. While there are any and the configured stack has no running `capture`, one is
 * put on top of the stack for their time, so that nobody has to configure it and nobody pays for it.
 */
import { CaptureFlag, type CaptureHub, type CaptureSession, captureExtension } from '../../extensions/capture/index.ts';
import type { CopyTakers } from '../../keeper/index.ts';
import { TagAction } from '../../net/index.ts';
import { type ExtensionFactory, messageOf, type VirtualSwitch } from '../../switch/index.ts';
import { Failure } from '../rpc/failure.ts';
import type { CaptureRequest, OpenCapture } from './calls.ts';

/** Name of the extension that comes and goes with captures. */
const PASSING_NAME = 'capture-session';

/** The captures of one switch. */
export class DatapathCaptures {
  readonly #switch: VirtualSwitch;
  readonly #hub: CaptureHub;
  readonly #configuredRuns: () => boolean;
  readonly #passing: ExtensionFactory;
  #passingRuns = false;

  /** @param configuredRuns whether the configuration's own `capture` is running */
  constructor(virtualSwitch: VirtualSwitch, hub: CaptureHub, configuredRuns: () => boolean) {
    this.#switch = virtualSwitch;
    this.#hub = hub;
    this.#configuredRuns = configuredRuns;
    const factory = captureExtension(hub);
    this.#passing = { ...factory, descriptor: { ...factory.descriptor, name: PASSING_NAME } };
  }

  /** @throws Failure for a filter or a length that makes no sense, or too many captures */
  open(request: CaptureRequest, idOf: (port: string) => number): OpenCapture {
    let session: CaptureSession;
    try {
      session = this.#hub.open({
        portIds: request.ports.length === 0 ? null : request.ports.map(idOf),
        filter: request.filter,
        ...(request.snapLengthBytes === null ? {} : { snapLengthBytes: request.snapLengthBytes }),
      });
    } catch (error) {
      if (error instanceof Failure) throw error;
      throw new Failure('invalid-params', `cannot capture: ${messageOf(error)}`);
    }
    try {
      this.reconcile();
    } catch (error) {
      session.close();
      throw error;
    }
    return { id: session.id, buffer: session.buffer };
  }

  close(id: number): { captured: number; lost: number } {
    const session = this.#hub.sessions.find((candidate) => candidate.id === id);
    if (session === undefined) return { captured: 0, lost: 0 };
    session.close();
    this.reconcile();
    return { captured: session.capturedPackets, lost: session.lostPackets };
  }

  /** Call it when the stack has changed. */
  reconcile(): void {
    const wanted = this.#hub.sessions.length > 0 && !this.#configuredRuns();
    if (wanted === this.#passingRuns) return;
    this.#passingRuns = wanted;
    const changed = wanted
      ? this.#switch.enableExtension(this.#passing, undefined, 0)
      : this.#switch.disableExtension(PASSING_NAME);
    if (changed.error !== null) {
      this.#passingRuns = !wanted;
      throw changed.error;
    }
  }
}

/** Captures as those who want to see what the kernel carries. Copies have their tags inside. */
export function captureTakers(hub: CaptureHub): CopyTakers {
  const directionOf = (isOut: boolean) => (isOut ? CaptureFlag.OUT : 0);
  return {
    get areThere() {
      return hub.sessions.length > 0;
    },
    wantedBytes: (portId, isOut) => hub.wantedBytes(portId, directionOf(isOut)),
    offer: (packet, portId, isOut, missingBytes) =>
      hub.offer(packet, TagAction.KEEP, portId, 0, directionOf(isOut), missingBytes),
    lose: (portId, isOut, packets) => hub.lose(portId, directionOf(isOut), packets),
    changed: () => hub.changed(),
  };
}
