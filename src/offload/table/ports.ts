/** The ports of a datapath as the offload knows them: which interface a number means, what is received there, what can be sent there. */
import type { InterfaceIndex, KeyPort } from '../../net/index.ts';
import type { OffloadHook, OutputTarget } from '../actions/contract.ts';

/** A port. */
export interface OffloadPort {
  readonly ifindex: InterfaceIndex;
  /** Its number in flow keys and outputs. */
  readonly number: KeyPort;
  /** Where its packets come to programs; null for a port that only the engine receives from. A port at XDP has both programs. */
  readonly hook: OffloadHook | null;
  /** A TAP whose descriptor Millrace holds: the program at tc sits on the kernel's side, where it sends, and frames for it come in there. */
  readonly tapLike: boolean;
  /** Interface of the punt channel in the port's namespace; 0 to pass packets on, as TAPs want it. */
  readonly puntIfindex: InterfaceIndex | 0;
  /** What is too long for it (mtu.ts of net/) is not sent here but goes up, unless it is a super-packet. Any length when left out, or 0. */
  readonly mtuBytes?: number;
  /** Whether packets can be sent to it by a redirect. */
  readonly output: boolean;
  /** Whether XDP can send to it. */
  readonly xdpOutput: boolean;
  /** Its link is down: outputs to it are left out. Up when left out. */
  readonly isDown?: boolean;
}

export class OffloadPorts {
  readonly #byIfindex = new Map<InterfaceIndex, OffloadPort>();
  readonly #byNumber = new Map<KeyPort, OffloadPort>();
  readonly #absence: (number: KeyPort) => string | null;

  /** @param absence what is known of a port that is not here, as of {@link absenceOf} */
  constructor(absence: (number: KeyPort) => string | null = () => null) {
    this.#absence = absence;
  }

  /** Why a port is not here, as the rest of a sentence that begins with it. */
  absenceOf(number: KeyPort): string {
    return this.#absence(number) ?? 'has no interface';
  }

  /** @returns what was known of the interface before */
  set(port: OffloadPort): OffloadPort | undefined {
    const before = this.remove(port.ifindex);
    this.#byIfindex.set(port.ifindex, port);
    this.#byNumber.set(port.number, port);
    return before;
  }

  remove(ifindex: InterfaceIndex): OffloadPort | undefined {
    const port = this.#byIfindex.get(ifindex);
    if (port === undefined) return undefined;
    this.#byIfindex.delete(ifindex);
    if (this.#byNumber.get(port.number) === port) this.#byNumber.delete(port.number);
    return port;
  }

  get(ifindex: InterfaceIndex): OffloadPort | undefined {
    return this.#byIfindex.get(ifindex);
  }

  byNumber(number: KeyPort): OffloadPort | undefined {
    return this.#byNumber.get(number);
  }

  all(): IterableIterator<OffloadPort> {
    return this.#byIfindex.values();
  }

  /** What an output to a number is for the kernel. */
  target(number: KeyPort): OutputTarget | null {
    const port = this.#byNumber.get(number);
    if (port === undefined || !port.output) return null;
    return { ifindex: port.ifindex, ingress: port.tapLike, xdp: port.xdpOutput, isDown: port.isDown === true };
  }
}

/** Whether flows may have to be looked at anew. */
export function isSamePort(a: OffloadPort | undefined, b: OffloadPort): boolean {
  return (
    a !== undefined &&
    a.number === b.number &&
    a.hook === b.hook &&
    a.tapLike === b.tapLike &&
    a.output === b.output &&
    (a.isDown ?? false) === (b.isDown ?? false) &&
    a.xdpOutput === b.xdpOutput
  );
}
