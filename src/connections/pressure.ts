/** Whom it costs connections when there is no room, or no address to translate to: counted by the zone and the port where they begin, for metrics and events. */

/** Pairs of a zone and a port that are counted. */
const MOST_PAIRS = 65_536;

/** What has become of connections of a zone and a port, since the process started. */
export class Losses {
  readonly zone: number;
  readonly port: number;
  /** Connections that went to make room. */
  evicted = 0;
  /** New ones that were refused. */
  refused = 0;

  constructor(zone: number, port: number) {
    this.zone = zone;
    this.port = port;
  }
}

export class Pressure {
  readonly #zones = new Map<number, Map<number, Losses>>();
  #pairs = 0;

  /** A connection went to make room for another. */
  evicted(zone: number, port: number): void {
    const losses = this.#of(zone, port);
    if (losses !== null) losses.evicted += 1;
  }

  /** A new connection is refused. */
  refused(zone: number, port: number): void {
    const losses = this.#of(zone, port);
    if (losses !== null) losses.refused += 1;
  }

  /** Of all that have lost any, in no order. */
  *losses(): IterableIterator<Readonly<Losses>> {
    for (const ports of this.#zones.values()) yield* ports.values();
  }

  #of(zone: number, port: number): Losses | null {
    let ports = this.#zones.get(zone);
    const known = ports?.get(port);
    if (known !== undefined) return known;
    if (this.#pairs >= MOST_PAIRS) return null;
    if (ports === undefined) {
      ports = new Map();
      this.#zones.set(zone, ports);
    }
    const losses = new Losses(zone, port);
    ports.set(port, losses);
    this.#pairs += 1;
    return losses;
  }
}
