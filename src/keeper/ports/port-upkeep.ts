/**
 * Keeps the programs of ports where they belong while others change what these rest on: a program that somebody has taken off is put back, and a port goes
 * to tc when XDP does not suit it any more, and returns. It is the only door of this folder. Neighbours: port-watch.ts says when to look, xdp-state.ts knows whether XDP can be.
 */
import { type EventLoop, withRouteClient } from '../../../../host/index.ts';
import { messageOf } from '../../../../switch/index.ts';
import type { PortOffload } from '../port-offload.ts';
import type { Takeover } from '../takeover.ts';
import type { WayUp } from '../way-up.ts';
import { PortWatch } from './port-watch.ts';

export { Condition } from './condition.ts';
export type { Watched } from './port-watch.ts';
export { XdpState } from './xdp-state.ts';

export interface UpkeepSurroundings {
  readonly loop: EventLoop;
  readonly takeover: Takeover;
  readonly wayUp: WayUp;
  ports(): Iterable<PortOffload>;
  /** Milliseconds of CLOCK_MONOTONIC. */
  nowMs(): number;
  /** @param port that it is about */
  warn(message: string, port?: string): void;
  /** Something is as it should be again. */
  say(message: string, port: string): void;
}

export class PortUpkeep {
  readonly #around: UpkeepSurroundings;
  readonly #watch: PortWatch<PortOffload>;
  /** What was last said of what keeps each port from XDP. */
  readonly #said = new WeakMap<PortOffload, readonly string[]>();

  constructor(around: UpkeepSurroundings) {
    this.#around = around;
    this.#watch = new PortWatch({
      loop: around.loop,
      ports: () => around.ports(),
      look: (one, isNews) => this.#look(one, isNews),
    });
  }

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    this.#watch.heard(ifindex);
  }

  /** The port is no more. */
  forget(one: PortOffload): void {
    this.#watch.forget(one);
  }

  close(): void {
    this.#watch.close();
  }

  /** Put the programs of a port's table on it, or those that hand everything up. */
  putPrograms(one: PortOffload): void {
    one.putPrograms(this.#around.wayUp.base?.program ?? null, this.#around.nowMs());
    this.sayXdp(one);
  }

  /**
   * See whether XDP can be at a port that asks for it.
   * @param isNews whether something was said of its interface, or of what that stands on
   * @returns whether XDP can do other things than before
   */
  see(one: PortOffload, isNews: boolean): boolean {
    const { takeover, nowMs } = this.#around;
    one.linkedIndex = withRouteClient((client) => client.findLink(one.ifindex))?.linkedIndex ?? 0;
    const isOther = one.xdpState.look(one.ifindex, isNews, nowMs());
    // Whoever has turned off at the other end what was turned on there for XDP, decides about it from now on.
    if (one.xdpState.lacksGro) takeover.changes.leave(one.ifindex, 'gro');
    return isOther;
  }

  /** Say what keeps a port from XDP, once. */
  sayXdp(one: PortOffload): void {
    if (one.awaitsXdp) return;
    const { name } = one.port;
    const before = this.#said.get(one) ?? [];
    const reasons = one.xdpReasons;
    for (const reason of reasons) if (!before.includes(reason)) this.#around.warn(`port ${name}: ${reason}`, name);
    if (reasons.length === 0 && before.length > 0)
      this.#around.say(`port ${name} is offloaded at xdp, both ways`, name);
    this.#said.set(one, reasons);
  }

  #look(one: PortOffload, isNews: boolean): void {
    let trouble: string | null = null;
    try {
      this.#care(one, isNews);
    } catch (error) {
      trouble = messageOf(error);
    }
    const { name } = one.port;
    if (!one.upkeepTrouble.see(trouble, this.#around.nowMs())) return;
    if (trouble === null) this.#around.say(`port ${name} is looked after again`, name);
    else this.#around.warn(`port ${name} cannot be looked after: ${trouble}`, name);
  }

  #care(one: PortOffload, isNews: boolean): void {
    if (one.isStripped || one.lacksProgram) this.#putBack(one);
    if (!one.asksForXdp || !this.see(one, isNews)) return;
    // The program goes first: what comes with unfinished checksums is not to be carried once more.
    if (one.wanted !== 'xdp') one.detachXdp();
    one.source?.setPort(one);
    this.putPrograms(one);
  }

  #putBack(one: PortOffload): void {
    // It goes, or has gone, and its programs with it; the port follows.
    if (withRouteClient((client) => client.findLink(one.ifindex)) === null) return;
    const { name } = one.port;
    const { isStripped } = one;
    this.putPrograms(one);
    if (!one.isStripped && !one.lacksProgram) {
      this.#around.warn(`a program of port ${name} was taken off by somebody, and is back`, name);
    } else if (isStripped) {
      const why = one.why ?? 'the kernel does not say why';
      this.#around.warn(`a program of port ${name} was taken off by somebody, and cannot be put back: ${why}`, name);
    }
  }
}
