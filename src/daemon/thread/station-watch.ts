/**
 * Follows who is behind the ports: looks again at those whose interface, or its other end, was spoken of, and at a few more now and then, should news
 * not have come. Neighbour: stations.ts looks.
 */
import { type EventLoop, SystemError, type Timer, withRouteClient } from '../../host/index.ts';
import type { VirtualSwitch } from '../../switch/index.ts';
import { isDevice } from './adapters.ts';
import type { DatapathPort } from './port.ts';
import { propertyCalls } from './port-properties.ts';
import { sequence } from './sequence.ts';
import { sameStations, stationsOf } from './stations.ts';

/** Ports that are looked at in one go. */
const PORTS_A_TURN = 16;
/** Ports that are looked at without news, now and then. */
const PORTS_A_ROUND = 4;

export class StationWatch {
  readonly #switch: VirtualSwitch;
  readonly #loop: EventLoop;
  readonly #ports: () => Iterable<DatapathPort>;
  readonly #warn: (port: string, message: string) => void;
  /** Interfaces that were spoken of since the last look; -1 for any. */
  readonly #heard = new Set<number>();
  readonly #due = new Set<DatapathPort>();
  /** Next of those that are looked at without news. */
  #next = 0;
  #timer: Timer | null = null;

  constructor(
    virtualSwitch: VirtualSwitch,
    loop: EventLoop,
    ports: () => Iterable<DatapathPort>,
    warn: (port: string, message: string) => void,
  ) {
    this.#switch = virtualSwitch;
    this.#loop = loop;
    this.#ports = ports;
    this.#warn = warn;
  }

  /** Something was said of the interface with this index, in whichever network namespace; -1 for any. {@link follow} acts on it. */
  heard(index: number): void {
    this.#heard.add(index);
  }

  /** Look at the ports that the news are about. */
  follow(): void {
    const heard = this.#heard;
    if (heard.size === 0) return;
    for (const port of this.#followed()) {
      const { adapter, stations } = port;
      const own = adapter !== null && isDevice(adapter) ? adapter.interfaceIndex : 0;
      if (heard.has(-1) || heard.has(own) || heard.has(stations?.peerIndex ?? 0)) this.#due.add(port);
    }
    heard.clear();
    this.#turn();
  }

  /** Look at a few ports without news. */
  round(): void {
    const followed = this.#followed();
    for (let i = 0; i < Math.min(PORTS_A_ROUND, followed.length); i += 1) {
      this.#next = (this.#next + 1) % followed.length;
      this.#due.add(followed[this.#next]);
    }
    this.#turn();
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#due.clear();
  }

  #followed(): DatapathPort[] {
    return [...this.#ports()].filter((port) => port.attached && port.stations !== null);
  }

  #turn(): void {
    if (this.#timer !== null || this.#due.size === 0) return;
    const ports = [...this.#due].slice(0, PORTS_A_TURN);
    try {
      withRouteClient((client) => {
        for (const port of ports) {
          this.#due.delete(port);
          if (port.attached) this.look(port, client);
        }
      });
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      // The kernel cannot be asked at present, as when there is no descriptor left: the next round asks for these, too.
      return;
    }
    if (this.#due.size === 0) return;
    this.#timer = this.#loop.timers.once(1, {
      onTimer: () => {
        this.#timer = null;
        this.#turn();
      },
    });
  }

  /**
   * See who is behind a port; when nobody is known any more, nobody is let in.
   * @param client to ask with; null for one of its own
   */
  look(port: DatapathPort, client: Parameters<typeof stationsOf>[2] = null): void {
    const { config } = port;
    const before = port.stations;
    const stations = stationsOf(config, port.adapter, client);
    port.stations = stations;
    if (sameStations(stations, before)) return;
    const calls = propertyCalls(this.#switch, port.id, { config, stations: before }, { config, stations });
    sequence(calls).whenSettled((operation) => {
      const problem = operation.error?.message ?? stations?.unknown ?? null;
      if (problem !== null) this.#warn(port.name, `all that it sends is refused: ${problem}`);
    });
  }
}
