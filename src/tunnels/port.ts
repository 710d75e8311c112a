/** The tunnels that exist, by what tells on the wire that a packet is theirs: a UDP port, IP protocol 47, a TCP port. */
import { GENEVE_PORT, VXLAN_PORT } from '../net/index.ts';

/** Kinds of tunnels. */
export const TunnelKind = {
  VXLAN: 1,
  GENEVE: 2,
  GRE: 3,
  STT: 4,
} as const;

/** The TCP port that IANA gave to STT. */
export const STT_PORT = 7471;

/** Transport port of each kind where none is named. */
const USUAL_PORTS: readonly number[] = [0, VXLAN_PORT, GENEVE_PORT, 0, STT_PORT];

/** How a tunnel port works. */
export interface TunnelPortSettings {
  /** One of {@link TunnelKind}. */
  readonly kind: number;
  /** UDP port, or TCP port of STT; the kind's own when not given. GRE has none. */
  readonly transportPort?: number;
  /** VXLAN: group policy travels in the header (draft-smith-vxlan-group-policy). */
  readonly groupPolicy?: boolean;
  /** Geneve and GRE: packets without an Ethernet header are carried as well. */
  readonly layer3?: boolean;
  /** GRE: packets are numbered. */
  readonly numbered?: boolean;
  /** Geneve: the critical options that are known, each as class 16 | type 8. When not given all pass, as they are in the key for whoever decides. */
  readonly criticalOptions?: readonly number[];
  /** What the owner calls it by, for {@link TunnelPort.id}. */
  readonly id?: number;
}

/** A tunnel port: one for each kind and transport port, whatever the number of remotes. */
export class TunnelPort {
  readonly id: number;
  readonly kind: number;
  readonly transportPort: number;
  readonly groupPolicy: boolean;
  readonly layer3: boolean;
  readonly criticalOptions: ReadonlySet<number> | null;
  readonly numbered: boolean;
  /** The number of the next packet, whatever its remote. */
  nextNumber = 0;

  /** @throws RangeError for a kind or a port that there is not */
  constructor(settings: TunnelPortSettings) {
    const { kind } = settings;
    const usual = USUAL_PORTS[kind];
    if (kind === 0 || usual === undefined) throw new RangeError(`there is no kind of tunnel ${kind}`);
    const port = settings.transportPort ?? usual;
    const isRight = kind === TunnelKind.GRE ? port === 0 : Number.isInteger(port) && port > 0 && port <= 0xffff;
    if (!isRight) throw new RangeError(`a tunnel of kind ${kind} has no transport port ${port}`);
    this.id = settings.id ?? 0;
    this.kind = kind;
    this.transportPort = port;
    this.groupPolicy = kind === TunnelKind.VXLAN && settings.groupPolicy === true;
    this.layer3 = (kind === TunnelKind.GENEVE || kind === TunnelKind.GRE) && settings.layer3 === true;
    this.numbered = kind === TunnelKind.GRE && settings.numbered === true;
    this.criticalOptions = settings.criticalOptions === undefined ? null : new Set(settings.criticalOptions);
  }
}

/** All tunnel ports of one datapath. */
export class TunnelPorts {
  readonly #udp = new Map<number, TunnelPort>();
  readonly #tcp = new Map<number, TunnelPort>();
  /** The one for GRE. */
  gre: TunnelPort | null = null;
  /** What was asked for last: packets come in trains. */
  #lastPort = 0;
  #last: TunnelPort | null = null;

  /**
   * @returns false when its place is taken: two tunnels cannot share a transport port, and there is one for GRE
   */
  add(port: TunnelPort): boolean {
    if (port.kind === TunnelKind.GRE) {
      if (this.gre !== null) return false;
      this.gre = port;
      return true;
    }
    const map = this.#mapOf(port);
    if (map.has(port.transportPort)) return false;
    map.set(port.transportPort, port);
    this.#lastPort = 0;
    return true;
  }

  /** @returns whether it was there */
  remove(port: TunnelPort): boolean {
    if (port.kind === TunnelKind.GRE) {
      if (this.gre !== port) return false;
      this.gre = null;
      return true;
    }
    const map = this.#mapOf(port);
    if (map.get(port.transportPort) !== port) return false;
    map.delete(port.transportPort);
    this.#lastPort = 0;
    return true;
  }

  /** The tunnel of a UDP port, or null. */
  udp(port: number): TunnelPort | null {
    // Port 0, which nobody sends to, stands for nothing remembered.
    if (port === this.#lastPort && port !== 0) return this.#last;
    const found = this.#udp.get(port) ?? null;
    this.#lastPort = port;
    this.#last = found;
    return found;
  }

  /** The STT tunnel of a TCP port, or null. */
  tcp(port: number): TunnelPort | null {
    return this.#tcp.get(port) ?? null;
  }

  get hasUdp(): boolean {
    return this.#udp.size > 0;
  }

  get hasTcp(): boolean {
    return this.#tcp.size > 0;
  }

  #mapOf(port: TunnelPort): Map<number, TunnelPort> {
    return port.kind === TunnelKind.STT ? this.#tcp : this.#udp;
  }
}
