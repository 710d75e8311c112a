/**
 * Keeps the programs of ports where they belong while others change what these rest on: a program that somebody has taken off is put back, and a port goes
 * to tc when XDP does not suit it any more, and returns. Others may change at any moment features, MTU and programs at a veth's other end, and the programs themselves: news of devices tell of most of it
 * within milliseconds; a turn through all ports is the net beneath. One look at a time: at a port at XDP it asks the kernel several questions, some half a millisecond of the thread that packets
 * wait for. Neighbour: xdp-state.ts knows whether XDP can be.
 */
import { type Timer, withRouteClient } from '../../host/index.ts';
import { type KeeperHost, messageOf } from '../contract.ts';
import type { Takeover } from '../left/takeover.ts';
import type { PuntPath } from '../punts/punt-path.ts';
import type { PortPrograms } from './port.ts';

/** How often each port is looked at, and how long after news, which mostly come several at once. */
const TURN_MS = 1_000;
const SOON_MS = 20;
/** From one look to the next. */
const PAUSE_MS = 10;

export class PortUpkeep {
  readonly #host: KeeperHost;
  readonly #takeover: Takeover;
  readonly #puntPath: PuntPath;
  readonly #ports: Iterable<PortPrograms>;
  /** Ports that are to be looked at, and whether because of news; those with news come first. */
  readonly #news = new Set<PortPrograms>();
  readonly #turn = new Set<PortPrograms>();
  readonly #turns: Timer;
  #next: Timer | null = null;
  /** What was last said of what keeps each port from XDP. */
  readonly #said = new WeakMap<PortPrograms, readonly string[]>();

  constructor(host: KeeperHost, takeover: Takeover, puntPath: PuntPath, ports: Iterable<PortPrograms>) {
    this.#host = host;
    this.#takeover = takeover;
    this.#puntPath = puntPath;
    this.#ports = ports;
    this.#turns = host.loop.timers.every(TURN_MS, {
      onTimer: () => {
        for (const port of ports) this.#turn.add(port);
        if (this.#turn.size > 0) this.#soon(0);
      },
    });
  }

  // When to look.

  /** Something was said of a device with this index, in whichever network namespace; -1 for any device. */
  heard(ifindex: number): void {
    for (const port of this.#ports)
      if (port.asksForXdp && (ifindex === -1 || port.rests(ifindex))) this.#news.add(port);
    if (this.#news.size > 0) this.#soon(SOON_MS);
  }

  /** The port is no more. */
  forget(port: PortPrograms): void {
    this.#news.delete(port);
    this.#turn.delete(port);
  }

  close(): void {
    this.#news.clear();
    this.#turn.clear();
    this.#next?.cancel();
    this.#turns.cancel();
  }

  #soon(delayMs: number): void {
    this.#next ??= this.#host.loop.timers.once(delayMs, {
      onTimer: () => {
        this.#next = null;
        this.#lookAtNext();
      },
    });
  }

  #lookAtNext(): void {
    const isNews = this.#news.size > 0;
    const { value: port } = (isNews ? this.#news : this.#turn).values().next();
    if (port === undefined) return;
    this.forget(port);
    this.#look(port, isNews);
    if (this.#news.size + this.#turn.size > 0) this.#soon(PAUSE_MS);
  }

  // What to do.

  /** Put the programs of a port's table on it, or those that hand everything up. */
  putPrograms(one: PortPrograms): void {
    one.putPrograms(this.#puntPath.base?.program ?? null, this.#host.nowMs());
    this.sayXdp(one);
  }

  /**
   * See whether XDP can be at a port that asks for it.
   * @param isNews whether something was said of its interface, or of what that stands on
   * @returns whether XDP can do other things than before
   */
  see(one: PortPrograms, isNews: boolean): boolean {
    one.linkedIndex = withRouteClient((client) => client.findLink(one.ifindex))?.linkedIndex ?? 0;
    const isOther = one.xdpState.look(one.ifindex, isNews, this.#host.nowMs());
    // Whoever has turned off at the other end what was turned on there for XDP, decides about it from now on.
    if (one.xdpState.lacksGro) this.#takeover.changes.leave(one.ifindex, 'gro');
    return isOther;
  }

  /** Say what keeps a port from XDP, once. */
  sayXdp(one: PortPrograms): void {
    if (one.awaitsXdp) return;
    const { name } = one.port;
    const before = this.#said.get(one) ?? [];
    const reasons = one.xdpReasons;
    for (const reason of reasons) if (!before.includes(reason)) this.#host.warn(`port ${name}: ${reason}`, name);
    if (reasons.length === 0 && before.length > 0) this.#host.say(`port ${name} is offloaded at xdp, both ways`, name);
    this.#said.set(one, reasons);
  }

  #look(one: PortPrograms, isNews: boolean): void {
    let trouble: string | null = null;
    try {
      this.#care(one, isNews);
    } catch (error) {
      trouble = messageOf(error);
    }
    const { name } = one.port;
    if (!one.upkeepTrouble.see(trouble, this.#host.nowMs())) return;
    if (trouble === null) this.#host.say(`port ${name} is looked after again`, name);
    else this.#host.warn(`port ${name} cannot be looked after: ${trouble}`, name);
  }

  #care(one: PortPrograms, isNews: boolean): void {
    if (one.isInNeed) this.#putBack(one);
    if (!one.asksForXdp || !this.see(one, isNews)) return;
    // The program goes first: what comes with unfinished checksums is not to be carried once more.
    if (one.wanted !== 'xdp') one.detachXdp();
    one.source?.setPort(one);
    this.putPrograms(one);
  }

  #putBack(one: PortPrograms): void {
    // It goes, or has gone, and its programs with it; the port follows.
    if (withRouteClient((client) => client.findLink(one.ifindex)) === null) return;
    const { name } = one.port;
    const wasStripped = one.state === 'stripped';
    this.putPrograms(one);
    if (!one.isInNeed) {
      this.#host.warn(`a program of port ${name} was taken off by somebody, and is back`, name);
    } else if (wasStripped) {
      const why = one.why ?? 'the kernel does not say why';
      this.#host.warn(`a program of port ${name} was taken off by somebody, and cannot be put back: ${why}`, name);
    }
  }
}
